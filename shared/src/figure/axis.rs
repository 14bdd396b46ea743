//! Numbers along the axes: how large a cell is, which labels are written, where the colour bar's
//! ticks are. Lengths are in pixels at scale 1.

/// The extent of one cell along an axis of `n` cells. Few cells grow until the plot has `wanted`
/// pixels, but none beyond `largest`; many shrink so that the plot keeps within `most`, by whole
/// pixels as long as there is one for each.
pub fn cell_extent(n: usize, usual: f64, largest: f64, wanted: f64, most: f64) -> f64 {
    let n = n as f64;
    let grown = (wanted / n).floor().clamp(usual, largest);
    if grown * n <= most {
        grown
    } else if n <= most {
        (most / n).floor()
    } else {
        most / n
    }
}

/// Every how many cells a label fits that takes `needed` pixels along the axis. `round` keeps to
/// 1, 2, 5, 10, 20, ..., for numbers that are counted in tens.
pub fn label_step(needed: f64, cell: f64, round: bool) -> usize {
    let least = (needed / cell).ceil().max(1.0) as usize;
    if !round {
        return least;
    }
    let mut power: usize = 1;
    loop {
        for factor in [1, 2, 5] {
            if factor * power >= least {
                return factor * power;
            }
        }
        power = power.saturating_mul(10);
    }
}

/// At most about `n` round values within `lo..=hi` with their labels. `lo < hi`, both finite.
pub fn ticks(lo: f64, hi: f64, n: usize) -> Vec<(f64, String)> {
    let rough = (hi - lo) / n.max(1) as f64;
    let exponent = rough.log10().floor();
    let power = 10f64.powf(exponent);
    let (factor, exponent) = match rough / power {
        f if f <= 1.0 => (1.0, exponent),
        f if f <= 2.0 => (2.0, exponent),
        f if f <= 5.0 => (5.0, exponent),
        _ => (1.0, exponent + 1.0),
    };
    let step = factor * 10f64.powf(exponent);
    // A tick on an end counts although the division may miss it by a rounding error.
    let (first, last) = ((lo / step - 1e-6).ceil(), (hi / step + 1e-6).floor());
    let most = lo.abs().max(hi.abs());
    let scientific = !(1e-4..1e5).contains(&most);
    (0..=(last - first).max(0.0) as usize)
        .map(|i| {
            let value = (first + i as f64) * step;
            let text = if value == 0.0 {
                "0".to_string()
            } else if scientific {
                let digits = (value.abs().log10().floor() - exponent).clamp(0.0, 8.0) as usize;
                format!("{value:.digits$e}")
            } else {
                format!("{value:.0$}", (-exponent).max(0.0) as usize)
            };
            (value, text.replace('-', "−"))
        })
        .collect()
}

/// The same for a scale of ranks, which is logarithmic: 1, 2, 5, 10, 20, or powers of ten where those
/// are too many. `0 < lo < hi`.
pub fn rank_ticks(lo: f64, hi: f64, n: usize) -> Vec<(f64, String)> {
    // Over less than this there is hardly a difference to a scale that is not.
    if hi / lo < 5.0 {
        return ticks(lo, hi, n);
    }
    let of = |factors: &[f64], every: i32| {
        let decades = lo.log10().floor() as i32..=hi.log10().floor() as i32;
        let decades = decades.filter(|decade| decade % every == 0);
        let values = decades.flat_map(|d| factors.iter().map(move |f| f * 10f64.powi(d)));
        values.filter(|value| (lo..=hi).contains(value)).collect::<Vec<_>>()
    };
    let mut values = of(&[1.0, 2.0, 5.0], 1);
    let mut every = 1;
    while values.len() > n.max(2) {
        values = of(&[1.0], every);
        every += 1;
    }
    let text = |value: f64| match value {
        value if (1e-4..1e5).contains(&value) => format!("{value}"),
        value => format!("{value:e}").replace('-', "−"),
    };
    values.into_iter().map(|value| (value, text(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_grow_and_shrink_within_limits() {
        let cases = [
            (1, 56.0),
            (8, 42.0),
            (14, 24.0),
            (20, 18.0),
            (80, 18.0),
            (100, 15.0),
            (400, 3.0),
            (1500, 1.0),
            (3000, 0.5),
        ];
        for (n, expected) in cases {
            assert_eq!(cell_extent(n, 18.0, 56.0, 340.0, 1500.0), expected, "{n}");
        }
    }

    #[test]
    fn labels_thin_out() {
        let cases = [
            (11.0, 14.0, true, 1),
            (11.0, 11.0, true, 1),
            (11.0, 10.0, true, 2),
            (11.0, 4.0, true, 5),
            (11.0, 4.0, false, 3),
            (11.0, 1.0, true, 20),
            (11.0, 0.001, true, 20_000),
        ];
        for (needed, cell, round, expected) in cases {
            assert_eq!(label_step(needed, cell, round), expected, "{needed} on {cell}");
        }
    }

    #[test]
    fn ticks_are_round_and_written_alike() {
        let cases = [
            (0.0, 1.0, "0 0.2 0.4 0.6 0.8 1.0"),
            (0.0, 13.0, "0 5 10"),
            (-1.3, 3.2, "−1 0 1 2 3"),
            (-0.5, 0.5, "−0.4 −0.2 0 0.2 0.4"),
            (0.0181, 0.0219, "0.019 0.020 0.021"),
            (3.0, 3.000_02, "3.000000 3.000005 3.000010 3.000015 3.000020"),
            (9.0, 11.0, "9.0 9.5 10.0 10.5 11.0"),
            (-2e6, 3e6, "−2e6 −1e6 0 1e6 2e6 3e6"),
            (0.0, 3e-7, "0 1e−7 2e−7 3e−7"),
            (1.0e30, 1.05e30, "1.00e30 1.01e30 1.02e30 1.03e30 1.04e30 1.05e30"),
        ];
        for (lo, hi, expected) in cases {
            let ticks = ticks(lo, hi, 5);
            let texts: Vec<_> = ticks.iter().map(|(_, text)| &**text).collect();
            assert_eq!(texts.join(" "), expected, "{lo} to {hi}");
            assert!(ticks.iter().all(|(v, _)| (lo..=hi).contains(&(v - 1e-9 * (v - lo)))
                || (v - lo).abs() < 1e-6 * (hi - lo)
                || (v - hi).abs() < 1e-6 * (hi - lo)));
        }
    }

    #[test]
    fn ticks_of_ranks_are_round_and_few() {
        let cases = [
            (1.0, 19.0, "1 2 5 10"),
            (1.0, 49_152.0, "1 10 100 1000 10000"),
            (1.0, 2e6, "1 100 10000 1e6"),
            (3.0, 7.0, "3 4 5 6 7"),
            (7.0, 900.0, "10 20 50 100 200 500"),
            (0.9, 1.1, "0.90 0.95 1.00 1.05 1.10"),
            (0.05, 2.0, "0.05 0.1 0.2 0.5 1 2"),
        ];
        for (lo, hi, expected) in cases {
            let texts: Vec<_> = rank_ticks(lo, hi, 6).into_iter().map(|(_, text)| text).collect();
            assert_eq!(texts.join(" "), expected, "{lo} to {hi}");
        }
    }

    #[test]
    fn ticks_of_any_range_are_few() {
        for (lo, hi) in [
            (f64::from(f32::MIN), f64::from(f32::MAX)),
            (0.0, f64::from(f32::MIN_POSITIVE) * 1e-6),
            (1.0, 1.0 + f64::from(f32::EPSILON)),
            (1e30, 1e30 * (1.0 + f64::from(f32::EPSILON))),
        ] {
            let n = ticks(lo, hi, 6).len();
            assert!((2..=8).contains(&n), "{n} from {lo} to {hi}");
        }
    }
}
