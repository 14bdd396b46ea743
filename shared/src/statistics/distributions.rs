//! The normal distribution and Student's, to the same bits on every platform.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI, PI};

/// The probability that a standard normal variable is at most `z`.
pub(super) fn normal(z: f64) -> f64 {
    0.5 * libm::erfc(-z * FRAC_1_SQRT_2)
}

/// The standard normal quantile of `p`; infinite at 0 and 1.
pub(super) fn normal_quantile(p: f64) -> f64 {
    if p <= 0.0 || p >= 1.0 {
        return if p <= 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    let tail = p.min(1.0 - p);
    // Newton's method from 0 goes down to the root without passing it: the function is convex there.
    let mut z = 0.0;
    for _ in 0..100 {
        let density = libm::exp(-z * z / 2.0) / (2.0 * PI).sqrt();
        let step = (normal(z) - tail) / density;
        z -= step;
        if step.abs() < 1e-15 * z.abs().max(1.0) {
            break;
        }
    }
    if p < 0.5 { z } else { -z }
}

/// The probability that Student's t of `df` degrees of freedom lies between -`t` and `t`
/// (Abramowitz & Stegun 26.7.3 and 26.7.4).
fn student_within(t: f64, df: usize) -> f64 {
    let n = df as f64;
    let cos2 = n / (n + t * t);
    let (cos, sin) = (cos2.sqrt(), t / (n + t * t).sqrt());
    let is_odd = df % 2 == 1;
    let (mut term, mut sum) = (if is_odd { cos } else { 1.0 }, 0.0);
    let mut k = if is_odd { 2.0 } else { 1.0 };
    for _ in 0..df / 2 {
        sum += term;
        term *= cos2 * k / (k + 1.0);
        k += 2.0;
    }
    match is_odd {
        true => FRAC_2_PI * (libm::atan2(t, n.sqrt()) + sin * sum),
        false => sin * sum,
    }
}

/// The `t` that Student's distribution of `df` degrees of freedom, at least 1, exceeds in absolute
/// value with probability `p`.
pub(super) fn student_two_sided(p: f64, df: usize) -> f64 {
    // The difference to the normal distribution is beyond what an interval shows.
    if df > 100_000 {
        return -normal_quantile(p / 2.0);
    }
    let (mut low, mut high) = (0.0, 2.0);
    while student_within(high, df) < 1.0 - p {
        high *= 2.0;
    }
    while high - low > 1e-13 * high {
        let middle = (low + high) / 2.0;
        match student_within(middle, df) < 1.0 - p {
            true => low = middle,
            false => high = middle,
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_scipy() {
        // scipy.stats.norm.ppf and scipy.stats.t.ppf.
        let normal_cases = [
            (0.5, 0.0),
            (0.025, -1.959963984540054),
            (0.975, 1.959963984540054),
            (1e-6, -4.753424308822899),
            (0.3, -0.5244005127080409),
        ];
        for (p, expected) in normal_cases {
            assert!((normal_quantile(p) - expected).abs() < 1e-12, "{p}");
            assert!((normal(expected) - p).abs() < 1e-14, "{p}");
        }
        assert_eq!(normal_quantile(0.0), f64::NEG_INFINITY);
        let student_cases = [
            (0.05, 1, 12.706204736174694),
            (0.05, 2, 4.302652729749462),
            (0.05, 7, 2.364624251592784),
            (0.05, 30, 2.0422724563012378),
            (0.01, 31, 2.744041919294269),
            (0.05, 999, 1.9623414611334493),
        ];
        for (p, df, expected) in student_cases {
            let found = student_two_sided(p, df);
            assert!((found / expected - 1.0).abs() < 1e-10, "{df}: {found}");
        }
        assert!((student_two_sided(0.05, 200_000) - 1.95998).abs() < 1e-4);
    }
}
