//! The norms of the residual stream, of queries and of keys.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use candle_nn::ops::rms_norm;
use rayon::prelude::*;

use super::error::ModelError;
use super::names::{Module, Weight};
use super::rows::contiguous;
use super::weights::Weights;

/// Which norm a model uses throughout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// `x / sqrt(mean(x^2) + eps) * weight`
    Rms,
    /// `(x - mean(x)) / sqrt(var(x) + eps) * weight + bias`
    Layer,
}

/// A norm over the last dimension with its weights.
#[derive(Debug, Clone)]
pub struct Norm {
    eps: f32,
    weight: Tensor,       // [width]
    bias: Option<Tensor>, // [width], with NormKind::Layer
}

impl Norm {
    /// Loads the norm `module` of layer `layer` over `width` numbers.
    ///
    /// # Errors
    /// A weight that is missing, damaged or of another shape.
    pub fn load(
        weights: &mut dyn Weights,
        (kind, eps): (NormKind, f32),
        module: Module,
        layer: usize,
        width: usize,
    ) -> std::result::Result<Self, ModelError> {
        let bias = match kind {
            NormKind::Rms => None,
            NormKind::Layer => Some(weights.load(Weight::bias(module, layer), &[width])?),
        };
        Ok(Self { eps, weight: weights.load(Weight::new(module, layer), &[width])?, bias })
    }

    /// Norms every `width` consecutive numbers of `x` `[rows, n * width]`.
    ///
    /// # Errors
    /// What candle reports.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let (n_rows, n_columns) = x.dims2()?;
        let width = self.weight.dims1()?;
        let grouped = x.reshape((n_rows * (n_columns / width), width))?;
        let normed = match &self.bias {
            None => rms_norm(&grouped, &self.weight, self.eps)?,
            Some(bias) => {
                grouped.apply_op3_no_bwd(&self.weight, bias, &LayerNorm { eps: self.eps })?
            }
        };
        normed.reshape((n_rows, n_columns))
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
