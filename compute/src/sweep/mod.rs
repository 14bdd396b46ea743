//! Sweeps: experiments as data ([`shared::specification`]) are compiled to a [`Program`] and carried
//! out in waves.
//!
//! `wave` is the engine, one pass over the layers for all trials that fit; [`oracle`] is what it
//! is held to, one full forward pass a trial.

mod cells;
mod certificate;
mod check;
mod cost;
mod device_spans;
mod lens;
mod means;
pub mod oracle;
mod program;
mod reach;
pub mod readout;
mod runs;
mod sizes;
pub mod speed;
mod tile_threads;
mod wave;
mod wave_plan;

use shared::specification::vocabulary::Site;

pub use cells::{CellReading, cell_readings, combined};
pub use certificate::Certificate;
pub use check::check;
pub use cost::{BlockCost, readout as readout_cost};
pub use lens::LensReading;
pub use program::{Batch, Division, Finished, Operations, Program};
pub use reach::{Reach, Step, reach};
pub use readout::{Reading, VocabularyReading};
pub use runs::{equal_prefix, sequence};
pub use sizes::{Activations, unpatched_bytes};
pub use wave::{Listener, Progress, Readings, run};

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
    /// An experiment that refers to what is not there.
    #[error("the experiment does not fit the model: {0}")]
    Specification(String),
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
