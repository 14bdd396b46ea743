//! The result document, schema `patchboard/1`: what one experiment was and what came of it.
//!
//! One JSON object in UTF-8. It is a superset of the notebook's `patching_results.json`: the
//! fields up to [`Document::patching_results`] keep the notebook's names and meaning, so each
//! reads the other's files. A value that is not finite or was not run is `null`, never NaN; what a
//! file does not say is unknown, never the default.

mod grids;
pub(crate) mod read;
mod warnings;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

pub use self::grids::{
    AxisKeys, CellGrid, DocumentSpan, LensGrid, Place, Prompt, TokenTexts, TopToken,
};
pub use self::read::DocumentError;
use crate::specification::roles::Role;
use crate::specification::settings::Settings;
use crate::specification::vocabulary::{Align, Direction, Site};

/// The schema this version writes. It opens every older one and refuses newer ones.
pub const SCHEMA: &str = "patchboard/1";

pub use crate::grid::Grid;

/// One experiment and its result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Document {
    /// [`SCHEMA`].
    pub schema: String,
    /// 20 hexadecimal digits: a hash of what determines the numbers (model, tokens, swept
    /// positions, answers, site, alignment, dtype), so the same request is the same experiment. A
    /// file without one gets a hash of its content.
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
    /// activation at (layer, position) replaced by the source's. Where [`Self::answers`] are
    /// unknown, so are metric and unit: other tools write other numbers into this field.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Vec<Option<f32>>>))]
    pub patching_results: Grid<f32>,

    /// The template both prompts were made with; `null` where the table held full prompts.
    #[serde(default)]
    pub template: Option<String>,
    /// The activation that is replaced; `null` where unknown.
    #[serde(default)]
    pub site: Option<Site>,
    /// How prompts of unequal length were aligned; `null` where unknown.
    #[serde(default)]
    pub align: Option<Align>,
    /// Which of the pair's prompts was the source; `null` where unknown.
    #[serde(default)]
    pub direction: Option<Direction>,
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
    /// Everything that was measured, a grid each site and direction; empty in the notebook's files
    /// and those of earlier versions. The first whose cells are layers and positions is what the
    /// fields above hold; where there is none, their cells are `null`.
    #[serde(default)]
    pub grids: Vec<CellGrid>,
    /// The logit lens of both unpatched runs; empty where it was not asked for.
    #[serde(default)]
    pub lens: Vec<LensGrid>,
    /// The named sets of positions that the grids have.
    #[serde(default)]
    pub spans: Vec<DocumentSpan>,
    /// What each token of both prompts is in its prompt; `null` where unknown.
    #[serde(default)]
    pub roles: Option<Roles>,
    /// The pair's row of its table, by column; empty where there was none.
    #[serde(default)]
    pub row: BTreeMap<String, String>,
    /// For each column the source position that corresponds to it, an index into
    /// [`Self::source_tokens`]; `null` where none does, and then nothing is copied there. Empty in
    /// files of earlier versions, where positions correspond by their distance from the end.
    #[serde(default)]
    pub source_positions: Vec<Option<usize>>,
    /// The texts of all tokens that [`Self::grids`] name.
    #[serde(default)]
    pub token_texts: TokenTexts,
    /// What was asked for; `null` where unknown, or asked in a way that this version does not know.
    #[serde(default, deserialize_with = "read::known_settings")]
    pub settings: Option<Settings>,
    /// What was checked of the numbers while they were computed; `null` where nothing was.
    #[serde(default)]
    pub verification: Option<Verification>,
    /// What made the numbers; `null` where unknown.
    #[serde(default)]
    pub provenance: Option<Provenance>,
    /// The fields of the file that this version does not know. [`Self::to_json`] writes them back
    /// as they were; a flattened map would do so too, with several times the code.
    #[serde(skip)]
    #[cfg_attr(feature = "openapi", schema(ignore))]
    pub extra: Map<String, Value>,
}

/// What each token of a pair's prompts is, padding included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Roles {
    /// One for each of [`Document::base_tokens`].
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub base: Vec<Role>,
    /// One for each of [`Document::source_tokens`].
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub source: Vec<Role>,
}

impl Roles {
    /// Those of one prompt.
    pub fn of(&self, prompt: Prompt) -> &[Role] {
        match prompt {
            Prompt::Base => &self.base,
            Prompt::Source => &self.source,
        }
    }
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
    /// The answer as several tokens that the model is made to read one after the other, where it is
    /// measured so: its probability is the product of theirs. Then there are no [`Self::kept`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub continued: Vec<Token>,
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

impl Baselines {
    /// That of one prompt.
    pub fn of(&self, prompt: Prompt) -> &Baseline {
        match prompt {
            Prompt::Base => &self.base,
            Prompt::Source => &self.source,
        }
    }
}

/// The last position of one unpatched run. What is no finite number is `null`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Baseline {
    /// `log P(TRUE) - log P(FALSE)` in nats.
    pub logit_diff: Option<f32>,
    /// The probability of all kept variants of the true answer, 0 to 1.
    pub p_true: Option<f32>,
    /// The same of the false answer.
    pub p_false: Option<f32>,
    /// The most probable next token; `null` where the probabilities are no numbers.
    pub top_token: Option<Token>,
    /// Its probability, 0 to 1.
    pub p_top: Option<f32>,
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

/// What was checked of the numbers while they were computed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Verification {
    /// How many cells the naive engine ran again, one full forward pass each: as many as `--verify`
    /// asked for.
    pub n_cells: usize,
    /// The largest absolute difference of the metric, in nats; `null` where one of the two numbers
    /// of a cell was not finite, so that nothing is verified, or no cell was run again.
    pub max_abs_diff: Option<f32>,
    /// The largest change of the metric, in nats, when those cells write the receiving run's own
    /// activations, which must change nothing; `null` where that was not checked or came out as no
    /// number.
    #[serde(default)]
    pub self_patch: Option<f32>,
    /// How many cells that cannot matter the naive engine ran; `null` where that was not checked.
    #[serde(default)]
    pub n_unreachable: Option<usize>,
    /// Whether all of those equal the unpatched run to the bit; `null` likewise.
    #[serde(default)]
    pub unreachable_equal: Option<bool>,
    /// The largest difference, in nats, between the cells computed together with everything else
    /// and alone; `null` likewise.
    #[serde(default)]
    pub alone: Option<f32>,
    /// What the control cells of a sweep on a server showed; `null` where there were none.
    #[serde(default)]
    pub controls: Option<Controls>,
    /// What cells gave that were computed again in f32 on the CPU; `null` where none were.
    #[serde(default)]
    pub recheck: Option<Recheck>,
}

/// What cells gave that were computed again in f32 on the CPU, as `--recheck` asks for: how far
/// rounding in a narrower type, or another device, has taken the metric.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Recheck {
    /// How many of the cells that are farthest from the unpatched run.
    pub n_largest: usize,
    /// How many others, drawn at random.
    pub n_random: usize,
    /// The largest absolute difference of the metric, in nats; `null` where one of the two numbers
    /// of a cell was not finite.
    pub max_abs_diff: Option<f32>,
}

/// What control cells showed. Each wave of a sweep on a server has two cells more than were asked
/// for, of which it is known beforehand what they must give.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Controls {
    /// Waves whose control cells gave what they must.
    pub n_waves: usize,
    /// Waves whose control cells did not: they were thrown away and asked for again.
    pub n_discarded: usize,
    /// The largest change of the metric, in nats, by cells that write the receiving run's own
    /// activations, which must change nothing.
    pub self_patch: f32,
    /// The largest difference, in nats, between the other run and cells that copy its last position
    /// after the last layer, which must give that run.
    pub end_patch: f32,
}

impl Recheck {
    /// How many cells were computed again.
    pub fn n_cells(&self) -> usize {
        self.n_largest + self.n_random
    }
}

impl Controls {
    /// Adds what those of other waves showed.
    pub fn add(&mut self, other: Self) {
        self.n_waves += other.n_waves;
        self.n_discarded += other.n_discarded;
        self.self_patch = self.self_patch.max(other.self_patch);
        self.end_patch = self.end_patch.max(other.end_patch);
    }

    /// The largest difference of any control cell, in nats.
    pub fn largest(&self) -> f32 {
        self.self_patch.max(self.end_patch)
    }
}

/// What made the numbers, and at what cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Provenance {
    /// `patchboard` and its version, and those of the programs on a server.
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
    /// `cpu`, the accelerator, or `ndif` and a server.
    pub device: String,
    /// Seconds from the first layer to the last cell.
    pub wall_secs: f64,
    /// Floating-point operations done, a multiply-add counting two.
    pub operations: f64,
    /// When the sweep ended, in UTC, `2026-01-31T12:00:00Z`.
    pub finished_at: String,
}

/// What a result about `entity` is called.
pub fn title(entity: &str) -> &str {
    match entity.trim() {
        "" => "Activation patching",
        entity => entity,
    }
}

impl Document {
    /// The site in a reader's words.
    pub fn site_name(&self) -> &'static str {
        site_name(self.site)
    }

    /// The document as JSON text, one line and a line break.
    pub fn to_json(&self) -> String {
        read::written(self, &self.extra)
    }

    /// The position of the one prompt that corresponds to `position` of `prompt`; `None` where none
    /// does or tokens are unknown.
    pub fn counterpart(&self, prompt: Prompt, position: usize) -> Option<usize> {
        let (own, other) = (prompt.tokens(self).len(), prompt.other().tokens(self).len());
        let at = match (&self.source_positions[..], prompt) {
            ([], _) => other.checked_add(position)?.checked_sub(own),
            (known, Prompt::Base) => *known.get(position.checked_sub(self.sentence_start)?)?,
            (known, Prompt::Source) => {
                let column = known.iter().position(|at| *at == Some(position))?;
                Some(self.sentence_start + column)
            }
        };
        at.filter(|at| *at < other)
    }
}

/// A site in a reader's words.
pub fn site_name(site: Option<Site>) -> &'static str {
    site.map_or("site unknown", Site::name)
}

/// Whether `text` is a document's id: 20 hexadecimal digits in lower case. An id becomes part of
/// names of files, of addresses and of pages.
pub fn is_id(text: &str) -> bool {
    text.len() == 20 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// 20 hexadecimal digits of the SHA-256 of `text`.
pub fn content_id(text: &str) -> String {
    Sha256::digest(text).iter().take(10).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
