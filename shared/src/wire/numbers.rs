//! Numbers as the viewer writes them: so many decimals, more where a small value would be lost in
//! them, and in texts a minus sign that is one.

use crate::field::metric::Metric;

/// Decimals of a probability.
pub const PROBABILITY_DECIMALS: u32 = 4;

/// Decimals of everything else.
const DECIMALS: usize = 3;

/// What stands where there is no value.
pub const NO_VALUE: &str = "–";

/// A value of `metric`: three decimals, for probabilities four, and at least two digits that are
/// not leading zeros.
pub fn value(metric: Metric, value: Option<f32>) -> String {
    signed(plain(metric, value))
}

/// A probability.
pub fn probability(value: Option<f32>) -> String {
    signed(decimals(value, PROBABILITY_DECIMALS as usize))
}

/// A value of `metric` for tables, with the hyphen that spreadsheets and programs read.
pub fn plain(metric: Metric, value: Option<f32>) -> String {
    match metric {
        Metric::PTrue | Metric::PFalse => decimals(value, PROBABILITY_DECIMALS as usize),
        Metric::LogitDiff | Metric::Change | Metric::Recovery => decimals(value, DECIMALS),
    }
}

/// The end of a range, to be typed over: four digits.
pub fn end(value: f32) -> String {
    let place = f64::from(value.abs()).log10().floor();
    if !(-6.0..6.0).contains(&place) && value != 0.0 {
        return format!("{value:.3e}");
    }
    let text = format!("{value:.0$}", (3.0 - place.max(-6.0)).max(1.0) as usize);
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

fn signed(text: String) -> String {
    match text.strip_prefix('-') {
        Some(digits) => format!("−{digits}").replace("e-", "e−"),
        None => text.replace("e-", "e−"),
    }
}

fn decimals(value: Option<f32>, n: usize) -> String {
    let Some(value) = value.filter(|v| v.is_finite()) else { return NO_VALUE.to_string() };
    // Also minus zero.
    if value == 0.0 {
        return format!("{:.n$}", 0.0);
    }
    // The place of the first digit that is no zero; the second is to be seen too.
    let place = -f64::from(value.abs()).log10().floor();
    if place + 1.0 <= n as f64 {
        format!("{value:.n$}")
    } else if place <= 6.0 {
        format!("{value:.0$}", place as usize + 1)
    } else {
        format!("{value:.1e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_decimals_enough_and_a_minus_sign() {
        let cases = [
            (Metric::LogitDiff, Some(-0.62194), "−0.622"),
            (Metric::LogitDiff, Some(-0.0), "0.000"),
            (Metric::LogitDiff, Some(-0.012), "−0.012"),
            (Metric::Change, Some(-0.0004), "−0.00040"),
            (Metric::Change, Some(3.21e-9), "3.2e−9"),
            (Metric::PTrue, Some(2e-5), "0.000020"),
            (Metric::LogitDiff, Some(12345.678), "12345.678"),
            (Metric::Recovery, Some(1.2), "1.200"),
            (Metric::PTrue, Some(0.01481), "0.0148"),
            (Metric::PFalse, None, "–"),
            (Metric::Change, Some(f32::NAN), "–"),
        ];
        for (metric, number, expected) in cases {
            assert_eq!(value(metric, number), expected);
        }
    }

    #[test]
    fn tables_and_fields_hold_what_programs_read() {
        assert_eq!(plain(Metric::Change, Some(-3.21e-9)), "-3.2e-9");
        assert_eq!(plain(Metric::LogitDiff, Some(-0.62194)), "-0.622");
        let cases = [
            (0.000_412_34, "0.0004123"),
            (-12.3456, "-12.35"),
            (100.0, "100"),
            (0.5, "0.5"),
            (0.0, "0"),
            (1.234_56e-9, "1.235e-9"),
            (-3.0e12, "-3.000e12"),
        ];
        for (value, expected) in cases {
            assert_eq!(end(value), expected);
        }
    }
}
