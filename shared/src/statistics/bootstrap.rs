//! Estimates with intervals, by drawing pairs anew.

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{RngCore, SeedableRng};

use super::Method;
use super::contrast::MIN_CONTRAST_FOR_RECOVERY;
use super::distributions::{normal, normal_quantile, student_two_sided};
use super::samples::{Row, Samples, TILE};

/// Fewer pairs than this have no interval.
pub const MIN_PAIRS: usize = 10;

/// An interval does not hold the truth with this probability.
const ALPHA: f64 = 0.05;

/// The share of resamples that may have no estimate (no pair with a value, or a contrast of the
/// other sign) before there is no interval.
const MAX_UNDEFINED: f64 = 0.005;

/// What is estimated of a cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// How many pairs it is made of.
    pub n: usize,
    /// The estimate; `None` where it is undefined.
    pub value: Option<f64>,
    /// The 95 % interval, lower end first; `None` for fewer than [`MIN_PAIRS`] pairs.
    pub interval: Option<[f64; 2]>,
}

/// The mean of every cell.
pub fn mean(samples: &Samples, method: &Method) -> Vec<Estimate> {
    let draws = Draws::new(samples.n_pairs(), method.n_resamples, method.seed);
    let ratio = Ratio::new(samples, None, &draws);
    samples.tiles().flat_map(|cell| ratio.tile(cell).estimates()).take(samples.n_cells()).collect()
}

/// The mean of every cell divided by the mean over the same pairs of `contrast`, which has a value
/// for each pair: the recovery of a table, where samples are changes from the base and contrasts
/// those of the source. Undefined where the contrasts almost cancel; without an interval where
/// resampling changes the sign of their mean.
pub fn ratio_of_means(
    samples: &Samples,
    contrast: &[Option<f32>],
    method: &Method,
) -> Vec<Estimate> {
    let draws = Draws::new(samples.n_pairs(), method.n_resamples, method.seed);
    let ratio = Ratio::new(samples, Some(contrast), &draws);
    samples.tiles().flat_map(|cell| ratio.tile(cell).estimates()).take(samples.n_cells()).collect()
}

/// Hands out the means of all cells, for each resample: for the spread of what is derived from
/// several cells. NaN where no pair with a value was drawn.
pub fn resampled_means(samples: &Samples, method: &Method, mut see: impl FnMut(&[f64])) {
    let draws = Draws::new(samples.n_pairs(), method.n_resamples, method.seed);
    let ratio = Ratio::new(samples, None, &draws);
    let tiles: Vec<_> = samples.tiles().map(|cell| ratio.tile(cell).replicates).collect();
    for resample in 0..method.n_resamples {
        let means: Vec<_> = tiles.iter().flat_map(|tile| tile[resample]).collect();
        see(&means[..samples.n_cells()]);
    }
}

/// Which pairs are drawn, for each resample: a pair and how often, in the order of the pairs.
pub(super) struct Draws(Vec<Vec<(u32, f64)>>);

impl Draws {
    pub(super) fn new(n_pairs: usize, n_resamples: usize, seed: u64) -> Self {
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        let mut counts = vec![0u32; n_pairs];
        let mut resample = || {
            counts.fill(0);
            for _ in 0..n_pairs {
                // A pair is likelier than another by less than one in a million.
                let drawn = (u64::from(rng.next_u32()) * n_pairs as u64) >> 32;
                counts[drawn as usize] += 1;
            }
            let drawn = (0..).zip(&counts).filter(|(_, count)| **count > 0);
            drawn.map(|(pair, &count)| (pair, f64::from(count))).collect()
        };
        Self((0..n_resamples).map(|_| resample()).collect())
    }

    #[cfg(test)]
    pub(super) fn of_indices(n_pairs: usize, resamples: &[Vec<usize>]) -> Self {
        let counted = |drawn: &Vec<usize>| {
            let count = |pair: usize| drawn.iter().filter(|p| **p == pair).count();
            let counts = (0..n_pairs).map(|pair| (pair as u32, count(pair) as f64));
            counts.filter(|(_, count)| *count > 0.0).collect()
        };
        Self(resamples.iter().map(counted).collect())
    }

    /// The sums of `rows` over each resample.
    fn sums<'a>(&'a self, rows: &'a [Row]) -> impl Iterator<Item = Row> + 'a {
        self.0.iter().map(|drawn| {
            let mut sums = [0.0; TILE];
            for &(pair, count) in drawn {
                let row = &rows[pair as usize];
                for k in 0..TILE {
                    sums[k] += count * row[k];
                }
            }
            sums
        })
    }
}

/// Sums of values over sums of what they are relative to: 1 for a mean, a contrast for a recovery.
pub(super) struct Ratio<'a> {
    samples: &'a Samples,
    contrast: Option<&'a [Option<f32>]>,
    draws: &'a Draws,
    /// The sums of the denominators where no value is missing, the same for all cells.
    complete: Vec<Row>,
}

/// Eight cells resampled.
pub(super) struct Tile {
    n: [usize; TILE],
    values: Row,
    pub(super) replicates: Vec<Row>,
    /// What each pair does to the estimate, `[pair]`: by how much it moves without the pair
    /// (jackknife), in units in which the sum of their squares is the estimate's variance.
    influences: Vec<Row>,
}

impl<'a> Ratio<'a> {
    pub(super) fn new(
        samples: &'a Samples,
        contrast: Option<&'a [Option<f32>]>,
        draws: &'a Draws,
    ) -> Self {
        let mut ratio = Self { samples, contrast, draws, complete: Vec::new() };
        let rows: Vec<_> = (0..samples.n_pairs()).map(|p| [ratio.denominator(p); TILE]).collect();
        if rows.iter().flatten().all(|d| !d.is_nan()) {
            ratio.complete = draws.sums(&rows).collect();
        }
        ratio
    }

    /// What a pair's values are relative to; NaN where the pair has none.
    fn denominator(&self, pair: usize) -> f64 {
        match self.contrast {
            None => 1.0,
            Some(contrast) => {
                let value = contrast.get(pair).copied().flatten().filter(|v| v.is_finite());
                f64::from(value.unwrap_or(f32::NAN))
            }
        }
    }

    /// The tile that begins with `cell`.
    pub(super) fn tile(&self, cell: usize) -> Tile {
        let mut above = self.samples.tile(cell);
        let n_cells = (self.samples.n_cells() - cell).min(TILE);
        let (mut below, mut counts) = (Vec::with_capacity(above.len()), Vec::new());
        let (mut n, mut is_complete) = ([0; TILE], true);
        for (pair, row) in above.iter_mut().enumerate() {
            let mut denominators = [self.denominator(pair); TILE];
            let mut has_value = [true; TILE];
            for k in 0..TILE {
                if row[k].is_nan() || denominators[k].is_nan() {
                    (row[k], denominators[k], has_value[k]) = (0.0, 0.0, false);
                    is_complete &= k >= n_cells;
                } else {
                    n[k] += 1;
                }
            }
            below.push(denominators);
            counts.push(has_value);
        }
        let total = |rows: &[Row]| {
            rows.iter().fold([0.0; TILE], |sum: Row, row| std::array::from_fn(|k| sum[k] + row[k]))
        };
        let (sum_above, sum_below) = (total(&above), total(&below));
        let quotient = |above: Row, below: Row| -> Row {
            std::array::from_fn(|k| match below[k] * sum_below[k] > 0.0 {
                true => above[k] / below[k],
                false => f64::NAN,
            })
        };
        let mut values = quotient(sum_above, sum_below);
        for k in 0..TILE {
            let is_small = || (sum_below[k] / n[k] as f64).abs() < MIN_CONTRAST_FOR_RECOVERY.into();
            if self.contrast.is_some() && is_small() {
                values[k] = f64::NAN;
            }
        }
        let sums = self.draws.sums(&above);
        let replicates = match is_complete && !self.complete.is_empty() {
            true => sums.zip(&self.complete).map(|(a, b)| quotient(a, *b)).collect(),
            false => sums.zip(self.draws.sums(&below)).map(|(a, b)| quotient(a, b)).collect(),
        };
        let without = |pair: usize| -> Row {
            std::array::from_fn(|k| match counts[pair][k] {
                true => (sum_above[k] - above[pair][k]) / (sum_below[k] - below[pair][k]),
                false => 0.0,
            })
        };
        let mut influences: Vec<_> = (0..above.len()).map(without).collect();
        let sum = total(&influences);
        for (row, counts) in influences.iter_mut().zip(&counts) {
            for k in (0..TILE).filter(|k| counts[*k]) {
                let n = n[k] as f64;
                row[k] = (sum[k] / n - row[k]) * (n - 1.0) / n;
            }
        }
        Tile { n, values, replicates, influences }
    }
}

impl Tile {
    fn estimates(self) -> [Estimate; TILE] {
        std::array::from_fn(|k| {
            let n = self.n[k];
            let value = Some(self.values[k]).filter(|value| value.is_finite());
            let interval = value.filter(|_| n >= MIN_PAIRS).and_then(|value| {
                let replicates = self.replicates.iter().map(|row| row[k]).collect();
                let influences: Vec<_> = self.influences.iter().map(|row| row[k]).collect();
                bca(value, replicates, &influences, Level::of(n))
            });
            Estimate { n, value, interval }
        })
    }

    /// The number of pairs, estimate, replicates and influences of a cell.
    pub(super) fn cell(&self, k: usize) -> (usize, f64, Vec<f64>, Vec<f64>) {
        let column = |rows: &[Row]| rows.iter().map(|row| row[k]).collect();
        (self.n[k], self.values[k], column(&self.replicates), column(&self.influences))
    }
}

/// How far the ends of an interval are from its middle, in standard normal quantiles.
#[derive(Debug, Clone, Copy)]
pub(super) struct Level(f64);

impl Level {
    /// For `n` pairs of one group.
    pub(super) fn of(n: usize) -> Self {
        let n_pairs = n as f64;
        Self::widened((n_pairs / (n_pairs - 1.0)).sqrt(), n - 1)
    }

    /// For an estimate whose standard error is `widening` times what resampling shows, with so many
    /// degrees of freedom.
    pub(super) fn widened(widening: f64, df: usize) -> Self {
        Self(widening * student_two_sided(ALPHA, df))
    }
}

/// The bias-corrected and accelerated interval; `None` where too many replicates are undefined.
pub(super) fn bca(
    value: f64,
    mut replicates: Vec<f64>,
    influences: &[f64],
    Level(z_level): Level,
) -> Option<[f64; 2]> {
    let n_drawn = replicates.len() as f64;
    replicates.retain(|replicate| replicate.is_finite());
    let n = replicates.len();
    if n == 0 || n as f64 <= (1.0 - MAX_UNDEFINED) * n_drawn {
        return None;
    }
    let power = |k: i32| influences.iter().map(|l| l.powi(k)).sum::<f64>();
    let (squares, cubes) = (power(2), power(3));
    // Without spread there is nothing to draw from. What rounding leaves of it is none.
    if squares.sqrt() <= 1e-12 * value.abs() {
        return Some([value, value]);
    }
    // Values of few kinds give the estimate itself often, rounded in another order.
    let close = 1e-9 * squares.sqrt();
    let n_below = replicates.iter().filter(|r| **r < value - close).count();
    let n_equal = replicates.iter().filter(|r| (**r - value).abs() <= close).count();
    let bias = normal_quantile((n_below as f64 + 0.5 * n_equal as f64) / n as f64);
    let acceleration = cubes / (6.0 * squares * squares.sqrt());
    let ends = [-z_level, z_level].map(|z| {
        let z = bias + z;
        normal(bias + z / (1.0 - acceleration * z))
    });
    let [low, high] = ends.map(|p| quantile(&mut replicates, p));
    (low.is_finite() && high.is_finite()).then_some([low, high])
}

/// The quantile of `p`, interpolated between neighbours as numpy does; NaN where `p` is.
fn quantile(values: &mut [f64], p: f64) -> f64 {
    if p.is_nan() {
        return f64::NAN;
    }
    let place = p.clamp(0.0, 1.0) * (values.len() - 1) as f64;
    let (_, low, above) = values.select_nth_unstable_by(place as usize, f64::total_cmp);
    let low = *low;
    let next = above.iter().copied().min_by(f64::total_cmp).unwrap_or(low);
    low + place.fract() * (next - low)
}
