//! Forgetting what was deleted, and giving its room back to the disk.

use std::sync::PoisonError;

use rusqlite::Connection;

use super::{Result, Store};

/// How many documents are removed in one transaction, so that nobody waits long for the next.
const N_DOCUMENTS: usize = 64;
/// How many pages are given back in one.
const N_PAGES: usize = 512;
/// SQLite's number of the mode in which a file can shrink page by page.
const INCREMENTAL: i64 = 2;

impl Store {
    /// Forgets what was deleted longer ago than `n_days` and what jobs that ended before then have left
    /// unfinished, and shrinks the file. Returns how many experiments were forgotten.
    ///
    /// # Errors
    /// A store that cannot be written to.
    pub fn purge(&self, n_days: u32) -> Result<usize> {
        let mut n_forgotten = 0;
        loop {
            let n = self.write(|transaction| {
                let sql = "DELETE FROM experiments WHERE seq IN (SELECT seq FROM experiments
                    WHERE deleted_at <= unixepoch() - ?1 * 86400 LIMIT ?2)";
                Ok(transaction.execute(sql, [n_days as usize, N_DOCUMENTS])?)
            })?;
            n_forgotten += n;
            if n < N_DOCUMENTS {
                break;
            }
        }
        self.write(|transaction| {
            let sql = "DELETE FROM partials WHERE job IN (SELECT seq FROM jobs
                WHERE unixepoch(finished_at) <= unixepoch() - ?1 * 86400)";
            Ok(transaction.execute(sql, [n_days as usize])?)
        })?;
        self.shrink()?;
        Ok(n_forgotten)
    }

    /// Gives pages that hold nothing back to the disk.
    fn shrink(&self) -> Result<()> {
        let Some(writer) = &self.writer else { return Ok(()) };
        let lock = || writer.lock().unwrap_or_else(PoisonError::into_inner);
        let n_free = |connection: &Connection| -> Result<usize> {
            Ok(connection.pragma_query_value(None, "freelist_count", |row| row.get(0))?)
        };
        let mut n_before = usize::MAX;
        loop {
            let connection = lock();
            let n = n_free(&connection)?;
            if n == 0 || n >= n_before {
                break;
            }
            n_before = n;
            // It gives a row for each page.
            let mut statement =
                connection.prepare(&format!("PRAGMA incremental_vacuum({N_PAGES})"))?;
            let mut rows = statement.query([])?;
            while rows.next()?.is_some() {}
        }
        // The file itself shrinks when the log goes into it. A reader may be in the way; then it
        // does so later.
        lock().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(())
    }
}

/// Has SQLite keep a new file so that it can shrink, which must be said before the first table.
pub(super) fn begin_shrinkable(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "auto_vacuum", INCREMENTAL)
}

/// Writes a file from before that was so anew, once. Where that fails, for want of room say, it
/// works as before and does not shrink.
pub(super) fn make_shrinkable(connection: &Connection) -> rusqlite::Result<()> {
    let mode: i64 = connection.pragma_query_value(None, "auto_vacuum", |row| row.get(0))?;
    if mode != INCREMENTAL {
        begin_shrinkable(connection)?;
        if let Err(error) = connection.execute_batch("VACUUM") {
            tracing::warn!(%error, "the database could not be rewritten so that it can shrink");
        }
    }
    Ok(())
}
