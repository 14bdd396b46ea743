//! Rotary position embedding of rows at arbitrary positions.

use candle_core::{Result, Tensor};
use candle_nn::rotary_emb::rope_thd;

use super::batched_attention::mask;
use crate::model::arch::Config;
use crate::model::arch::Rope;
use crate::model::checkpoint::{Kernels, Placement};

/// Tables by position: cosines and sines for each of a model's kinds of rotary embedding, computed
/// in f32 whatever the weights are, and what each of its windows hides.
#[derive(Debug)]
pub struct Rotary {
    tables: Vec<RopeTable>,
    /// For [`Kernels::Stock`] alone.
    masks: Vec<(Option<usize>, Tensor)>,
    d_head: usize,
}

#[derive(Debug)]
struct RopeTable {
    cos: Tensor, // [positions, d_head / 2]
    sin: Tensor, // [positions, d_head / 2]
}

impl Rotary {
    /// The tables for positions `0..n_positions`.
    ///
    /// # Errors
    /// What candle reports.
    pub fn new(config: &Config, n_positions: usize, placement: &Placement) -> Result<Self> {
        let Placement { device, dtype, kernels } = placement;
        let tables = config.ropes.iter().map(|rope| {
            let angles = angles(rope, config.d_head, n_positions);
            // Coordinates that are not rotated keep their length, too.
            let scaled = |f: fn(f32) -> f32| {
                let half = config.d_head / 2;
                let n_pairs = rope.n_rotated / 2;
                let magnitude = |i: usize| if i % half < n_pairs { rope.magnitude } else { 1.0 };
                let numbers = angles.iter().enumerate().map(|(i, &a)| magnitude(i) * f(a));
                Tensor::from_vec(numbers.collect::<Vec<_>>(), (n_positions, half), device)?
                    .to_dtype(*dtype)
            };
            Ok(RopeTable { cos: scaled(f32::cos)?, sin: scaled(f32::sin)? })
        });
        let mut windows: Vec<_> = config.layers.iter().map(|layer| layer.window).collect();
        windows.sort_unstable();
        windows.dedup();
        windows.retain(|_| *kernels == Kernels::Stock);
        let masks =
            windows.into_iter().map(|window| Ok((window, mask(n_positions, window, device)?)));
        Ok(Self {
            tables: tables.collect::<Result<_>>()?,
            masks: masks.collect::<Result<_>>()?,
            d_head: config.d_head,
        })
    }

    /// What attention with this window adds to its scores, `[positions, positions]`.
    pub(super) fn mask(&self, window: Option<usize>) -> Result<&Tensor> {
        let found = self.masks.iter().find(|(known, _)| *known == window);
        found.map(|(_, mask)| mask).ok_or_else(|| candle_core::Error::msg("no such mask"))
    }

    /// Rotates the heads of `x` `[rows, heads * d_head]`, whose row `i` stands at position
    /// `positions[i]`, by the model's rotary embedding `which`; where that is `None`, `x` is
    /// returned as it is.
    ///
    /// # Errors
    /// What candle reports, e.g. a position beyond the tables.
    pub fn rotate(&self, x: Tensor, positions: &Tensor, which: Option<usize>) -> Result<Tensor> {
        let Some(which) = which else { return Ok(x) };
        let RopeTable { cos, sin } = &self.tables[which];
        let (n_rows, width) = x.dims2()?;
        // One batch entry a row, so that rows are rotated in parallel.
        let x = x.reshape((n_rows, 1, width / self.d_head, self.d_head))?;
        let table = |table: &Tensor| table.index_select(positions, 0)?.unsqueeze(1);
        rope_thd(&x, &table(cos)?, &table(sin)?)?.reshape((n_rows, width))
    }
}

/// Angles in radians, `[positions, d_head / 2]`; 0 for pairs that are not rotated.
fn angles(rope: &Rope, d_head: usize, n_positions: usize) -> Vec<f32> {
    let mut frequencies = rope.frequencies();
    frequencies.resize(d_head / 2, 0.0);
    (0..n_positions)
        .flat_map(|position| frequencies.iter().map(move |f| position as f32 * f))
        .collect()
}
