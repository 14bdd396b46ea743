//! The command line as a user meets it: files in, files out, messages and exit codes.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use shared::document::Document;
use shared::study::Study;
use tempfile::TempDir;

const TABLE: &str = "name\tpower\tno_power\n\
    The king\tThe king orders the guards to leave.\tThe king watches the guards at rest.\n\
    Maria\tMaria commands the crew.\tMaria greets the crew and then walks home.\n";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn tiny(name: &str) -> PathBuf {
    root().join("tests/oracle/models").join(name)
}

fn patchboard(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_patchboard"));
    command.args(args).env_remove("RUST_BACKTRACE");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn succeed(args: &[&str]) -> String {
    let output = patchboard(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .map(|entries| {
            entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect()
        })
        .unwrap_or_default();
    names.sort();
    names
}

/// The files of results in a folder, without their study.
fn results(folder: &Path) -> Vec<String> {
    names(folder).into_iter().filter(|name| name != "study").collect()
}

/// A folder with a table, and a place for results.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("pairs.tsv"), TABLE).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        fs::write(self.folder.path().join(name), bytes).unwrap();
        self.path(name)
    }

    /// A copy of a tiny model with one file changed.
    fn model(&self, name: &str, file: &str, change: impl Fn(Vec<u8>) -> Vec<u8>) -> String {
        let copy = self.folder.path().join(format!("{name}-{}", names(self.folder.path()).len()));
        fs::create_dir(&copy).unwrap();
        for entry in fs::read_dir(tiny(name)).unwrap() {
            let from = entry.unwrap().path();
            let mut bytes = fs::read(&from).unwrap();
            if from.file_name().unwrap() == file {
                bytes = change(bytes);
            }
            fs::write(copy.join(from.file_name().unwrap()), bytes).unwrap();
        }
        copy.display().to_string()
    }
}

#[test]
fn sweep_writes_documents_and_figures_and_does_not_run_twice() {
    let place = Place::new();
    let (table, out) = (place.path("pairs.tsv"), place.path("out"));
    let model = tiny("tiny-llama3").display().to_string();
    let args = [
        "sweep",
        &table,
        "--model",
        &model,
        "--out",
        &out,
        "--verify",
        "5",
        "--format",
        "png,svg,csv",
    ];
    let said = succeed(&args);
    for expected in [
        "tiny-llama3: 4 layers of width 48, weights in BF16 computed in f32",
        "[1/2] The king",
        "answers  TRUE (\" TRUE\" 282,",
        "warning  unequal lengths: the source has ",
        "source   log P(TRUE) - log P(FALSE) = ",
        "verified 5 cells by the naive engine: largest difference",
        "2 swept: ",
    ] {
        assert!(said.contains(expected), "{expected}\nin\n{said}");
    }
    let written = results(Path::new(&out));
    assert_eq!(written.len(), 8, "{written:?}");
    assert!(written[0].starts_with("maria-") && written[0].ends_with(".csv"), "{written:?}");

    let document = |name: &String| fs::read(Path::new(&out).join(name)).unwrap();
    let jsons: Vec<_> = written.iter().filter(|name| name.ends_with(".json")).collect();
    for name in &jsons {
        let document = Document::read(&document(name)).unwrap().remove(0);
        assert!(name.contains(&document.id));
        assert!(document.verification.unwrap().max_abs_diff.unwrap() < 1e-5);
        assert_eq!(document.provenance.unwrap().weights_dtype, "BF16");
    }
    let csv = text(&document(&written[0]));
    assert!(csv.starts_with(
        "site,direction,layer,head,position,span,token,token_id,logit_diff,recovery,p_true,p_false"
    ));

    // A figure that was deleted is drawn again; the sweep is not.
    fs::remove_file(Path::new(&out).join(&written[3])).unwrap();
    let before = document(jsons[0]);
    assert!(succeed(&args).contains("0 swept, 2 already there"));
    assert_eq!(results(Path::new(&out)), written);
    assert_eq!(document(jsons[0]), before);

    let lines = succeed(&["sweep", &table, "--model", &model, "--out", &out, "--json"]);
    assert_eq!(lines.lines().count(), 2);
    for line in lines.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["status"], "already there");
    }
    assert_eq!(succeed(&["sweep", &table, "--model", &model, "--out", &out, "--quiet"]), "");

    // What is wrong is replaced when it is asked for, and only then.
    let wrong = Path::new(&out).join(jsons[0]);
    let mut document: serde_json::Value = serde_json::from_slice(&before).unwrap();
    document["patching_results"][0][0] = serde_json::json!(1234.5);
    fs::write(&wrong, document.to_string()).unwrap();
    let numbers = || Document::read(&fs::read(&wrong).unwrap()).unwrap().remove(0).patching_results;
    let right = Document::read(&before).unwrap().remove(0).patching_results;
    assert!(succeed(&args).contains("0 swept, 2 already there"));
    assert_eq!(numbers().get(0, 0), Some(1234.5));
    let again = [&args[..], &["--again"]].concat();
    assert!(succeed(&again).contains("2 swept: "));
    assert_eq!(numbers(), right);
    assert_eq!(results(Path::new(&out)), written);

    // One weight that was edited is another model, to which the same results do not belong.
    let shard = "model-00002-of-00003.safetensors";
    let edited = place.model("tiny-llama3", shard, |mut bytes| {
        let last = bytes.len() - 1;
        bytes[last] ^= 0x40;
        bytes
    });
    let args = ["sweep", &table, "--model", &edited, "--out", &out, "--format", "json"];
    assert!(succeed(&args).contains("2 swept: "));
    assert_eq!(results(Path::new(&out)).len(), written.len() + 2);
}

#[test]
fn a_dry_run_shows_the_plan_and_writes_nothing() {
    let place = Place::new();
    let model = tiny("tiny-tied").display().to_string();
    let (table, out) = (place.path("pairs.tsv"), place.path("out"));
    let said =
        succeed(&["sweep", &table, "--model", &model, "--out", &out, "--dry-run", "--limit", "1"]);
    for expected in
        ["tokens   source", "base     log P(TRUE)", "plan     ", "one pass over the layers"]
    {
        assert!(said.contains(expected), "{expected}\nin\n{said}");
    }
    assert!(!said.contains("Maria"));
    assert!(!Path::new(&out).exists());
}

#[test]
fn pairs_come_from_the_command_line_with_answers_of_their_own() {
    let place = Place::new();
    let model = tiny("tiny-tied").display().to_string();
    let out = place.path("out");
    let pair = ["sweep", "--pair", "The king orders the guards", "The king watches the guards"];
    let rest = [
        "--model",
        &model,
        "--out",
        &out,
        "--answers",
        "the,king",
        "--format",
        "json",
        "--direction",
        "noising",
        "--site",
        "mlp_out",
    ];
    let said = succeed(&[&pair[..], &rest[..]].concat());
    assert!(said.contains("source   \"The king watches the guards\""), "{said}");
    let name = results(Path::new(&out)).remove(0);
    let bytes = fs::read(Path::new(&out).join(name)).unwrap();
    let document = Document::read(&bytes).unwrap().remove(0);
    assert_eq!(document.template, None);
    assert_eq!(document.base_sentence, "The king orders the guards");
    assert_eq!(document.answers.unwrap().true_answer.word, "the");
    assert_eq!(document.site.unwrap().name(), "mlp_out");
}

#[test]
fn results_of_the_notebook_are_imported_and_exported() {
    let place = Place::new();
    let notebook = place.write(
        "patching_results.json",
        r#"{"model": "meta-llama/Llama-3.1-8B", "entity": "Erin", "source_prompt": "a",
            "base_prompt": "b", "source_sentence": "a", "base_sentence": "b", "sentence_start": 2,
            "token_labels": ["a", " <c>"], "num_layers": 2,
            "patching_results": [[0.5, NaN], [-1.25, 2.0]]}"#,
    );
    let out = place.path("out");
    let imported = succeed(&["import", &notebook, "--out", &out]);
    let imported = imported.trim_end();
    assert!(Path::new(imported).file_name().unwrap().to_string_lossy().starts_with("erin-"));
    let written = succeed(&[
        "export",
        imported,
        "--out",
        &out,
        "--format",
        "csv,svg,png",
        "--preset",
        "rdbu",
        "--range",
        "-2,2",
        "--transpose",
        "--origin",
        "bottom",
    ]);
    assert_eq!(written.lines().count(), 3);
    let csv = fs::read_to_string(written.lines().find(|l| l.ends_with("csv")).unwrap()).unwrap();
    assert!(csv.contains("\n,,0,,2,,a,,0.5,,,,,,,,,\n"), "{csv}");
    assert!(csv.contains("\n,,0,,3,, <c>,,,,,,,,,,,\n"), "{csv}");
}

/// Runs a command that must fail with `code` and say `expected`, without a trace of a panic.
fn fails(args: &[&str], code: i32, expected: &str) {
    let output = patchboard(args).stdin(Stdio::null()).output().unwrap();
    check_failure(&output, &format!("{args:?}"), code, expected);
}

fn check_failure(output: &Output, what: &str, code: i32, expected: &str) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{what}: {said}");
    assert!(said.contains(expected), "{what}\n{said}\nlacks\n{expected}");
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn bad_input_is_refused_before_any_work() {
    let place = Place::new();
    let table = place.path("pairs.tsv");
    let model = tiny("tiny-tied").display().to_string();
    let out = place.path("out");
    let header = "name\tpower\tno_power\n";
    let long = "guard ".repeat(200);
    let bad_tables = [
        (String::new(), ".tsv:1: the table is empty"),
        (header.into(), ".tsv:1: the table has no rows"),
        (
            "name\tpower\nA\tb\n".into(),
            "no column `no_power` for the base: the header has `name`, `power`",
        ),
        (format!("{header}A\tb\tc\n\tb\tc\n"), ".tsv:3: column `name`: the cell is empty"),
        (format!("{header}A\tb\tb\nB\tc\tc\n"), "2 problems in "),
        (format!("{header}A\t{long}\tc\n"), ".tsv:2: the source prompt has "),
        (format!("{header}A\tb\tc\nB\t{long}\tc\nC\t{long}\tc\n"), "2 pairs cannot be run:"),
        (
            format!("{header}A\tb\tc\nB\t\"c\td\n"),
            ".tsv:3: a quote (\") that opens here is never closed",
        ),
    ];
    for (i, (text, expected)) in bad_tables.iter().enumerate() {
        let table = place.write(&format!("bad{i}.tsv"), text);
        fails(&["sweep", &table, "--model", &model, "--out", &out], 1, expected);
    }
    let not_utf8 = place.write("latin.csv", b"name,power,no_power\nA,caf\xe9,tea\n");
    let unwritable = place.write("file", "");
    let sweep = |rest: &[&str], code, expected| {
        let args = [&["sweep", &table, "--model", &model, "--out", &out], rest].concat();
        fails(&args, code, expected);
    };
    sweep(
        &["--template", "{entity} rules"],
        1,
        "a template needs `{sentence}` exactly once, found it 0 times",
    );
    sweep(
        &["--template", "{sentence} {rank}"],
        1,
        "pairs.tsv:2: `{rank}` is no column of the table: it has `name`",
    );
    sweep(
        &["--template", "other"],
        1,
        "`other` is no template: expected notebook, forced, obey, parties, none",
    );
    sweep(
        &["--answers", "elephantine,elephantine"],
        1,
        "the answers \"elephantine\" and \"elephantine\" are the same tokens",
    );
    sweep(&["--answers", "TRUE,True"], 1, "the answers \"TRUE\" and \"True\" share the token");
    sweep(&["--answers", "TRUE"], 2, "expected two answers");
    sweep(&["--site", "resid"], 2, "`resid` is no site: expected one of resid_pre");
    sweep(&["--align", "left"], 2, "`left` is no alignment");
    sweep(&["--columns", "who=name"], 2, "`who` is no role");
    sweep(&["--columns", "entity=who"], 1, "no column `who` for the entity");
    sweep(&["--memory", "3MiB"], 1, "the sweep needs at least");
    sweep(&["--memory", "much"], 2, "--memory");
    sweep(
        &["--format", "gif"],
        2,
        "`gif` is no format: expected one of json, csv, parquet, png, svg, pdf",
    );
    sweep(&["--only", "Nobody"], 1, "is about `Nobody`");
    sweep(&["--limit", "none"], 2, "invalid value 'none'");
    fails(&["sweep"], 2, "required");
    fails(
        &["sweep", &not_utf8, "--model", &model, "--out", &out],
        1,
        "latin.csv:2: the text is not UTF-8",
    );
    fails(&["sweep", &model, "--model", &model], 1, "expected a table that ends in .tsv");
    fails(&["sweep", "none.tsv", "--model", &model], 1, "cannot read the table none.tsv");
    fails(
        &["sweep", &table, "--model", &model, "--out", &unwritable],
        1,
        "cannot write to the output folder",
    );
    fails(
        &["sweep", &table, "--model", "nowhere", "--out", &out],
        1,
        "no such model: expected a folder with `config.json`",
    );
    fails(
        &["sweep", "--pair", "same words", "same words", "--model", &model, "--out", &out],
        1,
        "source and base are the same",
    );
    fails(&["import", &table, "--out", &out], 1, "expected a result document in JSON");
    fails(&["export", &place.path("none.json")], 1, "cannot read");
    assert!(results(Path::new(&out)).is_empty(), "{:?}", names(Path::new(&out)));
}

#[test]
fn damaged_models_are_refused_by_name() {
    let place = Place::new();
    let table = place.path("pairs.tsv");
    let replace = |from: &'static str, to: &'static str| {
        move |bytes: Vec<u8>| text(&bytes).replace(from, to).into_bytes()
    };
    let half = |mut bytes: Vec<u8>| {
        bytes.truncate(bytes.len() / 2);
        bytes
    };
    let shard = "model-00002-of-00003.safetensors";
    let index = "model.safetensors.index.json";
    let cases = [
        (place.model("tiny-tied", "model.safetensors", half), "its header promises"),
        (place.model("tiny-tied", "model.safetensors", |b| b[..4].to_vec()), "the file is empty"),
        (
            place.model("tiny-tied", "model.safetensors", |_| vec![0xff; 64]),
            "this is no safetensors file",
        ),
        (place.model("tiny-llama3", shard, half), shard),
        (
            place.model("tiny-llama3", index, replace(shard, "../x")),
            "the index names the shard `../x`",
        ),
        (place.model("tiny-llama3", index, replace(shard, "y.safetensors")), "y.safetensors"),
        (place.model("tiny-llama3", index, half), "the index of shards is damaged"),
        (
            place.model("tiny-tied", "config.json", replace("\"llama\"", "\"mixtral\"")),
            "the model family is `mixtral`: only llama, mistral, qwen2,",
        ),
        (
            place.model(
                "tiny-tied",
                "config.json",
                replace("\"intermediate_size\": 48", "\"intermediate_size\": 49"),
            ),
            "the configuration says [49, 32]",
        ),
        (place.model("tiny-tied", "config.json", half), "config.json"),
        (place.model("tiny-tied", "tokenizer.json", half), "the tokenizer is damaged"),
        (place.write("model.gguf", b"GGUF\x03\0\0\0"), "this is no GGUF file, or a damaged one"),
        (place.write("other.gguf", b"hello"), "this is no GGUF file, or a damaged one"),
        (place.write("model.bin", b"hello"), "no such model"),
    ];
    let out = place.path("out");
    for (model, expected) in &cases {
        fails(&["sweep", &table, "--model", model, "--out", &out], 1, expected);
    }
    assert!(results(Path::new(&out)).is_empty());
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let place = Place::new();
    let model = tiny("tiny-tied").display().to_string();
    let (table, out) = (place.path("pairs.tsv"), place.path("out"));
    let mut child =
        patchboard(&["sweep", &table, "--model", &model, "--out", &out, "--format", "json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
    // The work is done all the same.
    assert_eq!(results(Path::new(&out)).len(), 2);
}

/// A limit on the size of files stands in for a full disk: writing fails midway.
#[cfg(unix)]
#[test]
fn a_failed_write_leaves_nothing_half_done() {
    let place = Place::new();
    let model = tiny("tiny-tied").display().to_string();
    let (table, out) = (place.path("pairs.tsv"), place.path("out"));
    succeed(&[
        "sweep", &table, "--model", &model, "--out", &out, "--format", "json", "--limit", "1",
    ]);
    let before = results(Path::new(&out));
    let binary = env!("CARGO_BIN_EXE_patchboard");
    let script = format!(
        "trap '' XFSZ; ulimit -f 4; exec '{binary}' sweep '{table}' --model '{model}' --out '{out}' --format json"
    );
    let output =
        Command::new("sh").args(["-c", &script]).env_remove("RUST_BACKTRACE").output().unwrap();
    check_failure(&output, "a sweep without room", 1, "the file could not be written");
    assert_eq!(results(Path::new(&out)), before);
    // With room again, what is finished is not run again.
    let said = succeed(&["sweep", &table, "--model", &model, "--out", &out, "--format", "json"]);
    assert!(said.contains("1 swept, 1 already there"), "{said}");
}

#[test]
fn a_result_is_enough_where_as_many_cells_were_verified() {
    let place = Place::new();
    let model = tiny("tiny-tied").display().to_string();
    let (table, out) = (place.path("pairs.tsv"), place.path("out"));
    for (n, swept) in [
        ("1", true),
        ("0", false),
        ("1", false),
        ("5", true),
        ("3", false),
        ("9999", true),
        ("99999", false),
    ] {
        let args = ["sweep", &table, "--model", &model, "--out", &out, "--format", "json"];
        let said = succeed(&[&args[..], &["--limit", "1", "--verify", n]].concat());
        assert_eq!(said.contains("1 swept"), swept, "--verify {n}: {said}");
    }
}

/// Ctrl-C after the first of many results: it is kept, and the same command goes on from there.
#[cfg(unix)]
#[test]
fn an_interrupted_table_is_continued() {
    // A machine that is done before it hears of it gets more to do.
    let was_interrupted = [40, 400, 4_000].into_iter().any(interrupt_a_table);
    assert!(was_interrupted);
}

/// Whether the interruption came before the end.
#[cfg(unix)]
fn interrupt_a_table(n_pairs: usize) -> bool {
    let place = Place::new();
    let rows: String = (0..n_pairs)
        .map(|i| format!("N{i}\tThe king orders guard {i} to leave the hall.\tThe king watches guard {i} at rest in the hall.\n"))
        .collect();
    let table = place.write("many.tsv", format!("name\tpower\tno_power\n{rows}"));
    let model = tiny("tiny-llama3").display().to_string();
    let out = place.path("out");
    let args = ["sweep", &table, "--model", &model, "--out", &out, "--format", "json"];
    let mut child =
        patchboard(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = lines.find(|line| line.as_ref().unwrap().starts_with("done"));
    assert!(first.is_some());
    // The shell's own kill: a bare system has no program of that name.
    let kill = format!("kill -INT {}", child.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    // Its output is read to the end, so that it is not the pipe that stops it.
    let n_finished = 1 + lines.filter(|line| line.as_ref().unwrap().starts_with("done")).count();
    let output = child.wait_with_output().unwrap();
    let kept = results(Path::new(&out));
    assert_eq!(kept.len(), n_finished);
    if n_finished == n_pairs {
        return false;
    }
    check_failure(&output, "an interrupted sweep", 1, "finished and kept in");
    for name in &kept {
        Document::read(&fs::read(Path::new(&out).join(name)).unwrap()).unwrap();
    }
    let said = succeed(&args);
    assert!(
        said.contains(&format!("{} swept, {n_finished} already there", n_pairs - n_finished)),
        "{said}"
    );
    assert_eq!(results(Path::new(&out)).len(), n_pairs);
    true
}

/// The test build has no viewer in it.
#[test]
fn sites_and_reports_are_written_where_the_viewer_was_built_in() {
    let place = Place::new();
    let (site, report) = (place.path("site"), place.path("report.html"));
    let example = fs::read_dir(root().join("static/examples/results")).unwrap().next();
    let example = example.unwrap().unwrap().path().display().to_string();
    if option_env!("PATCHBOARD_VIEWER").is_none_or(str::is_empty) {
        let expected = "this patchboard was built without the viewer: run `scripts/build-web.sh`";
        for (command, out) in [("site", &site), ("report", &report)] {
            fails(&[command, &example, "--out", out], 1, expected);
            assert!(!Path::new(out).exists());
        }
        return;
    }
    succeed(&["site", &example, "--out", &site]);
    for name in ["index.html", "web_bg.wasm", "web_pages.wasm", "data/index.json"] {
        assert!(Path::new(&site).join(name).is_file(), "{name}");
    }
    succeed(&["report", &example, "--out", &report]);
    let page = fs::read_to_string(&report).unwrap();
    assert!(!page.contains("src=\"") && !page.contains("href=\"style.css"), "a report is alone");
}

#[test]
fn models_are_described() {
    let said = succeed(&["models", &tiny("tiny-llama3").display().to_string()]);
    for expected in [
        "tiny-llama3: llama, ",
        "weights in BF16",
        "4 layers, width 48, 6 heads (2 for keys) of 16",
        "separate embeddings",
    ] {
        assert!(said.contains(expected), "{expected}\nin\n{said}");
    }
    assert!(succeed(&["models"]).contains("SmolLM2-135M-Instruct.Q4_1 (default), "));
}

#[test]
fn bench_prints_its_figures() {
    let model = tiny("tiny-tied").display().to_string();
    let said = succeed(&[
        "bench",
        "--model",
        &model,
        "--rounds",
        "1",
        "--naive-cells",
        "1",
        "--json",
        "--pair",
        "The king orders the guards",
        "The king watches the guards",
    ]);
    let figures: serde_json::Value = serde_json::from_str(&said).unwrap();
    for key in [
        "wavefront_secs",
        "naive_secs_per_cell",
        "batched_secs_per_cell",
        "prefix_secs_per_cell",
        "useful_operations",
        "done_operations",
        "achieved_gflops",
        "peak_gflops",
        "speedup_over_naive",
        "speedup_over_batched",
        "speedup_over_prefix",
        "share_of_peak",
    ] {
        assert!(figures[key].as_f64().is_some_and(|n| n > 0.0), "{key}: {figures}");
    }
    let text = succeed(&["bench", "--model", &model, "--rounds", "1"]);
    assert!(text.contains("speed-up") && text.contains("of the peak"), "{text}");
}

/// The operations that GPUs are given, on the CPU, by the script that checks GPUs.
#[test]
fn a_device_is_checked_against_the_cpu() {
    let place = Place::new();
    let report = place.path("report.json");
    let output = Command::new("bash")
        .arg(root().join("scripts/check-gpu.sh"))
        .args(["--device", "cpu", "--shape", "tiny", "--out", &report])
        .args(["--binary", env!("CARGO_BIN_EXE_patchboard")])
        // Without the default model, which takes long.
        .env("XDG_CACHE_HOME", place.path("cache"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&report).unwrap()).unwrap();
    let families = report["check"]["families"].as_array().unwrap();
    assert!(families.len() >= 26, "f32 and f16 of every family: {families:?}");
    for found in families {
        let [difference, bound] = ["largest_difference", "bound"].map(|key| found[key].as_f64());
        assert!(difference.unwrap() > 0.0 && difference < bound, "{found}");
    }
    for key in ["cells_per_sec", "achieved_gflops", "peak_gflops", "share_of_peak"] {
        assert!(report["check"]["timing"][key].as_f64().unwrap() > 0.0, "{key}: {report}");
    }
    assert!(report["default_model"]["cpu"].is_null());
    fails(
        &["check", "--memory", "100MiB", "--shape", "8b", "--rounds", "1"],
        1,
        "choose a smaller `--shape`",
    );
}

#[test]
fn devices_and_types_that_are_not_there_are_refused_with_what_to_do() {
    let place = Place::new();
    let (table, model) = (place.path("pairs.tsv"), tiny("tiny-tied").display().to_string());
    let mut cases = vec![
        (["--device", "tpu"], 2, "expected cpu, cuda:N or metal"),
        (["--dtype", "f64"], 2, "possible values: f32, bf16, f16"),
        (["--dtype", "bf16"], 1, "on the CPU everything is computed in f32"),
    ];
    if !cfg!(feature = "cuda") {
        cases.push((["--device", "cuda:0"], 1, "this program was built without cuda: build it"));
    }
    for (settings, code, expected) in cases {
        fails(&[&["sweep", &table, "--model", &model], &settings[..]].concat(), code, expected);
    }
    let recheck = ["sweep", &table, "--model", &model, "--recheck"];
    for (settings, code, expected) in [
        (&["0"][..], 2, "invalid value '0' for '--recheck <N>'"),
        (&["5"], 1, "f32 on the CPU, which is what this sweep is computed in"),
        (&["5", "--on", "ndif"], 1, "with `--on ndif` the weights are elsewhere"),
    ] {
        fails(&[&recheck[..], settings].concat(), code, expected);
    }
}

#[test]
fn a_model_of_the_hub_is_taken_from_the_cache_and_its_commit_written_down() {
    let place = Place::new();
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let repo = place.folder.path().join("hub/models--org--name");
    let snapshot = repo.join("snapshots").join(commit);
    fs::create_dir_all(repo.join("refs")).unwrap();
    fs::create_dir_all(&snapshot).unwrap();
    fs::write(repo.join("refs/main"), commit).unwrap();
    for file in names(&tiny("tiny-llama3")) {
        fs::copy(tiny("tiny-llama3").join(&file), snapshot.join(&file)).unwrap();
    }
    let (table, out) = (place.path("pairs.tsv"), place.path("out"));
    let run = |model: &str, current: &str| {
        let mut command = patchboard(&["sweep", &table, "--limit", "1", "--offline"]);
        command.args(["--out", &out, "--model", model]).current_dir(current);
        command.env("HF_HOME", place.folder.path()).env_remove("HF_HUB_CACHE").output().unwrap()
    };
    let elsewhere = tempfile::tempdir().unwrap();
    let output = run("org/name", elsewhere.path().to_str().unwrap());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let file = results(Path::new(&out)).into_iter().find(|name| name.ends_with(".json")).unwrap();
    let document =
        Document::read(&fs::read(Path::new(&out).join(file)).unwrap()).unwrap().remove(0);
    assert_eq!(document.model, "org/name");
    assert_eq!(document.provenance.unwrap().model_revision.as_deref(), Some(commit));

    let output = run("org/other", elsewhere.path().to_str().unwrap());
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("`org/other` is not in the cache"));
    // A path that is there wins over an id.
    fs::create_dir_all(elsewhere.path().join("org/name")).unwrap();
    let output = run("org/name", elsewhere.path().to_str().unwrap());
    assert!(text(&output.stderr).contains("config.json"), "{}", text(&output.stderr));
}

const GROUPED: &str = "name\tpower\tno_power\tkind\n\
    The king\tThe king orders the guards to leave.\tThe king watches the guards at rest.\ta\n\
    Maria\tMaria commands the crew.\tMaria greets the crew and then walks home.\tb\n\
    Maria\tMaria commands the ship.\tMaria leaves the ship.\tb\n";

#[test]
fn a_table_becomes_a_study() {
    let place = Place::new();
    let table = place.write("grouped.tsv", GROUPED);
    let (model, out) = (tiny("tiny-llama3").display().to_string(), place.path("out"));
    let sweep = ["sweep", &table, "--model", &model, "--out", &out];
    let said = succeed(&[&sweep[..], &["--keep", "all", "--group-by", "kind"]].concat());
    assert!(said.contains("study    3 of 3 pairs count: all with known baselines"), "{said}");
    let folder = place.folder.path().join("out/study");
    let expected = [
        "mean-resid_post.denoising.pdf",
        "mean-resid_post.denoising.png",
        "mean-resid_post.denoising.svg",
        "pairs.csv",
        "study.json",
        "values.safetensors",
    ];
    assert_eq!(names(&folder), expected);
    let read = |path: &Path| Study::read(&fs::read(path.join("study.json")).unwrap()).unwrap();
    let study = read(&folder);
    assert_eq!((&*study.title, study.pairs.len()), ("grouped", 3));
    assert_eq!(study.grids[0].summaries.len(), 3, "all, a and b");
    assert_eq!(study.grids[0].differences.len(), 1);
    let csv = fs::read_to_string(folder.join("pairs.csv")).unwrap();
    assert!(csv.lines().next().unwrap().ends_with("row.kind,row.name,row.no_power,row.power"));
    let n_columns: usize = study.pairs.iter().map(|pair| pair.base.tokens.len()).sum();
    assert_eq!(csv.lines().count(), 1 + n_columns * study.num_layers);

    // The same of the finished documents, in one file, and against itself nothing differs.
    let again = place.path("again");
    let of_folder = ["study", &out, "--keep", "all", "--out", &again, "--inline"];
    succeed(&[&of_folder[..], &["--compare", folder.to_str().unwrap()]].concat());
    let inline = read(&place.folder.path().join("again"));
    let file = inline.values.as_ref().unwrap().inline().unwrap();
    assert_eq!(file.len(), fs::read(folder.join("values.safetensors")).unwrap().len());
    let difference = &inline.grids[0].differences[0];
    assert!(difference.effect.value.iter().flatten().all(|value| value.abs() < 1e-6));

    // Rows that change without their numbers are in the next study of the same results.
    fs::write(&table, GROUPED.replace("\ta\n", "\tb\n")).unwrap();
    let said = succeed(&sweep);
    assert!(said.contains("already there"), "{said}");
    assert!(read(&folder).pairs.iter().all(|pair| pair.row["kind"] == "b"));

    for (args, expected) in [
        (&["--group-by", "sort"][..], "no pair has a column `sort`"),
        (&["--min-contrast", "NaN"], "expected a contrast of 0 or more"),
        (&["--keep", "best"], "is no rule: expected one of contrast, right, all"),
        (&["--compare", "nowhere"], "cannot read nowhere"),
    ] {
        let of_out = ["study", &out, "--out", &again];
        let output = patchboard(&[&of_out[..], args].concat()).output().unwrap();
        assert!(!output.status.success());
        assert!(text(&output.stderr).contains(expected), "{}", text(&output.stderr));
    }
}

/// The columns and rows of a Parquet file, as CSV has them.
fn columns_of(path: &str) -> Vec<Vec<String>> {
    let reader = SerializedFileReader::new(fs::File::open(path).unwrap()).unwrap();
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let names = schema.columns().iter().map(|column| column.name().to_string()).collect();
    let text = |field: &Field| match field {
        Field::Null => String::new(),
        Field::Str(text) => text.clone(),
        Field::Float(number) => format!("{number:?}"),
        field => field.to_string(),
    };
    let rows = reader.get_row_iter(None).unwrap();
    let rows = rows.map(|row| row.unwrap().get_column_iter().map(|(_, f)| text(f)).collect());
    std::iter::once(names).chain(rows).collect()
}

#[test]
fn a_result_and_a_study_are_exported_as_the_same_rows_in_csv_and_in_parquet() {
    let place = Place::new();
    let table = place.write("grouped.tsv", GROUPED);
    let (model, out) = (tiny("tiny-llama3").display().to_string(), place.path("out"));
    succeed(&["sweep", &table, "--model", &model, "--out", &out, "--keep", "all"]);
    let document = names(Path::new(&out)).into_iter().find(|n| n.ends_with(".json")).unwrap();
    let to = place.path("to");
    let study = format!("{out}/study");
    let document = format!("{out}/{document}");
    let export = ["export", &document, "--study", &study, "--out", &to];
    let said = succeed(&[&export[..], &["--format", "csv,parquet,json"]].concat());
    let files: Vec<_> = said.lines().collect();
    assert_eq!(files.len(), 3 + 4, "{said}");
    assert!(files[3].contains("/to/study-"), "{said}");
    let with = |end: &str| -> Vec<&str> {
        files.iter().copied().filter(|file| file.ends_with(end)).collect()
    };
    for (csv, parquet) in with(".csv").into_iter().zip(with(".parquet")) {
        let text = fs::read_to_string(csv).unwrap();
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
        let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
        let found = columns_of(parquet);
        assert!(rows.len() > 50 && found.len() == rows.len(), "{csv} and {parquet} differ");
        for (expected, found) in rows.iter().zip(&found) {
            assert_eq!(expected.len(), found.len());
            for (expected, found) in expected.iter().zip(found) {
                // The two write the same number in their own way.
                let numbers = (expected.parse::<f32>().ok(), found.parse::<f32>().ok());
                let is_same = numbers.0.is_some() && numbers.0 == numbers.1;
                assert!(is_same || expected == found, "{expected} in {csv}, {found} in {parquet}");
            }
        }
    }
    let read = Study::read(&fs::read(with("study.json")[0]).unwrap()).unwrap();
    let place = read.values.unwrap();
    assert_eq!(&*place.file, "values.safetensors");
    assert!(files.iter().any(|file| file.ends_with("/values.safetensors")), "{said}");
}

#[test]
fn a_divided_table_is_put_together_again() {
    let place = Place::new();
    let table = place.write("grouped.tsv", GROUPED);
    let model = tiny("tiny-llama3").display().to_string();
    let sweep = |out: &str, shard: &str| {
        let sweep = ["sweep", &table, "--model", &model, "--format", "json", "--out", out];
        let divided = ["--shard", shard];
        let n = if shard.is_empty() { 0 } else { 2 };
        succeed(&[&sweep[..], &divided[..n]].concat())
    };
    let (whole, apart, more) = (place.path("whole"), place.path("apart"), place.path("more"));
    sweep(&whole, "");
    sweep(&apart, "2/2");
    assert_eq!(results(Path::new(&apart)).iter().filter(|n| n.ends_with(".json")).count(), 2);
    assert!(!Path::new(&apart).join("study").exists(), "a shard is no study");
    let merged = place.path("merged");
    let merge = |folders: &[&str], args: &[&str]| {
        let args = [&["merge"], folders, &["--out", &merged, "--keep", "all"], args].concat();
        patchboard(&args).output().unwrap()
    };
    let said = merge(&[&apart], &[]);
    check_failure(&said, "a missing shard", 1, "1 of 3 pairs have no result, in the shards 1/2");
    assert!(merge(&[&apart], &["--partial"]).status.success());
    let study = |folder: &str| {
        let bytes = fs::read(Path::new(folder).join("study/study.json")).unwrap();
        Study::read(&bytes).unwrap()
    };
    assert_eq!(study(&merged).pairs.len(), 2);
    // The other shard twice, somewhere else.
    sweep(&more, "1/2");
    assert!(sweep(&more, "1/2").contains("already there"));
    assert!(merge(&[&more, &apart], &[]).status.success());
    let ids = |study: Study| study.pairs.into_iter().map(|pair| pair.id).collect::<Vec<_>>();
    assert_eq!(ids(study(&merged)), ids(study(&whole)));

    // A result that was cut short, and a folder that holds no shard.
    let cut = results(Path::new(&more)).into_iter().find(|name| name.ends_with(".json")).unwrap();
    fs::write(Path::new(&more).join(&cut), "{").unwrap();
    check_failure(&merge(&[&more, &apart], &[]), "a damaged result", 1, "run shard 1/2 again");
    check_failure(&merge(&[&whole], &[]), "no shard", 1, "found no shard below");

    // The script is readable, and asks for what is missing.
    let slurm = ["slurm", &table, "--model", &model, "--out", &apart, "--shards", "2", "--print"];
    let script = succeed(&[&slurm[..], &["--keep", "all", "--gres", "gpu:1"]].concat());
    for expected in
        ["#SBATCH --array=1\n", "#SBATCH --gres=gpu:1", "--shard=\"$SLURM_ARRAY_TASK_ID/2\""]
    {
        assert!(script.contains(expected), "{expected} in {script}");
    }
    assert!(script.contains("--keep=all") && script.trim_end().ends_with(&format!("-- {table}")));
    // What makes no sense there is said before a model is opened.
    fails(&[&slurm[..], &["--dry-run"]].concat(), 1, "`--dry-run` is for `patchboard sweep`");
    fails(&[&slurm[..], &["--shard", "1/2"]].concat(), 1, "`--shard` is for `patchboard sweep`");
}
