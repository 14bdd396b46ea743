//! Downloading, by the `hf-hub` crate, and checking what came.

use std::fs;
use std::path::Path;
use std::time::Duration;

use hf_hub::Cache;
use hf_hub::api::Progress;
use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use serde::Deserialize;

use super::files::{Wanted, indexed, needed};
use super::{Hub, HubError, HubId, Snapshot};
use crate::model::{VERSION, sha256_of};

/// How far a file has come.
#[derive(Debug, Clone, Copy)]
pub struct Downloading<'a> {
    /// The file's name.
    pub file: &'a str,
    /// Bytes that are there.
    pub n_done: u64,
    /// Bytes of the whole file.
    pub n_bytes: u64,
}

/// How often a file is tried; what has come stays in between.
const N_TRIES: usize = 3;

/// A repository at one commit, as the hub describes it.
#[derive(Deserialize)]
struct Info {
    sha: String,
    siblings: Vec<Sibling>,
}

/// One of its files.
#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    /// Of large files.
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
}

/// Downloads what a model needs into the cache.
pub fn download(
    hub: &Hub,
    id: &HubId,
    wanted: Wanted,
    listener: &mut dyn FnMut(Downloading),
) -> Result<Snapshot, HubError> {
    let failed = |error| failure(hub, id, error);
    // Not hf-hub's own retries: they lose their place in a file that was begun earlier.
    let api = ApiBuilder::from_cache(Cache::new(hub.cache.clone()))
        .with_endpoint(hub.endpoint.clone())
        .with_token(hub.token.clone())
        .with_progress(false)
        .with_user_agent("patchboard", VERSION)
        .build()
        .map_err(failed)?;
    let request = api.repo(id.repo(&id.revision)).info_request().query("blobs", "true");
    let answer = request.call().and_then(|mut response| response.body_mut().read_json::<Info>());
    let info = answer.map_err(|e| failed(Box::new(e).into()))?;
    let damaged = |problem: String| HubError::Damaged { id: id.to_string(), problem };
    let folder = hub
        .snapshot_folder(id, &info.sha)
        .ok_or_else(|| damaged(format!("the hub names the commit `{}`", info.sha)))?;

    // By the commit, so that all files are of one even while somebody uploads.
    let repo = Fetch { hub, id, repo: api.repo(id.repo(&info.sha)), info: &info };
    let names: Vec<_> = info.siblings.iter().map(|sibling| &*sibling.rfilename).collect();
    let unusable = |problem: String| HubError::Files { id: id.to_string(), problem };
    for name in needed(&names, wanted).map_err(unusable)? {
        repo.fetch(&folder, name, listener)?;
    }
    if wanted == Wanted::All {
        for name in indexed(&folder).map_err(unusable)? {
            repo.fetch(&folder, &name, listener)?;
        }
    }
    // Last: from now on the name means this commit.
    Cache::new(hub.cache.clone())
        .repo(id.repo(&id.revision))
        .create_ref(&info.sha)
        .map_err(|e| HubError::io(id, &hub.cache, e))?;
    Ok(Snapshot { folder, commit: info.sha })
}

/// What fetching a file takes.
struct Fetch<'a> {
    hub: &'a Hub,
    id: &'a HubId,
    repo: ApiRepo,
    info: &'a Info,
}

impl Fetch<'_> {
    /// Puts a file into the snapshot `folder`, whole or not at all.
    fn fetch(
        &self,
        folder: &Path,
        name: &str,
        listener: &mut dyn FnMut(Downloading),
    ) -> Result<(), HubError> {
        if folder.join(name).is_file() {
            return Ok(());
        }
        let mut tried = 0;
        loop {
            tried += 1;
            let progress = Told { file: name.to_string(), n_done: 0, n_bytes: 0, listener };
            let outcome = self.repo.download_with_progress(name, progress);
            let error = match outcome {
                Ok(path) => match self.check(name, &path) {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                },
                Err(ApiError::InvalidResume) => {
                    self.forget_parts(folder);
                    HubError::Damaged {
                        id: self.id.to_string(),
                        problem: format!("more of `{name}` had come than there is"),
                    }
                }
                Err(error) => failure(self.hub, self.id, error),
            };
            let is_passing =
                matches!(error, HubError::Unreachable { .. } | HubError::Damaged { .. });
            if tried == N_TRIES || !is_passing {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(300 * tried as u64));
        }
    }

    /// Holds a file to the size and the digest that the hub has named, and removes it if it is
    /// another.
    fn check(&self, name: &str, path: &Path) -> Result<(), HubError> {
        let io = |e| HubError::io(self.id, path, e);
        let Some(promised) = self.info.siblings.iter().find(|s| s.rfilename == name) else {
            return Ok(());
        };
        let blob = path.canonicalize().map_err(io)?;
        let n_bytes = fs::metadata(&blob).map_err(io)?.len();
        let problem = match (promised.size, &promised.lfs) {
            (Some(size), _) if size != n_bytes => {
                Some(format!("`{name}` has {n_bytes} bytes, and the hub says {size}"))
            }
            (_, Some(lfs)) => {
                let found = sha256_of(&blob).map_err(io)?;
                (found != lfs.sha256).then(|| {
                    format!("`{name}` has the SHA-256 {found}, and the hub says {}", lfs.sha256)
                })
            }
            _ => None,
        };
        let Some(problem) = problem else { return Ok(()) };
        fs::remove_file(path).and_then(|()| fs::remove_file(&blob)).map_err(io)?;
        Err(HubError::Damaged { id: self.id.to_string(), problem })
    }

    /// Removes what has come of files that are not whole.
    fn forget_parts(&self, folder: &Path) {
        let Some(blobs) = folder.ancestors().nth(2).map(|repo| repo.join("blobs")) else { return };
        let files = fs::read_dir(blobs).into_iter().flatten().flatten().map(|entry| entry.path());
        for part in files.filter(|path| path.extension().is_some_and(|e| e == "part")) {
            // The next try says so if it is still there.
            let _ = fs::remove_file(part);
        }
    }
}

/// Passes on what hf-hub tells.
struct Told<'a> {
    file: String,
    n_done: u64,
    n_bytes: u64,
    listener: &'a mut dyn FnMut(Downloading),
}

impl Progress for Told<'_> {
    fn init(&mut self, size: usize, _: &str) {
        (self.n_done, self.n_bytes) = (0, size as u64);
    }

    fn update(&mut self, size: usize) {
        self.n_done += size as u64;
        (self.listener)(Downloading {
            file: &self.file,
            n_done: self.n_done,
            n_bytes: self.n_bytes,
        });
    }

    fn finish(&mut self) {}
}

/// What to tell of an error of hf-hub's. None of its texts holds the token.
fn failure(hub: &Hub, id: &HubId, error: ApiError) -> HubError {
    let (id, endpoint) = (id.clone(), hub.endpoint.clone());
    let unreachable = |problem: String| HubError::Unreachable {
        id: id.to_string(),
        endpoint: endpoint.clone(),
        problem,
    };
    match error {
        ApiError::RequestError(error) => match *error {
            ureq::Error::StatusCode(status @ (401 | 403)) => HubError::Refused {
                id: id.to_string(),
                status,
                page: format!("{endpoint}/{}", id.name),
                has_token: hub.token.is_some(),
            },
            ureq::Error::StatusCode(404) => HubError::NotFound { id: id.to_string(), endpoint },
            error => unreachable(error.to_string()),
        },
        // A body that breaks off and a full disk look alike here; the text tells them apart.
        ApiError::LockAcquisition(path) => HubError::Io {
            id: id.to_string(),
            error: std::io::Error::other("another program is downloading it: wait for it"),
            path,
        },
        error => unreachable(error.to_string()),
    }
}
