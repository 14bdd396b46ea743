//! The two answers that are compared.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, de};

use super::list::texts;
use crate::json;

/// The answer that counts for and the one that counts against. As one text they have a comma
/// between them, `TRUE,FALSE`, or where an answer has a comma itself they are a list in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(transparent)]
pub struct AnswerPair(pub [String; 2]);

/// A text that is not two answers.
#[derive(Debug, thiserror::Error)]
#[error("expected two answers, e.g. `TRUE,FALSE`, found {0}")]
pub struct NotTwo(usize);

impl AnswerPair {
    fn new(texts: Vec<String>) -> Result<Self, NotTwo> {
        texts.try_into().map(Self).map_err(|texts: Vec<_>| NotTwo(texts.len()))
    }
}

impl FromStr for AnswerPair {
    type Err = NotTwo;

    fn from_str(text: &str) -> Result<Self, NotTwo> {
        match json::parse(text).and_then(json::read::<Vec<String>>) {
            Ok(texts) => Self::new(texts),
            Err(_) => Self::new(text.split(',').map(String::from).collect()),
        }
    }
}

impl fmt::Display for AnswerPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [true_answer, false_answer] = &self.0;
        if true_answer.trim_start().starts_with('[')
            || self.0.iter().any(|answer| answer.contains(','))
        {
            let text = serde_json::to_string(&self.0).expect("texts are JSON");
            return f.write_str(&text);
        }
        write!(f, "{true_answer},{false_answer}")
    }
}

impl<'de> Deserialize<'de> for AnswerPair {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = texts(deserializer)?;
        let pair = match &texts[..] {
            [text] => text.parse(),
            _ => Self::new(texts),
        };
        pair.map_err(de::Error::custom)
    }
}
