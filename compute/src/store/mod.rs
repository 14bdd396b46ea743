//! Where a server keeps experiments and jobs: one SQLite database in one folder.
//!
//! Whatever belongs together is written in one transaction, so a process that is killed at any
//! moment leaves a database that opens, in which a result is whole or absent.

mod experiments;
mod jobs;
mod partials;
mod purge;
mod schema;

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

pub use experiments::{Page, Present, StoredDocument, Wanted};
pub use jobs::{Claim, NewJob, NewPair, Outcome, Pending, wanted};

/// The database's file in the data folder.
pub const FILE: &str = "patchboard.db";
/// Held by the server that may write.
const LOCK_FILE: &str = "patchboard.lock";
/// How many connections wait for the next reader; a busier server opens more for the moment.
const N_IDLE_READERS: usize = 4;
/// What a reader keeps of the database: enough for all that is searched of tens of thousands of
/// experiments.
const READER_CACHE_KIB: i64 = 32 << 10;
/// How long a connection waits for another's transaction.
const BUSY: Duration = Duration::from_secs(5);

/// The store.
pub struct Store {
    path: PathBuf,
    /// `None` where nothing can be written.
    writer: Option<Mutex<Connection>>,
    /// Why nothing can be written.
    why_read_only: Option<String>,
    is_immutable: bool,
    readers: Mutex<Vec<Connection>>,
    /// Keeps a second server off the folder for as long as this one lives.
    _lock: Option<File>,
}

/// What keeps the store from doing what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder cannot be used.
    #[error("the data folder {} cannot be used: {error}; choose another one with `--data`", .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Another server has it.
    #[error("another server uses the data folder {}: stop it, or choose another folder with `--data`", .0.display())]
    InUse(PathBuf),
    /// Nothing can be written.
    #[error("results cannot be stored: {0}")]
    ReadOnly(String),
    /// Other results have the same ids.
    #[error(
        "what is stored under the id {} has other numbers or texts than what is to be stored{}: \
         nothing was stored; compare the two, and replace the stored one if it is wrong",
        .0[0],
        match .0.len() { 1 => String::new(), n => format!(", and so for {} more", n - 1) }
    )]
    OtherResult(Vec<String>),
    /// The disk is full.
    #[error("the disk with the results is full: make room")]
    Full,
    /// The file is no database, or a damaged one.
    #[error("{} is damaged or no database ({error}): put a backup in its place", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        error: rusqlite::Error,
    },
    /// A later version wrote it.
    #[error("the database has version {found}, and this Patchboard reads up to {known}: update it")]
    Newer {
        /// The version found.
        found: usize,
        /// The version that is known.
        known: usize,
    },
    /// Anything else.
    #[error("the database reports a failure: {0}")]
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::ReadOnly) => Self::ReadOnly("the database cannot be written to".into()),
            _ => Self::Sqlite(error),
        }
    }
}

impl StoreError {
    /// Whether the same may succeed later without anything else being changed here.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Full | Self::Sqlite(_))
    }
}

type Result<T> = std::result::Result<T, StoreError>;

impl Store {
    /// Opens the store in `folder`, which is made if need be. Where the folder or the disk lets
    /// nothing be written, what is there can still be read.
    ///
    /// # Errors
    /// A folder that is used by another server, cannot be written to and holds no results, or holds
    /// a database that is damaged or from a later version.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let at = |error| StoreError::Folder { path: folder.to_path_buf(), error };
        let lock = std::fs::create_dir_all(folder).and_then(|()| {
            File::options().create(true).truncate(false).write(true).open(folder.join(LOCK_FILE))
        });
        let lock = match lock {
            Ok(lock) => lock,
            Err(error) if path.is_file() => return Self::open_read_only(path, error.to_string()),
            Err(error) => return Err(at(error)),
        };
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse(folder.to_path_buf())),
            Err(TryLockError::Error(error)) => return Err(at(error)),
        }
        let was_there = path.is_file();
        match open_writer(&path) {
            Ok(writer) => Ok(Self {
                path,
                writer: Some(Mutex::new(writer)),
                why_read_only: None,
                is_immutable: false,
                readers: Mutex::default(),
                _lock: Some(lock),
            }),
            Err(error @ (StoreError::Full | StoreError::ReadOnly(_) | StoreError::Sqlite(_)))
                if was_there =>
            {
                Self::open_read_only(path, error.to_string())
            }
            Err(error) => Err(error),
        }
    }

    fn open_read_only(path: PathBuf, why: String) -> Result<Self> {
        // What is in the log must be read with it; without one, or where the log's index cannot be
        // made, the database file alone is whole.
        let has_log = std::fs::metadata(path.with_extension("db-wal")).is_ok_and(|m| m.len() > 0);
        let mut store = Self {
            path,
            writer: None,
            why_read_only: Some(why),
            is_immutable: !has_log,
            readers: Mutex::default(),
            _lock: None,
        };
        let can_read = |store: &Self| store.read(schema::version);
        let found = match can_read(&store) {
            Err(StoreError::Sqlite(_) | StoreError::ReadOnly(_) | StoreError::Full) if has_log => {
                store.is_immutable = true;
                can_read(&store)?
            }
            other => other?,
        };
        if found < schema::VERSION {
            return Err(StoreError::ReadOnly(format!(
                "the database has version {found} and must be brought to {} first",
                schema::VERSION
            )));
        }
        Ok(store)
    }

    /// Why nothing can be written; `None` where it can.
    pub fn why_read_only(&self) -> Option<&str> {
        self.why_read_only.as_deref()
    }

    /// The database's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` on a connection that sees everything that has been committed.
    fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let idle = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.open_reader()?,
        };
        let outcome = work(&connection);
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() < N_IDLE_READERS {
            readers.push(connection);
        }
        outcome
    }

    /// Runs `work` in a transaction, which is committed if it succeeds.
    fn write<T>(&self, work: impl FnOnce(&Transaction) -> Result<T>) -> Result<T> {
        let Some(writer) = &self.writer else {
            let why = self.why_read_only.clone().unwrap_or_default();
            return Err(StoreError::ReadOnly(why));
        };
        let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let outcome = work(&transaction)?;
        transaction.commit()?;
        Ok(outcome)
    }

    fn open_reader(&self) -> Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_URI
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut uri = String::from("file:");
        for byte in self.path.as_os_str().as_encoded_bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => {
                    uri.push(char::from(*byte));
                }
                byte => uri.push_str(&format!("%{byte:02X}")),
            }
        }
        uri.push_str(if self.is_immutable { "?immutable=1" } else { "?mode=ro" });
        let connection =
            Connection::open_with_flags(uri, flags).map_err(|e| damage(e, &self.path))?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
        Ok(connection)
    }
}

fn open_writer(path: &Path) -> Result<Connection> {
    let open = || {
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        purge::begin_shrinkable(&connection)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", "ON")?;
        schema::migrate(&mut connection)?;
        purge::make_shrinkable(&connection)?;
        Ok(connection)
    };
    open().map_err(|error| match error {
        StoreError::Sqlite(error) => damage(error, path),
        error => error,
    })
}

fn damage(error: rusqlite::Error, path: &Path) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            StoreError::Damaged { path: path.to_path_buf(), error }
        }
        _ => error.into(),
    }
}

impl Drop for Store {
    /// The log goes into the database, so that the file alone is whole.
    fn drop(&mut self) {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).clear();
        if let Some(writer) = self.writer.take() {
            let writer = writer.into_inner().unwrap_or_else(PoisonError::into_inner);
            // SQLite does it when the last connection closes; a failure leaves the log for later.
            let _ = writer.close();
        }
    }
}

#[cfg(test)]
mod tests;
