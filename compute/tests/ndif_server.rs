//! `patchboard serve` with a model that is swept on NDIF, by a stand-in for the helper: from preview to
//! document, what is refused, what fails, and what is left after a kill.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use self::ndif::{Fake, REPO};
use self::process::{Server, content, drained, hear, positions};

#[path = "support/ndif.rs"]
mod ndif;
#[path = "support/process.rs"]
mod process;

const KEY: &str = "secret-of-somebody";

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracle/models/tiny-llama3")
}

/// A program that finds the model in a cache, and the stand-in in place of the helper.
fn program(fake: &Fake) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_patchboard"));
    command.env("HF_HOME", fake.hub(&tiny())).env("HF_HUB_OFFLINE", "1");
    command.env("PATCHBOARD_NDIF_PYTHON", fake.path("python")).env("NDIF_API_KEY", KEY);
    command.env("RUST_LOG", "debug").env_remove("RUST_BACKTRACE");
    command
}

/// A server whose log goes to a file.
fn command(fake: &Fake) -> Command {
    let mut command = program(fake);
    command.args(["serve", "--port", "0", "--keep-every", "0", "--ndif-model", REPO, "--data"]);
    command.arg(fake.path("data"));
    let log = fs::File::options().create(true).append(true).open(fake.path("stderr")).unwrap();
    command.stderr(log);
    command
}

fn start(fake: &Fake) -> Server {
    Server::from(&mut command(fake))
}

/// Pairs long enough to be several waves each.
fn pairs(n: usize) -> Value {
    let sentence = |verb: &str, i: usize| {
        format!("The king {verb} guard {i} and the crew of the ship before the gate of the town.")
    };
    let pair = |i: usize| json!({ "entity": "The king", "source": sentence("orders", i), "base": sentence("watches", i) });
    let settings = json!({ "site": "resid_post,attn_out,mlp_out", "align": "right" });
    json!({ "model": REPO, "pairs": (0..n).map(pair).collect::<Vec<_>>(), "settings": settings })
}

fn submit(server: &Server, submission: &Value) -> Value {
    let (status, job) = server.ask("POST", "/api/jobs", &submission.to_string());
    assert_eq!(status, 201, "{job}");
    job
}

fn preview(server: &Server, submission: &Value) -> (u16, Value) {
    server.ask("POST", "/api/preview", &submission.to_string())
}

/// Waits until the running sweep has a column that is none of `before`; what is shown then.
fn after_a_wave(server: &Server, before: &BTreeSet<u64>) -> Value {
    hear(server, |event| {
        let columns = match event["type"].as_str()? {
            "snapshot" => &event["live"][0]["columns"],
            "begun" => &event["live"]["columns"],
            "columns" => &event["columns"],
            _ => return None,
        };
        (!positions(columns).is_subset(before)).then_some(())
    })
    .unwrap();
    hear(server, |event| Some(event["live"][0].clone())).unwrap()
}

#[test]
fn a_job_goes_from_its_preview_to_its_documents_and_fills_in_from_waves() {
    let fake = Fake::new("honest");
    fake.hold();
    let server = Server::from(command(&fake).arg("--model").arg(tiny()));
    let models = server.get("/api/models")["models"].clone();
    assert_eq!(models.as_array().unwrap().len(), 2);
    let (here, there) = (&models[0], &models[1]);
    assert_eq!((&here["device"], &here["dtype"]), (&json!("cpu"), &json!("f32")));
    assert_eq!((&there["name"], &there["device"]), (&json!(REPO), &json!("ndif ndif.example")));
    assert!(there["engine"].as_str().unwrap().ends_with("nnsight 0.8.0, ndif 0.1.2"), "{there}");
    assert_ne!(here["fingerprint"], there["fingerprint"]);

    // The preview shows what it does for a model of this machine, but for what the model says.
    let shown = |model: &Value| {
        let mut new = pairs(3);
        new["model"] = model["name"].clone();
        let (status, preview) = preview(&server, &new);
        assert_eq!(status, 200, "{preview}");
        preview
    };
    let (of_here, of_there) = (shown(here), shown(there));
    assert_eq!(of_there["n_pairs"], 3);
    assert!(of_there["estimated_secs"].is_null(), "nothing has been timed yet");
    for (one, other) in
        of_here["pairs"].as_array().unwrap().iter().zip(of_there["pairs"].as_array().unwrap())
    {
        let mut one = one.clone();
        assert!(one["baselines"].is_object() && other["n_cells"].as_u64().unwrap() > 50);
        for field in ["experiment", "baselines", "said", "estimated_secs", "n_cells", "warnings"] {
            one[field] = other[field].clone();
        }
        assert_eq!(one, *other);
        assert!(other["baselines"].is_null() && other["said"].is_null());
    }

    let job = submit(&server, &pairs(3));
    let id = job["pairs"][0]["experiment"].as_str().unwrap();
    assert_eq!(of_there["pairs"][0]["experiment"], id);
    let live = after_a_wave(&server, &BTreeSet::new());
    let seen = positions(&live["columns"]);
    let n_columns = of_there["pairs"][0]["source_positions"].as_array().unwrap().len();
    assert!(!seen.is_empty() && seen.len() < n_columns, "{seen:?} of {n_columns}");
    assert_eq!(live["said"], "RUNNING: Your job has started running.");
    assert!(live["baselines"]["source"].is_number(), "{live}");
    fake.release();
    let jobs = drained(&server);
    assert_eq!((&jobs[0]["state"], &jobs[0]["n_done"]), (&json!("done"), &json!(3)));
    // One request shows how long they take, where there is a limit; all else fits into another.
    assert_eq!(fake.asked().len(), 2, "{:?}", fake.asked());

    let document = content(&server, id);
    let made = &document["provenance"];
    assert_eq!((&made["device"], &made["dtype"]), (&json!("ndif ndif.example"), &json!("f32")));
    assert_eq!((&document["model"], &made["engine"]), (&json!(REPO), &there["engine"]));
    let controls = &document["verification"]["controls"];
    assert!(controls["n_waves"].as_u64().unwrap() > 1, "{controls}");
    assert_eq!((&controls["self_patch"], &controls["end_patch"]), (&json!(0.0), &json!(0.0)));
    assert!(shown(there)["n_known"] == 3 && shown(there)["pairs"][0]["estimated_secs"].is_number());

    // The command line makes the same document of it.
    let pair = &pairs(1)["pairs"][0];
    let text = |name: &str| pair[name].as_str().unwrap();
    let output = program(&fake)
        .args(["sweep", "--on", "ndif", "--model", REPO, "--align", "right", "--pair"])
        .args([text("source"), text("base"), "--entity", text("entity")])
        .args(["--site", "resid_post,attn_out,mlp_out", "--format", "json", "--out"])
        .arg(fake.path("out"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let file = fs::read_dir(fake.path("out")).unwrap().next().unwrap().unwrap().path();
    let mut same: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    for field in ["wall_secs", "finished_at"] {
        same["provenance"][field] = Value::Null;
    }
    // What only a table or a form has.
    same["row"] = document["row"].clone();
    assert_eq!(same, document);
}

#[test]
fn what_cannot_be_done_there_is_refused_by_name_at_the_preview() {
    let fake = Fake::new("honest");
    let server = start(&fake);
    let cases = [
        (json!({ "site": "z" }), "on NDIF there is no site z: choose among resid_pre, attn_out,"),
        (json!({ "site": "resid_post,resid_mid" }), "there is no site resid_mid"),
        (json!({ "window": 3 }), "there is no window of 3 layers: a cell patches one layer"),
        (json!({ "write": "zero" }), "there is no write zero"),
        (json!({ "noise": "all" }), "there is no noise all"),
        (json!({ "lens": true }), "there is no lens"),
        (json!({ "verify": 2 }), "there is no verify 2: every wave has control cells"),
        (
            json!({ "answers": ["unbelievable", "impossible"] }),
            "there is no answer of several tokens",
        ),
    ];
    for (settings, expected) in cases {
        for path in ["/api/preview", "/api/jobs"] {
            let mut new = pairs(1);
            new["settings"] = settings.clone();
            let (status, problem) = server.ask("POST", path, &new.to_string());
            let said = format!("{} {}", problem["detail"], problem["rows"][0]["message"]);
            assert!(status == 422 && said.contains(expected), "{path} {settings}: {problem}");
        }
    }
    assert_eq!(fake.asked(), Vec::<usize>::new());
}

#[test]
fn a_failure_is_told_and_the_next_job_is_swept_all_the_same() {
    let fake = Fake::new("model");
    let server = start(&fake);
    let cases = [
        ("model", "the server does not run this model: no model"),
        ("key", "the server does not accept the key: no key; set NDIF_API_KEY"),
        ("too slow", "the request took longer than the server allows"),
        ("gone", "the server cannot be reached: nobody there"),
        ("control", "the control cells of 3 waves did not come out"),
        ("dies", "ended in the middle; its last words: Segmentation [31m fault"),
        ("leaks", "ended in the middle; its last words: NDIF_API_KEY=[key]"),
    ];
    for (mode, expected) in cases {
        fake.set(mode);
        let job = submit(&server, &pairs(1))["job"]["id"].as_str().unwrap().to_string();
        drained(&server);
        let job = server.get(&format!("/api/jobs/{job}"));
        assert_eq!(job["job"]["state"], "failed", "{mode}: {job}");
        for why in [&job["job"]["error"], &job["pairs"][0]["error"]] {
            assert!(why.as_str().unwrap().contains(expected), "{mode}: {why}");
        }
    }
    // What is cancelled is not waited for.
    fake.set("hangs");
    let id = submit(&server, &pairs(2))["job"]["id"].as_str().unwrap().to_string();
    hear(&server, |event| event.to_string().contains("RUNNING").then_some(())).unwrap();
    let (status, job) = server.ask("POST", &format!("/api/jobs/{id}/cancel"), "");
    assert_eq!((status, &job["job"]["state"]), (200, &json!("cancelled")));
    fake.set("honest");
    let job = submit(&server, &pairs(1));
    let jobs = drained(&server);
    assert_eq!((&jobs[0]["id"], &jobs[0]["state"]), (&job["job"]["id"], &json!("done")));
    // The key is nowhere but in the environment.
    let id = job["pairs"][0]["experiment"].as_str().unwrap();
    let said = [
        server.get("/api/server").to_string(),
        server.get("/api/jobs").to_string(),
        content(&server, id).to_string(),
        hear(&server, |event| Some(event.to_string())).unwrap(),
        fs::read_to_string(fake.path("stderr")).unwrap(),
    ];
    for text in &said {
        assert!(!text.contains(KEY), "{text}");
    }
    assert!(said[4].contains("a pair failed"), "is this test blind? {}", said[4]);
    server.kill();
    let mut files = vec![fake.path("data")];
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            let bytes = fs::read(&path).unwrap();
            let is_there = bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes());
            assert!(!is_there, "{}", path.display());
        }
    }
}

#[test]
fn killed_in_the_middle_it_goes_on_from_what_has_come() {
    let whole = {
        let fake = Fake::new("honest");
        let server = start(&fake);
        submit(&server, &pairs(1));
        drained(&server);
        let id =
            server.get("/api/experiments")["experiments"][0]["id"].as_str().unwrap().to_string();
        (content(&server, &id), fake.asked())
    };
    let fake = Fake::new("honest");
    fake.hold();
    let mut server = start(&fake);
    submit(&server, &pairs(1));
    let (mut share, mut seen) = (0.0, BTreeSet::new());
    for n_kills in [1, 2] {
        let live = after_a_wave(&server, &seen);
        assert!(live["share"].as_f64().unwrap() >= share, "{live}");
        share = live["share"].as_f64().unwrap();
        let columns = positions(&live["columns"]);
        assert!(columns.is_superset(&seen) && columns.len() > seen.len(), "{live}, {seen:?}");
        seen = columns;
        server.kill();
        if n_kills == 2 {
            fake.release();
        }
        server = start(&fake);
    }
    let jobs = drained(&server);
    assert_eq!((&jobs[0]["state"], &jobs[0]["n_done"]), (&json!("done"), &json!(1)));
    let (mut expected, n_asked) = whole;
    let id = expected["id"].as_str().unwrap().to_string();
    let mut found = content(&server, &id);
    // Waves are cut otherwise where some of the cells are there.
    for document in [&mut found, &mut expected] {
        let waves = document["verification"]["controls"]["n_waves"].take();
        assert!(waves.as_u64().unwrap() > 1, "{waves}");
    }
    assert_eq!(found, expected);
    let asked = fake.asked();
    assert!(asked.last() < n_asked.last(), "what had come was asked for again: {asked:?}");
}

#[test]
fn what_no_waiting_mends_is_said_at_the_start() {
    for (mode, expected) in [
        ("open key", "cannot offer org/tiny: the server does not accept the key: closed"),
        ("open model", "cannot offer org/tiny: the server does not run this model: closed"),
        ("open unsupported", "do not fit together: closed"),
        ("dies at once", "the helper that speaks with NDIF ended in the middle"),
    ] {
        let fake = Fake::new(mode);
        if mode == "dies at once" {
            fs::write(fake.path("helper.py"), "").unwrap();
        }
        let output = command(&fake).stderr(Stdio::piped()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(expected), "{mode}: {error}");
    }
    for (args, expected) in [
        (&["--ndif-model", REPO][..], "two models have the name `org/tiny`"),
        (&["--read-only"], "cannot be used with"),
        (&["--ndif-model", "/nowhere/at/all"], "a server knows models by their ids on the hub"),
    ] {
        let fake = Fake::new("honest");
        let output = command(&fake).args(args).stderr(Stdio::piped()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(expected), "{args:?}: {error}");
    }
}
