//! Finished trials of the pair that is being run, stored now and then, so that an interruption costs
//! little of a long sweep.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::Queue;
use crate::experiment::{Experiment, Part};
use crate::store::Claim;
use crate::sweep::Finished;

/// What is stored at a time.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// What it cost.
    cost: Cost,
    /// What is known.
    part: Part,
}

/// The time and the operations that something took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Seconds.
    pub secs: f64,
    /// Floating-point operations.
    pub operations: f64,
}

/// What a pair's trials are made for: the id stands for everything that determines the numbers, but
/// for how much is read of them.
pub fn made_for(claim: &Claim) -> String {
    let (readout, top) = (claim.settings.readout, claim.settings.top);
    format!("{} readout={readout} top={top}", claim.experiment)
}

/// The finished trials of a pair.
pub struct Partial<'a> {
    queue: &'a Queue,
    claim: &'a Claim,
    made_for: String,
    /// What was there when the pair was begun, and what it had cost.
    found: Part,
    found_cost: Cost,
    /// What is not stored yet, and what the stored ones have cost since the pair was begun.
    unstored: Part,
    stored_cost: Cost,
    stored_at: Instant,
}

impl<'a> Partial<'a> {
    /// Takes up what an earlier run of the pair has left. What cannot be read, or belongs to other
    /// trials, is computed again.
    pub fn open(queue: &'a Queue, claim: &'a Claim, experiment: &Experiment) -> Self {
        let made_for = made_for(claim);
        let parts = queue.store.kept(claim, &made_for).unwrap_or_else(|error| {
            tracing::warn!(%error, "finished passes could not be read, and are run again");
            Vec::new()
        });
        let n_trials = experiment.specification.trials.len();
        let mut found = Part::default();
        let mut found_cost = Cost::default();
        for stored in parts {
            let Ok(stored) = serde_json::from_str::<Stored>(&stored) else { continue };
            found_cost.secs += stored.cost.secs;
            found_cost.operations += stored.cost.operations;
            found.add(stored.part.within(n_trials));
        }
        Self {
            queue,
            claim,
            made_for,
            found,
            found_cost,
            unstored: Part::default(),
            stored_cost: Cost::default(),
            stored_at: Instant::now(),
        }
    }

    /// The trials that were there when the pair was begun.
    pub fn found(&self) -> &Finished {
        &self.found.trials
    }

    /// The same with what control cells showed.
    pub fn part(&self) -> &Part {
        &self.found
    }

    /// What they had cost.
    pub fn found_cost(&self) -> Cost {
        self.found_cost
    }

    /// Adds what was finished after the pair had cost `cost` this time.
    pub fn add(&mut self, mut part: Part, cost: Cost) {
        part.trials.retain(|trial, _| !self.found.trials.contains_key(trial));
        self.unstored.add(part);
        if self.stored_at.elapsed() >= self.queue.settings.keep_every {
            self.store(cost);
        }
    }

    /// Stores what is not stored yet. Where that fails the sweep goes on: it is the next part, or
    /// the result.
    pub fn store(&mut self, cost: Cost) {
        if self.unstored.is_empty() {
            return;
        }
        let since = Cost {
            secs: cost.secs - self.stored_cost.secs,
            operations: cost.operations - self.stored_cost.operations,
        };
        let stored = Stored { cost: since, part: std::mem::take(&mut self.unstored) };
        let json = serde_json::to_string(&stored).expect("a part is plain");
        match self.queue.store.keep(self.claim, &self.made_for, &json) {
            Ok(()) => self.stored_cost = cost,
            Err(error) => {
                tracing::warn!(%error, "finished passes could not be stored");
                self.unstored = stored.part;
            }
        }
        self.stored_at = Instant::now();
    }
}
