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
mod with_less;

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
pub use with_less::with_less;

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
         raise `--memory`, or on a GPU `--device-memory`, and see what others take there",
        .needed.div_ceil(1 << 20), .allowed >> 20
    )]
    Memory {
        /// Bytes that the smallest piece needs.
        needed: usize,
        /// Bytes allowed.
        allowed: usize,
    },
    /// The device has less memory than it said.
    #[error(
        "the GPU ran out of memory: what others take there may have grown since it was asked; allow \
         less by `--device-memory`, or wait until they are done ({0})"
    )]
    DeviceMemory(candle_core::Error),
    /// The tensor library reports a failure.
    #[error("the computation failed: {0}")]
    Candle(candle_core::Error),
}

impl From<candle_core::Error> for SweepError {
    fn from(error: candle_core::Error) -> Self {
        // candle keeps no more of the driver's and the library's codes than their names.
        let text = error.to_string();
        let is_memory = ["CUDA_ERROR_OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED"];
        match is_memory.iter().any(|name| text.contains(name)) {
            true => Self::DeviceMemory(error),
            false => Self::Candle(error),
        }
    }
}
