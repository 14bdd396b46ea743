use std::path::Path;
use std::sync::mpsc;

use rusqlite::Connection;
use serde_json::json;
use shared::document::Document;

use super::fair::HERE;
use super::partial::{Cost, Partial, made_for};
use super::*;
use crate::experiment::{Experiment, Part};
use crate::store::{Claim, FILE};
use crate::sweep::{self, Finished, Program, Progress, Reading, SweepError, unpatched_bytes};

#[cfg(unix)]
mod remote;
mod together;
mod workers;

fn model() -> Model {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracle/models/tiny-llama3");
    crate::model::Loader::new(&path).load().unwrap()
}

fn queue(folder: &Path, models: Vec<Model>, settings: QueueSettings) -> Queue {
    Queue::new(Arc::new(Store::open(folder).unwrap()), models, settings).unwrap()
}

fn submission(n_pairs: usize) -> Submission {
    let pair = |i: usize| {
        json!({ "entity": "The king",
            "source": format!("The king orders guard {i} to leave the gate and go home."),
            "base": format!("The king watches guard {i} at rest, and the gate is open.") })
    };
    let pairs: Vec<_> = (0..n_pairs).map(pair).collect();
    serde_json::from_value(json!({ "pairs": pairs })).unwrap()
}

fn submit(queue: &Queue, n_pairs: usize) -> String {
    queue.submit(submission(n_pairs), "somebody", &|| false).unwrap().job.id
}

/// The first model, which is of this machine.
fn here(queue: &Queue) -> &Model {
    match &queue.models[0].engine {
        Engine::Here(copies) => &copies[0],
        Engine::Ndif(_) => panic!("the first model is on a server"),
    }
}

fn prepared(queue: &Queue, claim: &Claim) -> Experiment {
    let settings = claim.settings.clone().check().unwrap();
    Experiment::prepare(here(queue), &claim.pair, &settings, None).unwrap()
}

fn program(queue: &Queue, experiment: &Experiment) -> Program {
    let allowed = queue.settings.n_memory_bytes;
    queue.compile_alone(here(queue), experiment, Finished::new(), allowed).unwrap()
}

/// While the worker waits for another to let it write, whoever asks how the queue is gets an
/// answer.
#[test]
fn nobody_waits_for_the_disk_to_hear_how_the_queue_is() {
    let folder = tempfile::tempdir().unwrap();
    let queue = Arc::new(queue(folder.path(), vec![model()], QueueSettings::default()));
    let id = submit(&queue, 2);
    let (tell_waits, waits) = mpsc::channel();
    let (end, told_to_end) = mpsc::channel::<()>();
    queue.store.when_busy(move || {
        tell_waits.send(()).unwrap();
        told_to_end.recv().is_ok()
    });
    let other = Connection::open(folder.path().join(FILE)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let worker = std::thread::spawn({
        let queue = queue.clone();
        move || queue.claim(HERE).map(|claim| claim.is_some())
    });
    waits.recv().unwrap();
    let (answer, answered) = mpsc::channel();
    std::thread::spawn({
        let (queue, id) = (queue.clone(), id.clone());
        move || {
            let n_ahead = queue.job_row(&id).unwrap().unwrap().n_ahead;
            answer.send((queue.stalled(), queue.n_queued(), n_ahead)).unwrap();
        }
    });
    // Only a defect takes this long.
    let answer = answered.recv_timeout(Duration::from_secs(20));
    assert_eq!(answer, Ok((None, 2, None)));
    other.execute_batch("COMMIT").unwrap();
    end.send(()).unwrap();
    assert!(worker.join().unwrap().unwrap());
    assert_eq!(queue.n_queued(), 1);
}

/// Counted in steps of the database, not timed.
#[test]
fn telling_of_a_long_job_reads_one_row() {
    let n_steps = |n_pairs: usize| {
        let folder = tempfile::tempdir().unwrap();
        let queue = queue(folder.path(), vec![model()], QueueSettings::default());
        let id = submit(&queue, n_pairs);
        // The first time tells of all jobs.
        queue.announce(&id).unwrap();
        let steps = queue.store.count_steps();
        let (claim, _) = queue.claim(HERE).unwrap().unwrap();
        queue.announce(&id).unwrap();
        queue.tell_pair(&claim);
        queue.state().told_at = None;
        queue.announce(&id).unwrap();
        steps.load(Ordering::Relaxed)
    };
    let (short, long) = (n_steps(5), n_steps(500));
    assert!(short > 50 && long <= short + short / 10, "{short} steps, {long} in the long job");
}

#[test]
fn a_preview_ends_when_nobody_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let queue = queue(folder.path(), vec![model()], QueueSettings::default());
    let n_asked = std::cell::Cell::new(0);
    let until = |n: usize| {
        n_asked.set(0);
        let is_cancelled = || {
            n_asked.set(n_asked.get() + 1);
            n_asked.get() >= n
        };
        queue.preview(&submission(3), &is_cancelled).map(|preview| preview.n_pairs)
    };
    assert_eq!(until(usize::MAX).unwrap(), 3);
    // Every layer of the unpatched runs of three pairs, and every pair before.
    let n_layers = here(&queue).network.config.n_layers;
    let n_all = n_asked.get();
    assert!(n_all > 3 * n_layers + 3, "{n_all}");
    for n in [1, 2, 5, 7, n_all / 2, n_all] {
        let error = until(n).unwrap_err();
        assert!(matches!(error, IntakeError::Sweep(SweepError::Cancelled)), "{n}: {error}");
        assert_eq!(n_asked.get(), n, "it is not asked again, and nothing more is done");
    }
    let submitted = queue.submit(submission(3), "somebody", &|| true);
    assert!(matches!(submitted, Err(IntakeError::Sweep(SweepError::Cancelled))));
    assert_eq!(queue.n_queued(), 0);
}

#[test]
fn previews_stay_within_what_was_left_to_them() {
    let folder = tempfile::tempdir().unwrap();
    let models = vec![model()];
    let config = models[0].network.config.clone();
    let settings = QueueSettings::default().with_memory(&models, 1 << 30);
    let n_tokens = settings.limits.n_prompt_tokens.min(config.n_context);
    assert_eq!(settings.n_preview_bytes, unpatched_bytes(&models[0].network, n_tokens));
    assert_eq!(settings.n_memory_bytes + settings.n_preview_bytes, 1 << 30);
    // Where there is little, sweeps come first.
    let little = settings.n_preview_bytes;
    let settings = QueueSettings::default().with_memory(&models, little);
    assert_eq!(
        (settings.n_memory_bytes, settings.n_preview_bytes),
        (little - little / 4, little / 4)
    );
    let too_little = QueueSettings { n_preview_bytes: 1 << 10, ..QueueSettings::default() };
    let queue = queue(folder.path(), models, too_little);
    let preview = queue.preview(&submission(1), &|| false).unwrap();
    assert!(preview.pairs[0].baselines.is_none() && preview.estimated_secs > Some(0.0));
}

#[test]
fn an_estimate_counts_verification_and_is_of_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let mut other = model();
    other.description.name = "other".into();
    let mut settings = QueueSettings::default();
    settings.limits.n_verified = usize::MAX;
    let queue = queue(folder.path(), vec![model(), other], settings);
    queue.models[0].set_speed(1e9, 1.0);
    queue.models[1].set_speed(1e9, 10.0);
    let secs = |model: &str, verify: usize| {
        let mut submission = submission(1);
        submission.model = Some(model.into());
        submission.settings.verify = verify;
        queue.preview(&submission, &|| false).unwrap().estimated_secs.unwrap()
    };
    let (plain, slow) = (secs("tiny-llama3", 0), secs("other", 0));
    assert!((slow / plain - 10.0).abs() < 1e-6, "{plain} {slow}");
    let (one, some) = (secs("tiny-llama3", 1), secs("tiny-llama3", 9));
    assert!(plain < one && one < some, "{plain} {one} {some}");
    // What is estimated is what is done.
    submit(&queue, 1);
    let (claim, _) = queue.claim(HERE).unwrap().unwrap();
    let mut experiment = prepared(&queue, &claim);
    experiment.settings.verify = 9;
    let done = program(&queue, &experiment).operations.done;
    assert!((some - 1e-9 * done).abs() < 1e-6 * some, "{some} {done}");
    assert_eq!(secs("tiny-llama3", 100_000), secs("tiny-llama3", 10_000), "of all cells at most");
}

/// A sweep that ends after each number of its passes, as it does when the process is killed: what
/// was finished is shown and not computed again, and the result is the same to the bit.
#[test]
fn an_interrupted_sweep_goes_on_from_its_finished_passes() {
    let settings =
        QueueSettings { n_passes: Some(5), keep_every: Duration::ZERO, ..QueueSettings::default() };
    let numbers = |document: &Document| {
        let mut document = document.clone();
        document.provenance = None;
        document
    };
    let whole = {
        let folder = tempfile::tempdir().unwrap();
        let queue = queue(folder.path(), vec![model()], settings);
        submit(&queue, 1);
        let (claim, cancelled) = queue.claim(HERE).unwrap().unwrap();
        queue.run(0, &claim, &cancelled);
        stored(&queue, &claim)
    };
    let n_passes = 5;
    for n_finished in 0..=n_passes {
        let folder = tempfile::tempdir().unwrap();
        let mut seen = 0;
        {
            let queue = queue(folder.path(), vec![model()], settings);
            submit(&queue, 1);
            let (claim, _) = queue.claim(HERE).unwrap().unwrap();
            let experiment = prepared(&queue, &claim);
            let program = program(&queue, &experiment);
            assert_eq!(program.n_passes(), n_passes);
            let mut partial = Partial::open(&queue, &claim, &experiment);
            let mut n_told = 0;
            let network = &here(&queue).network;
            let table = [&experiment.specification];
            let ended = sweep::run(network, &table, &program, &mut |progress| {
                if let Progress::Trials { readings, .. } = progress {
                    // The trials that are known beforehand come with the first pass.
                    n_told += 1;
                    if n_told > n_finished + usize::from(n_finished > 0) {
                        return std::ops::ControlFlow::Break(());
                    }
                    seen += readings.len();
                    partial.add(Part::from(readings), Cost { secs: 1.0, operations: 1e6 });
                }
                std::ops::ControlFlow::Continue(())
            });
            assert_eq!(ended.is_err(), n_finished < n_passes);
            // The process ends here: nothing more is written.
        }
        let queue = queue(folder.path(), vec![model()], settings);
        queue.store.recover().unwrap().into_iter().for_each(|job| queue.state().turns.add(job));
        let (claim, cancelled) = queue.claim(HERE).unwrap().unwrap();
        assert_eq!(claim.n_begun, 2);
        let experiment = prepared(&queue, &claim);
        let partial = Partial::open(&queue, &claim, &experiment);
        assert_eq!(partial.found().len(), seen);
        let begun = events_of_run(&queue, &claim, &cancelled);
        let n_columns = experiment.alignment.base.len() - experiment.alignment.start;
        match n_finished {
            0 => assert!(begun.is_empty()),
            n if n == n_passes => assert_eq!(begun.len(), n_columns),
            _ => assert!(!begun.is_empty() && begun.len() < n_columns, "{begun:?}"),
        }
        let document = stored(&queue, &claim);
        assert_eq!(numbers(&document), numbers(&whole), "after {n_finished} passes");
        assert!(queue.store.kept(&claim, &made_for(&claim)).unwrap().is_empty());
        if n_finished > 0 {
            let made = document.provenance.unwrap();
            assert!(made.wall_secs > 1.0 && made.operations > 1e6, "{made:?}");
        }
    }
}

/// Runs a pair, and returns the columns that were there when it began.
fn events_of_run(queue: &Queue, claim: &Claim, cancelled: &AtomicBool) -> Vec<usize> {
    let before = queue.events.now().0;
    queue.run(0, claim, cancelled);
    let mut at = before;
    while let Resumed::Events(events) = queue.events.since(at) {
        for event in &events {
            if event.name == "begun" {
                let begun: serde_json::Value = serde_json::from_str(&event.json).unwrap();
                let columns = begun["live"]["columns"].as_array().unwrap();
                return columns.iter().map(|c| c["position"].as_u64().unwrap() as usize).collect();
            }
        }
        at = events.last().expect("the pair was begun").seq;
    }
    panic!("too many events");
}

fn stored(queue: &Queue, claim: &Claim) -> Document {
    let stored = queue.store.document(&claim.experiment).unwrap().unwrap();
    Document::read(&stored.body).unwrap().remove(0)
}

/// What was kept by another version, for another grid or with less in it is not used.
#[test]
fn what_was_kept_for_something_else_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let queue = queue(folder.path(), vec![model()], QueueSettings::default());
    submit(&queue, 1);
    let (claim, _) = queue.claim(HERE).unwrap().unwrap();
    let experiment = prepared(&queue, &claim);
    let made_for = made_for(&claim);
    let n_trials = experiment.specification.trials.len();
    let nan = Reading { logit_diff: f32::NAN, vocabulary: None };
    let part = |trials: &[usize]| {
        let readings: Vec<_> = trials.iter().map(|&trial| (trial, nan.clone())).collect();
        let part = Part::from(&readings[..]);
        json!({ "cost": { "secs": 1.0, "operations": 1.0 }, "part": part }).to_string()
    };
    for (made_for, cells) in [
        (&*made_for, "no JSON".to_string()),
        (&*made_for, "{\"part\": 3}".to_string()),
        (
            &*made_for,
            json!({ "cost": { "secs": 1.0, "operations": 1.0 }, "part": "[" }).to_string(),
        ),
        (&*made_for, part(&[n_trials, 9_999])),
        ("another id readout", part(&[0])),
        (&*claim.experiment, part(&[0])),
        (&*made_for, part(&[1])),
    ] {
        queue.store.keep(&claim, made_for, &cells).unwrap();
    }
    let partial = Partial::open(&queue, &claim, &experiment);
    assert_eq!(partial.found().keys().copied().collect::<Vec<_>>(), [1]);
    assert!(partial.found()[&1].logit_diff.is_nan(), "NaN comes back as it was");
}
