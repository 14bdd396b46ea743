//! Holds a finished sweep to the oracle on some of its cells.

use std::ops::ControlFlow;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::index::sample;

use super::wavefront::Progress;
use super::{Cell, Request, Sweep, SweepError, naive};
use crate::model::Network;

/// What the oracle says of a sweep.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verified {
    /// How many cells were run again.
    pub n_cells: usize,
    /// The largest absolute difference of the metric, in nats.
    pub max_abs_diff: f32,
}

/// Which cells are drawn is fixed, so that the same request gives the same document.
const SEED: u64 = 0x70_61_74_63_68;

/// Runs `n` cells drawn at random again by the naive engine; all of them if there are fewer.
///
/// # Errors
/// [`SweepError::Cancelled`] if `progress` breaks it off between two cells, or what candle reports.
pub fn verify(
    network: &Network,
    request: &Request,
    sweep: &Sweep,
    n: usize,
    progress: &mut Progress,
) -> Result<Verified, SweepError> {
    let columns = request.positions();
    let n_all = network.config.n_layers * columns.len();
    let activations = naive::source_activations(network, request)?;
    let mut verified = Verified { n_cells: n.min(n_all), max_abs_diff: 0.0 };
    for index in sample(&mut StdRng::seed_from_u64(SEED), n_all, verified.n_cells) {
        let (layer, column) = (index / columns.len(), index % columns.len());
        let cell = Cell { layer, position: columns.start + column };
        let again = naive::cell(network, request, &activations, cell)?;
        let difference = (again.logit_diff - sweep.cells[layer][column].logit_diff).abs();
        // A comparison with NaN must not pass unseen.
        if difference.is_nan() || difference > verified.max_abs_diff {
            verified.max_abs_diff = difference;
        }
        if progress(1.0) == ControlFlow::Break(()) {
            return Err(SweepError::Cancelled);
        }
    }
    Ok(verified)
}
