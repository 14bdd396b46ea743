//! The helper's process.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::NdifError;
use super::protocol::{Answer, Ask};

/// The helper, which is part of this program: a file's name and its text.
const FILES: &[(&str, &str)] = &[
    ("helper.py", include_str!("../../../python/ndif/helper.py")),
    ("models.py", include_str!("../../../python/ndif/models.py")),
    ("server.py", include_str!("../../../python/ndif/server.py")),
    ("waves.py", include_str!("../../../python/ndif/waves.py")),
];

/// The variable that may hold the key.
const KEY_VAR: &str = "NDIF_API_KEY";
/// The variable that names the helper's Python.
const PYTHON_VAR: &str = "PATCHBOARD_NDIF_PYTHON";
/// A longer line is no answer.
const MAX_LINE_BYTES: u64 = 64 << 20;
/// How many lines of the helper's errors are kept.
const N_LAST_LINES: usize = 6;
/// A longer text of somebody else's is cut off, in characters.
const MAX_TEXT: usize = 2_000;
/// A longer name or version likewise.
const MAX_NAME: usize = 100;
/// How often a caller who waits is asked whether to go on.
const POLL: Duration = Duration::from_millis(100);

/// How the helper is run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// An interpreter that has nnsight.
    pub python: PathBuf,
    /// How long it may say nothing at all.
    pub patience: Duration,
}

/// The interpreter that `PATCHBOARD_NDIF_PYTHON` names, or the one that `scripts/setup-ndif.sh`
/// installs.
pub fn default_python() -> PathBuf {
    if let Some(python) = std::env::var_os(PYTHON_VAR).filter(|python| !python.is_empty()) {
        return python.into();
    }
    let cache = dirs::cache_dir().unwrap_or_default();
    let bin = if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" };
    cache.join("patchboard/ndif/venv").join(bin)
}

impl Default for Settings {
    fn default() -> Self {
        // It says every few seconds that it is still there, but not while it loads torch.
        Self { python: default_python(), patience: Duration::from_secs(180) }
    }
}

/// A helper that is running. It ends with this value.
pub struct Helper {
    child: Child,
    asks: ChildStdin,
    lines: Receiver<String>,
    last_words: Arc<Mutex<VecDeque<String>>>,
    patience: Duration,
    // Where its files are, as long as it runs.
    _folder: TempDir,
}

impl Helper {
    /// Starts it.
    ///
    /// # Errors
    /// [`NdifError::NoHelper`].
    pub fn start(settings: &Settings) -> Result<Self, NdifError> {
        let failed = |error| NdifError::NoHelper { python: settings.python.clone(), error };
        let folder = tempfile::tempdir().map_err(failed)?;
        for (name, text) in FILES {
            std::fs::write(folder.path().join(name), text).map_err(failed)?;
        }
        let mut command = Command::new(&settings.python);
        // Ctrl-C is for this program, which ends the helper when it has kept what arrived.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command
            .arg(folder.path().join(FILES[0].0))
            // What lies in the current folder is none of its business.
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let asks = child.stdin.take().expect("it is piped");
        let answers = child.stdout.take().expect("it is piped");
        let errors = child.stderr.take().expect("it is piped");
        let (sender, lines) = sync_channel(1);
        std::thread::spawn(move || read_lines(answers, &sender));
        let last_words = Arc::default();
        let keeper = Arc::clone(&last_words);
        std::thread::spawn(move || keep_last(errors, &keeper));
        Ok(Self { child, asks, lines, last_words, patience: settings.patience, _folder: folder })
    }

    /// Asks for something.
    ///
    /// # Errors
    /// [`NdifError::Died`].
    pub fn ask(&mut self, ask: &Ask) -> Result<(), NdifError> {
        let mut line = serde_json::to_vec(ask).expect("numbers and texts are JSON");
        line.push(b'\n');
        self.asks.write_all(&line).and_then(|()| self.asks.flush()).map_err(|_| self.died())
    }

    /// The next answer. While it waits, `is_cancelled` is asked.
    ///
    /// # Errors
    /// [`NdifError::Died`], [`NdifError::Silent`], [`NdifError::BadAnswer`] or
    /// [`NdifError::Cancelled`].
    pub fn answer(&mut self, is_cancelled: &mut dyn FnMut() -> bool) -> Result<Answer, NdifError> {
        let begin = Instant::now();
        let line = loop {
            match self.lines.recv_timeout(POLL.min(self.patience)) {
                Ok(line) => break line,
                Err(RecvTimeoutError::Disconnected) => return Err(self.died()),
                Err(RecvTimeoutError::Timeout) if is_cancelled() => {
                    return Err(NdifError::Cancelled);
                }
                Err(RecvTimeoutError::Timeout) if begin.elapsed() >= self.patience => {
                    return Err(NdifError::Silent(self.patience.as_secs()));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        };
        match serde_json::from_str(&line) {
            Ok(Answer::Opened(opened)) => Ok(Answer::Opened(opened.shown(&short))),
            Ok(Answer::Said { text }) => Ok(Answer::Said { text: plain(&text) }),
            Ok(Answer::Failed { reason, message }) => {
                Ok(Answer::Failed { reason, message: plain(&message) })
            }
            Ok(answer) => Ok(answer),
            Err(error) => {
                let begin: String = plain(&line).chars().take(80).collect();
                Err(NdifError::bad(plain(&format!("{error} in {begin:?}"))))
            }
        }
    }

    /// It has ended; why, as far as it said.
    fn died(&self) -> NdifError {
        // What it said last may still be on its way.
        std::thread::sleep(POLL);
        let words = self.last_words.lock().unwrap_or_else(PoisonError::into_inner);
        NdifError::Died(words.iter().map(|line| plain(line)).collect::<Vec<_>>().join("; "))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Hands on whole lines until there is none, or one that is too long.
fn read_lines(answers: impl Read, to: &SyncSender<String>) {
    let mut answers = BufReader::new(answers);
    loop {
        let mut line = Vec::new();
        let read = (&mut answers).take(MAX_LINE_BYTES).read_until(b'\n', &mut line);
        if read.is_err() || line.pop() != Some(b'\n') {
            return;
        }
        if to.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
            return;
        }
    }
}

fn keep_last(errors: impl Read, last: &Mutex<VecDeque<String>>) {
    for line in BufReader::new(errors).split(b'\n').map_while(Result::ok) {
        let line: String = String::from_utf8_lossy(&line).chars().take(MAX_TEXT).collect();
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if !line.trim().is_empty() {
            last.push_back(line);
        }
        if last.len() > N_LAST_LINES {
            last.pop_front();
        }
    }
}

/// Somebody else's name or version as it may be shown and written down.
fn short(text: &str) -> String {
    plain(text).chars().take(MAX_NAME).collect()
}

/// Somebody else's text as it may be shown in a terminal, without the key.
fn plain(text: &str) -> String {
    // The helper takes it out itself, wherever it comes from, but for its own last words.
    let key = std::env::var(KEY_VAR).unwrap_or_default();
    let text = if key.is_empty() { text.to_string() } else { text.replace(&key, "[key]") };
    let shown = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    shown.take(MAX_TEXT).collect()
}
