//! The queue: what is submitted is checked at once, waits its turn, and is swept by one of the
//! workers, a thread for each device and for each model on a server.

mod board;
mod events;
mod fair;
mod intake;
mod live;
mod local;
mod offered;
mod partial;
mod ready;
mod remote;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use shared::wire::event::Event;
use shared::wire::job::{Job, JobDetail, Preview, Submission};
use shared::wire::listing::{Limits, ModelInfo};

use self::fair::Lanes;
use self::offered::{Engine, Offered};
use crate::model::{Model, ModelError};
use crate::ndif::Remote;
use crate::store::{NewJob, Store, StoreError};
use crate::sweep::unpatched_bytes;

pub use board::N_LISTED_JOBS;
pub use events::{EventLog, Resumed, Sent};
pub use intake::{IntakeError, PREVIEW_PAIRS, rows as bad_rows};

/// How the queue works.
#[derive(Debug, Clone, Copy)]
pub struct QueueSettings {
    /// What is refused beyond.
    pub limits: Limits,
    /// The most memory of a sweep beyond the weights, in bytes.
    pub n_memory_bytes: usize,
    /// The same of a preview; see [`Self::with_memory`].
    pub n_preview_bytes: usize,
    /// In how many passes a sweep is run, so that its columns come one after the other; `None` for as
    /// many as cost no time.
    pub n_passes: Option<usize>,
    /// After how much computing the passes that are finished are stored, so that no interruption
    /// costs more than that and a pass.
    pub keep_every: Duration,
    /// How long a server is left alone on which a model could not be opened.
    pub reopen_every: Duration,
    /// How long a deleted experiment can be restored.
    pub n_kept_days: u32,
    /// How often what was deleted longer ago is forgotten.
    pub purge_every: Duration,
}

impl QueueSettings {
    /// Divides `n_bytes` beyond the weights between sweeps and previews, which run beside them: a
    /// preview gets what the unpatched runs of the longest prompts need, but at most a quarter.
    pub fn with_memory<'a>(
        self,
        models: impl IntoIterator<Item = &'a Model>,
        n_bytes: usize,
    ) -> Self {
        let resident = models.into_iter().filter(|model| !model.network.is_streamed());
        let n_tokens =
            |model: &Model| self.limits.n_prompt_tokens.min(model.network.config.n_context);
        let needed = resident
            .map(|model| unpatched_bytes(&model.network, n_tokens(model)))
            .max()
            .unwrap_or(0);
        let n_preview_bytes = needed.min(n_bytes / 4);
        Self { n_memory_bytes: n_bytes - n_preview_bytes, n_preview_bytes, ..self }
    }
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            limits: Limits {
                n_body_bytes: 4 << 20,
                n_import_bytes: 64 << 20,
                n_pairs: 5_000,
                n_cell_bytes: 16 << 10,
                n_prompt_tokens: 1_024,
                n_queued_pairs: 20_000,
                n_verified: 200,
            },
            n_memory_bytes: 1 << 30,
            n_preview_bytes: 256 << 20,
            n_passes: None,
            keep_every: Duration::from_secs(5),
            reopen_every: Duration::from_secs(30),
            n_kept_days: 7,
            purge_every: Duration::from_secs(60 * 60),
        }
    }
}

/// The queue and everything that it works with.
pub struct Queue {
    store: Arc<Store>,
    models: Vec<Offered>,
    settings: QueueSettings,
    events: EventLog,
    /// Never held while the store is asked: a slow disk must not keep anybody from looking.
    state: Mutex<State>,
    /// Held by the preview that runs: the memory is enough for one.
    previewing: Mutex<()>,
    wake: Condvar,
    stopping: AtomicBool,
    counters: Counters,
}

#[derive(Default)]
struct State {
    turns: Lanes,
    running: Vec<Running>,
    /// How many pairs were taken by now.
    n_claimed: u64,
    /// Pairs that failed together with others, by job and index: whose fault it was shows when each
    /// is run alone.
    alone: BTreeSet<(String, usize)>,
    /// Why the queue stands still.
    stalled: Option<String>,
    /// What was told of each job that is not finished.
    told: BTreeMap<String, Job>,
    told_at: Option<Instant>,
    purged_at: Option<Instant>,
}

/// A pair that is being run.
struct Running {
    job: String,
    lane: usize,
    cancelled: Arc<AtomicBool>,
}

/// What happened since the start, for the metrics.
#[derive(Debug, Default)]
pub struct Counters {
    /// Pairs with a new result.
    pub n_done: AtomicU64,
    /// Pairs whose result was there already.
    pub n_reused: AtomicU64,
    /// Pairs without a result.
    pub n_failed: AtomicU64,
    /// Milliseconds spent sweeping.
    pub sweep_millis: AtomicU64,
}

impl Queue {
    /// A queue with one worker over `store`, which goes on with what an earlier one left once it
    /// works. It waits until all of the models' files have been read, since results are found by
    /// what is in them.
    ///
    /// # Errors
    /// A store that cannot be read; files that cannot be read, or that were changed since the model
    /// was opened.
    pub fn new(
        store: Arc<Store>,
        models: Vec<Model>,
        settings: QueueSettings,
    ) -> Result<Self, OpenError> {
        let models = models.into_iter().map(|model| vec![Arc::new(model)]).collect();
        Self::with_workers(store, models, Vec::new(), settings)
    }

    /// The same with several workers: `models` holds of each model what each worker sweeps, as many
    /// of all, and all opened from the same files. Models on servers, `remotes`, have a worker each
    /// beside those, which also opens those that are not.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn with_workers(
        store: Arc<Store>,
        models: Vec<Vec<Arc<Model>>>,
        remotes: Vec<Remote>,
        settings: QueueSettings,
    ) -> Result<Self, OpenError> {
        let turns = Lanes::new(remotes.iter().map(Remote::name));
        let mut state = State { turns, ..State::default() };
        store.pending()?.into_iter().for_each(|job| state.turns.add(job));
        Ok(Self {
            store,
            models: models
                .into_iter()
                .map(Offered::here)
                .chain(remotes.into_iter().map(|remote| Ok(Offered::on_ndif(remote))))
                .collect::<Result<_, _>>()?,
            settings,
            events: EventLog::new(),
            state: Mutex::new(state),
            previewing: Mutex::default(),
            wake: Condvar::new(),
            stopping: AtomicBool::new(false),
            counters: Counters::default(),
        })
    }

    /// Where results are.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// What is told while sweeps run.
    pub fn events(&self) -> &EventLog {
        &self.events
    }

    /// What is refused beyond.
    pub fn limits(&self) -> &Limits {
        &self.settings.limits
    }

    /// What happened since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The models to choose from, the default first; without those that could not be opened yet.
    pub fn models(&self) -> Vec<ModelInfo> {
        self.models.iter().filter_map(|offered| offered.info().cloned()).collect()
    }

    /// The model of that name; without one the default.
    fn offered(&self, name: Option<&str>) -> Option<&Offered> {
        match name {
            None => self.models.first(),
            Some(name) => self.models.iter().find(|offered| offered.name() == name),
        }
    }

    /// Shows what a submission would do. Takes as long as both unpatched runs of a few pairs, unless
    /// `is_cancelled` turns true.
    ///
    /// # Errors
    /// What is wrong with the submission, every bad row.
    pub fn preview(
        &self,
        submission: &Submission,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<Preview, IntakeError> {
        intake::preview(self, submission, is_cancelled)
    }

    /// Checks a submission and puts it into the queue. The same pair is the same experiment: one
    /// that has a result is done at once, unless it is to be computed again. Nothing is submitted if
    /// `is_cancelled` turns true before everything is checked.
    ///
    /// # Errors
    /// What is wrong with the submission, every bad row; a full queue; a store that cannot be
    /// written to.
    pub fn submit(
        &self,
        submission: Submission,
        client: &str,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<JobDetail, IntakeError> {
        if let Some(why) = self.store.why_read_only() {
            return Err(StoreError::ReadOnly(why.to_string()).into());
        }
        let (offered, pairs) = intake::check(self, &submission, is_cancelled)?;
        let n_waiting = self.n_queued();
        let limit = self.settings.limits.n_queued_pairs;
        if n_waiting + pairs.len() > limit {
            return Err(IntakeError::QueueFull { n_waiting, n_new: pairs.len(), limit });
        }
        let pending = self.store.submit(&NewJob {
            client: client.to_string(),
            name: submission.name.unwrap_or_default(),
            model: offered.name().to_string(),
            settings: submission.settings,
            again: submission.again,
            now: now(),
            pairs,
        })?;
        let id = pending.job.clone();
        self.state().turns.add(pending);
        let detail =
            self.job(&id)?.ok_or(StoreError::Sqlite(rusqlite::Error::QueryReturnedNoRows))?;
        self.events.send(Event::Job { job: detail.job.clone() });
        self.wake.notify_all();
        Ok(detail)
    }

    /// Cancels a job. What is being run stops at its next step. Returns the job as it is then, and
    /// `None` if there is no such job.
    ///
    /// # Errors
    /// A store that cannot be written to.
    pub fn cancel(&self, id: &str) -> Result<Option<JobDetail>, StoreError> {
        let Some(changed) = self.store.cancel(id, &now())? else { return Ok(None) };
        self.drop_job(id);
        let detail = self.job(id)?;
        if let (true, Some(detail)) = (changed, &detail) {
            self.events.send(Event::Job { job: detail.job.clone() });
        }
        Ok(detail)
    }

    /// Cancels a job and removes it from the list; its results stay. Returns whether it was there.
    ///
    /// # Errors
    /// A store that cannot be written to.
    pub fn remove_job(&self, id: &str) -> Result<bool, StoreError> {
        let was_there = self.store.cancel(id, &now())?.is_some();
        self.drop_job(id);
        if was_there {
            self.store.delete_job(id)?;
            self.events.send(Event::JobRemoved { id: id.to_string() });
        }
        Ok(was_there)
    }

    /// Takes a cancelled job out of the queue, and stops it if it is being run.
    fn drop_job(&self, id: &str) {
        let mut state = self.state();
        state.turns.remove(id);
        state.alone.retain(|(job, _)| job != id);
        for running in state.running.iter().filter(|running| running.job == id) {
            running.cancelled.store(true, Ordering::Relaxed);
        }
        drop(state);
        // A queue that waits for room on the disk is woken, too.
        self.wake.notify_all();
    }

    /// Asks the workers to stop at their next steps and to put back what they are at.
    pub fn stop(&self) {
        // Under the lock, so that no worker is between looking at it and going to sleep.
        let state = self.state();
        self.stopping.store(true, Ordering::Relaxed);
        drop(state);
        self.wake.notify_all();
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Why the queue stands still; `None` while it works. Waits for no disk.
    pub fn stalled(&self) -> Option<String> {
        self.state().stalled.clone()
    }

    /// How many pairs wait.
    pub fn n_queued(&self) -> usize {
        self.state().turns.n_queued()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time in UTC, `2026-01-31T12:00:00Z`.
pub fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// Makes sure that people can tell models of these names apart.
///
/// # Errors
/// Two of one name.
pub fn check_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<(), SameName> {
    let mut names: Vec<_> = names.into_iter().collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(SameName(pair[0].to_string())),
        None => Ok(()),
    }
}

/// What keeps a queue from being opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A model's files.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Two models of one name.
#[derive(Debug, thiserror::Error)]
#[error("two models have the name `{0}`: rename one, so that people can choose")]
pub struct SameName(String);

#[cfg(test)]
mod tests;
