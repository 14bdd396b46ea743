//! Finished cells of the pair that is being run, stored now and then, so that an interruption costs
//! little of a long sweep.

use std::collections::HashMap;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::Queue;
use crate::experiment::Experiment;
use crate::store::Claim;
use crate::sweep::{Cell, Reading, VocabularyReading};

/// What is stored at a time. Floats are stored by their bits, since JSON has neither NaN nor
/// infinity, and what goes on must go on from the very same numbers.
#[derive(Serialize, Deserialize)]
struct Part {
    /// What the cells cost.
    cost: Cost,
    /// Layer, position, logit difference; P(true), P(false), top token and its probability.
    cells: Vec<(usize, usize, u32, Option<[u32; 4]>)>,
}

/// The time and the operations that something took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Seconds.
    pub secs: f64,
    /// Floating-point operations.
    pub operations: f64,
}

/// What a pair's cells are made for: the id stands for everything that determines the numbers, but
/// for how much is read of them.
pub fn made_for(claim: &Claim) -> String {
    let what = if claim.settings.readout { "readout" } else { "answers" };
    format!("{} {what}", claim.experiment)
}

/// The finished cells of a pair.
pub struct Partial<'a> {
    queue: &'a Queue,
    claim: &'a Claim,
    made_for: String,
    /// What was there when the pair was begun, and what it had cost.
    found: HashMap<(usize, usize), Reading>,
    found_cost: Cost,
    /// What is not stored yet, and what the stored ones have cost since the pair was begun.
    unstored: Vec<(Cell, Reading)>,
    stored_cost: Cost,
    stored_at: Instant,
}

impl<'a> Partial<'a> {
    /// Takes up what an earlier run of the pair has left. What cannot be read, or belongs to other
    /// cells, is computed again.
    pub fn open(
        queue: &'a Queue,
        claim: &'a Claim,
        experiment: &Experiment,
        n_layers: usize,
    ) -> Self {
        let made_for = made_for(claim);
        let parts = queue.store.kept(claim, &made_for).unwrap_or_else(|error| {
            tracing::warn!(%error, "finished passes could not be read, and are run again");
            Vec::new()
        });
        let mut found = HashMap::new();
        let mut found_cost = Cost::default();
        for part in parts {
            let Ok(part) = serde_json::from_str::<Part>(&part) else { continue };
            found_cost.secs += part.cost.secs;
            found_cost.operations += part.cost.operations;
            for (layer, position, logit_diff, vocabulary) in part.cells {
                if layer < n_layers && experiment.request.positions().contains(&position) {
                    let reading = Reading {
                        logit_diff: f32::from_bits(logit_diff),
                        vocabulary: vocabulary.map(|[p_true, p_false, top_token, p_top]| {
                            VocabularyReading {
                                p_true: f32::from_bits(p_true),
                                p_false: f32::from_bits(p_false),
                                top_token,
                                p_top: f32::from_bits(p_top),
                            }
                        }),
                    };
                    found.insert((layer, position), reading);
                }
            }
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

    /// Whether a cell was there when the pair was begun.
    pub fn has(&self, cell: Cell) -> bool {
        self.found.contains_key(&(cell.layer, cell.position))
    }

    /// The cells that were there when the pair was begun.
    pub fn found(&self) -> Vec<(Cell, Reading)> {
        let cells = self.found.iter();
        cells.map(|(&(layer, position), &reading)| (Cell { layer, position }, reading)).collect()
    }

    /// What they had cost.
    pub fn found_cost(&self) -> Cost {
        self.found_cost
    }

    /// Adds cells that were finished after the pair had cost `cost` this time.
    pub fn add(&mut self, cells: &[(Cell, Reading)], cost: Cost) {
        let new = cells.iter().filter(|(cell, _)| !self.has(*cell));
        let new: Vec<_> = new.copied().collect();
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
        let cells = self.unstored.iter().map(|(cell, reading)| {
            let vocabulary = reading
                .vocabulary
                .map(|v| [v.p_true.to_bits(), v.p_false.to_bits(), v.top_token, v.p_top.to_bits()]);
            (cell.layer, cell.position, reading.logit_diff.to_bits(), vocabulary)
        });
        let since = Cost {
            secs: cost.secs - self.stored_cost.secs,
            operations: cost.operations - self.stored_cost.operations,
        };
        let part = Part { cost: since, cells: cells.collect() };
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
