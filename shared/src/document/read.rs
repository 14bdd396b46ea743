//! Reads and checks files.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::{CellGrid, Document, Grid, LensGrid, Prompt, SCHEMA, TokenTexts, content_id, is_id};
use crate::json;
use crate::specification::settings::Settings;

/// A file that holds no result, or one that this version cannot read.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The bytes are no JSON.
    #[error("expected a result document in JSON, found something else: {0}")]
    NotJson(serde_json::Error),
    /// JSON, but neither a document nor the notebook's result.
    #[error(
        "expected a result document ({SCHEMA}, or the notebook's `patching_results.json`), found {0}"
    )]
    NotADocument(String),
    /// A schema of a later version.
    #[error(
        "the document has the schema `{found}`, and this version reads up to `{SCHEMA}`: update Patchboard"
    )]
    Newer {
        /// The schema found.
        found: String,
    },
    /// A field is missing or has the wrong type.
    #[error("the result document is damaged: {0}")]
    Damaged(serde_json::Error),
    /// An id that is none.
    #[error(
        "the document has the id {0:?}: expected 20 hexadecimal digits in lower case, or no id at \
         all, in which case one is made of the content"
    )]
    BadId(String),
    /// Two results that cannot both be opened.
    #[error("two different documents have the id `{0}`: leave one of them out")]
    SameId(String),
    /// The fields contradict each other.
    #[error("the result document contradicts itself: {0}")]
    Inconsistent(String),
}

impl Document {
    /// Reads a file: one document, the notebook's result, or a JSON array of either. What an array
    /// holds twice is read once.
    ///
    /// # Errors
    /// [`DocumentError`], which says what was found and what was expected.
    pub fn read(bytes: &[u8]) -> Result<Vec<Self>, DocumentError> {
        let value = match json::parse(bytes) {
            Ok(value) => value,
            // Python's json module writes bare NaN and Infinity, which JSON does not know.
            Err(error) => {
                json::parse(without_non_finite(bytes)).map_err(|_| DocumentError::NotJson(error))?
            }
        };
        match value {
            Value::Array(values) if !values.is_empty() => {
                let mut documents: Vec<Self> = Vec::with_capacity(values.len());
                for value in values {
                    let document = Self::from_value(value)?;
                    match documents.iter().find(|before| before.id == document.id) {
                        None => documents.push(document),
                        Some(before) if before.agrees_with(&document) => {}
                        Some(_) => return Err(DocumentError::SameId(document.id)),
                    }
                }
                Ok(documents)
            }
            value => Ok(vec![Self::from_value(value)?]),
        }
    }

    fn from_value(mut value: Value) -> Result<Self, DocumentError> {
        let Some(object) = value.as_object_mut() else {
            return Err(DocumentError::NotADocument(kind(&value).to_string()));
        };
        let has_id = object.get("id").is_some_and(|id| !id.is_null());
        match object.get("schema").and_then(|s| s.as_str()) {
            Some(SCHEMA) if has_id => {}
            Some(SCHEMA) => make_id(object)?,
            Some(found) if schema_version(found).is_some_and(|v| v > 1) => {
                return Err(DocumentError::Newer { found: found.to_string() });
            }
            Some(found) => {
                return Err(DocumentError::NotADocument(format!("the schema `{found}`")));
            }
            None if object.contains_key("patching_results") => {
                make_id(object)?;
                object.insert("schema".into(), SCHEMA.into());
            }
            None => {
                let keys: Vec<_> = object.keys().take(6).map(|k| format!("`{k}`")).collect();
                let keys = if keys.is_empty() { "no fields".into() } else { keys.join(", ") };
                return Err(DocumentError::NotADocument(format!("a JSON object with {keys}")));
            }
        }
        let extra = unknown(object);
        let mut document: Self = json::read(value).map_err(DocumentError::Damaged)?;
        document.extra = extra;
        document.drop_non_finite();
        document.check()?;
        Ok(document)
    }

    /// Whether `other` is the same result, whatever it cost and whenever it was computed.
    pub fn agrees_with(&self, other: &Self) -> bool {
        *other == Self { provenance: other.provenance.clone(), ..self.clone() }
    }

    /// Whether `other` has other numbers or texts where both have some. What only one of them says
    /// (readout, grids, lens, verification) is no contradiction.
    pub fn contradicts(&self, other: &Self) -> bool {
        let both_read = self.has_readout() && other.has_readout();
        let both_have_grids = !self.grids.is_empty() && !other.grids.is_empty();
        let common = |document: &Self| Self {
            readout: document.readout.clone().filter(|_| both_read),
            baselines: document.baselines.clone().filter(|_| both_read),
            grids: match both_have_grids {
                true => document.grids.iter().map(CellGrid::without_readout).collect(),
                false => Vec::new(),
            },
            lens: Vec::new(),
            token_texts: TokenTexts::default(),
            // Of the same tokens another table may say other things.
            roles: None,
            row: BTreeMap::new(),
            settings: None,
            verification: None,
            provenance: None,
            extra: Map::new(),
            ..document.clone()
        };
        common(self) != common(other)
    }

    /// A number too large for `f32` is read as infinity; it is no value either.
    fn drop_non_finite(&mut self) {
        let grids = self.readout.iter_mut().flat_map(|r| [&mut r.p_true, &mut r.p_false]);
        for grid in grids.chain([&mut self.patching_results]) {
            *grid = grid.map(|value| Some(value).filter(|value| value.is_finite()));
        }
        let runs = self.baselines.iter_mut().flat_map(|b| [&mut b.source, &mut b.base]);
        let runs =
            runs.flat_map(|r| [&mut r.logit_diff, &mut r.p_true, &mut r.p_false, &mut r.p_top]);
        let verified = self.verification.iter_mut().flat_map(|v| {
            let rechecked = v.recheck.iter_mut().map(|recheck| &mut recheck.max_abs_diff);
            rechecked.chain([&mut v.max_abs_diff])
        });
        for value in runs.chain(verified) {
            *value = value.filter(|v| v.is_finite());
        }
        self.grids.iter_mut().for_each(CellGrid::drop_non_finite);
        self.lens.iter_mut().for_each(LensGrid::drop_non_finite);
    }

    /// The id must be fit for file names and pages, and the grid's shape what the labels say, or a
    /// viewer would draw nonsense.
    pub(crate) fn check(&self) -> Result<(), DocumentError> {
        if !is_id(&self.id) {
            return Err(DocumentError::BadId(self.id.chars().take(32).collect()));
        }
        self.check_shapes().map_err(DocumentError::Inconsistent)
    }

    fn check_shapes(&self) -> Result<(), String> {
        let shape = (self.num_layers, self.token_labels.len());
        if shape.0 == 0 || shape.1 == 0 {
            return Err(format!("it has {} layers and {} columns", shape.0, shape.1));
        }
        check_grid("patching_results", &self.patching_results, shape)?;
        if let Some(readout) = &self.readout {
            check_grid("readout.p_true", &readout.p_true, shape)?;
            check_grid("readout.p_false", &readout.p_false, shape)?;
            check_grid("readout.top_token", &readout.top_token, shape)?;
        }
        for (i, grid) in self.grids.iter().enumerate() {
            grid.check(self.num_layers).map_err(|why| format!("`grids[{i}]`: {why}"))?;
        }
        for (i, grid) in self.lens.iter().enumerate() {
            grid.check(self.num_layers).map_err(|why| format!("`lens[{i}]`: {why}"))?;
        }
        if let Some(roles) = &self.roles {
            for prompt in [Prompt::Base, Prompt::Source] {
                let (name, n) = (prompt.name(), prompt.tokens(self).len());
                if roles.of(prompt).len() != n {
                    let found = roles.of(prompt).len();
                    return Err(format!("`roles.{name}` has {found} roles for {n} tokens"));
                }
            }
        }
        let positions = &self.source_positions;
        if !positions.is_empty() && positions.len() != shape.1 {
            let found = positions.len();
            return Err(format!("`source_positions` has {found} for {} columns", shape.1));
        }
        let n_source = self.source_tokens.len();
        if let Some(at) = positions.iter().flatten().find(|at| **at >= n_source) {
            return Err(format!("`source_positions` has {at}, and the source {n_source} tokens"));
        }
        let n_base = self.base_tokens.len();
        if n_base > 0 && self.sentence_start.checked_add(shape.1) != Some(n_base) {
            return Err(format!(
                "{} columns from position {} do not end with the last of {n_base} tokens",
                shape.1, self.sentence_start
            ));
        }
        Ok(())
    }
}

/// Settings, as far as this version knows them.
pub(crate) fn known_settings<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Settings>, D::Error> {
    Ok(json::read(Value::deserialize(deserializer)?).ok())
}

/// Gives a file an id by its content.
fn make_id(object: &mut Map<String, Value>) -> Result<(), DocumentError> {
    let text = serde_json::to_string(&object).map_err(DocumentError::Damaged)?;
    object.insert("id".into(), content_id(&text).into());
    Ok(())
}

/// Takes the fields out that a document has no place for.
fn unknown(object: &mut Map<String, Value>) -> Map<String, Value> {
    // Every field is written always, so that this names them all.
    let known = json::fields(&Document::blank(0, vec![]));
    take_unknown(object, &|name| known.contains_key(name))
}

/// Takes the fields out that are not known.
pub(crate) fn take_unknown(
    object: &mut Map<String, Value>,
    is_known: &dyn Fn(&str) -> bool,
) -> Map<String, Value> {
    let names: Vec<_> = object.keys().filter(|name| !is_known(name)).cloned().collect();
    let mut unknown = Map::new();
    for name in names {
        let value = object.remove(&name).unwrap_or_default();
        unknown.insert(name, value);
    }
    unknown
}

/// A file of ours with the fields that [`take_unknown`] took out when it was read: JSON, one line and a
/// line break.
pub(crate) fn written(of: &impl Serialize, extra: &Map<String, Value>) -> String {
    let mut text = serde_json::to_string(of).expect("a file of ours has no map with odd keys");
    if !extra.is_empty() {
        let extra = serde_json::to_string(extra).expect("JSON has no odd keys");
        text.pop();
        text.push(',');
        text.push_str(&extra[1..]);
    }
    text.push('\n');
    text
}

fn schema_version(schema: &str) -> Option<u32> {
    schema.strip_prefix("patchboard/")?.parse().ok()
}

fn check_grid<T: Copy>(name: &str, grid: &Grid<T>, shape: (usize, usize)) -> Result<(), String> {
    if grid.n_rows() != shape.0 {
        return Err(format!("`{name}` has {} rows for {} layers", grid.n_rows(), shape.0));
    }
    match grid.rows().enumerate().find(|(_, values)| values.len() != shape.1) {
        Some((row, values)) => Err(format!(
            "`{name}` has {} values in row {row} for {} columns",
            values.len(),
            shape.1
        )),
        None => Ok(()),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "`null`",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an empty list",
        Value::Object(_) => "an object",
    }
}

/// Replaces the words NaN, Infinity and -Infinity outside strings by null.
pub(super) fn without_non_finite(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let (mut rest, mut in_string) = (bytes, false);
    while let Some(&byte) = rest.first() {
        let word = ["-Infinity", "Infinity", "NaN"].iter().find(|w| rest.starts_with(w.as_bytes()));
        let taken = match word {
            Some(word) if !in_string => {
                out.extend_from_slice(b"null");
                word.len()
            }
            _ => {
                in_string ^= byte == b'"';
                // An escaped quote does not end a string.
                let taken = if in_string && byte == b'\\' { rest.len().min(2) } else { 1 };
                out.extend_from_slice(&rest[..taken]);
                taken
            }
        };
        rest = &rest[taken..];
    }
    out
}
