//! The threads that sweep.

use std::any::Any;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use shared::document::Document;
use shared::specification::MeanOver;
use shared::specification::settings::Checked;
use shared::specification::vocabulary::Written;
use shared::wire::event::Event;

use super::live::Announcer;
use super::partial::{Partial, made_for};
use super::{Offered, Queue, Running, State, now};
use crate::model::Model;
use crate::store::{Claim, Outcome, Pending, StoreError};
use crate::study::{self, Experiment};
use crate::sweep::{Division, Program, Progress, SweepError, speed};

/// How long the worker sleeps when nothing wakes it.
const IDLE: Duration = Duration::from_secs(5);
/// How long it waits before it tries again to store something.
const RETRY: Duration = Duration::from_secs(2);
/// How long a worker waits for what another may put back.
const LATER: Duration = Duration::from_millis(200);
/// The most pairs that share the passes over a model that is read from disk.
const MAX_TOGETHER: usize = 32;
/// A pair during which the process has ended as often is run alone.
const MAX_BEGUN_TOGETHER: usize = 2;
/// A pair during which the process has ended so often is not begun again.
const MAX_BEGUN: usize = 10;

/// Why a pair has no result.
#[derive(Clone)]
enum Failure {
    Cancelled,
    Stopping,
    Reason(String),
}

impl Queue {
    /// Sweeps whatever is submitted until [`Queue::stop`], each worker on a thread of its own.
    pub fn work(&self) {
        let writes = self.store.why_read_only().is_none();
        if writes {
            // Before any of them begins: what it is at would look like what an earlier server left.
            self.recover();
        }
        let n_workers = self.models.first().map_or(1, |offered| offered.copies.len());
        std::thread::scope(|scope| {
            for worker in 1..n_workers {
                scope.spawn(move || self.work_as(worker, writes));
            }
            self.work_as(0, writes);
        });
    }

    fn work_as(&self, worker: usize, writes: bool) {
        while !self.is_stopping() {
            if !writes {
                self.wait(IDLE, |_| false);
                continue;
            }
            self.purge_if_due();
            match self.claim() {
                Ok(Some((claim, cancelled))) => {
                    self.run(worker, &claim, &cancelled);
                    self.is_free(&cancelled);
                    if let Err(error) = self.announce(&claim.job) {
                        tracing::warn!(%error, "a job could not be read");
                    }
                }
                Ok(None) => self.wait(IDLE, |state| state.turns.next().is_some()),
                Err(error) => self.stall(&error),
            }
        }
    }

    /// Says that the pair with this flag is not run any more.
    pub(super) fn is_free(&self, cancelled: &Arc<AtomicBool>) {
        self.state().running.retain(|running| !Arc::ptr_eq(&running.cancelled, cancelled));
    }

    /// Puts back what an earlier server was at when it ended.
    pub(super) fn recover(&self) {
        while !self.is_stopping() {
            match self.store.recover() {
                Ok(jobs) => {
                    let n_pairs: usize = jobs.iter().map(|job| job.n_queued).sum();
                    if n_pairs > 0 {
                        tracing::info!(n_pairs, "going on with what was interrupted");
                    }
                    let mut state = self.state();
                    return jobs.into_iter().for_each(|job| state.turns.add(job));
                }
                Err(error) => self.stall(&error),
            }
        }
    }

    /// Forgets now and then what was deleted long ago.
    fn purge_if_due(&self) {
        let every = self.settings.purge_every;
        if self.state().purged_at.is_some_and(|at| at.elapsed() < every) {
            return;
        }
        // On a full disk there may be no room to make room; what is there is shown all the same.
        match self.store.purge(self.settings.n_kept_days) {
            Ok(n) => tracing::debug!(n, "deleted experiments were forgotten"),
            Err(error) => tracing::warn!(%error, "deleted experiments could not be forgotten"),
        }
        self.state().purged_at = Some(Instant::now());
    }

    /// Sleeps until there is something to do, or something is submitted, cancelled or stopped, but
    /// not for long.
    fn wait(&self, time: Duration, has_work: impl Fn(&State) -> bool) {
        let state = self.state();
        if !self.is_stopping() && !has_work(&state) {
            let woken = self.wake.wait_timeout(state, time);
            drop(woken.unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Says why nothing goes on, and waits before the next attempt.
    fn stall(&self, error: &StoreError) {
        tracing::error!(%error, "the queue stands still");
        self.state().stalled = Some(error.to_string());
        self.wait(RETRY, |_| false);
    }

    /// Takes the next pair; `None` if there is none. Several workers may ask at once.
    pub(super) fn claim(&self) -> Result<Option<(Claim, Arc<AtomicBool>)>, StoreError> {
        let cancelled = Arc::new(AtomicBool::new(false));
        let (next, is_run_elsewhere, n_claimed) = {
            let mut state = self.state();
            let Some(next) = state.turns.next().cloned() else { return Ok(None) };
            let is_run_elsewhere = state.running.iter().any(|running| running.job == next.job);
            // Before it is claimed, so that nobody cancels it unheard.
            let running = Running { job: next.job.clone(), cancelled: cancelled.clone() };
            state.running.push(running);
            (next, is_run_elsewhere, state.n_claimed)
        };
        let claim = self.store.claim(next.seq, &now());
        let mut state = self.state();
        let mut is_later = false;
        match &claim {
            Ok(Some(_)) => {
                state.n_claimed += 1;
                state.turns.take(&next.job);
            }
            // Another worker has what is left of it, and may put some of it back.
            Ok(None) if is_run_elsewhere || state.n_claimed != n_claimed => is_later = true,
            // It was cancelled just now.
            Ok(None) => state.turns.remove(&next.job),
            Err(_) => {}
        }
        drop(state);
        if !matches!(claim, Ok(Some(_))) {
            self.is_free(&cancelled);
        }
        if is_later {
            self.wait(LATER, |_| false);
        }
        let claim = claim?;
        self.state().stalled = None;
        Ok(claim.map(|claim| (claim, cancelled)))
    }

    /// Runs a pair, and where the model's weights are read from disk more of its job in the same
    /// passes.
    pub(super) fn run(&self, worker: usize, claim: &Claim, cancelled: &AtomicBool) {
        let mut mean = None;
        let first = self.ready(worker, claim.clone(), &mut mean, cancelled);
        let Some(first) = first else { return };
        let mut table = vec![first];
        if table[0].can_share(self) {
            self.add_pairs(worker, &mut table, &mut mean, cancelled);
        }
        let mut n_done = 0;
        let Err(failure) = caught(|| self.sweep(&table, &mut n_done, cancelled)) else { return };
        let left = table.split_off(n_done.min(table.len()));
        match failure {
            // Whose fault it is shows when each of them is run alone, in its turn.
            Failure::Reason(why) if left.len() > 1 => {
                tracing::warn!(job = claim.job, why, "pairs that ran together are run one by one");
                left.iter().for_each(|ready| self.run_alone_later(&ready.claim, cancelled));
            }
            failure => {
                for ready in left {
                    self.finish(&ready.claim, Err(failure.clone()), cancelled);
                }
            }
        }
    }

    /// Makes a claimed pair ready to be swept; `None` if it is over already: its result is there,
    /// it cannot be run, or it was cancelled. `mean` is that of the job, once it is known.
    fn ready(
        &self,
        worker: usize,
        claim: Claim,
        mean: &mut Option<Option<Arc<MeanOver>>>,
        cancelled: &AtomicBool,
    ) -> Option<Ready<'_>> {
        match self.persist(cancelled, || self.store.finish_if_known(&claim, &now())) {
            Some(false) => {}
            Some(true) => {
                self.counters.n_reused.fetch_add(1, Ordering::Relaxed);
                self.is_over(&claim);
                return None;
            }
            None => return None,
        }
        match caught(|| self.prepared(&claim, mean)) {
            Ok((offered, experiment)) => {
                let model = &*offered.copies[worker];
                Some(Ready { claim, offered, model, experiment })
            }
            Err(failure) => {
                self.finish(&claim, Err(failure), cancelled);
                None
            }
        }
    }

    /// Takes more pairs of the same job out of the queue, as many as share a batch.
    fn add_pairs<'a>(
        &'a self,
        worker: usize,
        table: &mut Vec<Ready<'a>>,
        mean: &mut Option<Option<Arc<MeanOver>>>,
        cancelled: &AtomicBool,
    ) {
        let Claim { seq, job, .. } = table[0].claim.clone();
        let mut rest = Vec::new();
        while table.len() + rest.len() < MAX_TOGETHER && !self.is_stopping() {
            let claim = match self.store.claim(seq, &now()) {
                Ok(Some(claim)) => claim,
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(job, %error, "a pair could not be claimed");
                    break;
                }
            };
            let Some(ready) = self.ready(worker, claim, mean, cancelled) else {
                self.state().turns.take(&job);
                continue;
            };
            // The same pair once more will find its result.
            let is_there = |other: &Ready| other.claim.experiment == ready.claim.experiment;
            if ready.can_share(self) && !table.iter().any(is_there) {
                table.push(ready);
            } else {
                rest.push(ready);
            }
        }
        // What does not fit into the first batch has its turn later.
        let n_together = self
            .compile_together(table)
            .map_or(1, |program| program.batches.first().map_or(1, |batch| batch.pairs.len()));
        rest.extend(table.split_off(n_together.clamp(1, table.len())));
        for ready in rest {
            let put_back = || self.store.finish(&ready.claim, &Outcome::Interrupted, &now());
            self.persist(cancelled, put_back);
        }
        table[1..].iter().for_each(|_| self.state().turns.take(&job));
    }

    /// How pairs of a job that share their passes are carried out.
    fn compile_together(&self, table: &[Ready]) -> Result<Program, SweepError> {
        let Ready { offered, model, .. } = table[0];
        let speed = match offered.speed() {
            Some(speed) => speed,
            None => speed::estimate(&model.network.placement)?,
        };
        let n_bytes = self.settings.n_memory_bytes;
        let division = Division::of_table(&model.network, model.n_stored_bytes, speed, n_bytes);
        let experiments: Vec<_> = table.iter().map(|ready| &ready.experiment).collect();
        study::compile(model, &experiments, &division, &[])
    }

    /// Puts a pair back into the queue that failed in company.
    fn run_alone_later(&self, claim: &Claim, cancelled: &AtomicBool) {
        let put_back = || self.store.finish(claim, &Outcome::Interrupted, &now());
        if self.persist(cancelled, put_back).is_some() {
            let Claim { seq, job, index, client, .. } = claim.clone();
            let mut state = self.state();
            // Under the lock: who cancels it from here on finds it in the queue.
            if !cancelled.load(Ordering::Relaxed) {
                state.alone.insert((job.clone(), index));
                state.turns.put_back(Pending { seq, job, client, n_queued: 1 });
            }
        }
        self.tell_pair(claim);
    }

    /// Stores what came of a claimed pair, and tells of it.
    fn finish(&self, claim: &Claim, swept: Result<Document, Failure>, cancelled: &AtomicBool) {
        let outcome = match &swept {
            Ok(document) => Outcome::Done(document),
            Err(Failure::Reason(why)) => Outcome::Failed(why),
            Err(Failure::Stopping) => Outcome::Interrupted,
            // The store has it as cancelled already.
            Err(Failure::Cancelled) => return self.tell_pair(claim),
        };
        match &swept {
            Ok(document) => {
                let secs = document.provenance.as_ref().map_or(0.0, |made| made.wall_secs);
                self.counters.n_done.fetch_add(1, Ordering::Relaxed);
                self.counters.sweep_millis.fetch_add((1e3 * secs) as u64, Ordering::Relaxed);
                tracing::info!(job = claim.job, index = claim.index, secs, "swept");
            }
            Err(Failure::Reason(why)) => {
                self.counters.n_failed.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(job = claim.job, index = claim.index, why, "a pair failed");
            }
            Err(_) => {}
        }
        self.persist(cancelled, || self.store.finish(claim, &outcome, &now()));
        self.is_over(claim);
        if swept.is_ok() {
            self.events.send(Event::Experiments {});
        }
    }

    /// Tries to store something until it succeeds, so that no result is lost to a full disk;
    /// `None` if the pair was cancelled or the server stops first.
    fn persist<T>(
        &self,
        cancelled: &AtomicBool,
        write: impl Fn() -> Result<T, StoreError>,
    ) -> Option<T> {
        loop {
            match write() {
                Ok(value) => {
                    self.state().stalled = None;
                    return Some(value);
                }
                Err(error) => self.stall(&error),
            }
            if cancelled.load(Ordering::Relaxed) || self.is_stopping() {
                return None;
            }
        }
    }

    /// Tells what has become of a pair that does not run any more.
    fn is_over(&self, claim: &Claim) {
        self.state().alone.remove(&(claim.job.clone(), claim.index));
        self.tell_pair(claim);
    }

    pub(super) fn tell_pair(&self, claim: &Claim) {
        match self.store.pair(&claim.job, claim.index) {
            Ok(Some(pair)) => self.events.send(Event::Pair { job: claim.job.clone(), pair }),
            // The job was removed meanwhile.
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "a pair could not be read"),
        }
    }

    /// The mean over the table of a job, where it is asked for.
    fn mean(
        &self,
        claim: &Claim,
        model: &Model,
        settings: &Checked,
    ) -> Result<Option<Arc<MeanOver>>, Failure> {
        if settings.settings.write != Written::Mean {
            return Ok(None);
        }
        let pairs = self.store.pairs(&claim.job).map_err(|e| reason(&e))?;
        study::mean_over(model, &pairs, settings).map_err(|(_, error)| reason(&error))
    }

    fn prepared(
        &self,
        claim: &Claim,
        mean: &mut Option<Option<Arc<MeanOver>>>,
    ) -> Result<(&Offered, Experiment), Failure> {
        if claim.n_begun > MAX_BEGUN {
            return Err(Failure::Reason(format!(
                "the server ended {MAX_BEGUN} times while it ran this pair: it may need more \
                 memory than there is"
            )));
        }
        let offered = self.offered(Some(&claim.model)).ok_or_else(|| {
            Failure::Reason(format!("the model `{}` is not offered any more", claim.model))
        })?;
        let model = &*offered.model;
        let settings = claim.settings.clone().check().map_err(|e| reason(&e))?;
        // One for all pairs of a batch, which takes it from the rows of the whole job.
        let mean = match mean {
            Some(mean) => mean,
            None => mean.insert(self.mean(claim, model, &settings)?),
        };
        let experiment = Experiment::prepare(model, &claim.pair, &settings, mean.as_ref())
            .map_err(|e| reason(&e))?;
        if experiment.id(model).map_err(|e| reason(&e))? != claim.experiment {
            return Err(Failure::Reason(format!(
                "the model `{}`, or how it is computed, is another one than when this was \
                 submitted: submit it again",
                claim.model
            )));
        }
        Ok((offered, experiment))
    }

    /// Sweeps pairs of one job in the same passes over the layers, each stored when it is done; one
    /// alone goes on from what an interruption has left of it. Listeners see the first, with the
    /// share of all. Counts the pairs that are done.
    fn sweep(
        &self,
        table: &[Ready],
        n_done: &mut usize,
        cancelled: &AtomicBool,
    ) -> Result<(), Failure> {
        let Ready { claim, offered, model, experiment } = &table[0];
        let mut partial = Partial::open(self, claim, experiment);
        let program = match table {
            [_] => self.compile_alone(model, experiment, partial.found().clone()),
            _ => self.compile_together(table),
        };
        let program = program.map_err(|e| reason(&e))?;
        let mut announcer = Announcer::new(self, claim, experiment, &program, &partial);
        announcer.begin(model, experiment, &partial);
        table[1..].iter().for_each(|ready| self.tell_pair(&ready.claim));
        if let Err(error) = self.announce(&claim.job) {
            tracing::warn!(%error, "a job could not be read");
        }
        let found_cost = partial.found_cost();
        let mut listener = |progress: Progress| {
            // What is told can be relied on: after an interruption it is still there.
            if let Progress::Trials { pair: 0, readings } = progress {
                partial.add(readings, announcer.cost());
            }
            if cancelled.load(Ordering::Relaxed) || self.is_stopping() {
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
            *n_done += 1;
            ControlFlow::Continue(())
        };
        let pairs: Vec<_> = table.iter().map(|ready| &ready.experiment).collect();
        match study::run(model, &pairs, &program, &mut listener, &mut done) {
            Ok(()) => Ok(()),
            Err(SweepError::Cancelled) if cancelled.load(Ordering::Relaxed) => {
                Err(Failure::Cancelled)
            }
            Err(SweepError::Cancelled) => {
                if *n_done == 0 {
                    partial.store(announcer.cost());
                }
                Err(Failure::Stopping)
            }
            Err(error) => Err(reason(&error)),
        }
    }
}

/// A claimed pair that can be swept.
struct Ready<'a> {
    claim: Claim,
    offered: &'a Offered,
    /// The worker's own.
    model: &'a Model,
    experiment: Experiment,
}

impl Ready<'_> {
    /// Whether others may go through the layers with it: where each pass reads the weights anew,
    /// unless it failed in company, the server ended again and again while it ran, maybe for want of
    /// memory, or some of it is finished.
    fn can_share(&self, queue: &Queue) -> bool {
        let of_job = (self.claim.job.clone(), self.claim.index);
        let has_failed = || queue.state().alone.contains(&of_job);
        let kept = || queue.store.kept(&self.claim, &made_for(&self.claim));
        self.model.network.is_streamed()
            && self.claim.n_begun <= MAX_BEGUN_TOGETHER
            && !has_failed()
            && kept().is_ok_and(|kept| kept.is_empty())
    }
}

fn reason(error: &dyn std::fmt::Display) -> Failure {
    Failure::Reason(error.to_string())
}

/// A defect of the engine costs one pair, not the server.
fn caught<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(Failure::Reason(panic_text(&*panic))))
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_string());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("the engine failed: {}", text.as_deref().unwrap_or("it did not say why"))
}
