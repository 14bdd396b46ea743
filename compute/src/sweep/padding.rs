//! The padded spans of a whole batch, for devices whose attention wants them.

use super::program::Batch;
use super::wave_plan::Tile;
use crate::model::{Indices, PaddedSpans};

/// Every list of spans that a batch takes through a block.
#[derive(Debug)]
pub struct Padding {
    /// Of the unpatched runs.
    pub runs: PaddedSpans,
    /// Of each wave's tiles, by layer.
    pub waves: Vec<Vec<Vec<LayerPadding>>>,
}

/// A tile in one layer.
#[derive(Debug)]
pub struct LayerPadding {
    /// Of the trials that go through the block.
    pub travelling: PaddedSpans,
    /// Of those that enter within it.
    pub entering: PaddedSpans,
}

impl Padding {
    /// Pads the spans of `batch`, and adds their row numbers to `indices`.
    pub fn new(batch: &Batch, indices: &mut Indices) -> Self {
        // The runs' keys and values are one after another, what they share repeated.
        let n_shared_rows = batch.runs.rows.iter().map(Vec::len).sum();
        let mut tile = |tile: &Tile| {
            let all = PaddedSpans::new(&tile.spans, n_shared_rows, indices);
            let n_layers = tile.layers.len();
            let layers = tile.layers.iter().enumerate().map(|(layer, work)| LayerPadding {
                travelling: match layer + 1 == n_layers {
                    true => PaddedSpans::new(&tile.last.spans, n_shared_rows, indices),
                    false => all.first(&tile.spans, work.n_travelling, indices),
                },
                entering: {
                    let spans = work.entering.as_ref().map_or(&[][..], |entering| &entering.spans);
                    PaddedSpans::new(spans, n_shared_rows, indices)
                },
            });
            layers.collect()
        };
        let waves = batch.waves.iter().map(|wave| wave.tiles.iter().map(&mut tile).collect());
        let waves = waves.collect();
        Self { runs: PaddedSpans::new(&batch.runs.spans, n_shared_rows, indices), waves }
    }
}
