//! The one decoder block.
//!
//! It works on a tall matrix of rows from many runs; [`Span`]s say which rows belong together. Its
//! two halves are separate, because a patch may go in between them.

use candle_core::{Result, Tensor};
use candle_nn::ops::rms_norm;

use super::attention::{Heads, KeysValues, attend};
use super::config::Config;
use super::error::ModelError;
use super::names::Weight;
use super::rotary::Rotary;
use super::rows::{Outputs, Span, last_rows, positions};
use super::swiglu::swiglu;
use super::weights::Weights;

/// The weights of one decoder block, f32, matrices as `[out, in]`.
#[derive(Debug)]
pub struct Block {
    heads: Heads,
    norm_eps: f32,
    attn_norm: Tensor, // [d_model]
    query: Tensor,     // [n_heads * d_head, d_model]
    key: Tensor,       // [n_kv_heads * d_head, d_model]
    value: Tensor,     // [n_kv_heads * d_head, d_model]
    attn_out: Tensor,  // [d_model, n_heads * d_head]
    mlp_norm: Tensor,  // [d_model]
    gate: Tensor,      // [d_mlp, d_model]
    up: Tensor,        // [d_mlp, d_model]
    down: Tensor,      // [d_model, d_mlp]
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
        let &Config { d_model, d_mlp, d_head, n_heads, n_kv_heads, norm_eps, .. } = config;
        let (d_q, d_kv) = (n_heads * d_head, n_kv_heads * d_head);
        let mut load = |weight, dims: &[usize]| weights.load(weight, dims);
        Ok(Self {
            heads: Heads { n_kv: n_kv_heads, n_groups: config.n_groups(), d_head },
            norm_eps,
            attn_norm: load(Weight::AttnNorm(layer), &[d_model])?,
            query: load(Weight::Query(layer), &[d_q, d_model])?,
            key: load(Weight::Key(layer), &[d_kv, d_model])?,
            value: load(Weight::Value(layer), &[d_kv, d_model])?,
            attn_out: load(Weight::AttnOut(layer), &[d_model, d_q])?,
            mlp_norm: load(Weight::MlpNorm(layer), &[d_model])?,
            gate: load(Weight::Gate(layer), &[d_mlp, d_model])?,
            up: load(Weight::Up(layer), &[d_mlp, d_model])?,
            down: load(Weight::Down(layer), &[d_model, d_mlp])?,
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
        let x = rms_norm(x, &self.attn_norm, self.norm_eps)?;
        let at = positions(spans, x.device())?;
        let keys_values = KeysValues {
            keys: rotary.rotate(&linear(&x, &self.key)?, &at)?,
            values: linear(&x, &self.value)?,
        };
        let (x, at) = match outputs {
            Outputs::All => (x, at),
            Outputs::Last => {
                let last = last_rows(spans, x.device())?;
                (x.index_select(&last, 0)?, at.index_select(&last, 0)?)
            }
        };
        let queries = rotary.rotate(&linear(&x, &self.query)?, &at)?;
        let mixed = attend(&queries, &keys_values, prefix, spans, outputs, self.heads)?;
        Ok(Attended { attn_out: linear(&mixed, &self.attn_out)?, keys_values })
    }

    /// What the MLP adds to the residual stream `x` `[rows, d_model]`: `[rows, d_model]`.
    ///
    /// # Errors
    /// What candle reports.
    pub fn mlp(&self, x: &Tensor) -> Result<Tensor> {
        let x = rms_norm(x, &self.mlp_norm, self.norm_eps)?;
        linear(&swiglu(&linear(&x, &self.gate)?, &linear(&x, &self.up)?)?, &self.down)
    }
}

/// `x` `[rows, in]` times `weight` `[out, in]` transposed: `[rows, out]`.
pub(super) fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    x.matmul(&weight.t()?)
}
