//! A stand-in for the helper that speaks with NDIF, and a model for it.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(dead_code, reason = "not every test needs all of it")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// What the model of [`Fake::hub`] is called.
pub const REPO: &str = "org/tiny";

/// A folder with a Python that is the stand-in in some mode.
pub struct Fake {
    folder: TempDir,
}

impl Fake {
    pub fn new(mode: &str) -> Self {
        let fake = Self { folder: tempfile::tempdir().unwrap() };
        fs::write(fake.path("helper.py"), include_str!("fake_ndif_helper.py")).unwrap();
        fake.set(mode);
        fake
    }

    /// Gives those that are started from now on another mode.
    pub fn set(&self, mode: &str) {
        let text = format!(
            "#!/bin/sh\nexec python3 {} '{mode}' {} \"$@\"\n",
            self.path("helper.py").display(),
            self.path("log").display()
        );
        // Written anew under another name: a program that is being written cannot be started.
        let python = self.path("python.new");
        fs::write(&python, text).unwrap();
        fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(python, self.path("python")).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Lets no more than the first wave of a request come, until [`Self::release`].
    pub fn hold(&self) {
        fs::write(self.path("log.held"), "").unwrap();
    }

    pub fn release(&self) {
        fs::remove_file(self.path("log.held")).unwrap();
    }

    /// How many cells each request has asked for, controls included.
    pub fn asked(&self) -> Vec<usize> {
        let text = fs::read_to_string(self.path("log")).unwrap_or_default();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }

    /// A folder like the hub's cache, in which the model `model` is [`REPO`].
    pub fn hub(&self, model: &Path) -> PathBuf {
        const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
        let home = self.path("hf");
        let repo = home.join("hub").join(format!("models--{}", REPO.replace('/', "--")));
        if !repo.exists() {
            fs::create_dir_all(repo.join("refs")).unwrap();
            fs::create_dir_all(repo.join("snapshots")).unwrap();
            fs::write(repo.join("refs/main"), COMMIT).unwrap();
            symlink(fs::canonicalize(model).unwrap(), repo.join("snapshots").join(COMMIT)).unwrap();
        }
        home
    }
}
