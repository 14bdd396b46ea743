//! Jobs and their pairs.

use rusqlite::{Connection, OptionalExtension, Row, ToSql, Transaction, params};
use shared::document::Document;
use shared::specification::correspondence::COLUMN;
use shared::specification::pairs::Pair;
use shared::specification::settings::Settings;
use shared::wire::job::{Job, JobDetail, JobPair, Standing, State};

use super::{Present, Result, Store, Wanted, experiments};

/// A job to store.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Who submits it, for taking turns.
    pub client: String,
    /// A name for people.
    pub name: String,
    /// The model's name.
    pub model: String,
    /// What is the same for all pairs.
    pub settings: Settings,
    /// Whether its pairs are computed even where there are results, which are replaced.
    pub again: bool,
    /// When, in UTC.
    pub now: String,
    /// Its pairs.
    pub pairs: Vec<NewPair>,
}

/// A pair to store.
#[derive(Debug, Clone)]
pub struct NewPair {
    /// The row of the table.
    pub pair: Pair,
    /// The id that its result will have.
    pub experiment: String,
}

/// A job that has pairs to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Jobs that came earlier have smaller numbers.
    pub seq: i64,
    /// The job's id.
    pub job: String,
    /// Who submitted it.
    pub client: String,
    /// The model's name.
    pub model: String,
    /// How many of its pairs wait.
    pub n_queued: usize,
}

/// A pair that has been taken out of the queue.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The job's number.
    pub seq: i64,
    /// The job's id.
    pub job: String,
    /// Who submitted it.
    pub client: String,
    /// The model's name.
    pub model: String,
    /// What is the same for all pairs of the job.
    pub settings: Settings,
    /// Which of the job's pairs, from 0.
    pub index: usize,
    /// The row of the table.
    pub pair: Pair,
    /// The id that the result will have.
    pub experiment: String,
    /// Whether it is computed even where there is a result, which is replaced.
    pub again: bool,
    /// How often it was begun since it last came forward, this time included.
    pub n_begun: usize,
}

impl Claim {
    /// What its result must say.
    pub fn wanted(&self) -> Wanted {
        wanted(&self.settings)
    }
}

/// What results of these settings must say.
pub fn wanted(settings: &Settings) -> Wanted {
    Wanted { readout: settings.readout, n_verified: settings.verify }
}

/// What came of a claimed pair.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// It was computed.
    Done(&'a Document),
    /// It has no result.
    Failed(&'a str),
    /// It was broken off because the server stops: it waits again.
    Interrupted,
}

const JOB: &str = "SELECT j.id, j.name, j.model, j.settings, j.state, j.submitted_at, j.started_at,
    j.finished_at, j.n_pairs, j.n_done, j.n_failed,
    CASE WHEN j.state = 'failed' THEN
        (SELECT error FROM pairs WHERE job = j.seq AND state = 'failed' ORDER BY idx LIMIT 1) END
    FROM jobs j";

const PAIR: &str = "SELECT p.idx, p.pair, p.experiment, p.state, p.error
    FROM pairs p JOIN jobs j ON j.seq = p.job";

impl Store {
    /// Puts back what was being run when the last server stopped. Returns the jobs, each with the
    /// number of pairs that were put back.
    ///
    /// # Errors
    /// A store that cannot be written to.
    pub fn recover(&self) -> Result<Vec<Pending>> {
        self.write(|transaction| {
            let sql = "SELECT j.seq, j.id, j.client, j.model, count(*) FROM jobs j
                JOIN pairs p ON p.job = j.seq AND p.state = 'running'
                WHERE j.state IN ('queued', 'running') GROUP BY j.seq ORDER BY j.seq";
            let jobs = pending(transaction, sql)?;
            let sql = "UPDATE pairs SET state = 'queued' WHERE job = ?1 AND state = 'running'";
            for job in &jobs {
                transaction.execute(sql, [job.seq])?;
            }
            Ok(jobs)
        })
    }

    /// Stores a job. Pairs whose results are known are done at once, unless they are to be computed
    /// again. Returns the job with the number of pairs that wait.
    ///
    /// # Errors
    /// A store that cannot be written to.
    pub fn submit(&self, new: &NewJob) -> Result<Pending> {
        self.write(|transaction| {
            let settings = &new.settings;
            let settings_json = serde_json::to_string(settings).expect("settings are plain");
            let sql = "INSERT INTO jobs (id, client, name, model, settings, again, state,
                    submitted_at)
                VALUES (lower(hex(randomblob(10))), ?1, ?2, ?3, ?4, ?5, 'queued', ?6)
                RETURNING seq, id";
            let values =
                params![new.client, new.name, new.model, settings_json, new.again, new.now];
            let (seq, job): (i64, String) = transaction
                .prepare_cached(sql)?
                .query_row(values, |row| Ok((row.get(0)?, row.get(1)?)))?;
            let mut insert = transaction.prepare_cached(
                "INSERT INTO pairs (job, idx, pair, experiment, state) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?;
            let mut n_queued = 0;
            for (index, NewPair { pair, experiment }) in new.pairs.iter().enumerate() {
                let is_done =
                    !new.again && experiments::is_known(transaction, experiment, wanted(settings))?;
                let state = if is_done { State::Done } else { State::Queued };
                n_queued += usize::from(!is_done);
                let pair = serde_json::to_string(pair).expect("a pair is plain");
                insert.execute(params![seq, index, pair, experiment, state.name()])?;
            }
            finish_if_over(transaction, seq, &new.now)?;
            let (client, model) = (new.client.clone(), new.model.clone());
            Ok(Pending { seq, job, client, model, n_queued })
        })
    }

    /// The jobs that have pairs to run, first come first.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn pending(&self) -> Result<Vec<Pending>> {
        self.read(|connection| {
            pending(
                connection,
                "SELECT seq, id, client, model, n_queued FROM jobs
                WHERE state IN ('queued', 'running') AND n_queued > 0 ORDER BY seq",
            )
        })
    }

    /// Whether the database can be read.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn check(&self) -> Result<()> {
        self.read(|connection| {
            Ok(connection.query_row("SELECT EXISTS (SELECT 1 FROM jobs)", [], |_| Ok(()))?)
        })
    }

    /// The rows of a job, in the order of the table; none if there is no such job.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn pairs(&self, job: &str) -> Result<Vec<Pair>> {
        self.read(|connection| {
            let sql = "SELECT p.pair FROM pairs p JOIN jobs j ON j.seq = p.job
                WHERE j.id = ?1 ORDER BY p.idx";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map([job], |row| json(row, 0))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Takes the next pair of a job out of the queue; `None` if it has none any more.
    ///
    /// # Errors
    /// A store that cannot be written to.
    pub fn claim(&self, seq: i64, now: &str) -> Result<Option<Claim>> {
        self.write(|transaction| {
            let sql = "UPDATE pairs SET state = 'running', n_begun = n_begun + 1
                WHERE job = ?1 AND idx =
                    (SELECT min(idx) FROM pairs WHERE job = ?1 AND state = 'queued')
                RETURNING idx, pair, experiment, n_begun";
            let taken = transaction
                .prepare_cached(sql)?
                .query_row([seq], |row| Ok((row.get(0)?, json(row, 1)?, row.get(2)?, row.get(3)?)))
                .optional()?;
            let Some((index, pair, experiment, n_begun)) = taken else { return Ok(None) };
            let sql = "UPDATE jobs SET state = 'running', started_at = coalesce(started_at, ?2)
                WHERE seq = ?1 RETURNING id, client, model, settings, again";
            let claim = transaction.prepare_cached(sql)?.query_row(params![seq, now], |row| {
                Ok(Claim {
                    seq,
                    job: row.get(0)?,
                    client: row.get(1)?,
                    model: row.get(2)?,
                    settings: json(row, 3)?,
                    again: row.get(4)?,
                    index,
                    pair,
                    experiment,
                    n_begun,
                })
            })?;
            Ok(Some(claim))
        })
    }

    /// Whether the result of a claimed pair is there by now and is not to be computed again; then
    /// the pair is done.
    ///
    /// # Errors
    /// A store that cannot be written to.
    pub fn finish_if_known(&self, claim: &Claim, now: &str) -> Result<bool> {
        self.write(|transaction| {
            let known = !claim.again
                && is_running(transaction, claim)?
                && experiments::is_known(transaction, &claim.experiment, claim.wanted())?;
            if known {
                set_pair(transaction, claim, State::Done, None)?;
                finish_if_over(transaction, claim.seq, now)?;
            }
            Ok(known)
        })
    }

    /// Stores what came of a claimed pair: the result and that it is there, in one step. Nothing is
    /// stored if the pair was cancelled meanwhile.
    ///
    /// # Errors
    /// A store that cannot be written to; then nothing has changed.
    pub fn finish(&self, claim: &Claim, outcome: &Outcome, now: &str) -> Result<()> {
        self.write(|transaction| {
            if !is_running(transaction, claim)? {
                return Ok(());
            }
            match outcome {
                Outcome::Done(document) => {
                    let present = if claim.again { Present::Replace } else { Present::Keep };
                    experiments::put(transaction, document, present)?;
                    set_pair(transaction, claim, State::Done, None)?;
                }
                Outcome::Failed(why) => set_pair(transaction, claim, State::Failed, Some(why))?,
                Outcome::Interrupted => {
                    // It was not the pair's fault.
                    let sql = "UPDATE pairs SET state = 'queued', n_begun = n_begun - 1
                        WHERE job = ?1 AND idx = ?2";
                    transaction.execute(sql, params![claim.seq, claim.index])?;
                }
            }
            finish_if_over(transaction, claim.seq, now)
        })
    }

    /// Cancels what is not finished of a job. Returns whether there was anything; `None` if there
    /// is no such job.
    ///
    /// # Errors
    /// A store that cannot be written to.
    pub fn cancel(&self, id: &str, now: &str) -> Result<Option<bool>> {
        self.write(|transaction| {
            let Some(seq) = seq_of(transaction, id)? else { return Ok(None) };
            let sql = "UPDATE pairs SET state = 'cancelled'
                WHERE job = ?1 AND state IN ('queued', 'running')";
            transaction.execute(sql, [seq])?;
            let sql = "UPDATE jobs SET state = 'cancelled', finished_at = ?2
                WHERE seq = ?1 AND state IN ('queued', 'running')";
            Ok(Some(transaction.execute(sql, params![seq, now])? > 0))
        })
    }

    /// Removes a job from the list; its results stay. Returns whether it was there.
    ///
    /// # Errors
    /// A store that cannot be written to.
    pub fn delete_job(&self, id: &str) -> Result<bool> {
        self.write(|transaction| {
            Ok(transaction.execute("DELETE FROM jobs WHERE id = ?1", [id])? > 0)
        })
    }

    /// A job and its pairs.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn job(&self, id: &str) -> Result<Option<JobDetail>> {
        self.read(|connection| {
            let Some(job) = jobs(connection, "WHERE j.id = ?1", &[&id])?.pop() else {
                return Ok(None);
            };
            let pairs = pairs(connection, "WHERE j.id = ?1 ORDER BY p.idx", &[&id])?;
            Ok(Some(JobDetail { job, pairs }))
        })
    }

    /// A job without its pairs, of which none is read.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn job_row(&self, id: &str) -> Result<Option<Job>> {
        self.read(|connection| Ok(jobs(connection, "WHERE j.id = ?1", &[&id])?.pop()))
    }

    /// One pair of a job.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn pair(&self, id: &str, index: usize) -> Result<Option<JobPair>> {
        self.read(|connection| {
            let pairs = pairs(connection, "WHERE j.id = ?1 AND p.idx = ?2", &[&id, &index])?;
            Ok(pairs.into_iter().next())
        })
    }

    /// Where an experiment is.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn standing(&self, experiment: &str) -> Result<Standing> {
        self.read(|connection| {
            let sql =
                "SELECT EXISTS (SELECT 1 FROM experiments WHERE id = ?1 AND deleted_at IS NULL)";
            let stored = connection.query_row(sql, [experiment], |row| row.get(0))?;
            let sql = "SELECT j.id, p.idx FROM pairs p JOIN jobs j ON j.seq = p.job
                WHERE p.experiment = ?1
                ORDER BY p.state IN ('queued', 'running') DESC, p.job DESC, p.idx LIMIT 1";
            let found: Option<(String, usize)> = connection
                .query_row(sql, [experiment], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let Some((id, index)) = found else {
                return Ok(Standing { stored, ..Default::default() });
            };
            let job = jobs(connection, "WHERE j.id = ?1", &[&id])?.pop();
            let pair = pairs(connection, "WHERE j.id = ?1 AND p.idx = ?2", &[&id, &index])?.pop();
            Ok(Standing { stored, job, pair })
        })
    }

    /// Jobs, the newest first; of all states or of one.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn jobs(&self, state: Option<State>, page: super::Page) -> Result<Vec<Job>> {
        let state = state.map(State::name);
        self.read(|connection| {
            let rest = "WHERE ?1 IS NULL OR j.state = ?1 ORDER BY j.seq DESC LIMIT ?2 OFFSET ?3";
            jobs(connection, rest, &[&state, &page.limit, &page.offset])
        })
    }

    /// The jobs that are not finished, first come first.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn active_jobs(&self, limit: usize) -> Result<Vec<Job>> {
        self.read(|connection| {
            let rest = "WHERE j.state IN ('queued', 'running') ORDER BY j.seq LIMIT ?1";
            jobs(connection, rest, &[&limit])
        })
    }
}

fn pending(connection: &Connection, sql: &str) -> Result<Vec<Pending>> {
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| {
        Ok(Pending {
            seq: row.get(0)?,
            job: row.get(1)?,
            client: row.get(2)?,
            model: row.get(3)?,
            n_queued: row.get(4)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn jobs(connection: &Connection, rest: &str, values: &[&dyn ToSql]) -> Result<Vec<Job>> {
    let mut statement = connection.prepare_cached(&format!("{JOB} {rest}"))?;
    let rows = statement.query_map(values, |row| {
        Ok(Job {
            id: row.get(0)?,
            name: row.get(1)?,
            model: row.get(2)?,
            settings: json(row, 3)?,
            state: state(row, 4)?,
            submitted_at: row.get(5)?,
            started_at: row.get(6)?,
            finished_at: row.get(7)?,
            n_pairs: row.get(8)?,
            n_done: row.get(9)?,
            n_failed: row.get(10)?,
            error: row.get(11)?,
            n_ahead: None,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn pairs(connection: &Connection, rest: &str, values: &[&dyn ToSql]) -> Result<Vec<JobPair>> {
    let mut statement = connection.prepare_cached(&format!("{PAIR} {rest}"))?;
    let rows = statement.query_map(values, |row| {
        let mut pair: Pair = json(row, 1)?;
        Ok(JobPair {
            index: row.get(0)?,
            line: pair.line,
            entity: pair.entity,
            source: pair.source,
            base: pair.base,
            by_hand: pair.cells.remove(COLUMN),
            experiment: row.get(2)?,
            state: state(row, 3)?,
            error: row.get(4)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn seq_of(transaction: &Transaction, id: &str) -> Result<Option<i64>> {
    let sql = "SELECT seq FROM jobs WHERE id = ?1";
    Ok(transaction.query_row(sql, [id], |row| row.get(0)).optional()?)
}

/// Whether a claimed pair was neither cancelled nor removed meanwhile.
fn is_running(transaction: &Transaction, claim: &Claim) -> Result<bool> {
    let sql = "SELECT EXISTS
        (SELECT 1 FROM pairs WHERE job = ?1 AND idx = ?2 AND state = 'running')";
    let mut statement = transaction.prepare_cached(sql)?;
    Ok(statement.query_row(params![claim.seq, claim.index], |row| row.get(0))?)
}

fn set_pair(
    transaction: &Transaction,
    claim: &Claim,
    state: State,
    error: Option<&str>,
) -> Result<()> {
    transaction
        .prepare_cached("UPDATE pairs SET state = ?3, error = ?4 WHERE job = ?1 AND idx = ?2")?
        .execute(params![claim.seq, claim.index, state.name(), error])?;
    Ok(())
}

/// Gives a job its last state once none of its pairs is left.
fn finish_if_over(transaction: &Transaction, seq: i64, now: &str) -> Result<()> {
    let sql = "UPDATE jobs SET finished_at = ?2, state =
            CASE WHEN EXISTS (SELECT 1 FROM pairs WHERE job = ?1 AND state = 'done')
            THEN 'done' ELSE 'failed' END
        WHERE seq = ?1 AND state IN ('queued', 'running') AND NOT EXISTS
            (SELECT 1 FROM pairs WHERE job = ?1 AND state IN ('queued', 'running'))";
    transaction.prepare_cached(sql)?.execute(params![seq, now])?;
    Ok(())
}

/// A column that holds JSON which this program has written.
fn json<T: serde::de::DeserializeOwned>(row: &Row, column: usize) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(
            column,
            rusqlite::types::Type::Text,
            Box::new(error),
        )
    })
}

fn state(row: &Row, column: usize) -> rusqlite::Result<State> {
    row.get_ref(column)?.as_str()?.parse().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(
            column,
            rusqlite::types::Type::Text,
            Box::new(error),
        )
    })
}
