//! The rows of unpatched runs. Runs that begin alike share the rows of that beginning, so that what
//! the prompts of a table have in common is run once.

use shared::specification::Run;

use super::reach::{Step, in_order};
use crate::model::Span;

/// What the model reads in a run: the prompt, and all of a continuation but its last token.
pub fn sequence(run: &Run) -> Vec<u32> {
    let mut tokens = run.tokens.clone();
    if let Some(continuation) = &run.continuation {
        tokens.extend(continuation.ids.iter().take(continuation.ids.len().saturating_sub(1)));
    }
    tokens
}

/// How many of a run's last positions the metric reads.
pub fn n_read(run: &Run) -> usize {
    run.continuation.as_ref().map_or(1, |continuation| continuation.ids.len().max(1))
}

/// How many positions from the left on two runs have in common: the same tokens, and no edits.
pub fn equal_prefix(a: &Run, b: &Run) -> usize {
    equal_until((a, &sequence(a)), (b, &sequence(b)))
}

/// The same of runs and their sequences.
fn equal_until((a, one): (&Run, &[u32]), (b, other): (&Run, &[u32])) -> usize {
    if a.edits == b.edits && one == other {
        return one.len();
    }
    let n_same = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    n_same.min(first_edited(a)).min(first_edited(b))
}

/// The first position that a run's own edits change.
fn first_edited(run: &Run) -> usize {
    let positions = run.edits.iter().flat_map(|edit| edit.positions.iter().copied());
    positions.min().unwrap_or(usize::MAX)
}

/// The rows of several runs in one matrix.
#[derive(Debug, Clone)]
pub struct RunRows {
    /// The token of every row.
    pub tokens: Vec<u32>,
    /// The position of every row.
    pub positions: Vec<usize>,
    /// The row of every position, for each run.
    pub rows: Vec<Vec<usize>>,
    /// Where each run's position 0 is in the runs' keys and values one after another.
    pub offsets: Vec<usize>,
    /// The rows that attend, for each run those that it shares with none before it.
    pub spans: Vec<Span>,
    /// The runs' own edits, with the run.
    pub steps: Vec<(usize, Step)>,
}

impl RunRows {
    /// Lays out `runs` in a model of `n_layers` layers.
    pub fn new(runs: &[&Run], n_layers: usize) -> Self {
        let mut all = Self {
            tokens: Vec::new(),
            positions: Vec::new(),
            rows: Vec::new(),
            offsets: Vec::new(),
            spans: Vec::new(),
            steps: Vec::new(),
        };
        let sequences: Vec<_> = runs.iter().map(|run| sequence(run)).collect();
        let mut offset = 0;
        for (index, run) in runs.iter().enumerate() {
            let tokens = &sequences[index];
            let like = (0..index)
                .map(|other| (equal_until((runs[other], &sequences[other]), (run, tokens)), other));
            // Of equals the first.
            let like = like.max_by_key(|&(n_equal, other)| (n_equal, std::cmp::Reverse(other)));
            let mut rows = match like {
                Some((n_equal, other)) => all.rows[other][..n_equal].to_vec(),
                None => Vec::new(),
            };
            let n_equal = rows.len();
            let n_queries = tokens.len() - n_equal;
            for (position, &token) in tokens.iter().enumerate().skip(n_equal) {
                rows.push(all.tokens.len());
                all.tokens.push(token);
                all.positions.push(position);
            }
            if n_queries > 0 {
                all.spans.push(Span { offset, n_shared: tokens.len(), n_own: 0, n_queries });
            }
            let edits = in_order(&run.edits, n_layers);
            // Rows that belong to an equal run before have its edits.
            let own = edits.into_iter().filter_map(|mut step| {
                step.positions.retain(|&position| position >= n_equal);
                (!step.positions.is_empty()).then_some((index, step))
            });
            all.steps.extend(own);
            all.rows.push(rows);
            all.offsets.push(offset);
            offset += tokens.len();
        }
        all
    }

    /// How many rows there are.
    pub fn n_rows(&self) -> usize {
        self.tokens.len()
    }

    /// The rows of all runs one after another; `None` if that is the order that they are in.
    pub fn order(&self) -> Option<Vec<usize>> {
        let order = self.rows.concat();
        (!order.iter().copied().eq(0..self.n_rows())).then_some(order)
    }

    /// The rows of the last `n` positions of `run`.
    pub fn last(&self, run: usize, n: usize) -> &[usize] {
        let rows = &self.rows[run];
        &rows[rows.len() - n..]
    }
}
