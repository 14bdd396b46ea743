//! Finished trials of the pair that is being run, stored now and then, so that an interruption costs
//! little of a long sweep.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::Queue;
use crate::store::Claim;
use crate::study::{Experiment, finished};
use crate::sweep::{Finished, Reading};

/// What is stored at a time.
#[derive(Serialize, Deserialize)]
struct Part {
    /// What the trials cost.
    cost: Cost,
    /// The trials, as [`finished::to_json`] writes them.
    trials: String,
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
    found: Finished,
    found_cost: Cost,
    /// What is not stored yet, and what the stored ones have cost since the pair was begun.
    unstored: Vec<(usize, Reading)>,
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
        let mut found = Finished::new();
        let mut found_cost = Cost::default();
        for part in parts {
            let Ok(part) = serde_json::from_str::<Part>(&part) else { continue };
            let Some(trials) = finished::from_json(&part.trials, n_trials) else { continue };
            found_cost.secs += part.cost.secs;
            found_cost.operations += part.cost.operations;
            found.extend(trials);
        }
        Self {
            queue,
            claim,
            made_for,
            found,
            found_cost,
            unstored: Vec::new(),
            stored_cost: Cost::default(),
            stored_at: Instant::now(),
        }
    }

    /// The trials that were there when the pair was begun.
    pub fn found(&self) -> &Finished {
        &self.found
    }

    /// What they had cost.
    pub fn found_cost(&self) -> Cost {
        self.found_cost
    }

    /// Adds trials that were finished after the pair had cost `cost` this time.
    pub fn add(&mut self, readings: &[(usize, Reading)], cost: Cost) {
        let new = readings.iter().filter(|(trial, _)| !self.found.contains_key(trial));
        let new: Vec<_> = new.cloned().collect();
        self.unstored.extend(new);
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
        let part = Part { cost: since, trials: finished::to_json(&self.unstored) };
        let json = serde_json::to_string(&part).expect("a part is plain");
        match self.queue.store.keep(self.claim, &self.made_for, &json) {
            Ok(()) => {
                self.unstored.clear();
                self.stored_cost = cost;
            }
            Err(error) => tracing::warn!(%error, "finished passes could not be stored"),
        }
        self.stored_at = Instant::now();
    }
}
