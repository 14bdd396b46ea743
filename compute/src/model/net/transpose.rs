//! Transposing a matrix in memory, on all cores.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::rows::contiguous;

/// `x` `[rows, columns]`, contiguous, as a contiguous `[columns, rows]`.
///
/// # Errors
/// Another type than f32, or a tensor with gaps.
pub fn transposed(x: &Tensor) -> Result<Tensor> {
    x.apply_op1_no_bwd(&Transpose)
}

/// Numbers on each side of the squares that are moved at once: few enough that both of their sides
/// stay in the fastest cache.
const SIDE: usize = 32;

struct Transpose;

impl CustomOp1 for Transpose {
    fn name(&self) -> &'static str {
        "transpose"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n_rows, n_columns) = layout.shape().dims2()?;
        let x = contiguous(x, layout)?;
        let mut out = vec![0.0f32; x.len()];
        out.par_chunks_mut(SIDE * n_rows.max(1)).enumerate().for_each(|(i, out)| {
            let columns = i * SIDE..n_columns.min((i + 1) * SIDE);
            for first in (0..n_rows).step_by(SIDE) {
                let rows = first..n_rows.min(first + SIDE);
                for (column, out) in columns.clone().zip(out.chunks_exact_mut(n_rows)) {
                    for (row, out) in rows.clone().zip(&mut out[rows.clone()]) {
                        *out = x[row * n_columns + column];
                    }
                }
            }
        });
        Ok((CpuStorage::F32(out), (n_columns, n_rows).into()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn matrices_of_any_shape_are_transposed() {
        for (n_rows, n_columns) in [(1, 1), (1, 40), (40, 1), (33, 65), (64, 32), (100, 31)] {
            let x = Tensor::arange(0f32, (n_rows * n_columns) as f32, &Device::Cpu).unwrap();
            let x = x.reshape((n_rows, n_columns)).unwrap();
            let expected = x.t().unwrap().contiguous().unwrap().to_vec2::<f32>().unwrap();
            assert_eq!(transposed(&x).unwrap().to_vec2::<f32>().unwrap(), expected);
        }
    }
}
