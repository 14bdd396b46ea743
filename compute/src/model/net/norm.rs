//! The norms of the residual stream, of queries and of keys.

use std::ops::Add;

use candle_core::{CpuStorage, CustomOp2, CustomOp3, D, DType, Layout, Result, Shape, Tensor};
use candle_nn::ops::rms_norm;
use rayon::prelude::*;

use super::cuda;
use super::functions::{reduced, vectorised};
use super::rows::contiguous;
use crate::model::arch::{Module, Weight};
use crate::model::checkpoint::{Kernels, ModelError, Placed};

/// A norm over the last dimension with its weights.
#[derive(Debug, Clone)]
pub struct Norm {
    kernels: Kernels,
    eps: f32,
    weight: Tensor,       // [width]
    bias: Option<Tensor>, // [width], of a layer norm
}

impl Norm {
    /// Loads the norm `module` of layer `layer`, if the model has it.
    ///
    /// # Errors
    /// A weight that is missing, damaged or of another shape.
    pub fn load(
        weights: &mut Placed,
        module: Module,
        layer: usize,
    ) -> std::result::Result<Option<Self>, ModelError> {
        let (eps, kernels) = (weights.config.norm_eps, weights.placement.kernels);
        let bias = weights.load(Weight::bias(module, layer))?;
        let weight = weights.load(Weight::new(module, layer))?;
        Ok(weight.map(|weight| Self { kernels, eps, weight, bias }))
    }

    /// Norms every `width` consecutive numbers of `x` `[rows, n * width]`, in f32; the outcome has
    /// the type of `x`.
    ///
    /// # Errors
    /// What candle reports.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let (n_rows, n_columns) = x.dims2()?;
        let width = self.weight.dims1()?;
        let grouped = x.reshape((n_rows * (n_columns / width), width))?;
        if self.kernels == Kernels::Cuda {
            let normed = cuda::norm(&grouped, &self.weight, self.bias.as_ref(), self.eps)?;
            return normed.reshape((n_rows, n_columns));
        }
        let grouped = grouped.to_dtype(DType::F32)?;
        let own = OwnNorm { eps: self.eps };
        let normed = match (&self.bias, self.kernels) {
            (None, Kernels::Own) => grouped.apply_op2_no_bwd(&self.weight, &own)?,
            (Some(bias), Kernels::Own) => grouped.apply_op3_no_bwd(&self.weight, bias, &own)?,
            (None, _) => rms_norm(&grouped, &self.weight, self.eps)?,
            (Some(bias), _) => self.layer_norm(&grouped, bias)?,
        };
        normed.to_dtype(x.dtype())?.reshape((n_rows, n_columns))
    }

    /// A layer norm in candle's operations.
    fn layer_norm(&self, x: &Tensor, bias: &Tensor) -> Result<Tensor> {
        // What is centred has its variance as its mean square.
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        rms_norm(&centred, &self.weight, self.eps)?.broadcast_add(bias)
    }
}

/// The norms for [`Kernels::Own`]: an RMS norm, and with a bias a layer norm. candle's RMS norm sums
/// number after number, which no processor does at its speed, and its layer norm takes the variance as
/// a difference of two large sums in f32, which loses digits where one coordinate of the residual
/// stream is far from the others, as in GPT-2.
struct OwnNorm {
    eps: f32,
}

/// Rows a task: enough to be worth scheduling.
const ROWS: usize = 16;

impl OwnNorm {
    /// Norms the rows of `x`, each as wide as `weight`.
    fn run(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        let width = weight.len();
        let n_numbers = width as f32;
        let mut out = vec![0.0f32; x.len()];
        let chunks = out.par_chunks_mut(ROWS * width).zip(x.par_chunks(ROWS * width));
        chunks.for_each(|(out, x)| {
            vectorised(|| {
                for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                    let mean = if bias.is_some() {
                        reduced(x, 0.0, |x| x, Add::add) / n_numbers
                    } else {
                        0.0
                    };
                    let square = |x: f32| (x - mean) * (x - mean);
                    let variance = reduced(x, 0.0, square, Add::add) / n_numbers;
                    let scale = 1.0 / (variance + self.eps).sqrt();
                    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
                        *out = (x - mean) * scale * weight;
                    }
                    if let Some(bias) = bias {
                        for (out, bias) in out.iter_mut().zip(bias) {
                            *out += bias;
                        }
                    }
                }
            });
        });
        out
    }
}

impl CustomOp2 for OwnNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (contiguous(x, layout)?, contiguous(weight, weight_layout)?);
        Ok((CpuStorage::F32(self.run(x, weight, None)), layout.shape().clone()))
    }
}

impl CustomOp3 for OwnNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = contiguous(x, layout)?;
        let (weight, bias) = (contiguous(weight, weight_layout)?, contiguous(bias, bias_layout)?);
        Ok((CpuStorage::F32(self.run(x, weight, Some(bias))), layout.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// Any width, and a coordinate that is far from the others, whose square a sum in f32 must bear.
    #[test]
    fn norms_are_those_of_f64() {
        let eps = 1e-5;
        for width in [1, 7, 32, 33, 64, 576, 1000] {
            for n_rows in [0, 1, 40] {
                let random = |dims: &[usize]| Tensor::randn(0f32, 1.0, dims, &Device::Cpu).unwrap();
                let far = Tensor::from_iter(
                    (0..width).map(|i| if i == width / 2 { 3e3f32 } else { 0.0 }),
                    &Device::Cpu,
                )
                .unwrap();
                let x = random(&[n_rows, width]).broadcast_add(&far).unwrap();
                let (weight, bias) = (random(&[width]), random(&[width]));
                for bias in [None, Some(bias)] {
                    let kernels = Kernels::Own;
                    let norm = Norm { kernels, eps, weight: weight.clone(), bias: bias.clone() };
                    let found = norm.apply(&x).unwrap().to_vec2::<f32>().unwrap();
                    let numbers = |x: &Tensor| -> Vec<f64> {
                        x.to_vec1::<f32>().unwrap().into_iter().map(f64::from).collect()
                    };
                    let (weight, bias) = (numbers(&weight), bias.as_ref().map(numbers));
                    for (row, found) in found.iter().enumerate() {
                        let x = numbers(&x.get(row).unwrap());
                        let mean = match bias {
                            Some(_) => x.iter().sum::<f64>() / width as f64,
                            None => 0.0,
                        };
                        let square = |x: &f64| (x - mean) * (x - mean);
                        let variance = x.iter().map(square).sum::<f64>() / width as f64;
                        let scale = 1.0 / (variance + f64::from(eps)).sqrt();
                        for (i, found) in found.iter().enumerate() {
                            let bias = bias.as_ref().map_or(0.0, |bias| bias[i]);
                            let expected = (x[i] - mean) * scale * weight[i] + bias;
                            let difference = (f64::from(*found) - expected).abs();
                            assert!(difference <= 1e-5 * expected.abs().max(1.0), "{width} {i}");
                        }
                    }
                }
            }
        }
    }
}
