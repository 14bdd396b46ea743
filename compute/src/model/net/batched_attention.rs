//! The attention of [`super::attention`] in candle's tensor operations, for devices on which our
//! kernel does not run.
//!
//! Spans of one run that are equally long are one batch, so that the number of operations grows
//! with the positions and not with the cells. The shared keys are multiplied with the queries of
//! all spans of a batch at once and are copied for none.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::ops::softmax_last_dim;

use super::attention::{Heads, KeysValues};
use super::rows::Span;

/// The most bytes of scores at a time, unless one span alone has more.
const SCORE_BYTES: usize = 64 << 20;

/// As [`super::attention::attend`]; `mask` `[positions, positions]` is what [`mask`] makes for the
/// layer's window.
///
/// # Errors
/// Shapes that do not fit.
pub fn attend(
    queries: &Tensor,
    own: Option<&KeysValues>,
    shared: Option<&KeysValues>,
    spans: &[Span],
    heads: Heads,
    mask: &Tensor,
) -> Result<Tensor> {
    let groups = Groups::new(spans);
    let own = match own {
        None => None,
        Some(own) => {
            Some([reordered(&own.keys, &groups.rows)?, reordered(&own.values, &groups.rows)?])
        }
    };
    // Multiplied beforehand, so that the products stay in the range of half-precision types.
    let queries = (reordered(queries, &groups.queries)? * f64::from(heads.scale))?;
    let shared = match shared {
        None => None,
        Some(shared) => {
            Some([by_head(&shared.keys, 1, heads)?, by_head(&shared.values, 1, heads)?])
        }
    };
    let (mut row, mut query_row, mut mixed) = (0, 0, Vec::new());
    for &(span, n_spans) in &groups.groups {
        let Span { offset, n_shared, n_own, n_queries } = span;
        let end = span.end();
        let mask = mask.narrow(0, end - n_queries, n_queries)?.narrow(1, 0, end)?;
        let shared = match (&shared, n_shared) {
            (_, 0) => None,
            (Some([keys, values]), _) => {
                Some([keys.narrow(1, offset, n_shared)?, values.narrow(1, offset, n_shared)?])
            }
            (None, _) => candle_core::bail!("a span shares {n_shared} positions of nothing"),
        };
        let n_span_bytes = heads.n_kv * heads.n_groups * n_queries * end * size_of::<f32>();
        let n_most = (SCORE_BYTES / n_span_bytes.max(1)).max(1);
        for first in (0..n_spans).step_by(n_most) {
            let n = n_most.min(n_spans - first);
            let own = match (&own, n_own) {
                (_, 0) => None,
                (Some([keys, values]), _) => {
                    let at = |x: &Tensor| x.narrow(0, row + first * n_own, n * n_own);
                    Some([by_head(&at(keys)?, n, heads)?, by_head(&at(values)?, n, heads)?])
                }
                (None, _) => candle_core::bail!("a span has no keys and values of its own"),
            };
            let part = Batch {
                n_spans: n,
                queries: queries.narrow(0, query_row + first * n_queries, n * n_queries)?,
                own,
                shared: shared.as_ref(),
                mask: &mask,
            };
            mixed.push(part.attend(heads)?);
        }
        row += n_spans * n_own;
        query_row += n_spans * n_queries;
    }
    let mut inverse = vec![0; groups.queries.len()];
    for (to, &from) in groups.queries.iter().enumerate() {
        inverse[from as usize] = to as u32;
    }
    reordered(&Tensor::cat(&mixed, 0)?, &inverse)
}

/// Spans sorted into groups of equals.
struct Groups {
    /// Each group's span, and how many there are of it.
    groups: Vec<(Span, usize)>,
    /// The rows of keys and values, group by group.
    rows: Vec<u32>,
    /// The rows of queries, group by group.
    queries: Vec<u32>,
}

impl Groups {
    fn new(spans: &[Span]) -> Self {
        let (mut row, mut query) = (0, 0);
        let begins =
            spans.iter().filter(|span| span.n_queries > 0 || span.n_own > 0).map(|&span| {
                let at = (span, row, query);
                row += span.n_own as u32;
                query += span.n_queries as u32;
                at
            });
        let mut sorted: Vec<_> = begins.collect();
        sorted.sort_by_key(|(span, ..)| (span.offset, span.n_shared, span.n_own, span.n_queries));
        let equal = sorted.chunk_by(|(a, ..), (b, ..)| a == b);
        Self {
            groups: equal.map(|group| (group[0].0, group.len())).collect(),
            rows: sorted.iter().flat_map(|&(s, row, _)| row..row + s.n_own as u32).collect(),
            queries: sorted
                .iter()
                .flat_map(|&(s, _, query)| query..query + s.n_queries as u32)
                .collect(),
        }
    }
}

/// The rows of `x` `[rows, width]` in the order `order` `[rows]`.
fn reordered(x: &Tensor, order: &[u32]) -> Result<Tensor> {
    match order.is_sorted() {
        true => Ok(x.clone()),
        false => x.index_select(&Tensor::new(order, x.device())?, 0),
    }
}

/// Keys or values `x` `[spans * len, n_kv * d_head]` as `[n_kv * spans, len, d_head]`.
fn by_head(x: &Tensor, n_spans: usize, heads: Heads) -> Result<Tensor> {
    let Heads { n_kv, d_head, .. } = heads;
    let (n_rows, _) = x.dims2()?;
    let len = n_rows / n_spans;
    let split = x.reshape((n_spans, len, n_kv, d_head))?.permute((2, 0, 1, 3))?;
    split.contiguous()?.reshape((n_kv * n_spans, len, d_head))
}

/// Equal spans.
struct Batch<'a> {
    n_spans: usize,
    queries: Tensor,          // [spans * queries, n_kv * n_groups * d_head], scaled
    own: Option<[Tensor; 2]>, // keys and values, [n_kv * spans, own, d_head]
    shared: Option<&'a [Tensor; 2]>, // keys and values, [n_kv, shared, d_head]
    mask: &'a Tensor,         // [queries, shared + own]
}

impl Batch<'_> {
    /// `[spans * queries, n_kv * n_groups * d_head]`
    fn attend(&self, heads: Heads) -> Result<Tensor> {
        let Heads { n_kv, n_groups, d_head, softcap, .. } = heads;
        let n_spans = self.n_spans;
        let (n_queries, end) = self.mask.dims2()?;
        let dtype = self.queries.dtype();
        // All queries that one key head answers, and those of them that one span's keys answer.
        let (n_head, n_one) = (n_spans * n_groups * n_queries, n_groups * n_queries);
        let queries = self
            .queries
            .reshape([n_spans, n_queries, n_kv, n_groups, d_head].as_slice())?
            .permute([2, 0, 3, 1, 4])?
            .contiguous()?; // [n_kv, spans, n_groups, queries, d_head]

        let mut scores = Vec::with_capacity(2);
        if let Some([keys, _]) = self.shared {
            scores.push(queries.reshape((n_kv, n_head, d_head))?.matmul(&keys.t()?)?);
        }
        if let Some([keys, _]) = &self.own {
            let own = queries.reshape((n_kv * n_spans, n_one, d_head))?.matmul(&keys.t()?)?;
            let (_, _, n_own) = own.dims3()?;
            scores.push(own.reshape((n_kv, n_head, n_own))?);
        }
        let mut scores = Tensor::cat(&scores, 2)?.to_dtype(DType::F32)?;
        if let Some(cap) = softcap.map(f64::from) {
            scores = ((scores / cap)?.tanh()? * cap)?;
        }
        let scores = scores.reshape((n_kv * n_spans * n_groups, n_queries, end))?;
        let weights = softmax_last_dim(&scores.broadcast_add(self.mask)?)?.to_dtype(dtype)?;

        let weights = weights.reshape((n_kv, n_head, end))?;
        let mut n_shared = 0;
        let mut mixed = None;
        if let Some([_, values]) = self.shared {
            n_shared = values.dim(1)?;
            mixed = Some(weights.narrow(2, 0, n_shared)?.contiguous()?.matmul(values)?);
        }
        if let Some([_, values]) = &self.own {
            let n_own = end - n_shared;
            let own = weights.narrow(2, n_shared, n_own)?.contiguous()?;
            let own = own.reshape((n_kv * n_spans, n_one, n_own))?.matmul(values)?;
            let own = own.reshape((n_kv, n_head, d_head))?;
            mixed = Some(match mixed {
                None => own,
                Some(shared) => (shared + own)?,
            });
        }
        let Some(mixed) = mixed else { candle_core::bail!("a span without positions") };
        mixed
            .reshape([n_kv, n_spans, n_groups, n_queries, d_head].as_slice())?
            .permute([1, 3, 0, 2, 4])?
            .contiguous()?
            .reshape((n_spans * n_queries, n_kv * n_groups * d_head))
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
