//! Readings of a sweep that is not whole yet, written down so that an interruption costs little.

use serde::{Deserialize, Serialize};

use crate::sweep::{Finished, Reading, VocabularyReading};

/// A reading as it is written down. Numbers are their bits, since JSON has neither NaN nor infinity,
/// and what goes on must go on from the very same numbers.
#[derive(Serialize, Deserialize)]
struct Kept {
    trial: usize,
    logit_diff: u32,
    vocabulary: Option<KeptVocabulary>,
}

#[derive(Serialize, Deserialize)]
struct KeptVocabulary {
    p: [u32; 2],
    ranks: [Option<u32>; 2],
    divergences: [Option<u32>; 2],
    top: Vec<(u32, u32)>,
}

/// Readings of trials as one line of JSON.
pub fn to_json(readings: &[(usize, Reading)]) -> String {
    let bits = |number: Option<f32>| number.map(f32::to_bits);
    let kept = readings.iter().map(|(trial, reading)| Kept {
        trial: *trial,
        logit_diff: reading.logit_diff.to_bits(),
        vocabulary: reading.vocabulary.as_ref().map(|v| KeptVocabulary {
            p: [v.p_true.to_bits(), v.p_false.to_bits()],
            ranks: [bits(v.rank_true), bits(v.rank_false)],
            divergences: [bits(v.kl_base), bits(v.kl_source)],
            top: v.top.iter().map(|&(token, p)| (token, p.to_bits())).collect(),
        }),
    });
    serde_json::to_string(&kept.collect::<Vec<_>>()).expect("numbers and lists are JSON")
}

/// Reads what [`to_json`] wrote; `None` if it is something else. Trials from `n_trials` on, which
/// the experiment does not have, are left out.
pub fn from_json(text: &str, n_trials: usize) -> Option<Finished> {
    let number = |bits: Option<u32>| bits.map(f32::from_bits);
    let kept: Vec<Kept> = serde_json::from_str(text).ok()?;
    let readings = kept.into_iter().filter(|kept| kept.trial < n_trials).map(|kept| {
        let vocabulary = kept.vocabulary.map(|v| VocabularyReading {
            p_true: f32::from_bits(v.p[0]),
            p_false: f32::from_bits(v.p[1]),
            rank_true: number(v.ranks[0]),
            rank_false: number(v.ranks[1]),
            kl_base: number(v.divergences[0]),
            kl_source: number(v.divergences[1]),
            top: v.top.into_iter().map(|(token, p)| (token, f32::from_bits(p))).collect(),
        });
        (kept.trial, Reading { logit_diff: f32::from_bits(kept.logit_diff), vocabulary })
    });
    Some(readings.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_come_back_to_the_bit() {
        let vocabulary = VocabularyReading {
            p_true: 0.1,
            p_false: f32::MIN_POSITIVE,
            rank_true: None,
            rank_false: Some(3.5),
            kl_base: Some(f32::INFINITY),
            kl_source: None,
            top: vec![(7, 0.25), (9, 0.125)],
        };
        let readings = [
            (0, Reading { logit_diff: -0.0, vocabulary: Some(vocabulary) }),
            (5, Reading { logit_diff: 1.0 / 3.0, vocabulary: None }),
        ];
        let text = to_json(&readings);
        assert!(!text.contains('\n'));
        let found = from_json(&text, 6).unwrap();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), readings);
        assert_eq!(from_json(&text, 5).unwrap().len(), 1);
        let nan = [(0, Reading { logit_diff: f32::NAN, vocabulary: None })];
        assert!(from_json(&to_json(&nan), 1).unwrap()[&0].logit_diff.is_nan());
        for damaged in ["", "[", "{}", "[{\"trial\":1}]", &text[..text.len() - 2]] {
            assert_eq!(from_json(damaged, 6), None, "{damaged}");
        }
    }
}
