//! Tiles that go through the blocks, each on a thread of its own.
//!
//! Threads that divide one product wait for each other at its end, and between products most of what
//! there is to do is too little to divide. Threads with a tile each wait for nothing but the unpatched
//! runs, which go through each block first.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;

use candle_core::{Error, Result};
use rayon::{ThreadPool, ThreadPoolBuilder};

/// The threads.
#[derive(Debug)]
pub struct TileThreads {
    /// Each of one thread, so that whatever runs in it and would divide its work does not.
    pools: Vec<ThreadPool>,
}

impl TileThreads {
    /// As many as `n` tiles need.
    ///
    /// # Errors
    /// Threads that the system refuses.
    pub fn new(n: usize) -> Result<Self> {
        let pool = || {
            let name = |_| "tile".to_string();
            ThreadPoolBuilder::new().num_threads(1).thread_name(name).build().map_err(Error::wrap)
        };
        // A single tile has all cores to itself.
        let n = if n > 1 { n } else { 0 };
        Ok(Self { pools: (0..n).map(|_| pool()).collect::<Result<_>>()? })
    }

    /// Takes all `lanes` to step `end`, `n` of them at a time. `step` of a lane's number and a step is
    /// called once for each; `done` hears on this thread of each that is finished.
    ///
    /// # Errors
    /// The first that `step` or `done` reports; what has not begun by then does not.
    pub fn advance<E: From<Error>>(
        &self,
        n: usize,
        lanes: Lanes,
        step: impl Fn(usize, usize) -> Result<()> + Sync,
        mut done: impl FnMut(usize, usize) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let pools = &self.pools[..n.min(lanes.next.len()).min(self.pools.len())];
        let course = Course { lanes: Mutex::new(lanes), changed: Condvar::new() };
        if pools.len() < 2 {
            while let Some(turn) = course.turn() {
                let (lane, at) = (turn.lane, turn.step);
                step(lane, at)?;
                turn.finish();
                done(lane, at)?;
            }
            return Ok(());
        }
        let (finished, finishing) = mpsc::channel();
        let mut outcome = Ok(());
        // What waits for the pools are threads of the system: in rayon's own pool, which previews share,
        // whoever waits there takes up other work, and a preview would wait for whole layers of a sweep.
        thread::scope(|scope| {
            for pool in pools {
                let (finished, course, step) = (finished.clone(), &course, &step);
                scope.spawn(move || {
                    pool.install(|| {
                        while let Some(turn) = course.turn() {
                            let (lane, at) = (turn.lane, turn.step);
                            let result = step(lane, at);
                            if result.is_ok() {
                                turn.finish();
                            }
                            // Somebody listens until all have ended.
                            let _ = finished.send((lane, at, result));
                        }
                    });
                });
            }
            drop(finished);
            for (lane, at, result) in finishing {
                if outcome.is_err() {
                    continue;
                }
                outcome = result.map_err(E::from).and_then(|()| done(lane, at));
                if outcome.is_err() {
                    course.stop();
                }
            }
        });
        outcome
    }
}

/// Who goes through the same steps, each of them in order. The first lane leads: others take a step
/// after it has, and it takes one when all others have taken the one before the last.
#[derive(Debug)]
pub struct Lanes {
    /// The step that each lane takes next.
    next: Vec<usize>,
    /// Which of them take it now.
    is_busy: Vec<bool>,
    /// The step before which all end.
    end: usize,
}

impl Lanes {
    /// `n` lanes that begin with step `begin` and end before `end`, behind a first that has come to
    /// `first`.
    pub fn new(first: usize, n: usize, begin: usize, end: usize) -> Self {
        let next: Vec<_> = [first].into_iter().chain(vec![begin; n]).collect();
        Self { is_busy: vec![false; next.len()], next, end }
    }

    /// The lane that is to take its next step: the first, or the one that is furthest behind.
    fn choose(&self) -> Option<usize> {
        let (first, others) = self.next.split_first()?;
        let slowest = others.iter().min().unwrap_or(first);
        let may = |&lane: &usize| {
            let next = self.next[lane];
            let may = if lane == 0 { *first <= slowest + 1 } else { next < *first };
            may && next < self.end && !self.is_busy[lane]
        };
        let others = || (1..self.next.len()).filter(may).min_by_key(|&lane| self.next[lane]);
        Some(0).filter(may).or_else(others)
    }

    fn is_over(&self) -> bool {
        self.next.iter().all(|&next| next >= self.end)
    }
}

/// Lanes on their way, as threads see them.
struct Course {
    lanes: Mutex<Lanes>,
    changed: Condvar,
}

impl Course {
    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next step that is to be taken, once there is one; `None` if all have been.
    fn turn(&self) -> Option<Turn<'_>> {
        let mut lanes = self.lanes();
        loop {
            if lanes.is_over() {
                return None;
            }
            if let Some(lane) = lanes.choose() {
                lanes.is_busy[lane] = true;
                let step = lanes.next[lane];
                return Some(Turn { course: self, lane, step, is_finished: false });
            }
            lanes = self.changed.wait(lanes).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets no step begin any more.
    fn stop(&self) {
        self.lanes().end = 0;
        self.changed.notify_all();
    }
}

/// A step that is being taken. Where it is not finished, none begins after it.
struct Turn<'a> {
    course: &'a Course,
    lane: usize,
    step: usize,
    is_finished: bool,
}

impl Turn<'_> {
    fn finish(mut self) {
        self.is_finished = true;
        let mut lanes = self.course.lanes();
        lanes.next[self.lane] += 1;
        lanes.is_busy[self.lane] = false;
        self.course.changed.notify_all();
    }
}

impl Drop for Turn<'_> {
    /// After an error or a panic nobody waits for what does not come.
    fn drop(&mut self) {
        if !self.is_finished {
            self.course.stop();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    const NOTHING_MORE: fn(usize, usize) -> Result<()> = |_, _| Ok(());

    #[test]
    fn lanes_keep_behind_the_first_and_no_more_run_at_once_than_may() {
        for n_threads in [0, 1, 2, 5] {
            let threads = TileThreads::new(n_threads).unwrap();
            for (n, n_lanes, begin, first) in
                [(1, 3, 0, 0), (2, 0, 0, 0), (2, 1, 0, 1), (3, 9, 2, 3), (9, 4, 0, 7), (2, 3, 7, 7)]
            {
                const END: usize = 7;
                let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
                let taken =
                    Mutex::new(vec![first].into_iter().chain(vec![begin; n_lanes]).collect());
                let lanes = Lanes::new(first, n_lanes, begin, END);
                let step = |lane: usize, at: usize| {
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    {
                        let taken: &Vec<usize> = &taken.lock().unwrap();
                        assert_eq!(at, taken[lane], "the next step of lane {lane}");
                        match lane {
                            0 => assert!(taken[1..].iter().all(|&other| at <= other + 1)),
                            _ => assert!(at < taken[0]),
                        }
                    }
                    thread::yield_now();
                    taken.lock().unwrap()[lane] += 1;
                    running.fetch_sub(1, Ordering::SeqCst);
                    Ok(())
                };
                let mut heard = Vec::new();
                let done = |lane, at| {
                    heard.push((lane, at));
                    Ok::<_, Error>(())
                };
                threads.advance(n, lanes, step, done).unwrap();
                heard.sort_unstable();
                let first = (first..END).map(|at| (0, at));
                let others = (1..=n_lanes).flat_map(|lane| (begin..END).map(move |at| (lane, at)));
                assert!(heard.into_iter().eq(first.chain(others)));
                assert!(most.into_inner() <= n.min(n_threads.max(1)));
            }
        }
    }

    /// Whoever is done with a step goes on to the next while others are still at the last.
    #[test]
    fn nobody_waits_at_the_end_of_a_step() {
        let threads = TileThreads::new(2).unwrap();
        // Lane 1 ends its step 0 when lane 2 has begun with its step 1.
        let (begun, begins) = mpsc::channel();
        let begins = Mutex::new(begins);
        let step = |lane, at| {
            match (lane, at) {
                (1, 0) => begins.lock().unwrap().recv_timeout(Duration::from_secs(60)).unwrap(),
                (2, 1) => begun.send(()).unwrap(),
                _ => {}
            }
            Ok(())
        };
        threads.advance(2, Lanes::new(1, 3, 0, 3), step, NOTHING_MORE).unwrap();
    }

    #[test]
    fn what_runs_on_one_of_several_threads_has_it_alone() {
        let threads = TileThreads::new(2).unwrap();
        let step = |_, _| {
            assert_eq!(rayon::current_num_threads(), 1);
            Ok(())
        };
        threads.advance(2, Lanes::new(1, 2, 0, 1), step, NOTHING_MORE).unwrap();
    }

    #[test]
    fn a_panic_is_the_callers_and_nobody_waits() {
        let threads = TileThreads::new(2).unwrap();
        for who in [0, 1] {
            let breaks = |lane, at| if (lane, at) == (who, 1) { panic!("there") } else { Ok(()) };
            let broken = || threads.advance(2, Lanes::new(0, 1, 0, 50), breaks, NOTHING_MORE);
            let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(broken));
            assert!(broken.is_err());
        }
        // The threads go on to serve.
        threads.advance(2, Lanes::new(0, 1, 0, 50), NOTHING_MORE, NOTHING_MORE).unwrap();
    }

    #[test]
    fn an_error_ends_it() {
        for n_threads in [1, 2] {
            let threads = TileThreads::new(n_threads).unwrap();
            let lanes = || Lanes::new(0, 3, 0, 1000);
            let n_run = AtomicUsize::new(0);
            let fails_at_second = |lane, at| {
                n_run.fetch_add(1, Ordering::SeqCst);
                thread::sleep(Duration::from_micros(100));
                if (lane, at) == (2, 1) { candle_core::bail!("the second") } else { Ok(()) }
            };
            let failed = threads.advance(2, lanes(), fails_at_second, NOTHING_MORE);
            assert!(failed.unwrap_err().to_string().contains("the second"));
            let fails_at_once = |_, _| Err(Error::msg("heard enough"));
            let failed = threads.advance(2, lanes(), NOTHING_MORE, fails_at_once);
            assert!(failed.unwrap_err().to_string().contains("heard enough"));
            assert!(n_run.into_inner() < 1000);
        }
    }
}
