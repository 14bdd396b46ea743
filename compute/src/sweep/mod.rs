//! Sweeps: every (layer, position) of a grid, each a base run with one activation of the source
//! run patched in.
//!
//! [`wavefront`] is the engine, one pass over the layers for all cells; [`naive`] is its oracle,
//! one full forward pass a cell.

pub mod metric;
pub mod naive;
pub mod plan;
pub mod speed;
pub mod verify;
pub mod wavefront;

use shared::alignment::Alignment;
use shared::vocabulary::Site;

pub use metric::{Reading, VocabularyReading};
pub use plan::{Cell, Plan};

/// What is run and measured.
#[derive(Debug, Clone)]
pub struct Request {
    /// The two runs and the positions to sweep.
    pub alignment: Alignment,
    /// The activation that is replaced.
    pub site: Site,
    /// The tokens that count as the true answer; not empty.
    pub true_ids: Vec<u32>,
    /// The tokens that count as the false answer; not empty.
    pub false_ids: Vec<u32>,
    /// Whether to read the whole vocabulary at every cell: probabilities and the top token.
    pub readout: bool,
}

impl Request {
    /// The swept positions of the base run: the grid's columns.
    pub fn positions(&self) -> std::ops::Range<usize> {
        self.alignment.start..self.alignment.base.len()
    }
}

/// A sweep that did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The caller asked it to stop.
    #[error("cancelled")]
    Cancelled,
    /// The model has no such site.
    #[error(
        "the model has no `{site}`: in {architecture}, attention and MLP read the same residual \
         stream, so there is none between them"
    )]
    NoSite {
        /// The site that was asked for.
        site: Site,
        /// The model's family.
        architecture: &'static str,
    },
    /// The smallest piece of the sweep does not fit.
    #[error(
        "the sweep needs at least {} MiB beside the weights, and of what is allowed {} MiB are left: \
         raise `--memory`",
        .needed.div_ceil(1 << 20), .allowed >> 20
    )]
    Memory {
        /// Bytes that the smallest piece needs.
        needed: usize,
        /// Bytes allowed.
        allowed: usize,
    },
    /// The tensor library reports a failure.
    #[error("the computation failed: {0}")]
    Candle(#[from] candle_core::Error),
}

/// The outcome of a sweep.
#[derive(Debug, Clone)]
pub struct Sweep {
    /// The unpatched base run.
    pub base: Reading,
    /// The unpatched source run.
    pub source: Reading,
    /// Every cell, `[layer][column]`.
    pub cells: Vec<Vec<Reading>>,
}
