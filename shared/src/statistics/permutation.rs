//! Tests by flipping signs: were there no effect, a pair's value would be as likely to have the
//! other sign.

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{RngCore, SeedableRng};

use super::samples::{Row, TILE};
use super::{Method, Samples};

/// What the tests say, a p-value for each cell; `None` for cells with fewer than two pairs.
#[derive(Debug, Clone, PartialEq)]
pub struct Tests {
    /// Of each cell by itself, two-sided.
    pub p: Vec<Option<f64>>,
    /// Of each cell as one of the whole family: with probability 0.95, none is below 0.05 where no
    /// cell has an effect (Westfall & Young's max-T, single step). Cells of fewer than
    /// [`Method::min_family_pairs`] are not in the family: of two pairs the statistic is often huge by
    /// chance, and would hide the effects of all others.
    pub p_family: Vec<Option<f64>>,
    /// How many ways of flipping signs were taken.
    pub n_flips: usize,
    /// Whether those are all that there are.
    pub is_exact: bool,
}

/// Two statistics that differ by less than this share are equal: their sums were rounded in another
/// order.
const TOLERANCE: f64 = 1e-9;

/// Tests for every cell whether its mean is 0. A pair's sign is flipped in all cells at once, which
/// keeps what they have in common; the statistic is Student's t.
pub fn sign_flips(samples: &Samples, method: &Method) -> Tests {
    let flips = Flips::new(samples.n_pairs(), method);
    let mut largest = vec![0.0f64; flips.kept.len()];
    let mut found = Vec::with_capacity(samples.n_cells());
    for cell in samples.tiles() {
        let mut rows = samples.tile(cell);
        let (mut n, mut sums, mut squares) = ([0.0; TILE], [0.0; TILE], [0.0; TILE]);
        for row in &mut rows {
            for k in 0..TILE {
                if row[k].is_nan() {
                    row[k] = 0.0;
                } else {
                    n[k] += 1.0;
                    sums[k] += row[k];
                    squares[k] += row[k] * row[k];
                }
            }
        }
        // The square of t: it grows with the sum's, and the sum of squares has no signs.
        let statistic = |sum: f64, k: usize| {
            let share = sum * sum / (n[k] * squares[k]);
            match n[k] >= 2.0 && squares[k] > 0.0 {
                true if share >= 1.0 - 1e-12 => f64::INFINITY,
                true => (n[k] - 1.0) * share / (1.0 - share),
                false => 0.0,
            }
        };
        let seen: Row = std::array::from_fn(|k| statistic(sums[k], k) * (1.0 - TOLERANCE));
        let is_in_family = |n: f64| n >= method.min_family_pairs as f64;
        let mut n_as_large = [0usize; TILE];
        for (kept, largest) in flips.kept.iter().zip(&mut largest) {
            let mut of_kept = [0.0; TILE];
            for &pair in kept {
                let row = &rows[pair as usize];
                for k in 0..TILE {
                    of_kept[k] += row[k];
                }
            }
            for k in 0..TILE {
                // Those that keep their sign, less the others.
                let flipped = statistic(2.0 * of_kept[k] - sums[k], k);
                n_as_large[k] += usize::from(flipped >= seen[k]);
                if is_in_family(n[k]) {
                    *largest = largest.max(flipped);
                }
            }
        }
        let is_tested = |k: usize| n[k] >= 2.0;
        let test = |k: usize| (seen[k], n_as_large[k], is_in_family(n[k]));
        found.extend((0..TILE).map(|k| is_tested(k).then(|| test(k))));
    }
    found.truncate(samples.n_cells());
    largest.sort_unstable_by(f64::total_cmp);
    let n_at_least = |seen: f64| largest.len() - largest.partition_point(|l| *l < seen);
    let p = found.iter().map(|cell| cell.map(|(_, n, _)| flips.p(n))).collect();
    let of_family = |(seen, _, is_in_family): (f64, usize, bool)| {
        is_in_family.then(|| flips.p(n_at_least(seen)))
    };
    let p_family = found.iter().map(|cell| cell.and_then(of_family)).collect();
    Tests { p, p_family, n_flips: flips.kept.len(), is_exact: flips.is_exact }
}

/// Ways of flipping signs, each by the pairs that keep theirs.
struct Flips {
    kept: Vec<Vec<u32>>,
    is_exact: bool,
}

impl Flips {
    fn new(n_pairs: usize, method: &Method) -> Self {
        // A two-sided statistic is the same with all signs flipped: the first pair keeps its own.
        let n_free = n_pairs.saturating_sub(1);
        if n_free < 32 && 1 << n_free <= method.n_flips {
            let kept = |mask: usize| {
                let kept = (0..n_pairs).filter(|pair| *pair == 0 || mask >> (pair - 1) & 1 == 1);
                kept.map(|pair| pair as u32).collect()
            };
            return Self { kept: (0..1 << n_free).map(kept).collect(), is_exact: true };
        }
        let mut rng = Pcg64Mcg::seed_from_u64(method.seed);
        let mut kept = || {
            let (mut bits, mut kept) = (0, Vec::with_capacity(n_pairs / 2 + 1));
            for pair in 0..n_pairs {
                if pair % 64 == 0 {
                    bits = rng.next_u64();
                }
                if bits >> (pair % 64) & 1 == 1 {
                    kept.push(pair as u32);
                }
            }
            kept
        };
        Self { kept: (0..method.n_flips).map(|_| kept()).collect(), is_exact: false }
    }

    /// The p-value where `n` flips give as much as was seen. Of drawn ones, what was seen counts as
    /// one more, so that none is 0.
    fn p(&self, n: usize) -> f64 {
        match self.is_exact {
            true => n as f64 / self.kept.len() as f64,
            false => (1 + n) as f64 / (1 + self.kept.len()) as f64,
        }
    }
}

/// Adjusts p-values so that, of those below 0.05, on average no more than 5 % are false (Benjamini
/// & Hochberg 1995). What has none stays without.
pub fn false_discovery(p: &[Option<f64>]) -> Vec<Option<f64>> {
    let mut order: Vec<_> = (0..p.len()).filter_map(|cell| Some((p[cell]?, cell))).collect();
    order.sort_unstable_by(|one, other| one.0.total_cmp(&other.0));
    let n = order.len() as f64;
    let mut adjusted = vec![None; p.len()];
    let mut least: f64 = 1.0;
    for (rank, &(p, cell)) in order.iter().enumerate().rev() {
        least = least.min(p * n / (rank + 1) as f64);
        adjusted[cell] = Some(least);
    }
    adjusted
}
