//! What is asked of every pair of a table. This is the one home of a setting: the command line's
//! options, the API's bodies and queries, the viewer's form and its links, and what a job stores
//! are all made from [`Settings`].

mod answers;
mod check;
mod list;
mod text;

use serde::{Deserialize, Serialize};

pub use answers::{AnswerPair, NotTwo};
pub use check::{Checked, SettingsError};
pub use list::{List, ListError};

use crate::specification::vocabulary::{Align, By, Directions, Site, Span, Written};

/// What is the same for all pairs of a table. Whether settings fit together is decided by
/// [`Settings::check`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema, utoipa::IntoParams))]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The prompt: a shipped template's name, or a text with `{sentence}` and, if wanted,
    /// `{entity}` or any column of the table, or `none` if the sentences are full prompts.
    // On the command line, a pair without an entity is two full prompts.
    #[cfg_attr(feature = "cli", arg(
        long, value_name = "NAME|TEXT|none", default_value = "notebook", hide_default_value = true,
        default_value_ifs([("entity", clap::builder::ArgPredicate::IsPresent, "notebook"),
            ("pair", clap::builder::ArgPredicate::IsPresent, "none")]),
    ))]
    #[cfg_attr(feature = "openapi", param(required = false))]
    pub template: String,

    /// The two answers that are compared, e.g. `TRUE,FALSE` or `{entity},{other}` with columns of
    /// the table. Without it the columns `true_answer` and `false_answer` where a row has them,
    /// and else TRUE and FALSE.
    #[cfg_attr(feature = "cli", arg(long, value_name = "TRUE,FALSE"))]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<[String; 2]>))]
    #[cfg_attr(feature = "openapi", param(value_type = Option<String>))]
    pub answers: Option<AnswerPair>,

    /// Take the answers as written instead of every variant in case and leading space.
    #[cfg_attr(feature = "cli", arg(long))]
    #[cfg_attr(feature = "openapi", param(required = false))]
    pub exact_answers: bool,

    /// What is patched, one or several: resid_pre, attn_out, resid_mid, mlp_out or resid_post, or q,
    /// k, v or z of single heads.
    #[serde(rename = "site", alias = "sites")]
    #[cfg_attr(feature = "cli", arg(long = "site", value_name = "SITE,...", default_value_t))]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Site>, inline))]
    #[cfg_attr(feature = "openapi", param(value_type = Vec<Site>, inline, required = false))]
    pub sites: List<Site>,

    /// What the cells of q, k, v and z are: head, one head at all swept positions together, or
    /// position, one head at one position. Queries and z are counted by query head, keys and values
    /// by key head.
    #[cfg_attr(feature = "cli", arg(long, default_value_t))]
    #[cfg_attr(feature = "openapi", schema(inline), param(inline, required = false))]
    pub by: By,

    /// Which positions a cell patches: each by itself, or the named sets entity, differing,
    /// sentence and all, a column each.
    #[cfg_attr(feature = "cli", arg(long, value_name = "each|SPAN,...", default_value_t))]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Span>, inline))]
    #[cfg_attr(feature = "openapi", param(value_type = Vec<Span>, inline, required = false))]
    pub positions: List<Span>,

    /// How many layers a cell patches at a time, its own in the middle (arXiv 2202.05262 takes 10).
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", default_value_t = 1))]
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    #[cfg_attr(feature = "openapi", param(required = false, minimum = 1))]
    pub window: usize,

    /// What is written: source (the other prompt's activation), zero, or mean (over the swept
    /// positions of all prompts of the table).
    #[cfg_attr(feature = "cli", arg(long, value_name = "WHAT", default_value_t))]
    #[cfg_attr(feature = "openapi", schema(inline), param(inline, required = false))]
    pub write: Written,

    /// How prompts of unequal length are aligned: pad (on the left, attended to, as in the
    /// notebook) or right (unpadded, by the distance from the end).
    #[cfg_attr(feature = "cli", arg(long, default_value_t))]
    #[cfg_attr(feature = "openapi", schema(inline), param(inline, required = false))]
    pub align: Align,

    /// Which prompt supplies: denoising patches the source into the base, noising the base into
    /// the source, and both do both.
    #[cfg_attr(feature = "cli", arg(long, default_value_t))]
    #[cfg_attr(feature = "openapi", schema(inline), param(inline, required = false))]
    pub direction: Directions,

    /// Causal tracing: the base is the source prompt with Gaussian noise on the embeddings of
    /// entity, differing, sentence or all.
    #[cfg_attr(feature = "cli", arg(long, value_name = "SPAN"))]
    #[cfg_attr(feature = "openapi", schema(inline), param(inline))]
    pub noise: Option<Span>,

    /// The noise's standard deviation, in standard deviations of the token embeddings.
    #[cfg_attr(feature = "cli", arg(long, value_name = "X", default_value_t = 3.0))]
    #[cfg_attr(feature = "openapi", param(required = false))]
    pub noise_scale: f64,

    /// Over how many draws of noise each cell is averaged.
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", default_value_t = 10))]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 100))]
    #[cfg_attr(feature = "openapi", param(required = false, minimum = 1, maximum = 100))]
    pub noise_seeds: usize,

    /// How many of the most probable tokens are kept of every cell.
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", default_value_t = 1))]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 50))]
    #[cfg_attr(feature = "openapi", param(required = false, minimum = 1, maximum = 50))]
    pub top: usize,

    /// Read every layer and position of both unpatched runs as if it were the last (logit lens).
    #[cfg_attr(feature = "cli", arg(long))]
    #[cfg_attr(feature = "openapi", param(required = false))]
    pub lens: bool,

    /// Whether to read the whole vocabulary at every cell: probabilities, ranks, divergences and
    /// top tokens.
    #[cfg_attr(feature = "cli", arg(
        long = "no-readout", action = clap::ArgAction::SetFalse,
        help = "Do not read the whole vocabulary at every cell: no probabilities, ranks, \
                divergences and top tokens, a little faster",
    ))]
    #[cfg_attr(feature = "openapi", param(required = false))]
    pub readout: bool,

    /// Run N random cells of each sweep again by the naive engine, and write the largest
    /// difference into the result.
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", default_value_t = 0))]
    #[cfg_attr(feature = "openapi", param(required = false))]
    pub verify: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            template: "notebook".into(),
            answers: None,
            exact_answers: false,
            sites: List::default(),
            by: By::default(),
            positions: List::default(),
            window: 1,
            write: Written::default(),
            align: Align::default(),
            direction: Directions::default(),
            noise: None,
            noise_scale: 3.0,
            noise_seeds: 10,
            top: 1,
            lens: false,
            readout: true,
            verify: 0,
        }
    }
}

#[cfg(test)]
mod tests;
