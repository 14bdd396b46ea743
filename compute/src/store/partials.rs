//! What is finished of pairs that are not.

use rusqlite::params;

use super::{Claim, Result, Store};

impl Store {
    /// Keeps finished cells of a claimed pair, written as JSON, until its experiment is there or
    /// its job is removed. They count as progress: the process may end as often again before the pair is
    /// given up.
    ///
    /// # Errors
    /// A store that cannot be written to.
    pub fn keep(&self, claim: &Claim, made_for: &str, cells: &str) -> Result<()> {
        self.write(|transaction| {
            // Also what came while it was cancelled; a pair that was removed meanwhile keeps nothing.
            let sql = "UPDATE pairs SET n_begun = 1
                WHERE job = ?1 AND idx = ?2 AND state IN ('running', 'cancelled')";
            if transaction.execute(sql, params![claim.seq, claim.index])? == 0 {
                return Ok(());
            }
            let sql = "INSERT INTO partials (job, idx, part, made_for, cells) VALUES (?1, ?2,
                (SELECT coalesce(max(part) + 1, 0) FROM partials WHERE job = ?1 AND idx = ?2),
                ?3, ?4)";
            transaction.execute(sql, params![claim.seq, claim.index, made_for, cells])?;
            Ok(())
        })
    }

    /// What [`Self::keep`] kept of a pair's experiment, in order: also what other jobs have left of it,
    /// unless it is to be computed again. What was made for something else is left out.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn kept(&self, claim: &Claim, made_for: &str) -> Result<Vec<String>> {
        self.read(|connection| {
            let sql = "SELECT cells FROM partials
                WHERE made_for = ?3 AND (job = ?1 AND idx = ?2 OR NOT ?4)
                ORDER BY job, idx, part";
            let mut statement = connection.prepare_cached(sql)?;
            let values = params![claim.seq, claim.index, made_for, claim.again];
            let rows = statement.query_map(values, |row| row.get(0))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }
}
