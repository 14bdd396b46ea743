//! The attention of [`super::attention`] in candle's tensor operations, for devices on which our
//! kernel does not run: a bounded number of them, whatever the number of spans.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::ops::softmax_last_dim;

use super::attention::{Heads, KeysValues};
use super::indices::Uploaded;
use super::padded::{PaddedGroup, PaddedSpans};

/// As [`super::attention::attend`] for the spans of which `padded` was made, whose row numbers are
/// in `indices`; `mask` `[positions, positions]` is what [`mask`] makes for the layer's window.
///
/// # Errors
/// Shapes that do not fit.
pub fn attend(
    queries: &Tensor,
    own: Option<&KeysValues>,
    shared: Option<&KeysValues>,
    (padded, indices): (&PaddedSpans, &Uploaded),
    heads: Heads,
    mask: &Tensor,
) -> Result<Tensor> {
    let all = match (shared, own) {
        (Some(shared), Some(own)) => KeysValues {
            keys: Tensor::cat(&[&shared.keys, &own.keys], 0)?,
            values: Tensor::cat(&[&shared.values, &own.values], 0)?,
        },
        (Some(one), None) | (None, Some(one)) => one.clone(),
        (None, None) => candle_core::bail!("attention without keys and values"),
    };
    // Multiplied beforehand, so that the products stay in the range of half-precision types.
    let queries = (queries * f64::from(heads.scale))?;
    let d_keys = all.keys.dim(1)?;
    let gather = Gather { queries: &queries, all, indices, heads, mask };
    let mut mixed = Vec::with_capacity(padded.groups.len());
    for group in &padded.groups {
        let widths = [heads.n_kv * heads.n_groups, queries.dim(1)?, d_keys];
        let n_span_bytes = PaddedSpans::n_bytes(
            widths,
            [group.n_queries, group.n_keys],
            queries.dtype().size_in_bytes(),
        );
        let n_most = (PaddedSpans::most_bytes(queries.device()) / n_span_bytes.max(1)).max(1);
        for first in (0..group.n_spans).step_by(n_most) {
            mixed.push(gather.attend(group, first, n_most.min(group.n_spans - first))?);
        }
    }
    let mixed = match mixed.len() {
        0 => candle_core::bail!("attention without queries"),
        1 => mixed.remove(0),
        _ => Tensor::cat(&mixed, 0)?,
    };
    indices.select(&mixed, padded.order)
}

/// What the padded rows are gathered from.
struct Gather<'a> {
    queries: &'a Tensor, // [query rows, n_kv * n_groups * d_head], scaled
    all: KeysValues,     // [shared rows and then own ones, n_kv * d_head]
    indices: &'a Uploaded,
    heads: Heads,
    mask: &'a Tensor, // [positions, positions]
}

impl Gather<'_> {
    /// Attention of `n` spans of a group from the one that is number `first` on:
    /// `[n * queries, n_kv * n_groups * d_head]`.
    fn attend(&self, group: &PaddedGroup, first: usize, n: usize) -> Result<Tensor> {
        let Heads { n_kv, n_groups, d_head, softcap, .. } = self.heads;
        let PaddedGroup { n_queries, n_keys, .. } = *group;
        let part = |slice, n_each| self.indices.get(slice)?.narrow(0, first * n_each, n * n_each);
        let keys = part(group.keys, n_keys)?;
        let by_head = |x: &Tensor| {
            let rows = x.index_select(&keys, 0)?.reshape((n, n_keys, n_kv, d_head))?;
            rows.permute((0, 2, 1, 3))?.contiguous()?.reshape((n * n_kv, n_keys, d_head))
        };
        let dtype = self.queries.dtype();
        let n_one = n_groups * n_queries;
        let queries = self
            .queries
            .index_select(&part(group.queries, n_queries)?, 0)?
            .reshape([n, n_queries, n_kv, n_groups, d_head].as_slice())?
            .permute([0, 2, 3, 1, 4])?
            .contiguous()? // [n, n_kv, n_groups, queries, d_head]
            .reshape((n * n_kv, n_one, d_head))?;
        let mut scores = queries.matmul(&by_head(&self.all.keys)?.t()?)?.to_dtype(DType::F32)?;
        if let Some(cap) = softcap.map(f64::from) {
            scores = ((scores / cap)?.tanh()? * cap)?;
        }
        // Keys that are padding come after every query, so that the mask hides them.
        let mask = self.mask.index_select(&part(group.positions, n_queries)?, 0)?;
        let mask = mask.reshape((n, 1, n_queries, ()))?.narrow(3, 0, n_keys)?;
        let scores = scores.reshape((n, n_kv * n_groups, n_queries, n_keys))?;
        let weights = softmax_last_dim(&scores.broadcast_add(&mask)?)?.to_dtype(dtype)?;
        weights
            .reshape((n * n_kv, n_one, n_keys))?
            .matmul(&by_head(&self.all.values)?)?
            .reshape([n, n_kv, n_groups, n_queries, d_head].as_slice())?
            .permute([0, 3, 1, 2, 4])?
            .contiguous()?
            .reshape((n * n_queries, n_kv * n_groups * d_head))
    }
}

/// What is added to scores, `[positions, positions]`: 0 where the query of a row sees the key of a
/// column, which is none of the later ones and at most `window` positions, and else minus infinity.
///
/// # Errors
/// What candle reports.
pub fn mask(n_positions: usize, window: Option<usize>, device: &Device) -> Result<Tensor> {
    let sees =
        |query: usize, key: usize| key <= query && window.is_none_or(|window| query - key < window);
    let numbers: Vec<f32> = (0..n_positions * n_positions)
        .map(|i| match sees(i / n_positions, i % n_positions) {
            true => 0.0,
            false => f32::NEG_INFINITY,
        })
        .collect();
    Tensor::from_vec(numbers, (n_positions, n_positions), device)
}
