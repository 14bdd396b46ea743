//! What a pair's two baselines make of a value, and whether they say anything.

/// Baselines closer than this (in nats) leave the recovery undefined: the quotient would be noise.
pub const MIN_CONTRAST_FOR_RECOVERY: f32 = 0.01;

/// Baselines closer than this (in nats) deserve a warning: the model hardly tells the prompts apart.
pub const WEAK_CONTRAST: f32 = 0.5;

/// Answers that get less than this share of the probability deserve a warning: the model is
/// saying something else.
pub const LOW_ANSWER_MASS: f32 = 0.1;

/// The share of the gap between the baselines that a patch restores:
/// `(patched - base) / (source - base)`. 0 is nothing, 1 is all; below 0 and above 1 are legal and
/// not clamped. `None` where the baselines almost agree or a value is missing.
pub fn recovery(patched: Option<f32>, base: Option<f32>, source: Option<f32>) -> Option<f32> {
    let (base, source) = base.zip(source)?;
    let contrast = source - base;
    // Zero has no sign.
    let value = (patched? - base) / contrast + 0.0;
    let is_defined = contrast.is_finite() && contrast.abs() >= MIN_CONTRAST_FOR_RECOVERY;
    (is_defined && value.is_finite()).then_some(value)
}

/// The smallest and largest of the values present; `None` if there are none.
pub fn range(values: impl IntoIterator<Item = Option<f32>>) -> Option<(f32, f32)> {
    values.into_iter().flatten().fold(None, |range, v| match range {
        None => Some((v, v)),
        Some((lo, hi)) => Some((lo.min(v), hi.max(v))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovery_is_unclamped_and_undefined_without_contrast() {
        let cases = [
            (Some(1.0), Some(1.0), Some(3.0), Some(0.0)),
            (Some(3.0), Some(1.0), Some(3.0), Some(1.0)),
            (Some(5.0), Some(1.0), Some(3.0), Some(2.0)),
            (Some(0.0), Some(1.0), Some(3.0), Some(-0.5)),
            (Some(0.0), Some(1.0), Some(1.005), None),
            (None, Some(1.0), Some(3.0), None),
            (Some(1.0), None, Some(3.0), None),
            (Some(1.0), Some(1.0), None, None),
            (Some(1.0), Some(1.0), Some(f32::INFINITY), None),
        ];
        for (patched, base, source, expected) in cases {
            assert_eq!(
                recovery(patched, base, source),
                expected,
                "{patched:?} {base:?} {source:?}"
            );
        }
    }

    #[test]
    fn range_skips_missing_values() {
        assert_eq!(range([None, Some(2.0), Some(-1.0)]), Some((-1.0, 2.0)));
        assert_eq!(range([None, None]), None);
    }
}
