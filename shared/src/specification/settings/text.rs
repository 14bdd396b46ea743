//! Settings as named texts, which links and queries are made of.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Settings;
use crate::json;

/// A named text that is no setting.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TextError {
    /// A name that is none.
    #[error("`{name}` is no setting: expected one of {expected}")]
    Unknown {
        /// The name.
        name: String,
        /// All names.
        expected: String,
    },
    /// A value that is none of this setting.
    #[error("`{name}`: {why}")]
    Value {
        /// The setting.
        name: String,
        /// What was found and what was expected.
        why: String,
    },
}

impl Settings {
    /// Changes the setting `name` as `text` says.
    ///
    /// # Errors
    /// A name that is no setting's, or a text that is no value of it.
    pub fn set(&mut self, name: &str, text: &str) -> Result<(), TextError> {
        // As links and queries once wrote them.
        let (name, answer) = match name {
            "sites" => ("site", None),
            "exact" => ("exact_answers", None),
            "true" | "true_answer" => ("answers", Some(0)),
            "false" | "false_answer" => ("answers", Some(1)),
            name => (name, None),
        };
        let mut all = self.object();
        let Some(now) = all.get(name) else {
            let mut names: Vec<_> = all.keys().map(String::as_str).collect();
            names.sort_unstable();
            return Err(TextError::Unknown { name: name.to_string(), expected: names.join(", ") });
        };
        let bad = |why: String| TextError::Value { name: name.to_string(), why };
        let value = match (now, answer) {
            (_, Some(answer)) => {
                let mut pair = self.answers.clone().unwrap_or_default();
                pair.0[answer] = text.to_string();
                Value::from(pair.0.to_vec())
            }
            (Value::Bool(_), _) => match text {
                "true" | "1" => Value::Bool(true),
                "false" | "0" => Value::Bool(false),
                _ => return Err(bad(format!("expected true or false, found `{text}`"))),
            },
            (Value::Number(_), _) => match json::parse(text) {
                Ok(value @ Value::Number(_)) => value,
                _ => return Err(bad(format!("expected a number, found `{text}`"))),
            },
            _ => text.into(),
        };
        all.insert(name.to_string(), value);
        *self = json::read(all.into()).map_err(|error| bad(error.to_string()))?;
        Ok(())
    }

    /// The settings that are not as by default, by name; [`Self::set`] reads them back.
    pub fn texts(&self) -> BTreeMap<String, String> {
        let plain = Self::default().object();
        let text = |name: &str, value: Value| match value {
            Value::String(text) => text,
            Value::Array(_) if name == "answers" => {
                self.answers.as_ref().map(ToString::to_string).unwrap_or_default()
            }
            Value::Array(words) => {
                words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
            }
            value => value.to_string(),
        };
        // An object's order depends on who else uses serde_json.
        let mut texts = BTreeMap::new();
        for (name, value) in self.object() {
            if plain.get(&name) != Some(&value) {
                let text = text(&name, value);
                texts.insert(name, text);
            }
        }
        texts
    }

    fn object(&self) -> Map<String, Value> {
        json::fields(self)
    }
}
