//! Causal attention for many short runs that share their beginnings, as one candle operation.
//!
//! Rows of a tall matrix are grouped into [`Span`]s: one run's positions, of which the first have
//! their keys and values in a matrix that many runs share. That is what makes a patched run cheap:
//! left of the patch it is the base run.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Storage, Tensor};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::functions::{exp, tanh};
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
        let Heads { n_kv, n_groups, d_head, .. } = self.heads;
        let (d_kv, d_q) = (n_kv * d_head, n_kv * n_groups * d_head);
        let n_queries = self.out.len() / d_q;
        let n_rows = self.position + n_queries;
        let mut weights = vec![0.0; AT_ONCE * n_rows];
        let mut mixed = vec![0.0; AT_ONCE * d_head];
        for kv in 0..n_kv {
            let rows = |which: usize| -> Vec<&[f32]> {
                let (shared, own) = (self.shared[which], self.own[which]);
                let rows = shared.chunks_exact(d_kv).chain(own.chunks_exact(d_kv)).take(n_rows);
                rows.map(|row| &row[kv * d_head..][..d_head]).collect()
            };
            let head = Head { heads: self.heads, keys: &rows(0), values: &rows(1) };
            // All queries that look at this head: those of one position are neighbours, since they
            // see the same.
            let n = n_queries * n_groups;
            let at = |i: usize| i / n_groups * d_q + (kv * n_groups + i % n_groups) * d_head;
            for first in (0..n).step_by(AT_ONCE) {
                let query = |i: usize| &self.queries[at(first + i)..][..d_head];
                let position = |i: usize| self.position + (first + i) / n_groups;
                macro_rules! attend {
                    ($($i:literal)*) => {
                        head.attend(
                            simd,
                            [$(query($i)),*],
                            [$(position($i)),*],
                            &mut weights,
                            &mut mixed,
                        )
                    };
                }
                match n - first {
                    1 => attend!(0),
                    2 => attend!(0 1),
                    3 => attend!(0 1 2),
                    _ => attend!(0 1 2 3),
                }
                for (i, mixed) in mixed.chunks_exact(d_head).take(n - first).enumerate() {
                    self.out[at(first + i)..][..d_head].copy_from_slice(mixed);
                }
            }
        }
    }
}

/// Queries that are multiplied with a key, or mix a value, together: as many as leave their sums in
/// registers.
const AT_ONCE: usize = 4;

/// One head's keys and values, by position.
struct Head<'a> {
    heads: Heads,
    keys: &'a [&'a [f32]],
    values: &'a [&'a [f32]],
}

impl Head<'_> {
    /// Attention of `Q` queries. `weights` `[Q, positions]` is room to work in; what each query
    /// takes from the values is left in `mixed` `[Q, d_head]`.
    #[inline(always)]
    fn attend<S: Simd, const Q: usize>(
        &self,
        simd: S,
        queries: [&[f32]; Q],
        positions: [usize; Q],
        weights: &mut [f32],
        mixed: &mut [f32],
    ) {
        let Heads { d_head, scale, window, softcap, .. } = self.heads;
        let seen = positions.map(|position| {
            let end = position + 1;
            end - window.map_or(end, |window| window.min(end))..end
        });
        // What all of them see is visited once, and what only some see for each alone.
        let begin = seen.iter().map(|seen| seen.start).max().unwrap_or(0);
        let end = seen.iter().map(|seen| seen.end).min().unwrap_or(0);
        let common = begin..end.max(begin);
        let common = if common.is_empty() { 0..0 } else { common };
        let others = seen.clone().map(|seen| match common.is_empty() {
            true => [seen, 0..0],
            false => [seen.start..common.start, common.end..seen.end],
        });
        let n_rows = self.keys.len();
        scores(simd, queries, &self.keys[common.clone()], weights, n_rows, common.start);
        for (q, others) in others.iter().enumerate() {
            let weights = &mut weights[q * n_rows..][..n_rows];
            for part in others {
                let keys = &self.keys[part.clone()];
                scores(simd, [queries[q]], keys, weights, n_rows, part.start);
            }
            softmax(simd, &mut weights[seen[q].clone()], scale, softcap);
        }
        // In the order of positions, so that a query's sums do not depend on its company.
        let mixed = &mut mixed[..Q * d_head];
        mixed.fill(0.0);
        let alone = |which: usize, mixed: &mut [f32]| {
            for ((q, others), mixed) in
                others.iter().enumerate().zip(mixed.chunks_exact_mut(d_head))
            {
                let part = others[which].clone();
                let weights = &weights[q * n_rows..][..n_rows];
                mix::<S, 1>(simd, weights, n_rows, part.start, &self.values[part], mixed);
            }
        };
        alone(0, mixed);
        mix::<S, Q>(simd, weights, n_rows, common.start, &self.values[common], mixed);
        alone(1, mixed);
    }
}

/// The dot products of `queries` with `keys`, into the rows of `weights` `[Q, n_rows]` from column
/// `first` on.
#[inline(always)]
fn scores<S: Simd, const Q: usize>(
    simd: S,
    queries: [&[f32]; Q],
    keys: &[&[f32]],
    weights: &mut [f32],
    n_rows: usize,
    first: usize,
) {
    let mut pairs = keys.chunks_exact(2);
    let mut at = first;
    for pair in &mut pairs {
        for (q, dots) in dots(simd, queries, [pair[0], pair[1]]).into_iter().enumerate() {
            weights[q * n_rows + at..][..2].copy_from_slice(&dots);
        }
        at += 2;
    }
    for key in pairs.remainder() {
        for (q, [dot]) in dots(simd, queries, [key]).into_iter().enumerate() {
            weights[q * n_rows + at] = dot;
        }
    }
}

/// The dot product of each of `a` with each of `b`, slices of equal length.
#[inline(always)]
fn dots<S: Simd, const A: usize, const B: usize>(
    simd: S,
    a: [&[f32]; A],
    b: [&[f32]; B],
) -> [[f32; B]; A] {
    let (a, b) = (a.map(S::as_simd_f32s), b.map(S::as_simd_f32s));
    let n = b[0].0.len();
    let (a_vectors, b_vectors) = (a.map(|(x, _)| &x[..n]), b.map(|(x, _)| &x[..n]));
    let mut sums = [[simd.splat_f32s(0.0); B]; A];
    for i in 0..n {
        for (sums, a) in sums.iter_mut().zip(a_vectors) {
            for (sum, b) in sums.iter_mut().zip(b_vectors) {
                *sum = simd.mul_add_f32s(a[i], b[i], *sum);
            }
        }
    }
    let mut out = [[0.0; B]; A];
    for ((out, sums), (_, a)) in out.iter_mut().zip(sums).zip(a) {
        for ((out, sum), (_, b)) in out.iter_mut().zip(sums).zip(b) {
            let rest: f32 = a.iter().zip(b).map(|(a, b)| a * b).sum();
            *out = simd.reduce_sum_f32s(sum) + rest;
        }
    }
    out
}

/// Makes weights that sum to 1 of scores.
#[inline(always)]
fn softmax<S: Simd>(simd: S, scores: &mut [f32], scale: f32, softcap: Option<f32>) {
    match softcap {
        None => scores.iter_mut().for_each(|score| *score *= scale),
        Some(cap) => {
            scores.iter_mut().for_each(|score| *score = cap * tanh(*score * scale / cap));
        }
    }
    let (vectors, rest) = S::as_simd_f32s(scores);
    let largest = vectors
        .iter()
        .fold(simd.splat_f32s(f32::NEG_INFINITY), |largest, &x| simd.max_f32s(largest, x));
    let largest = rest.iter().copied().fold(simd.reduce_max_f32s(largest), f32::max);
    scores.iter_mut().for_each(|score| *score = exp(*score - largest));
    let (vectors, rest) = S::as_simd_f32s(scores);
    let total = vectors.iter().fold(simd.splat_f32s(0.0), |total, &x| simd.add_f32s(total, x));
    let factor = 1.0 / (simd.reduce_sum_f32s(total) + rest.iter().sum::<f32>());
    scores.iter_mut().for_each(|weight| *weight *= factor);
}

/// Adds `values`, each times its weight, to the rows of `out` `[Q, d_head]`. The weights are the rows
/// of `weights` `[Q, n_rows]` from column `first` on.
#[inline(always)]
fn mix<S: Simd, const Q: usize>(
    simd: S,
    weights: &[f32],
    n_rows: usize,
    first: usize,
    values: &[&[f32]],
    out: &mut [f32],
) {
    let d_head = out.len() / Q;
    let n_lanes = size_of::<S::f32s>() / size_of::<f32>();
    let n_vectors = d_head / n_lanes;
    let mut vector = 0;
    while vector + 2 <= n_vectors {
        mix_vectors::<S, Q, 2>(simd, weights, n_rows, first, values, out, vector);
        vector += 2;
    }
    if vector < n_vectors {
        mix_vectors::<S, Q, 1>(simd, weights, n_rows, first, values, out, vector);
    }
    for (q, out) in out.chunks_exact_mut(d_head).enumerate() {
        let weights = &weights[q * n_rows + first..][..values.len()];
        for (column, out) in out.iter_mut().enumerate().skip(n_vectors * n_lanes) {
            for (weight, value) in weights.iter().zip(values) {
                *out += weight * value[column];
            }
        }
    }
}

/// [`mix`] for the `V` vectors of each row from the one that is number `vector` on.
#[inline(always)]
fn mix_vectors<S: Simd, const Q: usize, const V: usize>(
    simd: S,
    weights: &[f32],
    n_rows: usize,
    first: usize,
    values: &[&[f32]],
    out: &mut [f32],
    vector: usize,
) {
    let d_head = out.len() / Q;
    let mut sums = [[simd.splat_f32s(0.0); V]; Q];
    for (sums, out) in sums.iter_mut().zip(out.chunks_exact(d_head)) {
        sums.copy_from_slice(&S::as_simd_f32s(out).0[vector..][..V]);
    }
    let rows: [&[f32]; Q] = std::array::from_fn(|q| &weights[q * n_rows + first..][..values.len()]);
    for (i, value) in values.iter().enumerate() {
        let value = &S::as_simd_f32s(value).0[vector..][..V];
        for (sums, row) in sums.iter_mut().zip(rows) {
            let weight = simd.splat_f32s(row[i]);
            for (sum, &value) in sums.iter_mut().zip(value) {
                *sum = simd.mul_add_f32s(weight, value, *sum);
            }
        }
    }
    for (sums, out) in sums.iter().zip(out.chunks_exact_mut(d_head)) {
        S::as_mut_simd_f32s(out).0[vector..][..V].copy_from_slice(sums);
    }
}

#[cfg(test)]
mod tests;
