//! The thread that sweeps.

use std::any::Any;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use shared::document::Document;
use shared::event::{Column, Event, Live, LiveBaselines};

use super::{Queue, Running, fair, now};
use crate::experiment::Experiment;
use crate::model::Model;
use crate::store::{Claim, Outcome, StoreError};
use crate::sweep::wavefront::Progress;
use crate::sweep::{Cell, Plan, Reading, SweepError};

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
        if self.store.why_read_only().is_none() {
            self.recover();
        }
        while !self.is_stopping() {
            match self.claim() {
                Ok(Some((claim, cancelled))) => {
                    self.run(&claim, &cancelled);
                    self.turn().running = None;
                    if let Err(error) = self.announce(&claim.job) {
                        tracing::warn!(%error, "a job could not be read");
                    }
                }
                Ok(None) => self.wait(IDLE),
                Err(error) => self.stall(&error),
            }
        }
    }

    /// Puts back what an earlier server was at when it ended.
    fn recover(&self) {
        while !self.is_stopping() {
            match self.store.recover() {
                Ok(0) => return,
                Ok(n_pairs) => {
                    return tracing::info!(n_pairs, "going on with what was interrupted");
                }
                Err(error) => self.stall(&error),
            }
        }
    }

    /// Sleeps until something is submitted, cancelled or stopped, but not for long.
    fn wait(&self, time: Duration) {
        let turn = self.turn();
        if !self.is_stopping() {
            let woken = self.wake.wait_timeout(turn, time);
            drop(woken.unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Says why nothing goes on, and waits before the next attempt.
    fn stall(&self, error: &StoreError) {
        tracing::error!(%error, "the queue stands still");
        self.turn().stalled = Some(error.to_string());
        self.wait(RETRY);
    }

    fn claim(&self) -> Result<Option<(Claim, Arc<AtomicBool>)>, StoreError> {
        if self.store.why_read_only().is_some() {
            return Ok(None);
        }
        let pending = self.store.pending()?;
        let mut turn = self.turn();
        turn.stalled = None;
        turn.served.retain(|client, _| pending.iter().any(|job| job.client == *client));
        let Some(next) = fair::next(&pending, &turn.served) else { return Ok(None) };
        let Some(claim) = self.store.claim(next.seq, &now())? else { return Ok(None) };
        turn.n_taken += 1;
        let n_taken = turn.n_taken;
        turn.served.insert(next.client.clone(), n_taken);
        let cancelled = Arc::new(AtomicBool::new(false));
        turn.running = Some(Running { job: claim.job.clone(), cancelled: cancelled.clone() });
        Ok(Some((claim, cancelled)))
    }

    fn run(&self, claim: &Claim, cancelled: &AtomicBool) {
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
            Ok(document) => {
                if let Some(made) = &document.provenance {
                    self.set_speed(made.operations, made.wall_secs);
                }
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
            self.hub.send(Event::Experiments {});
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
                    self.turn().stalled = None;
                    return Some(value);
                }
                Err(error) => self.stall(&error),
            }
            if cancelled.load(Ordering::Relaxed) || self.is_stopping() {
                return None;
            }
        }
    }

    fn tell_pair(&self, claim: &Claim) {
        match self.store.pair(&claim.job, claim.index) {
            Ok(Some(pair)) => self.hub.send(Event::Pair { job: claim.job.clone(), pair }),
            // The job was removed meanwhile.
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "a pair could not be read"),
        }
    }

    fn sweep(&self, claim: &Claim, cancelled: &AtomicBool) -> Result<Document, Failure> {
        if claim.n_begun > MAX_BEGUN {
            return Err(Failure::Reason(format!(
                "the server ended {MAX_BEGUN} times while it ran this pair: it may need more \
                 memory than there is"
            )));
        }
        let reason = |error: &dyn std::fmt::Display| Failure::Reason(error.to_string());
        let model = self.model(Some(&claim.model)).ok_or_else(|| {
            Failure::Reason(format!("the model `{}` is not offered any more", claim.model))
        })?;
        let settings = claim.settings.clone().check().map_err(|e| reason(&e))?;
        let experiment =
            Experiment::prepare(model, &claim.pair, &settings).map_err(|e| reason(&e))?;
        if experiment.id(model).map_err(|e| reason(&e))? != claim.experiment {
            return Err(Failure::Reason(format!(
                "the model `{}` is another one than when this was submitted: submit it again",
                claim.model
            )));
        }
        let config = &model.network.config;
        let plan = Plan::new(config, &experiment.request, self.settings.n_memory_bytes)
            .map_err(|e| reason(&e))?
            .in_passes(config, &experiment.request, self.settings.n_live_passes(model));
        self.hub.send(Event::Begun { live: live(claim, model, &experiment) });
        if let Err(error) = self.announce(&claim.job) {
            tracing::warn!(%error, "a job could not be read");
        }
        let mut teller = Teller::new(self, claim, &experiment, config.n_layers);
        let swept = experiment.run(model, &plan, &mut |progress| {
            if cancelled.load(Ordering::Relaxed) || self.is_stopping() {
                return ControlFlow::Break(());
            }
            teller.tell(progress);
            ControlFlow::Continue(())
        });
        swept.map_err(|error| match error {
            SweepError::Cancelled if cancelled.load(Ordering::Relaxed) => Failure::Cancelled,
            SweepError::Cancelled => Failure::Stopping,
            error => reason(&error),
        })
    }
}

/// The sweep before its first column.
fn live(claim: &Claim, model: &Model, experiment: &Experiment) -> Live {
    let alignment = &experiment.request.alignment;
    let labels = alignment.base[alignment.start..].iter();
    Live {
        job: claim.job.clone(),
        index: claim.index,
        experiment: claim.experiment.clone(),
        model: model.name.clone(),
        entity: experiment.entity.clone(),
        site: Some(experiment.request.site),
        answers: Some(experiment.answers.clone()),
        n_layers: model.network.config.n_layers,
        sentence_start: alignment.start,
        token_labels: labels.map(|&id| model.tokenizer.token(id).text).collect(),
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
    n_layers: usize,
    begin: Instant,
    told_at: Instant,
    /// Columns of which some cells are there.
    partial: BTreeMap<usize, Vec<Option<Reading>>>,
}

impl<'a> Teller<'a> {
    fn new(queue: &'a Queue, claim: &'a Claim, experiment: &Experiment, n_layers: usize) -> Self {
        let columns = experiment.request.positions();
        let begin = Instant::now();
        Self {
            queue,
            claim,
            n_layers,
            begin,
            told_at: begin,
            partial: columns.map(|position| (position, vec![None; n_layers])).collect(),
        }
    }

    fn tell(&mut self, progress: Progress) {
        let (job, index) = (self.claim.job.clone(), self.claim.index);
        match progress {
            Progress::Share(share) if self.told_at.elapsed() >= TELL_EVERY => {
                self.told_at = Instant::now();
                let left = self.begin.elapsed().as_secs_f64() * (1.0 - share) / share;
                let left_secs = left.is_finite().then_some(left);
                self.queue.hub.send(Event::Progress { job, index, share, left_secs });
            }
            Progress::Share(_) => {}
            Progress::Baselines(source, base) => {
                let value = |reading: Reading| Some(reading.logit_diff).filter(|v| v.is_finite());
                let baselines = LiveBaselines { source: value(source), base: value(base) };
                self.queue.hub.send(Event::Baselines { job, index, baselines });
            }
            Progress::Cells(cells) => {
                let columns = self.finished(cells);
                if !columns.is_empty() {
                    self.queue.hub.send(Event::Columns { job, index, columns });
                }
            }
        }
    }

    /// The columns that these cells complete.
    fn finished(&mut self, cells: &[(Cell, Reading)]) -> Vec<Column> {
        for &(Cell { layer, position }, reading) in cells {
            if let Some(column) = self.partial.get_mut(&position) {
                column[layer] = Some(reading);
            }
        }
        let n_layers = self.n_layers;
        let whole = |cells: &[Option<Reading>]| cells.iter().flatten().count() == n_layers;
        let finished: Vec<_> = self.partial.iter().filter(|(_, cells)| whole(cells)).collect();
        let columns: Vec<_> = finished
            .into_iter()
            .map(|(&position, cells)| Column {
                position,
                logit_diff: cells
                    .iter()
                    .map(|cell| cell.map(|c| c.logit_diff).filter(|v| v.is_finite()))
                    .collect(),
            })
            .collect();
        for column in &columns {
            self.partial.remove(&column.position);
        }
        columns
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_string());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("the engine failed: {}", text.as_deref().unwrap_or("it did not say why"))
}
