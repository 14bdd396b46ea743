//! The threads that sweep.

use std::any::Any;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use shared::document::Document;
use shared::wire::event::Event;

use super::fair::HERE;
use super::ready::Ready;
use super::{Engine, Offered, Queue, Running, State, now};
use crate::ndif::{NdifError, Remote};
use crate::store::{Claim, Outcome, Pending, StoreError};

/// How long the worker sleeps when nothing wakes it.
const IDLE: Duration = Duration::from_secs(5);
/// How long it waits before it tries again to store something.
const RETRY: Duration = Duration::from_secs(2);
/// How long a worker waits for what another may put back.
const LATER: Duration = Duration::from_millis(200);

/// Why a pair has no result.
#[derive(Clone)]
pub enum Failure {
    /// Somebody cancelled it.
    Cancelled,
    /// The server stops.
    Stopping,
    /// It cannot be computed, or others with it cannot.
    Reason(String),
    /// It cannot be computed with as little memory as the GPU had left, or others with it cannot.
    DeviceMemory(String),
    /// Nothing can be computed, whatever the pair.
    Everything(String),
}

impl Queue {
    /// Sweeps whatever is submitted until [`Queue::stop`], each worker on a thread of its own.
    pub fn work(&self) {
        let writes = self.store.why_read_only().is_none();
        if writes {
            // Before any of them begins: what it is at would look like what an earlier server left.
            self.recover();
        }
        let n_copies = |offered: &Offered| match &offered.engine {
            Engine::Here(copies) => copies.len(),
            Engine::Ndif(_) => 1,
        };
        let n_workers = self.models.first().map_or(1, n_copies);
        std::thread::scope(|scope| {
            for worker in 1..n_workers {
                scope.spawn(move || self.work_as(worker, HERE, writes));
            }
            for offered in &self.models {
                if let Engine::Ndif(remote) = &offered.engine {
                    scope.spawn(move || self.work_on(offered, remote, writes));
                }
            }
            self.work_as(0, HERE, writes);
        });
    }

    /// Sweeps what is submitted for a model on a server, once it can be opened there.
    fn work_on(&self, offered: &Offered, remote: &Remote, writes: bool) {
        while remote.model().is_none() && !self.is_stopping() {
            let mut listener = |_: crate::ndif::Event| self.goes_on(None);
            match remote.open(&mut listener) {
                Ok(line) => tracing::info!("{line}"),
                Err(NdifError::Cancelled) => {}
                Err(error) => {
                    if offered.is_away(error.to_string()) {
                        tracing::warn!(model = offered.name(), %error, "asked again and again");
                    }
                    let (tried_at, pause) = (Instant::now(), self.settings.reopen_every);
                    while tried_at.elapsed() < pause && !self.is_stopping() {
                        self.wait(pause, |_| false);
                    }
                }
            }
        }
        let lane = self.state().turns.of(remote.name());
        self.work_as(0, lane, writes);
    }

    /// Whether a sweep is to go on: neither is it cancelled nor does the server stop.
    pub(super) fn goes_on(&self, cancelled: Option<&AtomicBool>) -> ControlFlow<()> {
        let is_cancelled = cancelled.is_some_and(|cancelled| cancelled.load(Ordering::Relaxed));
        match is_cancelled || self.is_stopping() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    fn work_as(&self, worker: usize, lane: usize, writes: bool) {
        while !self.is_stopping() {
            if !writes {
                self.wait(IDLE, |_| false);
                continue;
            }
            self.purge_if_due();
            match self.claim(lane) {
                Ok(Some((claim, cancelled))) => {
                    self.run(worker, &claim, &cancelled);
                    self.is_free(&cancelled);
                    self.tell_job(&claim.job);
                }
                Ok(None) => self.wait(IDLE, |state| state.turns.next(lane).is_some()),
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

    /// Takes the next pair of a lane; `None` if there is none. Several workers may ask at once.
    pub(super) fn claim(
        &self,
        lane: usize,
    ) -> Result<Option<(Claim, Arc<AtomicBool>)>, StoreError> {
        let cancelled = Arc::new(AtomicBool::new(false));
        let (next, is_run_elsewhere, n_claimed) = {
            let mut state = self.state();
            let Some(next) = state.turns.next(lane).cloned() else { return Ok(None) };
            let is_run_elsewhere = state.running.iter().any(|running| running.job == next.job);
            // Before it is claimed, so that nobody cancels it unheard.
            let running = Running { job: next.job.clone(), lane, cancelled: cancelled.clone() };
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

    /// Runs a pair, and where the model's weights are read from disk or are on a server more of its job
    /// in the same passes or requests.
    pub(super) fn run(&self, worker: usize, claim: &Claim, cancelled: &AtomicBool) {
        let mut mean = None;
        let first = self.ready(claim.clone(), &mut mean, cancelled);
        let Some(first) = first else { return };
        let mut table = vec![first];
        if table[0].can_share(self) {
            self.add_pairs(worker, &mut table, &mut mean, cancelled);
        }
        let mut is_done = vec![false; table.len()];
        let swept = caught(|| match &table[0].offered.engine {
            Engine::Here(copies) => {
                self.sweep_here(&copies[worker], &table, &mut is_done, cancelled)
            }
            Engine::Ndif(remote) => self.sweep_on_ndif(remote, &table, &mut is_done, cancelled),
        });
        let Err(failure) = swept else { return };
        let left = table.into_iter().zip(is_done).filter(|(_, is_done)| !is_done);
        let left: Vec<_> = left.map(|(ready, _)| ready).collect();
        match failure {
            // Whose fault it is shows when each of them is run alone, in its turn.
            Failure::Reason(why) | Failure::DeviceMemory(why) if left.len() > 1 => {
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

    /// Puts a pair back into the queue that failed in company.
    fn run_alone_later(&self, claim: &Claim, cancelled: &AtomicBool) {
        let put_back = || self.store.finish(claim, &Outcome::Interrupted, &now());
        if self.persist(cancelled, put_back).is_some() {
            let Claim { seq, job, index, client, model, .. } = claim.clone();
            let mut state = self.state();
            // Under the lock: who cancels it from here on finds it in the queue.
            if !cancelled.load(Ordering::Relaxed) {
                state.alone.insert((job.clone(), index));
                state.turns.put_back(Pending { seq, job, client, model, n_queued: 1 });
            }
        }
        self.tell_pair(claim);
    }

    /// Stores what came of a claimed pair, and tells of it.
    pub(super) fn finish(
        &self,
        claim: &Claim,
        swept: Result<Document, Failure>,
        cancelled: &AtomicBool,
    ) {
        let outcome = match &swept {
            Ok(document) => Outcome::Done(document),
            Err(Failure::Reason(why) | Failure::DeviceMemory(why) | Failure::Everything(why)) => {
                Outcome::Failed(why)
            }
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
            Err(Failure::Reason(why) | Failure::DeviceMemory(why) | Failure::Everything(why)) => {
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
    pub(super) fn persist<T>(
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
    pub(super) fn is_over(&self, claim: &Claim) {
        self.state().alone.remove(&(claim.job.clone(), claim.index));
        self.tell_pair(claim);
    }

    /// Tells of a job.
    fn tell_job(&self, job: &str) {
        if let Err(error) = self.announce(job) {
            tracing::warn!(%error, "a job could not be read");
        }
    }

    /// Tells that others than the first of these pairs of one job are under way, and of the job.
    pub(super) fn tell_begun(&self, table: &[Ready]) {
        table[1..].iter().for_each(|ready| self.tell_pair(&ready.claim));
        self.tell_job(&table[0].claim.job);
    }

    pub(super) fn tell_pair(&self, claim: &Claim) {
        match self.store.pair(&claim.job, claim.index) {
            Ok(Some(pair)) => self.events.send(Event::Pair { job: claim.job.clone(), pair }),
            // The job was removed meanwhile.
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "a pair could not be read"),
        }
    }
}

/// An error as a pair's.
pub fn reason(error: &dyn std::fmt::Display) -> Failure {
    Failure::Reason(error.to_string())
}

/// A defect of the engine costs one pair, not the server.
pub fn caught<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(Failure::Reason(panic_text(&*panic))))
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_string());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("the engine failed: {}", text.as_deref().unwrap_or("it did not say why"))
}
