//! What tokens are in their prompts, so that columns of pairs of different length can be pooled.
//!
//! Every token has one role, made of what the template, the pair and the user's marks say.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use arrayvec::ArrayString;
use serde::{Deserialize, Serialize};

use crate::specification::vocabulary::as_text;

/// The longest name of a mark, in bytes.
pub const MAX_NAME: usize = 24;

/// What a token is in its prompt. Of several that would fit, a token has the first, in the order of
/// this list with the last position before all others and the user's marks next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Role {
    /// Before the first token that differs between the two prompts, or before the sentence: what a
    /// patch writes there is what was there.
    Before,
    /// Names what the sentence is about.
    Entity,
    /// The first token that differs between the two prompts, where several do.
    FirstDiffering,
    /// Between the first and the last token that differ.
    Between,
    /// The last token that differs, or the only one.
    LastDiffering,
    /// What follows in the sentence, up to its last token.
    Rest,
    /// The sentence's last token.
    SentenceEnd,
    /// What follows the sentence, up to the prompt's last token.
    Cue,
    /// The prompt's last token, at which the answer is read.
    Last,
    /// What the user marked by this name.
    Marked(Name),
}

/// The name of a mark: up to [`MAX_NAME`] letters, digits, `_` and `-`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(ArrayString<MAX_NAME>);

/// A text that is no name of a mark.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no name of a mark: expected up to {MAX_NAME} letters, digits, `_` and `-`")]
pub struct BadName(String);

/// A text that is no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no role: expected {names}, or `#` and the name of a mark",
    names = Role::ALL.map(Role::words).join(", "))]
pub struct BadRole(String);

impl Role {
    /// All that need no mark, in the order in which their tokens usually stand.
    pub const ALL: [Self; 9] = [
        Self::Before,
        Self::Entity,
        Self::FirstDiffering,
        Self::Between,
        Self::LastDiffering,
        Self::Rest,
        Self::SentenceEnd,
        Self::Cue,
        Self::Last,
    ];

    /// The role in words, which documents and pages have.
    pub fn words(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::Entity => "entity",
            Self::FirstDiffering => "first differing",
            Self::Between => "between",
            Self::LastDiffering => "last differing",
            Self::Rest => "rest",
            Self::SentenceEnd => "sentence end",
            Self::Cue => "cue",
            Self::Last => "last",
            Self::Marked(_) => "marked",
        }
    }

    /// What it is, in a sentence.
    pub fn meaning(self) -> String {
        match self {
            Self::Before => "before the sentence or the first token that differs".into(),
            Self::Entity => "names the entity".into(),
            Self::FirstDiffering => "the first token that differs".into(),
            Self::Between => "between the first and the last token that differ".into(),
            Self::LastDiffering => "the last token that differs, or the only one".into(),
            Self::Rest => "what follows in the sentence, up to its last token".into(),
            Self::SentenceEnd => "the sentence's last token".into(),
            Self::Cue => "what follows the sentence, up to the last position".into(),
            Self::Last => "the last position, where the answer is read".into(),
            Self::Marked(name) => format!("marked as {name}"),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Marked(name) => write!(f, "#{name}"),
            role => f.write_str(role.words()),
        }
    }
}

impl FromStr for Role {
    type Err = BadRole;

    fn from_str(text: &str) -> Result<Self, BadRole> {
        let bad = || BadRole(text.chars().take(40).collect());
        match text.strip_prefix('#') {
            Some(name) => name.parse().map(Self::Marked).map_err(|_| bad()),
            None => Self::ALL.into_iter().find(|role| role.words() == text).ok_or_else(bad),
        }
    }
}

as_text!(Role);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let fits = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
        let name = ArrayString::from(text).ok().filter(|_| !text.is_empty());
        let name = name.filter(|name| name.chars().all(fits));
        name.map(Self).ok_or_else(|| BadName(text.chars().take(40).collect()))
    }
}

as_text!(Name);

/// A prompt's tokens without padding, and what is known of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PromptTokens<'a> {
    /// The tokens.
    pub ids: &'a [u32],
    /// Those of the sentence, where the template tells.
    pub sentence: Option<Range<usize>>,
    /// Those that name the entity, in ascending order.
    pub entity: Vec<usize>,
    /// Those that the user marked. Of two marks on one token, the first counts.
    pub marked: Vec<(Name, Range<usize>)>,
}

/// The role of each token of `prompt`, whose counterpart is `other`. What differs is what lies
/// between the beginning and the end that both have in common.
pub fn roles(prompt: &PromptTokens, other: &PromptTokens) -> Vec<Role> {
    let differing = differing(prompt.ids, other.ids);
    let sentence = prompt.sentence.clone().unwrap_or(0..prompt.ids.len());
    let last = prompt.ids.len().saturating_sub(1);
    let role = |at: usize| {
        let mark = prompt.marked.iter().find(|(_, tokens)| tokens.contains(&at));
        match mark {
            _ if at == last => Role::Last,
            Some(&(name, _)) => Role::Marked(name),
            // At the first of several that differ, `end` lies further on.
            None if at + 1 == differing.end && !differing.is_empty() => Role::LastDiffering,
            None if at == differing.start && !differing.is_empty() => Role::FirstDiffering,
            None if prompt.entity.binary_search(&at).is_ok() => Role::Entity,
            None if at < differing.start || at < sentence.start => Role::Before,
            None if at < differing.end => Role::Between,
            None if at >= sentence.end => Role::Cue,
            None if at + 1 == sentence.end => Role::SentenceEnd,
            None => Role::Rest,
        }
    };
    (0..prompt.ids.len()).map(role).collect()
}

/// The tokens of `ids` between the beginning and the end that it has in common with `other`.
pub fn differing(ids: &[u32], other: &[u32]) -> Range<usize> {
    let same = |(a, b): &(&u32, &u32)| a == b;
    let n_before = ids.iter().zip(other).take_while(same).count();
    let (rest, other_rest) = (&ids[n_before..], &other[n_before..]);
    let n_after = rest.iter().rev().zip(other_rest.iter().rev()).take_while(same).count();
    n_before..ids.len() - n_after
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_has_the_role_that_its_place_gives_it() {
        // (ids, other ids, sentence, entity, mark) -> roles
        type Case<'a> = (
            &'a [u32],
            &'a [u32],
            Option<Range<usize>>,
            &'a [usize],
            Option<Range<usize>>,
            &'a str,
        );
        let cases: [Case; 8] = [
            // In the middle of a sentence, two tokens differ; the prompts differ in length.
            (
                &[1, 2, 3, 4, 5, 6, 7, 8, 9],
                &[1, 2, 3, 40, 50, 60, 6, 7, 8, 9],
                Some(1..7),
                &[1],
                None,
                "before,entity,before,first differing,last differing,rest,sentence end,cue,last",
            ),
            // One token differs, and ends the sentence.
            (
                &[1, 2, 3, 4, 5],
                &[1, 2, 9, 4, 5],
                Some(1..3),
                &[],
                None,
                "before,before,last differing,cue,last",
            ),
            // Several differ, with a common one between them.
            (
                &[1, 2, 3, 4, 5, 6],
                &[1, 9, 3, 8, 5, 6],
                Some(0..5),
                &[2],
                None,
                "before,first differing,entity,last differing,sentence end,last",
            ),
            (
                &[1, 2, 3, 4, 5, 6],
                &[1, 9, 3, 8, 5, 6],
                Some(0..5),
                &[],
                None,
                "before,first differing,between,last differing,sentence end,last",
            ),
            // The other has words more: nothing here differs.
            (&[1, 2, 3], &[1, 7, 2, 3], None, &[], None, "before,rest,last"),
            // No template, the last position differs.
            (&[1, 2], &[1, 3], None, &[], None, "before,last"),
            // A mark goes before everything but the last position.
            (&[1, 2, 3, 4], &[1, 9, 3, 4], None, &[1], Some(1..4), "before,#x,#x,last"),
            (&[], &[1], None, &[], None, ""),
        ];
        for (ids, other, sentence, entity, mark, expected) in cases {
            let marked = mark.map(|tokens| ("x".parse().unwrap(), tokens)).into_iter().collect();
            let prompt = PromptTokens { ids, sentence, entity: entity.to_vec(), marked };
            let other = PromptTokens { ids: other, ..PromptTokens::default() };
            let found: Vec<_> = roles(&prompt, &other).iter().map(Role::to_string).collect();
            assert_eq!(found.join(","), expected, "{prompt:?}");
        }
    }

    #[test]
    fn equal_tails_never_overlap_equal_heads() {
        assert_eq!(differing(&[1, 1, 1], &[1, 1]), 2..3);
        assert_eq!(differing(&[1, 1], &[1, 1, 1]), 2..2);
        assert_eq!(differing(&[1, 2], &[1, 2]), 2..2);
    }

    #[test]
    fn roles_are_read_back_and_others_refused() {
        let marked: Role = "#subject".parse().unwrap();
        for role in Role::ALL.into_iter().chain([marked]) {
            assert_eq!(role.to_string().parse::<Role>().unwrap(), role);
            let json = serde_json::to_string(&role).unwrap();
            assert_eq!(serde_json::from_str::<Role>(&json).unwrap(), role);
        }
        for text in ["", "#", "# x", "#a b", "Last", "marked", "#1234567890123456789012345"] {
            let error = text.parse::<Role>().unwrap_err().to_string();
            assert!(error.contains("is no role: expected before, entity"), "{error}");
        }
        assert!("#größe_1-b".parse::<Role>().is_ok());
    }
}
