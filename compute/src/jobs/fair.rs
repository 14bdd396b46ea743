//! Taking turns: among clients one pair each, round after round; a client's own jobs first come
//! first served.

use std::collections::{BTreeMap, HashMap};

use crate::store::Pending;

/// The jobs that have pairs to run, in the order in which their clients take turns. Mirrors what
/// the store holds, so that the next pair is found without reading every job.
#[derive(Debug, Default)]
pub struct Turns {
    clients: HashMap<String, Client>,
    /// The clients in the order of the next round, by [`Client::place`].
    round: BTreeMap<Place, String>,
    /// The client and the number of each job.
    jobs: HashMap<String, (String, i64)>,
    n_taken: u64,
    n_queued: usize,
}

/// When a client was served last, counted in pairs, or 0; then its first job. Who was served
/// longest ago, or never, comes first, and among those who came first.
type Place = (u64, i64);

#[derive(Debug, Default)]
struct Client {
    served: u64,
    /// By their numbers, which are in the order of arrival; never empty.
    jobs: BTreeMap<i64, Pending>,
    n_queued: usize,
}

impl Client {
    fn place(&self) -> Option<Place> {
        self.jobs.keys().next().map(|&first| (self.served, first))
    }
}

impl Turns {
    /// Adds pairs of a job, which may be there already.
    pub fn add(&mut self, new: Pending) {
        if new.n_queued == 0 {
            return;
        }
        let (name, n_queued) = (new.client.clone(), new.n_queued);
        self.n_queued += n_queued;
        self.jobs.insert(new.job.clone(), (name.clone(), new.seq));
        self.change(&name, |client| {
            client.n_queued += n_queued;
            let job = client.jobs.entry(new.seq).or_insert(Pending { n_queued: 0, ..new });
            job.n_queued += n_queued;
        });
    }

    /// Adds pairs that have had their turn: their client is the last to be served.
    pub fn put_back(&mut self, pairs: Pending) {
        let name = pairs.client.clone();
        self.add(pairs);
        let n_taken = self.n_taken;
        self.change(&name, |client| client.served = n_taken);
    }

    /// The job whose pair is next.
    pub fn next(&self) -> Option<&Pending> {
        let (_, client) = self.round.first_key_value()?;
        self.clients.get(client)?.jobs.values().next()
    }

    /// Says that a pair of a job is being run. A client that has nothing left is forgotten.
    pub fn take(&mut self, job: &str) {
        let Some((client, seq)) = self.jobs.get(job).cloned() else { return };
        self.n_taken += 1;
        self.n_queued -= 1;
        let n_taken = self.n_taken;
        let mut is_empty = false;
        self.change(&client, |client| {
            client.served = n_taken;
            client.n_queued -= 1;
            if let Some(job) = client.jobs.get_mut(&seq) {
                job.n_queued -= 1;
                is_empty = job.n_queued == 0;
            }
            if is_empty {
                client.jobs.remove(&seq);
            }
        });
        if is_empty {
            self.jobs.remove(job);
        }
    }

    /// Forgets a job that has nothing to run any more.
    pub fn remove(&mut self, job: &str) {
        let Some((client, seq)) = self.jobs.remove(job) else { return };
        let mut n_removed = 0;
        self.change(&client, |client| {
            n_removed = client.jobs.remove(&seq).map_or(0, |job| job.n_queued);
            client.n_queued -= n_removed;
        });
        self.n_queued -= n_removed;
    }

    /// How many pairs wait.
    pub fn n_queued(&self) -> usize {
        self.n_queued
    }

    /// How many waiting pairs run before a job's next one, if nobody comes in between; `None` for a
    /// job that waits for nothing.
    pub fn ahead(&self, job: &str) -> Option<usize> {
        let (name, seq) = self.jobs.get(job)?;
        let own = self.clients.get(name)?;
        let place = own.place()?;
        let n_own: usize = own.jobs.range(..seq).map(|(_, job)| job.n_queued).sum();
        // In each round before the job's own, everybody who still has something is served once; in
        // its own round, those before this client.
        let others = self.clients.values().filter_map(|other| Some((other.place()?, other)));
        let n_others: usize = others
            .filter(|(other_place, _)| *other_place != place)
            .map(|(other_place, other)| {
                other.n_queued.min(n_own + usize::from(other_place < place))
            })
            .sum();
        Some(n_own + n_others)
    }

    /// Changes a client and puts it where it belongs then.
    fn change(&mut self, name: &str, change: impl FnOnce(&mut Client)) {
        let client = self.clients.entry(name.to_string()).or_default();
        if let Some(place) = client.place() {
            self.round.remove(&place);
        }
        change(client);
        match client.place() {
            Some(place) => {
                self.round.insert(place, name.to_string());
            }
            None => {
                self.clients.remove(name);
            }
        }
    }
}

/// Turns in lanes: pairs wait for those of their own lane alone, because another computes them. The
/// models of this machine have one lane, and each model on a server has its own.
#[derive(Debug, Default)]
pub struct Lanes {
    /// The lane of each model that has one of its own.
    of_model: HashMap<String, usize>,
    lanes: BTreeMap<usize, Turns>,
}

/// The lane of this machine's models, and of those that are not offered any more.
pub const HERE: usize = 0;

impl Lanes {
    /// Lanes of which each of `models` has one of its own, the first of them lane 1.
    pub fn new<'a>(models: impl IntoIterator<Item = &'a str>) -> Self {
        let of_model = models.into_iter().map(str::to_string).zip(HERE + 1..).collect();
        Self { of_model, lanes: BTreeMap::new() }
    }

    /// The lane of a model.
    pub fn of(&self, model: &str) -> usize {
        self.of_model.get(model).copied().unwrap_or(HERE)
    }

    fn lane(&mut self, model: &str) -> &mut Turns {
        self.lanes.entry(self.of(model)).or_default()
    }

    /// As [`Turns::add`], in the lane of the job's model.
    pub fn add(&mut self, new: Pending) {
        self.lane(&new.model).add(new);
    }

    /// As [`Turns::put_back`], in the lane of the job's model.
    pub fn put_back(&mut self, pairs: Pending) {
        self.lane(&pairs.model).put_back(pairs);
    }

    /// The job whose pair is next in a lane.
    pub fn next(&self, lane: usize) -> Option<&Pending> {
        self.lanes.get(&lane)?.next()
    }

    /// As [`Turns::take`].
    pub fn take(&mut self, job: &str) {
        self.lanes.values_mut().for_each(|turns| turns.take(job));
    }

    /// As [`Turns::remove`].
    pub fn remove(&mut self, job: &str) {
        self.lanes.values_mut().for_each(|turns| turns.remove(job));
    }

    /// How many pairs wait.
    pub fn n_queued(&self) -> usize {
        self.lanes.values().map(Turns::n_queued).sum()
    }

    /// As [`Turns::ahead`], of the job's lane.
    pub fn ahead(&self, job: &str) -> Option<usize> {
        self.lanes.values().find_map(|turns| turns.ahead(job))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn pending(seq: i64, job: &str, client: &str, model: &str, n_queued: usize) -> Pending {
        Pending { seq, job: job.into(), client: client.into(), model: model.into(), n_queued }
    }

    #[test]
    fn pairs_wait_for_those_of_their_own_lane() {
        let mut lanes = Lanes::new(["there", "elsewhere"]);
        for (seq, (job, model, n)) in
            [("a", "here", 2), ("b", "there", 1), ("c", "there", 3), ("d", "gone", 1)]
                .into_iter()
                .enumerate()
        {
            lanes.add(pending(seq as i64, job, "client", model, n));
        }
        let next = |lanes: &Lanes, lane| lanes.next(lane).map(|next| next.job.clone());
        assert_eq!(["here", "there", "elsewhere", "gone"].map(|m| lanes.of(m)), [0, 1, 2, 0]);
        assert_eq!(
            [0, 1, 2].map(|lane| next(&lanes, lane)),
            [Some("a".into()), Some("b".into()), None]
        );
        assert_eq!(
            ["a", "b", "c", "d"].map(|job| lanes.ahead(job)),
            [Some(0), Some(0), Some(1), Some(2)]
        );
        lanes.take("b");
        lanes.remove("a");
        assert_eq!([0, 1].map(|lane| next(&lanes, lane)), [Some("d".into()), Some("c".into())]);
        lanes.put_back(pending(1, "b", "client", "there", 1));
        assert_eq!((lanes.n_queued(), lanes.ahead("a"), lanes.ahead("b")), (5, None, Some(0)));
    }

    /// Jobs as (client, pairs).
    fn turns(jobs: &[(&str, usize)], served: &[(&str, u64)]) -> Turns {
        let mut turns = Turns::default();
        for (i, &(client, n_queued)) in jobs.iter().enumerate() {
            let job = format!("{client}{i}");
            turns.add(pending(i as i64, &job, client, "m", n_queued));
        }
        for &(client, at) in served {
            turns.change(client, |client| client.served = at);
            turns.n_taken = turns.n_taken.max(at);
        }
        turns
    }

    /// Runs everything pair by pair: the jobs in the order in which their pairs ran.
    fn run(mut turns: Turns) -> Vec<String> {
        let mut order = Vec::new();
        while let Some(job) = turns.next().map(|next| next.job.clone()) {
            turns.take(&job);
            order.push(job);
        }
        assert_eq!((turns.n_queued, turns.clients.len(), turns.jobs.len()), (0, 0, 0));
        order
    }

    #[test]
    fn clients_take_turns_and_places_are_what_comes_true() {
        /// Jobs, when clients were served last, and the order that follows.
        type Case =
            (&'static [(&'static str, usize)], &'static [(&'static str, u64)], &'static str);
        let cases: [Case; 4] = [
            (&[("a", 3)], &[], "a0 a0 a0"),
            (&[("a", 4), ("b", 1), ("c", 2)], &[], "a0 b1 c2 a0 c2 a0 a0"),
            (&[("a", 2), ("a", 1), ("b", 3)], &[("a", 7)], "b2 a0 b2 a0 b2 a1"),
            (&[("a", 2), ("b", 1), ("b", 2), ("a", 1)], &[("b", 3), ("a", 4)], "b1 a0 b2 a0 b2 a3"),
        ];
        for (jobs, served, expected) in cases {
            let order = run(turns(jobs, served));
            assert_eq!(order.join(" "), expected);
            let turns = turns(jobs, served);
            assert_eq!(turns.n_queued(), order.len());
            for job in turns.jobs.keys() {
                let first = order.iter().position(|ran| ran == job);
                assert_eq!(turns.ahead(job), first, "{job} in {expected}");
            }
        }
    }

    #[test]
    fn jobs_come_and_go_in_any_order() {
        let mut turns = turns(&[("a", 2), ("b", 1), ("a", 3)], &[]);
        turns.take("a0");
        turns.remove("a2");
        turns.remove("no such job");
        assert_eq!((turns.n_queued(), turns.ahead("b1"), turns.ahead("a0")), (2, Some(0), Some(1)));
        assert_eq!(turns.ahead("a2"), None);
        // What was broken off comes back, to the same job.
        turns.add(pending(0, "a0", "a", "m", 1));
        turns.add(pending(7, "c7", "c", "m", 0));
        assert_eq!(run(turns).join(" "), "b1 a0 a0");
    }

    /// A hundred thousand clients with a pair each are served without looking at all of them for
    /// each, which would be 10^10 looks.
    #[test]
    fn many_clients_are_no_more_work_each() {
        let names: Vec<_> = (0..100_000).map(|i| format!("c{i}-")).collect();
        let jobs: Vec<_> = names.iter().map(|name| (&**name, 1)).collect();
        let begin = Instant::now();
        let order = run(turns(&jobs, &[]));
        // Only a defect takes this long.
        assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
        assert_eq!(order.len(), 100_000);
        assert_eq!((&*order[0], &*order[99_999]), ("c0-0", "c99999-99999"));
    }
}
