//! Documents that are not as one would wish: numbers that are none, files by strangers.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod hostile;
mod large;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};
use shared::document::Document;
use shared::field::chosen::Choice;
use shared::field::metric::{Metric, MetricError};
use shared::field::{Field, FieldError};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A server that ends when it is dropped.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(data: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_patchboard"));
        command.args(["serve", "--port", "0", "--model"]);
        command.arg(root().join("tests/oracle/models/tiny-llama3")).arg("--data").arg(data);
        command.env("RUST_LOG", "error").stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let at = line.find("http://").unwrap_or_else(|| panic!("{line:?}"));
        Self { child, address: line[at..].trim().trim_end_matches('/').to_string() }
    }

    /// The status and the body of an answer; a body is sent by POST.
    fn ask(&self, path: &str, body: Option<&str>) -> (u16, String) {
        let config = ureq::Agent::config_builder().http_status_as_error(false).build();
        let (agent, url) =
            (ureq::Agent::new_with_config(config), format!("{}{path}", self.address));
        let mut answer = match body {
            Some(body) => agent.post(&url).header("Content-Type", "application/json").send(body),
            None => agent.get(&url).call(),
        }
        .unwrap();
        let body = answer.body_mut().with_config().limit(64 << 20).read_to_vec().unwrap();
        (answer.status().as_u16(), text(&body))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
        let recovery = Field::of(&document, Choice::default(), Metric::Recovery);
        assert_eq!(recovery, Err(FieldError::Metric(MetricError::NotFinite)));

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

#[test]
fn results_of_older_versions_and_of_the_notebook_open() {
    for entry in fs::read_dir(root().join("static/examples/results")).unwrap() {
        let path = entry.unwrap().path();
        let document = Document::read(&fs::read(&path).unwrap()).unwrap().remove(0);
        assert_eq!(document.site_name(), "resid_post", "{}", path.display());
        assert!(
            document.align.is_some() && document.direction.is_some() && document.extra.is_empty()
        );
    }
}

/// Every file below `folder`, as paths from there.
fn files_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            found.extend(files_below(&path).into_iter().map(|below| format!("{name}/{below}")));
        } else {
            found.push(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    found.sort();
    found
}

/// A place whose neighbourhood is watched: `outer/place`, in which files are written.
struct Watched {
    outer: tempfile::TempDir,
}

impl Watched {
    fn new() -> Self {
        let outer = tempfile::tempdir().unwrap();
        for name in ["bystander", "place/deep/er/bystander"] {
            let path = outer.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "untouched").unwrap();
        }
        Self { outer }
    }

    fn path(&self, name: &str) -> String {
        self.outer.path().join("place/deep/er").join(name).display().to_string()
    }

    /// Whatever is neither a bystander nor in `in.json` and the folders `out-...` it was told of.
    fn strays(&self) -> Vec<String> {
        let mut files = files_below(self.outer.path());
        let is_told = |name: &String| {
            let name = name.strip_prefix("place/deep/er/");
            name.is_some_and(|name| name == "in.json" || name.starts_with("out-"))
        };
        files.retain(|name| !name.ends_with("bystander") && !is_told(name));
        files
    }
}

#[test]
fn hostile_texts_become_files_where_they_belong_and_nowhere_else() {
    let place = Watched::new();
    let documents = hostile::documents();
    let input = place.path("in.json");
    fs::write(&input, serde_json::to_vec(&documents).unwrap()).unwrap();

    let imported = succeed(&["import", &input, "--out", &place.path("out-imported")]);
    assert_eq!(imported.lines().count(), documents.len());
    succeed(&[
        "export",
        &input,
        "--out",
        &place.path("out-exported"),
        "--format",
        "json,csv,svg,png",
    ]);
    let exported = files_below(Path::new(&place.path("out-exported")));
    assert_eq!(exported.len(), 4 * documents.len());
    for name in &exported {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        assert!(name.chars().all(plain) && !name.starts_with(['-', '.']), "{name}");
        let bytes = fs::read(Path::new(&place.path("out-exported")).join(name)).unwrap();
        if name.ends_with(".svg") {
            let svg = text(&bytes).to_lowercase();
            assert!(!svg.contains("<script") && !svg.contains("<img"), "{svg}");
            assert!(!svg.contains(|c: char| c.is_control() && c != '\n'), "{name}");
        }
        if name.ends_with(".json") {
            assert_eq!(Document::read(&bytes).unwrap().len(), 1);
        }
    }
    if compute::site::check_viewer().is_ok() {
        succeed(&["site", &input, "--out", &place.path("out-site")]);
        succeed(&["report", &input, "--out", &place.path("out-report.html")]);
        let pages = files_below(Path::new(&place.path("out-site/e")));
        assert_eq!(pages.len(), documents.len());
        for name in pages {
            let page = fs::read_to_string(place.path(&format!("out-site/e/{name}"))).unwrap();
            let tags = page.split('<').skip(1).map(|tag| tag.split(['>', ' ']).next().unwrap());
            let tags: Vec<_> = tags.collect();
            let known = [
                "!DOCTYPE", "html", "head", "meta", "link", "title", "/title", "/head", "body",
                "a", "/a", "/body", "/html",
            ];
            assert!(tags.iter().all(|tag| known.contains(tag)), "{page}");
            // No attribute ends early: there are as many quotes as the template has.
            assert_eq!(page.matches('"').count(), 40, "{page}");
        }
    }
    assert_eq!(place.strays(), [""; 0]);
}

#[test]
fn hostile_files_are_refused_before_anything_is_written() {
    let place = Watched::new();
    let input = place.path("in.json");
    let absolute = place.outer.path().join("absolute").display().to_string();
    let mut cases = hostile::refused();
    let mut document = hostile::document(1, "a");
    document["id"] = json!(absolute);
    cases.push((document.to_string(), "expected 20 hexadecimal digits in lower case"));
    for (file, expected) in cases {
        fs::write(&input, &file).unwrap();
        for command in ["import", "export", "site", "report"] {
            let out = place.path("out-refused");
            if matches!(command, "site" | "report") && compute::site::check_viewer().is_err() {
                continue;
            }
            let output = patchboard(&[command, &input, "--out", &out]);
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{command} {file:.200}: {said}");
            assert!(said.contains(expected), "{command} {file:.200}: {said}");
            assert!(said.len() < 2_000 && !said.contains("panicked"), "{said}");
            assert!(!Path::new(&out).exists(), "{command} {file:.200}");
        }
    }
    assert_eq!(place.strays(), [""; 0]);
}

#[test]
fn a_server_takes_hostile_texts_as_texts_and_refuses_hostile_files() {
    let place = Watched::new();
    let server = Server::start(Path::new(&place.path("out-data")));
    for (file, expected) in hostile::refused() {
        let (status, said) = server.ask("/api/import", Some(&file));
        assert_eq!(status, 422, "{file:.200}: {said}");
        assert!(said.contains(json!(expected).to_string().trim_matches('"')), "{said}");
    }
    let documents = hostile::documents();
    let (status, said) = server.ask("/api/import", Some(&json!(documents).to_string()));
    assert_eq!(status, 200, "{said}");
    let imported: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(imported["n_new"], documents.len());
    for document in &documents {
        let path = format!("/api/experiments/{}", document["id"].as_str().unwrap());
        let (status, stored) = server.ask(&path, None);
        assert_eq!(status, 200, "{stored}");
        let [stored, sent] = [stored, document.to_string()]
            .map(|text| Document::read(text.as_bytes()).unwrap().remove(0));
        assert_eq!(stored, sent);
        for format in ["svg", "csv"] {
            let (status, said) = server.ask(&format!("{path}/export/{format}"), None);
            assert_eq!(status, 200, "{said}");
            assert!(format == "csv" || !said.to_lowercase().contains("<script"), "{said}");
        }
    }
    let (status, list) = server.ask("/api/experiments?limit=200", None);
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!((status, &list["total"]), (200, &json!(documents.len())));
    drop(server);
    assert_eq!(place.strays(), [""; 0]);
}

#[test]
fn large_texts_and_grids_are_drawn_within_limits() {
    let place = Watched::new();
    let input = place.path("in.json");
    let mut wide = hostile::document(2, "wide");
    let n = 50_000;
    wide["token_labels"] = json!(vec!["x"; n]);
    wide["patching_results"] = json!([vec![0.5; n], vec![1.5; n]]);
    wide["base_tokens"] = json!([]);
    wide["source_tokens"] = json!([]);
    wide["readout"] = json!(null);
    let long = hostile::document(1, &"<b>Ω ".repeat((10 << 20) / 6 / 25));
    let mut longest = hostile::document(3, "long");
    longest["entity"] = json!("<i>".repeat((10 << 20) / 3));
    fs::write(&input, serde_json::to_vec(&[wide, long, longest]).unwrap()).unwrap();
    let out = place.path("out-exported");
    succeed(&["export", &input, "--out", &out, "--format", "csv,svg,png"]);
    for name in files_below(Path::new(&out)).iter().filter(|name| name.ends_with("png")) {
        let size = fs::metadata(Path::new(&out).join(name)).unwrap().len();
        assert!(size < 4 << 20, "{name}: {size} bytes");
    }
    if compute::site::check_viewer().is_ok() {
        succeed(&["site", &input, "--out", &place.path("out-site")]);
        for name in files_below(Path::new(&place.path("out-site/e"))) {
            let size = fs::metadata(place.path(&format!("out-site/e/{name}"))).unwrap().len();
            assert!(size < 20_000, "{name}: {size} bytes");
        }
    }
    assert_eq!(place.strays(), [""; 0]);
}

#[test]
fn two_different_documents_of_one_id_are_told_apart_and_neither_is_lost() {
    let place = Watched::new();
    let (one, other) = (place.path("out-one.json"), place.path("out-other.json"));
    let document = hostile::document(1, "a");
    let mut changed = document.clone();
    changed["patching_results"][0][0] = json!(9.0);
    fs::write(&one, document.to_string()).unwrap();
    fs::write(&other, changed.to_string()).unwrap();
    let out = place.path("out-imported");
    let fails = |args: &[&str], expected: &str| {
        let output = patchboard(args);
        let said = text(&output.stderr);
        assert!(!output.status.success() && said.contains(expected), "{args:?}: {said}");
    };
    fails(&["import", &one, &other, "--out", &out], "hold different documents of the id");
    assert!(!Path::new(&out).exists());
    // The same one twice, or with another date, is one.
    let mut later = document.clone();
    later["provenance"]["wall_secs"] = json!(2.0);
    let copy = place.path("out-copy.json");
    fs::write(&copy, later.to_string()).unwrap();
    assert_eq!(succeed(&["import", &one, &copy, "--out", &out]).lines().count(), 1);
    let kept = fs::read(Path::new(&out).join(&files_below(Path::new(&out))[0])).unwrap();
    fails(&["import", &other, "--out", &out], "is another document of the same id");
    assert_eq!(fs::read(Path::new(&out).join(&files_below(Path::new(&out))[0])).unwrap(), kept);
    succeed(&["import", &one, "--out", &out]);
}
