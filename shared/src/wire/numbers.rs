//! Numbers as the viewer writes them: so many decimals, more where a small value would be lost in
//! them, and in texts a minus sign that is one.

/// Decimals of a probability.
pub const PROBABILITY_DECIMALS: u32 = 4;

/// Decimals of a logit difference.
const DECIMALS: usize = 3;

/// What stands where there is no value.
pub const NO_VALUE: &str = "–";

/// A value with so many decimals, and at least two digits that are not leading zeros.
pub fn value(n_decimals: usize, value: Option<f32>) -> String {
    signed(plain(n_decimals, value))
}

/// A logit difference.
pub fn logit_diff(value: Option<f32>) -> String {
    signed(plain(DECIMALS, value))
}

/// A probability.
pub fn probability(value: Option<f32>) -> String {
    signed(plain(PROBABILITY_DECIMALS as usize, value))
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

/// A value for tables, with the hyphen that spreadsheets and programs read.
pub fn plain(n: usize, value: Option<f32>) -> String {
    let Some(value) = value.filter(|v| v.is_finite()) else { return NO_VALUE.to_string() };
    // Also minus zero.
    if value == 0.0 {
        return format!("{:.n$}", 0.0);
    }
    if n == 0 && value.fract() == 0.0 {
        return format!("{value:.0}");
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
            (3, Some(-0.62194), "−0.622"),
            (3, Some(-0.0), "0.000"),
            (3, Some(-0.012), "−0.012"),
            (3, Some(-0.0004), "−0.00040"),
            (3, Some(3.21e-9), "3.2e−9"),
            (4, Some(2e-5), "0.000020"),
            (3, Some(12345.678), "12345.678"),
            (3, Some(1.2), "1.200"),
            (4, Some(0.01481), "0.0148"),
            (0, Some(12.0), "12"),
            (0, Some(0.0), "0"),
            (0, Some(1.0), "1"),
            (0, Some(1.5), "1.5"),
            (4, None, "–"),
            (3, Some(f32::NAN), "–"),
        ];
        for (n_decimals, number, expected) in cases {
            assert_eq!(value(n_decimals, number), expected);
        }
    }

    #[test]
    fn tables_and_fields_hold_what_programs_read() {
        assert_eq!(plain(3, Some(-3.21e-9)), "-3.2e-9");
        assert_eq!(plain(3, Some(-0.62194)), "-0.622");
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
