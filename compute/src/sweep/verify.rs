//! Holds a finished sweep to the oracle on some of its cells.

use std::ops::ControlFlow;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::index::sample;

use super::wavefront::{Listener, Progress};
use super::{Cell, Request, Sweep, SweepError, naive, plan};
use crate::model::{Config, Network};

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

/// Draws `n` different cells of the grid at random; all of them if there are fewer.
pub fn draw_cells(config: &Config, request: &Request, n: usize, seed: u64) -> Vec<Cell> {
    let columns = request.positions();
    let n_all = config.n_layers * columns.len();
    sample(&mut StdRng::seed_from_u64(seed), n_all, n.min(n_all))
        .into_iter()
        .map(|i| Cell { layer: i / columns.len(), position: columns.start + i % columns.len() })
        .collect()
}

/// The operations of verifying `n` cells, or all if there are fewer: the source once, and the base
/// for each.
pub fn cost(config: &Config, request: &Request, n: usize) -> f64 {
    match n.min(config.n_layers * request.positions().len()) {
        0 => 0.0,
        n => (n + 1) as f64 * plan::naive_cost(config, request),
    }
}

/// Runs `n` cells drawn at random again by the naive engine; all of them if there are fewer.
///
/// # Errors
/// [`SweepError::Cancelled`] if `listener` breaks it off between two cells, or what candle reports.
pub fn verify(
    network: &Network,
    request: &Request,
    sweep: &Sweep,
    n: usize,
    listener: &mut Listener,
) -> Result<Verified, SweepError> {
    let start = request.positions().start;
    let activations = naive::source_activations(network, request)?;
    let cells = draw_cells(&network.config, request, n, SEED);
    let mut verified = Verified { n_cells: cells.len(), max_abs_diff: 0.0 };
    for cell in cells {
        let again = naive::cell(network, request, &activations, cell)?;
        let swept = sweep.cells[cell.layer][cell.position - start];
        let difference = (again.logit_diff - swept.logit_diff).abs();
        // A comparison with NaN must not pass unseen.
        if difference.is_nan() || difference > verified.max_abs_diff {
            verified.max_abs_diff = difference;
        }
        if listener(Progress::Share(1.0)) == ControlFlow::Break(()) {
            return Err(SweepError::Cancelled);
        }
    }
    Ok(verified)
}
