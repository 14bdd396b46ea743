//! Prompt templates: text with `{sentence}`, `{entity}` and any other column of the table.

use std::ops::Range;

/// A prompt template. `{{` and `}}` stand for single braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Column(String),
}

/// The notebook's question.
pub const NOTEBOOK: &str = include_str!("../../../static/templates/notebook.txt").trim_ascii_end();

/// The templates that ship with Patchboard, by name.
pub const SHIPPED: &[(&str, &str)] = &[
    ("notebook", NOTEBOOK),
    ("forced", include_str!("../../../static/templates/forced.txt").trim_ascii_end()),
    ("obey", include_str!("../../../static/templates/obey.txt").trim_ascii_end()),
    ("parties", include_str!("../../../static/templates/parties.txt").trim_ascii_end()),
];

/// The word for sentences that are full prompts and need no template.
pub const NO_TEMPLATE: &str = "none";

/// A prompt and where its sentence stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// The whole text.
    pub text: String,
    /// The bytes of the sentence within the text; `None` where the template does not tell.
    pub sentence: Option<Range<usize>>,
}

/// What is wrong with a template.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TemplateError {
    /// No place, or more than one, for the sentence.
    #[error("a template needs `{{sentence}}` exactly once, found it {0} times")]
    Sentence(usize),
    /// A brace without its partner.
    #[error("a template has an unmatched `{0}` at byte {1}: write `{0}{0}` for the brace itself")]
    Brace(char, usize),
    /// A word that is neither a template nor the name of one.
    #[error(
        "`{0}` is no template: expected {names}, {NO_TEMPLATE}, or a text with {{sentence}}",
        names = SHIPPED.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    )]
    Unknown(String),
    /// A placeholder for which a row has no cell.
    #[error("`{{{name}}}` is no column of the table: it has {known}")]
    UnknownColumn {
        /// The placeholder's name.
        name: String,
        /// What the table has.
        known: String,
    },
}

impl Template {
    /// A shipped template by its name, or a template by its text; `None` for [`NO_TEMPLATE`].
    ///
    /// # Errors
    /// A word that is neither, or a text that is no prompt template.
    pub fn named(word: &str) -> Result<Option<Self>, TemplateError> {
        let shipped = SHIPPED.iter().find(|(name, _)| *name == word);
        let text = match shipped {
            Some((_, text)) => text,
            None if word == NO_TEMPLATE => return Ok(None),
            None if !word.contains('{') => return Err(TemplateError::Unknown(word.to_string())),
            None => word,
        };
        Self::prompt(text).map(Some)
    }

    /// Parses a prompt template, which names the sentence exactly once.
    ///
    /// # Errors
    /// An unmatched brace, or `{sentence}` missing or repeated.
    pub fn prompt(text: &str) -> Result<Self, TemplateError> {
        let template = Self::parse(text)?;
        match template.columns().filter(|name| *name == "sentence").count() {
            1 => Ok(template),
            n => Err(TemplateError::Sentence(n)),
        }
    }

    /// Parses any text with placeholders, e.g. an answer that a column gives.
    ///
    /// # Errors
    /// An unmatched brace.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let (mut parts, mut literal, mut at) = (Vec::new(), String::new(), 0);
        while let Some(found) = text[at..].find(['{', '}']) {
            literal.push_str(&text[at..at + found]);
            at += found;
            let rest = &text[at..];
            let brace = if rest.starts_with('{') { '{' } else { '}' };
            if rest[1..].starts_with(brace) {
                literal.push(brace);
                at += 2;
                continue;
            }
            match rest.find('}') {
                Some(end) if brace == '{' && !rest[1..end].contains('{') => {
                    if !literal.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut literal)));
                    }
                    parts.push(Part::Column(rest[1..end].trim().to_string()));
                    at += end + 1;
                }
                _ => return Err(TemplateError::Brace(brace, at)),
            }
        }
        literal.push_str(&text[at..]);
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self { text: text.to_string(), parts })
    }

    /// The template as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The placeholders, in order.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Column(name) => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    /// Fills the template by `value`, which gives a placeholder's text or the names it knows.
    ///
    /// # Errors
    /// A placeholder that `value` does not know.
    pub fn fill<'a>(
        &self,
        value: impl Fn(&str) -> Result<&'a str, String>,
    ) -> Result<Prompt, TemplateError> {
        let (mut text, mut sentence) = (String::new(), None);
        for part in &self.parts {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Column(name) => {
                    let start = text.len();
                    text.push_str(value(name).map_err(|known| TemplateError::UnknownColumn {
                        name: name.clone(),
                        known,
                    })?);
                    if name == "sentence" {
                        sentence = Some(start..text.len());
                    }
                }
            }
        }
        Ok(Prompt { text, sentence })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(name: &str) -> Result<&'static str, String> {
        match name {
            "entity" => Ok("Ada"),
            "sentence" => Ok("Ada {rules}."),
            _ => Err("`entity`".into()),
        }
    }

    #[test]
    fn fills_placeholders_and_tells_where_the_sentence_is() {
        let cases = [
            (
                NOTEBOOK,
                "In the following sentence, Ada exercises power over someone or something else. TRUE or FALSE? Sentence: Ada {rules}. Answer:",
            ),
            ("{sentence}", "Ada {rules}."),
            ("{{{entity}}} é {{x}}: { sentence }!", "{Ada} é {x}: Ada {rules}.!"),
        ];
        for (template, expected) in cases {
            let prompt = Template::prompt(template.trim_end()).unwrap().fill(value).unwrap();
            assert_eq!(prompt.text, expected);
            assert_eq!(&prompt.text[prompt.sentence.unwrap()], "Ada {rules}.");
        }
    }

    #[test]
    fn templates_are_found_by_name_or_text() {
        for (name, text) in SHIPPED {
            assert_eq!(Template::named(name).unwrap().unwrap().text(), *text);
        }
        assert_eq!(Template::named("none").unwrap(), None);
        assert_eq!(Template::named("Q: {sentence}").unwrap().unwrap().text(), "Q: {sentence}");
        assert_eq!(
            Template::named("notbook").unwrap_err().to_string(),
            "`notbook` is no template: expected notebook, forced, obey, parties, none, or a text \
             with {sentence}"
        );
    }

    #[test]
    fn bad_templates_say_why() {
        let error = |text: &str| Template::prompt(text).and_then(|t| t.fill(value)).unwrap_err();
        assert_eq!(error("x {entity}"), TemplateError::Sentence(0));
        assert_eq!(error("{sentence} {sentence}"), TemplateError::Sentence(2));
        assert_eq!(error("{sentence} é {x"), TemplateError::Brace('{', 14));
        assert_eq!(error("x} {sentence}"), TemplateError::Brace('}', 1));
        assert_eq!(
            error("{sentence} {rank}").to_string(),
            "`{rank}` is no column of the table: it has `entity`"
        );
        assert_eq!(
            error("{").to_string(),
            "a template has an unmatched `{` at byte 0: write `{{` for the brace itself"
        );
    }
}
