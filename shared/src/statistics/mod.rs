//! Statistics of numbers, of whatever: of one result, and of cells over pairs.
//!
//! Over pairs, the unit is the pair. [`Samples`] holds a value for each pair and cell; of each cell,
//! [`describe`](describe()) gives n, mean, median and standard deviation, [`mean`] and
//! [`ratio_of_means`] an estimate with a 95 % bootstrap interval, [`sign_flips`] permutation tests
//! that hold for each cell and for the whole family of cells, [`difference`] what two groups differ
//! by, [`false_discovery`] adjusts p-values. Everything is seeded, and gives the same on every
//! platform: functions beyond arithmetic and square roots come from `libm`, not from the platform.
//!
//! # The interval
//!
//! Pairs are drawn with replacement, the same draws for all cells. The interval is bias-corrected
//! and accelerated (BCa; Efron 1987), since effects over pairs are often skewed, where the plain
//! percentile interval leans to the wrong side. A bootstrap interval of few pairs is too narrow: it
//! takes the variance divided by n and not by n - 1, and quantiles of the normal distribution and
//! not of Student's. The level is widened to make up for both (Hesterberg 2015, arXiv 1411.5279,
//! section 4.1.2, "expanded percentile"). Below [`MIN_PAIRS`] pairs there is none: resampling says
//! nothing of values that were not seen, and in simulations of fewer the interval holds the mean less
//! often than 93 times in 100.

use serde::{Deserialize, Serialize};

mod bootstrap;
mod contrast;
mod describe;
mod difference;
mod distributions;
mod permutation;
mod samples;

pub use bootstrap::{Estimate, MIN_PAIRS, mean, ratio_of_means, resampled_means};
pub use contrast::{LOW_ANSWER_MASS, MIN_CONTRAST_FOR_RECOVERY, WEAK_CONTRAST, range, recovery};
pub use describe::{Description, describe};
pub use difference::{Difference, Group, Pairing, difference};
pub use permutation::{Tests, false_discovery, sign_flips};
pub use samples::Samples;

/// How intervals and tests are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Method {
    /// How often pairs are drawn anew for an interval.
    pub n_resamples: usize,
    /// How often signs are drawn for a test; where there are no more ways than this to flip signs,
    /// each is taken once.
    pub n_flips: usize,
    /// Cells of fewer pairs are not tested as one of the family.
    pub min_family_pairs: usize,
    /// Seeds intervals and tests.
    pub seed: u64,
}

impl Default for Method {
    /// 2,000 of each, about two seconds for 1,000 pairs of 2,100 cells: the ends of an interval are
    /// then those of levels between 94.4 and 95.6 %, and p-values go down to 1/2001.
    fn default() -> Self {
        Self { n_resamples: 2000, n_flips: 2000, min_family_pairs: MIN_PAIRS, seed: 0 }
    }
}

#[cfg(test)]
mod tests;
