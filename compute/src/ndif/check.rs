//! Whether what came fits what was asked for.

use shared::document::Controls;
use shared::specification::{Metrics, Specification};

use super::NdifError;
use super::plan::{Expected, PlannedWave};
use super::protocol::Numbers;
use crate::sweep::Reading;
use crate::sweep::readout::{RowReading, Whole};

/// What of numbers can be told without knowing the model's.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// How many rows.
    pub n_rows: usize,
    /// How many top tokens.
    pub n_top: usize,
    /// The model's vocabulary.
    pub d_vocab: usize,
}

/// How much a probability and a divergence may be beside their range for the rounding of logits.
const ROUNDING: f32 = 1e-2;

/// Holds that `numbers` are as many as they should be, finite, and possible.
///
/// # Errors
/// [`NdifError::BadAnswer`].
pub fn check(numbers: &Numbers, shape: Shape) -> Result<(), NdifError> {
    let Shape { n_rows, n_top, d_vocab } = shape;
    let n = numbers;
    let of_values = [
        ("log_true", &n.log_true),
        ("log_false", &n.log_false),
        ("log_all", &n.log_all),
        ("divergence", &n.divergence[0]),
        ("divergence", &n.divergence[1]),
    ];
    let lengths = of_values.iter().map(|(name, list)| (*name, list.len())).chain([
        ("above_true", n.above_true.len()),
        ("above_false", n.above_false.len()),
        ("top", n.top.len()),
        ("top_logits", n.top_logits.len()),
    ]);
    for (name, found) in lengths {
        if found != n_rows {
            return Err(NdifError::bad(format!("`{name}` has {found} rows, expected {n_rows}")));
        }
    }
    let listed = n.top.iter().map(Vec::len).chain(n.top_logits.iter().map(Vec::len));
    if let Some(found) = listed.into_iter().find(|&found| found != n_top) {
        return Err(NdifError::bad(format!("`top` has {found} tokens, expected {n_top}")));
    }
    let values = of_values.iter().flat_map(|(_, list)| list.iter());
    let values = values.chain(n.top_logits.iter().flatten());
    if let Some(found) = values.copied().find(|value| !value.is_finite()) {
        return Err(NdifError::bad(format!("found the number {found}, expected finite ones")));
    }
    let outside = |&id: &u32| id as usize >= d_vocab;
    if let Some(id) = n.top.iter().flatten().copied().find(outside) {
        return Err(NdifError::bad(format!("the token {id} is beyond the {d_vocab} of the model")));
    }
    if let Some(found) = n.above_true.iter().chain(&n.above_false).copied().find(outside) {
        return Err(NdifError::bad(format!("{found} tokens are above an answer, of {d_vocab}")));
    }
    for row in 0..n_rows {
        let highest = n.log_true[row].max(n.log_false[row]);
        let highest = n.top_logits[row].iter().copied().fold(highest, f32::max);
        if highest > n.log_all[row] + ROUNDING {
            return Err(NdifError::bad(format!(
                "a logit of {highest} is beyond the {} of all together",
                n.log_all[row]
            )));
        }
        let divergence = n.divergence[0][row].min(n.divergence[1][row]);
        if divergence < -ROUNDING {
            return Err(NdifError::bad(format!(
                "found the divergence {divergence}, expected none below 0"
            )));
        }
    }
    Ok(())
}

/// The readings of rows, each of a run or of a trial on the run that `base_of` names.
pub fn readings(
    numbers: &Numbers,
    metrics: &Metrics,
    base_of: impl Fn(usize) -> usize,
) -> Vec<Reading> {
    let reading = |row: usize| {
        let base = base_of(row);
        let whole = Whole {
            log_sum: numbers.log_all[row],
            top: numbers.top[row]
                .iter()
                .copied()
                .zip(numbers.top_logits[row].iter().copied())
                .collect(),
            n_above: [numbers.above_true[row], numbers.above_false[row]],
            divergence: [base, 1 - base].map(|run| Some(numbers.divergence[run][row])),
        };
        let row = RowReading {
            log_sums: [numbers.log_true[row], numbers.log_false[row]],
            whole: Some(whole),
            ..RowReading::default()
        };
        row.of_answers(metrics)
    };
    (0..numbers.log_true.len()).map(reading).collect()
}

/// The reading of a run as that of a trial on `base`, of which it is known that it is the same.
pub fn as_trial(runs: &Numbers, metrics: &Metrics, run: usize, base: usize) -> Reading {
    let mut readings = readings(runs, metrics, |_| base);
    let mut reading = readings.swap_remove(run);
    if !metrics.vocabulary {
        reading.vocabulary = None;
    }
    reading
}

/// How much a control may differ from its run, in nats: rows of different batches are rounded
/// otherwise, and the more the shorter the type is.
pub fn tolerance(dtype: &str) -> f32 {
    match dtype {
        "f32" => 1e-3,
        "f16" => 0.1,
        _ => 0.5,
    }
}

/// Holds that the control cells of a wave came out as the runs that they must equal, and says how
/// nearly.
///
/// # Errors
/// What differs.
pub fn controls(
    wave: &PlannedWave,
    readings: &[Reading],
    runs: &[Reading],
    dtype: &str,
) -> Result<Controls, String> {
    let tolerance = tolerance(dtype);
    let mut controls = Controls { n_waves: 1, ..Controls::default() };
    for (expected, reading) in wave.expected.iter().zip(readings) {
        let Expected::Run(run) = *expected else { continue };
        let difference = (reading.logit_diff - runs[run].logit_diff).abs();
        let (largest, what) = match run == wave.ask.base {
            true => (&mut controls.self_patch, "writing what is there changes nothing"),
            false => (&mut controls.end_patch, "copying the end of the other run gives that run"),
        };
        *largest = largest.max(difference);
        if difference > tolerance {
            let name = if run == Specification::BASE { "base" } else { "source" };
            return Err(format!(
                "{what}, and the metric was {} where the {name} has {}",
                reading.logit_diff, runs[run].logit_diff
            ));
        }
    }
    Ok(controls)
}
