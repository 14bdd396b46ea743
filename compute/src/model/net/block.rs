//! The one decoder block.
//!
//! It works on a tall matrix of rows from many runs; [`Span`]s say which rows belong together. It
//! goes from site to site and shows each activation to a hook: unpatched runs keep what they see,
//! patched ones write into it, and so does the naive oracle. It knows the axes of a [`Config`], and
//! no family.

use candle_core::{Result, Tensor};
use shared::specification::vocabulary::Site;

use super::attention::{Heads, KeysValues, attend};
use super::batched_attention;
use super::cuda;
use super::device_spans::DeviceSpans;
use super::elementwise::{activate, added, gated};
use super::indices::{Indices, Uploaded};
use super::linear::Linear;
use super::norm::Norm;
use super::rotary::Rotary;
use super::rows::Span;
use crate::model::arch::{Activation, Module, Residual, Weight};
use crate::model::checkpoint::{Kernels, ModelError, Placed};

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

/// The rows that go through a block.
#[derive(Debug, Clone, Copy)]
pub struct BlockRows<'a> {
    /// Which rows belong together.
    pub spans: &'a [Span],
    /// The same for a device, with the row numbers that are there, for all but [`Kernels::Own`];
    /// `None` to have it made for this block.
    pub on_device: Option<(&'a DeviceSpans, &'a Uploaded)>,
    /// The position of every row of keys and values, `[own rows]` u32.
    pub own_positions: &'a Tensor,
    /// The position of every row of queries, `[query rows]` u32.
    pub query_positions: &'a Tensor,
    /// Which of the rows have queries, `[query rows]` u32; `None` for all.
    pub query_rows: Option<&'a Tensor>,
    /// Rows `[rows, d_model]` that need nothing of the block and come out of it after the others.
    pub appended: Option<&'a Tensor>,
}

/// The keys and values that spans share.
#[derive(Debug, Clone, Copy)]
pub enum Shared<'a> {
    /// Those of other rows, computed before.
    Of(&'a KeysValues),
    /// Those of the very rows that go through the block, in the order of this index `[rows]` u32;
    /// as they are without one. No span has keys and values of its own then.
    These(Option<&'a Tensor>),
}

/// Sees every activation of a block in the order of [`Site`], `[rows, width]`, and returns it,
/// changed or not. `None` stands for no rows: a hook may let rows enter at any site by returning
/// more rows than it was given.
pub type Hook<'a> = dyn FnMut(Site, Option<Tensor>) -> Result<Option<Tensor>> + 'a;

impl Block {
    /// Loads block `layer`.
    ///
    /// # Errors
    /// A weight that is missing, damaged or of another shape.
    pub fn load(weights: &mut Placed, layer: usize) -> std::result::Result<Self, ModelError> {
        let (config, kernels) = (weights.config, weights.placement.kernels);
        let attention = config.layers[layer];
        let mut linear = |module| Linear::load(weights, Weight::new(module, layer));
        let every = "every block has it";
        let query = linear(Module::Query)?.expect(every);
        let key = linear(Module::Key)?.expect(every);
        let value = linear(Module::Value)?.expect(every);
        let attn_out = linear(Module::AttnOut)?.expect(every);
        let gate = linear(Module::Gate)?;
        let up = linear(Module::Up)?.expect(every);
        let down = linear(Module::Down)?.expect(every);
        let mut norm = |module| Norm::load(weights, module, layer);
        let attn_norm = norm(Module::AttnNorm)?;
        let query_norm = norm(Module::QueryNorm)?;
        let key_norm = norm(Module::KeyNorm)?;
        let attn_post_norm = norm(Module::AttnPostNorm)?;
        let mlp_norm = norm(Module::MlpNorm)?;
        let mlp_post_norm = norm(Module::MlpPostNorm)?;
        Ok(Self {
            kernels,
            heads: Heads {
                n_kv: config.n_kv_heads,
                n_groups: config.n_groups(),
                d_head: config.d_head,
                scale: attention.scale,
                window: attention.window,
                softcap: config.attn_softcap,
            },
            rope: attention.rope,
            residual: config.spec.residual,
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

    /// Takes rows through the block, site by site. `pre` `[rows, d_model]` is the residual stream
    /// before it. Rows that a hook lets in after [`Site::ResidPre`] find the stream before the block
    /// in `residual` `[rows, d_model]`, which then holds that of all rows that come out, in their
    /// order. Returns the stream after the block, and the keys and values that spans share.
    ///
    /// # Errors
    /// What candle or `hook` reports.
    pub fn run(
        &self,
        pre: Option<Tensor>,
        residual: Option<&Tensor>,
        rows: BlockRows,
        shared: Shared,
        rotary: &Rotary,
        hook: &mut Hook,
    ) -> Result<(Option<Tensor>, Option<KeysValues>)> {
        let pre = hook(Site::ResidPre, pre)?;
        let x = match &pre {
            Some(pre) => Some(normed(pre.clone(), self.attn_norm.as_ref())?),
            None => None,
        };
        let apply =
            |linear: &Linear, x: &Option<Tensor>| x.as_ref().map(|x| linear.apply(x)).transpose();
        // Rows that no query is asked for still have keys and values.
        let queried = |x: Option<Tensor>| match (x, rows.query_rows) {
            (Some(x), Some(queried)) => x.index_select(queried, 0).map(Some),
            (x, _) => Ok(x),
        };
        let queries = hook(Site::Query, apply(&self.query, &queried(x.clone())?)?)?;
        let keys = hook(Site::Key, apply(&self.key, &x)?)?;
        let values = hook(Site::Value, apply(&self.value, &x)?)?;
        let keys_values = match (keys, values) {
            (Some(keys), Some(values)) => {
                let keys = normed(keys, self.key_norm.as_ref())?;
                let keys = rotary.rotate(keys, rows.own_positions, self.rope)?;
                Some(KeysValues { keys, values })
            }
            _ => None,
        };
        let residual = match residual {
            Some(residual) => Some(residual.clone()),
            None => queried(pre)?,
        };
        let (own, shared) = match (shared, keys_values) {
            (Shared::Of(shared), own) => (own, Some(shared.clone())),
            (Shared::These(Some(order)), Some(all)) => {
                let keys = all.keys.index_select(order, 0)?;
                (None, Some(KeysValues { keys, values: all.values.index_select(order, 0)? }))
            }
            (Shared::These(_), all) => (None, all),
        };
        let z = match queries {
            None => None,
            Some(queries) => {
                let queries = normed(queries, self.query_norm.as_ref())?;
                let queries = rotary.rotate(queries, rows.query_positions, self.rope)?;
                Some(self.mix(&queries, own.as_ref(), shared.as_ref(), rows, rotary)?)
            }
        };
        let attn_out = match hook(Site::Z, z)? {
            Some(z) => Some(normed(self.attn_out.apply(&z)?, self.attn_post_norm.as_ref())?),
            None => None,
        };
        // The stream before the block of the rows that are there so far.
        let before = |x: &Tensor| match &residual {
            Some(residual) => residual.narrow(0, 0, x.dim(0)?),
            None => candle_core::bail!("rows entered a block without a residual stream"),
        };
        let mid = match hook(Site::AttnOut, attn_out)? {
            Some(attn_out) => Some(added(&before(&attn_out)?, &attn_out, None, self.kernels)?),
            None => None,
        };
        let mid = hook(Site::ResidMid, mid)?;
        let mlp_out = match &mid {
            Some(mid) => Some(self.mlp(&before(mid)?, mid)?),
            None => None,
        };
        let post = match (mid, hook(Site::MlpOut, mlp_out)?) {
            (Some(mid), Some(mlp_out)) => Some(added(&mid, &mlp_out, rows.appended, self.kernels)?),
            _ => None,
        };
        Ok((hook(Site::ResidPost, post)?, shared))
    }

    fn mix(
        &self,
        queries: &Tensor,
        own: Option<&KeysValues>,
        shared: Option<&KeysValues>,
        rows: BlockRows,
        rotary: &Rotary,
    ) -> Result<Tensor> {
        if self.kernels == Kernels::Own {
            return attend(queries, own, shared, rows.spans, self.heads);
        }
        let attend = |spans: &DeviceSpans, indices: &Uploaded| match spans {
            DeviceSpans::Padded(padded) => {
                let mask = rotary.mask(self.heads.window)?;
                let padded = (padded, indices);
                batched_attention::attend(queries, own, shared, padded, self.heads, mask)
            }
            &DeviceSpans::Places(places) => {
                cuda::attend(queries, own, shared, (places, indices), self.heads)
            }
        };
        if let Some((spans, indices)) = rows.on_device {
            return attend(spans, indices);
        }
        let n_shared_rows = shared.map_or(Ok(0), |shared| shared.keys.dim(0))?;
        let mut indices = Indices::default();
        let spans = DeviceSpans::new(rows.spans, n_shared_rows, &mut indices, self.kernels);
        let indices = indices.upload(queries.device())?;
        attend(&spans, &indices)
    }

    /// What the MLP adds to the residual stream, `[rows, d_model]`, which was `pre`
    /// `[rows, d_model]` before the block and is `mid` `[rows, d_model]` with what attention adds.
    ///
    /// # Errors
    /// What candle reports.
    fn mlp(&self, pre: &Tensor, mid: &Tensor) -> Result<Tensor> {
        let (x, norm) = match self.residual {
            Residual::Serial => (mid, &self.mlp_norm),
            Residual::Parallel => (pre, &self.mlp_norm),
            Residual::ParallelOneNorm => (pre, &self.attn_norm),
        };
        let x = normed(x.clone(), norm.as_ref())?;
        let hidden = match &self.gate {
            Some(gate) => {
                gated(&gate.apply(&x)?, self.up.apply(&x)?, self.activation, self.kernels)?
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
