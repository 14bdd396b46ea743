//! Holds a sweep to what must be true of it. What is run for that goes through the layers together
//! with the sweep, so that weights are read once for both.

use std::sync::Arc;

use candle_core::Result;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::index::sample;
use shared::specification::{Specification, Trial, Write};

use super::SweepError;
use super::cost::{self, BlockCost};
use super::oracle::Oracle;
use super::program::{Division, Program};
use super::reach::{Reach, reach};
use super::readout::Reading;
use super::runs::sequence;
use super::wave::{Engine, Readings, Resources};
use crate::model::{Block, Config, Span};

/// What was checked of a pair's sweep, and how far it was off. Differences are of the metric, in
/// nats; NaN where one of the values was none.
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

/// What is run to check one pair.
#[derive(Debug, Clone)]
pub struct Check {
    /// An index into the table.
    pub pair: usize,
    /// The trials that are drawn.
    drawn: Vec<usize>,
    /// Drawn among those that are known to equal their base.
    unreachable: Vec<usize>,
    /// The drawn trials, and those of them that copy only, as copies of their own base.
    pub alone: Specification,
    /// For each of these copies its base.
    bases: Vec<usize>,
    /// How those are computed, all of them, and in no other company.
    pub program: Program,
    /// What the oracle does.
    operations: f64,
}

impl Check {
    /// Draws `n` trials of the pair `pair`, all of them if there are fewer, and as many that are
    /// known to change nothing.
    ///
    /// # Errors
    /// As for [`Program::new`].
    pub fn new(
        config: &Config,
        specification: &Specification,
        pair: usize,
        n: usize,
        division: &Division,
    ) -> std::result::Result<Self, SweepError> {
        let n_all = specification.trials.len();
        let mut random = StdRng::seed_from_u64(SEED);
        let drawn: Vec<_> = sample(&mut random, n_all, n.min(n_all)).into_iter().collect();
        let is_unreachable = |&i: &usize| {
            let trial = &specification.trials[i];
            reach(specification, trial, config.n_layers) == Reach::Run(trial.base)
        };
        let unreachable: Vec<_> = (0..n_all).filter(is_unreachable).collect();
        let unreachable: Vec<_> = sample(&mut random, unreachable.len(), n.min(unreachable.len()))
            .into_iter()
            .map(|i| unreachable[i])
            .collect();
        let trials: Vec<_> = drawn.iter().map(|&i| specification.trials[i].clone()).collect();
        let own: Vec<_> = trials.iter().filter_map(copies_itself).collect();
        let bases = own.iter().map(|trial| trial.base).collect();
        let trials = trials.into_iter().chain(own).collect();
        let mut alone = Specification { trials, ..specification.clone() };
        alone.metrics.lens = false;
        let division = Division { computes_all: true, n_verified: 0, n_waves: 1, ..*division };
        let program = Program::new(config, &[&alone], &division)?;
        let cost = BlockCost::new(config);
        let naive = |run: usize| {
            let n = sequence(&specification.runs[run]).len();
            let span = Span { offset: 0, n_shared: n, n_own: 0, n_queries: n };
            cost.runs(&[span]) * config.n_layers as f64 + cost::readout(config, 0, 1, 1)
        };
        let naive_trials = drawn.iter().chain(&unreachable);
        let naive_trials = naive_trials.map(|&i| naive(specification.trials[i].base));
        let naive_runs = (0..specification.runs.len()).map(naive);
        let operations = naive_trials.chain(naive_runs).sum();
        Ok(Self { pair, drawn, unreachable, alone, bases, program, operations })
    }

    /// In how many passes over the layers the pair is computed alone.
    pub fn n_passes(&self) -> usize {
        self.program.n_passes()
    }

    /// All operations.
    pub fn operations(&self) -> f64 {
        self.operations + self.program.operations.done
    }

    /// The memory that it takes beside the sweep, in bytes: the oracle's residual streams and what
    /// it copies, and all of the program that computes the pair alone.
    pub fn n_bytes(&self, config: &Config) -> usize {
        let n_runs = self.alone.runs.len() + self.drawn.len() + self.unreachable.len();
        let longest = self.alone.runs.iter().map(|run| sequence(run).len()).max().unwrap_or(0);
        let of_position = 2 * config.d_model + config.n_heads * config.d_head;
        // Of each activation at most a copy is made for every edit.
        let n_copied = 4 * self.alone.runs.len() * longest * of_position;
        let numbers = n_runs * longest * config.d_model + n_copied;
        numbers * size_of::<f32>() + self.program.peak_bytes
    }
}

/// A check on its way through the layers.
pub struct Checker<'a> {
    check: &'a Check,
    specification: &'a Specification,
    oracle: Oracle<'a>,
    alone: Engine<'a>,
    /// In how many passes over the layers the pair is computed alone.
    n_waves: usize,
}

impl<'a> Checker<'a> {
    /// A check before the first block. `alone` is a table of [`Check::alone`].
    ///
    /// # Errors
    /// What candle reports.
    pub fn new(
        resources: Resources<'a>,
        check: &'a Check,
        [specification, alone]: [&'a [&'a Specification]; 2],
    ) -> Result<Self> {
        let specification = specification[check.pair];
        let again = check.drawn.iter().chain(&check.unreachable);
        let again: Vec<_> = again.map(|&i| &specification.trials[i]).collect();
        let batch = &check.program.batches[0];
        let n_chunk = check.program.n_readout_rows;
        Ok(Self {
            check,
            specification,
            oracle: Oracle::begin(resources.network, specification, &again)?,
            alone: Engine::new(resources, alone, batch, n_chunk)?,
            n_waves: batch.waves.len(),
        })
    }

    /// Begins a pass over the layers.
    ///
    /// # Errors
    /// What candle reports.
    pub fn begin_pass(&mut self, pass: usize) -> Result<()> {
        if pass < self.n_waves { self.alone.begin_wave(pass) } else { Ok(()) }
    }

    /// Goes through consecutive `blocks`, the first of which is that of layer `first`. `goes_on` is asked
    /// again and again whether to.
    ///
    /// # Errors
    /// What candle or `goes_on` reports.
    pub fn advance(
        &mut self,
        pass: usize,
        first: usize,
        blocks: &[Arc<Block>],
        goes_on: &mut dyn FnMut() -> std::result::Result<(), SweepError>,
    ) -> std::result::Result<(), SweepError> {
        if pass == 0 {
            for (i, block) in blocks.iter().enumerate() {
                self.oracle.step(first + i, block)?;
                goes_on()?;
            }
        }
        if pass < self.n_waves {
            self.alone.advance(first, blocks, &mut |_| goes_on())?;
        }
        Ok(())
    }

    /// Ends a pass over the layers.
    ///
    /// # Errors
    /// What candle reports.
    pub fn end_pass(&mut self, pass: usize) -> std::result::Result<(), SweepError> {
        if pass < self.n_waves { self.alone.end_wave_silently() } else { Ok(()) }
    }

    /// Compares what was found to `readings`, those of the sweep.
    ///
    /// # Errors
    /// What candle reports.
    pub fn finish(self, readings: &Readings) -> std::result::Result<Certificate, SweepError> {
        let Check { drawn, unreachable, bases, .. } = self.check;
        let (runs, by_oracle) = self.oracle.finish()?;
        let (by_oracle, of_unreachable) = by_oracle.split_at(drawn.len());
        let bits = |reading: &Reading| reading.logit_diff.to_bits();
        let unreachable_equal = of_unreachable.iter().zip(unreachable).all(|(reading, &trial)| {
            bits(reading) == bits(&runs[self.specification.trials[trial].base])
        });
        let found = &self.alone.readings[0];
        let (alone, itself) = found.trials.split_at(drawn.len());
        let swept = || drawn.iter().map(|&i| &readings.trials[i]);
        let bases = bases.iter().map(|&base| &found.runs[base]);
        Ok(Certificate {
            n_trials: drawn.len(),
            max_abs_diff: largest_difference(swept(), by_oracle.iter()),
            self_patch: largest_difference(bases, itself.iter()),
            n_unreachable: unreachable.len(),
            unreachable_equal,
            alone: largest_difference(swept(), alone.iter()),
        })
    }
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
