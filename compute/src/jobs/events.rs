//! Events for everybody who listens. The last ones are kept, so that a listener who was away for a
//! moment goes on from where it was; one who was away for longer begins anew. A listener takes a
//! few at a time, so that however many listen, and however slowly, hardly more than these are in
//! memory.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use shared::wire::event::{Event, Live};
use shared::wire::live;
use tokio::sync::watch;

/// How many events are kept.
const N_KEPT: usize = 2048;
/// How many bytes of events are kept.
const N_KEPT_BYTES: usize = 16 << 20;
/// How many events a listener takes at a time.
const N_SLICE: usize = 64;

/// An event as it goes over the wire.
#[derive(Debug)]
pub struct Sent {
    /// Counts up from 1.
    pub seq: u64,
    /// The event's name.
    pub name: &'static str,
    /// The job that it is about, if it is about one.
    pub job: Option<String>,
    /// The event as JSON.
    pub json: String,
}

/// What came after a listener's last event, or that too much has gone by.
#[derive(Debug)]
pub enum Resumed {
    /// The first few events after it; none if there was none.
    Events(Vec<Arc<Sent>>),
    /// Some of them are gone.
    Lost,
}

/// Where events are sent and heard.
pub struct EventLog {
    /// Tells this process from an earlier one, whose numbers mean nothing here.
    epoch: u64,
    latest: watch::Sender<u64>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    events: VecDeque<Arc<Sent>>,
    n_bytes: usize,
    last: u64,
    live: Vec<Live>,
}

impl EventLog {
    pub(super) fn new() -> Self {
        let epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            epoch: epoch.map_or(0, |since| since.as_micros() as u64),
            latest: watch::Sender::new(0),
            kept: Mutex::default(),
        }
    }

    /// Tells everybody, and keeps the picture of the running sweeps up to date.
    pub fn send(&self, event: Event) {
        let json = serde_json::to_string(&event).expect("an event is plain");
        let mut kept = self.kept();
        live::apply(&mut kept.live, &event);
        kept.last += 1;
        kept.n_bytes += json.len();
        let (name, job) = (event.name(), event.job().map(str::to_string));
        let sent = Arc::new(Sent { seq: kept.last, name, job, json });
        kept.events.push_back(sent);
        while kept.events.len() > N_KEPT || kept.n_bytes > N_KEPT_BYTES {
            let Some(oldest) = kept.events.pop_front() else { break };
            kept.n_bytes -= oldest.json.len();
        }
        let last = kept.last;
        drop(kept);
        self.latest.send_replace(last);
    }

    /// Says when there is a new event.
    pub fn listen(&self) -> watch::Receiver<u64> {
        self.latest.subscribe()
    }

    /// What came after event `seq`, a few at a time.
    pub fn since(&self, seq: u64) -> Resumed {
        let kept = self.kept();
        let oldest = kept.events.front().map_or(kept.last + 1, |event| event.seq);
        if seq > kept.last || seq + 1 < oldest {
            return Resumed::Lost;
        }
        let n_known = (seq + 1 - oldest) as usize;
        let n_new = (kept.events.len() - n_known).min(N_SLICE);
        Resumed::Events(kept.events.range(n_known..n_known + n_new).cloned().collect())
    }

    /// The last event's number and the running sweeps as they were then.
    pub fn now(&self) -> (u64, Vec<Live>) {
        let kept = self.kept();
        (kept.last, kept.live.clone())
    }

    /// An event's number as a listener is told it.
    pub fn id(&self, seq: u64) -> String {
        format!("{:x}-{seq}", self.epoch)
    }

    /// The number in what [`Self::id`] made; `None` for anything else, another process's included.
    pub fn seq(&self, id: &str) -> Option<u64> {
        let (epoch, seq) = id.split_once('-')?;
        (epoch == format!("{:x}", self.epoch)).then(|| seq.parse().ok())?
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_go_on_from_where_they_were() {
        let log = EventLog::new();
        let seqs = |after| match log.since(after) {
            Resumed::Events(events) => Some(events.iter().map(|e| e.seq).collect::<Vec<_>>()),
            Resumed::Lost => None,
        };
        assert_eq!(seqs(0), Some(vec![]));
        assert_eq!(seqs(1), None);
        for _ in 0..3 {
            log.send(Event::Experiments {});
        }
        assert_eq!(
            (seqs(0), seqs(2), seqs(3), seqs(4)),
            (Some(vec![1, 2, 3]), Some(vec![3]), Some(vec![]), None)
        );
        for _ in 0..N_KEPT {
            log.send(Event::Experiments {});
        }
        assert_eq!(seqs(2), None);
        // However far behind, a listener holds on to a few events only, and misses none.
        let (mut at, mut n_heard) = (3, 0);
        while let Some(slice) = seqs(at).filter(|slice| !slice.is_empty()) {
            assert!(slice.len() <= N_KEPT / 16, "a listener holds on to {}", slice.len());
            assert!(slice.iter().copied().eq(at + 1..=at + slice.len() as u64));
            (at, n_heard) = (at + slice.len() as u64, n_heard + slice.len());
        }
        assert_eq!(n_heard, N_KEPT);
        assert_eq!(log.seq(&log.id(7)), Some(7));
        for other in ["", "7", "0-7", "x-y", "18446744073709551616-1"] {
            assert_eq!(log.seq(other), None, "{other}");
        }
    }
}
