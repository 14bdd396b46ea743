//! The tokens of a pair's prompts with their roles and what corresponds, as the form shows them.

use std::ops::Range;

use shared::document::{Prompt, Token};
use shared::figure::text;
use shared::specification::correspondence::Correspondence;
use shared::specification::roles::Role;
use shared::wire::job::PairPreview;

/// The tokens of one prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Strip {
    /// Which.
    pub prompt: Prompt,
    /// Its tokens, padding included.
    pub tokens: Vec<Shown>,
    /// How many of them are padding.
    pub n_padding: usize,
}

/// A token.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// Its text, as labels have it.
    pub text: String,
    /// What it is in its prompt; `None` where the server does not say.
    pub role: Option<Role>,
    /// Whether it is swept; of the source, whether it may be written somewhere.
    pub is_swept: bool,
    /// Whether the other prompt has another token in its place, or none.
    pub differs: bool,
    /// The bytes of the sentence that it stands for, marks not counted.
    pub bytes: Option<[usize; 2]>,
}

/// Tokens one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Of which prompt.
    pub prompt: Prompt,
    /// Where the selection began.
    pub anchor: usize,
    /// Where it was led to.
    pub at: usize,
}

impl Run {
    /// Its tokens.
    pub fn range(self) -> Range<usize> {
        self.anchor.min(self.at)..self.anchor.max(self.at) + 1
    }

    /// Whether a token is one of them.
    pub fn has(self, prompt: Prompt, at: usize) -> bool {
        self.prompt == prompt && self.range().contains(&at)
    }
}

impl Strip {
    /// Those of the source and the base.
    pub fn both(pair: &PairPreview) -> [Self; 2] {
        [Prompt::Source, Prompt::Base].map(|prompt| Self::of(pair, prompt))
    }

    fn of(pair: &PairPreview, prompt: Prompt) -> Self {
        let (own, other, bytes, n_padding) = match prompt {
            Prompt::Source => {
                (&pair.source_tokens, &pair.base_tokens, &pair.source_bytes, pair.source_padding)
            }
            Prompt::Base => {
                (&pair.base_tokens, &pair.source_tokens, &pair.base_bytes, pair.base_padding)
            }
        };
        let roles = pair.roles.as_ref().map(|roles| roles.of(prompt)).unwrap_or_default();
        let columns = || (pair.sentence_start..).zip(&pair.source_positions);
        // The other prompt's token in a token's place, and whether a swept column holds it.
        let place = |at: usize| match prompt {
            Prompt::Base => (pair.sentence_start <= at)
                .then(|| pair.source_positions.get(at - pair.sentence_start).copied().flatten()),
            Prompt::Source => {
                columns().find(|(_, source)| **source == Some(at)).map(|(base, _)| Some(base))
            }
        };
        let first = columns().filter_map(|(_, source)| *source).min();
        let shown = |(at, token): (usize, &Token)| {
            let place = place(at);
            let is_swept = match prompt {
                Prompt::Base => place.is_some(),
                Prompt::Source => first.is_some_and(|first| first <= at),
            };
            let partner = place.flatten().and_then(|at| other.get(at));
            Shown {
                text: text::token(&token.text),
                role: roles.get(at).copied(),
                is_swept,
                differs: is_swept && partner.map(|partner| partner.id) != Some(token.id),
                bytes: bytes.get(at).copied().flatten(),
            }
        };
        Self { prompt, tokens: own.iter().enumerate().map(shown).collect(), n_padding }
    }

    /// Neighbours of one role, each a range of tokens.
    pub fn roles(&self) -> Vec<(Option<Role>, Range<usize>)> {
        let mut runs: Vec<(Option<Role>, Range<usize>)> = Vec::new();
        for (at, token) in self.tokens.iter().enumerate() {
            match runs.last_mut() {
                Some((role, range)) if *role == token.role => range.end = at + 1,
                _ => runs.push((token.role, at..at + 1)),
            }
        }
        runs
    }

    /// The bytes of the sentence that the tokens stand for together; `None` outside of it.
    pub fn bytes(&self, tokens: Range<usize>) -> Option<Range<usize>> {
        let mut all = self.tokens.get(tokens)?.iter().filter_map(|token| token.bytes);
        let [start, end] = all.next()?;
        Some(start..all.next_back().map_or(end, |[_, end]| end))
    }

    /// The tokens' texts together.
    pub fn text(&self, tokens: Range<usize>) -> String {
        self.tokens.get(tokens).unwrap_or_default().iter().map(|token| &*token.text).collect()
    }
}

/// The numbers of source tokens and of base tokens: those that correspond have the same, which
/// counts from the base's beginning.
pub fn numbers(correspondence: &Correspondence, strips: &[Strip; 2]) -> [Vec<Option<usize>>; 2] {
    let mut numbers = strips.each_ref().map(|strip| vec![None; strip.tokens.len()]);
    for (number, &(base, source)) in (1..).zip(correspondence.pairs()) {
        let places = [source, base];
        for ((numbers, strip), at) in numbers.iter_mut().zip(strips).zip(places) {
            if let Some(place) = numbers.get_mut(at + strip.n_padding) {
                *place = Some(number);
            }
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A base that is padded by one token, and a source with a token more.
    fn pair() -> PairPreview {
        let tokens = |ids: &[u32]| -> Vec<_> {
            ids.iter().map(|id| json!({ "id": id, "text": format!(" t{id}") })).collect()
        };
        let answer = json!({ "word": "", "kept": [], "dropped": [] });
        let pair = json!({
            "experiment": "", "known": false, "entity": "", "source_prompt": "", "base_prompt": "",
            "source_tokens": tokens(&[1, 2, 3, 4]), "base_tokens": tokens(&[0, 1, 5, 4]),
            "source_padding": 0, "base_padding": 1, "sentence_start": 2,
            "source_positions": [1, 3],
            "roles": {
                "source": ["before", "#x", "#x", "last"],
                "base": ["before", "before", "last differing", "last"],
            },
            "source_bytes": [null, [0, 3], [3, 6], [6, 7]],
            "first_difference": 1, "answers": { "true": answer, "false": answer },
            "baselines": null, "warnings": [], "n_layers": 1, "n_cells": 1, "estimated_secs": 0,
        });
        serde_json::from_value(pair).unwrap()
    }

    #[test]
    fn tokens_say_what_they_are_and_what_they_meet() {
        let strips = Strip::both(&pair());
        let is = |strip: &Strip, of: fn(&Shown) -> bool| -> String {
            strip.tokens.iter().map(|token| if of(token) { 'x' } else { '-' }).collect()
        };
        let [source, base] = &strips;
        assert_eq!((&*is(source, |t| t.is_swept), &*is(base, |t| t.is_swept)), ("-xxx", "--xx"));
        // The source's third token is in nobody's place.
        assert_eq!((&*is(source, |t| t.differs), &*is(base, |t| t.differs)), ("-xx-", "--x-"));
        let runs: Vec<_> = source.roles().into_iter().map(|(_, range)| range).collect();
        assert_eq!(runs, [0..1, 1..3, 3..4]);
        assert_eq!(source.bytes(1..3), Some(0..6));
        assert_eq!((source.bytes(0..1), base.bytes(2..3), source.bytes(2..9)), (None, None, None));
        assert_eq!(source.text(1..3), "·t2·t3");
        let correspondence = pair().correspondence();
        assert_eq!(correspondence.to_string(), "1:1,2:3", "padding is not counted");
        let [of_source, of_base] = numbers(&correspondence, &strips);
        assert_eq!(of_source, [None, Some(1), None, Some(2)]);
        assert_eq!(of_base, [None, None, Some(1), Some(2)]);
    }

    #[test]
    fn a_run_has_its_ends_in_either_order() {
        let run = Run { prompt: Prompt::Base, anchor: 5, at: 3 };
        assert_eq!(run.range(), 3..6);
        assert!(
            run.has(Prompt::Base, 5) && !run.has(Prompt::Source, 5) && !run.has(Prompt::Base, 6)
        );
    }
}
