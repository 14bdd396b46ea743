//! The one decoder block.
//!
//! It works on a tall matrix of rows from many runs; [`Span`]s say which rows belong together. Its
//! two halves are separate, because a patch may go in between them. It knows the axes of a
//! [`Config`], and no family.

use candle_core::{Result, Tensor};

use super::attention::{Heads, KeysValues, attend};
use super::batched_attention;
use super::config::{Config, Residual, Spec};
use super::elementwise::{Activation, activate, biased, gated};
use super::error::ModelError;
use super::layout::qk_norm_width;
use super::names::{Module, Weight};
use super::norm::Norm;
use super::placement::Kernels;
use super::rotary::Rotary;
use super::rows::{Outputs, Span, last_rows, positions};
use super::weights::Weights;

/// The weights of one decoder block, matrices as `[out, in]`.
#[derive(Debug)]
pub struct Block {
    kernels: Kernels,
    heads: Heads,
    rope: Option<usize>,
    residual: Residual,
    activation: Activation,
    attn_norm: Option<Norm>,      // over d_model
    query: Linear,                // [n_heads * d_head, d_model]
    key: Linear,                  // [n_kv_heads * d_head, d_model]
    value: Linear,                // [n_kv_heads * d_head, d_model]
    query_norm: Option<Norm>,     // over d_head or n_heads * d_head
    key_norm: Option<Norm>,       // over d_head or n_kv_heads * d_head
    attn_out: Linear,             // [d_model, n_heads * d_head]
    attn_post_norm: Option<Norm>, // over d_model
    mlp_norm: Option<Norm>,       // over d_model
    gate: Option<Linear>,         // [d_mlp, d_model]
    up: Linear,                   // [d_mlp, d_model]
    down: Linear,                 // [d_model, d_mlp]
    mlp_post_norm: Option<Norm>,  // over d_model
}

/// What attention adds to the residual stream.
pub struct Attended {
    /// `[output rows, d_model]`
    pub attn_out: Tensor,
    /// Keys and values of all rows, which other runs may share as their prefix.
    pub keys_values: KeysValues,
}

impl Block {
    /// Loads block `layer`.
    ///
    /// # Errors
    /// A weight that is missing, damaged or of another shape.
    pub fn load(
        weights: &mut dyn Weights,
        layer: usize,
        config: &Config,
    ) -> std::result::Result<Self, ModelError> {
        let &Config { d_model, d_mlp, d_head, n_heads, n_kv_heads, .. } = config;
        let Spec { biases, norms, residual, .. } = config.spec;
        let (d_q, d_kv) = (n_heads * d_head, n_kv_heads * d_head);
        let attention = config.layers[layer];
        let mut linear = |module, dims: [usize; 2], bias| {
            Linear::load(weights, Weight::new(module, layer), dims, bias)
        };
        let query = linear(Module::Query, [d_q, d_model], biases.qkv)?;
        let key = linear(Module::Key, [d_kv, d_model], biases.qkv)?;
        let value = linear(Module::Value, [d_kv, d_model], biases.qkv)?;
        let attn_out = linear(Module::AttnOut, [d_model, d_q], biases.attn_out)?;
        let gate = match config.spec.gated {
            true => Some(linear(Module::Gate, [d_mlp, d_model], biases.mlp)?),
            false => None,
        };
        let up = linear(Module::Up, [d_mlp, d_model], biases.mlp)?;
        let down = linear(Module::Down, [d_model, d_mlp], biases.mlp)?;
        let mut norm = |module, width: Option<usize>| {
            let kind = (config.spec.norm, config.norm_eps);
            width.map(|width| Norm::load(weights, kind, module, layer, width)).transpose()
        };
        let before = norms.before.then_some(d_model);
        let before_mlp = before.filter(|_| residual != Residual::ParallelOneNorm);
        let after = norms.after.then_some(d_model);
        let (attn_norm, query_norm, key_norm) = (
            norm(Module::AttnNorm, before)?,
            norm(Module::QueryNorm, qk_norm_width(config, d_q))?,
            norm(Module::KeyNorm, qk_norm_width(config, d_kv))?,
        );
        let attn_post_norm = norm(Module::AttnPostNorm, after)?;
        let mlp_norm = norm(Module::MlpNorm, before_mlp)?;
        let mlp_post_norm = norm(Module::MlpPostNorm, after)?;
        Ok(Self {
            kernels: weights.kernels(),
            heads: Heads {
                n_kv: n_kv_heads,
                n_groups: config.n_groups(),
                d_head,
                scale: attention.scale,
                window: attention.window,
                softcap: config.attn_softcap,
            },
            rope: attention.rope,
            residual,
            activation: config.spec.activation,
            attn_norm,
            query_norm,
            key_norm,
            attn_post_norm,
            mlp_norm,
            mlp_post_norm,
            query,
            key,
            value,
            attn_out,
            gate,
            up,
            down,
        })
    }

    /// The attention half for the residual stream `x` `[rows, d_model]` of all `spans`. Positions
    /// left of a span are read from `prefix`.
    ///
    /// # Errors
    /// What candle reports.
    pub fn attend(
        &self,
        x: &Tensor,
        rotary: &Rotary,
        spans: &[Span],
        prefix: Option<&KeysValues>,
        outputs: Outputs,
    ) -> Result<Attended> {
        let x = normed(x.clone(), self.attn_norm.as_ref())?;
        let at = positions(spans, x.device())?;
        let keys = normed(self.key.apply(&x)?, self.key_norm.as_ref())?;
        let keys_values = KeysValues {
            keys: rotary.rotate(keys, &at, self.rope)?,
            values: self.value.apply(&x)?,
        };
        let (x, at) = match outputs {
            Outputs::All => (x, at),
            Outputs::Last => {
                let last = last_rows(spans, x.device())?;
                (x.index_select(&last, 0)?, at.index_select(&last, 0)?)
            }
        };
        let queries = normed(self.query.apply(&x)?, self.query_norm.as_ref())?;
        let queries = rotary.rotate(queries, &at, self.rope)?;
        let (own, heads) = (&keys_values, self.heads);
        let mixed = match self.kernels {
            Kernels::Own => attend(&queries, own, prefix, spans, outputs, heads)?,
            Kernels::Stock => {
                let mask = rotary.mask(heads.window)?;
                batched_attention::attend(&queries, own, prefix, spans, outputs, heads, mask)?
            }
        };
        let attn_out = normed(self.attn_out.apply(&mixed)?, self.attn_post_norm.as_ref())?;
        Ok(Attended { attn_out, keys_values })
    }

    /// What the MLP adds to the residual stream, `[rows, d_model]`, which was `pre`
    /// `[rows, d_model]` before the block and is `mid` `[rows, d_model]` with what attention adds.
    ///
    /// # Errors
    /// What candle reports.
    pub fn mlp(&self, pre: &Tensor, mid: &Tensor) -> Result<Tensor> {
        let (x, norm) = match self.residual {
            Residual::Serial => (mid, &self.mlp_norm),
            Residual::Parallel => (pre, &self.mlp_norm),
            Residual::ParallelOneNorm => (pre, &self.attn_norm),
        };
        let x = normed(x.clone(), norm.as_ref())?;
        let hidden = match &self.gate {
            Some(gate) => {
                gated(&gate.apply(&x)?, &self.up.apply(&x)?, self.activation, self.kernels)?
            }
            None => activate(self.up.apply(&x)?, self.activation, self.kernels)?,
        };
        normed(self.down.apply(&hidden)?, self.mlp_post_norm.as_ref())
    }
}

/// `x` through a norm, if there is one there.
fn normed(x: Tensor, norm: Option<&Norm>) -> Result<Tensor> {
    match norm {
        Some(norm) => norm.apply(&x),
        None => Ok(x),
    }
}

/// A linear map.
#[derive(Debug)]
pub(super) struct Linear {
    pub(super) kernels: Kernels,
    pub(super) weight: Tensor,       // [out, in]
    pub(super) bias: Option<Tensor>, // [out]
}

impl Linear {
    pub(super) fn load(
        weights: &mut dyn Weights,
        weight: Weight,
        dims: [usize; 2],
        has_bias: bool,
    ) -> std::result::Result<Self, ModelError> {
        let bias = Weight { is_bias: true, ..weight };
        Ok(Self {
            kernels: weights.kernels(),
            weight: weights.load(weight, &dims)?,
            bias: has_bias.then(|| weights.load(bias, &dims[..1])).transpose()?,
        })
    }

    /// `x` `[rows, in]` times the weight, plus the bias: `[rows, out]`.
    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        biased(x.matmul(&self.weight.t()?)?, self.bias.as_ref(), self.kernels)
    }
}
