//! Tells a model from any other, by every byte that its numbers come from.

use std::fs::File;
use std::io::Read;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::SystemTime;

use blake3::{Hash, Hasher};
use rayon::prelude::*;

use super::digests::Digests;
use super::error::ModelError;
use super::file_state::FileState;

/// One of a model's files, and what it is to the model.
#[derive(Debug, Clone)]
pub struct Part {
    /// What it is, whatever its name.
    pub role: &'static str,
    /// The file as it was when it was opened.
    pub file: FileState,
}

/// 32 hexadecimal digits, which become known while a thread reads the files.
pub struct Fingerprint {
    progress: Arc<Progress>,
    reader: Mutex<Option<JoinHandle<Outcome>>>,
    outcome: OnceLock<Outcome>,
}

type Outcome = Result<String, ModelError>;

/// How far reading has come.
#[derive(Debug, Default)]
struct Progress {
    n_done: AtomicU64,
    n_bytes: u64,
    /// Nobody wants to know any more.
    is_forgotten: AtomicBool,
}

/// So many files are read at once, beside what the process does meanwhile.
const N_READERS: usize = 4;
/// Bytes that each of them has in memory.
const BUFFER_BYTES: usize = 1 << 20;

impl Fingerprint {
    /// Begins to read a model's files; of those that `digests` knows nothing is read.
    pub fn begin(parts: Vec<Part>, digests: Option<Digests>) -> Self {
        let n_bytes = parts.iter().map(|part| part.file.n_bytes).sum();
        let progress = Arc::new(Progress { n_bytes, ..Progress::default() });
        let reader = {
            let progress = progress.clone();
            std::thread::spawn(move || of_parts(&parts, digests.as_ref(), &progress))
        };
        Self { progress, reader: Mutex::new(Some(reader)), outcome: OnceLock::new() }
    }

    /// The fingerprint of what is known by `text` alone.
    pub fn of_text(text: &str) -> Self {
        let outcome = Ok(blake3::hash(text.as_bytes()).to_hex()[..32].to_string());
        Self {
            progress: Arc::default(),
            reader: Mutex::new(None),
            outcome: OnceLock::from(outcome),
        }
    }

    /// The fingerprint, once all is read.
    ///
    /// # Errors
    /// A file that cannot be read, or that was written to since the model was opened.
    pub fn get(&self) -> Result<&str, ModelError> {
        let outcome = self.outcome.get_or_init(|| {
            let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner).take();
            let reader = reader.expect("it is taken once, where its outcome is kept");
            reader.join().unwrap_or_else(|panic| resume_unwind(panic))
        });
        outcome.as_deref().map_err(Clone::clone)
    }

    /// Whether [`Self::get`] returns at once.
    pub fn is_known(&self) -> bool {
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        reader.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// How many of the bytes have been read, and how many there are.
    pub fn progress(&self) -> (u64, u64) {
        (self.progress.n_done.load(Ordering::Relaxed), self.progress.n_bytes)
    }
}

impl Drop for Fingerprint {
    /// Stops reading, without waiting for it.
    fn drop(&mut self) {
        self.progress.is_forgotten.store(true, Ordering::Relaxed);
    }
}

fn of_parts(parts: &[Part], digests: Option<&Digests>, progress: &Progress) -> Outcome {
    // Threads of its own: those that compute do not wait for a disk.
    let readers = rayon::ThreadPoolBuilder::new().num_threads(N_READERS.min(parts.len())).build();
    let each = || parts.par_iter().map(|part| of_file(&part.file, digests, progress)).collect();
    let hashes: Result<Vec<Hash>, ModelError> = match readers {
        Ok(readers) => readers.install(each),
        Err(_) => each(),
    };
    let mut whole = Hasher::new();
    for (part, hash) in parts.iter().zip(hashes?) {
        whole.update(blake3::hash(part.role.as_bytes()).as_bytes());
        whole.update(hash.as_bytes());
    }
    Ok(whole.finalize().to_hex()[..32].to_string())
}

/// The BLAKE3 of a file, as everybody's program computes it.
fn of_file(
    state: &FileState,
    digests: Option<&Digests>,
    progress: &Progress,
) -> Result<Hash, ModelError> {
    let failed = |e| {
        ModelError::file(&state.path, format!("cannot read the model to tell it from others: {e}"))
    };
    let begin = SystemTime::now();
    let mut file = File::open(&state.path).map_err(failed)?;
    let found = FileState::of_file(&state.path, &file).map_err(failed)?;
    if let Some(hash) = digests.and_then(|digests| digests.find(&found))
        && state.holds_for(&file)
    {
        progress.n_done.fetch_add(state.n_bytes, Ordering::Relaxed);
        return Ok(hash);
    }
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; BUFFER_BYTES.min(state.n_bytes.max(1) as usize)];
    loop {
        if progress.is_forgotten.load(Ordering::Relaxed) {
            return Err(ModelError::file(&state.path, "nobody waits for the fingerprint any more"));
        }
        let n = file.read(&mut buffer).map_err(failed)?;
        if n == 0 {
            break;
        }
        hasher.update(&buffer[..n]);
        progress.n_done.fetch_add(n as u64, Ordering::Relaxed);
    }
    // What was read is what the model was opened from only if nobody has written to it since.
    if !state.holds_for(&file) {
        return Err(ModelError::file(
            &state.path,
            "the file was changed while the model was opened from it: run again",
        ));
    }
    let hash = hasher.finalize();
    let is_as_found = FileState::of_file(&state.path, &file).is_ok_and(|now| now == found);
    if let Some(digests) = digests
        && found.is_settled(begin)
        && is_as_found
    {
        digests.keep(&found, hash);
    }
    Ok(hash)
}
