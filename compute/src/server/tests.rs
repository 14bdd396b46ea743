use std::sync::mpsc;
use std::time::Instant;

use super::*;
use crate::jobs::QueueSettings;
use crate::store::Store;

fn app() -> (tempfile::TempDir, Arc<App>) {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(folder.path()).unwrap());
    let queue = Queue::new(store, Vec::new(), QueueSettings::default()).unwrap();
    let (_, stopped) = watch::channel(false);
    (folder, Arc::new(App::new(Arc::new(queue), ServerSettings::default(), stopped)))
}

/// Work that goes on until it is told to end, and says what becomes of it.
struct Work {
    began: mpsc::Receiver<()>,
    end: mpsc::Sender<()>,
    task: tokio::task::JoinHandle<Result<(), ApiError>>,
}

impl Work {
    fn start(app: &Arc<App>) -> Self {
        let ((tell_began, began), (end, told_to_end)) = (mpsc::channel(), mpsc::channel());
        let app = app.clone();
        let task = tokio::spawn(async move {
            let work = move |_: &Queue, _: &Waiting| {
                tell_began.send(()).unwrap();
                told_to_end.recv().unwrap();
                Ok(())
            };
            app.heavy(work).await
        });
        Self { began, end, task }
    }

    async fn began(&self) {
        while self.began.try_recv().is_err() {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn whoever_goes_away_makes_no_room_before_the_work_is_done() {
    let (_folder, app) = app();
    let works: Vec<_> = (0..N_HEAVY).map(|_| Work::start(&app)).collect();
    for work in &works {
        work.began().await;
    }
    // The clients go away, and so does one whose work has not begun.
    let late = Work::start(&app);
    tokio::task::yield_now().await;
    for work in works.iter().chain([&late]) {
        work.task.abort();
    }
    for work in works.iter().chain([&late]) {
        while !work.task.is_finished() {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(app.heavy.available_permits(), 0, "the work goes on, and counts");
    for work in &works {
        work.end.send(()).unwrap();
    }
    let next = Work::start(&app);
    next.began().await;
    assert!(late.began.try_recv().is_err(), "what nobody waits for is not begun");
    next.end.send(()).unwrap();
    assert!(next.task.await.unwrap().is_ok());
    let all = app.heavy.acquire_many(N_HEAVY as u32).await.unwrap();
    assert_eq!(all.num_permits(), N_HEAVY);
}

#[tokio::test]
async fn work_is_told_when_nobody_waits_for_it() {
    let (_folder, app) = app();
    let ((tell_began, began), (tell_ended, ended)) = (mpsc::channel(), mpsc::channel());
    let task = tokio::spawn({
        let app = app.clone();
        async move {
            app.heavy(move |_, waiting| {
                tell_began.send(waiting.check().is_ok()).unwrap();
                // Only a defect takes this long.
                let begin = Instant::now();
                while !waiting.is_over() && begin.elapsed() < Duration::from_secs(20) {
                    std::thread::yield_now();
                }
                tell_ended.send(waiting.check().is_err()).unwrap();
                Ok(())
            })
            .await
        }
    });
    while let Err(mpsc::TryRecvError::Empty) = began.try_recv() {
        tokio::task::yield_now().await;
    }
    task.abort();
    while !task.is_finished() {
        tokio::task::yield_now().await;
    }
    let ended = tokio::task::spawn_blocking(move || ended.recv()).await.unwrap();
    assert_eq!(ended, Ok(true));
}

/// However many wait to write to a slow disk, others read.
#[tokio::test]
async fn those_who_write_leave_room_to_those_who_read() {
    const { assert!(N_HEAVY + N_WRITING < N_THREADS / 2) };
    let (_folder, app) = app();
    let (tell_began, began) = mpsc::channel();
    let (end, told_to_end) = mpsc::channel::<()>();
    let told_to_end = Arc::new(std::sync::Mutex::new(told_to_end));
    let writers: Vec<_> = (0..3 * N_WRITING)
        .map(|_| {
            let (app, tell_began, told_to_end) =
                (app.clone(), tell_began.clone(), told_to_end.clone());
            tokio::spawn(async move {
                let write = move |_: &Queue| {
                    tell_began.send(()).unwrap();
                    // All of them hear when there is nobody left to tell them to end.
                    let _ = told_to_end.lock().unwrap().recv();
                    Ok(())
                };
                app.writing(write).await
            })
        })
        .collect();
    let mut n_began = 0;
    while n_began < N_WRITING {
        n_began += began.try_iter().count();
        tokio::task::yield_now().await;
    }
    assert_eq!(app.writing.available_permits(), 0);
    app.reading(|queue| Ok(queue.store().check()?)).await.unwrap();
    n_began += began.try_iter().count();
    assert_eq!(n_began, N_WRITING);
    drop(end);
    for writer in writers {
        writer.await.unwrap().unwrap();
    }
}
