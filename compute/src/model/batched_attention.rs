//! The attention of [`super::attention`] in candle's tensor operations, for devices on which our
//! kernel does not run.
//!
//! Spans that begin at the same position and are equally long are one batch, so that the number of
//! operations grows with the positions and not with the cells. The prefix's keys are multiplied
//! with the queries of all spans of a batch at once and are copied for none.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::ops::softmax_last_dim;

use super::attention::{Heads, KeysValues};
use super::rows::{Outputs, Span};

/// The most bytes of scores at a time, unless one span alone has more.
const SCORE_BYTES: usize = 64 << 20;

/// As [`super::attention::attend`]; `mask` `[positions, positions]` is what [`mask`] makes for the
/// layer's window.
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
    mask: &Tensor,
) -> Result<Tensor> {
    let groups = Groups::new(spans, outputs);
    let keys = reordered(&own.keys, &groups.rows)?;
    let values = reordered(&own.values, &groups.rows)?;
    let queries = reordered(queries, &groups.queries)?;
    let prefix = match prefix.filter(|_| spans.iter().any(|span| span.start > 0)) {
        None => None,
        Some(prefix) => {
            Some([by_head(&prefix.keys, 1, heads)?, by_head(&prefix.values, 1, heads)?])
        }
    };
    let (mut row, mut query_row, mut mixed) = (0, 0, Vec::new());
    for &(span, n_spans) in &groups.groups {
        let Span { start, len } = span;
        let n_queries = outputs.n_rows(len);
        let end = start + len;
        let mask = mask.narrow(0, end - n_queries, n_queries)?.narrow(1, 0, end)?;
        let prefix = match (&prefix, start) {
            (_, 0) => None,
            (Some([keys, values]), _) => {
                Some([keys.narrow(1, 0, start)?, values.narrow(1, 0, start)?])
            }
            (None, _) => candle_core::bail!("a span begins at {start}, and there is no prefix"),
        };
        let n_span_bytes = heads.n_kv * heads.n_groups * n_queries * end * size_of::<f32>();
        let n_most = (SCORE_BYTES / n_span_bytes.max(1)).max(1);
        for first in (0..n_spans).step_by(n_most) {
            let n = n_most.min(n_spans - first);
            let part = Batch {
                n_spans: n,
                queries: queries.narrow(0, query_row + first * n_queries, n * n_queries)?,
                keys: keys.narrow(0, row + first * len, n * len)?,
                values: values.narrow(0, row + first * len, n * len)?,
                prefix: prefix.as_ref(),
                mask: &mask,
            };
            mixed.push(part.attend(heads)?);
        }
        row += n_spans * len;
        query_row += n_spans * n_queries;
    }
    let mut inverse = vec![0; groups.queries.len()];
    for (to, &from) in groups.queries.iter().enumerate() {
        inverse[from as usize] = to as u32;
    }
    reordered(&Tensor::cat(&mixed, 0)?, &inverse)
}

/// Spans sorted into groups of equal start and length.
struct Groups {
    /// Each group's start and length, and how many spans it has.
    groups: Vec<(Span, usize)>,
    /// The rows of keys and values, group by group.
    rows: Vec<u32>,
    /// The rows of queries, group by group.
    queries: Vec<u32>,
}

impl Groups {
    fn new(spans: &[Span], outputs: Outputs) -> Self {
        let (mut row, mut query) = (0, 0);
        let begins = spans.iter().map(|&span| {
            let at = (span, row, query);
            row += span.len as u32;
            query += outputs.n_rows(span.len) as u32;
            at
        });
        let mut sorted: Vec<_> = begins.collect();
        sorted.sort_by_key(|(span, ..)| (span.start, span.len));
        let equal = sorted.chunk_by(|(a, ..), (b, ..)| a == b);
        Self {
            groups: equal.map(|group| (group[0].0, group.len())).collect(),
            rows: sorted.iter().flat_map(|&(s, row, _)| row..row + s.len as u32).collect(),
            queries: sorted
                .iter()
                .flat_map(|&(s, _, query)| query..query + outputs.n_rows(s.len) as u32)
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

/// Spans of one start and one length.
struct Batch<'a> {
    n_spans: usize,
    queries: Tensor,                 // [spans * queries, n_kv * n_groups * d_head]
    keys: Tensor,                    // [spans * len, n_kv * d_head]
    values: Tensor,                  // [spans * len, n_kv * d_head]
    prefix: Option<&'a [Tensor; 2]>, // keys and values, [n_kv, start, d_head]
    mask: &'a Tensor,                // [queries, start + len]
}

impl Batch<'_> {
    /// `[spans * queries, n_kv * n_groups * d_head]`
    fn attend(&self, heads: Heads) -> Result<Tensor> {
        let Heads { n_kv, n_groups, d_head, scale, softcap, .. } = heads;
        let n_spans = self.n_spans;
        let (n_queries, end) = self.mask.dims2()?;
        let len = self.keys.dim(0)? / n_spans;
        let start = end - len;
        let dtype = self.queries.dtype();
        // All queries that one key head answers, and those of them that one span's keys answer.
        let (n_head, n_one) = (n_spans * n_groups * n_queries, n_groups * n_queries);
        let queries = self
            .queries
            .reshape([n_spans, n_queries, n_kv, n_groups, d_head].as_slice())?
            .permute([2, 0, 3, 1, 4])?
            .contiguous()?; // [n_kv, spans, n_groups, queries, d_head]

        let keys = by_head(&self.keys, n_spans, heads)?;
        let own = queries.reshape((n_kv * n_spans, n_one, d_head))?.matmul(&keys.t()?)?;
        let own = own.reshape((n_kv, n_head, len))?;
        let scores = match self.prefix {
            None => own,
            Some([keys, _]) => {
                let left = queries.reshape((n_kv, n_head, d_head))?.matmul(&keys.t()?)?;
                Tensor::cat(&[left, own], 2)?
            }
        };
        let mut scores = (scores.to_dtype(DType::F32)? * f64::from(scale))?;
        if let Some(cap) = softcap.map(f64::from) {
            scores = ((scores / cap)?.tanh()? * cap)?;
        }
        let scores = scores.reshape((n_kv * n_spans * n_groups, n_queries, end))?;
        let weights = softmax_last_dim(&scores.broadcast_add(self.mask)?)?.to_dtype(dtype)?;

        let weights = weights.reshape((n_kv, n_head, end))?;
        let own = weights.narrow(2, start, len)?.contiguous()?;
        let own = own.reshape((n_kv * n_spans, n_one, len))?;
        let mixed = own.matmul(&by_head(&self.values, n_spans, heads)?)?;
        let mixed = mixed.reshape((n_kv, n_head, d_head))?;
        let mixed = match self.prefix {
            None => mixed,
            Some([_, values]) => {
                (weights.narrow(2, 0, start)?.contiguous()?.matmul(values)? + mixed)?
            }
        };
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
