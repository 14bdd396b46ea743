//! Causal attention for many short runs that share their beginnings, as one candle operation.
//!
//! Rows of a tall matrix are grouped into [`Span`]s: one run's positions, of which the first have
//! their keys and values in a matrix that many runs share. That is what makes a patched run cheap:
//! left of the patch it is the base run.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Storage, Tensor};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::rows::{Span, contiguous};

/// Keys and values, each `[rows, n_kv_heads * d_head]`.
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

/// Attention of `queries` `[query rows, n_heads * d_head]` over what the spans see of `shared` and,
/// after that, over the rows' own `own`, whose rows are the spans' own positions one after another.
/// Returns `[query rows, n_heads * d_head]`.
///
/// # Errors
/// Shapes that do not fit.
pub fn attend(
    queries: &Tensor,
    own: Option<&KeysValues>,
    shared: Option<&KeysValues>,
    spans: &[Span],
    heads: Heads,
) -> Result<Tensor> {
    queries.apply_op1_no_bwd(&Attention { own, shared, spans, heads })
}

struct Attention<'a> {
    own: Option<&'a KeysValues>,
    shared: Option<&'a KeysValues>,
    spans: &'a [Span],
    heads: Heads,
}

impl CustomOp1 for Attention<'_> {
    fn name(&self) -> &'static str {
        "prefix-shared-attention"
    }

    fn cpu_fwd(&self, queries: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let queries = contiguous(queries, layout)?;
        with_numbers(self.own, |own| {
            with_numbers(self.shared, |shared| self.run(queries, own, shared))
        })
    }
}

/// Calls `f` with the numbers of keys and values, which are on the CPU; with none of none.
fn with_numbers<R>(
    keys_values: Option<&KeysValues>,
    f: impl FnOnce([&[f32]; 2]) -> Result<R>,
) -> Result<R> {
    let Some(KeysValues { keys, values }) = keys_values else { return f([&[], &[]]) };
    let (keys, keys_layout) = keys.storage_and_layout();
    let (values, values_layout) = values.storage_and_layout();
    match (&*keys, &*values) {
        (Storage::Cpu(keys), Storage::Cpu(values)) => {
            f([contiguous(keys, keys_layout)?, contiguous(values, values_layout)?])
        }
        _ => candle_core::bail!("keys and values are on another device than the queries"),
    }
}

/// Queries a task: enough to be worth scheduling, few enough to keep all cores busy.
const QUERIES_PER_TASK: usize = 16;

impl Attention<'_> {
    fn run(
        &self,
        queries: &[f32],
        own: [&[f32]; 2],
        shared: [&[f32]; 2],
    ) -> Result<(CpuStorage, Shape)> {
        let Heads { n_kv, n_groups, d_head, .. } = self.heads;
        let (d_kv, d_q) = (n_kv * d_head, n_kv * n_groups * d_head);
        let n_rows: usize = self.spans.iter().map(|span| span.n_own).sum();
        let n_out: usize = self.spans.iter().map(|span| span.n_queries).sum();
        let n_shared = self.spans.iter().map(|span| span.offset + span.n_shared).max().unwrap_or(0);
        if queries.len() != n_out * d_q
            || own.iter().any(|matrix| matrix.len() != n_rows * d_kv)
            || shared.iter().any(|matrix| matrix.len() < n_shared * d_kv)
        {
            candle_core::bail!("attention over {n_rows} rows after {n_shared} got other shapes")
        }
        let mut out = vec![0.0; n_out * d_q];
        let (mut work, mut rest) = (Vec::with_capacity(self.spans.len()), &mut *out);
        let (mut row, mut query_row) = (0, 0);
        for &span in self.spans {
            let own = own.map(|matrix| &matrix[row * d_kv..][..span.n_own * d_kv]);
            let shared = shared.map(|matrix| &matrix[span.offset * d_kv..][..span.n_shared * d_kv]);
            for first in (0..span.n_queries).step_by(QUERIES_PER_TASK) {
                let n = QUERIES_PER_TASK.min(span.n_queries - first);
                let (out, others) = rest.split_at_mut(n * d_q);
                rest = others;
                let queries = &queries[(query_row + first) * d_q..][..n * d_q];
                let position = span.queries().start + first;
                work.push(Queries { heads: self.heads, position, queries, own, shared, out });
            }
            row += span.n_own;
            query_row += span.n_queries;
        }
        let arch = Arch::new();
        work.into_par_iter().for_each(|queries| arch.dispatch(queries));
        Ok((CpuStorage::F32(out), (n_out, d_q).into()))
    }
}

/// Some queries of one span, the first of them at `position`.
struct Queries<'a> {
    heads: Heads,
    position: usize,
    queries: &'a [f32],
    own: [&'a [f32]; 2],
    shared: [&'a [f32]; 2],
    out: &'a mut [f32],
}

impl WithSimd for Queries<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Heads { n_kv, n_groups, d_head, scale, window, softcap } = self.heads;
        let (d_kv, d_q) = (n_kv * d_head, n_kv * n_groups * d_head);
        let n_queries = self.out.len() / d_q;
        let mut weights = vec![0.0f32; self.position + n_queries];
        for i in 0..n_queries {
            let n_before = self.position + i + 1;
            let n_seen = window.map_or(n_before, |window| window.min(n_before));
            let n_hidden = n_before - n_seen;
            for head in 0..n_kv * n_groups {
                let kv = (head / n_groups) * d_head;
                let at = i * d_q + head * d_head;
                let query = &self.queries[at..at + d_head];
                let seen = |which: usize| {
                    let shared = self.shared[which].chunks_exact(d_kv);
                    shared
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
