//! Models on a server of NDIF in the queue.

use shared::wire::event::Event;
use shared::wire::job::State;

use self::ndif::Fake;
use super::together::{states, tiny};
use super::*;
use crate::jobs::Resumed;
use crate::ndif::{Place, Settings};

#[path = "../../../tests/support/ndif.rs"]
mod ndif;

/// A queue with a worker that sweeps a model here and one that has another swept by `fake`.
fn queue_with(fake: &Fake, folder: &Path) -> Arc<Queue> {
    let place = Place { host: None, name: ndif::REPO.into(), revision: None, folder: tiny() };
    let patience = Duration::from_secs(5);
    let remote = Remote::new(place, Settings { python: fake.path("python"), patience });
    let settings = QueueSettings {
        keep_every: Duration::ZERO,
        reopen_every: Duration::from_millis(50),
        ..QueueSettings::default()
    };
    let store = Arc::new(Store::open(folder).unwrap());
    let models = vec![vec![Arc::new(model())]];
    Arc::new(Queue::with_workers(store, models, vec![remote], settings).unwrap())
}

fn for_ndif(n_pairs: usize) -> Submission {
    let mut new = submission(n_pairs);
    new.model = Some(ndif::REPO.into());
    new.settings.sites = "resid_post,attn_out,mlp_out".parse().unwrap();
    new
}

/// Works while `during` looks at the queue.
fn at_work<T>(queue: &Arc<Queue>, during: impl FnOnce() -> T) -> T {
    let working = std::thread::spawn({
        let queue = queue.clone();
        move || queue.work()
    });
    let outcome = during();
    queue.stop();
    working.join().unwrap();
    outcome
}

fn until(mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        // Only a defect takes this long.
        assert!(begin.elapsed() < Duration::from_secs(60), "it does not come to that");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn told(queue: &Queue) -> Vec<Event> {
    let (mut told, mut at) = (Vec::new(), 0);
    loop {
        let Resumed::Events(events) = queue.events.since(at) else { panic!("too many events") };
        let Some(last) = events.last() else { return told };
        at = last.seq;
        told.extend(events.iter().map(|event| Event::read(&event.json).unwrap()));
    }
}

/// A model whose server cannot be reached is asked for again and again, and nobody is told of it
/// before; its jobs wait meanwhile.
#[test]
fn a_server_that_is_away_is_asked_again_until_it_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::new("honest");
    let job = {
        let queue = queue_with(&fake, folder.path());
        at_work(&queue, || until(|| queue.models().len() == 2));
        queue.submit(for_ndif(1), "somebody", &|| false).unwrap().job.id
    };
    fake.set("open unreachable");
    let queue = queue_with(&fake, folder.path());
    at_work(&queue, || {
        let away = || queue.preview(&for_ndif(1), &|| false).unwrap_err().to_string();
        until(|| away().contains("the server cannot be reached: closed"));
        assert!(away().contains("asks again by itself"), "{}", away());
        assert_eq!(queue.models().len(), 1);
        assert_eq!(states(&queue, &job), [State::Queued]);
        fake.set("honest");
        until(|| states(&queue, &job) == [State::Done]);
    });
    let model = queue.models().remove(1);
    assert_eq!(
        (&*model.name, &*model.dtype, &*model.device),
        (ndif::REPO, "f32", "ndif ndif.example")
    );
    assert!(model.engine.ends_with("nnsight 0.8.0, ndif 0.1.2"), "{}", model.engine);
}

/// What another type computes has other numbers under the same id.
#[test]
fn a_server_that_computes_otherwise_than_before_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::new("honest");
    let queue = queue_with(&fake, folder.path());
    at_work(&queue, || until(|| queue.models().len() == 2));
    fake.set("bf16");
    // Until it is started anew, the helper is the old one.
    let Engine::Ndif(remote) = &queue.models[1].engine else { panic!("it is on a server") };
    let cancelled = remote.open(&mut |_| std::ops::ControlFlow::Break(()));
    assert!(matches!(cancelled, Err(crate::ndif::NdifError::Cancelled)));
    let job = queue.submit(for_ndif(2), "somebody", &|| false).unwrap().job.id;
    queue.stopping.store(false, Ordering::Relaxed);
    at_work(&queue, || until(|| states(&queue, &job) == [State::Failed; 2]));
    for pair in queue.store.job(&job).unwrap().unwrap().pairs {
        let why = pair.error.unwrap();
        let expected = "is computed in bf16 on ndif ndif.example by patchboard";
        assert!(why.contains(expected) && why.contains("and was in f32 on"), "{why}");
    }
}

/// While a server is busy with one job, this machine works on others, and so do places in the queue.
#[test]
fn jobs_here_and_there_do_not_wait_for_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::new("honest");
    fake.hold();
    let queue = queue_with(&fake, folder.path());
    at_work(&queue, || {
        until(|| queue.models().len() == 2);
        let there = queue.submit(for_ndif(40), "somebody", &|| false).unwrap().job.id;
        until(|| queue.events.now().1.iter().any(|live| !live.columns.is_empty()));
        let waits = queue.submit(for_ndif(41), "another", &|| false).unwrap().job.id;
        let here = submit(&queue, 1);
        until(|| states(&queue, &here) == [State::Done]);
        let running = states(&queue, &there);
        assert!(running.contains(&State::Running), "{running:?}");
        let n_together = running.iter().filter(|state| **state == State::Running).count();
        assert!(n_together > 1 && n_together <= 32, "{n_together} pairs in a request");
        assert_eq!(queue.job_row(&waits).unwrap().unwrap().n_ahead, Some(1));
        fake.release();
        until(|| {
            states(&queue, &there).iter().chain(&states(&queue, &waits)).all(|s| *s == State::Done)
        });
    });
    // Each pair is told of while it is swept, and of no other at that time.
    let mut live: Option<(String, usize)> = None;
    for event in told(&queue) {
        match event {
            Event::Begun { live: begun } if begun.model == ndif::REPO => {
                assert_eq!(live, None, "{begun:?}");
                live = Some((begun.job, begun.index));
            }
            Event::Pair { job, pair } if pair.state == State::Done => {
                live.take_if(|live| *live == (job, pair.index));
            }
            Event::Columns { job, index, .. } if live.as_ref().is_some_and(|l| l.0 == job) => {
                assert_eq!(live, Some((job, index)));
            }
            _ => {}
        }
    }
    assert_eq!(live, None);
}

/// Pairs that fail together for what may lie in one of them are run alone; what no request would do
/// better with fails all of them at once.
#[test]
fn a_failure_is_that_of_the_pair_or_of_all() {
    for (mode, n_requests, expected) in [
        ("key", 1, "the server does not accept the key: no key"),
        ("garbage", 4, "NDIF's answer is not as it should be"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let fake = Fake::new(mode);
        let queue = queue_with(&fake, folder.path());
        at_work(&queue, || {
            until(|| queue.models().len() == 2);
            let job = queue.submit(for_ndif(3), "somebody", &|| false).unwrap().job.id;
            until(|| states(&queue, &job) == [State::Failed; 3]);
            for pair in queue.store.job(&job).unwrap().unwrap().pairs {
                let why = pair.error.unwrap();
                assert!(why.contains(expected), "{mode}: {why}");
            }
        });
        assert_eq!(fake.asked().len(), n_requests, "{mode}");
    }
}

/// What came before a job failed is not asked for again by the next job of the same experiments.
#[test]
fn another_job_goes_on_from_what_a_failed_one_has_left() {
    let swept = |queue: &Queue, expected| {
        let job = queue.submit(for_ndif(1), "somebody", &|| false).unwrap().job.id;
        until(|| states(queue, &job) == [expected]);
        let id = queue.store.pair(&job, 0).unwrap().unwrap().experiment;
        let stored = queue.store.document(&id).unwrap();
        stored.map(|stored| Document::read(&stored.body).unwrap().remove(0).grids)
    };
    let (folder, honest) = (tempfile::tempdir().unwrap(), Fake::new("honest"));
    let queue = queue_with(&honest, folder.path());
    let whole = at_work(&queue, || {
        until(|| queue.models().len() == 2);
        swept(&queue, State::Done)
    });
    let (folder, fake) = (tempfile::tempdir().unwrap(), Fake::new("dies"));
    let queue = queue_with(&fake, folder.path());
    at_work(&queue, || {
        until(|| queue.models().len() == 2);
        assert_eq!(swept(&queue, State::Failed), None);
        let n_before = fake.asked().len();
        fake.set("honest");
        assert_eq!(swept(&queue, State::Done), whole);
        let n_cells = |asked: &[usize]| asked.iter().sum::<usize>();
        let (n_rest, n_whole) = (n_cells(&fake.asked()[n_before..]), n_cells(&honest.asked()));
        assert!(n_rest < n_whole, "{n_rest} cells of {n_whole} were asked for again");
    });
}
