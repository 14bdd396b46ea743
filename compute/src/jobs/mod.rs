//! The queue: what is submitted is checked at once, waits its turn, and is swept by one thread.

mod fair;
mod hub;
mod intake;
mod worker;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use shared::event::Event;
use shared::job::{Job, JobDetail, Preview, Standing, Submission};
use shared::listing::{Limits, ModelInfo};

use crate::model::{Model, ModelError};
use crate::store::{NewJob, Page, Store, StoreError};
use crate::study::Experiment;
use crate::sweep::{Division, Program, SweepError};

pub use hub::{Hub, Resumed, Sent};
pub use intake::{IntakeError, PREVIEW_PAIRS, rows as bad_rows};

/// How the queue works.
#[derive(Debug, Clone, Copy)]
pub struct QueueSettings {
    /// What is refused beyond.
    pub limits: Limits,
    /// The most memory of a sweep beyond the weights, in bytes.
    pub n_memory_bytes: usize,
    /// In how many passes a sweep is run, so that its columns come one after the other.
    pub n_passes: usize,
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
            n_passes: 4,
        }
    }
}

/// The most jobs that a list or a snapshot holds.
pub const N_LISTED_JOBS: usize = 100;
/// How often positions in the queue are told again while nothing else happens to a job.
const POSITIONS_EVERY: Duration = Duration::from_secs(1);

/// The queue and everything that it works with.
pub struct Queue {
    store: Arc<Store>,
    models: Vec<Arc<Model>>,
    /// The models as clients see them.
    offered: Vec<ModelInfo>,
    settings: QueueSettings,
    hub: Hub,
    turn: Mutex<Turn>,
    wake: Condvar,
    stopping: AtomicBool,
    /// Operations a second, as the bits of an f64; 0 while nothing was measured.
    speed: AtomicU64,
    counters: Counters,
}

/// Whose turn it is.
#[derive(Default)]
struct Turn {
    /// When each client's pair was taken last, counted in pairs.
    served: HashMap<String, u64>,
    n_taken: u64,
    running: Option<Running>,
    /// Why the queue stands still.
    stalled: Option<String>,
    /// What was told of each job that is not finished.
    told: BTreeMap<String, Job>,
    told_at: Option<Instant>,
}

/// The pair that is being run.
struct Running {
    job: String,
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

/// A model as clients see it.
fn offered(model: &Model) -> Result<ModelInfo, ModelError> {
    let config = &model.network.config;
    Ok(ModelInfo {
        name: model.name.clone(),
        architecture: config.architecture.to_string(),
        fingerprint: model.fingerprint.get()?.to_string(),
        weights_dtype: model.weights_dtype.clone(),
        n_layers: config.n_layers,
        d_model: config.d_model,
        d_vocab: config.d_vocab,
        n_context: config.n_context,
    })
}

impl Queue {
    /// A queue over `store`, which goes on with what an earlier one left once it works. It waits
    /// until all of the models' files have been read, since results are found by what is in them.
    ///
    /// # Errors
    /// Files that cannot be read, or that were changed since the model was opened.
    pub fn new(
        store: Arc<Store>,
        models: Vec<Model>,
        settings: QueueSettings,
    ) -> Result<Self, ModelError> {
        Ok(Self {
            store,
            offered: models.iter().map(offered).collect::<Result<_, _>>()?,
            models: models.into_iter().map(Arc::new).collect(),
            settings,
            hub: Hub::new(),
            turn: Mutex::default(),
            wake: Condvar::new(),
            stopping: AtomicBool::new(false),
            speed: AtomicU64::new(0),
            counters: Counters::default(),
        })
    }

    /// Where results are.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// What is told while sweeps run.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// What is refused beyond.
    pub fn limits(&self) -> &Limits {
        &self.settings.limits
    }

    /// What happened since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The models to choose from, the default first.
    pub fn models(&self) -> Vec<ModelInfo> {
        self.offered.clone()
    }

    /// The model of that name; without one the default.
    fn model(&self, name: Option<&str>) -> Option<&Arc<Model>> {
        match name {
            None => self.models.first(),
            Some(name) => self.models.iter().find(|model| model.name == name),
        }
    }

    /// Shows what a submission would do. Takes as long as both unpatched runs of a few pairs.
    ///
    /// # Errors
    /// What is wrong with the submission, every bad row.
    pub fn preview(&self, submission: &Submission) -> Result<Preview, IntakeError> {
        intake::preview(self, submission)
    }

    /// Checks a submission and puts it into the queue. The same pair is the same experiment: one
    /// that has a result is done at once.
    ///
    /// # Errors
    /// What is wrong with the submission, every bad row; a full queue; a store that cannot be
    /// written to.
    pub fn submit(&self, submission: Submission, client: &str) -> Result<JobDetail, IntakeError> {
        if let Some(why) = self.store.why_read_only() {
            return Err(StoreError::ReadOnly(why.to_string()).into());
        }
        let (model, pairs) = intake::check(self, &submission)?;
        let n_waiting: usize = self.store.pending()?.iter().map(|job| job.n_queued).sum();
        let limit = self.settings.limits.n_queued_pairs;
        if n_waiting + pairs.len() > limit {
            return Err(IntakeError::QueueFull { n_waiting, n_new: pairs.len(), limit });
        }
        let id = self.store.submit(&NewJob {
            client: client.to_string(),
            name: submission.name.unwrap_or_default(),
            model: model.name.clone(),
            settings: submission.settings,
            now: now(),
            pairs,
        })?;
        let detail =
            self.job(&id)?.ok_or(StoreError::Sqlite(rusqlite::Error::QueryReturnedNoRows))?;
        self.hub.send(Event::Job { job: detail.job.clone() });
        self.wake.notify_all();
        Ok(detail)
    }

    /// A job, its place in the queue and its pairs.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn job(&self, id: &str) -> Result<Option<JobDetail>, StoreError> {
        let Some(mut detail) = self.store.job(id)? else { return Ok(None) };
        self.place(std::slice::from_mut(&mut detail.job))?;
        Ok(Some(detail))
    }

    /// Jobs, the newest first, with their places in the queue.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn jobs(
        &self,
        state: Option<shared::job::State>,
        page: Page,
    ) -> Result<Vec<Job>, StoreError> {
        let mut jobs = self.store.jobs(state, page)?;
        self.place(&mut jobs)?;
        Ok(jobs)
    }

    /// Where an experiment is, with its job's place in the queue.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn standing(&self, experiment: &str) -> Result<Standing, StoreError> {
        let mut standing = self.store.standing(experiment)?;
        if let Some(job) = &mut standing.job {
            self.place(std::slice::from_mut(job))?;
        }
        Ok(standing)
    }

    /// The jobs that are not finished, first come first, with their places in the queue.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn active_jobs(&self) -> Result<Vec<Job>, StoreError> {
        let mut jobs = self.store.active_jobs(N_LISTED_JOBS)?;
        self.place(&mut jobs)?;
        Ok(jobs)
    }

    /// How an experiment is carried out: in several waves, so that its columns come one after the
    /// other, unless each would read the weights anew.
    fn compile(&self, model: &Model, experiment: &Experiment) -> Result<Program, SweepError> {
        let n_waves = if model.network.is_streamed() { 1 } else { self.settings.n_passes };
        let n_verified = experiment.settings.verify;
        let division =
            Division { n_waves, n_verified, ..Division::within(self.settings.n_memory_bytes) };
        Program::new(&model.network.config, &[&experiment.specification], &division)
    }

    /// Fills in how many pairs run before each job's next one.
    fn place(&self, jobs: &mut [Job]) -> Result<(), StoreError> {
        if jobs.iter().all(|job| job.state.is_final()) {
            return Ok(());
        }
        let pending = self.store.pending()?;
        let turn = self.turn();
        let ahead = fair::ahead(&pending, &turn.served);
        for job in jobs {
            let is_running = turn.running.as_ref().is_some_and(|running| running.job == job.id);
            job.n_ahead = match ahead.get(&job.id) {
                _ if is_running => None,
                Some(n) => Some(n + usize::from(turn.running.is_some())),
                None => None,
            };
        }
        Ok(())
    }

    /// Cancels a job. What is being run stops at its next step. Returns the job as it is then, and
    /// `None` if there is no such job.
    ///
    /// # Errors
    /// A store that cannot be written to.
    pub fn cancel(&self, id: &str) -> Result<Option<JobDetail>, StoreError> {
        let Some(changed) = self.store.cancel(id, &now())? else { return Ok(None) };
        self.stop_running(id);
        let detail = self.job(id)?;
        if let (true, Some(detail)) = (changed, &detail) {
            self.hub.send(Event::Job { job: detail.job.clone() });
        }
        Ok(detail)
    }

    /// Cancels a job and removes it from the list; its results stay. Returns whether it was there.
    ///
    /// # Errors
    /// A store that cannot be written to.
    pub fn remove_job(&self, id: &str) -> Result<bool, StoreError> {
        let was_there = self.store.cancel(id, &now())?.is_some();
        self.stop_running(id);
        if was_there {
            self.store.delete_job(id)?;
            self.hub.send(Event::JobRemoved { id: id.to_string() });
        }
        Ok(was_there)
    }

    fn stop_running(&self, id: &str) {
        if let Some(running) = self.turn().running.as_ref().filter(|running| running.job == id) {
            running.cancelled.store(true, Ordering::Relaxed);
        }
        // A queue that waits for room on the disk is woken, too.
        self.wake.notify_all();
    }

    /// Asks the worker to stop at its next step and to put back what it is at.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.wake.notify_all();
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Why the queue stands still; `None` while it works.
    pub fn stalled(&self) -> Option<String> {
        self.turn().stalled.clone()
    }

    /// How many pairs wait.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn n_queued(&self) -> Result<usize, StoreError> {
        Ok(self.store.pending()?.iter().map(|job| job.n_queued).sum())
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Operations a second; `None` while nothing was measured.
    fn speed(&self) -> Option<f64> {
        Some(f64::from_bits(self.speed.load(Ordering::Relaxed))).filter(|speed| *speed > 0.0)
    }

    fn set_speed(&self, operations: f64, secs: f64) {
        if operations > 0.0 && secs > 0.0 {
            self.speed.store((operations / secs).to_bits(), Ordering::Relaxed);
        }
    }

    /// Tells of a job, and now and then of all others whose places have changed.
    fn announce(&self, id: &str) -> Result<(), StoreError> {
        let is_time = {
            let mut turn = self.turn();
            let is_time = turn.told_at.is_none_or(|at| at.elapsed() >= POSITIONS_EVERY);
            if is_time {
                turn.told_at = Some(Instant::now());
            }
            is_time
        };
        if let Some(detail) = self.job(id)? {
            self.turn().told.insert(id.to_string(), detail.job.clone());
            self.hub.send(Event::Job { job: detail.job });
        }
        if is_time {
            let active = self.active_jobs()?;
            let mut turn = self.turn();
            let changed: Vec<_> =
                active.iter().filter(|job| turn.told.get(&job.id) != Some(job)).cloned().collect();
            turn.told = active.into_iter().map(|job| (job.id.clone(), job)).collect();
            drop(turn);
            changed.into_iter().for_each(|job| self.hub.send(Event::Job { job }));
        }
        Ok(())
    }
}

/// The time in UTC, `2026-01-31T12:00:00Z`.
pub fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// Makes sure that people can tell the models apart.
///
/// # Errors
/// Two of one name.
pub fn check_names(models: &[Model]) -> Result<(), SameName> {
    let mut names: Vec<_> = models.iter().map(|model| &*model.name).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(SameName(pair[0].to_string())),
        None => Ok(()),
    }
}

/// Two models of one name.
#[derive(Debug, thiserror::Error)]
#[error("two models have the name `{0}`: rename one, so that people can choose")]
pub struct SameName(String);
