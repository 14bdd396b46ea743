//! Words of a sentence that the user marks, so that their tokens are a role of their own: `[the
//! queen](#subject) rules`, or a column `span:subject` whose cell has the words.

use std::collections::BTreeMap;
use std::ops::Range;

use super::roles::{BadName, Name, Role};

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
    /// Words that cannot be marked in the text.
    #[error("{0:?} cannot be marked: square brackets stand for marks in a sentence")]
    Brackets(String),
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
            marked.insert(name, start..start + words.len());
        }
        Ok(marked)
    }

    /// Adds a mark behind those that do not begin after it.
    fn insert(&mut self, name: Name, bytes: Range<usize>) {
        let at = self.marks.partition_point(|(_, before)| before.start <= bytes.start);
        self.marks.insert(at, (name, bytes));
    }

    /// The marks in the text alone. What looks like none, `[x](y)`, stays as it is.
    ///
    /// # Errors
    /// A name that is none, or too many.
    pub fn in_text(sentence: &str, prompt: &'static str) -> Result<Self, MarkError> {
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

    /// Marks the bytes by a name, or by none; what was marked there no longer is. Spaces around the
    /// words stay outside.
    pub fn mark(&mut self, bytes: Range<usize>, name: Option<Name>) {
        let before = std::mem::take(&mut self.marks);
        let around = |(name, at): &(Name, Range<usize>)| {
            let parts = [at.start..at.end.min(bytes.start), at.start.max(bytes.end)..at.end];
            parts.map(|part| (*name, part))
        };
        let all = before.iter().flat_map(around).chain(name.map(|name| (name, bytes.clone())));
        for (name, part) in all {
            let words = self.text.get(part.clone()).unwrap_or_default();
            let start = part.start + words.len() - words.trim_start().len();
            let end = start + words.trim().len();
            if start < end {
                self.insert(name, start..end);
            }
        }
    }

    /// The sentence with its marks in it, which [`Self::in_text`] reads.
    ///
    /// # Errors
    /// Words that cannot be marked so, or more marks than are read.
    pub fn written(&self, prompt: &'static str) -> Result<String, MarkError> {
        let (mut sentence, mut done) = (String::new(), 0);
        for (name, bytes) in &self.marks {
            let text = |bytes: Range<usize>| self.text.get(bytes).unwrap_or_default();
            let (before, words) = (text(done..bytes.start), text(bytes.clone()));
            sentence += &format!("{before}[{words}](#{name})");
            done = bytes.end;
        }
        sentence += self.text.get(done..).unwrap_or_default();
        if Self::in_text(&sentence, prompt)? == *self {
            return Ok(sentence);
        }
        let words = self.marks.iter().map(|(_, bytes)| &self.text[bytes.clone()]);
        let odd = words.clone().find(|words| words.contains(['[', ']'])).or(words.clone().next());
        Err(MarkError::Brackets(beginning(odd.unwrap_or_default(), MAX_SHOWN).to_string()))
    }

    /// What was marked in a prompt's sentence, by the texts and the roles of its tokens; `None` where
    /// the texts do not tell which words they are.
    pub fn of_roles(prompt: &str, sentence: &str, texts: &[&str], roles: &[Role]) -> Option<Self> {
        let mut marked = Self { text: sentence.to_string(), marks: Vec::new() };
        let name = |role: &Role| match role {
            Role::Marked(name) => Some(*name),
            _ => None,
        };
        if roles.iter().all(|role| name(role).is_none()) {
            return Some(marked);
        }
        let (mut at, mut found) = (0, Vec::new());
        for (text, role) in texts.iter().zip(roles) {
            let rest = prompt.get(at..)?;
            // Some tokenizers put a space before the prompt, and all have tokens that are no text.
            let is_next = |text: &&str| rest.starts_with(text);
            let bare = text.strip_prefix(' ').filter(is_next);
            let text = Some(*text).filter(is_next).or(bare);
            match (text, name(role)) {
                (Some(text), name) => {
                    found.extend(name.map(|name| (name, at..at + text.len())));
                    at += text.len();
                }
                (None, None) => {}
                (None, Some(_)) => return None,
            }
        }
        // Where the sentence stands twice, nobody knows which of them it is.
        let begin = prompt.find(sentence)?;
        if at != prompt.len() || prompt.rfind(sentence) != Some(begin) {
            return None;
        }
        for (name, bytes) in found {
            // A token may begin with the space before the sentence.
            let end = bytes.end.checked_sub(begin)?.min(sentence.len());
            let bytes = bytes.start.saturating_sub(begin)..end;
            // Neighbours are one mark.
            let last = marked.marks.last().filter(|(last, _)| *last == name);
            let start = match last {
                Some((_, before)) if sentence.get(before.end..bytes.start)?.trim().is_empty() => {
                    before.start
                }
                _ => bytes.start,
            };
            marked.mark(start..bytes.end, Some(name));
        }
        Some(marked)
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
    fn words_are_marked_and_no_longer() {
        // (sentence, bytes of its text, name, what it is then)
        let cases = [
            ("The queen rules.", 3..9, "x", "The [queen](#x) rules."),
            ("The [queen](#x) rules.", 3..9, "", "The queen rules."),
            ("The [queen](#x) rules.", 0..15, "y", "[The queen rules](#y)."),
            // Of what was marked before, the rest stays so.
            ("[The queen rules](#x).", 3..9, "y", "[The](#x) [queen](#y) [rules](#x)."),
            ("[The queen](#x) rules.", 3..9, "", "[The](#x) queen rules."),
            ("The queen.", 3..4, "x", "The queen."),
            ("日本の女王", 9..15, "x", "日本の[女王](#x)"),
            ("a [b](c) d", 9..10, "x", "a [b](c) [d](#x)"),
        ];
        for (sentence, bytes, name, expected) in cases {
            let mut marked = Marked::in_text(sentence, "source").unwrap();
            marked.mark(bytes, name.parse().ok());
            assert_eq!(marked.written("source").as_deref(), Ok(expected), "{sentence}");
            assert_eq!(Marked::in_text(expected, "source").unwrap(), marked);
        }
        let mut marked = Marked::in_text("a [b] c", "source").unwrap();
        marked.mark(2..5, "x".parse().ok());
        let error = marked.written("source").unwrap_err().to_string();
        assert!(error.starts_with("\"[b]\" cannot be marked"), "{error}");
    }

    #[test]
    fn a_results_roles_tell_its_marks() {
        let [plain, x] = [Role::Rest, "#x".parse().unwrap()];
        let of = |prompt: &str, sentence: &str, texts: &[&str], roles: &[Role]| {
            let marked = Marked::of_roles(prompt, sentence, texts, roles)?;
            marked.written("source").ok()
        };
        let queen = ["<s>", " So", ":", " The", " qu", "een", "."];
        let marked = [plain, plain, plain, x, x, x, plain];
        let read = of("So: The queen.", "The queen.", &queen, &marked);
        assert_eq!(read.as_deref(), Some("[The queen](#x)."));
        // Without marks there is nothing to be found; a token of bytes, or a sentence that stands
        // twice, leaves it open.
        let none = [plain; 7];
        assert_eq!(of("So: é", "é", &queen, &none).as_deref(), Some("é"));
        assert_eq!(of("é", "é", &["<0xC3>", "<0xA9>"], &[x, x]), None);
        assert_eq!(of("a a", "a", &["a", " a"], &[plain, x]), None);
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
                if let Ok(written) = marked.written("base") {
                    let again = Marked::in_text(&written, "base").unwrap();
                    proptest::prop_assert_eq!(again, marked.clone());
                }
                proptest::prop_assert!(marked.text.len() <= text.len());
                for (_, bytes) in marked.marks {
                    proptest::prop_assert!(!marked.text[bytes].is_empty());
                }
            }
        }
    }
}
