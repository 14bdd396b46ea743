//! Lays two token sequences against each other at their right ends, and decides which positions
//! are swept.

use crate::specification::vocabulary::Align;

/// Two runs, ready for the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alignment {
    /// The source run's tokens, padding included.
    pub source: Vec<u32>,
    /// The base run's tokens, padding included.
    pub base: Vec<u32>,
    /// The first swept position of the base run; the last is the run's end.
    pub start: usize,
    /// The first base position at which a patch can change anything: all before it see the same
    /// tokens in both runs. At most `base.len()`.
    pub first_difference: usize,
    /// How many tokens of padding stand before the source prompt.
    pub source_padding: usize,
    /// How many tokens of padding stand before the base prompt.
    pub base_padding: usize,
}

impl Alignment {
    /// Aligns a source and a base prompt. `source_start` and `base_start` are the sentences' first
    /// tokens, `pad` the token to pad with.
    ///
    /// Swept are the positions from the earlier of the two sentences' first tokens, counted from
    /// the right, so that no part of either sentence is left out; where it lies before the
    /// beginning of an unpadded prompt, from that beginning.
    pub fn new(
        source: &[u32],
        base: &[u32],
        (source_start, base_start): (usize, usize),
        align: Align,
        pad: u32,
    ) -> Self {
        let n_longer = source.len().max(base.len());
        let from_end = (source.len() - source_start).max(base.len() - base_start);
        match align {
            Align::Pad => {
                let padded = |tokens: &[u32]| {
                    let padding = std::iter::repeat_n(pad, n_longer - tokens.len());
                    padding.chain(tokens.iter().copied()).collect::<Vec<_>>()
                };
                let (padded_source, padded_base) = (padded(source), padded(base));
                let pairs = padded_source.iter().zip(&padded_base);
                Self {
                    first_difference: pairs.take_while(|(s, b)| s == b).count(),
                    start: n_longer - from_end,
                    source_padding: n_longer - source.len(),
                    base_padding: n_longer - base.len(),
                    source: padded_source,
                    base: padded_base,
                }
            }
            Align::Right => Self {
                source: source.to_vec(),
                base: base.to_vec(),
                start: base.len() - from_end.min(base.len()).min(source.len()),
                // With unequal lengths the same token stands at another distance from the
                // beginning, so no column is known beforehand.
                first_difference: if source.len() == base.len() {
                    source.iter().zip(base).take_while(|(s, b)| s == b).count()
                } else {
                    0
                },
                source_padding: 0,
                base_padding: 0,
            },
        }
    }

    /// How many tokens the source prompt and the base prompt have, without padding.
    pub fn lengths(&self) -> (usize, usize) {
        (self.source.len() - self.source_padding, self.base.len() - self.base_padding)
    }

    /// The source position that goes into base position `position`, which must be one of those
    /// swept.
    pub fn source_position(&self, position: usize) -> usize {
        position + self.source.len() - self.base.len()
    }
}

/// The sentence's first token as the notebook finds it: the one after the last `Sentence` `:`.
/// `texts` are the prompt's tokens.
pub fn notebook_sentence_start<T: AsRef<str>>(texts: &[T]) -> Option<usize> {
    let is = |i: usize, word: &str| texts[i].as_ref().trim() == word;
    let colon = (1..texts.len()).rev().find(|&i| is(i - 1, "Sentence") && is(i, ":"))?;
    (colon + 1 < texts.len()).then_some(colon + 1)
}

/// The variants of an answer word that may count: upper case, capitalised, lower case and as it
/// was written, each with and without a leading space.
pub fn answer_variants(word: &str) -> Vec<String> {
    let capitalised = |word: &str| {
        let mut chars = word.chars();
        let first = chars.next().into_iter().flat_map(char::to_uppercase);
        first.chain(chars.flat_map(char::to_lowercase)).collect::<String>()
    };
    let forms = [word.to_uppercase(), capitalised(word), word.to_lowercase(), word.to_string()];
    let mut variants = Vec::new();
    for variant in forms.iter().map(|form| format!(" {form}")).chain(forms.iter().cloned()) {
        if !variants.contains(&variant) {
            variants.push(variant);
        }
    }
    variants
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_meet_at_their_right_ends() {
        // (source, base, starts, align) -> (source, base, start, first difference, padding)
        type Case<'a> = (&'a [u32], &'a [u32], (usize, usize), Align);
        type Expected<'a> = (&'a [u32], &'a [u32], usize, usize, usize);
        let cases: [(Case, Expected); 7] = [
            (
                (&[1, 2, 3, 4], &[1, 2, 5, 4], (1, 1), Align::Pad),
                (&[1, 2, 3, 4], &[1, 2, 5, 4], 1, 2, 0),
            ),
            (
                (&[1, 2, 3, 4], &[1, 2, 5, 4], (1, 1), Align::Right),
                (&[1, 2, 3, 4], &[1, 2, 5, 4], 1, 2, 0),
            ),
            (
                (&[1, 2, 3, 4], &[1, 2, 4], (2, 2), Align::Pad),
                (&[1, 2, 3, 4], &[0, 1, 2, 4], 2, 0, 1),
            ),
            (
                (&[1, 2, 4], &[1, 2, 3, 3, 4], (2, 2), Align::Pad),
                (&[0, 0, 1, 2, 4], &[1, 2, 3, 3, 4], 2, 0, 2),
            ),
            (
                (&[1, 2, 3, 4], &[1, 2, 4], (2, 2), Align::Right),
                (&[1, 2, 3, 4], &[1, 2, 4], 1, 0, 0),
            ),
            (
                (&[1, 2, 4], &[1, 2, 3, 3, 4], (0, 0), Align::Right),
                (&[1, 2, 4], &[1, 2, 3, 3, 4], 2, 0, 0),
            ),
            ((&[1, 2], &[1, 2], (0, 0), Align::Pad), (&[1, 2], &[1, 2], 0, 2, 0)),
        ];
        for ((source, base, starts, align), expected) in cases {
            let a = Alignment::new(source, base, starts, align, 0);
            let got = (
                &*a.source,
                &*a.base,
                a.start,
                a.first_difference,
                a.source_padding.max(a.base_padding),
            );
            assert_eq!(got, expected, "{source:?} {base:?} {align}");
            assert_eq!(a.source_position(a.base.len() - 1), a.source.len() - 1);
        }
    }

    #[test]
    fn the_notebooks_sentence_start() {
        let cases: [(&[&str], Option<usize>); 5] = [
            (&["In", " a", " Sentence", ":", " Ada", " ruled"], Some(4)),
            (&["Sentence", ":", " x", "\n", "Sentence", ":", " y"], Some(6)),
            (&["sentence", ":", " x"], None),
            (&["Sentence", ":"], None),
            (&[], None),
        ];
        for (texts, expected) in cases {
            assert_eq!(notebook_sentence_start(texts), expected, "{texts:?}");
        }
    }

    #[test]
    fn answer_variants_are_the_notebooks_six() {
        let six = [" TRUE", " True", " true", "TRUE", "True", "true"];
        for word in ["TRUE", "true", "True"] {
            assert_eq!(answer_variants(word), six);
        }
        assert_eq!(answer_variants("McCoy")[3], " McCoy");
        assert_eq!(answer_variants("42"), [" 42", "42"]);
        assert_eq!(answer_variants("école")[1], " École");
    }
}
