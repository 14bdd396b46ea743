//! The study document, schema `patchboard/2.0`: what a table of pairs showed, pooled over pairs.
//!
//! A manifest in JSON, [`Study`], holds what was asked, the pairs, and for every grid the statistics
//! of its cells over pairs. The values of the single pairs are in a file beside it that numpy reads,
//! see [`values`]. What is no finite number is `null`.

mod build;
mod compare;
mod field;
mod handover;
mod pool;
mod read;
mod summary;
pub mod table;
pub mod values;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::build::{BuildError, Builder, Options};
pub use self::compare::CompareError;
pub use self::field::{Shown, Statistic};
pub use self::pool::Pooled;
pub use self::read::StudyError;
use crate::document::read::known_settings;
use crate::document::{Prompt, Provenance};
use crate::specification::roles::Role;
use crate::specification::settings::Settings;
use crate::specification::vocabulary::{Direction, Site, Span, Written, named};
use crate::statistics::Method;

/// The schema this version writes: a later minor version only adds fields, which are kept.
pub const SCHEMA: &str = "patchboard/2.0";

/// A table of pairs, and what it showed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Study {
    /// [`SCHEMA`].
    pub schema: String,
    /// 20 hexadecimal digits: a hash of the pairs' ids and of how they were pooled.
    pub id: String,
    /// What it is called.
    pub title: String,
    /// What its author says of it, in Markdown; may be empty.
    #[serde(default)]
    pub text: String,
    /// The model's name.
    pub model: String,
    /// How many layers the model has.
    pub num_layers: usize,
    /// The answers that are compared, the one that counts for first; `null` where pairs have
    /// different ones.
    #[serde(default)]
    pub answers: Option<[String; 2]>,
    /// What was asked of every pair; `null` where pairs were asked different things, or in a way that
    /// this version does not know.
    #[serde(default, deserialize_with = "known_settings")]
    pub settings: Option<Settings>,
    /// Which pairs count.
    pub rule: Rule,
    /// How intervals and tests were computed, as [`crate::statistics`] says.
    pub method: Method,
    /// The column of the table whose values make groups; `null` where there are none.
    #[serde(default)]
    pub group_by: Option<String>,
    /// The pairs in the table's order, those that were left out too.
    pub pairs: Vec<StudyPair>,
    /// What was measured, a grid each site and direction.
    pub grids: Vec<StudyGrid>,
    /// Where the single pairs' values are; `null` where they were left out.
    #[serde(default)]
    pub values: Option<values::Place>,
    /// What made the numbers: each engine, model and device once, with the sums of what they cost.
    #[serde(default)]
    pub provenance: Vec<Provenance>,
    /// The fields of the file that this version does not know, which are written back as they were.
    #[serde(skip)]
    #[cfg_attr(feature = "openapi", schema(ignore))]
    pub extra: Map<String, Value>,
}

named! {
    /// Which pairs of a table count.
    Keep, "rule" {
        /// Those whose contrast, the metric of the run that should say the true answer less that of
        /// the other, is at least [`Rule::min_contrast`].
        #[default]
        Contrast = "contrast",
        /// Those of which the model gets both prompts right: the metric has the right sign.
        Right = "right",
        /// All of which the contrast is known.
        All = "all",
    }
}

/// The rule by which pairs count.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Rule {
    /// Which kind of rule.
    pub keep: Keep,
    /// The least contrast in nats, for [`Keep::Contrast`].
    pub min_contrast: f32,
}

/// One pair of the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StudyPair {
    /// The id of its result document.
    pub id: String,
    /// What both sentences are about; may be empty.
    pub entity: String,
    /// Its row of the table, by column; empty where there was none.
    #[serde(default)]
    pub row: BTreeMap<String, String>,
    /// Why it does not count; `null` where it does.
    #[serde(default)]
    pub left_out: Option<String>,
    /// What a reader should know of it, a sentence each.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Its base.
    pub base: StudyPrompt,
    /// Its source.
    pub source: StudyPrompt,
}

impl StudyPair {
    /// One of its prompts.
    pub fn of(&self, prompt: Prompt) -> &StudyPrompt {
        match prompt {
            Prompt::Base => &self.base,
            Prompt::Source => &self.source,
        }
    }
}

/// A pair's prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StudyPrompt {
    /// The sentence; the whole prompt where there is no template.
    pub sentence: String,
    /// The metric of the unpatched run in nats; `null` where unknown.
    pub logit_diff: Option<f32>,
    /// The tokens at the swept positions, as the tokenizer has them; the last is the prompt's.
    pub tokens: Vec<String>,
    /// What each of those is in its prompt.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub roles: Vec<Role>,
}

/// What was measured at a site in a direction, pooled over pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StudyGrid {
    /// The activation that is patched.
    pub site: Site,
    /// Which of a pair's prompts supplies activations.
    pub direction: Direction,
    /// How many layers a cell patches at a time, its own in the middle.
    pub window: usize,
    /// What is written.
    pub write: Written,
    /// Which of a pair's prompts receives.
    pub receiver: Prompt,
    /// What varies, the slowest first: layers, heads where there are any, and columns.
    pub axes: Vec<StudyAxis>,
    /// The statistics of the cells: of all pairs first, then of each group.
    pub summaries: Vec<Summary>,
    /// What groups, or this study and another, differ by.
    #[serde(default)]
    pub differences: Vec<StudyDifference>,
}

/// The keys along an axis of a study.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "axis", content = "keys", rename_all = "snake_case")]
pub enum StudyAxis {
    /// Layers from 0; of a window, its middle.
    Layer(Vec<usize>),
    /// Heads from 0: query heads of `q` and `z`, key heads of `k` and `v`.
    Head(Vec<usize>),
    /// Roles of tokens: a pair's value is the mean over its positions of that role.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    Role(Vec<Role>),
    /// Named sets of positions, patched together.
    Span(Vec<Span>),
}

impl StudyAxis {
    /// How many keys it has.
    pub fn len(&self) -> usize {
        match self {
            Self::Layer(keys) | Self::Head(keys) => keys.len(),
            Self::Role(keys) => keys.len(),
            Self::Span(keys) => keys.len(),
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A group of a study's pairs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Group {
    /// The column of the table.
    pub column: String,
    /// What the group's pairs have there.
    pub value: String,
}

/// Statistics of all cells over pairs, in row-major order of the axes: the last varies fastest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Summary {
    /// Which pairs; `null` for all that count.
    #[serde(default)]
    pub group: Option<Group>,
    /// How many pairs count.
    pub n_pairs: usize,
    /// The change of the metric by the patch, in nats.
    pub effect: Effect,
    /// The mean effect divided by the mean contrast between the two unpatched runs: the share of the
    /// gap that the patch closes.
    pub recovery: Ratio,
    /// Where along the layers the last position takes over; `null` where it does not, or columns are
    /// no roles.
    #[serde(default)]
    pub handover: Option<Handover>,
}

/// A number for each cell; `null` where it has none.
pub type Cells = Vec<Option<f32>>;

/// The effects of cells over pairs, in nats.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Effect {
    /// How many pairs have a value.
    pub n: Vec<usize>,
    /// Their mean.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Option<f32>>))]
    pub mean: Cells,
    /// Their median.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Option<f32>>))]
    pub median: Cells,
    /// Their standard deviation, divided by n - 1.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Option<f32>>))]
    pub sd: Cells,
    /// The lower end of the mean's 95 % bootstrap interval over pairs.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Option<f32>>))]
    pub low: Cells,
    /// Its upper end.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Option<f32>>))]
    pub high: Cells,
    /// Of the hypothesis that the mean is 0, of each cell by itself, by flipping signs.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Option<f32>>))]
    pub p: Cells,
    /// The same of all cells together (max-T): where no cell has an effect, one is below 0.05 with
    /// probability 0.05.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Option<f32>>))]
    pub p_family: Cells,
    /// [`Self::p`] adjusted by Benjamini and Hochberg, so that of the cells below 0.05 about 5 % are
    /// false.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Option<f32>>))]
    pub q: Cells,
}

/// An estimate of each cell with its 95 % bootstrap interval over pairs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Ratio {
    /// The estimate.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Option<f32>>))]
    pub value: Cells,
    /// The interval's lower end.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Option<f32>>))]
    pub low: Cells,
    /// Its upper end.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Option<f32>>))]
    pub high: Cells,
}

/// Where along the layers a patch at the last position comes to matter as much as one where the
/// prompts differ.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Handover {
    /// The role whose effect is the largest of all but the last position's at any layer.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub from: Role,
    /// The first layer from which on the mean effect at the last position is at least as large.
    pub layer: usize,
    /// The 95 % percentile interval of that layer over pairs drawn anew; `null` for fewer than
    /// [`crate::statistics::MIN_PAIRS`] pairs, or where it is not found in more than 1 in 200 draws.
    #[serde(default)]
    pub interval: Option<[usize; 2]>,
}

/// Whose values: a study's, or a group's of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Whose {
    /// The other study; `null` for this one.
    #[serde(default)]
    pub study: Option<OtherStudy>,
    /// The group; `null` for all pairs that count.
    #[serde(default)]
    pub group: Option<Group>,
}

/// A study that this one is compared with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OtherStudy {
    /// Its id.
    pub id: String,
    /// What it is called.
    pub title: String,
    /// Its model.
    pub model: String,
}

/// What two groups of pairs, or two studies, differ by, in the cells that both have; in the order of
/// the grid's cells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StudyDifference {
    /// Whose values.
    pub of: Whose,
    /// Whose values are taken from those.
    pub less: Whose,
    /// Whether both measured the same pairs, of which then only those count that both have.
    pub is_paired: bool,
    /// How many pairs of each there are.
    pub n_pairs: [usize; 2],
    /// The difference of the mean effects, in nats.
    pub effect: Ratio,
    /// The difference of the recoveries.
    pub recovery: Ratio,
}

impl Study {
    /// How many pairs count.
    pub fn n_kept(&self) -> usize {
        self.pairs.iter().filter(|pair| pair.left_out.is_none()).count()
    }

    /// Which pairs count and how many were left out, in a sentence.
    pub fn counted(&self) -> String {
        let (n, n_kept) = (self.pairs.len(), self.n_kept());
        let rule = match self.rule.keep {
            Keep::Contrast => {
                format!("those with a contrast of at least {}", self.rule.min_contrast)
            }
            Keep::Right => "those of which the model gets both prompts right".into(),
            Keep::All => "all with known baselines".into(),
        };
        format!("{n_kept} of {n} pairs count: {rule}")
    }
}

#[cfg(test)]
mod tests;
