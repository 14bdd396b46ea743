//! Rotary position embedding of rows at arbitrary positions.

use candle_core::{Device, Result, Tensor};
use candle_nn::rotary_emb::rope_thd;

use super::config::Config;

/// Cosines and sines by position, in f32 whatever the weights are.
#[derive(Debug)]
pub struct Rotary {
    cos: Tensor, // [positions, d_head / 2]
    sin: Tensor, // [positions, d_head / 2]
    d_head: usize,
}

impl Rotary {
    /// The tables for positions `0..n_positions`.
    ///
    /// # Errors
    /// What candle reports.
    pub fn new(config: &Config, n_positions: usize, device: &Device) -> Result<Self> {
        let frequencies = config.rope.frequencies(config.d_head);
        let angles: Vec<f32> = (0..n_positions)
            .flat_map(|position| frequencies.iter().map(move |f| position as f32 * f))
            .collect();
        let angles = Tensor::from_vec(angles, (n_positions, frequencies.len()), device)?;
        Ok(Self { cos: angles.cos()?, sin: angles.sin()?, d_head: config.d_head })
    }

    /// Rotates the heads of `x` `[rows, heads * d_head]`, whose row `i` stands at position
    /// `positions[i]`.
    ///
    /// # Errors
    /// What candle reports, e.g. a position beyond the tables.
    pub fn rotate(&self, x: &Tensor, positions: &Tensor) -> Result<Tensor> {
        let (n_rows, width) = x.dims2()?;
        // One batch entry a row, so that rows are rotated in parallel.
        let x = x.reshape((n_rows, 1, width / self.d_head, self.d_head))?;
        let table = |table: &Tensor| table.index_select(positions, 0)?.unsqueeze(1);
        rope_thd(&x, &table(&self.cos)?, &table(&self.sin)?)?.reshape((n_rows, width))
    }
}
