//! Words of a sentence that the user marks, so that their tokens are a role of their own: `[the
//! queen](#subject) rules`, or a column `span:subject` whose cell has the words.

use std::collections::BTreeMap;
use std::ops::Range;

use super::roles::{BadName, Name};

/// What a column's name begins with whose cells say which words of both sentences are marked.
pub const COLUMN: &str = "span:";

/// Within how many bytes a mark's name ends, so that one that is too long is told.
const MAX_NAME_BYTES: usize = 100;

/// More words than these are not marked.
const MAX_WORDS_BYTES: usize = 2_000;

/// How many bytes of a text an error quotes.
const MAX_SHOWN: usize = 200;

/// More marks than this in a sentence are none that anybody made.
pub const MAX_MARKS: usize = 100;

/// A sentence and what is marked in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Marked {
    /// The sentence without the marks.
    pub text: String,
    /// Names and bytes of [`Self::text`], none empty, in order of their beginnings.
    pub marks: Vec<(Name, Range<usize>)>,
}

/// What is wrong with a mark.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MarkError {
    /// Its name.
    #[error("a mark's name: {0}")]
    Name(#[from] BadName),
    /// More than anybody makes.
    #[error("the {0} has more than {MAX_MARKS} marks: leave some out")]
    TooMany(&'static str),
    /// Words that the sentence has not.
    #[error(
        "the column `{column}` marks {words:?}, which the {prompt} has not: {sentence:?}. Where the \
         two sentences have other words, mark them in the text: `[the queen](#subject) rules`"
    )]
    NotThere {
        /// The column.
        column: String,
        /// The words.
        words: String,
        /// Which prompt.
        prompt: &'static str,
        /// Its sentence.
        sentence: String,
    },
}

impl Marked {
    /// Reads the marks of `sentence`, of the prompt called `prompt`, and those of the row's columns.
    ///
    /// # Errors
    /// A name that is none, or words that the sentence has not.
    pub fn read(
        sentence: &str,
        cells: &BTreeMap<String, String>,
        prompt: &'static str,
    ) -> Result<Self, MarkError> {
        let mut marked = Self::in_text(sentence, prompt)?;
        for (column, words) in cells {
            let Some(name) = column.strip_prefix(COLUMN) else { continue };
            let name = name.parse()?;
            if words.is_empty() {
                continue;
            }
            let Some(start) = marked.text.find(words) else {
                let shown = |text: &str| beginning(text, MAX_SHOWN).to_string();
                return Err(MarkError::NotThere {
                    column: shown(column),
                    words: shown(words),
                    prompt,
                    sentence: shown(&marked.text),
                });
            };
            marked.marks.push((name, start..start + words.len()));
        }
        marked.marks.sort_by_key(|(_, bytes)| bytes.start);
        Ok(marked)
    }

    /// The marks in the text alone. What looks like none, `[x](y)`, stays as it is.
    fn in_text(sentence: &str, prompt: &'static str) -> Result<Self, MarkError> {
        let (mut text, mut marks, mut rest) = (String::new(), Vec::new(), sentence);
        while let Some((before, words, name, after)) = next(rest) {
            text.push_str(before);
            let start = text.len();
            text.push_str(words);
            marks.push((name.parse()?, start..text.len()));
            rest = after;
            if marks.len() > MAX_MARKS {
                return Err(MarkError::TooMany(prompt));
            }
        }
        text.push_str(rest);
        Ok(Self { text, marks })
    }
}

/// The first mark of `text`: what stands before it, the words, the name, and what follows.
fn next(text: &str) -> Option<(&str, &str, &str, &str)> {
    text.match_indices("](#").find_map(|(at, middle)| {
        let (head, tail) = (&text[..at], &text[at + middle.len()..]);
        // A name and its words are short; words are closed by the first bracket behind them.
        let (name, _) = beginning(tail, MAX_NAME_BYTES).split_once(')')?;
        let start = head.len() - ending(head, MAX_WORDS_BYTES).len();
        let start = start + head[start..].rfind('[')?;
        let (before, words) = (&head[..start], &head[start + 1..]);
        let is_mark = !words.is_empty() && !words.contains(']');
        is_mark.then(|| (before, words, name, &tail[name.len() + 1..]))
    })
}

/// The end of a text, `n_bytes` or a little less.
fn ending(text: &str, n_bytes: usize) -> &str {
    let first = text.len().saturating_sub(n_bytes);
    let start = (first..=text.len()).find(|start| text.is_char_boundary(*start));
    &text[start.unwrap_or(text.len())..]
}

/// The beginning of a text, up to `n_bytes` or a little less.
fn beginning(text: &str, n_bytes: usize) -> &str {
    let end = (0..=n_bytes.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(sentence: &str, cells: &[(&str, &str)]) -> Result<String, String> {
        let cells = cells.iter().map(|(name, cell)| (name.to_string(), cell.to_string()));
        let marked = Marked::read(sentence, &cells.collect(), "source");
        let marked = marked.map_err(|error| error.to_string())?;
        let marks =
            marked.marks.iter().map(|(name, at)| format!("{name}={}", &marked.text[at.clone()]));
        Ok(format!("{}|{}", marked.text, marks.collect::<Vec<_>>().join(",")))
    }

    #[test]
    fn marks_are_taken_out_of_the_text() {
        type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);
        let cases: [Case; 8] = [
            ("[The queen](#subject) rules.", &[], "The queen rules.|subject=The queen"),
            ("é[a](#x)[b](#y)", &[], "éab|x=a,y=b"),
            ("a [b](c) [](#x) d](#e) [f](#g)", &[], "a [b](c) [](#x) d](#e) f|g=f"),
            ("[[a]](#x)", &[], "[[a]](#x)|"),
            ("[a](#x", &[], "[a](#x|"),
            ("a b a", &[("span:x", "a"), ("name", "b"), ("span:y", "")], "a b a|x=a"),
            ("[b](#x) a", &[("span:y", "a")], "b a|x=b,y=a"),
            ("", &[], "|"),
        ];
        for (sentence, cells, expected) in cases {
            assert_eq!(read(sentence, cells).as_deref(), Ok(expected), "{sentence}");
        }
    }

    #[test]
    fn bad_marks_say_why() {
        for (sentence, cells, expected) in [
            ("[a](#b c)", &[][..], "`b c` is no name"),
            ("a", &[("span:", "a")][..], "`` is no name"),
            (&*"[a](#x)".repeat(101), &[][..], "the source has more than 100 marks"),
            (&*format!("[a](#{})", "x".repeat(60)), &[][..], "is no name"),
            ("a", &[("span:x", "b")][..], "`span:x` marks \"b\", which the source has not: \"a\""),
        ] {
            let error = read(sentence, cells).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn long_texts_that_look_like_marks_are_read_in_time() {
        for part in ["](#", "[", "[a](#", "[](#x)", "a](#x)"] {
            let text = part.repeat(3_000_000 / part.len());
            let marked = Marked::read(&text, &BTreeMap::new(), "base").unwrap();
            assert_eq!(marked.text.len(), text.len(), "{part}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[\\[\\]()#ab é]{0,40}") {
            if let Ok(marked) = Marked::read(&text, &BTreeMap::new(), "base") {
                proptest::prop_assert!(marked.text.len() <= text.len());
                for (_, bytes) in marked.marks {
                    proptest::prop_assert!(!marked.text[bytes].is_empty());
                }
            }
        }
    }
}
