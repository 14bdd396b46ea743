//! Statistics of a grid's cells over pairs.

use super::{Cells, Effect, Group, Handover, Pooled, Ratio, StudyGrid, Summary};
use crate::statistics::{self, Difference, Estimate, Method};

impl Summary {
    /// The statistics of these pairs.
    pub(super) fn of(
        grid: &StudyGrid,
        group: Option<Group>,
        pooled: &Pooled,
        method: &Method,
    ) -> Self {
        let Pooled { samples, contrast } = pooled;
        let described = statistics::describe(samples);
        let means = statistics::mean(samples, method);
        let tests = statistics::sign_flips(samples, method);
        let recovery = statistics::ratio_of_means(samples, contrast, method);
        let mean: Vec<_> = means.iter().map(|estimate| estimate.value).collect();
        let Ratio { value, low, high } = Ratio::of(means);
        Self {
            group,
            n_pairs: samples.n_pairs(),
            handover: Handover::find(grid, pooled, &mean, method),
            effect: Effect {
                n: described.iter().map(|of| of.n).collect(),
                mean: value,
                median: cells(described.iter().map(|of| of.median)),
                sd: cells(described.iter().map(|of| of.sd)),
                low,
                high,
                q: cells(statistics::false_discovery(&tests.p)),
                p: cells(tests.p),
                p_family: cells(tests.p_family),
            },
            recovery: Ratio::of(recovery),
        }
    }
}

impl Ratio {
    fn of(estimates: Vec<Estimate>) -> Self {
        Self::from_parts(estimates.into_iter().map(|e| (e.value, e.interval)))
    }

    pub(super) fn of_differences(differences: Vec<Difference>) -> Self {
        Self::from_parts(differences.into_iter().map(|d| (d.value, d.interval)))
    }

    fn from_parts(parts: impl Iterator<Item = (Option<f64>, Option<[f64; 2]>)>) -> Self {
        let mut ratio = Self::default();
        for (value, interval) in parts {
            ratio.value.push(number(value));
            ratio.low.push(number(interval.map(|[low, _]| low)));
            ratio.high.push(number(interval.map(|[_, high]| high)));
        }
        ratio
    }
}

fn cells(values: impl IntoIterator<Item = Option<f64>>) -> Cells {
    values.into_iter().map(number).collect()
}

fn number(value: Option<f64>) -> Option<f32> {
    value.map(|value| value as f32).filter(|value| value.is_finite())
}
