//! The database's tables, step by step.

use rusqlite::Connection;

use super::StoreError;

/// What each version adds to the one before; the first makes version 1. A step that has been
/// published is never changed.
const STEPS: &[&str] = &[
    include_str!("schema-1.sql"),
    include_str!("schema-2.sql"),
    include_str!("schema-3.sql"),
    include_str!("schema-4.sql"),
];

/// The version that this program writes.
pub const VERSION: usize = STEPS.len();

/// Brings the database to [`VERSION`], each step whole or not at all.
///
/// # Errors
/// A database of a later version, or what SQLite reports.
pub fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let found = version(connection)?;
    for (step, sql) in STEPS.iter().enumerate().skip(found) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "user_version", step + 1)?;
        transaction.commit()?;
    }
    Ok(())
}

/// The version of a database that this program can read.
///
/// # Errors
/// A database of a later version, or what SQLite reports.
pub fn version(connection: &Connection) -> Result<usize, StoreError> {
    let found: usize = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match found {
        0..=VERSION => Ok(found),
        found => Err(StoreError::Newer { found, known: VERSION }),
    }
}
