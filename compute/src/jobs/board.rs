//! What is told of jobs: rows, places in the queue, and which of them changed.

use std::time::{Duration, Instant};

use shared::wire::event::Event;
use shared::wire::job::{Job, JobDetail, Standing, State};

use super::Queue;
use crate::store::{Page, StoreError};

/// The most jobs that a list or a snapshot holds.
pub const N_LISTED_JOBS: usize = 100;
/// How often positions in the queue are told again while nothing else happens to a job.
const POSITIONS_EVERY: Duration = Duration::from_secs(1);

impl Queue {
    /// A job, its place in the queue and its pairs.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn job(&self, id: &str) -> Result<Option<JobDetail>, StoreError> {
        let Some(mut detail) = self.store.job(id)? else { return Ok(None) };
        self.place(std::slice::from_mut(&mut detail.job));
        Ok(Some(detail))
    }

    /// A job and its place in the queue, without its pairs.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn job_row(&self, id: &str) -> Result<Option<Job>, StoreError> {
        let Some(mut job) = self.store.job_row(id)? else { return Ok(None) };
        self.place(std::slice::from_mut(&mut job));
        Ok(Some(job))
    }

    /// Jobs, the newest first, with their places in the queue.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn jobs(&self, state: Option<State>, page: Page) -> Result<Vec<Job>, StoreError> {
        let mut jobs = self.store.jobs(state, page)?;
        self.place(&mut jobs);
        Ok(jobs)
    }

    /// Where an experiment is, with its job's place in the queue.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn standing(&self, experiment: &str) -> Result<Standing, StoreError> {
        let mut standing = self.store.standing(experiment)?;
        if let Some(job) = &mut standing.job {
            self.place(std::slice::from_mut(job));
        }
        Ok(standing)
    }

    /// The jobs that are not finished, first come first, with their places in the queue.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn active_jobs(&self) -> Result<Vec<Job>, StoreError> {
        let mut jobs = self.store.active_jobs(N_LISTED_JOBS)?;
        self.place(&mut jobs);
        Ok(jobs)
    }

    /// Fills in how many pairs run before each job's next one.
    fn place(&self, jobs: &mut [Job]) {
        let state = self.state();
        for job in jobs {
            let lane = state.turns.of(&job.model);
            let is_running = state.running.iter().any(|running| running.job == job.id);
            let n_running = state.running.iter().filter(|running| running.lane == lane).count();
            job.n_ahead = match state.turns.ahead(&job.id) {
                Some(n) if !is_running => Some(n + n_running),
                _ => None,
            };
        }
    }

    /// Tells of a job, and now and then of all others whose places have changed. Costs the same
    /// however many pairs the job has.
    pub(super) fn announce(&self, id: &str) -> Result<(), StoreError> {
        let is_time = {
            let mut state = self.state();
            let is_time = state.told_at.is_none_or(|at| at.elapsed() >= POSITIONS_EVERY);
            if is_time {
                state.told_at = Some(Instant::now());
            }
            is_time
        };
        if let Some(job) = self.job_row(id)? {
            self.state().told.insert(id.to_string(), job.clone());
            self.events.send(Event::Job { job });
        }
        if is_time {
            let active = self.active_jobs()?;
            let mut state = self.state();
            let changed: Vec<_> =
                active.iter().filter(|job| state.told.get(&job.id) != Some(job)).cloned().collect();
            state.told = active.into_iter().map(|job| (job.id.clone(), job)).collect();
            drop(state);
            changed.into_iter().for_each(|job| self.events.send(Event::Job { job }));
        }
        Ok(())
    }
}
