//! Sweeps on a server of NDIF.

use std::sync::atomic::{AtomicBool, Ordering};

use shared::document::Document;

use super::Queue;
use super::live::{Announcer, Work};
use super::partial::{Cost, Partial};
use super::ready::Ready;
use super::worker::{Failure, reason};
use crate::experiment::Part;
use crate::model::Description;
use crate::ndif::plan::PairPlan;
use crate::ndif::{Event, Limits, MAX_CELLS, NdifError, Remote};
use crate::sweep::Progress;

/// A pair that is being swept there.
struct Underway<'a> {
    queue: &'a Queue,
    ready: &'a Ready<'a>,
    model: &'a Description,
    partial: Partial<'a>,
    /// Cells that are left to compute.
    n_cells: usize,
    /// Trials that are left, and those that have come.
    n_trials: usize,
    n_come: usize,
    /// Tells of it since the first of its numbers came.
    announcer: Option<Announcer<'a>>,
}

impl<'a> Underway<'a> {
    fn new(
        queue: &'a Queue,
        ready: &'a Ready<'a>,
        model: &'a Description,
    ) -> Result<Self, NdifError> {
        let Ready { claim, experiment, .. } = ready;
        let partial = Partial::open(queue, claim, experiment);
        let plan = PairPlan::new(&experiment.specification, model.config.n_layers)?;
        let is_there = |trial| partial.found().contains_key(&trial);
        let n_cells = plan.n_left(is_there);
        let n_all = experiment.specification.trials.len() - plan.known.len();
        let n_trials = n_all.saturating_sub(partial.found().len());
        Ok(Self { queue, ready, model, partial, n_cells, n_trials, n_come: 0, announcer: None })
    }

    /// Says that the sweep begins, if it has not been said yet.
    fn announcer(&mut self) -> &mut Announcer<'a> {
        let (Ready { claim, experiment, .. }, found) = (self.ready, self.partial.found());
        self.announcer.get_or_insert_with(|| {
            let work = Work { found: found.len() as f64, left: self.n_trials as f64 };
            let mut announcer = Announcer::new(self.queue, claim, experiment, work);
            announcer.begin(self.model, experiment, found);
            announcer
        })
    }

    /// What it has cost since it was begun here; operations are another machine's.
    fn cost(&self) -> Cost {
        let secs = self.announcer.as_ref().map_or(0.0, Announcer::secs);
        Cost { secs, operations: 0.0 }
    }

    /// Keeps a wave, and tells of it.
    fn wave(&mut self, part: &Part) {
        self.n_come += part.trials.len();
        self.announcer();
        let cost = self.cost();
        self.partial.add(part.clone(), cost);
        let readings: Vec<_> = part.trials.iter().map(|(&t, r)| (t, r.clone())).collect();
        let share = self.n_come as f64 / self.n_trials.max(1) as f64;
        let announcer = self.announcer();
        announcer.tell(Progress::Trials { pair: 0, readings: &readings });
        announcer.is_at(share);
    }

    /// Its document, with the time that was spent before an interruption.
    fn whole(&self, mut document: Document) -> Document {
        if let Some(made) = &mut document.provenance {
            self.ready.offered.set_speed(self.n_cells as f64, made.wall_secs);
            made.wall_secs += self.partial.found_cost().secs;
        }
        document
    }
}

impl Queue {
    /// How many of these pairs fit into one request.
    pub(super) fn n_in_a_request(remote: &Remote, table: &[Ready]) -> usize {
        let n_layers = remote.model().map_or(0, |model| model.config.n_layers);
        let n_cells = |ready: &Ready| {
            PairPlan::new(&ready.experiment.specification, n_layers).map_or(0, |p| p.n_cells())
        };
        let sums = table.iter().scan(0, |sum, ready| {
            *sum += n_cells(ready);
            Some(*sum)
        });
        sums.take_while(|&sum| sum <= MAX_CELLS).count()
    }

    /// Sweeps pairs of one job on a server, each stored when it is done, and each from what an
    /// interruption has left of it. Listeners see a pair from the first of its numbers on. Says which
    /// pairs are done.
    pub(super) fn sweep_on_ndif(
        &self,
        remote: &Remote,
        table: &[Ready],
        is_done: &mut [bool],
        cancelled: &AtomicBool,
    ) -> Result<(), Failure> {
        let offered = table[0].offered;
        let model = offered.model().map_err(|e| reason(&e))?;
        let underway = table.iter().map(|ready| Underway::new(self, ready, model));
        let mut underway = underway.collect::<Result<Vec<_>, _>>().map_err(|e| reason(&e))?;
        underway[0].announcer();
        self.tell_begun(table);
        let begun: Vec<_> = underway.iter().map(|pair| pair.partial.part().clone()).collect();
        let experiments: Vec<_> = table.iter().map(|ready| &ready.experiment).collect();
        // The pair that is being told of.
        let mut at = 0;
        let mut listener = |event: Event| {
            match event {
                Event::Runs { pair, readings, known } => {
                    at = pair;
                    let announcer = underway[pair].announcer();
                    announcer.tell(Progress::Runs { pair: 0, readings });
                    announcer.tell(Progress::Trials { pair: 0, readings: known });
                }
                Event::Wave { pair, part } => underway[pair].wave(part),
                Event::Said(text) => underway[at].announcer().said(text),
                Event::Pair { pair, document } => {
                    let document = underway[pair].whole(document.clone());
                    self.finish(&table[pair].claim, Ok(document), cancelled);
                    is_done[pair] = true;
                }
                Event::Share(_) | Event::Waiting => {}
            }
            self.goes_on(Some(cancelled))
        };
        let swept = remote.sweep(&experiments, &begun, Limits::default(), &mut listener);
        let Err(error) = swept else { return Ok(()) };
        for (pair, _) in underway.iter_mut().zip(&*is_done).filter(|(_, is_done)| !**is_done) {
            let cost = pair.cost();
            pair.partial.store(cost);
        }
        Err(match error {
            NdifError::Cancelled if cancelled.load(Ordering::Relaxed) => Failure::Cancelled,
            NdifError::Cancelled => Failure::Stopping,
            error if error.is_of_the_server() => Failure::Everything(error.to_string()),
            error => reason(&error),
        })
    }
}
