//! Digests of large files, remembered in the user's cache directory.
//!
//! Each file has a small text of its own there, which is replaced as a whole, so that any number of
//! processes may write at once. A text counts if it describes the file exactly as it is now and its
//! own check sum is right; anything else is as if it were not there.

use std::io::Write;
use std::path::PathBuf;

use blake3::Hash;

use super::file_state::FileState;

/// The first line of each text. Another way to hash files takes another one.
const VERSION: &str = "patchboard BLAKE3 1";

/// Where digests are remembered.
#[derive(Debug, Clone)]
pub struct Digests {
    folder: PathBuf,
    /// Smaller files are hashed in less time than it would take to remember many of them.
    min_bytes: u64,
}

impl Digests {
    /// The user's; `None` for a user without a cache directory.
    pub fn of_user() -> Option<Self> {
        let folder = dirs::cache_dir()?.join("patchboard").join("digests");
        Some(Self { folder, min_bytes: 64 << 20 })
    }

    /// The BLAKE3 of the file, if it is known and the file is as it was.
    pub fn find(&self, file: &FileState) -> Option<Hash> {
        let text = std::fs::read_to_string(self.path(file)).ok()?;
        let digest = text.strip_prefix(&described(file))?.get(..64)?;
        let digest = Hash::from_hex(digest).ok()?;
        (text == entry(file, digest)).then_some(digest)
    }

    /// Remembers the BLAKE3 of a file. What cannot be written is not remembered.
    pub fn keep(&self, file: &FileState, digest: Hash) {
        if file.n_bytes < self.min_bytes {
            return;
        }
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(&self.folder)?;
            let mut scratch = tempfile::NamedTempFile::new_in(&self.folder)?;
            scratch.write_all(entry(file, digest).as_bytes())?;
            scratch.persist(self.path(file))?;
            Ok(())
        };
        // The price is to hash the file again.
        let _ = write();
    }

    /// Where a file's digest is kept.
    fn path(&self, file: &FileState) -> PathBuf {
        let name = blake3::hash(file.path.as_os_str().as_encoded_bytes());
        self.folder.join(format!("{}.txt", &name.to_hex()[..32]))
    }
}

fn described(file: &FileState) -> String {
    format!("{VERSION}\n{file}\n")
}

fn entry(file: &FileState, digest: Hash) -> String {
    let body = format!("{}{}\n", described(file), digest.to_hex());
    let sum = blake3::hash(body.as_bytes()).to_hex();
    format!("{body}{sum}\n")
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use super::super::fingerprint::{Fingerprint, Part};
    use super::*;

    fn state(path: &Path) -> FileState {
        FileState::of_file(path, &File::open(path).unwrap()).unwrap()
    }

    struct Place {
        folder: tempfile::TempDir,
        digests: Digests,
    }

    impl Place {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let digests =
                Digests { folder: folder.path().join("cache").join("digests"), min_bytes: 0 };
            Self { folder, digests }
        }

        fn file(&self, name: &str, text: &str) -> PathBuf {
            let path = self.folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        }
    }

    #[test]
    fn a_digest_is_remembered_until_anything_about_the_file_changes() {
        type Change = fn(&Path);
        let changes: [(&str, Change); 5] = [
            ("written to", |path| fs::write(path, "12345").unwrap()),
            ("another time", |path| {
                let file = File::options().write(true).open(path).unwrap();
                file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
            }),
            ("written to, and the time set back", |path| {
                let modified = fs::metadata(path).unwrap().modified().unwrap();
                // Times of the file system may be coarse.
                std::thread::sleep(Duration::from_millis(20));
                fs::write(path, "5432").unwrap();
                File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
            }),
            ("another file in its place", |path| {
                let other = path.with_extension("other");
                fs::write(&other, "1234").unwrap();
                let modified = fs::metadata(path).unwrap().modified().unwrap();
                File::options().write(true).open(&other).unwrap().set_modified(modified).unwrap();
                fs::rename(other, path).unwrap();
            }),
            ("longer", |path| {
                let mut file = File::options().append(true).open(path).unwrap();
                file.write_all(b"5").unwrap();
            }),
        ];
        for (what, change) in changes {
            let place = Place::new();
            let path = place.file("weights", "1234");
            let digest = blake3::hash(b"anything");
            assert_eq!(place.digests.find(&state(&path)), None);
            place.digests.keep(&state(&path), digest);
            assert_eq!(place.digests.find(&state(&path)), Some(digest));
            let link = place.folder.path().join("link");
            #[cfg(unix)]
            {
                std::os::unix::fs::symlink(&path, &link).unwrap();
                assert_eq!(place.digests.find(&state(&link)), Some(digest), "by a link");
            }
            change(&path);
            assert_eq!(place.digests.find(&state(&path)), None, "{what}");
        }
    }

    #[test]
    fn damaged_texts_are_as_if_they_were_not_there() {
        let place = Place::new();
        let state = state(&place.file("weights", "1234"));
        place.digests.keep(&state, blake3::hash(b"anything"));
        let path = place.digests.path(&state);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            for damaged in [whole[at] ^ 1, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = damaged;
                fs::write(&path, bytes).unwrap();
                assert_eq!(place.digests.find(&state), None, "byte {at}");
            }
            fs::write(&path, &whole[..at]).unwrap();
            assert_eq!(place.digests.find(&state), None, "the first {at} bytes");
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(place.digests.find(&state), None);
        // What cannot be written is no error.
        place.digests.keep(&state, blake3::hash(b"anything"));
    }

    #[test]
    fn many_write_at_once() {
        let place = Place::new();
        let states = ["a", "b", "c"].map(|name| state(&place.file(name, name)));
        let digest = |i: usize| blake3::hash(&[i as u8]);
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (states, digests) = (&states, &place.digests);
                scope.spawn(move || {
                    for i in 0..50 {
                        let which = (thread + i) % 3;
                        digests.keep(&states[which], digest(which));
                        assert_eq!(digests.find(&states[which]), Some(digest(which)));
                    }
                });
            }
        });
        let n_files = fs::read_dir(&place.digests.folder).unwrap().count();
        assert_eq!(n_files, 3, "something was left over");
    }

    #[test]
    fn files_changed_a_moment_ago_are_not_settled() {
        let place = Place::new();
        let state = state(&place.file("weights", "1234"));
        let now = SystemTime::now();
        assert!(!state.is_settled(now) && state.is_settled(now + Duration::from_secs(60)));
    }

    #[test]
    fn what_is_remembered_is_not_read_again() {
        let place = Place::new();
        let file = state(&place.file("weights", "1234"));
        let part = Part { role: "weights", file: file.clone() };
        let fingerprint = |digests: Option<&Digests>| {
            let fingerprint = Fingerprint::begin(vec![part.clone()], digests.cloned());
            let text = fingerprint.get().map(str::to_string);
            assert!(text.is_err() || fingerprint.progress() == (4, 4));
            text
        };
        let read = fingerprint(None).unwrap();
        assert_eq!(fingerprint(Some(&place.digests)).unwrap(), read);
        // A lie shows that it was not read.
        place.digests.keep(&file, blake3::hash(b"a lie"));
        let remembered = fingerprint(Some(&place.digests)).unwrap();
        assert_ne!(remembered, read);
        place.digests.keep(&file, blake3::hash(b"1234"));
        assert_eq!(fingerprint(Some(&place.digests)).unwrap(), read);
        // The model was opened from other bytes.
        std::thread::sleep(Duration::from_millis(20));
        place.file("weights", "4321");
        for digests in [None, Some(&place.digests)] {
            let error = fingerprint(digests).unwrap_err().to_string();
            assert!(error.contains("was changed while the model was opened from it"), "{error}");
        }
    }
}
