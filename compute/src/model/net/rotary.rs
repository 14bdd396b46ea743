//! Rotary position embedding of rows at arbitrary positions.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Storage, Tensor};
use candle_nn::rotary_emb::rope_thd;
use rayon::prelude::*;

use super::batched_attention::mask;
use super::functions::vectorised;
use super::rows::contiguous;
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
    kernels: Kernels,
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
            kernels: *kernels,
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
        if self.kernels == Kernels::Own {
            return x.apply_op3_no_bwd(cos, sin, &Rotate { positions });
        }
        let (n_rows, width) = x.dims2()?;
        // One batch entry a row, so that rows are rotated in parallel.
        let x = x.reshape((n_rows, 1, width / self.d_head, self.d_head))?;
        let table = |table: &Tensor| table.index_select(positions, 0)?.unsqueeze(1);
        rope_thd(&x, &table(cos)?, &table(sin)?)?.reshape((n_rows, width))
    }
}

/// Rows a task: enough to be worth scheduling.
const ROWS: usize = 16;

/// Rotates rows `[rows, heads * d_head]` by the rows of tables `[positions, d_head / 2]` that their
/// positions name.
struct Rotate<'a> {
    positions: &'a Tensor,
}

impl CustomOp3 for Rotate<'_> {
    fn name(&self) -> &'static str {
        "rotate-rows"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        cos: &CpuStorage,
        cos_layout: &Layout,
        sin: &CpuStorage,
        sin_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (n_rows, width) = layout.shape().dims2()?;
        let (n_positions, half) = cos_layout.shape().dims2()?;
        let x = contiguous(x, layout)?;
        let (cos, sin) = (contiguous(cos, cos_layout)?, contiguous(sin, sin_layout)?);
        let (storage, positions) = self.positions.storage_and_layout();
        let (Storage::Cpu(storage), Some((begin, end))) =
            (&*storage, positions.contiguous_offsets())
        else {
            candle_core::bail!("expected positions on the CPU, found {:?}", self.positions)
        };
        let positions = &storage.as_slice::<u32>()?[begin..end];
        if positions.len() != n_rows || positions.iter().any(|&p| p as usize >= n_positions) {
            candle_core::bail!("{n_rows} rows at {} of {n_positions} positions", positions.len())
        }
        let mut out = vec![0.0f32; x.len()];
        let rows = out.par_chunks_mut(ROWS * width).zip(x.par_chunks(ROWS * width));
        rows.zip(positions.par_chunks(ROWS)).for_each(|((out, x), positions)| {
            let rows = out.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(positions);
            vectorised(|| {
                for ((out, x), &position) in rows {
                    let at = position as usize * half;
                    let (cos, sin) = (&cos[at..][..half], &sin[at..][..half]);
                    let heads = out.chunks_exact_mut(2 * half).zip(x.chunks_exact(2 * half));
                    for (out, x) in heads {
                        let ((first, second), (a, b)) = (out.split_at_mut(half), x.split_at(half));
                        for i in 0..half {
                            first[i] = a[i] * cos[i] - b[i] * sin[i];
                            second[i] = a[i] * sin[i] + b[i] * cos[i];
                        }
                    }
                }
            });
        });
        Ok((CpuStorage::F32(out), layout.shape().clone()))
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
