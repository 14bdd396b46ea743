//! Overwriting some rows of a matrix, and noise to do it with.

use candle_core::{CpuStorage, Device, InplaceOp3, Layout, Result, Tensor};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, StandardNormal};

use super::elementwise::contiguous_mut;
use super::rows::contiguous;
use crate::model::checkpoint::Kernels;

/// Writes the rows of `values` `[n, width]` over the rows `rows` `[n]` u32 of `x` `[rows, width]`,
/// which must be contiguous and which nothing else may refer to.
///
/// # Errors
/// Shapes that do not fit, or what candle reports.
pub fn put_rows(x: Tensor, rows: &Tensor, values: &Tensor, kernels: Kernels) -> Result<Tensor> {
    match kernels {
        Kernels::Own => {
            x.inplace_op3(rows, &values.contiguous()?, &PutRows)?;
            Ok(x)
        }
        Kernels::Cuda | Kernels::Stock => {
            let at = rows.unsqueeze(1)?.broadcast_as(values.shape())?.contiguous()?;
            x.scatter(&at, &values.contiguous()?, 0)
        }
    }
}

/// Rows of standard normal numbers `[rows, width]` f32, drawn for each from its seed and its
/// position alone, so that the same noise meets the same place on every device and in any company.
///
/// # Errors
/// What candle reports.
pub fn standard_normal(rows: &[(u64, usize)], width: usize, device: &Device) -> Result<Tensor> {
    let mut numbers = Vec::with_capacity(rows.len() * width);
    for &(seed, position) in rows {
        // An odd constant spreads positions over the seeds.
        let own = seed ^ (position as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut random = StdRng::seed_from_u64(own);
        numbers.extend((0..width).map(|_| -> f32 { StandardNormal.sample(&mut random) }));
    }
    Tensor::from_vec(numbers, (rows.len(), width), device)
}

struct PutRows;

impl InplaceOp3 for PutRows {
    fn name(&self) -> &'static str {
        "put-rows"
    }

    fn cpu_fwd(
        &self,
        x: &mut CpuStorage,
        layout: &Layout,
        rows: &CpuStorage,
        rows_layout: &Layout,
        values: &CpuStorage,
        values_layout: &Layout,
    ) -> Result<()> {
        let (n_rows, width) = layout.shape().dims2()?;
        let Some((begin, end)) = rows_layout.contiguous_offsets() else {
            candle_core::bail!("expected contiguous row numbers, found {rows_layout:?}")
        };
        let rows = &rows.as_slice::<u32>()?[begin..end];
        let values = contiguous(values, values_layout)?;
        if values.len() != rows.len() * width {
            candle_core::bail!("{} rows of width {width} got {values_layout:?}", rows.len())
        }
        let x = contiguous_mut(x, layout)?;
        for (&row, value) in rows.iter().zip(values.chunks_exact(width)) {
            if row as usize >= n_rows {
                candle_core::bail!("row {row} is beyond the {n_rows} of a matrix")
            }
            x[row as usize * width..][..width].copy_from_slice(value);
        }
        Ok(())
    }
}
