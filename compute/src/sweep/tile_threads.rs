//! Tiles that go through a block at the same time, each on a thread of its own.
//!
//! Threads that divide one product wait for each other at its end, and between products most of what
//! there is to do is too little to divide. Threads with a tile each wait once a block.

use std::sync::{Mutex, PoisonError, mpsc};
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

    /// `f` of the number of each item and the item, in their order, `n` at a time. `done` hears on
    /// this thread of each that is finished.
    ///
    /// # Errors
    /// The first that `f` or `done` reports; what has not begun by then does not.
    pub fn map<T: Send, R: Send, E: From<Error>>(
        &self,
        n: usize,
        items: Vec<T>,
        f: impl Fn(usize, T) -> Result<R> + Sync,
        mut done: impl FnMut(usize) -> std::result::Result<(), E>,
    ) -> std::result::Result<Vec<R>, E> {
        let pools = &self.pools[..n.min(items.len()).min(self.pools.len())];
        if pools.len() < 2 {
            let one = |(i, item)| {
                let result = f(i, item)?;
                done(i).map(|()| result)
            };
            return items.into_iter().enumerate().map(one).collect();
        }
        let mut results: Vec<Option<R>> = items.iter().map(|_| None).collect();
        let queue = Mutex::new(items.into_iter().enumerate());
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let stop = || while next().is_some() {};
        let (finished, finishing) = mpsc::channel();
        let mut outcome = Ok(());
        // What waits for the pools are threads of the system: in rayon's own pool, which previews share,
        // whoever waits there takes up other work, and a preview would wait for whole layers of a sweep.
        thread::scope(|scope| {
            for pool in pools {
                let (finished, next, stop, f) = (finished.clone(), &next, &stop, &f);
                scope.spawn(move || {
                    pool.install(|| {
                        while let Some((i, item)) = next() {
                            let result = f(i, item);
                            if result.is_err() {
                                stop();
                            }
                            // Somebody listens until all have ended.
                            let _ = finished.send((i, result));
                        }
                    });
                });
            }
            drop(finished);
            for (i, result) in finishing {
                if outcome.is_err() {
                    continue;
                }
                outcome = result.map_err(E::from).and_then(|result| {
                    results[i] = Some(result);
                    done(i)
                });
                if outcome.is_err() {
                    stop();
                }
            }
        });
        outcome?;
        Ok(results.into_iter().map(|result| result.expect("every item was taken")).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn items_keep_their_order_and_no_more_run_at_once_than_may() {
        for n_threads in [0, 1, 2, 5] {
            let threads = TileThreads::new(n_threads).unwrap();
            for n in [1, 2, 3, 9] {
                for n_items in [0, 1, 2, 40] {
                    let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
                    let mut heard = Vec::new();
                    let square = |i, item: usize| {
                        most.fetch_max(
                            running.fetch_add(1, Ordering::SeqCst) + 1,
                            Ordering::SeqCst,
                        );
                        thread::yield_now();
                        running.fetch_sub(1, Ordering::SeqCst);
                        assert_eq!(i, item);
                        Ok(item * item)
                    };
                    let squares = threads.map(n, (0..n_items).collect(), square, |i| {
                        heard.push(i);
                        Ok::<_, Error>(())
                    });
                    heard.sort_unstable();
                    assert!(heard.into_iter().eq(0..n_items));
                    assert_eq!(squares.unwrap(), (0..n_items).map(|i| i * i).collect::<Vec<_>>());
                    assert!(most.into_inner() <= n.min(n_threads.max(1)));
                }
            }
        }
    }

    #[test]
    fn what_runs_on_one_of_several_threads_has_it_alone() {
        let threads = TileThreads::new(2).unwrap();
        let n_threads = |_, ()| Ok(rayon::current_num_threads());
        let found = threads.map(2, vec![(), ()], n_threads, |_| Ok::<_, Error>(()));
        assert_eq!(found.unwrap(), [1, 1]);
    }

    #[test]
    fn a_panic_is_the_callers_and_nobody_waits() {
        let threads = TileThreads::new(2).unwrap();
        let breaks = |i, ()| if i == 1 { panic!("the second") } else { Ok(()) };
        let done = |_| Ok::<_, Error>(());
        let broken = || threads.map(2, vec![(); 50], breaks, done);
        let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(broken));
        assert!(broken.is_err());
        // The threads go on to serve.
        assert_eq!(threads.map(2, vec![(); 50], |_, ()| Ok(()), done).unwrap().len(), 50);
    }

    #[test]
    fn an_error_ends_it() {
        for n_threads in [1, 2] {
            let threads = TileThreads::new(n_threads).unwrap();
            let n_run = AtomicUsize::new(0);
            let fails_at_second = |i, ()| {
                n_run.fetch_add(1, Ordering::SeqCst);
                thread::sleep(Duration::from_micros(100));
                if i == 1 { candle_core::bail!("the second") } else { Ok(()) }
            };
            let failed = threads.map(2, vec![(); 1000], fails_at_second, |_| Ok::<_, Error>(()));
            assert!(failed.unwrap_err().to_string().contains("the second"));
            let fails_at_once = |_| Err(Error::msg("heard enough"));
            let failed = threads.map(2, vec![(); 1000], |_, ()| Ok(()), fails_at_once);
            assert!(failed.unwrap_err().to_string().contains("heard enough"));
            assert!(n_run.into_inner() < 1000);
        }
    }
}
