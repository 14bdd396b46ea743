//! Pairs of a job that share the passes over a model that is read from disk.

use std::fs::{self, File};
use std::io::Write;

use shared::document::Document;
use shared::wire::event::Event;
use shared::wire::job::State;

use super::*;
use crate::model::{Loader, Placement};
use crate::sweep::Division;

pub fn tiny() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracle/models/tiny-llama3")
}

pub fn streamed(path: &Path) -> Model {
    let model = Loader { path, placement: Placement::default(), budget: 0 }.load().unwrap();
    assert!(model.network.is_streamed());
    model
}

fn opened(folder: &Path, n_memory_bytes: usize) -> Queue {
    let settings = QueueSettings { n_memory_bytes, ..QueueSettings::default() };
    queue(folder, vec![streamed(&tiny())], settings)
}

/// Runs the next pair, and what shares its passes. `None` if there is none.
fn run_next(queue: &Queue) -> Option<Claim> {
    let (claim, cancelled) = queue.claim(HERE).unwrap()?;
    queue.run(0, &claim, &cancelled);
    queue.is_free(&cancelled);
    Some(claim)
}

/// What was told since event `at`.
fn told(queue: &Queue, mut at: u64) -> Vec<Event> {
    let mut told = Vec::new();
    loop {
        let Resumed::Events(events) = queue.events.since(at) else { panic!("too many events") };
        let Some(last) = events.last() else { return told };
        at = last.seq;
        told.extend(events.iter().map(|event| Event::read(&event.json).unwrap()));
    }
}

/// The pairs of each sweep since event `at`, as they were stored, and which of them was shown.
fn sweeps(queue: &Queue, at: u64) -> Vec<(usize, Vec<usize>)> {
    let mut sweeps: Vec<(usize, Vec<usize>)> = Vec::new();
    for event in told(queue, at) {
        match event {
            Event::Begun { live } => sweeps.push((live.index, Vec::new())),
            Event::Pair { pair, .. } if pair.state == State::Done => {
                sweeps.last_mut().unwrap().1.push(pair.index);
            }
            _ => {}
        }
    }
    sweeps
}

pub fn states(queue: &Queue, job: &str) -> Vec<State> {
    queue.store.job(job).unwrap().unwrap().pairs.into_iter().map(|pair| pair.state).collect()
}

/// The least memory in which each of the pairs runs alone.
fn needs(new: Submission) -> Vec<usize> {
    let folder = tempfile::tempdir().unwrap();
    let queue = queue(folder.path(), vec![model()], QueueSettings::default());
    let n_pairs = new.pairs.len();
    queue.submit(new, "somebody", &|| false).unwrap();
    let config = &here(&queue).network.config;
    let needs = (0..n_pairs).map(|_| {
        let (claim, _) = queue.claim(HERE).unwrap().unwrap();
        let experiment = prepared(&queue, &claim);
        let division = Division::within(0);
        match Program::new(config, &[&experiment.specification], &division) {
            Err(SweepError::Memory { needed, .. }) => needed,
            other => panic!("{:?}", other.map(|program| program.n_passes())),
        }
    });
    needs.collect()
}

/// The memory in which these pairs run, but no two together.
fn least_memory(n_pairs: usize) -> usize {
    needs(submission(n_pairs)).into_iter().max().unwrap()
}

#[test]
fn pairs_of_a_streamed_model_are_run_together() {
    let alone: Vec<_> = {
        let folder = tempfile::tempdir().unwrap();
        let settings = QueueSettings { n_passes: Some(1), ..QueueSettings::default() };
        let queue = queue(folder.path(), vec![model()], settings);
        submit(&queue, 40);
        (0..40).map(|_| stored(&queue, &run_next(&queue).unwrap())).collect()
    };
    // At most 32 at a time, and with little memory one after the other.
    for (n_memory_bytes, n_pairs, n_left) in
        [(1 << 30, 40, vec![8, 0]), (least_memory(5), 5, vec![4, 3, 2, 1, 0])]
    {
        let folder = tempfile::tempdir().unwrap();
        let queue = opened(folder.path(), n_memory_bytes);
        let id = submit(&queue, n_pairs);
        let mut n_left_before = n_pairs;
        for n_left in n_left {
            let at = queue.events.now().0;
            run_next(&queue).unwrap();
            assert_eq!(queue.n_queued(), n_left);
            let waiting: usize = queue.store.pending().unwrap().iter().map(|j| j.n_queued).sum();
            assert_eq!(waiting, n_left);
            let job = queue.job_row(&id).unwrap().unwrap();
            assert_eq!((job.n_done, job.n_failed), (n_pairs - n_left, 0));
            let (first, end) = (n_pairs - n_left_before, n_pairs - n_left);
            assert_eq!(sweeps(&queue, at), [(first, (first..end).collect())]);
            n_left_before = n_left;
        }
        assert!(run_next(&queue).is_none());
        for expected in &alone[..n_pairs] {
            let found = queue.store.document(&expected.id).unwrap().unwrap();
            let found = Document::read(&found.body).unwrap().remove(0);
            assert_eq!(found.base_prompt, expected.base_prompt);
            let cells = found.patching_results.cells().zip(expected.patching_results.cells());
            for (found, expected) in cells {
                assert!((found.unwrap() - expected.unwrap()).abs() < 1e-4);
            }
            let made = found.provenance.unwrap();
            assert!(made.operations > 0.0 && made.wall_secs > 0.0);
        }
    }
}

/// Listeners see one sweep, its columns and the share of all; of the others they hear that they
/// run, and then that they are done.
#[test]
fn listeners_hear_of_every_pair_that_runs() {
    let folder = tempfile::tempdir().unwrap();
    let queue = opened(folder.path(), 1 << 30);
    let id = submit(&queue, 3);
    let at = queue.events.now().0;
    run_next(&queue).unwrap();
    let (mut running, mut columns, mut is_live) = (Vec::new(), Vec::new(), false);
    for event in told(&queue, at) {
        match event {
            Event::Begun { live } => is_live = live.index == 0,
            Event::Pair { pair, .. } if pair.state == State::Running => running.push(pair.index),
            Event::Pair { pair, .. } => {
                assert_eq!(pair.state, State::Done);
                is_live &= pair.index != 0;
            }
            Event::Columns { job, index, columns: new } => {
                assert!(is_live && (&job, index) == (&id, 0));
                columns.extend(new.iter().map(|column| column.position));
            }
            Event::Baselines { index, .. } | Event::Progress { index, .. } => {
                assert!(is_live && index == 0);
            }
            _ => {}
        }
    }
    columns.sort_unstable();
    let first = queue.store.pair(&id, 0).unwrap().unwrap().experiment;
    let first = Document::read(&queue.store.document(&first).unwrap().unwrap().body).unwrap();
    let swept = first[0].sentence_start..first[0].base_tokens.len();
    assert_eq!(columns, swept.collect::<Vec<_>>());
    assert_eq!((running, is_live, queue.events.now().1), (vec![1, 2], false, vec![]));
}

/// Whoever runs many pairs at once has had a turn then, and those that did not fit have not cost it.
#[test]
fn clients_take_turns_batch_by_batch() {
    for (n_memory_bytes, expected) in [(1 << 30, "aaa b a"), (least_memory(3), "a b a a a")] {
        let folder = tempfile::tempdir().unwrap();
        let queue = opened(folder.path(), n_memory_bytes);
        let new = |client: &str, pairs: std::ops::Range<usize>| {
            let mut new = submission(pairs.end);
            new.pairs.drain(..pairs.start);
            queue.submit(new, client, &|| false).unwrap().job.id
        };
        let (first, other, second) = (new("a", 0..3), new("b", 3..4), new("a", 4..5));
        let mut order = Vec::new();
        loop {
            let done = |job: &str| queue.job_row(job).unwrap().unwrap().n_done;
            let before = [&first, &other, &second].map(|job| done(job));
            let Some(claim) = run_next(&queue) else { break };
            let after = [&first, &other, &second].map(|job| done(job));
            let n: usize = after.iter().sum::<usize>() - before.iter().sum::<usize>();
            order.push(if claim.job == other { "b" } else { "a" }.repeat(n));
        }
        assert_eq!(order.join(" "), expected);
    }
}

/// The process ends while pairs run together: they are run together again, and if it ends once
/// more, one by one, so that the one that may be to blame keeps nobody from being done.
#[test]
fn killed_in_the_middle_nothing_is_lost_and_nobody_is_to_blame_for_long() {
    for (n_kills, n_sweeps) in [(1, 1), (2, 5)] {
        let folder = tempfile::tempdir().unwrap();
        let id = submit(&opened(folder.path(), 1 << 30), 5);
        for _ in 0..n_kills {
            // What a batch has claimed when it is killed.
            let queue = opened(folder.path(), 1 << 30);
            queue.store.recover().unwrap();
            let seq = queue.store.pending().unwrap()[0].seq;
            while queue.store.claim(seq, &now()).unwrap().is_some() {}
            assert_eq!(states(&queue, &id), [State::Running; 5]);
        }
        let queue = opened(folder.path(), 1 << 30);
        queue.recover();
        let at = queue.events.now().0;
        while run_next(&queue).is_some() {}
        assert_eq!(states(&queue, &id), [State::Done; 5]);
        let sweeps = sweeps(&queue, at);
        assert_eq!(sweeps.len(), n_sweeps, "{sweeps:?}");
        let done: Vec<_> = sweeps.into_iter().flat_map(|(_, done)| done).collect();
        assert_eq!(done, [0, 1, 2, 3, 4]);
    }
}

#[test]
fn stopped_or_cancelled_none_of_them_is_half_done() {
    let folder = tempfile::tempdir().unwrap();
    let queue = opened(folder.path(), 1 << 30);
    let id = submit(&queue, 5);
    let (claim, cancelled) = queue.claim(HERE).unwrap().unwrap();
    queue.stop();
    queue.run(0, &claim, &cancelled);
    assert_eq!(states(&queue, &id), [State::Queued; 5]);

    queue.stopping.store(false, Ordering::Relaxed);
    queue.state().turns = Lanes::default();
    queue.store.pending().unwrap().into_iter().for_each(|job| queue.state().turns.add(job));
    let (claim, cancelled) = queue.claim(HERE).unwrap().unwrap();
    assert_eq!((claim.index, claim.n_begun), (0, 1), "it was not the pair's fault");
    queue.cancel(&id).unwrap();
    queue.run(0, &claim, &cancelled);
    assert_eq!(states(&queue, &id), [State::Cancelled; 5]);
    assert_eq!((queue.n_queued(), queue.job_row(&id).unwrap().unwrap().n_done), (0, 0));
    assert!(run_next(&queue).is_none());
}

/// A pair that cannot be run leaves the others alone: one of another model's making, one that needs
/// more memory than there is, one that is there twice.
#[test]
fn a_bad_pair_among_good_ones_is_the_only_one_that_fails() {
    let mut new = submission(5);
    let long = new.pairs[1].source.replace("the gate", &"the gate of the old town ".repeat(7));
    new.pairs[1].source = long;
    let needs = needs(new.clone());
    new.pairs[4] = new.pairs[0].clone();
    let n_bytes = needs[1] - 1;
    assert!(needs[0] < n_bytes && needs[3] < n_bytes, "{needs:?}");
    let folder = tempfile::tempdir().unwrap();
    let queue = opened(folder.path(), n_bytes);
    let id = queue.submit(new, "somebody", &|| false).unwrap().job.id;
    let connection = Connection::open(folder.path().join(FILE)).unwrap();
    let sql = "UPDATE pairs SET experiment = 'ffffffffffffffffffff' WHERE idx = 2";
    assert_eq!(connection.execute(sql, []).unwrap(), 1);
    while run_next(&queue).is_some() {}
    use State::{Done, Failed};
    assert_eq!(states(&queue, &id), [Done, Failed, Failed, Done, Done]);
    let pairs = queue.store.job(&id).unwrap().unwrap().pairs;
    let errors: Vec<_> = pairs.iter().filter_map(|pair| pair.error.as_deref()).collect();
    assert!(errors[0].contains("memory"), "{errors:?}");
    assert!(errors[1].contains("is another one than when this was submitted"), "{errors:?}");
    assert_eq!(queue.counters.n_reused.load(Ordering::Relaxed), 1);
}

/// An error that ends the pass of several pairs says nothing of whose fault it is: they are run one
/// by one, others in between.
#[test]
fn pairs_that_failed_together_are_run_alone() {
    let weights = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(tiny()).unwrap() {
        let from = entry.unwrap().path();
        fs::copy(&from, weights.path().join(from.file_name().unwrap())).unwrap();
    }
    let shard = weights.path().join("model-00002-of-00003.safetensors");
    let (bytes, modified) =
        (fs::read(&shard).unwrap(), fs::metadata(&shard).unwrap().modified().unwrap());
    let write = |bytes: &[u8]| {
        let mut file = File::options().write(true).truncate(true).open(&shard).unwrap();
        file.write_all(bytes).unwrap();
        file.set_modified(modified).unwrap();
    };
    let folder = tempfile::tempdir().unwrap();
    let queue = queue(folder.path(), vec![streamed(weights.path())], QueueSettings::default());
    let id = submit(&queue, 3);
    let other = queue.submit(submission(4), "another", &|| false).unwrap().job.id;
    write(&bytes[..2000]);
    run_next(&queue).unwrap();
    assert_eq!(states(&queue, &id), [State::Queued; 3]);
    assert_eq!(queue.n_queued(), 7);
    write(&bytes);
    let at = queue.events.now().0;
    let order: Vec<_> =
        std::iter::from_fn(|| run_next(&queue)).map(|claim| claim.job == other).collect();
    assert_eq!(order, [true, false, false, false], "the other client was next");
    assert_eq!(states(&queue, &id), [State::Done; 3]);
    assert_eq!(states(&queue, &other), [State::Done; 4]);
    assert_eq!(sweeps(&queue, at).len(), 1, "the pairs are the same, and their results there");
    assert!(queue.state().alone.is_empty());
}
