//! Compiles and runs prepared experiments, and hands out each document once it is whole.

use std::ops::ControlFlow;
use std::time::Instant;

use shared::document::Document;

use super::document::verification;
use super::{Cost, Experiment};
use crate::model::Model;
use crate::sweep::{self, Division, Finished, Program, Progress, SweepError};

/// How `table` is carried out within `division`, with as many checked trials as its settings ask
/// for. `finished` has the trials of each experiment that were computed before an interruption; of
/// experiments that it lacks, none.
///
/// # Errors
/// As for [`Program::going_on`].
pub fn compile(
    model: &Model,
    table: &[&Experiment],
    division: &Division,
    finished: &[Finished],
) -> Result<Program, SweepError> {
    let specifications: Vec<_> = table.iter().map(|e| &e.specification).collect();
    let n_verified = table.iter().map(|e| e.settings.verify).max().unwrap_or(0);
    let division = Division { n_verified, ..*division }.on(&model.network.placement);
    Program::going_on(&model.network.config, &specifications, &division, finished)
}

/// Runs `program`, which [`compile`] made of `table`. `listener` hears how far it is, and `done` gets
/// each document; either may break it off.
///
/// # Errors
/// [`SweepError::Cancelled`] if it was broken off, or what went wrong.
pub fn run(
    model: &Model,
    table: &[&Experiment],
    program: &Program,
    listener: &mut sweep::Listener,
    done: &mut dyn FnMut(usize, Document) -> ControlFlow<()>,
) -> Result<(), SweepError> {
    let specifications: Vec<_> = table.iter().map(|e| &e.specification).collect();
    let mut timer = Timer { program, begin: Instant::now(), batch: 0, secs: 0.0 };
    let mut failure = None;
    let swept = sweep::run(&model.network, &specifications, program, &mut |progress| {
        let Progress::Pair { pair, readings } = progress else { return listener(progress) };
        let cost = timer.cost(table, pair);
        let experiment = table[pair];
        let checked = readings.certificate.as_ref().map(verification);
        let document = experiment.document(model, readings, cost, checked);
        timer.go_on(pair);
        match document {
            Ok(document) => done(pair, document),
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        }
    });
    match failure {
        Some(error) => Err(error),
        None => swept.map(|_| ()),
    }
}

/// Divides the time of a batch among its pairs.
struct Timer<'a> {
    program: &'a Program,
    /// When the batch began.
    begin: Instant,
    /// Which it is.
    batch: usize,
    /// What it took, once it is over.
    secs: f64,
}

impl Timer<'_> {
    /// A pair's share by its trials.
    fn cost(&mut self, table: &[&Experiment], pair: usize) -> Cost {
        let Some(batch) = self.program.batches.get(self.batch) else {
            return Cost { wall_secs: 0.0, operations: 0.0 };
        };
        if pair == batch.pairs.start {
            self.secs = self.begin.elapsed().as_secs_f64();
        }
        let weight = |experiment: &Experiment| 1.0 + experiment.specification.trials.len() as f64;
        let total: f64 = table[batch.pairs.clone()].iter().map(|e| weight(e)).sum();
        let share = weight(table[pair]) / total;
        Cost { wall_secs: share * self.secs, operations: share * batch.operations.done }
    }

    /// After the last pair of a batch, the next begins.
    fn go_on(&mut self, pair: usize) {
        let batch = self.program.batches.get(self.batch);
        if batch.is_some_and(|batch| pair + 1 == batch.pairs.end) {
            self.begin = Instant::now();
            self.batch += 1;
        }
    }
}
