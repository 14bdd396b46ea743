//! Causal attention for many short runs that share a prefix, as one candle operation.
//!
//! Rows of a tall matrix are grouped into spans. A span is one run's positions from `start` on; the
//! keys and values of the positions before it are those of another run, which all spans share.
//! That is what makes a patched run cheap: left of the patch it is the base run.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Storage, Tensor};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::rows::{Outputs, Span, contiguous, n_rows};

/// Keys and values of one run in one layer, each `[positions, n_kv_heads * d_head]`.
#[derive(Debug, Clone)]
pub struct KeysValues {
    /// Keys, rotated.
    pub keys: Tensor,
    /// Values.
    pub values: Tensor,
}

/// How the columns of queries, keys and values divide into heads, and how a head attends.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// Key and value heads.
    pub n_kv: usize,
    /// Query heads a key head.
    pub n_groups: usize,
    /// Width of a head.
    pub d_head: usize,
    /// What scores are multiplied by.
    pub scale: f32,
    /// How many positions a query sees, its own included; `None` for all before it.
    pub window: Option<usize>,
    /// Scores become `cap * tanh(score / cap)`.
    pub softcap: Option<f32>,
}

/// Attention of `queries` `[query rows, n_heads * d_head]` over the rows' own `own.keys` and
/// `own.values` `[rows, n_kv_heads * d_head]` and, left of each span, over `prefix`. Returns
/// `[query rows, n_heads * d_head]`.
///
/// # Errors
/// Shapes that do not fit, or a prefix shorter than a span's start.
pub fn attend(
    queries: &Tensor,
    own: &KeysValues,
    prefix: Option<&KeysValues>,
    spans: &[Span],
    outputs: Outputs,
    heads: Heads,
) -> Result<Tensor> {
    let op = Attention { prefix, spans, outputs, heads };
    queries.apply_op3_no_bwd(&own.keys, &own.values, &op)
}

struct Attention<'a> {
    prefix: Option<&'a KeysValues>,
    spans: &'a [Span],
    outputs: Outputs,
    heads: Heads,
}

impl CustomOp3 for Attention<'_> {
    fn name(&self) -> &'static str {
        "prefix-shared-attention"
    }

    fn cpu_fwd(
        &self,
        queries: &CpuStorage,
        queries_layout: &Layout,
        keys: &CpuStorage,
        keys_layout: &Layout,
        values: &CpuStorage,
        values_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let own = [contiguous(keys, keys_layout)?, contiguous(values, values_layout)?];
        let queries = contiguous(queries, queries_layout)?;
        match self.prefix {
            None => self.run(queries, own, [&[], &[]]),
            Some(prefix) => {
                let (keys, keys_layout) = prefix.keys.storage_and_layout();
                let (values, values_layout) = prefix.values.storage_and_layout();
                match (&*keys, &*values) {
                    (Storage::Cpu(keys), Storage::Cpu(values)) => {
                        let prefix =
                            [contiguous(keys, keys_layout)?, contiguous(values, values_layout)?];
                        self.run(queries, own, prefix)
                    }
                    _ => candle_core::bail!("the prefix is on another device than the queries"),
                }
            }
        }
    }
}

impl Attention<'_> {
    fn run(
        &self,
        queries: &[f32],
        own: [&[f32]; 2],
        prefix: [&[f32]; 2],
    ) -> Result<(CpuStorage, Shape)> {
        let Heads { n_kv, n_groups, d_head, .. } = self.heads;
        let (d_kv, d_q) = (n_kv * d_head, n_kv * n_groups * d_head);
        let n_rows = n_rows(self.spans);
        let n_out: usize = self.spans.iter().map(|span| self.outputs.n_rows(span.len)).sum();
        let n_prefix = self.spans.iter().map(|span| span.start).max().unwrap_or(0);
        if queries.len() != n_out * d_q
            || own.iter().any(|matrix| matrix.len() != n_rows * d_kv)
            || prefix.iter().any(|matrix| matrix.len() < n_prefix * d_kv)
        {
            candle_core::bail!("attention over {n_rows} rows after {n_prefix} got other shapes")
        }
        let mut out = vec![0.0; n_out * d_q];
        let (mut work, mut rest) = (Vec::with_capacity(self.spans.len()), &mut *out);
        let (mut row, mut query_row) = (0, 0);
        for &span in self.spans {
            let n = self.outputs.n_rows(span.len);
            let (mine, others) = rest.split_at_mut(n * d_q);
            rest = others;
            work.push((span, row, query_row, mine));
            row += span.len;
            query_row += n;
        }
        let arch = Arch::new();
        work.into_par_iter().for_each(|(span, row, query_row, out)| {
            let own = own.map(|matrix| &matrix[row * d_kv..][..span.len * d_kv]);
            let prefix = prefix.map(|matrix| &matrix[..span.start * d_kv]);
            let queries = &queries[query_row * d_q..][..out.len()];
            arch.dispatch(SpanAttention { heads: self.heads, span, queries, own, prefix, out });
        });
        Ok((CpuStorage::F32(out), (n_out, d_q).into()))
    }
}

/// One span's share of the work: `out` gets the attention of its last `out.len() / d_q` rows.
struct SpanAttention<'a> {
    heads: Heads,
    span: Span,
    queries: &'a [f32],
    own: [&'a [f32]; 2],
    prefix: [&'a [f32]; 2],
    out: &'a mut [f32],
}

impl WithSimd for SpanAttention<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Heads { n_kv, n_groups, d_head, scale, window, softcap } = self.heads;
        let (d_kv, d_q) = (n_kv * d_head, n_kv * n_groups * d_head);
        let n_queries = self.out.len() / d_q;
        let n_skipped = self.span.len - n_queries;
        let mut weights = vec![0.0f32; self.span.start + self.span.len];
        for i in 0..n_queries {
            let n_before = self.span.start + n_skipped + i + 1;
            let n_seen = window.map_or(n_before, |window| window.min(n_before));
            let n_hidden = n_before - n_seen;
            for head in 0..n_kv * n_groups {
                let kv = (head / n_groups) * d_head;
                let at = i * d_q + head * d_head;
                let query = &self.queries[at..at + d_head];
                let seen = |which: usize| {
                    let prefix = self.prefix[which].chunks_exact(d_kv);
                    prefix
                        .chain(self.own[which].chunks_exact(d_kv))
                        .skip(n_hidden)
                        .take(n_seen)
                        .map(move |row| &row[kv..kv + d_head])
                };
                let mut largest = f32::NEG_INFINITY;
                for (weight, key) in weights.iter_mut().zip(seen(0)) {
                    let score = scale * dot(simd, query, key);
                    *weight = softcap.map_or(score, |cap| cap * (score / cap).tanh());
                    largest = largest.max(*weight);
                }
                let mut total = 0.0;
                for weight in &mut weights[..n_seen] {
                    *weight = (*weight - largest).exp();
                    total += *weight;
                }
                let out = &mut self.out[at..at + d_head];
                for (weight, value) in weights.iter().zip(seen(1)) {
                    add_scaled(simd, out, weight / total, value);
                }
            }
        }
    }
}

/// The dot product of two slices of equal length.
#[inline(always)]
fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_tail), (b, b_tail)) = (S::as_simd_f32s(a), S::as_simd_f32s(b));
    let mut sums = simd.splat_f32s(0.0);
    for (&a, &b) in a.iter().zip(b) {
        sums = simd.mul_add_f32s(a, b, sums);
    }
    let tail: f32 = a_tail.iter().zip(b_tail).map(|(a, b)| a * b).sum();
    simd.reduce_sum_f32s(sums) + tail
}

/// Adds `factor * x` to `out`, slices of equal length.
#[inline(always)]
fn add_scaled<S: Simd>(simd: S, out: &mut [f32], factor: f32, x: &[f32]) {
    let ((out, out_tail), (x, x_tail)) = (S::as_mut_simd_f32s(out), S::as_simd_f32s(x));
    let factors = simd.splat_f32s(factor);
    for (out, &x) in out.iter_mut().zip(x) {
        *out = simd.mul_add_f32s(factors, x, *out);
    }
    for (out, x) in out_tail.iter_mut().zip(x_tail) {
        *out += factor * x;
    }
}
