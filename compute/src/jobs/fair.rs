//! Taking turns: among clients one pair each, round after round; a client's own jobs first come
//! first served.

use std::collections::{BTreeMap, HashMap};

use crate::store::Pending;

/// The clients that have something to run, in the order of the next round: who was served longest
/// ago, or never, comes first, and among those who came first. Jobs are in their order.
fn round<'a>(
    pending: &'a [Pending],
    served: &HashMap<String, u64>,
) -> Vec<(&'a str, Vec<&'a Pending>)> {
    let mut clients: Vec<(&str, Vec<&Pending>)> = Vec::new();
    for job in pending {
        match clients.iter_mut().find(|(client, _)| *client == job.client) {
            Some((_, jobs)) => jobs.push(job),
            None => clients.push((&job.client, vec![job])),
        }
    }
    clients.sort_by_key(|(client, jobs)| (served.get(*client).copied().unwrap_or(0), jobs[0].seq));
    clients
}

/// The job whose pair is next. `pending` is in the order of arrival.
pub fn next<'a>(pending: &'a [Pending], served: &HashMap<String, u64>) -> Option<&'a Pending> {
    round(pending, served).first().map(|(_, jobs)| jobs[0])
}

/// How many waiting pairs run before each job's next one, if nobody comes in between.
pub fn ahead(pending: &[Pending], served: &HashMap<String, u64>) -> BTreeMap<String, usize> {
    let clients = round(pending, served);
    let n_queued: Vec<usize> =
        clients.iter().map(|(_, jobs)| jobs.iter().map(|job| job.n_queued).sum()).collect();
    let mut ahead = BTreeMap::new();
    for (i, (_, jobs)) in clients.iter().enumerate() {
        let mut n_own = 0;
        for job in jobs {
            // In each round before the job's own, everybody who still has something is served
            // once; in its own round, those before this client.
            let n_others = n_queued.iter().enumerate().filter(|&(other, _)| other != i);
            let n_others = n_others.map(|(other, &n)| n.min(n_own + usize::from(other < i)));
            ahead.insert(job.job.clone(), n_own + n_others.sum::<usize>());
            n_own += job.n_queued;
        }
    }
    ahead
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Jobs as (client, pairs).
    fn jobs(jobs: &[(&str, usize)]) -> Vec<Pending> {
        let job = |(i, &(client, n_queued)): (usize, &(&str, usize))| Pending {
            seq: i as i64,
            job: format!("{client}{i}"),
            client: client.into(),
            n_queued,
        };
        jobs.iter().enumerate().map(job).collect()
    }

    /// Runs everything pair by pair: the jobs in the order in which their pairs ran.
    fn run(mut pending: Vec<Pending>, mut served: HashMap<String, u64>) -> Vec<String> {
        let mut order = Vec::new();
        while let Some(job) = next(&pending, &served).cloned() {
            order.push(job.job.clone());
            served.insert(job.client, 100 + order.len() as u64);
            pending.iter_mut().find(|p| p.seq == job.seq).unwrap().n_queued -= 1;
            pending.retain(|p| p.n_queued > 0);
        }
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
        for (given, served, expected) in cases {
            let served: HashMap<_, _> =
                served.iter().map(|&(client, at)| (client.to_string(), at)).collect();
            let pending = jobs(given);
            let order = run(pending.clone(), served.clone());
            assert_eq!(order.join(" "), expected);
            for (job, n) in ahead(&pending, &served) {
                assert_eq!(
                    order.iter().position(|ran| *ran == job),
                    Some(n),
                    "{job} in {expected}"
                );
            }
        }
    }
}
