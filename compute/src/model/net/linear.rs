//! Linear maps.

use std::ops::Range;

use candle_core::{Result, Tensor};

use super::elementwise::biased;
use super::packed::Packed;
use crate::model::arch::Weight;
use crate::model::checkpoint::{Kernels, ModelError, Placed};

/// A linear map.
#[derive(Debug)]
pub struct Linear {
    kernels: Kernels,
    weight: Matrix,
    bias: Option<Tensor>, // [out]
}

#[derive(Debug)]
enum Matrix {
    /// For [`Kernels::Own`].
    Packed(Packed),
    /// `[out, in]`, for all others.
    Plain(Tensor),
}

impl Linear {
    /// A map by `weight` `[out, in]`, contiguous, and `bias` `[out]`.
    ///
    /// # Errors
    /// What candle reports.
    pub fn new(weight: Tensor, bias: Option<Tensor>, kernels: Kernels) -> Result<Self> {
        let weight = match kernels {
            Kernels::Own => Matrix::Packed(Packed::new(&weight)?),
            Kernels::Cuda | Kernels::Stock => Matrix::Plain(weight),
        };
        Ok(Self { kernels, weight, bias })
    }

    /// A map by a matrix that is packed, and `bias` `[out]`.
    pub fn packed(weight: Packed, bias: Option<Tensor>) -> Self {
        Self { kernels: Kernels::Own, weight: Matrix::Packed(weight), bias }
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

    /// The map to the outputs `outputs` alone, which begin where a panel of a packed matrix does.
    ///
    /// # Errors
    /// Outputs that there are not, or that begin elsewhere.
    pub fn slice(&self, outputs: Range<usize>) -> Result<Self> {
        let bias = self.bias.as_ref().map(|bias| bias.narrow(0, outputs.start, outputs.len()));
        let weight = match &self.weight {
            Matrix::Packed(weight) => Matrix::Packed(weight.narrow(outputs)?),
            Matrix::Plain(weight) => {
                Matrix::Plain(weight.narrow(0, outputs.start, outputs.len())?)
            }
        };
        Ok(Self { weight, bias: bias.transpose()?, ..*self })
    }

    /// `x` `[rows, in]` times the weight, plus the bias: `[rows, out]`.
    ///
    /// # Errors
    /// What candle reports.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let product = match &self.weight {
            Matrix::Packed(weight) => weight.product(x)?,
            Matrix::Plain(weight) => x.matmul(&weight.t()?)?,
        };
        biased(product, self.bias.as_ref(), self.kernels)
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
            let map = Linear::new(weight, None, Kernels::Own).unwrap();
            let bits = |x: &Tensor| -> Vec<Vec<u32>> {
                let rows = x.to_vec2::<f32>().unwrap().into_iter();
                rows.map(|row| row.into_iter().map(f32::to_bits).collect()).collect()
            };
            let all = bits(&map.apply(&x).unwrap());
            for (first, n) in
                [(0, 1), (7, 2), (1, 3), (299, 1), (20, 17), (5, 64), (6, 65), (3, 257)]
            {
                let some = bits(&map.apply(&x.narrow(0, first, n).unwrap()).unwrap());
                assert!(all[first..][..n] == some[..], "{n} rows of {d_in} to {d_out}");
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
