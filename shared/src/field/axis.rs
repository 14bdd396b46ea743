//! The axes of a field: what varies along its rows and columns, by keys that other fields know too.

use std::fmt;
use std::str::FromStr;

use crate::document::{AxisKeys, Document, Prompt, Token};
use crate::specification::roles::Role;
use crate::specification::vocabulary::{Site, Span};

/// What a row or a column is, in whichever result it is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Coordinate {
    /// A layer, from 0.
    Layer(usize),
    /// A head, from 0.
    Head(usize),
    /// A position, counted from the end of the prompt, where prompts are aligned: 1 is the last.
    FromEnd(usize),
    /// A position, counted from the beginning. Addresses have it, of the base's prompt; on an axis
    /// it is one that lies outside of its prompt.
    Position(usize),
    /// A named set of positions.
    Span(Span),
    /// A role of tokens.
    Role(Role),
    /// Everything: the column of a grid that has no second axis.
    Whole,
}

impl Coordinate {
    /// A position of a prompt of `n` tokens as one that other prompts have too, and anything else as
    /// it is.
    pub fn from_end(self, n: usize) -> Self {
        match self {
            Self::Position(at) => n.checked_sub(at).filter(|n| *n > 0).map_or(self, Self::FromEnd),
            other => other,
        }
    }

    /// The same counted from the beginning, where the prompt has the position.
    pub fn from_start(self, n: usize) -> Self {
        match self {
            Self::FromEnd(from_end) => n.checked_sub(from_end).map_or(self, Self::Position),
            other => other,
        }
    }
}

/// As addresses write it: `l3`, `h3`, `135` for a position, `e3` for one from the end, or the name
/// of a set of positions.
impl fmt::Display for Coordinate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layer(n) => write!(f, "l{n}"),
            Self::Head(n) => write!(f, "h{n}"),
            Self::FromEnd(n) => write!(f, "e{n}"),
            Self::Position(n) => write!(f, "{n}"),
            Self::Span(span) => f.write_str(span.name()),
            Self::Role(role) => write!(f, "role:{role}"),
            Self::Whole => f.write_str("whole"),
        }
    }
}

/// A text that is no coordinate.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` names no row or column: expected a position, or `l3`, `h3`, `e3` or a set of positions"
)]
pub struct NoCoordinate(String);

impl FromStr for Coordinate {
    type Err = NoCoordinate;

    fn from_str(text: &str) -> Result<Self, NoCoordinate> {
        let bad = || NoCoordinate(text.chars().take(32).collect());
        if let Ok(span) = text.parse::<Span>() {
            return Ok(Self::Span(span));
        }
        if let Some(role) = text.strip_prefix("role:") {
            return role.parse().map(Self::Role).map_err(|_| bad());
        }
        if text == "whole" {
            return Ok(Self::Whole);
        }
        let (of, digits): (fn(usize) -> Self, _) = match text.split_at_checked(1) {
            Some(("l", digits)) => (Self::Layer, digits),
            Some(("h", digits)) => (Self::Head, digits),
            Some(("e", digits)) => (Self::FromEnd, digits),
            _ => (Self::Position, text),
        };
        // `usize` reads a sign, too.
        let is_number = digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse().ok().filter(|_| is_number).map(of).ok_or_else(bad)
    }
}

/// What kind of keys an axis has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AxisKind {
    /// Layers.
    Layer,
    /// Query heads.
    Head,
    /// Key heads, of which there are fewer where queries share them.
    KeyHead,
    /// Positions of a prompt.
    Token,
    /// Named sets of positions.
    Span,
    /// Roles of tokens.
    Role,
    /// One column for everything.
    Whole,
}

impl AxisKind {
    /// What stands beside the axis.
    pub fn title(self) -> &'static str {
        match self {
            Self::Layer => "Layer",
            Self::Head => "Head",
            Self::KeyHead => "Key head",
            Self::Token => "Token",
            Self::Span => "Positions",
            Self::Role => "Role",
            Self::Whole => "All positions",
        }
    }

    /// One of them in a sentence.
    pub fn one(self) -> &'static str {
        match self {
            Self::Layer => "layer",
            Self::Head => "head",
            Self::KeyHead => "key head",
            Self::Token => "token",
            Self::Span => "set of positions",
            Self::Role => "role",
            Self::Whole => "column",
        }
    }

    /// Several of them in a sentence.
    pub fn many(self) -> &'static str {
        match self {
            Self::Layer => "layers",
            Self::Head => "heads",
            Self::KeyHead => "key heads",
            Self::Token => "tokens",
            Self::Span => "sets of positions",
            Self::Role => "roles",
            Self::Whole => "column",
        }
    }

    /// Whether its keys are written as numbers.
    pub fn is_numbered(self) -> bool {
        matches!(self, Self::Layer | Self::Head | Self::KeyHead)
    }
}

/// One row or column.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// What it is.
    pub key: Coordinate,
    /// Its number, its token as the tokenizer has it, or its name.
    pub text: String,
    /// Of a token, its position in the run that is shown.
    pub position: Option<usize>,
    /// Of a token, the other run's token there, where it is known.
    pub other: Option<Token>,
    /// Of a token, whether both runs are known to have the same, so that only the context differs.
    pub is_same: bool,
}

/// The rows or the columns of a field.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// What they are.
    pub kind: AxisKind,
    /// One by one.
    pub marks: Vec<Mark>,
}

impl Axis {
    /// Numbered keys.
    pub fn numbered(kind: AxisKind, keys: impl IntoIterator<Item = usize>) -> Self {
        let key = if kind == AxisKind::Layer { Coordinate::Layer } else { Coordinate::Head };
        let marks = keys.into_iter().map(|n| Mark::plain(key(n), n.to_string())).collect();
        Self { kind, marks }
    }

    /// Keys that are called by their names.
    pub fn named(kind: AxisKind, keys: impl IntoIterator<Item = Coordinate>) -> Self {
        let name = |key: Coordinate| match key {
            Coordinate::Span(span) => span.to_string(),
            Coordinate::Role(role) => role.to_string(),
            key => key.to_string(),
        };
        let marks = keys.into_iter().map(|key| Mark::plain(key, name(key))).collect();
        Self { kind, marks }
    }

    /// One column for everything.
    pub fn whole() -> Self {
        let marks = vec![Mark::plain(Coordinate::Whole, "all".into())];
        Self { kind: AxisKind::Whole, marks }
    }

    /// The columns of the notebook's grid, whose texts stand with it.
    pub fn swept(document: &Document) -> Self {
        let mut axis = Self::labelled(document.sentence_start, &document.token_labels);
        for mark in &mut axis.marks {
            mark.beside(document, Prompt::Base);
        }
        axis
    }

    /// Positions from `start` to the end of a prompt of which no more is known than these texts.
    pub fn labelled(start: usize, labels: &[String]) -> Self {
        let n = labels.len();
        let marks = labels.iter().enumerate().map(|(column, text)| Mark {
            position: Some(start.saturating_add(column)),
            ..Mark::plain(Coordinate::FromEnd(n - column), text.clone())
        });
        Self { kind: AxisKind::Token, marks: marks.collect() }
    }

    /// Positions of one of the prompts.
    pub fn positions(document: &Document, prompt: Prompt, positions: &[usize]) -> Self {
        let marks = positions.iter().map(|&at| {
            let from_end = from_end(document, prompt, at);
            let label = || document.token_labels.get(at.checked_sub(document.sentence_start)?);
            let own = prompt.tokens(document).get(at).map(|token| &token.text);
            let text = own.or_else(label).cloned().unwrap_or_default();
            let key = from_end.map_or(Coordinate::Position(at), Coordinate::FromEnd);
            let mut mark = Mark { position: Some(at), ..Mark::plain(key, text) };
            mark.beside(document, prompt);
            mark
        });
        Self { kind: AxisKind::Token, marks: marks.collect() }
    }

    /// An axis of a document's grid of `site`, whose runs are those of `prompt`.
    pub fn of(document: &Document, prompt: Prompt, site: Option<Site>, keys: &AxisKeys) -> Self {
        let heads = match site {
            Some(Site::Key | Site::Value) => AxisKind::KeyHead,
            _ => AxisKind::Head,
        };
        match keys {
            AxisKeys::Layer(keys) => Self::numbered(AxisKind::Layer, keys.iter().copied()),
            AxisKeys::Head(keys) => Self::numbered(heads, keys.iter().copied()),
            AxisKeys::Position(keys) => Self::positions(document, prompt, keys),
            AxisKeys::Span(spans) => {
                Self::named(AxisKind::Span, spans.iter().map(|span| Coordinate::Span(*span)))
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.marks.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// Where a key is; `None` where this axis has none such.
    pub fn find(&self, key: Coordinate) -> Option<usize> {
        self.marks.iter().position(|mark| mark.key == key)
    }

    /// What is at a place.
    pub fn key(&self, at: usize) -> Option<Coordinate> {
        self.marks.get(at).map(|mark| mark.key)
    }

    /// Their number and kind, e.g. `30 layers`.
    pub fn count(&self) -> String {
        let n = self.len();
        format!("{n} {}", if n == 1 { self.kind.one() } else { self.kind.many() })
    }
}

impl Mark {
    fn plain(key: Coordinate, text: String) -> Self {
        Self { key, text, position: None, other: None, is_same: false }
    }

    /// Puts the token of the other prompt that corresponds to it beside that of this one.
    fn beside(&mut self, document: &Document, prompt: Prompt) {
        let Some(position) = self.position else { return };
        let own = prompt.tokens(document).get(position);
        let other = document.counterpart(prompt, position);
        let other = other.and_then(|at| prompt.other().tokens(document).get(at));
        self.is_same = own.zip(other).is_some_and(|(own, other)| own.id == other.id);
        self.other = other.cloned();
    }
}

/// How far from the end of a prompt of the document a position is; `None` where the prompt has none.
pub fn from_end(document: &Document, prompt: Prompt, position: usize) -> Option<usize> {
    let n = match prompt.tokens(document).len() {
        // Where tokens are unknown, both prompts are taken to be of one length.
        0 => n_base(document),
        n => n,
    };
    n.checked_sub(position).filter(|n| *n > 0)
}

/// How many tokens the base's prompt has: the swept ones end with its last.
pub fn n_base(document: &Document) -> usize {
    document.sentence_start.saturating_add(document.token_labels.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{ramp, with_tokens};

    #[test]
    fn coordinates_are_read_back_and_others_refused() {
        let all = [
            (Coordinate::Layer(3), "l3"),
            (Coordinate::Head(0), "h0"),
            (Coordinate::FromEnd(12), "e12"),
            (Coordinate::Position(135), "135"),
            (Coordinate::Span(Span::Entity), "entity"),
            (Coordinate::Span(Span::All), "all"),
            (Coordinate::Role(Role::LastDiffering), "role:last differing"),
            (Coordinate::Role("#x".parse().unwrap()), "role:#x"),
            (Coordinate::Whole, "whole"),
        ];
        for (key, text) in all {
            assert_eq!((key.to_string(), text.parse().ok()), (text.to_string(), Some(key)));
        }
        for text in
            ["", "l", "h-1", "+3", "x3", "3.5", "é", "l99999999999999999999999", "Entity", "role:x"]
        {
            assert!(text.parse::<Coordinate>().is_err(), "{text}");
        }
    }

    #[test]
    fn positions_of_the_base_are_counted_from_the_end_where_it_has_them() {
        let document = ramp(2, 4); // positions 3 to 6
        let cases = [
            (Coordinate::Position(6), Coordinate::FromEnd(1)),
            (Coordinate::Position(0), Coordinate::FromEnd(7)),
            (Coordinate::Position(7), Coordinate::Position(7)),
            (Coordinate::Position(usize::MAX), Coordinate::Position(usize::MAX)),
            (Coordinate::Head(2), Coordinate::Head(2)),
        ];
        for (key, expected) in cases {
            assert_eq!(key.from_end(n_base(&document)), expected);
            assert_eq!(expected.from_start(n_base(&document)), key);
        }
        // A longer prompt's positions before the base's first one stay as they are.
        assert_eq!(Coordinate::FromEnd(8).from_start(n_base(&document)), Coordinate::FromEnd(8));
    }

    #[test]
    fn tokens_stand_beside_those_of_the_other_prompt() {
        let mut document = with_tokens(ramp(1, 3), &[1]);
        document.source_tokens.insert(0, Token { id: 9, text: "first".into() });
        let axis = Axis::positions(&document, Prompt::Source, &[0, 4, 5, 6, 7, usize::MAX]);
        let seen = axis
            .marks
            .iter()
            .map(|m| (m.key.to_string(), &*m.text, m.other.as_ref().map(|t| t.id), m.is_same));
        let expected = [
            ("e7", "first", None, false),
            ("e3", "t0", Some(103), true),
            ("e2", "t1", Some(104), false),
            ("e1", "t2", Some(105), true),
            // Outside of the prompt there is no token, and the key is nobody else's.
            ("7", "", None, false),
            ("18446744073709551615", "", None, false),
        ];
        let expected =
            expected.map(|(key, text, other, same)| (key.to_string(), text, other, same));
        assert!(seen.eq(expected), "{axis:?}");
        let swept = Axis::swept(&document);
        assert_eq!(swept.find(Coordinate::FromEnd(2)), Some(1));
        assert_eq!(swept.find(Coordinate::FromEnd(7)), None);
        assert_eq!(swept.marks[1].other.as_ref().map(|t| t.id), Some(1104));
    }
}
