//! The thread that sweeps.

use std::any::Any;
use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use shared::document::Document;
use shared::specification::settings::Checked;
use shared::specification::vocabulary::Written;
use shared::specification::{Axis, Key, MeanOver, Specification};
use shared::wire::event::{Column, Event, Live, LiveBaselines};

use super::partial::{Cost, Partial};
use super::{Queue, Running, State, now};
use crate::model::Model;
use crate::store::{Claim, Outcome, StoreError};
use crate::study::{self, Experiment};
use crate::sweep::{self, Program, Progress, Reading, SweepError};

/// How long the worker sleeps when nothing wakes it.
const IDLE: Duration = Duration::from_secs(5);
/// How long it waits before it tries again to store something.
const RETRY: Duration = Duration::from_secs(2);
/// How often listeners are told the share that is done.
const TELL_EVERY: Duration = Duration::from_millis(200);
/// A pair during which the process has ended so often is not begun again.
const MAX_BEGUN: usize = 10;

/// Why a pair has no result.
enum Failure {
    Cancelled,
    Stopping,
    Reason(String),
}

impl Queue {
    /// Sweeps whatever is submitted until [`Queue::stop`].
    pub fn work(&self) {
        let writes = self.store.why_read_only().is_none();
        if writes {
            self.recover();
        }
        while !self.is_stopping() {
            if !writes {
                self.wait(IDLE, |_| false);
                continue;
            }
            self.purge_if_due();
            match self.claim() {
                Ok(Some((claim, cancelled))) => {
                    self.run(&claim, &cancelled);
                    self.state().running = None;
                    if let Err(error) = self.announce(&claim.job) {
                        tracing::warn!(%error, "a job could not be read");
                    }
                }
                Ok(None) => self.wait(IDLE, |state| state.turns.next().is_some()),
                Err(error) => self.stall(&error),
            }
        }
    }

    /// Puts back what an earlier server was at when it ended.
    fn recover(&self) {
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

    pub(super) fn claim(&self) -> Result<Option<(Claim, Arc<AtomicBool>)>, StoreError> {
        let cancelled = Arc::new(AtomicBool::new(false));
        let next = {
            let mut state = self.state();
            let Some(next) = state.turns.next().cloned() else { return Ok(None) };
            // Before it is claimed, so that nobody cancels it unheard.
            let running = Running { job: next.job.clone(), cancelled: cancelled.clone() };
            state.running = Some(running);
            next
        };
        let claim = self.store.claim(next.seq, &now());
        let mut state = self.state();
        match &claim {
            Ok(Some(_)) => state.turns.take(&next.job),
            // It was cancelled just now.
            Ok(None) => state.turns.remove(&next.job),
            Err(_) => {}
        }
        if !matches!(claim, Ok(Some(_))) {
            state.running = None;
        }
        let claim = claim?;
        state.stalled = None;
        Ok(claim.map(|claim| (claim, cancelled)))
    }

    pub(super) fn run(&self, claim: &Claim, cancelled: &AtomicBool) {
        match self.persist(cancelled, || self.store.finish_if_known(claim, &now())) {
            Some(false) => {}
            Some(true) => {
                self.counters.n_reused.fetch_add(1, Ordering::Relaxed);
                return self.tell_pair(claim);
            }
            None => return,
        }
        let begin = Instant::now();
        // A defect of the engine costs one pair, not the server.
        let swept = catch_unwind(AssertUnwindSafe(|| self.sweep(claim, cancelled)))
            .unwrap_or_else(|panic| Err(Failure::Reason(panic_text(&*panic))));
        let secs = begin.elapsed().as_secs_f64();
        let outcome = match &swept {
            Ok(document) => Outcome::Done(document),
            Err(Failure::Reason(why)) => Outcome::Failed(why),
            Err(Failure::Stopping) => Outcome::Interrupted,
            // The store has it as cancelled already.
            Err(Failure::Cancelled) => return self.tell_pair(claim),
        };
        match &swept {
            Ok(_) => {
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
        self.tell_pair(claim);
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
        let reason = |error: &dyn std::fmt::Display| Failure::Reason(error.to_string());
        let pairs = self.store.pairs(&claim.job).map_err(|e| reason(&e))?;
        study::mean_over(model, &pairs, settings).map_err(|(_, error)| reason(&error))
    }

    fn sweep(&self, claim: &Claim, cancelled: &AtomicBool) -> Result<Document, Failure> {
        if claim.n_begun > MAX_BEGUN {
            return Err(Failure::Reason(format!(
                "the server ended {MAX_BEGUN} times while it ran this pair: it may need more \
                 memory than there is"
            )));
        }
        let reason = |error: &dyn std::fmt::Display| Failure::Reason(error.to_string());
        let offered = self.offered(Some(&claim.model)).ok_or_else(|| {
            Failure::Reason(format!("the model `{}` is not offered any more", claim.model))
        })?;
        let model = &*offered.model;
        let settings = claim.settings.clone().check().map_err(|e| reason(&e))?;
        let mean = self.mean(claim, model, &settings)?;
        let experiment = Experiment::prepare(model, &claim.pair, &settings, mean.as_ref())
            .map_err(|e| reason(&e))?;
        if experiment.id(model).map_err(|e| reason(&e))? != claim.experiment {
            return Err(Failure::Reason(format!(
                "the model `{}`, or how it is computed, is another one than when this was \
                 submitted: submit it again",
                claim.model
            )));
        }
        let mut partial = Partial::open(self, claim, &experiment);
        let finished = partial.found().clone();
        let program = self.compile(model, &experiment, finished).map_err(|e| reason(&e))?;
        let mut teller = Teller::new(self, claim, &experiment, &program, &partial);
        let found: Vec<_> =
            partial.found().iter().map(|(&trial, reading)| (trial, reading.clone())).collect();
        let columns = teller.finished(&found);
        let live = Live { columns, share: teller.share(0.0), ..live(claim, model, &experiment) };
        self.events.send(Event::Begun { live });
        if let Err(error) = self.announce(&claim.job) {
            tracing::warn!(%error, "a job could not be read");
        }
        let mut listener = |progress: Progress| {
            // What is told can be relied on: after an interruption it is still there.
            if let Progress::Trials { readings, .. } = progress {
                partial.add(readings, teller.cost());
            }
            if cancelled.load(Ordering::Relaxed) || self.is_stopping() {
                return ControlFlow::Break(());
            }
            teller.tell(progress);
            ControlFlow::Continue(())
        };
        let mut made = None;
        let mut done = |_, document| {
            made = Some(document);
            ControlFlow::Continue(())
        };
        let swept = study::run(model, &[&experiment], &program, &mut listener, &mut done);
        let swept = swept.and_then(|()| made.ok_or(SweepError::Cancelled));
        let mut document = match swept {
            Ok(document) => document,
            Err(SweepError::Cancelled) if cancelled.load(Ordering::Relaxed) => {
                return Err(Failure::Cancelled);
            }
            Err(SweepError::Cancelled) => {
                partial.store(teller.cost());
                return Err(Failure::Stopping);
            }
            Err(error) => return Err(reason(&error)),
        };
        if let Some(made) = &mut document.provenance {
            offered.set_speed(made.operations, made.wall_secs);
            made.wall_secs += partial.found_cost().secs;
            made.operations += partial.found_cost().operations;
        }
        Ok(document)
    }
}

/// The sweep before its first column.
fn live(claim: &Claim, model: &Model, experiment: &Experiment) -> Live {
    let alignment = &experiment.alignment;
    let swept = model.tokenizer.tokens(&alignment.base[alignment.start..]);
    Live {
        job: claim.job.clone(),
        index: claim.index,
        experiment: claim.experiment.clone(),
        model: model.name.clone(),
        entity: experiment.entity.clone(),
        site: Some(experiment.settings.sites.first()),
        answers: Some(experiment.answers.clone()),
        n_layers: model.network.config.n_layers,
        sentence_start: alignment.start,
        token_labels: swept.into_iter().map(|token| token.text).collect(),
        share: 0.0,
        left_secs: None,
        baselines: None,
        columns: Vec::new(),
    }
}

/// Turns what the engine tells into events.
struct Teller<'a> {
    queue: &'a Queue,
    claim: &'a Claim,
    specification: &'a Specification,
    begin: Instant,
    told_at: Instant,
    /// The operations of what is left to compute, and of what was there.
    operations: f64,
    found_operations: f64,
    /// The share of what was left that is done.
    share: f64,
    /// The columns of the first grid of layers and positions of which some cells are missing.
    unfinished: BTreeMap<usize, Unfinished>,
    /// That grid and its positions.
    shown: Option<(usize, Range<usize>)>,
}

/// A column of which some cells are missing.
#[derive(Clone)]
struct Unfinished {
    /// How many trials are missing.
    n_missing: usize,
    readings: BTreeMap<usize, Reading>,
}

impl<'a> Teller<'a> {
    fn new(
        queue: &'a Queue,
        claim: &'a Claim,
        experiment: &'a Experiment,
        program: &Program,
        partial: &Partial,
    ) -> Self {
        let begin = Instant::now();
        let specification = &experiment.specification;
        let shown =
            specification.grids.iter().enumerate().find_map(|(i, grid)| match &grid.axes[..] {
                [Axis::Layer(_), Axis::Position(positions)] => Some((i, positions.clone())),
                _ => None,
            });
        let mut unfinished = BTreeMap::new();
        for trial in &specification.trials {
            if let Some(position) = column(shown.as_ref(), trial.key) {
                let none = Unfinished { n_missing: 0, readings: BTreeMap::new() };
                unfinished.entry(position).or_insert(none).n_missing += 1;
            }
        }
        Self {
            queue,
            claim,
            specification,
            begin,
            told_at: begin,
            operations: program.operations.done,
            found_operations: partial.found_cost().operations,
            share: 0.0,
            unfinished,
            shown,
        }
    }

    /// What was done since the beginning.
    fn cost(&self) -> Cost {
        let secs = self.begin.elapsed().as_secs_f64();
        Cost { secs, operations: self.share * self.operations }
    }

    /// The share of the whole sweep that is done, of which a part may have been there.
    fn share(&self, share: f64) -> f64 {
        let all = self.found_operations + self.operations;
        if all > 0.0 { (self.found_operations + share * self.operations) / all } else { share }
    }

    fn tell(&mut self, progress: Progress) {
        let (job, index) = (self.claim.job.clone(), self.claim.index);
        match progress {
            Progress::Share(share) => {
                self.share = share;
                if self.told_at.elapsed() >= TELL_EVERY {
                    self.told_at = Instant::now();
                    let left = self.begin.elapsed().as_secs_f64() * (1.0 - share) / share;
                    let left_secs = left.is_finite().then_some(left);
                    let share = self.share(share);
                    self.queue.events.send(Event::Progress { job, index, share, left_secs });
                }
            }
            Progress::Pair { .. } => {}
            Progress::Runs { readings, .. } => {
                let roles = study::roles(self.specification, readings);
                let value =
                    |reading: &Reading| Some(reading.logit_diff).filter(|value| value.is_finite());
                if let Some([base, source]) = roles {
                    let baselines = LiveBaselines { source: value(&source), base: value(&base) };
                    self.queue.events.send(Event::Baselines { job, index, baselines });
                }
            }
            Progress::Trials { readings, .. } => {
                let columns = self.finished(readings);
                if !columns.is_empty() {
                    self.queue.events.send(Event::Columns { job, index, columns });
                }
            }
        }
    }

    /// The columns that these trials complete. A trial that was heard before counts once.
    fn finished(&mut self, readings: &[(usize, Reading)]) -> Vec<Column> {
        let mut finished = Vec::new();
        for (trial, reading) in readings {
            let key = self.specification.trials[*trial].key;
            let Some(position) = column(self.shown.as_ref(), key) else { continue };
            let Some(unfinished) = self.unfinished.get_mut(&position) else { continue };
            if unfinished.readings.insert(*trial, reading.clone()).is_none() {
                unfinished.n_missing -= 1;
            }
            if unfinished.n_missing == 0
                && let Some(whole) = self.unfinished.remove(&position)
            {
                finished.push(self.column(position, &whole));
            }
        }
        finished
    }

    /// A column that is whole.
    fn column(&self, position: usize, whole: &Unfinished) -> Column {
        let mut cells = BTreeMap::<usize, Vec<_>>::new();
        for (trial, reading) in &whole.readings {
            let trial = &self.specification.trials[*trial];
            cells.entry(trial.key.cell).or_default().push((trial, reading));
        }
        let value = |trials: &Vec<_>| {
            let cell = sweep::combined(self.specification, trials)?;
            Some(cell.logit_diff).filter(|value| value.is_finite())
        };
        Column { position, logit_diff: cells.values().map(value).collect() }
    }
}

/// The position of a cell of the grid that is shown.
fn column(shown: Option<&(usize, Range<usize>)>, key: Key) -> Option<usize> {
    let (grid, positions) = shown?;
    (key.grid == *grid).then(|| positions.start + key.cell % positions.len())
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_string());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("the engine failed: {}", text.as_deref().unwrap_or("it did not say why"))
}
