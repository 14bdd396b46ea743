//! Sweeps on this machine.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use shared::document::Document;

use super::Queue;
use super::live::{Announcer, Work};
use super::partial::{Cost, Partial};
use super::ready::Ready;
use super::worker::{Failure, reason};
use crate::experiment::{self, Experiment, Part};
use crate::model::Model;
use crate::sweep::{self, Division, Finished, Program, Progress, SweepError, speed};

impl Queue {
    /// How an experiment is carried out alone, but for the trials that are `finished`: in several
    /// waves, so that its columns come one after the other, unless each would read the weights anew,
    /// and within `allowed` bytes.
    pub(super) fn compile_alone(
        &self,
        model: &Model,
        experiment: &Experiment,
        finished: Finished,
        allowed: usize,
    ) -> Result<Program, SweepError> {
        let n_waves = if model.network.is_streamed() { Some(1) } else { self.settings.n_passes };
        let division = Division::within(allowed).in_waves(n_waves);
        experiment::compile(model, &[experiment], &division, &[finished])
    }

    /// How pairs of a job that share their passes are carried out.
    fn compile_together(&self, model: &Model, table: &[Ready]) -> Result<Program, SweepError> {
        let offered = table[0].offered;
        let speed = match offered.speed() {
            Some(speed) => speed,
            None => speed::estimate(&model.network.placement)?,
        };
        let n_bytes = self.settings.n_memory_bytes;
        let division = Division::of_table(&model.network, model.n_stored_bytes, speed, n_bytes);
        let experiments: Vec<_> = table.iter().map(|ready| &ready.experiment).collect();
        experiment::compile(model, &experiments, &division, &[])
    }

    /// How many of these pairs fit into one batch.
    pub(super) fn n_together(&self, model: &Model, table: &[Ready]) -> usize {
        self.compile_together(model, table)
            .map_or(1, |program| program.batches.first().map_or(1, |batch| batch.pairs.len()))
    }

    /// Sweeps pairs of one job in the same passes over the layers, each stored when it is done; one
    /// alone goes on from what an interruption has left of it, and with less memory where the GPU runs
    /// out of it. Listeners see the first, with the share of all. Says which pairs are done.
    pub(super) fn sweep_here(
        &self,
        model: &Model,
        table: &[Ready],
        is_done: &mut [bool],
        cancelled: &AtomicBool,
    ) -> Result<(), Failure> {
        // Of several, each is tried alone before long.
        let ran_out = |f: &Failure| table.len() == 1 && matches!(f, Failure::DeviceMemory(_));
        let device = model.network.device();
        sweep::with_less(device, self.settings.n_memory_bytes, ran_out, |allowed| {
            self.sweep_within(allowed, model, table, is_done, cancelled)
        })
    }

    /// The same within `allowed` bytes.
    fn sweep_within(
        &self,
        allowed: usize,
        model: &Model,
        table: &[Ready],
        is_done: &mut [bool],
        cancelled: &AtomicBool,
    ) -> Result<(), Failure> {
        let Ready { claim, offered, experiment } = &table[0];
        let mut partial = Partial::open(self, claim, experiment);
        let program = match table {
            [_] => self.compile_alone(model, experiment, partial.found().clone(), allowed),
            _ => self.compile_together(model, table),
        };
        let program = program.map_err(|e| reason(&e))?;
        let work = Work { found: partial.found_cost().operations, left: program.operations.done };
        let mut announcer = Announcer::new(self, claim, experiment, work);
        announcer.begin(model, experiment, partial.found());
        self.tell_begun(table);
        let found_cost = partial.found_cost();
        let cost =
            |announcer: &Announcer| Cost { secs: announcer.secs(), operations: announcer.done() };
        let mut listener = |progress: Progress| {
            // What is told can be relied on: after an interruption it is still there.
            if let Progress::Trials { pair: 0, readings } = progress {
                partial.add(Part::from(readings), cost(&announcer));
            }
            if self.goes_on(Some(cancelled)).is_break() {
                return ControlFlow::Break(());
            }
            match progress {
                Progress::Runs { pair: 1.., .. } | Progress::Trials { pair: 1.., .. } => {}
                progress => announcer.tell(progress),
            }
            ControlFlow::Continue(())
        };
        let mut done = |pair: usize, mut document: Document| {
            if let Some(made) = &mut document.provenance {
                offered.set_speed(made.operations, made.wall_secs);
                if pair == 0 {
                    made.wall_secs += found_cost.secs;
                    made.operations += found_cost.operations;
                }
            }
            self.finish(&table[pair].claim, Ok(document), cancelled);
            is_done[pair] = true;
            ControlFlow::Continue(())
        };
        let pairs: Vec<_> = table.iter().map(|ready| &ready.experiment).collect();
        let swept = experiment::run(model, &pairs, &program, &mut listener, &mut done);
        let Err(error) = swept else { return Ok(()) };
        if !is_done[0] {
            partial.store(cost(&announcer));
        }
        Err(match error {
            SweepError::Cancelled if cancelled.load(Ordering::Relaxed) => Failure::Cancelled,
            SweepError::Cancelled => Failure::Stopping,
            SweepError::DeviceMemory(_) => Failure::DeviceMemory(error.to_string()),
            error => reason(&error),
        })
    }
}
