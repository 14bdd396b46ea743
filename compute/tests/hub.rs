//! Models of the hub: a cache as Hugging Face's programs lay it out, and downloads from a local
//! server that answers as the hub does.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "support/hub.rs"]
mod fake;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use compute::hub::{Hub, HubError, HubId, Snapshot, Wanted};
use compute::model::{Description, Elsewhere, Loader, Model};
use fake::{COMMIT, FakeHub, Fault};
use tempfile::TempDir;

const ID: &str = "patchboard/tiny";
const TOKEN: &str = "hf_secret";

fn tiny(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracle/models").join(name)
}

/// A folder for the cache, and the hub's address.
struct Place {
    home: TempDir,
    endpoint: String,
}

impl Place {
    fn new(endpoint: &str) -> Self {
        Self { home: tempfile::tempdir().unwrap(), endpoint: endpoint.to_string() }
    }

    fn hub(&self, vars: &[(&str, &str)]) -> Hub {
        Hub::from_vars(|name| match name {
            "HF_HOME" => Some(self.home.path().into()),
            "HF_ENDPOINT" => Some(OsString::from(&self.endpoint)),
            name => vars.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into()),
        })
        .unwrap()
    }

    fn get(&self, id: &str, vars: &[(&str, &str)]) -> Result<Snapshot, HubError> {
        self.hub(vars).snapshot(&HubId::parse(id).unwrap(), Wanted::All, &mut |_| {})
    }

    /// The folder of the model.
    fn repo(&self) -> PathBuf {
        self.home.path().join("hub").join("models--patchboard--tiny")
    }

    /// Files below the model's folder, but for those that only keep others out.
    fn files(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.repo().join(folder)).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut names: Vec<_> = names.filter(|name| !name.ends_with(".lock")).collect();
        names.sort();
        names
    }

    /// Lays a model out as `huggingface_hub` does: contents in `blobs`, a snapshot of links to
    /// them, and the branch's commit in `refs`.
    fn cache(&self, model: &str) {
        let (blobs, refs) = (self.repo().join("blobs"), self.repo().join("refs"));
        let snapshot = self.repo().join("snapshots").join(COMMIT);
        for folder in [&blobs, &refs, &snapshot] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(refs.join("main"), COMMIT).unwrap();
        for (i, entry) in fs::read_dir(tiny(model)).unwrap().enumerate() {
            let from = entry.unwrap();
            fs::copy(from.path(), blobs.join(format!("blob{i}"))).unwrap();
            let to = Path::new("../../blobs").join(format!("blob{i}"));
            std::os::unix::fs::symlink(to, snapshot.join(from.file_name())).unwrap();
        }
    }
}

fn id_of(model: &Model) -> &str {
    model.fingerprint.get().unwrap()
}

/// Nothing listens there.
const NOWHERE: &str = "http://127.0.0.1:9";

#[test]
fn what_is_in_the_cache_is_used_without_the_network() {
    for model in ["tiny-llama3", "tiny-tied"] {
        let place = Place::new(NOWHERE);
        place.cache(model);
        for id in [ID.to_string(), format!("{ID}@{COMMIT}")] {
            let found = place.get(&id, &[]).unwrap();
            assert_eq!(found.commit, COMMIT);
            let cached = Loader::new(&found.folder).load().unwrap();
            let plain = Loader::new(&tiny(model)).load().unwrap();
            assert_eq!(id_of(&cached), id_of(&plain));
        }
    }
}

#[test]
fn what_is_not_whole_in_the_cache_is_not_used() {
    let lacking = [
        "config.json",
        "tokenizer.json",
        "model-00002-of-00003.safetensors",
        "model.safetensors.index.json",
    ];
    for name in lacking {
        let place = Place::new(NOWHERE);
        place.cache("tiny-llama3");
        let link = place.repo().join("snapshots").join(COMMIT).join(name);
        fs::remove_file(fs::canonicalize(&link).unwrap()).unwrap();
        let error = place.get(ID, &[]).unwrap_err().to_string();
        assert!(error.contains("`patchboard/tiny` is not whole in the cache"), "{error}");
        assert!(error.contains(NOWHERE), "{error}");
        let offline = place.get(ID, &[("HF_HUB_OFFLINE", "1")]).unwrap_err().to_string();
        assert!(offline.contains("the network is not to be used"), "{offline}");
        assert!(offline.contains("hub"), "{offline}");
    }
}

#[test]
fn a_download_is_whole_and_only_what_is_needed() {
    for model in ["tiny-llama3", "tiny-tied"] {
        let server = FakeHub::start(&tiny(model), Fault::None);
        let place = Place::new(&server.address);
        let mut heard = Vec::new();
        let found = place
            .hub(&[])
            .snapshot(&HubId::parse(ID).unwrap(), Wanted::All, &mut |progress| {
                heard.push((progress.file.to_string(), progress.n_done, progress.n_bytes));
            })
            .unwrap();
        assert_eq!(found.commit, COMMIT);
        let plain = Loader::new(&tiny(model)).load().unwrap();
        assert_eq!(id_of(&Loader::new(&found.folder).load().unwrap()), id_of(&plain));
        let entries = fs::read_dir(tiny(model)).unwrap().map(|entry| entry.unwrap().file_name());
        let mut expected: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
        expected.sort();
        // The server also has `pytorch_model.bin`, `generation_config.json` and a README.
        assert_eq!(place.files(&format!("snapshots/{COMMIT}")), expected);
        assert!(heard.iter().any(|(file, done, all)| file == "tokenizer.json" && done == all));
        assert_eq!(fs::read_to_string(place.repo().join("refs/main")).unwrap(), COMMIT);
        // The second time nothing is asked.
        let n_requests = server.n_requests();
        assert_eq!(place.get(ID, &[]).unwrap(), found);
        assert_eq!(server.n_requests(), n_requests);
    }
}

#[test]
fn configuration_and_tokenizer_come_alone_where_that_is_wanted() {
    let server = FakeHub::start(&tiny("tiny-tied"), Fault::None);
    let place = Place::new(&server.address);
    let id = HubId::parse(ID).unwrap();
    let get = |wanted, vars: &[(&str, &str)]| place.hub(vars).snapshot(&id, wanted, &mut |_| {});
    let found = get(Wanted::AllButWeights, &[]).unwrap();
    let snapshot = format!("snapshots/{COMMIT}");
    assert_eq!(place.files(&snapshot), ["config.json", "tokenizer.json", "tokenizer_config.json"]);
    let elsewhere = |name: &str| Elsewhere {
        name: name.into(),
        revision: None,
        dtype: "bf16".into(),
        device: "a server".into(),
        engine: "others".into(),
    };
    let described = Description::of_folder(&found.folder, &elsewhere("org/name")).unwrap();
    let plain = Loader::new(&tiny("tiny-tied")).load().unwrap();
    assert_eq!(described.config.n_layers, plain.config.n_layers);
    assert_ne!(described.fingerprint.get().unwrap(), id_of(&plain));
    let other = Description::of_folder(&found.folder, &elsewhere("org/other")).unwrap();
    assert_ne!(described.fingerprint.get().unwrap(), other.fingerprint.get().unwrap());

    // For those who want all, that is not the model; and what is there is not fetched again.
    let offline = [("HF_HUB_OFFLINE", "1")];
    assert_eq!(get(Wanted::AllButWeights, &offline).unwrap(), found);
    assert!(matches!(get(Wanted::All, &offline), Err(HubError::NotCached { .. })));
    assert_eq!(get(Wanted::All, &[]).unwrap(), found);
    assert_eq!(id_of(&Loader::new(&found.folder).load().unwrap()), id_of(&plain));
}

#[test]
fn who_may_not_is_told_what_to_do_and_never_the_token() {
    let server = FakeHub::start(&tiny("tiny-tied"), Fault::Gated(TOKEN));
    let place = Place::new(&server.address);
    let refused = place.get(ID, &[]).unwrap_err().to_string();
    assert!(
        refused.starts_with("the hub refuses `patchboard/tiny` (401): it is gated"),
        "{refused}"
    );
    assert!(refused.contains(&format!("licence at {}/patchboard/tiny", server.address)));
    assert!(refused.contains("set HF_TOKEN"), "{refused}");
    let wrong = place.get(ID, &[("HF_TOKEN", "hf_wrong")]).unwrap_err().to_string();
    assert!(wrong.contains("(403): the token has no access"), "{wrong}");
    assert!(!wrong.contains("hf_wrong"), "{wrong}");
    assert!(place.files("snapshots").is_empty() && place.files("refs").is_empty());
    assert!(place.get(ID, &[("HF_TOKEN", TOKEN)]).is_ok());
    // The token that `hf auth login` has stored.
    let other = Place::new(&server.address);
    fs::write(other.home.path().join("token"), TOKEN).unwrap();
    assert!(other.get(ID, &[]).is_ok());
}

#[test]
fn what_is_not_there_is_said() {
    let server = FakeHub::start(&tiny("tiny-tied"), Fault::None);
    let place = Place::new(&server.address);
    for id in ["patchboard/other", "patchboard/tiny@v9"] {
        let error = place.get(id, &[]).unwrap_err().to_string();
        assert!(error.contains(&format!("neither a path `{id}` nor")), "{error}");
    }
    let server = FakeHub::start(&tiny("tiny-tied"), Fault::Lacks("model.safetensors"));
    let error = Place::new(&server.address).get(ID, &[]).unwrap_err().to_string();
    assert!(error.contains("found only pickled weights"), "{error}");
}

#[test]
fn a_connection_that_breaks_leaves_no_wrong_file_and_goes_on_later() {
    let server = FakeHub::start(&tiny("tiny-tied"), Fault::Breaks);
    let place = Place::new(&server.address);
    let error = place.get(ID, &[]).unwrap_err().to_string();
    assert!(error.contains("goes on from there"), "{error}");
    let snapshot = format!("snapshots/{COMMIT}");
    assert!(!place.files(&snapshot).contains(&"model.safetensors".to_string()));
    let parts = place.files("blobs").into_iter().filter(|name| name.ends_with(".part"));
    assert_eq!(parts.count(), 1);
    assert!(place.files("refs").iter().all(|name| name != "main"));
    server.set_fault(Fault::None);
    let n_sent = server.n_weight_bytes();
    let found = place.get(ID, &[]).unwrap();
    let plain = Loader::new(&tiny("tiny-tied")).load().unwrap();
    assert_eq!(id_of(&Loader::new(&found.folder).load().unwrap()), id_of(&plain));
    let n_bytes = fs::metadata(tiny("tiny-tied").join("model.safetensors")).unwrap().len();
    assert!(server.n_weight_bytes() - n_sent < n_bytes, "the beginning came twice");
}

#[test]
fn what_came_damaged_is_thrown_away() {
    // A part of another upload, before what comes: as many bytes as promised, but others.
    let server = FakeHub::start(&tiny("tiny-tied"), Fault::Breaks);
    let place = Place::new(&server.address);
    assert!(place.get(ID, &[]).is_err());
    let part = place.files("blobs").into_iter().find(|name| name.ends_with(".part")).unwrap();
    let part = place.repo().join("blobs").join(part);
    let n_bytes = fs::metadata(&part).unwrap().len();
    assert!(n_bytes > 0);
    fs::write(&part, vec![b'x'; n_bytes as usize]).unwrap();
    server.set_fault(Fault::None);
    // It is noticed, and fetched again from its beginning.
    let found = place.get(ID, &[]).unwrap();
    let weights = fs::read(found.folder.join("model.safetensors")).unwrap();
    assert_eq!(weights, fs::read(tiny("tiny-tied").join("model.safetensors")).unwrap());

    let server = FakeHub::start(&tiny("tiny-tied"), Fault::Lies);
    let place = Place::new(&server.address);
    let error = place.get(ID, &[]).unwrap_err().to_string();
    assert!(error.contains("has the SHA-256") && error.contains("thrown away"), "{error}");
    let snapshot = format!("snapshots/{COMMIT}");
    assert!(!place.files(&snapshot).contains(&"model.safetensors".to_string()));
}
