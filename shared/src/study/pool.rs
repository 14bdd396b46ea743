//! From a pair's columns to the cells of a study.

use super::{Study, StudyAxis, StudyGrid, StudyPair};
use crate::statistics::Samples;

/// The pooled effects of pairs.
#[derive(Debug, Clone, PartialEq)]
pub struct Pooled {
    /// `[pair][cell]`, in nats; in the order of the pairs that were asked for.
    pub samples: Samples,
    /// The contrast of each pair: the supplying run's metric less the receiving one's, in nats.
    pub contrast: Vec<Option<f32>>,
}

impl Study {
    /// The effects of the pairs at `pairs` in the cells of `grid`, of its array of logit differences.
    pub fn pooled(
        &self,
        grid: &StudyGrid,
        logit_diff: &[f32],
        pairs: impl IntoIterator<Item = usize>,
    ) -> Pooled {
        let mut pooled =
            Pooled { samples: Samples::new(grid.n_cells().unwrap_or(0)), contrast: Vec::new() };
        let n_in_column = grid.n_in_column();
        let columns = self.columns(grid);
        for at in pairs {
            let Some(pair) = self.pairs.get(at) else { continue };
            let own = columns[at].start * n_in_column..columns[at].end * n_in_column;
            pooled.samples.push(cells(grid, pair, logit_diff.get(own).unwrap_or_default()));
            let metric = |prompt| pair.of(prompt).logit_diff;
            let (receiver, supplier) = (metric(grid.receiver), metric(grid.receiver.other()));
            pooled.contrast.push(supplier.zip(receiver).map(|(s, r)| s - r));
        }
        pooled
    }

    /// The pairs that count, those of a group or all.
    pub fn kept(&self, group: Option<&super::Group>) -> impl Iterator<Item = usize> {
        let is_in = move |pair: &StudyPair| {
            group.is_none_or(|group| pair.row.get(&group.column) == Some(&group.value))
        };
        let pairs = self.pairs.iter().enumerate();
        pairs.filter(move |(_, pair)| pair.left_out.is_none() && is_in(pair)).map(|(at, _)| at)
    }
}

/// A pair's effects in the cells of the grid: of a role, the mean over the positions that have it.
/// `values` are its `[column][layer][head]`.
fn cells(grid: &StudyGrid, pair: &StudyPair, values: &[f32]) -> Vec<Option<f32>> {
    let n_in_column = grid.n_in_column();
    let Some(unpatched) = pair.of(grid.receiver).logit_diff else { return Vec::new() };
    let roles = &pair.of(grid.receiver).roles;
    let effect = |column: usize, at: usize| {
        let value = values.get(column * n_in_column + at)?;
        Some(value - unpatched).filter(|effect| effect.is_finite())
    };
    let mean = |columns: &[usize], at: usize| {
        let effects: Vec<_> = columns.iter().filter_map(|&column| effect(column, at)).collect();
        let sum: f32 = effects.iter().sum();
        (!effects.is_empty()).then(|| sum / effects.len() as f32)
    };
    let columns: Vec<Vec<usize>> = match grid.axes.last() {
        Some(StudyAxis::Role(of)) => {
            let with = |role| (0..roles.len()).filter(move |&column| roles[column] == role);
            of.iter().map(|&role| with(role).collect()).collect()
        }
        Some(StudyAxis::Span(spans)) => (0..spans.len()).map(|column| vec![column]).collect(),
        _ => vec![vec![0]],
    };
    let mean = &mean;
    (0..n_in_column).flat_map(|at| columns.iter().map(move |columns| mean(columns, at))).collect()
}
