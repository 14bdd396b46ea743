//! The spans of a whole batch as a device's attention wants them.

use super::program::Batch;
use super::wave_plan::Tile;
use crate::model::{DeviceSpans, Indices, Kernels};

/// Every list of spans that a batch takes through a block.
#[derive(Debug)]
pub struct BatchSpans {
    /// Of the unpatched runs.
    pub runs: DeviceSpans,
    /// Of each wave's tiles, by layer.
    pub waves: Vec<Vec<Vec<LayerSpans>>>,
}

/// A tile in one layer.
#[derive(Debug)]
pub struct LayerSpans {
    /// Of the trials that go through the block.
    pub travelling: DeviceSpans,
    /// Of those that enter within it.
    pub entering: DeviceSpans,
}

impl BatchSpans {
    /// Prepares the spans of `batch` for `kernels`, and adds their row numbers to `indices`.
    pub fn new(batch: &Batch, indices: &mut Indices, kernels: Kernels) -> Self {
        // The runs' keys and values are one after another, what they share repeated.
        let n_shared_rows = batch.runs.rows.iter().map(Vec::len).sum();
        let mut tile = |tile: &Tile| {
            let all = DeviceSpans::new(&tile.spans, n_shared_rows, indices, kernels);
            let n_layers = tile.layers.len();
            let layers = tile.layers.iter().enumerate().map(|(layer, work)| LayerSpans {
                travelling: match layer + 1 == n_layers {
                    true => DeviceSpans::new(&tile.last.spans, n_shared_rows, indices, kernels),
                    false => all.first(&tile.spans, work.n_travelling, indices),
                },
                entering: {
                    let spans = work.entering.as_ref().map_or(&[][..], |entering| &entering.spans);
                    DeviceSpans::new(spans, n_shared_rows, indices, kernels)
                },
            });
            layers.collect()
        };
        let waves = batch.waves.iter().map(|wave| wave.tiles.iter().map(&mut tile).collect());
        let waves = waves.collect();
        Self { runs: DeviceSpans::new(&batch.runs.spans, n_shared_rows, indices, kernels), waves }
    }
}
