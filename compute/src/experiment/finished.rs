//! What is known of a sweep that is not whole yet, written down so that an interruption costs little.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use shared::document::Controls;

use crate::sweep::{Finished, Reading, VocabularyReading};

/// What is known of a pair whose sweep is not whole yet.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Trials with their readings.
    #[serde(serialize_with = "write", deserialize_with = "read")]
    pub trials: Finished,
    /// What the control cells beside them showed; `None` where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controls: Option<Controls>,
}

impl From<&[(usize, Reading)]> for Part {
    fn from(readings: &[(usize, Reading)]) -> Self {
        Self { trials: readings.iter().cloned().collect(), controls: None }
    }
}

impl Part {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds what else is known.
    pub fn add(&mut self, other: Self) {
        self.trials.extend(other.trials);
        if let Some(new) = other.controls {
            self.controls.get_or_insert_default().add(new);
        }
    }

    /// The same without trials from `n_trials` on, which the experiment does not have.
    pub fn within(mut self, n_trials: usize) -> Self {
        self.trials.split_off(&n_trials);
        self
    }

    /// One line of JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers and lists are JSON")
    }

    /// Reads what [`Self::to_json`] wrote, of an experiment of `n_trials` trials; `None` if it is
    /// something else.
    pub fn from_json(text: &str, n_trials: usize) -> Option<Self> {
        serde_json::from_str(text).ok().map(|part: Self| part.within(n_trials))
    }
}

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

fn write<S: Serializer>(trials: &Finished, to: S) -> Result<S::Ok, S::Error> {
    let bits = |number: Option<f32>| number.map(f32::to_bits);
    to.collect_seq(trials.iter().map(|(&trial, reading)| Kept {
        trial,
        logit_diff: reading.logit_diff.to_bits(),
        vocabulary: reading.vocabulary.as_ref().map(|v| KeptVocabulary {
            p: [v.p_true.to_bits(), v.p_false.to_bits()],
            ranks: [bits(v.rank_true), bits(v.rank_false)],
            divergences: [bits(v.kl_base), bits(v.kl_source)],
            top: v.top.iter().map(|&(token, p)| (token, p.to_bits())).collect(),
        }),
    }))
}

fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Finished, D::Error> {
    let number = |bits: Option<u32>| bits.map(f32::from_bits);
    let readings = Vec::<Kept>::deserialize(from)?.into_iter().map(|kept| {
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
    Ok(readings.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_comes_back_to_the_bit() {
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
        let controls = Controls { n_waves: 2, n_discarded: 1, self_patch: 0.1, end_patch: 1e-7 };
        for controls in [None, Some(controls)] {
            let part = Part { controls, ..Part::from(&readings[..]) };
            let text = part.to_json();
            assert!(!text.contains('\n'));
            assert_eq!(Part::from_json(&text, 6), Some(part));
            assert_eq!(Part::from_json(&text, 5).unwrap().trials.len(), 1);
            for damaged in ["", "[", "{}", "{\"trials\":[{\"trial\":1}]}", &text[..text.len() - 2]]
            {
                assert_eq!(Part::from_json(damaged, 6), None, "{damaged}");
            }
        }
        let nan = [(0, Reading { logit_diff: f32::NAN, vocabulary: None })];
        let found = Part::from_json(&Part::from(&nan[..]).to_json(), 1).unwrap();
        assert!(found.trials[&0].logit_diff.is_nan());
    }

    #[test]
    fn parts_make_up_what_is_known() {
        let reading = Reading { logit_diff: 1.0, vocabulary: None };
        let mut all = Part::from(&[(3, reading.clone())][..]);
        assert!(!all.is_empty() && Part::default().is_empty());
        all.add(Part::from(&[(1, reading)][..]));
        assert_eq!((all.trials.len(), all.controls), (2, None));
        let controls = |n_discarded, self_patch, end_patch| Part {
            controls: Some(Controls { n_waves: 1, n_discarded, self_patch, end_patch }),
            ..Part::default()
        };
        all.add(controls(0, 0.5, 0.25));
        all.add(controls(1, 0.125, 1.0));
        let expected = Controls { n_waves: 2, n_discarded: 1, self_patch: 0.5, end_patch: 1.0 };
        assert_eq!(all.controls, Some(expected));
    }
}
