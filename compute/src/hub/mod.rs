//! Models of the Hugging Face hub by their ids: found in the local cache, which other programs use
//! too, or downloaded into it.

mod download;
mod files;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use hf_hub::{Cache, Repo, RepoType};

pub use download::Downloading;
pub use files::Wanted;
use files::{is_whole, needs_nothing};

/// A model on the hub: `org/name` or `org/name@revision`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubId {
    /// `org/name`.
    pub name: String,
    /// A branch, a tag or a commit.
    pub revision: String,
}

impl HubId {
    /// Reads an id; `None` if the text cannot be one, but may be a path.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, revision) = text.split_once('@').unwrap_or((text, "main"));
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let is_part = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
                && part.chars().all(is_plain)
                && !part.contains("..")
                && !part.contains("--")
        };
        let (organisation, model) = name.split_once('/')?;
        let is_file = model.to_ascii_lowercase().ends_with(".gguf");
        let is_revision = revision
            .split('/')
            .all(|part| !part.is_empty() && !part.starts_with('.') && part.chars().all(is_plain));
        (is_part(organisation) && is_part(model) && !is_file && is_revision)
            .then(|| Self { name: name.to_string(), revision: revision.to_string() })
    }

    fn repo(&self, revision: &str) -> Repo {
        Repo::with_revision(self.name.clone(), RepoType::Model, revision.to_string())
    }
}

impl std::fmt::Display for HubId {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match &*self.revision {
            "main" => write!(f, "{}", self.name),
            revision => write!(f, "{}@{revision}", self.name),
        }
    }
}

/// A model's files at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// A folder in Hugging Face's layout.
    pub folder: PathBuf,
    /// The commit, 40 hexadecimal digits.
    pub commit: String,
}

/// Where models of the hub are kept and come from. It holds a secret, so it cannot be printed.
#[derive(Clone)]
pub struct Hub {
    /// The folder with `models--org--name` and others.
    cache: PathBuf,
    /// The hub's address, without a slash at its end.
    endpoint: String,
    token: Option<String>,
    /// Never to touch the network.
    offline: bool,
}

impl Hub {
    /// The places that Hugging Face's own programs use, as environment variables say, which `var`
    /// looks up: `HF_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME`, `HF_TOKEN`, `HF_TOKEN_PATH`,
    /// `HF_ENDPOINT`, `HF_HUB_OFFLINE`.
    ///
    /// # Errors
    /// [`HubError::NoHome`].
    pub fn from_vars(var: impl Fn(&str) -> Option<OsString>) -> Result<Self, HubError> {
        let path = |name: &str| var(name).filter(|path| !path.is_empty()).map(PathBuf::from);
        let text = |name: &str| var(name)?.into_string().ok().filter(|text| !text.is_empty());
        let home = path("HF_HOME")
            .or_else(|| path("XDG_CACHE_HOME").map(|cache| cache.join("huggingface")))
            .or_else(|| dirs::home_dir().map(|home| home.join(".cache").join("huggingface")));
        let cache = path("HF_HUB_CACHE").or_else(|| home.as_ref().map(|home| home.join("hub")));
        let token_path = path("HF_TOKEN_PATH").or_else(|| home.map(|home| home.join("token")));
        let stored = || std::fs::read_to_string(token_path?).ok();
        let token = text("HF_TOKEN").or_else(stored).map(|token| token.trim().to_string());
        let is_on = |text: String| {
            ["1", "on", "yes", "true"].contains(&text.trim().to_ascii_lowercase().as_str())
        };
        Ok(Self {
            cache: cache.ok_or(HubError::NoHome)?,
            endpoint: text("HF_ENDPOINT")
                .unwrap_or_else(|| "https://huggingface.co".into())
                .trim_end_matches('/')
                .to_string(),
            token: token.filter(|token| !token.is_empty()),
            offline: text("HF_HUB_OFFLINE").is_some_and(is_on),
        })
    }

    /// The same, which never touches the network if `offline`.
    #[must_use]
    pub fn offline(mut self, offline: bool) -> Self {
        self.offline |= offline;
        self
    }

    /// What is wanted of the model's files: those in the cache as they are, or else downloaded.
    ///
    /// # Errors
    /// [`HubError`], which says what to do.
    pub fn snapshot(
        &self,
        id: &HubId,
        wanted: Wanted,
        listener: &mut dyn FnMut(Downloading),
    ) -> Result<Snapshot, HubError> {
        match self.cached(id, wanted) {
            // What is whole but may lack an optional file is taken where nobody can be asked.
            Some(found) if needs_nothing(&found.folder, wanted) || self.offline => Ok(found),
            _ if self.offline => {
                Err(HubError::NotCached { id: id.to_string(), cache: self.cache.clone() })
            }
            _ => download::download(self, id, wanted, listener),
        }
    }

    /// What the cache holds of a model, if that is all that is wanted.
    fn cached(&self, id: &HubId, wanted: Wanted) -> Option<Snapshot> {
        let folder = self.cache.join(id.repo(&id.revision).folder_name());
        let commit = match std::fs::read_to_string(folder.join("refs").join(&id.revision)) {
            Ok(commit) => commit.trim().to_string(),
            Err(_) => id.revision.clone(),
        };
        let folder = self.snapshot_folder(id, &commit)?;
        is_whole(&folder, wanted).then_some(Snapshot { folder, commit })
    }

    /// Where the files of a commit are; `None` if that is no commit.
    fn snapshot_folder(&self, id: &HubId, commit: &str) -> Option<PathBuf> {
        let is_commit = !commit.is_empty() && commit.chars().all(|c| c.is_ascii_hexdigit());
        let cache = Cache::new(self.cache.clone()).repo(id.repo(commit));
        is_commit.then(|| cache.pointer_path(commit))
    }
}

/// A model of the hub that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// No folder for the cache is known.
    #[error("no folder is known for models of the hub: set HF_HOME")]
    NoHome,
    /// It is not at hand, and must not be fetched.
    #[error(
        "`{id}` is not in the cache, or not whole, and the network is not to be used: run once \
         without `--offline` and HF_HUB_OFFLINE, or name the right cache by HF_HOME: {}",
        .cache.display()
    )]
    NotCached {
        /// The id.
        id: String,
        /// The cache.
        cache: PathBuf,
    },
    /// The hub wants to know who asks, or does not let them.
    #[error(
        "the hub refuses `{id}` ({status}): {}accept the licence at {page} and set HF_TOKEN to a \
         token of that account; if it is a path, it does not exist",
        if *.has_token { "the token has no access to it, or there is no such model: " } else {
            "it is gated or private, or there is no such model: "
        }
    )]
    Refused {
        /// The id.
        id: String,
        /// 401 or 403.
        status: u16,
        /// The model's page.
        page: String,
        /// Whether a token was sent.
        has_token: bool,
    },
    /// No such model, revision or file.
    #[error("there is neither a path `{id}` nor, at {endpoint}, such a model or revision")]
    NotFound {
        /// The id.
        id: String,
        /// The hub's address.
        endpoint: String,
    },
    /// The hub cannot be reached, or answers with an error of its own.
    #[error(
        "`{id}` is not whole in the cache, and {endpoint} cannot be used: {problem}; what has \
         come is kept, and the same command goes on from there"
    )]
    Unreachable {
        /// The id.
        id: String,
        /// The hub's address.
        endpoint: String,
        /// What went wrong.
        problem: String,
    },
    /// The repository holds nothing that can be loaded.
    #[error("`{id}` cannot be loaded: {problem}")]
    Files {
        /// The id.
        id: String,
        /// What was found and expected.
        problem: String,
    },
    /// What came is not what the hub promised.
    #[error("`{id}` came damaged: {problem}; it was thrown away: try again")]
    Damaged {
        /// The id.
        id: String,
        /// What was found and expected.
        problem: String,
    },
    /// A file could not be written or read.
    #[error("cannot keep `{id}` in the cache: {error}: {}", .path.display())]
    Io {
        /// The id.
        id: String,
        /// What the system says.
        error: std::io::Error,
        /// The file or folder.
        path: PathBuf,
    },
}

impl HubError {
    fn io(id: &HubId, path: &Path, error: std::io::Error) -> Self {
        Self::Io { id: id.to_string(), error, path: path.to_path_buf() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_from_paths() {
        let cases = [
            ("org/name", Some(("org/name", "main"))),
            ("HuggingFaceTB/SmolLM2-1.7B@v1.0", Some(("HuggingFaceTB/SmolLM2-1.7B", "v1.0"))),
            ("org/name@refs/pr/1", Some(("org/name", "refs/pr/1"))),
            ("gpt2", None),
            ("./org/name", None),
            ("../name", None),
            ("/org/name", None),
            ("a/b/c", None),
            ("org/", None),
            ("models/tiny.gguf", None),
            ("org/name@../../x", None),
            ("org/name@", None),
            ("org/a--b", None),
            ("~/name", None),
        ];
        for (text, expected) in cases {
            let id = HubId::parse(text);
            let found = id.as_ref().map(|id| (&*id.name, &*id.revision));
            assert_eq!(found, expected, "{text}");
            if let Some(id) = &id {
                assert_eq!(id.to_string(), text);
            }
        }
    }

    #[test]
    fn places_and_secrets_come_from_the_variables_that_others_use() {
        let hub = |vars: &[(&str, &str)]| {
            let vars: Vec<_> = vars.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
            let var = move |name: &str| {
                Some(OsString::from(&vars.iter().find(|(known, _)| known == name)?.1))
            };
            Hub::from_vars(var).unwrap()
        };
        let cache = |vars: &[_]| hub(vars).cache.display().to_string();
        assert_eq!(cache(&[("XDG_CACHE_HOME", "/c")]), "/c/huggingface/hub");
        assert_eq!(cache(&[("XDG_CACHE_HOME", "/c"), ("HF_HOME", "/h")]), "/h/hub");
        assert_eq!(cache(&[("HF_HUB_CACHE", "/x"), ("HF_HOME", "/h")]), "/x");
        let home = tempfile::tempdir().unwrap();
        let home_text = home.path().to_str().unwrap();
        assert_eq!(hub(&[("HF_HOME", home_text)]).token, None);
        std::fs::write(home.path().join("token"), "hf_stored\n").unwrap();
        assert_eq!(hub(&[("HF_HOME", home_text)]).token.as_deref(), Some("hf_stored"));
        let named = hub(&[("HF_HOME", home_text), ("HF_TOKEN", "hf_named")]);
        assert_eq!(named.token.as_deref(), Some("hf_named"));
        assert!(!named.offline && named.clone().offline(true).offline);
        assert!(hub(&[("HF_HUB_OFFLINE", "1")]).offline);
        assert_eq!(hub(&[("HF_ENDPOINT", "http://x/")]).endpoint, "http://x");
    }
}
