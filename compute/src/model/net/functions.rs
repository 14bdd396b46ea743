//! `exp` and `tanh` without branches and calls, and sums of many numbers at once, so that loops over
//! them become vector instructions.
//!
//! [`vectorised`] runs such a loop with the widest instructions that the machine has. No operation
//! here is fused, and sums have an order of their own, so the numbers are the same on all of them.

use pulp::Arch;

/// Runs `f`, compiled for the vector instructions of this machine.
#[inline]
pub fn vectorised<R>(f: impl FnOnce() -> R) -> R {
    Arch::new().dispatch(f)
}

/// `e^x`, with a relative error of at most 3e-7 for results between the smallest normal number and
/// 2e38, the values given beyond. NaN stays NaN.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Comparisons rather than `clamp`, which would need one more for NaN.
    const LOWEST: f32 = -87.3;
    const HIGHEST: f32 = 88.3;
    let x = if x < LOWEST { LOWEST } else { x };
    let x = if x > HIGHEST { HIGHEST } else { x };
    // A sum with this number has no digits behind the point, and the whole part in its lowest bits.
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    // ln 2 in two parts, of which the first has few digits, so that `n` times it is exact.
    const LN_2_HIGH: f32 = 355.0 / 512.0;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let r = x - n * LN_2_HIGH - n * LN_2_LOW;
    // Taylor's series up to r^7; |r| is at most half of ln 2.
    let p = 1.0 / 5040.0;
    let p = p * r + 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = p * r + 1.0;
    let p = p * r + 1.0;
    // 2^n: `n` plus the exponent's offset, where a float has its exponent.
    p * f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000))
}

/// The hyperbolic tangent, with a relative error of at most 4e-7. NaN stays NaN.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    // Its continued fraction, cut after four steps, where the other form would lose digits.
    let square = x * x;
    let above = ((square + 378.0) * square + 17325.0) * square + 135_135.0;
    let below = ((28.0 * square + 3150.0) * square + 62370.0) * square + 135_135.0;
    let near = x * above / below;
    let far = 1.0 - 2.0 / (exp(2.0 * x.abs()) + 1.0);
    let far = if x < 0.0 { -far } else { far };
    if x.abs() < 0.625 { near } else { far }
}

/// Partial results, as many as keep the widest instructions busy.
const LANES: usize = 32;

/// `f` of every number, put together by `combine`, beginning with `start`: what comes of any number
/// and `start` must be that number.
#[inline(always)]
pub fn reduced(
    x: &[f32],
    start: f32,
    f: impl Fn(f32) -> f32,
    combine: impl Fn(f32, f32) -> f32,
) -> f32 {
    let mut lanes = [start; LANES];
    let mut chunks = x.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = combine(*lane, f(x));
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane = combine(*lane, f(x));
    }
    folded(lanes, combine)
}

/// The sum of the products of the numbers of two slices of equal length.
#[inline(always)]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (mut a, mut b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    for (a, b) in (&mut a).zip(&mut b) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    for ((lane, a), b) in lanes.iter_mut().zip(a.remainder()).zip(b.remainder()) {
        *lane += a * b;
    }
    folded(lanes, |a, b| a + b)
}

#[inline(always)]
fn folded(mut lanes: [f32; LANES], combine: impl Fn(f32, f32) -> f32) -> f32 {
    let mut n = LANES;
    while n > 1 {
        n /= 2;
        for i in 0..n {
            lanes[i] = combine(lanes[i], lanes[i + n]);
        }
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest relative error over numbers from `from` to `to`.
    fn largest_error(f: fn(f32) -> f32, exact: fn(f64) -> f64, from: f32, to: f32) -> f64 {
        const N: usize = 400_000;
        let mut x: Vec<f32> = (0..=N).map(|i| from + (to - from) * i as f32 / N as f32).collect();
        let exact: Vec<f64> = x.iter().map(|&x| exact(f64::from(x))).collect();
        vectorised(|| x.iter_mut().for_each(|x| *x = f(*x)));
        let errors = x.iter().zip(&exact).map(|(&x, &exact)| match exact {
            0.0 => f64::from(x).abs(),
            _ => (f64::from(x) / exact - 1.0).abs(),
        });
        errors.fold(0.0, |a, b| if b <= a { a } else { b })
    }

    #[test]
    fn functions_are_within_their_errors() {
        assert!(largest_error(exp, f64::exp, -87.0, 88.0) < 3e-7);
        assert!(largest_error(exp, f64::exp, -1.0, 1.0) < 2e-7);
        for (from, to) in [(-12.0, 12.0), (-0.7, 0.7), (0.0, 1e-6)] {
            let error = largest_error(tanh, f64::tanh, from, to);
            assert!(error < 4e-7, "{from} to {to}: {error}");
        }
    }

    #[test]
    fn many_numbers_come_to_what_they_come_to_one_by_one() {
        for n in [0, 1, 31, 32, 33, 100, 1000] {
            let a: Vec<f32> = (0..n).map(|i| (i % 17) as f32 - 5.0).collect();
            let b: Vec<f32> = (0..n).map(|i| (i % 5) as f32).collect();
            vectorised(|| {
                // Whole numbers, so that no order rounds.
                let sum = reduced(&a, 0.0, |x| 2.0 * x, |a, b| a + b);
                assert_eq!(sum, a.iter().map(|x| 2.0 * x).sum::<f32>());
                let largest = reduced(&a, f32::NEG_INFINITY, |x| x, f32::max);
                assert_eq!(largest, a.iter().copied().fold(f32::NEG_INFINITY, f32::max));
                assert_eq!(dot(&a, &b), a.iter().zip(&b).map(|(a, b)| a * b).sum::<f32>());
            });
        }
    }

    #[test]
    fn odd_numbers_come_out_as_they_should() {
        assert_eq!((exp(0.0), tanh(0.0)), (1.0, 0.0));
        assert!(exp(f32::NAN).is_nan() && tanh(f32::NAN).is_nan());
        assert!((0.0..1e-37).contains(&exp(f32::NEG_INFINITY)));
        assert!(exp(f32::INFINITY) > 1e38 && exp(200.0) > 1e38);
        assert_eq!((tanh(f32::INFINITY), tanh(f32::NEG_INFINITY), tanh(-60.0)), (1.0, -1.0, -1.0));
    }
}
