//! Holds a finished sweep to what must be true of it.

use std::ops::ControlFlow;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::index::sample;
use shared::specification::{Specification, Trial, Write};

use super::SweepError;
use super::oracle::Oracle;
use super::program::{Division, Program};
use super::reach::{Reach, reach};
use super::readout::Reading;
use super::wave::{Listener, Progress, Readings, run};
use crate::model::Network;

/// What was checked of a sweep, and how far it was off. Differences are of the metric, in nats; NaN
/// where one of the values was none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Certificate {
    /// How many trials the oracle ran again.
    pub n_trials: usize,
    /// The largest difference to the oracle.
    pub max_abs_diff: f32,
    /// The largest change when those trials copy the base run's own activations, which must change
    /// nothing.
    pub self_patch: f32,
    /// How many trials that cannot matter the oracle ran.
    pub n_unreachable: usize,
    /// Whether all of those equal the unpatched run to the bit.
    pub unreachable_equal: bool,
    /// The largest difference between the pair's trials in the company of the whole table and those
    /// trials alone.
    pub alone: f32,
}

/// Which trials are drawn is fixed, so that the same request gives the same document.
const SEED: u64 = 0x70_61_74_63_68;

/// Checks `n` trials of `specification` drawn at random, all of them if there are fewer, and as many
/// that are known to change nothing. `readings` are what the sweep found, `allowed` the bytes that
/// may be taken beyond the weights.
///
/// # Errors
/// [`SweepError::Cancelled`] if `listener` breaks it off, or what candle reports.
pub fn certify(
    network: &Network,
    specification: &Specification,
    readings: &Readings,
    n: usize,
    allowed: usize,
    listener: &mut Listener,
) -> Result<Certificate, SweepError> {
    let n_layers = network.config.n_layers;
    let n_all = specification.trials.len();
    let mut random = StdRng::seed_from_u64(SEED);
    let drawn: Vec<_> = sample(&mut random, n_all, n.min(n_all)).into_iter().collect();
    let unreachable: Vec<_> = specification
        .trials
        .iter()
        .filter(|trial| reach(specification, trial, n_layers) == Reach::Run(trial.base))
        .collect();
    let n_unreachable = n.min(unreachable.len());
    let unreachable: Vec<_> = sample(&mut random, unreachable.len(), n_unreachable)
        .into_iter()
        .map(|i| unreachable[i])
        .collect();
    let trial = |&i: &usize| &specification.trials[i];
    let again: Vec<_> = drawn.iter().map(trial).chain(unreachable.iter().copied()).collect();
    let oracle = Oracle::new(network, specification, &again)?;
    let by_oracle = oracle.trials(&again)?;
    if listener(Progress::Share(1.0)) == ControlFlow::Break(()) {
        return Err(SweepError::Cancelled);
    }
    let swept = drawn.iter().map(|&i| &readings.trials[i]);
    let (by_oracle, of_unreachable) = by_oracle.split_at(drawn.len());
    let bits = |reading: &Reading| reading.logit_diff.to_bits();
    let is_equal =
        |(reading, trial): (&Reading, &&Trial)| bits(reading) == bits(&oracle.runs()[trial.base]);
    let unreachable_equal = of_unreachable.iter().zip(&unreachable).all(is_equal);

    let alone: Vec<_> = drawn.iter().map(|i| trial(i).clone()).collect();
    let own: Vec<_> = alone.iter().filter_map(copies_itself).collect();
    let n_alone = alone.len();
    let trials = alone.iter().chain(&own).cloned().collect();
    let both = Specification { trials, ..specification.clone() };
    let division = Division { computes_all: true, ..Division::within(allowed) };
    let program = Program::new(&network.config, &[&both], &division)?;
    let mut goes_on = |_: Progress| listener(Progress::Share(1.0));
    let found = run(network, &[&both], &program, &mut goes_on)?;
    let Some(found) = found.first() else {
        return Err(SweepError::Specification("a program without pairs".into()));
    };
    let (alone, itself) = found.trials.split_at(n_alone);
    let base = own.iter().map(|trial| &found.runs[trial.base]);
    Ok(Certificate {
        n_trials: drawn.len(),
        max_abs_diff: largest_difference(swept.clone(), by_oracle.iter()),
        self_patch: largest_difference(base, itself.iter()),
        n_unreachable,
        unreachable_equal,
        alone: largest_difference(swept, alone.iter()),
    })
}

/// The same trial with all copies from its own base; `None` if it writes anything else.
fn copies_itself(trial: &Trial) -> Option<Trial> {
    let mut own = trial.clone();
    for edit in &mut own.edits {
        match &mut edit.write {
            Write::From { run, shift } => (*run, *shift) = (trial.base, 0),
            _ => return None,
        }
    }
    Some(own)
}

fn largest_difference<'a>(
    some: impl Iterator<Item = &'a Reading>,
    others: impl Iterator<Item = &'a Reading>,
) -> f32 {
    let differences = some.zip(others).map(|(a, b)| (a.logit_diff - b.logit_diff).abs());
    // NaN must not pass unseen, and `max` leaves it out.
    differences.fold(0.0, |largest: f32, next| match largest.is_nan() || next <= largest {
        true => largest,
        false => next,
    })
}
