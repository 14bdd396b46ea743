//! Lists of words that are written in one text: `resid_post,attn_out`.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::specification::vocabulary::UnknownWord;

/// One word or several, none twice. Reads a text with commas or a list of texts, and is written as
/// a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct List<T>(Vec<T>);

/// A text that is no list of such words.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// A word that is none.
    #[error(transparent)]
    Word(#[from] UnknownWord),
    /// The same word twice.
    #[error("`{0}` is there twice: name each once")]
    Twice(String),
    /// No word.
    #[error("a list is empty: name one or several")]
    Empty,
}

impl<T: PartialEq + fmt::Display> List<T> {
    /// A list of these.
    ///
    /// # Errors
    /// There are none, or one is there twice.
    pub fn new(items: Vec<T>) -> Result<Self, ListError> {
        if items.is_empty() {
            return Err(ListError::Empty);
        }
        match (1..items.len()).find(|&i| items[..i].contains(&items[i])) {
            Some(i) => Err(ListError::Twice(items[i].to_string())),
            None => Ok(Self(items)),
        }
    }

    /// What is in it, in order; at least one.
    pub fn items(&self) -> &[T] {
        &self.0
    }
}

impl<T: PartialEq> List<T> {
    /// Takes an item in at the end, or out; the last one stays.
    pub fn set(&mut self, item: T, is_in: bool) {
        match self.0.iter().position(|one| *one == item) {
            None if is_in => self.0.push(item),
            Some(at) if !is_in && self.0.len() > 1 => drop(self.0.remove(at)),
            _ => {}
        }
    }
}

impl<T: Copy> List<T> {
    /// The first.
    pub fn first(&self) -> T {
        self.0[0]
    }

    /// The only one, if it is.
    pub fn only(&self) -> Option<T> {
        match self.0[..] {
            [one] => Some(one),
            _ => None,
        }
    }
}

impl<T> From<T> for List<T> {
    fn from(one: T) -> Self {
        Self(vec![one])
    }
}

impl<T: Default> Default for List<T> {
    fn default() -> Self {
        T::default().into()
    }
}

impl<T: fmt::Display> fmt::Display for List<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, item) in self.0.iter().enumerate() {
            write!(f, "{}{item}", if i > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

impl<T: FromStr<Err = UnknownWord> + PartialEq + fmt::Display> FromStr for List<T> {
    type Err = ListError;

    fn from_str(text: &str) -> Result<Self, ListError> {
        let items = text.split(',').map(|word| word.trim().parse());
        Self::new(items.collect::<Result<_, UnknownWord>>()?)
    }
}

impl<'de, T: FromStr<Err = UnknownWord> + PartialEq + fmt::Display> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = texts(deserializer)?;
        text.join(",").parse().map_err(de::Error::custom)
    }
}

/// A text, or a list of texts.
pub(super) fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Texts;

    impl<'de> Visitor<'de> for Texts {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text or a list of texts")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(vec![text.to_string()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut texts = Vec::new();
            while let Some(text) = seq.next_element()? {
                texts.push(text);
            }
            Ok(texts)
        }
    }

    deserializer.deserialize_any(Texts)
}
