//! What a server says of itself and of what it has: models, limits, pages of experiments.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::specification::vocabulary::{Site, named};
use crate::wire::gallery::Entry;

named! {
    /// What visitors may do.
    Access, "access" {
        /// Everything: only this machine reaches the server.
        #[default]
        Open = "open",
        /// Look, and nothing else.
        ReadOnly = "read_only",
        /// Look; whatever changes or computes something needs the token, as
        /// `Authorization: Bearer TOKEN`.
        Token = "token",
    }
}

/// A server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServerInfo {
    /// Patchboard's version.
    pub version: String,
    /// What visitors may do.
    pub access: Access,
    /// Whether results can be stored; where they cannot, nothing new is accepted.
    pub writable: bool,
    /// The models to choose from, the default first.
    pub models: Vec<ModelInfo>,
    /// The templates that ship with Patchboard.
    pub templates: Vec<NamedTemplate>,
    /// What is refused beyond.
    pub limits: Limits,
}

/// A model to choose from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ModelInfo {
    /// Its name, by which it is asked for.
    pub name: String,
    /// Its architecture, e.g. `llama`.
    pub architecture: String,
    /// Tells it from any other.
    pub fingerprint: String,
    /// How its weights are stored.
    pub weights_dtype: String,
    /// The type that it is computed in.
    pub dtype: String,
    /// What computes it: `cpu`, an accelerator, or `ndif` and a server.
    pub device: String,
    /// The programs that compute it, with their versions.
    pub engine: String,
    /// Its layers.
    pub n_layers: usize,
    /// The width of its residual stream.
    pub d_model: usize,
    /// Its vocabulary.
    pub d_vocab: usize,
    /// The most tokens that it reads.
    pub n_context: usize,
}

/// Models to choose from, the default first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ModelList {
    /// The models.
    pub models: Vec<ModelInfo>,
}

/// A template by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NamedTemplate {
    /// The name that stands for it.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// What a server accepts at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Limits {
    /// Bytes of a request's body.
    pub n_body_bytes: usize,
    /// Bytes of an import.
    pub n_import_bytes: usize,
    /// Pairs in one submission.
    pub n_pairs: usize,
    /// Bytes of one cell of a table.
    pub n_cell_bytes: usize,
    /// Tokens of a prompt, padding included.
    pub n_prompt_tokens: usize,
    /// Pairs that wait, of all jobs together.
    pub n_queued_pairs: usize,
    /// Cells that the naive engine runs again.
    pub n_verified: usize,
}

/// A page of the experiments that pass a filter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExperimentPage {
    /// How many pass the filter.
    pub total: usize,
    /// How many of them come before this page.
    pub offset: usize,
    /// The page.
    pub experiments: Vec<Entry>,
}

/// What experiments can be filtered by, the most frequent first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Facets {
    /// The models.
    pub models: Vec<Facet>,
    /// What the sentences are about; the 200 most frequent.
    pub entities: Vec<Facet>,
    /// The sites.
    pub sites: Vec<Facet>,
}

impl Facets {
    /// What these experiments can be filtered by.
    pub fn of(entries: &[Entry]) -> Self {
        let count = |value: fn(&Entry) -> &str| {
            let mut counts = BTreeMap::<&str, usize>::new();
            for value in entries.iter().map(value).filter(|value| !value.is_empty()) {
                *counts.entry(value).or_default() += 1;
            }
            let mut facets: Vec<_> =
                counts.into_iter().map(|(value, n)| Facet { value: value.into(), n }).collect();
            facets.sort_by_key(|facet| std::cmp::Reverse(facet.n));
            facets
        };
        Self {
            models: count(|entry| &entry.model),
            entities: count(|entry| &entry.entity),
            sites: count(|entry| entry.site.map_or("", Site::name)),
        }
    }
}

/// A value and how many experiments have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Facet {
    /// The value.
    pub value: String,
    /// How many experiments have it.
    pub n: usize,
}

/// What an import brought.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Imported {
    /// The ids of all its documents, in order.
    pub ids: Vec<String>,
    /// How many of them are new.
    pub n_new: usize,
}
