//! Documents that are not as one would wish: numbers that are none, files by strangers.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use shared::document::Document;
use shared::metric::{Metric, MetricError};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn patchboard(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_patchboard"));
    command.args(args).env_remove("RUST_BACKTRACE").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn succeed(args: &[&str]) -> String {
    let output = patchboard(args);
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// A copy of a tiny model, whose weights are in BF16, with the last weight of one file replaced.
fn broken_model(folder: &Path, file: &str, weight: u16) -> String {
    let copy = folder.join(format!("model-{weight:x}-{}", file.len()));
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(root().join("tests/oracle/models/tiny-llama3")).unwrap() {
        let from = entry.unwrap().path();
        let name = from.file_name().unwrap();
        let mut bytes = fs::read(&from).unwrap();
        if name == file {
            let at = bytes.len() - 2;
            bytes[at..].copy_from_slice(&weight.to_le_bytes());
        }
        fs::write(copy.join(name), bytes).unwrap();
    }
    copy.display().to_string()
}

#[test]
fn one_infinite_weight_makes_a_document_that_opens_everywhere_and_says_so() {
    const INFINITY: u16 = 0x7f80;
    const NAN: u16 = 0x7fc0;
    for (file, weight) in [
        ("model-00001-of-00003.safetensors", INFINITY),
        ("model-00002-of-00003.safetensors", INFINITY),
        ("model-00003-of-00003.safetensors", NAN),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let model = broken_model(folder.path(), file, weight);
        let out = folder.path().join("out");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let out = out.display().to_string();
        let sweep = |more: &[&str]| {
            let pair = ["The king orders the guards.", "The king watches the guards."];
            let args = ["sweep", "--pair", pair[0], pair[1], "--model", &model, "--out", &out];
            succeed(&[&args[..], more].concat())
        };
        let said = sweep(&["--verify", "3", "--format", "csv,svg,png"]);
        assert!(said.contains("warning  missing numbers: "), "{file}: {said}");
        assert!(said.contains("warning  not verified: 3 cells "), "{file}: {said}");
        assert!(!said.contains("verified 3 cells by the naive engine: largest"), "{file}: {said}");

        let files = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path());
        let json = files.filter(|path| path.extension().unwrap() == "json").last().unwrap();
        let bytes = fs::read(&json).unwrap();
        let document = Document::read(&bytes).unwrap().remove(0);
        assert_eq!(document.to_json().as_bytes(), bytes);
        assert!(document.verification.as_ref().unwrap().max_abs_diff.is_none());
        assert!(document.baselines.as_ref().unwrap().source.top_token.is_none());
        assert_eq!(Metric::Recovery.grid(&document), Err(MetricError::NotFinite));

        // It is found again, and everything that takes documents takes it.
        assert!(sweep(&[]).contains("0 swept, 1 already there"), "{file}");
        let json = json.display().to_string();
        succeed(&["import", &json, "--out", &path("imported")]);
        succeed(&["export", &json, "--out", &path("exported"), "--format", "json,csv,svg,png"]);
        if compute::site::check_viewer().is_ok() {
            succeed(&["site", &json, "--out", &path("site")]);
            succeed(&["report", &json, "--out", &path("report.html")]);
        }
        let lines = sweep(&["--dry-run", "--json"]);
        assert!(lines.contains("\"logit_diff\":null"), "{file}: {lines}");
    }
}
