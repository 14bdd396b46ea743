//! Texts of ten megabytes, wherever a stranger can put one.

use super::*;

const TEN_MB: usize = 10 << 20;

/// Where a document has a text, as JSON pointers.
const TEXTS: [&str; 7] = [
    "/model",
    "/entity",
    "/base_prompt",
    "/base_sentence",
    "/token_labels/0",
    "/template",
    "/readout/top_token_labels/7",
];

/// A document for each of [`TEXTS`], in which it has ten megabytes.
fn documents() -> Vec<Value> {
    let long = "<b>\u{3a9} ".repeat(TEN_MB / 6);
    let with = |(n, pointer): (usize, &&str)| {
        let mut document = hostile::document(n + 1, "a");
        *document.pointer_mut(pointer).unwrap() = json!(long);
        document
    };
    TEXTS.iter().enumerate().map(with).collect()
}

/// Runs the program with so much address space that a few copies of what it is given fit.
fn bounded(args: &[&str]) -> Output {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v 4000000 && exec \"$0\" \"$@\""]);
    command.arg(env!("CARGO_BIN_EXE_patchboard")).args(args);
    command.env_remove("RUST_BACKTRACE").output().unwrap()
}

#[test]
fn documents_with_long_texts_become_files_and_pages_of_bounded_size() {
    let place = Watched::new();
    let input = place.path("in.json");
    fs::write(&input, serde_json::to_vec(&documents()).unwrap()).unwrap();
    let run = |args: &[&str]| {
        let output = bounded(args);
        assert!(output.status.success(), "{args:?}: {:.2000}", text(&output.stderr));
    };
    let size = |name: &str| fs::metadata(place.path(name)).unwrap().len();
    run(&["import", &input, "--out", &place.path("out-imported")]);
    assert_eq!(files_below(Path::new(&place.path("out-imported"))).len(), TEXTS.len());
    let out = place.path("out-exported");
    run(&["export", &input, "--out", &out, "--format", "json,csv,svg,png"]);
    for name in files_below(Path::new(&out)) {
        let size = size(&format!("out-exported/{name}"));
        let most = match name.rsplit_once('.').unwrap().1 {
            "json" => 2 * TEN_MB as u64,
            // A label is there once a layer, a top token once a cell.
            "csv" => 5 * TEN_MB as u64,
            "svg" => 1 << 20,
            _ => 4 << 20,
        };
        assert!(name.len() < 100 && size < most, "{name}: {size} bytes");
    }
    if compute::site::check_viewer().is_ok() {
        run(&["site", &input, "--out", &place.path("out-site")]);
        for name in files_below(Path::new(&place.path("out-site/e"))) {
            assert!(size(&format!("out-site/e/{name}")) < 20_000, "{name}");
        }
        let list = size("out-site/data/index.json");
        assert!(list < 100_000, "{list} bytes");
        run(&["report", &input, "--out", &place.path("out-report.html")]);
    }
    assert_eq!(place.strays(), [""; 0]);
}

/// A document of ten megabytes whose table would have ten gigabytes.
fn swelling() -> Value {
    let mut document = hostile::document(1, "a");
    let n = 500;
    document["token_labels"] = json!(vec!["x"; n]);
    document["patching_results"] = json!([vec![0.5; n], vec![1.5; n]]);
    (document["base_tokens"], document["source_tokens"]) = (json!([]), json!([]));
    let tops = json!([vec![7; n], vec![7; n]]);
    let half = json!([vec![0.5; n], vec![0.5; n]]);
    document["readout"] = json!({ "p_true": half, "p_false": half, "top_token": tops,
        "top_token_labels": { "7": "x".repeat(TEN_MB) } });
    document
}

#[test]
fn a_table_that_would_be_huge_is_refused() {
    let place = Watched::new();
    let input = place.path("in.json");
    fs::write(&input, swelling().to_string()).unwrap();
    let out = place.path("out-exported");
    let output = bounded(&["export", &input, "--out", &out, "--format", "csv"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the table might have 10"), "{said}");
    assert!(files_below(Path::new(&out)).is_empty());
    succeed(&["export", &input, "--out", &out, "--format", "json,svg"]);
}

#[test]
fn a_long_id_is_refused_in_few_words() {
    let place = Watched::new();
    let input = place.path("in.json");
    let mut document = hostile::document(1, "a");
    document["id"] = json!("0".repeat(TEN_MB));
    fs::write(&input, document.to_string()).unwrap();
    for command in ["import", "export", "site", "report"] {
        let output = bounded(&[command, &input, "--out", &place.path("out-refused")]);
        let said = text(&output.stderr);
        assert!(said.contains("expected 20 hexadecimal digits in lower case"), "{said:.2000}");
        assert!(output.status.code() == Some(1) && said.len() < 2_000, "{said:.2000}");
    }
    assert_eq!(place.strays(), [""; 0]);
}

#[test]
fn a_table_with_a_long_cell_is_refused_before_the_work() {
    let place = Watched::new();
    let model = root().join("tests/oracle/models/tiny-llama3").display().to_string();
    for (column, word) in [(0, "king "), (1, "king "), (1, "k"), (2, "\u{3a9}")] {
        let mut cells =
            ["The king", "The king orders the guards.", "The king watches them."].map(String::from);
        cells[column] = word.repeat(TEN_MB / word.len());
        let table = place.path("out-table.tsv");
        fs::write(&table, format!("name\tsource\tbase\n{}\n", cells.join("\t"))).unwrap();
        let output =
            bounded(&["sweep", &table, "--model", &model, "--out", &place.path("out-swept")]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{word} {column}: {said:.2000}");
        let expected = "and the model reads at most 128: shorten it";
        assert!(said.contains("table.tsv:2: ") && said.contains(expected), "{said:.2000}");
        assert!(said.len() < 2_000, "{word} {column}: {said:.2000}");
    }
    assert_eq!(place.strays(), [""; 0]);
}

#[test]
fn a_server_answers_to_long_texts_in_few_words() {
    let place = Watched::new();
    let server = Server::start(Path::new(&place.path("out-data")));
    // As much as a body may hold.
    let long = "x".repeat((4 << 20) - 1000);
    let pair = json!({ "entity": "The king", "source": "The king orders the guards.",
        "base": "The king watches the guards." });
    let submission = json!({ "pairs": [pair], "name": "n", "model": "tiny-llama3",
        "settings": { "template": "{sentence}", "answers": ["TRUE", "FALSE"] } });
    let mut bodies = Vec::new();
    for pointer in [
        "/name",
        "/model",
        "/pairs/0/entity",
        "/pairs/0/source",
        "/pairs/0/base",
        "/settings/template",
        "/settings/answers/0",
    ] {
        let mut changed = submission.clone();
        *changed.pointer_mut(pointer).unwrap() = json!(long);
        bodies.push((pointer.to_string(), changed));
    }
    for (field, value) in [
        ("site", json!(long)),
        ("align", json!(long)),
        ("positions", json!([long])),
        ("write", json!("mean")),
    ] {
        let mut changed = submission.clone();
        changed["settings"][field] = value;
        if field == "write" {
            changed["pairs"][0]["base"] = json!(long);
        }
        bodies.push((field.to_string(), changed));
    }
    for cell in 0..3 {
        let mut cells = ["entity", "The king orders them.", "The king watches them."];
        cells[cell] = &long;
        let rows = format!("entity\tsource\tbase\n{}\n", cells.join("\t"));
        let table = json!({ "text": rows, "format": "tsv" });
        bodies.push((format!("cell {cell}"), json!({ "table": table })));
    }
    let header = json!({ "table": { "text": format!("{long}\tb\nc\td\n"), "format": "tsv" } });
    bodies.push(("header".into(), header));
    for (what, body) in bodies {
        for path in ["/api/preview", "/api/jobs"] {
            let (status, said) = server.ask(path, Some(&body.to_string()));
            assert!(matches!(status, 400 | 422), "{path} {what}: {status} {said:.2000}");
            assert!(said.len() < 5_000, "{path} {what}: {} bytes: {said:.500}", said.len());
            assert!(said.contains("urn:patchboard:problem:"), "{path} {what}: {said:.500}");
        }
    }
    // Documents come in whole and are listed shortly.
    for document in documents() {
        let (status, said) = server.ask("/api/import", Some(&document.to_string()));
        assert_eq!(status, 200, "{said:.2000}");
        let path = format!("/api/experiments/{}", document["id"].as_str().unwrap());
        let (status, stored) = server.ask(&path, None);
        assert!(status == 200 && stored.len() > TEN_MB, "{stored:.500}");
        for (format, most) in [("svg", 1 << 20), ("csv", 5 * TEN_MB), ("png", 4 << 20)] {
            let (status, said) = server.ask(&format!("{path}/export/{format}"), None);
            assert!(status == 200 && said.len() < most, "{format}: {status} {}", said.len());
        }
    }
    let document = swelling();
    let (status, said) = server.ask("/api/import?replace=true", Some(&document.to_string()));
    assert_eq!(status, 200, "{said:.2000}");
    let path = format!("/api/experiments/{}/export/csv", document["id"].as_str().unwrap());
    let (status, said) = server.ask(&path, None);
    assert!(status == 422 && said.contains("the table might have 10"), "{status} {said:.2000}");
    for path in ["/api/experiments?limit=200", "/api/experiments/facets", "/data/index.json"] {
        let (status, said) = server.ask(path, None);
        assert!(status == 200 && said.len() < 100_000, "{path}: {status}, {} bytes", said.len());
    }
    let mut document = hostile::document(99, "a");
    document["id"] = json!("0".repeat(TEN_MB));
    let (status, said) = server.ask("/api/import", Some(&document.to_string()));
    assert!(status == 422 && said.len() < 2_000, "{status} {said:.2000}");
    drop(server);
    assert_eq!(place.strays(), [""; 0]);
}
