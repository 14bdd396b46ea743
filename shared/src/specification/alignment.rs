//! Lays two token sequences against each other, and decides which positions are swept.

use std::collections::BTreeSet;
use std::ops::Range;

use similar::{Algorithm, DiffOp, capture_diff_slices};

use super::correspondence::Correspondence;
use super::roles::{Role, differing};
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
    /// The first swept position of the source run, likewise.
    pub source_start: usize,
    /// For each swept position of the base run the position of the source run that corresponds;
    /// `None` where none does. No position of the source corresponds to two.
    pub source_positions: Vec<Option<usize>>,
    /// The first base position at which a patch can change anything: all before it see the same
    /// tokens in both runs. At most `base.len()`.
    pub first_difference: usize,
    /// How many tokens of padding stand before the source prompt.
    pub source_padding: usize,
    /// How many tokens of padding stand before the base prompt.
    pub base_padding: usize,
}

/// One prompt to align.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// Its tokens, at least one.
    pub ids: &'a [u32],
    /// The sentence's first token.
    pub start: usize,
    /// What its tokens are, for [`Align::Role`].
    pub roles: &'a [Role],
}

impl Alignment {
    /// Aligns two prompts. `pad` is the token to pad with, `by_hand` what corresponds under
    /// [`Align::Hand`].
    ///
    /// Where prompts are aligned at their right ends, swept are the positions from the earlier of the
    /// two sentences' first tokens, counted from the right, so that no part of either sentence is
    /// left out; where it lies before the beginning of an unpadded prompt, from that beginning. In
    /// the other alignments each sentence is swept from its own first token.
    pub fn new(source: Side, base: Side, align: Align, pad: u32, by_hand: &Correspondence) -> Self {
        let n_longer = source.ids.len().max(base.ids.len());
        let from_end = (source.ids.len() - source.start).max(base.ids.len() - base.start);
        let pairs = match align {
            Align::Pad => {
                let padded = |tokens: &[u32]| {
                    let padding = std::iter::repeat_n(pad, n_longer - tokens.len());
                    padding.chain(tokens.iter().copied()).collect::<Vec<_>>()
                };
                let start = n_longer - from_end;
                return Self {
                    source_padding: n_longer - source.ids.len(),
                    base_padding: n_longer - base.ids.len(),
                    ..Self::of(padded(source.ids), padded(base.ids), [start; 2], Some)
                };
            }
            Align::Right => {
                let n_swept = from_end.min(base.ids.len()).min(source.ids.len());
                let starts = [source, base].map(|side| side.ids.len() - n_swept);
                let (n_source, n_base) = (source.ids.len(), base.ids.len());
                let at = |position: usize| (position + n_source).checked_sub(n_base);
                return Self::of(source.ids.to_vec(), base.ids.to_vec(), starts, at);
            }
            Align::Diff => by_difference(source.ids, base.ids),
            Align::Role => by_role(source.roles, base.roles),
            Align::Hand => by_hand.pairs().to_vec(),
        };
        let starts = [source.start, base.start];
        let mut positions = vec![None; base.ids.len()];
        for (of_base, of_source) in pairs {
            if let Some(position) = positions.get_mut(of_base) {
                *position = Some(of_source);
            }
        }
        let at = |position: usize| positions.get(position).copied().flatten();
        Self::of(source.ids.to_vec(), base.ids.to_vec(), starts, at)
    }

    /// Runs without padding. `starts` are the first swept positions of source and base, `at` gives
    /// the source's position for one of the base.
    fn of(
        source: Vec<u32>,
        base: Vec<u32>,
        [source_start, start]: [usize; 2],
        at: impl Fn(usize) -> Option<usize>,
    ) -> Self {
        let n_same = source.iter().zip(&base).take_while(|(s, b)| s == b).count();
        // A token that is written over another one than itself can change something.
        let moved = (start..n_same).find(|&position| at(position) != Some(position));
        Self {
            source_positions: (start..base.len()).map(&at).collect(),
            start,
            source_start,
            first_difference: moved.unwrap_or(n_same),
            source_padding: 0,
            base_padding: 0,
            source,
            base,
        }
    }

    /// How many tokens the source prompt and the base prompt have, without padding.
    pub fn lengths(&self) -> (usize, usize) {
        (self.source.len() - self.source_padding, self.base.len() - self.base_padding)
    }

    /// The source position that corresponds to `position` of the base, if that is swept.
    pub fn source_position(&self, position: usize) -> Option<usize> {
        *self.source_positions.get(position.checked_sub(self.start)?)?
    }

    /// The base position that corresponds to `position` of the source, if that is swept.
    pub fn base_position(&self, position: usize) -> Option<usize> {
        let column = self.source_positions.iter().position(|at| *at == Some(position))?;
        Some(self.start + column)
    }

    /// The swept positions of the source run.
    pub fn swept_in_source(&self) -> Range<usize> {
        self.source_start..self.source.len()
    }

    /// The swept positions of the base run.
    pub fn swept_in_base(&self) -> Range<usize> {
        self.start..self.base.len()
    }
}

/// The tokens that both have in a row, and of what one has in place of the other, as many from the
/// right as both have (Myers 1986). Of very long stretches that differ, nothing in between is looked
/// for, since that takes time with the square of their length.
fn by_difference(source: &[u32], base: &[u32]) -> Vec<(usize, usize)> {
    const MAX_DIFFERING: usize = 4_000;
    let differing = [differing(source, base), differing(base, source)];
    if differing.iter().any(|tokens| tokens.len() > MAX_DIFFERING) {
        let [source_middle, base_middle] = differing;
        let before = (0..base_middle.start).zip(0..source_middle.start);
        let middle = base_middle.clone().rev().zip(source_middle.clone().rev());
        let after = (base_middle.end..base.len()).zip(source_middle.end..source.len());
        return before.chain(middle).chain(after).collect();
    }
    let pairs = |op: &DiffOp| {
        let (base, source) = (op.old_range(), op.new_range());
        base.rev().zip(source.rev()).collect::<Vec<_>>()
    };
    capture_diff_slices(Algorithm::Myers, base, source).iter().flat_map(pairs).collect()
}

/// The tokens of each role, from the right.
fn by_role(source: &[Role], base: &[Role]) -> Vec<(usize, usize)> {
    let of = |roles: &[Role], role: Role| {
        let places = roles.iter().enumerate().rev().filter(move |(_, found)| **found == role);
        places.map(|(at, _)| at).collect::<Vec<_>>()
    };
    let all: BTreeSet<_> = base.iter().copied().collect();
    all.into_iter().flat_map(|role| of(base, role).into_iter().zip(of(source, role))).collect()
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
                (&[1, 2, 3, 4], &[1, 2, 4], 1, 1, 0),
            ),
            (
                (&[1, 2, 4], &[1, 2, 3, 3, 4], (0, 0), Align::Right),
                (&[1, 2, 4], &[1, 2, 3, 3, 4], 2, 2, 0),
            ),
            ((&[1, 2], &[1, 2], (0, 0), Align::Pad), (&[1, 2], &[1, 2], 0, 2, 0)),
        ];
        for ((source, base, starts, align), expected) in cases {
            let side = |ids, start| Side { ids, start, roles: &[] };
            let (source_side, base_side) = (side(source, starts.0), side(base, starts.1));
            let a = Alignment::new(source_side, base_side, align, 0, &Correspondence::default());
            let got = (
                &*a.source,
                &*a.base,
                a.start,
                a.first_difference,
                a.source_padding.max(a.base_padding),
            );
            assert_eq!(got, expected, "{source:?} {base:?} {align}");
            assert_eq!(a.source_position(a.base.len() - 1), Some(a.source.len() - 1));
            assert_eq!(a.source_start + a.base.len() - a.start, a.source.len());
        }
    }

    #[test]
    fn positions_correspond_as_asked() {
        use Role::{Before as B, Cue as C, Entity as E, Last as L, LastDiffering as D};
        let source = Side { ids: &[1, 5, 6, 7, 3, 4], start: 1, roles: &[B, E, E, D, C, L] };
        let base = Side { ids: &[1, 8, 9, 3, 4], start: 1, roles: &[B, E, C, C, L] };
        let cases = [
            (Align::Pad, "", "1-5", "1,2,3,4,5"),
            (Align::Right, "", "0-4", "1,2,3,4,5"),
            // Of the three that differ in the source and the two in the base, the last two.
            (Align::Diff, "", "1-4", "2,3,4,5"),
            // The base's two cue tokens find one; its entity is the source's last entity token.
            (Align::Role, "", "1-4", "2,-,4,5"),
            (Align::Hand, "4:5, 2-3:1-2", "1-4", "-,1,2,5"),
        ];
        for (align, by_hand, swept, expected) in cases {
            let a = Alignment::new(source, base, align, 0, &by_hand.parse().unwrap());
            let positions = a.source_positions.iter().map(|at| match at {
                Some(at) => at.to_string(),
                None => "-".into(),
            });
            assert_eq!(positions.collect::<Vec<_>>().join(","), expected, "{align}");
            assert_eq!(a.source_position(a.base.len() - 1), Some(a.source.len() - 1));
            let base = a.swept_in_base();
            let swept_in_base = format!("{}-{}", base.start, base.end - 1);
            let expected = if align == Align::Right { "0-4" } else { swept };
            assert_eq!(swept_in_base, expected, "{align}");
            for position in a.swept_in_base() {
                if let Some(at) = a.source_position(position) {
                    assert_eq!(a.base_position(at), Some(position));
                }
            }
            assert_eq!(a.source_position(a.base.len()), None);
        }
    }

    #[test]
    fn prompts_that_differ_everywhere_are_aligned_in_time() {
        let source: Vec<u32> = (0..100_000).collect();
        let base: Vec<u32> = [0].into_iter().chain((0..99_990).rev()).collect();
        let side = |ids| Side { ids, start: 1, roles: &[] };
        let by_hand = Correspondence::default();
        let a = Alignment::new(side(&source), side(&base), Align::Diff, 0, &by_hand);
        assert_eq!(a.source_position(base.len() - 1), Some(source.len() - 1));
        assert_eq!(a.source_position(1), Some(10));
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
