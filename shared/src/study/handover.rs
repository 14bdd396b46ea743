//! Where along the layers the last position takes over.

use std::cmp::Ordering;

use super::{Handover, Pooled, StudyAxis, StudyGrid};
use crate::specification::roles::Role;
use crate::statistics::{MIN_PAIRS, Method, resampled_means};

/// The share of draws without a handover from which on there is no interval.
const MAX_WITHOUT: f64 = 0.005;

impl Handover {
    /// The handover in a grid of layers and roles, whose pairs' effects are `pooled` and have the
    /// means `mean`.
    pub(super) fn find(
        grid: &StudyGrid,
        pooled: &Pooled,
        mean: &[Option<f64>],
        method: &Method,
    ) -> Option<Self> {
        let [StudyAxis::Layer(layers), StudyAxis::Role(roles)] = &grid.axes[..] else {
            return None;
        };
        let last = roles.iter().position(|role| *role == Role::Last)?;
        let contrasts = pooled.contrast.iter().flatten().map(|c| f64::from(*c));
        // An effect in the contrast's direction is positive.
        let sign = contrasts.sum::<f64>().signum();
        let means: Vec<_> = mean.iter().map(|m| m.map_or(f64::NAN, |m| sign * m)).collect();
        let largest = |column: usize| {
            let of_layers = (0..layers.len()).map(|layer| means[layer * roles.len() + column]);
            of_layers.filter(|mean| mean.is_finite()).fold(0.0, f64::max)
        };
        let others = (0..roles.len()).filter(|column| *column != last);
        let from = others.max_by(|a, b| largest(*a).total_cmp(&largest(*b)))?;
        if largest(from) <= 0.0 {
            return None;
        }
        let crossing = |means: &[f64], sign: f64| {
            let is_behind = |layer: &usize| {
                let at = |column| sign * means[layer * roles.len() + column];
                // What is no number is not ahead.
                !at(last).partial_cmp(&at(from)).is_some_and(Ordering::is_ge)
            };
            let after = (0..layers.len()).rev().find(is_behind).map_or(0, |layer| layer + 1);
            (after < layers.len()).then_some(after)
        };
        let layer = crossing(&means, 1.0)?;
        let (mut found, mut n_draws) = (Vec::new(), 0);
        if pooled.samples.n_pairs() >= MIN_PAIRS {
            resampled_means(&pooled.samples, method, |means| {
                n_draws += 1;
                found.extend(crossing(means, sign));
            });
        }
        found.sort_unstable();
        let n_without = (n_draws - found.len()) as f64;
        let has_interval = !found.is_empty() && n_without <= MAX_WITHOUT * n_draws as f64;
        let quantile = |share: f64| found[(share * (found.len() - 1) as f64).round() as usize];
        let interval = has_interval.then(|| [layers[quantile(0.025)], layers[quantile(0.975)]]);
        Some(Self { from: roles[from], layer: layers[layer], interval })
    }
}
