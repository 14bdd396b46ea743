//! Which bytes a file held at one moment, as far as the file system tells.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A file's place, size and times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileState {
    /// The file itself, links resolved.
    pub path: PathBuf,
    /// Its size.
    pub n_bytes: u64,
    /// When its bytes were last written to, since 1970.
    modified: Duration,
    identity: Identity,
}

/// What a path alone does not tell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Identity {
    device: u64,
    inode: u64,
    /// When anything about the file was last changed, in seconds and nanoseconds: unlike the time
    /// of its last modification, no program can set it back.
    changed: (i64, i64),
}

/// The text of a small file, and the file as it was before the text was read.
///
/// # Errors
/// A file that cannot be read, or that is no text.
pub fn read_text(path: &Path) -> io::Result<(String, FileState)> {
    let mut file = File::open(path)?;
    let (state, mut text) = (FileState::of_file(path, &file)?, String::new());
    file.read_to_string(&mut text)?;
    Ok((text, state))
}

/// Times of files may be coarse: what was written to so shortly ago may be written to again without
/// a trace.
const UNSETTLED: Duration = Duration::from_secs(2);

impl FileState {
    /// The state of an open file, which was opened as `path`.
    ///
    /// # Errors
    /// What the system reports.
    pub fn of_file(path: &Path, file: &File) -> io::Result<Self> {
        let about = file.metadata()?;
        Ok(Self {
            path: path.canonicalize().unwrap_or_else(|_| path.to_path_buf()),
            n_bytes: about.len(),
            modified: about.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default(),
            identity: Identity::of(&about),
        })
    }

    /// Whether `file`, which was opened at this path, is the same and has not been written to since.
    /// Another owner, other permissions and another link to it are no change.
    pub fn holds_for(&self, file: &File) -> bool {
        Self::of_file(&self.path, file).is_ok_and(|now| {
            let place = |state: &Self| (state.identity.device, state.identity.inode);
            place(&now) == place(self)
                && (now.n_bytes, now.modified) == (self.n_bytes, self.modified)
        })
    }

    /// Whether, at `now`, the last change was long enough ago for every later one to show.
    pub fn is_settled(&self, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (secs, _) = self.identity.changed;
        let changed = self.modified.max(Duration::from_secs(u64::try_from(secs).unwrap_or(0)));
        changed + UNSETTLED < now
    }
}

impl fmt::Display for FileState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, n_bytes, modified, identity } = self;
        let Identity { device, inode, changed: (secs, nanos) } = identity;
        let modified = modified.as_nanos();
        write!(f, "{path:?} {device}:{inode} {n_bytes} bytes {modified} {secs}.{nanos:09}")
    }
}

impl Identity {
    #[cfg(unix)]
    fn of(about: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self {
            device: about.dev(),
            inode: about.ino(),
            changed: (about.ctime(), about.ctime_nsec()),
        }
    }

    #[cfg(not(unix))]
    fn of(_: &Metadata) -> Self {
        Self::default()
    }
}
