//! The norms of the residual stream, of queries and of keys.

use candle_core::{CpuStorage, CustomOp3, D, DType, Layout, Result, Shape, Tensor};
use candle_nn::ops::rms_norm;
use rayon::prelude::*;

use super::cuda;
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
        let normed = match (&self.bias, self.kernels) {
            (None, _) => rms_norm(&grouped, &self.weight, self.eps)?,
            (Some(bias), Kernels::Own) => {
                grouped.apply_op3_no_bwd(&self.weight, bias, &LayerNorm { eps: self.eps })?
            }
            (Some(bias), _) => self.layer_norm(&grouped, bias)?,
        };
        normed.to_dtype(x.dtype())?.reshape((n_rows, n_columns))
    }

    /// As [`LayerNorm`], in candle's operations.
    fn layer_norm(&self, x: &Tensor, bias: &Tensor) -> Result<Tensor> {
        // What is centred has its variance as its mean square.
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        rms_norm(&centred, &self.weight, self.eps)?.broadcast_add(bias)
    }
}

/// candle's own layer norm takes the variance as a difference of two large sums in f32, which
/// loses digits where one coordinate of the residual stream is far from the others, as in GPT-2.
struct LayerNorm {
    eps: f32,
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "two-pass-layer-norm"
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
        let (_, width) = layout.shape().dims2()?;
        let x = contiguous(x, layout)?;
        let (weight, bias) = (contiguous(weight, weight_layout)?, contiguous(bias, bias_layout)?);
        let mut out = vec![0.0f32; x.len()];
        out.par_chunks_mut(width).zip(x.par_chunks(width)).for_each(|(out, x)| {
            let mean = x.iter().sum::<f32>() / width as f32;
            let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / width as f32;
            let scale = 1.0 / (variance + self.eps).sqrt();
            for (((out, x), weight), bias) in out.iter_mut().zip(x).zip(weight).zip(bias) {
                *out = (x - mean) * scale * weight + bias;
            }
        });
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }
}
