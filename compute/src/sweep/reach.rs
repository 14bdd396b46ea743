//! What of a trial can matter: its edits layer by layer, without those that change nothing or that
//! the metric cannot see.

use std::collections::BTreeSet;

use shared::specification::vocabulary::Site;
use shared::specification::{Edit, Specification, Trial, Write};

use super::runs::{equal_prefix, n_read, sequence};

/// One edit in one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The layer.
    pub layer: usize,
    /// The activation. [`Site::ResidPre`] only of layer 0: elsewhere it is the residual stream
    /// after the layer before.
    pub site: Site,
    /// The head, see [`Edit::head`].
    pub head: Option<usize>,
    /// Positions of the base run, ascending; not empty.
    pub positions: Vec<usize>,
    /// What is written.
    pub write: Write,
}

/// What becomes of a trial.
#[derive(Debug, Clone, PartialEq)]
pub enum Reach {
    /// It equals this run, exactly.
    Run(usize),
    /// It must be computed; not empty, in the order in which the steps apply.
    Steps(Vec<Step>),
}

/// What a trial of `specification` comes to in a model of `n_layers` layers.
pub fn reach(specification: &Specification, trial: &Trial, n_layers: usize) -> Reach {
    let mut steps = in_order(&trial.edits, n_layers);
    drop_unchanged(specification, trial.base, &mut steps);
    drop_unseen(specification, trial.base, n_layers, &mut steps);
    if let Some(run) = whole_copy(specification, trial.base, n_layers, &steps) {
        return Reach::Run(run);
    }
    match steps.is_empty() {
        true => Reach::Run(trial.base),
        false => Reach::Steps(steps),
    }
}

/// The edits of each layer, in the order in which they apply.
pub fn in_order(edits: &[Edit], n_layers: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    for edit in edits {
        let positions: BTreeSet<_> = edit.positions.iter().copied().collect();
        for layer in edit.layers.start..edit.layers.end.min(n_layers) {
            // The same vector, but edited after what is edited as the layer before's.
            let is_moved = edit.site == Site::ResidPre && layer > 0;
            let (layer, site) = match is_moved {
                true => (layer - 1, Site::ResidPost),
                false => (layer, edit.site),
            };
            let positions = positions.iter().copied().collect();
            let (head, write) = (edit.head, edit.write.clone());
            steps.push((is_moved, Step { layer, site, head, positions, write }));
        }
    }
    steps.sort_by_key(|(is_moved, step)| (step.layer, step.site, *is_moved));
    steps.into_iter().map(|(_, step)| step).filter(|step| !step.positions.is_empty()).collect()
}

/// Drops copies of activations that are the same in both runs, because these have read the same
/// tokens up to there and nothing was changed at or left of them.
fn drop_unchanged(specification: &Specification, base: usize, steps: &mut Vec<Step>) {
    let mut first_changed = usize::MAX;
    steps.retain_mut(|step| {
        if let Write::From { run, shift: 0 } = step.write {
            let n_equal = equal_prefix(&specification.runs[base], &specification.runs[run]);
            step.positions.retain(|&position| position >= n_equal.min(first_changed));
        }
        first_changed = first_changed.min(step.positions.first().copied().unwrap_or(usize::MAX));
        !step.positions.is_empty()
    });
}

/// Drops what comes after the last layer's attention at positions that are not read.
fn drop_unseen(specification: &Specification, base: usize, n_layers: usize, steps: &mut Vec<Step>) {
    let run = &specification.runs[base];
    let n = sequence(run).len();
    let first_read = n - n_read(run);
    steps.retain_mut(|step| {
        let is_seen = matches!(step.site, Site::ResidPre | Site::Key | Site::Value);
        if step.layer + 1 == n_layers && !is_seen {
            step.positions.retain(|&position| position >= first_read);
        }
        !step.positions.is_empty()
    });
}

/// The run whose final residual stream is copied last of all to where the metric reads.
fn whole_copy(
    specification: &Specification,
    base: usize,
    n_layers: usize,
    steps: &[Step],
) -> Option<usize> {
    let step = steps.last()?;
    let Write::From { run, shift } = step.write else { return None };
    let (target, origin) = (&specification.runs[base], &specification.runs[run]);
    let last = sequence(target).len() - 1;
    let is_whole = (step.layer + 1, step.site, step.head) == (n_layers, Site::ResidPost, None)
        && step.positions == [last]
        && n_read(target) == 1
        && n_read(origin) == 1
        && last.checked_add_signed(shift) == Some(sequence(origin).len() - 1)
        && target.continuation == origin.continuation;
    is_whole.then_some(run)
}
