//! The result document, schema `patchboard/1`: what one experiment was and what came of it.
//!
//! One JSON object in UTF-8. It is a superset of the notebook's `patching_results.json`: the
//! fields up to [`Document::patching_results`] keep the notebook's names and meaning, so each
//! reads the other's files. A value that is not finite or was not run is `null`, never NaN.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::stats::{LOW_ANSWER_MASS, WEAK_CONTRAST};
use crate::vocabulary::{Align, Direction, Site};

/// The schema this version writes. It opens every older one and refuses newer ones.
pub const SCHEMA: &str = "patchboard/1";

/// A grid of one value per cell, `[layer][position]`; `None` where there is no value.
pub type Grid<T> = Vec<Vec<Option<T>>>;

/// One experiment and its result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Document {
    /// [`SCHEMA`].
    pub schema: String,
    /// 20 hexadecimal digits: a hash of what determines the numbers (model, tokens, swept
    /// positions, answers, site, alignment, dtype), so the same request is the same experiment.
    pub id: String,
    /// The model's name, e.g. `SmolLM2-135M-Instruct`.
    pub model: String,
    /// What both sentences are about; may be empty.
    pub entity: String,
    /// The prompt whose activations are patched in.
    pub source_prompt: String,
    /// The prompt that receives them.
    pub base_prompt: String,
    /// The sentence within [`Self::source_prompt`]; the whole prompt where there is no template.
    pub source_sentence: String,
    /// The sentence within [`Self::base_prompt`]; the whole prompt where there is no template.
    pub base_sentence: String,
    /// The base position of the first column: an index into [`Self::base_tokens`].
    pub sentence_start: usize,
    /// The base's token at each swept position, one per column. Texts repeat: the key of a column
    /// is its position.
    pub token_labels: Vec<String>,
    /// How many layers the model has: the rows of every grid.
    pub num_layers: usize,
    /// `log P(TRUE) - log P(FALSE)` in nats at the last position, for the base run with the
    /// activation at (layer, position) replaced by the source's.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Vec<Option<f32>>>))]
    pub patching_results: Grid<f32>,

    /// The template both prompts were made with; `null` where the table held full prompts.
    #[serde(default)]
    pub template: Option<String>,
    /// The activation that is replaced.
    #[serde(default)]
    pub site: Site,
    /// How prompts of unequal length were aligned.
    #[serde(default)]
    pub align: Align,
    /// Which of the pair's prompts was the source.
    #[serde(default)]
    pub direction: Direction,
    /// The source run's tokens as the model read them, padding and special tokens included. Empty
    /// where unknown (the notebook's files).
    #[serde(default)]
    pub source_tokens: Vec<Token>,
    /// The base run's tokens, likewise.
    #[serde(default)]
    pub base_tokens: Vec<Token>,
    /// How many of [`Self::source_tokens`] are padding on the left.
    #[serde(default)]
    pub source_padding: usize,
    /// How many of [`Self::base_tokens`] are padding on the left.
    #[serde(default)]
    pub base_padding: usize,
    /// The answers that the metric compares; `null` where unknown.
    #[serde(default)]
    pub answers: Option<Answers>,
    /// The unpatched runs; `null` where unknown.
    #[serde(default)]
    pub baselines: Option<Baselines>,
    /// The full-vocabulary readout of every cell; `null` where it was switched off.
    #[serde(default)]
    pub readout: Option<Readout>,
    /// What a re-run of some cells by the naive engine showed; `null` where none was asked for.
    #[serde(default)]
    pub verification: Option<Verification>,
    /// What made the numbers; `null` where unknown.
    #[serde(default)]
    pub provenance: Option<Provenance>,
}

/// A token as the model's vocabulary has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Token {
    /// The index into the vocabulary.
    pub id: u32,
    /// The text, leading space included; a token that is no whole character is shown as `<0xE2>`.
    pub text: String,
}

/// The two answers of the metric.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Answers {
    /// The answer that counts for: TRUE in the notebook.
    #[serde(rename = "true")]
    pub true_answer: Answer,
    /// The answer that counts against: FALSE in the notebook.
    #[serde(rename = "false")]
    pub false_answer: Answer,
}

/// One answer word and the tokens that count as it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Answer {
    /// The word as it was asked for.
    pub word: String,
    /// The variants that are a single token; their probabilities are summed.
    pub kept: Vec<Token>,
    /// The variants that are more than one token, which cannot count.
    pub dropped: Vec<String>,
}

/// The metric on both unpatched runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Baselines {
    /// The source run.
    pub source: Baseline,
    /// The base run.
    pub base: Baseline,
}

/// The last position of one unpatched run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Baseline {
    /// `log P(TRUE) - log P(FALSE)` in nats.
    pub logit_diff: f32,
    /// The probability of all kept variants of the true answer, 0 to 1.
    pub p_true: f32,
    /// The same of the false answer.
    pub p_false: f32,
    /// The most probable next token.
    pub top_token: Token,
    /// Its probability, 0 to 1.
    pub p_top: f32,
}

/// What the whole vocabulary says at the last position of every patched run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Readout {
    /// The probability of all kept variants of the true answer, 0 to 1.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Vec<Option<f32>>>))]
    pub p_true: Grid<f32>,
    /// The same of the false answer.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Vec<Option<f32>>>))]
    pub p_false: Grid<f32>,
    /// The id of the most probable next token.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Vec<Option<u32>>>))]
    pub top_token: Grid<u32>,
    /// The text of every id in [`Self::top_token`].
    pub top_token_labels: BTreeMap<u32, String>,
}

/// The outcome of `--verify N`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Verification {
    /// How many cells the naive engine ran again, one full forward pass each.
    pub n_cells: usize,
    /// The largest absolute difference of the metric, in nats.
    pub max_abs_diff: f32,
}

/// What made the numbers, and at what cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Provenance {
    /// `patchboard` and its version.
    pub engine: String,
    /// Tells two models apart: a hash of the configuration, the tensor table and samples of the
    /// weights.
    pub model_fingerprint: String,
    /// The commit of a model of the Hugging Face hub; `null` for any other.
    #[serde(default)]
    pub model_revision: Option<String>,
    /// The architecture as the model's own files name it, e.g. `llama`.
    pub architecture: String,
    /// How the weights were stored, e.g. `BF16` or `Q4_1`.
    pub weights_dtype: String,
    /// The type that was computed in, e.g. `f32`.
    pub dtype: String,
    /// `cpu`, or the accelerator.
    pub device: String,
    /// Seconds from the first layer to the last cell.
    pub wall_secs: f64,
    /// Floating-point operations done, a multiply-add counting two.
    pub operations: f64,
    /// When the sweep ended, in UTC, `2026-01-31T12:00:00Z`.
    pub finished_at: String,
}

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
    /// The fields contradict each other.
    #[error("the result document contradicts itself: {0}")]
    Inconsistent(String),
}

/// What a result about `entity` is called.
pub fn title(entity: &str) -> &str {
    match entity.trim() {
        "" => "Activation patching",
        entity => entity,
    }
}

impl Document {
    /// Reads a file: one document, the notebook's result, or a JSON array of either.
    ///
    /// # Errors
    /// [`DocumentError`], which says what was found and what was expected.
    pub fn read(bytes: &[u8]) -> Result<Vec<Self>, DocumentError> {
        let value = match serde_json::from_slice(bytes) {
            Ok(value) => value,
            // Python's json module writes bare NaN and Infinity, which JSON does not know.
            Err(error) => serde_json::from_slice(&without_non_finite(bytes))
                .map_err(|_| DocumentError::NotJson(error))?,
        };
        match value {
            serde_json::Value::Array(values) if !values.is_empty() => {
                values.into_iter().map(Self::from_value).collect()
            }
            value => Ok(vec![Self::from_value(value)?]),
        }
    }

    fn from_value(mut value: serde_json::Value) -> Result<Self, DocumentError> {
        let Some(object) = value.as_object_mut() else {
            return Err(DocumentError::NotADocument(kind(&value).to_string()));
        };
        match object.get("schema").and_then(|s| s.as_str()) {
            Some(SCHEMA) => {}
            Some(found) if schema_version(found).is_some_and(|v| v > 1) => {
                return Err(DocumentError::Newer { found: found.to_string() });
            }
            Some(found) => {
                return Err(DocumentError::NotADocument(format!("the schema `{found}`")));
            }
            None if object.contains_key("patching_results") => {
                let text = serde_json::to_string(&object).map_err(DocumentError::Damaged)?;
                object.insert("schema".into(), SCHEMA.into());
                object.insert("id".into(), content_id(&text).into());
            }
            None => {
                let keys: Vec<_> = object.keys().take(6).map(|k| format!("`{k}`")).collect();
                let keys = if keys.is_empty() { "no fields".into() } else { keys.join(", ") };
                return Err(DocumentError::NotADocument(format!("a JSON object with {keys}")));
            }
        }
        let document: Self = serde_json::from_value(value).map_err(DocumentError::Damaged)?;
        document.check().map_err(DocumentError::Inconsistent)?;
        Ok(document)
    }

    /// The grid's shape must be what the labels say, or a viewer would draw nonsense.
    pub(crate) fn check(&self) -> Result<(), String> {
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
        let n_base = self.base_tokens.len();
        if n_base > 0 && self.sentence_start.checked_add(shape.1) != Some(n_base) {
            return Err(format!(
                "{} columns from position {} do not end with the last of {n_base} tokens",
                shape.1, self.sentence_start
            ));
        }
        Ok(())
    }

    /// The document as JSON text, one line and a line break.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string(self).expect("a document has no map with odd keys");
        text.push('\n');
        text
    }

    /// The source token whose activation goes into column `column`; `None` where tokens are
    /// unknown.
    pub fn source_token(&self, column: usize) -> Option<&Token> {
        let from_end = self.token_labels.len().checked_sub(column)?;
        self.source_tokens.get(self.source_tokens.len().checked_sub(from_end)?)
    }

    /// What a reader should know before trusting the picture, a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Self::warnings_of(self.baselines.as_ref(), self.answers.as_ref());
        let n_source = self.source_tokens.len().saturating_sub(self.source_padding);
        let n_base = self.base_tokens.len().saturating_sub(self.base_padding);
        warnings.extend(Self::length_warning(n_source, n_base, self.align));
        warnings
    }

    /// What becomes of prompts of these lengths in tokens, padding left out; `None` where they have
    /// the same.
    pub fn length_warning(n_source: usize, n_base: usize, align: Align) -> Option<String> {
        let how = match align {
            Align::Pad => {
                "the shorter prompt is padded on the left, and the padding is attended to, as in \
                 the notebook (alignment `right` does without)"
            }
            Align::Right => "positions correspond by their distance from the end",
        };
        (n_source != n_base).then(|| {
            format!(
                "unequal lengths: the source has {n_source} tokens and the base {n_base}; {how}"
            )
        })
    }

    /// The same, of baselines and answers that may not be in a document yet.
    pub fn warnings_of(baselines: Option<&Baselines>, answers: Option<&Answers>) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(baselines) = baselines {
            let contrast = (baselines.source.logit_diff - baselines.base.logit_diff).abs();
            if contrast < WEAK_CONTRAST {
                warnings.push(format!(
                    "weak contrast: source and base differ by only {contrast:.2}, so the model \
                     hardly tells them apart and the grid shows little but noise"
                ));
            }
            let mass = [&baselines.source, &baselines.base].map(|b| b.p_true + b.p_false);
            let mass = mass[0].min(mass[1]);
            if mass < LOW_ANSWER_MASS {
                warnings.push(format!(
                    "low answer mass: the answers get {:.1} % of the probability, so the model is \
                     mostly saying something else",
                    100.0 * mass
                ));
            }
        }
        for answer in answers.iter().flat_map(|a| [&a.true_answer, &a.false_answer]) {
            // Other variants are bound to be dropped; this is the one that a model would write.
            if answer.dropped.contains(&format!(" {}", answer.word)) {
                warnings.push(format!(
                    "the answer {:?} is more than one token as it is written: only other variants \
                     of it count",
                    answer.word
                ));
            }
        }
        warnings
    }
}

/// 20 hexadecimal digits of the SHA-256 of `text`.
pub fn content_id(text: &str) -> String {
    Sha256::digest(text).iter().take(10).map(|byte| format!("{byte:02x}")).collect()
}

fn schema_version(schema: &str) -> Option<u32> {
    schema.strip_prefix("patchboard/")?.parse().ok()
}

fn check_grid<T>(name: &str, grid: &Grid<T>, shape: (usize, usize)) -> Result<(), String> {
    if grid.len() != shape.0 {
        return Err(format!("`{name}` has {} rows for {} layers", grid.len(), shape.0));
    }
    match grid.iter().position(|row| row.len() != shape.1) {
        Some(row) => Err(format!(
            "`{name}` has {} values in row {row} for {} columns",
            grid[row].len(),
            shape.1
        )),
        None => Ok(()),
    }
}

fn kind(value: &serde_json::Value) -> &'static str {
    match value {
        serde_json::Value::Null => "`null`",
        serde_json::Value::Bool(_) => "a truth value",
        serde_json::Value::Number(_) => "a number",
        serde_json::Value::String(_) => "a text",
        serde_json::Value::Array(_) => "an empty list",
        serde_json::Value::Object(_) => "an object",
    }
}

/// Replaces the words NaN, Infinity and -Infinity outside strings by null.
fn without_non_finite(bytes: &[u8]) -> Vec<u8> {
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

#[cfg(test)]
mod tests {
    use super::*;

    const NOTEBOOK: &str = r#"{"model": "meta-llama/Llama-3.1-8B", "entity": "the \"NaN\" band",
        "source_prompt": "S a b", "base_prompt": "S a c", "source_sentence": "a b",
        "base_sentence": "a c", "sentence_start": 3, "token_labels": ["a", " c"], "num_layers": 2,
        "patching_results": [[0.5, NaN], [-1.25, -Infinity]]}"#;

    fn read_one(text: &str) -> Result<Document, String> {
        Document::read(text.as_bytes())
            .map(|mut documents| documents.remove(0))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn reads_the_notebooks_file_and_writes_a_superset_of_it() {
        let document = read_one(NOTEBOOK).unwrap();
        assert_eq!(document.entity, "the \"NaN\" band");
        assert_eq!(document.patching_results, [[Some(0.5), None], [Some(-1.25), None]]);
        assert_eq!(document.site, Site::ResidPost);
        assert_eq!(document.id.len(), 20);
        assert_eq!(read_one(&document.to_json()).unwrap(), document);

        let ours: serde_json::Value = serde_json::from_str(&document.to_json()).unwrap();
        let theirs: serde_json::Value =
            serde_json::from_slice(&without_non_finite(NOTEBOOK.as_bytes())).unwrap();
        for (key, value) in theirs.as_object().unwrap() {
            assert_eq!(&ours[key], value, "{key}");
        }
        assert!(document.to_json().starts_with(r#"{"schema":"patchboard/1","#));
    }

    #[test]
    fn reads_a_list_of_results() {
        let list = format!("[{NOTEBOOK}, {NOTEBOOK}]");
        assert_eq!(Document::read(list.as_bytes()).unwrap().len(), 2);
    }

    #[test]
    fn refuses_what_is_no_document_and_says_what_it_found() {
        let cases = [
            ("%PDF-1.4", "expected a result document in JSON, found something else"),
            ("[]", "found an empty list"),
            ("3", "found a number"),
            ("{}", "found a JSON object with no fields"),
            (r#"{"layers": 3, "x": 1}"#, "found a JSON object with `layers`, `x`"),
            (
                r#"{"schema": "patchboard/2"}"#,
                "the schema `patchboard/2`, and this version reads up to `patchboard/1`",
            ),
            (r#"{"schema": "other/1"}"#, "found the schema `other/1`"),
            (r#"{"patching_results": [[1.0]]}"#, "damaged: missing field `model`"),
            (
                &NOTEBOOK.replace("\"num_layers\": 2", "\"num_layers\": 3"),
                "`patching_results` has 2 rows for 3 layers",
            ),
            (
                &NOTEBOOK.replace("[0.5, NaN]", "[0.5]"),
                "`patching_results` has 1 values in row 0 for 2 columns",
            ),
            (&NOTEBOOK.replace("[\"a\", \" c\"]", "[]"), "2 layers and 0 columns"),
        ];
        for (text, expected) in cases {
            let error = read_one(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn warns_of_weak_contrast_low_mass_and_dropped_variants() {
        let baseline = |logit_diff| Baseline {
            logit_diff,
            p_true: 0.02,
            p_false: 0.02,
            top_token: Token { id: 1, text: " Yes".into() },
            p_top: 0.3,
        };
        let answer = |word: &str, dropped: &[&str]| Answer {
            word: word.into(),
            kept: vec![Token { id: 7, text: format!(" {word}") }],
            dropped: dropped.iter().map(ToString::to_string).collect(),
        };
        let mut document = read_one(NOTEBOOK).unwrap();
        assert!(document.warnings().is_empty());
        document.baselines = Some(Baselines { source: baseline(0.1), base: baseline(0.0) });
        document.answers = Some(Answers {
            true_answer: answer("TRUE", &[" TRUE", "true"]),
            false_answer: answer("FALSE", &["False"]),
        });
        let warnings = document.warnings();
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert!(warnings[0].starts_with("weak contrast: source and base differ by only 0.10"));
        assert!(warnings[1].starts_with("low answer mass: the answers get 4.0 %"));
        assert!(
            warnings[2].starts_with("the answer \"TRUE\" is more than one token as it is written")
        );
        document.answers = None;
        let token = |id| Token { id, text: "x".into() };
        document.source_tokens = vec![token(0), token(0), token(1)];
        document.base_tokens = vec![token(2), token(3), token(1)];
        document.source_padding = 2;
        assert_eq!(
            document.warnings()[2],
            "unequal lengths: the source has 1 tokens and the base 3; the shorter prompt is padded \
             on the left, and the padding is attended to, as in the notebook (alignment `right` does \
             without)"
        );
    }
}
