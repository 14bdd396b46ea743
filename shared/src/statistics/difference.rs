//! What two groups of pairs differ by.

use super::bootstrap::{Draws, Level, MIN_PAIRS, Ratio, bca};
use super::samples::TILE;
use super::{Method, Samples};

/// A group: values, and what they are relative to.
#[derive(Debug, Clone, Copy)]
pub struct Group<'a> {
    /// The values of its pairs.
    pub samples: &'a Samples,
    /// Divides the means, see [`ratio_of_means`](super::ratio_of_means); `None` for plain means.
    pub contrast: Option<&'a [Option<f32>]>,
}

/// Whether two groups are of the same pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairing {
    /// Pair i of one is pair i of the other, measured twice: in two models, or at two sites. Only
    /// pairs that have a value in both count, and both are drawn together.
    Paired,
    /// The groups are of different pairs, which are drawn apart.
    Unpaired,
}

/// What a cell of one group has more than the other's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// How many pairs of each count.
    pub n: [usize; 2],
    /// The first's estimate less the second's; `None` where either is undefined.
    pub value: Option<f64>,
    /// The 95 % interval, as for [`Estimate`](super::Estimate).
    pub interval: Option<[f64; 2]>,
}

/// The difference of every cell of two groups with the same cells.
///
/// # Panics
/// They have not the same cells or, where they are paired, not as many pairs.
pub fn difference(sides: [Group; 2], pairing: Pairing, method: &Method) -> Vec<Difference> {
    let [first, second] = sides;
    assert_eq!(first.samples.n_cells(), second.samples.n_cells(), "the same cells");
    let n_pairs = sides.map(|side| side.samples.n_pairs());
    match pairing {
        Pairing::Paired => {
            assert_eq!(n_pairs[0], n_pairs[1], "the same pairs");
            let common = [common(first, second), common(second, first)];
            let sides =
                [Group { samples: &common[0], ..first }, Group { samples: &common[1], ..second }];
            let draws = Draws::new(n_pairs[0], method.n_resamples, method.seed);
            differences(sides, [&draws, &draws], pairing)
        }
        Pairing::Unpaired => {
            let draws = [n_pairs[0], n_pairs[1]];
            let draws: [Draws; 2] = std::array::from_fn(|i| {
                Draws::new(draws[i], method.n_resamples, method.seed.wrapping_add(i as u64))
            });
            differences(sides, [&draws[0], &draws[1]], pairing)
        }
    }
}

/// The samples of `side` without what `other` lacks.
fn common(side: Group, other: Group) -> Samples {
    let mut common = Samples::new(side.samples.n_cells());
    for pair in 0..side.samples.n_pairs() {
        let contrast =
            |of: Group| of.contrast.is_none_or(|c| c.get(pair).copied().flatten().is_some());
        let has_both = contrast(side) && contrast(other);
        common.push((0..side.samples.n_cells()).map(|cell| {
            other.samples.get(pair, cell).filter(|_| has_both)?;
            side.samples.get(pair, cell)
        }));
    }
    common
}

pub(super) fn differences(
    sides: [Group; 2],
    draws: [&Draws; 2],
    pairing: Pairing,
) -> Vec<Difference> {
    let ratios: [Ratio; 2] =
        std::array::from_fn(|i| Ratio::new(sides[i].samples, sides[i].contrast, draws[i]));
    let samples = sides[0].samples;
    let mut differences = Vec::with_capacity(samples.n_cells());
    for cell in samples.tiles() {
        let tiles = [ratios[0].tile(cell), ratios[1].tile(cell)];
        for k in 0..TILE.min(samples.n_cells() - cell) {
            let (n, value, replicates, influences) = tiles[0].cell(k);
            let (n_other, other, others, other_influences) = tiles[1].cell(k);
            let value = Some(value - other).filter(|value| value.is_finite());
            let n = [n, n_other];
            let interval = value.filter(|_| n[0].min(n[1]) >= MIN_PAIRS).and_then(|value| {
                let replicates = replicates.iter().zip(&others).map(|(a, b)| a - b).collect();
                let minus = other_influences.iter().map(|l| -l);
                match pairing {
                    Pairing::Paired => {
                        let both = influences.iter().zip(minus).map(|(a, b)| a + b);
                        bca(value, replicates, &both.collect::<Vec<_>>(), Level::of(n[0]))
                    }
                    Pairing::Unpaired => {
                        let level = welch([&influences, &other_influences], n);
                        let all: Vec<_> = influences.iter().copied().chain(minus).collect();
                        bca(value, replicates, &all, level)
                    }
                }
            });
            differences.push(Difference { n, value, interval });
        }
    }
    differences
}

/// The level for two groups by their influences: degrees of freedom by Welch and Satterthwaite,
/// rounded down.
fn welch(influences: [&[f64]; 2], n: [usize; 2]) -> Level {
    let resampled = influences.map(|l| l.iter().map(|l| l * l).sum::<f64>());
    let n = n.map(|n| n as f64);
    let unbiased: [f64; 2] = std::array::from_fn(|i| resampled[i] * n[i] / (n[i] - 1.0));
    let variance = unbiased[0] + unbiased[1];
    let spread: f64 = (0..2).map(|i| unbiased[i] * unbiased[i] / (n[i] - 1.0)).sum();
    if variance == 0.0 || spread == 0.0 {
        return Level::of(n[0].min(n[1]) as usize);
    }
    let df = (variance * variance / spread).floor().max(1.0) as usize;
    Level::widened((variance / (resampled[0] + resampled[1])).sqrt(), df)
}
