//! Several workers on one queue.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::wire::event::Event;
use shared::wire::job::State;

use super::together::{states, streamed, tiny};
use super::*;
use crate::jobs::Resumed;

/// A queue with `n_workers` workers that share the model, as those of one device do.
fn with_workers(folder: &Path, model: Model, n_workers: usize) -> Arc<Queue> {
    let store = Arc::new(Store::open(folder).unwrap());
    let models = vec![vec![Arc::new(model); n_workers]];
    Arc::new(Queue::with_workers(store, models, Vec::new(), QueueSettings::default()).unwrap())
}

/// Works until `is_over`, and hands out what was told.
fn work_until(queue: &Arc<Queue>, is_over: impl Fn(&Queue) -> bool) -> Vec<Event> {
    let working = std::thread::spawn({
        let queue = queue.clone();
        move || queue.work()
    });
    let (mut told, mut at) = (Vec::new(), 0);
    let begin = Instant::now();
    loop {
        let was_over = is_over(queue);
        let Resumed::Events(events) = queue.events.since(at) else { panic!("too many events") };
        at = events.last().map_or(at, |event| event.seq);
        told.extend(events.iter().map(|event| Event::read(&event.json).unwrap()));
        if was_over && events.is_empty() {
            break;
        }
        // Only a defect takes this long.
        assert!(begin.elapsed() < Duration::from_secs(300), "the queue does not get on");
        std::thread::sleep(Duration::from_millis(2));
    }
    queue.stop();
    working.join().unwrap();
    told
}

fn all_done(queue: &Queue, jobs: &[String]) -> bool {
    jobs.iter().flat_map(|job| states(queue, job)).all(|state| state == State::Done)
}

/// Every pair begins once, is stored once, and comes out as from one worker alone.
#[test]
fn workers_divide_a_queue_and_lose_nothing() {
    for is_streamed in [false, true] {
        let results = |n_workers: usize| {
            let folder = tempfile::tempdir().unwrap();
            let model = if is_streamed { streamed(&tiny()) } else { model() };
            let queue = with_workers(folder.path(), model, n_workers);
            let jobs: Vec<_> = [(12, "a", " Go."), (1, "b", " Stop."), (7, "a", " Wait.")]
                .into_iter()
                .map(|(n_pairs, client, own)| {
                    let mut new = submission(n_pairs);
                    // Each job has pairs of its own.
                    new.pairs.iter_mut().for_each(|pair| pair.source += own);
                    let detail = queue.submit(new, client, &|| false).unwrap();
                    (detail.job.id, detail.pairs)
                })
                .collect();
            let ids: Vec<_> = jobs.iter().map(|(id, _)| id.clone()).collect();
            let told = work_until(&queue, |queue| all_done(queue, &ids));
            let mut begun: BTreeMap<(String, usize), usize> = BTreeMap::new();
            let mut n_live = 0;
            for event in &told {
                if let Event::Begun { live } = event {
                    *begun.entry((live.job.clone(), live.index)).or_default() += 1;
                    n_live += 1;
                }
            }
            assert!(begun.values().all(|&n| n == 1), "{begun:?}");
            assert!(is_streamed || n_live == 20, "{n_live}");
            assert_eq!(queue.n_queued(), 0);
            assert_eq!(queue.events.now().1, [], "a sweep is shown that is over");
            let pairs = jobs.into_iter().flat_map(|(_, pairs)| pairs);
            let documents = pairs.map(|pair| {
                let stored = queue.store.document(&pair.experiment).unwrap().unwrap();
                Document::read(&stored.body).unwrap().remove(0).patching_results
            });
            documents.collect::<Vec<_>>()
        };
        let (one, three) = (results(1), results(3));
        assert_eq!(one.len(), 20);
        for (one, three) in one.iter().zip(&three) {
            // Pairs that go through a streamed model in other company are rounded otherwise.
            let differences = one.cells().zip(three.cells()).map(|(a, b)| match (a, b) {
                (Some(a), Some(b)) => (a - b).abs(),
                (a, b) => {
                    if a == b {
                        0.0
                    } else {
                        f32::NAN
                    }
                }
            });
            let largest = differences.fold(0.0, |most, one| if one <= most { most } else { one });
            assert!(largest <= if is_streamed { 1e-4 } else { 0.0 }, "{largest}");
        }
    }
}

/// A job is cancelled in all workers at once, and others go on.
#[test]
fn a_job_is_cancelled_in_every_worker() {
    let folder = tempfile::tempdir().unwrap();
    let queue = with_workers(folder.path(), model(), 3);
    let (cancelled, other) = (submit(&queue, 30), submit(&queue, 31));
    let claims: Vec<_> = (0..3).map(|_| queue.claim(HERE).unwrap().unwrap()).collect();
    assert!(claims.iter().all(|(claim, _)| claim.job == cancelled));
    assert_eq!(queue.state().running.len(), 3);
    queue.cancel(&cancelled).unwrap();
    for (worker, (claim, flag)) in claims.iter().enumerate() {
        assert!(flag.load(Ordering::Relaxed), "worker {worker} was not told");
        queue.run(worker, claim, flag);
        queue.is_free(flag);
    }
    assert!(queue.state().running.is_empty());
    work_until(&queue, |queue| all_done(queue, std::slice::from_ref(&other)));
    assert!(states(&queue, &cancelled).iter().all(|&state| state == State::Cancelled));
}

/// A worker that finds nothing left of a job which another has does not forget it: what the other
/// puts back is run.
#[test]
fn what_another_worker_puts_back_is_not_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let queue = with_workers(folder.path(), model(), 2);
    let job = submit(&queue, 2);
    let first = queue.claim(HERE).unwrap().unwrap();
    // As a worker does that looks for company.
    let taken = queue.store.claim(first.0.seq, &now()).unwrap().unwrap();
    assert!(queue.claim(HERE).unwrap().is_none());
    queue.store.finish(&taken, &crate::store::Outcome::Interrupted, &now()).unwrap();
    let second = queue.claim(HERE).unwrap().unwrap();
    assert_eq!((second.0.job, second.0.index), (job, taken.index));
}
