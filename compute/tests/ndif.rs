//! Sweeps on NDIF with a helper that is a small script: what is asked for, what is believed of the
//! answers, and what becomes of failures.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use compute::experiment::{Experiment, Part};
use compute::model::{Description, Elsewhere};
use compute::ndif::{Event, Helper, Limits, NdifError, Settings, Summary, run};
use shared::document::{Controls, Document};
use shared::specification::pairs::Pair;
use shared::specification::settings::Settings as Asked;

use self::support::Fake;

#[path = "support/ndif.rs"]
mod support;

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracle/models/tiny-llama3")
}

fn helper(fake: &Fake) -> Helper {
    let patience = Duration::from_secs(2);
    Helper::start(&Settings { python: fake.path("python"), patience }).unwrap()
}

fn model() -> Description {
    let elsewhere = Elsewhere {
        name: "org/tiny".into(),
        revision: None,
        dtype: "f32".into(),
        device: "ndif ndif.example".into(),
        engine: "patchboard, nnsight 0.8.0".into(),
    };
    Description::of_folder(&tiny(), &elsewhere).unwrap()
}

fn experiments(model: &Description, settings: &Asked) -> Vec<Experiment> {
    let pairs = [
        (
            "The king",
            "The king orders the guards to leave.",
            "The king watches the guards at rest.",
        ),
        ("Maria", "Maria commands the crew.", "Maria greets the crew and then walks home."),
    ];
    let pair = |(entity, source, base): (&str, &str, &str)| Pair {
        line: 1,
        entity: entity.into(),
        source: source.into(),
        base: base.into(),
        cells: BTreeMap::default(),
    };
    let asked = settings.clone().check().unwrap();
    let experiment = |texts| Experiment::prepare(model, &pair(texts), &asked, None).unwrap();
    pairs.map(experiment).to_vec()
}

fn all_sites() -> Asked {
    let sites = "resid_pre,attn_out,mlp_out,resid_post";
    Asked {
        sites: sites.parse().unwrap(),
        direction: "both".parse().unwrap(),
        align: "right".parse().unwrap(),
        ..Asked::default()
    }
}

/// What came of a sweep: its summary or error, the documents, and what was said.
struct Swept {
    outcome: Result<Summary, NdifError>,
    documents: Vec<Document>,
    said: Vec<String>,
    parts: Vec<Part>,
}

fn sweep(fake: &Fake, settings: &Asked, begun: &[Part], limits: Limits) -> Swept {
    let model = model();
    let experiments = experiments(&model, settings);
    let table: Vec<_> = experiments.iter().collect();
    let (mut documents, mut said) = (Vec::new(), Vec::new());
    let mut parts = vec![Part::default(); table.len()];
    let mut listener = |event: Event| {
        match event {
            Event::Said(text) => said.push(text.to_string()),
            Event::Wave { pair, part } => parts[pair].add(part.clone()),
            Event::Pair { document, .. } => documents.push(document.clone()),
            _ => {}
        }
        ControlFlow::Continue(())
    };
    let outcome = run(&mut helper(fake), &model, &table, begun, limits, &mut listener);
    Swept { outcome, documents, said, parts }
}

fn limits() -> Limits {
    Limits { pause: Duration::ZERO, ..Limits::default() }
}

/// The values of a document, all that are the same wherever and whenever they were computed.
fn values(documents: &[Document]) -> Vec<(String, Vec<Vec<Option<f32>>>)> {
    let grids = |d: &Document| d.grids.iter().map(|grid| grid.logit_diff.clone()).collect();
    let mut values: Vec<_> =
        documents.iter().map(|document| (document.id.clone(), grids(document))).collect();
    values.sort_by(|(one, _), (other, _)| one.cmp(other));
    values
}

#[test]
fn every_cell_is_asked_for_once_and_written_down() {
    let fake = Fake::new("honest");
    let swept = sweep(&fake, &all_sites(), &[], limits());
    let summary = swept.outcome.unwrap();
    assert_eq!((summary.n_requests, summary.n_sent), (1, 100));
    let exact = |n_waves| Some(Controls { n_waves, ..Controls::default() });
    assert_eq!(Some(summary.controls), exact(summary.controls.n_waves));
    assert_eq!(swept.documents.len(), 2);
    for document in &swept.documents {
        assert_eq!(document.grids.len(), 8);
        assert!(document.grids.iter().all(|grid| grid.logit_diff.iter().all(Option::is_some)));
        let provenance = document.provenance.as_ref().unwrap();
        assert_eq!((&*provenance.device, &*provenance.dtype), ("ndif ndif.example", "f32"));
        assert!(document.baselines.is_some() && document.readout.is_some());
        let controls = document.verification.as_ref().unwrap().controls;
        assert_eq!(controls, exact(controls.unwrap().n_waves));
        Document::read(document.to_json().as_bytes()).unwrap();
    }
    // The residual stream before a layer is the one after the layer before: those cells are one.
    let n_trials: usize =
        swept.documents.iter().flat_map(|d| &d.grids).map(|g| g.logit_diff.len()).sum();
    let n_controls = 2 * summary.controls.n_waves;
    assert!(fake.asked()[0] - n_controls < n_trials * 3 / 4, "{:?} of {n_trials}", fake.asked());

    let small = Limits { n_cells: 50, n_wave_cells: 7, ..limits() };
    let again = sweep(&Fake::new("honest"), &all_sites(), &[], small);
    assert!(again.outcome.unwrap().n_requests > 5);
    assert!(values(&again.documents) == values(&swept.documents));
    // Where time is limited, a first wave shows how much fits.
    let (timed, hour) = (Fake::new("honest"), Some(Duration::from_secs(3600)));
    let swept_so = sweep(&timed, &all_sites(), &[], Limits { time_limit: hour, ..limits() });
    assert!(values(&swept_so.documents) == values(&swept.documents));
    assert!(timed.asked().len() == 2 && timed.asked()[0] <= 130, "{:?}", timed.asked());
    // What has arrived is not asked for again.
    let mut half = swept.parts.clone();
    half.iter_mut().for_each(|part| part.trials.retain(|trial, _| trial % 2 == 0));
    let rest = Fake::new("honest");
    let gone_on = sweep(&rest, &all_sites(), &half, limits());
    assert!(values(&gone_on.documents) == values(&swept.documents));
    // What control cells showed before is part of what they showed in all.
    let n_waves = |swept: &Swept| -> usize {
        let checked = swept.documents.iter().map(|d| d.verification.clone().unwrap());
        checked.map(|checked| checked.controls.unwrap().n_waves).sum()
    };
    let more = gone_on.outcome.as_ref().unwrap().controls.n_waves;
    assert_eq!(n_waves(&gone_on), summary.controls.n_waves + more);
    assert!(rest.asked()[0] < fake.asked()[0] * 3 / 4);
    // Nothing but the unpatched runs is left.
    let runs = Fake::new("honest");
    let gone_on = sweep(&runs, &all_sites(), &swept.parts, limits());
    assert!(values(&gone_on.documents) == values(&swept.documents));
    assert_eq!(runs.asked(), [0]);
}

#[test]
fn what_is_no_answer_to_what_was_asked_is_an_error() {
    let cases = [
        ("short", "`log_true` has "),
        ("nan", "NDIF's answer is not as it should be"),
        ("infinite", "found the number inf, expected finite ones"),
        ("token", "the token 1000000 is beyond the "),
        ("above all", "a logit of 3 is beyond the 2 of all together"),
        ("negative", "found the divergence -1, expected none below 0"),
        ("tops", "`top` has 2 tokens, expected 1"),
        ("foreign", "a wave of other cells than those that were asked for"),
        ("foreign pair", "a wave of pair 100 that was not asked for"),
        ("no runs", "a wave of pair 0 before its runs"),
        ("twice", "a wave of "),
        ("garbage", "<html>502 Bad Gateway"),
        ("dies", "ended in the middle; its last words: Segmentation [31m fault"),
        ("cut", "ended in the middle"),
        ("hangs", "has said nothing for 2 s"),
        ("key", "the server does not accept the key: no key; set NDIF_API_KEY"),
        ("model", "the server does not run this model: no model"),
        ("unsupported", "do not fit together: no unsupported"),
        ("gone", "the server cannot be reached: nobody there"),
        ("too slow", "the request took longer than the server allows"),
        ("lost", "is done and has not sent all cells, 3 times in a row"),
        ("control", "the control cells of 3 waves did not come out"),
    ];
    for (mode, expected) in cases {
        // One wave a pair, so that `lost` loses all that is new in the end.
        let swept = sweep(&Fake::new(mode), &Asked::default(), &[], limits());
        let error = swept.outcome.unwrap_err().to_string();
        assert!(error.contains(expected), "{mode}: {error}");
        assert!(!error.contains('\x1b'), "{mode}: {error:?}");
    }
}

#[test]
fn failures_that_pass_are_overcome() {
    let expected = values(&sweep(&Fake::new("honest"), &all_sites(), &[], limits()).documents);
    for (mode, said) in [
        ("unreachable", "the server cannot be reached, and is asked for again:  [31mnobody there"),
        ("too large", "the request is larger than the server takes"),
        ("memory", "the server ran out of memory"),
        ("time out", "the request took longer than the server allows"),
        ("slow", "the request took longer than the server allows"),
        ("control once", "cells was thrown away: writing what is there changes nothing"),
    ] {
        let fake = Fake::new(mode);
        let swept = sweep(&fake, &all_sites(), &[], limits());
        if let Err(error) = swept.outcome {
            panic!("{mode}: {error}");
        }
        assert!(values(&swept.documents) == expected, "{mode}");
        let checked = swept.documents.iter().map(|d| d.verification.clone().unwrap());
        let n_discarded: usize = checked.map(|c| c.controls.unwrap().n_discarded).sum();
        assert_eq!(n_discarded, usize::from(mode == "control once"), "{mode}");
        assert!(swept.said.iter().any(|text| text.contains(said)), "{mode}: {:?}", swept.said);
    }
}

#[test]
fn a_sweep_can_be_broken_off() {
    let model = model();
    let experiments = experiments(&model, &Asked::default());
    let table: Vec<_> = experiments.iter().collect();
    for mode in ["hangs", "honest"] {
        let fake = Fake::new(mode);
        let mut helper = helper(&fake);
        let outcome =
            run(&mut helper, &model, &table, &[], limits(), &mut |_| ControlFlow::Break(()));
        assert!(matches!(outcome, Err(NdifError::Cancelled)), "{mode}");
    }
}

/// The command, with the fake helper.
fn patchboard(fake: &Fake, args: &[&str]) -> Output {
    let table = "name\tpower\tno_power\n\
        The king\tThe king orders the guards to leave.\tThe king watches the guards at rest.\n\
        Maria\tMaria commands the crew.\tMaria greets the crew and then walks home.\n";
    fs::write(fake.path("pairs.tsv"), table).unwrap();
    Command::new(env!("CARGO_BIN_EXE_patchboard"))
        .arg("sweep")
        .arg(fake.path("pairs.tsv"))
        .args(["--on", "ndif", "--ndif-host", "local", "--format", "json", "--model"])
        .arg(tiny())
        .arg("--out")
        .arg(fake.path("out"))
        .args(args)
        .env("PATCHBOARD_NDIF_PYTHON", fake.path("python"))
        .env("NDIF_API_KEY", "secret-of-somebody")
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_command_writes_documents_and_goes_on_after_an_interruption() {
    let settings = ["--site", "resid_post,attn_out,mlp_out", "--direction", "both"];
    let fake = Fake::new("dies");
    let output = patchboard(&fake, &settings);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("the helper that speaks with NDIF ended in the middle"), "{error}");
    assert!(error.contains("and the same command goes on from there"), "{error}");
    let partial = |name: &str| name.ends_with(".partial");
    let names = || {
        let entries = fs::read_dir(fake.path("out")).unwrap();
        let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
        names.collect::<Vec<_>>()
    };
    assert!(names().iter().any(|name| partial(name)), "{:?}", names());
    let before = fake.asked();

    fake.set("honest");
    let output = patchboard(&fake, &settings);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for expected in [
        "on ndif ndif.example (patchboard ",
        "nnsight 0.8.0, ndif 0.1.2), running, computed in f32, 25 s a request at most",
        "whose requests run in a sandbox",
        "control cells came out within 0.0e0",
        "control  of ",
        "a run patched with itself changes by 0.0e0, with the end of the other it is 0.0e0 from that",
        "2 swept: ",
        "study    in ",
    ] {
        assert!(said.contains(expected), "{expected}\nin\n{said}");
    }
    assert!(!names().iter().any(|name| partial(name)), "{:?}", names());
    let asked = fake.asked();
    let n_cells = |asked: &[usize]| asked.iter().sum::<usize>();
    let again = n_cells(&asked[before.len()..]);
    assert!(again < n_cells(&before), "what had arrived was asked for again: {asked:?}");
    assert!(!(said + &text(&output.stderr)).contains("secret-of-somebody"));

    // What is there is not run again, and asks for nothing.
    let output = patchboard(&fake, &settings);
    assert!(text(&output.stdout).contains("already there"));
    assert_eq!(fake.asked(), asked);
}

#[test]
fn what_cannot_be_done_there_is_refused_by_name_before_anything_is_asked() {
    let cases: &[(&[&str], &str)] = &[
        (&["--site", "z"], "on NDIF there is no site z: choose among resid_pre, attn_out,"),
        (&["--site", "resid_mid"], "there is no site resid_mid"),
        (&["--window", "3"], "there is no window of 3 layers: a cell patches one layer"),
        (&["--write", "zero"], "there is no write zero"),
        (&["--noise", "all"], "there is no noise all"),
        (&["--lens"], "there is no lens"),
        (&["--verify", "2"], "there is no verify 2: every wave has control cells"),
        (&["--device", "cuda:0"], "with `--on ndif` the server decides"),
        (&["--answers", "unbelievable,impossible"], "there is no answer of several tokens"),
    ];
    for (args, expected) in cases {
        let fake = Fake::new("honest");
        let output = patchboard(&fake, args);
        let error = text(&output.stderr);
        assert!(!output.status.success() && error.contains(expected), "{args:?}: {error}");
        assert_eq!(fake.asked(), Vec::<usize>::new());
    }
    let fake = Fake::new("honest");
    fs::remove_file(fake.path("python")).unwrap();
    let error = text(&patchboard(&fake, &[]).stderr);
    assert!(error.contains("`scripts/setup-ndif.sh` installs it"), "{error}");
    let error = text(&patchboard(&fake, &["--on", "here"]).stderr);
    assert!(error.contains("cannot be used multiple times"), "{error}");
}
