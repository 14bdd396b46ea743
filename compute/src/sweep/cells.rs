//! From readings of trials to cells of grids.

use shared::specification::{Specification, Trial};

use super::readout::{Reading, VocabularyReading};
use super::wave::Readings;

/// What is known of a cell: a reading, or the mean of several.
pub type CellReading = Reading;

/// The cells of every grid of `specification`, in row-major order. A cell without a trial is
/// `None`.
pub fn cell_readings(
    specification: &Specification,
    readings: &Readings,
) -> Vec<Vec<Option<CellReading>>> {
    let mut members: Vec<Vec<Vec<usize>>> =
        specification.grids.iter().map(|grid| vec![Vec::new(); grid.n_cells()]).collect();
    for (i, trial) in specification.trials.iter().enumerate() {
        let cell = members.get_mut(trial.key.grid).and_then(|grid| grid.get_mut(trial.key.cell));
        if let Some(cell) = cell {
            cell.push(i);
        }
    }
    let reading = |members: &Vec<usize>| {
        let trials: Vec<_> =
            members.iter().map(|&i| (&specification.trials[i], &readings.trials[i])).collect();
        combined(specification, &trials)
    };
    members.iter().map(|grid| grid.iter().map(reading).collect()).collect()
}

/// The mean of readings of one answer pair; where bases have continuations, the mean of those of
/// the true answer with the mean of those of the false one.
pub fn combined(
    specification: &Specification,
    trials: &[(&Trial, &Reading)],
) -> Option<CellReading> {
    let continuation = |trial: &Trial| specification.runs[trial.base].continuation.as_ref();
    let of = |wanted: Option<bool>| {
        let some = trials
            .iter()
            .filter(|(trial, _)| continuation(trial).map(|c| c.is_true) == wanted)
            .map(|&(_, reading)| reading);
        mean(&some.collect::<Vec<_>>())
    };
    match (of(None), of(Some(true)), of(Some(false))) {
        (Some(reading), _, _) => Some(reading),
        (None, Some(one), Some(other)) => Some(sum(one, &other)),
        _ => None,
    }
}

/// The mean of readings; the top tokens are the first one's, if there are several.
pub fn mean(readings: &[&Reading]) -> Option<Reading> {
    let first = readings.first()?;
    if readings.len() == 1 {
        return Some((*first).clone());
    }
    let n = readings.len() as f32;
    let average = |value: &dyn Fn(&VocabularyReading) -> f32| {
        readings.iter().filter_map(|r| r.vocabulary.as_ref()).map(value).sum::<f32>() / n
    };
    let maybe = |value: &dyn Fn(&VocabularyReading) -> Option<f32>| {
        let values = readings.iter().map(|r| value(r.vocabulary.as_ref()?));
        values.sum::<Option<f32>>().map(|sum| sum / n)
    };
    Some(Reading {
        logit_diff: readings.iter().map(|reading| reading.logit_diff).sum::<f32>() / n,
        vocabulary: first.vocabulary.as_ref().map(|vocabulary| VocabularyReading {
            p_true: average(&|v| v.p_true),
            p_false: average(&|v| v.p_false),
            rank_true: maybe(&|v| v.rank_true),
            rank_false: maybe(&|v| v.rank_false),
            kl_base: maybe(&|v| v.kl_base),
            kl_source: maybe(&|v| v.kl_source),
            top: vocabulary.top.clone(),
        }),
    })
}

/// The readings of both answers' continuations together; what the whole vocabulary says after the
/// prompt is the same in both.
fn sum(one: Reading, other: &Reading) -> Reading {
    Reading {
        logit_diff: one.logit_diff + other.logit_diff,
        vocabulary: one.vocabulary.map(|vocabulary| VocabularyReading {
            p_true: vocabulary.p_true + other.vocabulary.as_ref().map_or(0.0, |v| v.p_true),
            p_false: vocabulary.p_false + other.vocabulary.as_ref().map_or(0.0, |v| v.p_false),
            ..vocabulary
        }),
    }
}
