//! Numbers as the viewer writes them: so many decimals, and a minus sign that is one.

use crate::metric::Metric;

/// Decimals of a probability.
pub const PROBABILITY_DECIMALS: u32 = 4;

/// What stands where there is no value.
pub const NO_VALUE: &str = "–";

/// A value of `metric`: three decimals, for probabilities four.
pub fn value(metric: Metric, value: Option<f32>) -> String {
    match metric {
        Metric::PTrue | Metric::PFalse => decimals(value, PROBABILITY_DECIMALS as usize),
        Metric::LogitDiff | Metric::Change | Metric::Recovery => decimals(value, 3),
    }
}

/// A probability.
pub fn probability(value: Option<f32>) -> String {
    decimals(value, PROBABILITY_DECIMALS as usize)
}

fn decimals(value: Option<f32>, n: usize) -> String {
    let Some(value) = value.filter(|v| v.is_finite()) else { return NO_VALUE.to_string() };
    let text = format!("{value:.n$}");
    match text.strip_prefix('-') {
        Some(digits) if digits.bytes().all(|b| b == b'0' || b == b'.') => digits.to_string(),
        Some(digits) => format!("−{digits}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_fixed_decimals_and_a_minus_sign() {
        let cases = [
            (Metric::LogitDiff, Some(-0.62194), "−0.622"),
            (Metric::LogitDiff, Some(-0.0001), "0.000"),
            (Metric::Recovery, Some(1.2), "1.200"),
            (Metric::PTrue, Some(0.01481), "0.0148"),
            (Metric::PFalse, None, "–"),
            (Metric::Change, Some(f32::NAN), "–"),
        ];
        for (metric, number, expected) in cases {
            assert_eq!(value(metric, number), expected);
        }
    }
}
