//! Linear maps. On the CPU a row's numbers are the same to the bit however many rows there are, and
//! whatever they are: `gemm` sums every number of a product in one order, but for small products, which
//! are made large enough here.

#![allow(unsafe_code, reason = "`gemm` takes pointers")]

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use gemm::{Parallelism, gemm};

use super::elementwise::biased;
use super::rows::contiguous;
use super::transpose::transposed;
use crate::model::arch::Weight;
use crate::model::checkpoint::{Kernels, ModelError, Placed};

/// A linear map.
#[derive(Debug)]
pub struct Linear {
    kernels: Kernels,
    /// `[out, in]`; for [`Kernels::Own`] `[in, out]`, which products of few rows read fastest.
    weight: Tensor,
    bias: Option<Tensor>, // [out]
}

impl Linear {
    /// A map by `weight` `[out, in]`, contiguous, and `bias` `[out]`.
    ///
    /// # Errors
    /// What candle reports.
    pub fn new(weight: Tensor, bias: Option<Tensor>, kernels: Kernels) -> Result<Self> {
        let weight = match kernels {
            Kernels::Own => transposed(&weight)?,
            Kernels::Cuda | Kernels::Stock => weight,
        };
        Ok(Self { kernels, weight, bias })
    }

    /// Loads a linear map, if the model has it.
    ///
    /// # Errors
    /// A weight that is damaged or of another shape.
    pub fn load(
        weights: &mut Placed,
        weight: Weight,
    ) -> std::result::Result<Option<Self>, ModelError> {
        let kernels = weights.placement.kernels;
        let bias = weights.load(Weight { is_bias: true, ..weight })?;
        let loaded = weights.load(weight)?.map(|weight| Self::new(weight, bias, kernels));
        Ok(loaded.transpose().expect("weights are contiguous, and those of our kernels f32"))
    }

    /// `x` `[rows, in]` times the weight, plus the bias: `[rows, out]`.
    ///
    /// # Errors
    /// What candle reports.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let product = match self.kernels {
            Kernels::Own => {
                let (d_in, d_out) = self.weight.dims2()?;
                let n_least = least_rows(d_in, d_out, false);
                of_many_rows(x, n_least, |x| x.apply_op2_no_bwd(&self.weight, &Product))?
            }
            Kernels::Cuda | Kernels::Stock => x.matmul(&self.weight.t()?)?,
        };
        biased(product, self.bias.as_ref(), self.kernels)
    }
}

/// `x` `[rows, in]` times the transposed `weight` `[out, in]`, both f32 on the CPU: `[rows, out]`. Many
/// outputs are meant, for which transposing `weight` first would take long.
///
/// # Errors
/// What candle reports.
pub fn times_transposed(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let (d_out, d_in) = weight.dims2()?;
    let transposed = weight.t()?;
    of_many_rows(x, least_rows(d_in, d_out, true), |x| x.apply_op2_no_bwd(&transposed, &Product))
}

/// What `product` makes of the rows of `x`, which it is given with as many of zeros as make `n_least`.
fn of_many_rows(
    x: &Tensor,
    n_least: usize,
    product: impl FnOnce(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let (n_rows, d_in) = x.dims2()?;
    if n_rows == 0 || n_rows >= n_least {
        return product(x);
    }
    let padding = Tensor::zeros((n_least - n_rows, d_in), x.dtype(), x.device())?;
    product(&Tensor::cat(&[x, &padding], 0)?)?.narrow(0, 0, n_rows)?.contiguous()
}

/// The most numbers of a product that `gemm` takes by dot products.
const DOT_PRODUCTS: usize = 256;
/// The largest sides of a product, and the longest sums in one piece, that `gemm` takes as small ones.
const SMALL: (usize, usize) = (64, 512);

/// How many rows a product needs at least for its numbers to be summed as those of many rows.
fn least_rows(d_in: usize, d_out: usize, is_transposed: bool) -> usize {
    let least = match d_out <= SMALL.0 && d_in > SMALL.1 {
        true => SMALL.0 + 1,
        // One row is a product with a vector.
        false => 2,
    };
    // Dot products are for operands that both lie along what is summed, as a single output does anyhow.
    match is_transposed || d_out == 1 {
        true => least.max(DOT_PRODUCTS / d_out.max(1) + 1),
        false => least,
    }
}

/// The product of two f32 matrices, of which the second may be a transposed one, by the library that
/// candle multiplies with, too. candle fills the outcome with zeros first and divides it over as many
/// threads as the machine has.
struct Product;

impl CustomOp2 for Product {
    fn name(&self) -> &'static str {
        "product"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (n_rows, d_in) = x_layout.shape().dims2()?;
        let (expected, d_out) = weight_layout.shape().dims2()?;
        if d_in != expected {
            candle_core::bail!("a product of {x_layout:?} and {weight_layout:?}")
        }
        let x = contiguous(x, x_layout)?;
        let (weight, strides) = match weight_layout.is_contiguous() {
            true => (contiguous(weight, weight_layout)?, [d_out, 1]),
            false => (contiguous(weight, &weight_layout.transpose(0, 1)?)?, [1, d_in]),
        };
        let mut out = Vec::<f32>::with_capacity(n_rows * d_out);
        let parallelism = match rayon::current_num_threads() {
            1 => Parallelism::None,
            n => Parallelism::Rayon(n),
        };
        // SAFETY: the matrices are as long as their shapes say, and lie as the strides say; `gemm` reads
        // nothing of `out`, which nothing else refers to, and writes all of it.
        unsafe {
            gemm(
                n_rows,
                d_out,
                d_in,
                out.as_mut_ptr(),
                1,
                d_out as isize,
                false,
                x.as_ptr(),
                1,
                d_in as isize,
                weight.as_ptr(),
                strides[1] as isize,
                strides[0] as isize,
                0.0,
                1.0,
                false,
                false,
                false,
                parallelism,
            );
            out.set_len(n_rows * d_out);
        }
        Ok((CpuStorage::F32(out), (n_rows, d_out).into()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    #[test]
    fn products_of_any_shape_are_those_of_f64() {
        let random = |dims: (usize, usize)| Tensor::randn(0f32, 1.0, dims, &Device::Cpu).unwrap();
        for (n_rows, d_in, d_out) in
            [(0, 3, 4), (1, 1, 1), (1, 64, 5), (3, 0, 7), (2, 33, 1), (17, 40, 96), (300, 129, 70)]
        {
            let (x, weight) = (random((n_rows, d_in)), random((d_out, d_in)));
            let bias = Tensor::randn(0f32, 1.0, d_out, &Device::Cpu).unwrap();
            let map = Linear::new(weight.clone(), Some(bias.clone()), Kernels::Own).unwrap();
            let found = map.apply(&x).unwrap().to_vec2::<f32>().unwrap();
            let rows = |x: &Tensor| x.to_dtype(DType::F64).unwrap().to_vec2::<f64>().unwrap();
            let (x, weight) = (rows(&x), rows(&weight));
            let bias = bias.to_vec1::<f32>().unwrap();
            assert_eq!(found.len(), n_rows);
            for (found, x) in found.iter().zip(&x) {
                assert_eq!(found.len(), d_out);
                for ((found, weight), bias) in found.iter().zip(&weight).zip(&bias) {
                    let dot: f64 = x.iter().zip(weight).map(|(a, b)| a * b).sum();
                    assert!((f64::from(*found) - dot - f64::from(*bias)).abs() < 1e-4);
                }
            }
        }
    }

    /// What is computed in other company is the same.
    #[test]
    fn a_rows_numbers_are_its_own() {
        let random = |dims: (usize, usize)| Tensor::randn(0f32, 1.0, dims, &Device::Cpu).unwrap();
        const N_ROWS: usize = 300;
        let small = [(2, 5), (40, 1), (576, 1), (8, 3), (64, 64), (576, 5), (576, 64)];
        for (d_in, d_out) in small.into_iter().chain([(576, 65), (1536, 200)]) {
            let (x, weight) = (random((N_ROWS, d_in)), random((d_out, d_in)));
            let map = Linear::new(weight.clone(), None, Kernels::Own).unwrap();
            let bits = |x: &Tensor| -> Vec<Vec<u32>> {
                let rows = x.to_vec2::<f32>().unwrap().into_iter();
                rows.map(|row| row.into_iter().map(f32::to_bits).collect()).collect()
            };
            let ways = |x: &Tensor| {
                [map.apply(x).unwrap(), times_transposed(x, &weight).unwrap()].map(|x| bits(&x))
            };
            let all = ways(&x);
            for (first, n) in
                [(0, 1), (7, 2), (1, 3), (299, 1), (20, 17), (5, 64), (6, 65), (3, 257)]
            {
                let some = ways(&x.narrow(0, first, n).unwrap());
                for (all, some) in all.iter().zip(&some) {
                    assert!(all[first..][..n] == some[..], "{n} rows of {d_in} to {d_out}");
                }
            }
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let zeros = |dims: (usize, usize)| Tensor::zeros(dims, DType::F32, &Device::Cpu).unwrap();
        let map = Linear::new(zeros((4, 3)), None, Kernels::Own).unwrap();
        assert!(map.apply(&zeros((2, 5))).is_err());
        assert!(map.apply(&zeros((3, 2)).t().unwrap()).is_err());
    }
}
