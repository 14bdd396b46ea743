//! Reads logits that are on the host, row by row.

use std::ops::{Add, Range};

use candle_core::{Device, Result, Storage, Tensor};
use rayon::prelude::*;

use super::{PieceReading, ReferenceWeights, Sums, keep_top, product};
use crate::model::{PIECE_ROWS, Unembedding, contiguous, exp, reduced, vectorised};

/// The most rows and tokens whose logits a thread makes and reads at a time: few enough that they stay in
/// the second cache from the one to the other.
const ROWS: usize = 128;
const SLICE: usize = 512;

/// The most logits of a row that are there at a time, where each thread may have a slice of them.
pub fn n_logits_at_once() -> usize {
    PIECE_ROWS.min(rayon::current_num_threads() * SLICE)
}

/// Adds to `sums` what the logits of the tokens `piece` say of rows `x` `[rows, d_model]`, whose
/// logits `unembedding` makes.
///
/// # Errors
/// What candle reports.
pub fn read(
    unembedding: &Unembedding,
    piece: &Range<usize>,
    x: &Tensor,
    sums: &mut [Sums],
    weights: Option<&ReferenceWeights>,
) -> Result<()> {
    let n_slices = piece.len().div_ceil(SLICE);
    let blocks: Vec<_> = sums.chunks(ROWS).enumerate().collect();
    let tasks = (0..n_slices * blocks.len()).into_par_iter();
    let read = tasks.map(|task| {
        let (i, rows) = &blocks[task % blocks.len()];
        let begin = task / blocks.len() * SLICE;
        let tokens = begin..piece.len().min(begin + SLICE);
        let logits = unembedding.slice(tokens.clone())?;
        let logits = logits.logits(&x.narrow(0, i * ROWS, rows.len())?)?;
        let tokens = piece.start + tokens.start..piece.start + tokens.end;
        read_logits(&logits, &tokens, rows, weights, begin)
    });
    let read = read.collect::<Result<Vec<_>>>()?;
    // In the order of tokens for each row.
    let n_blocks = blocks.len();
    for (task, read) in read.into_iter().enumerate() {
        let rows = &mut sums[task % n_blocks * ROWS..];
        rows.iter_mut().zip(read).for_each(|(sums, read)| sums.add(read));
    }
    Ok(())
}

/// What `logits` `[rows, tokens]` of the consecutive `tokens` say of each row, wherever they are; of
/// the references' weights, those from `first` on are the tokens'.
///
/// # Errors
/// What candle reports.
pub fn read_logits(
    logits: &Tensor,
    tokens: &Range<usize>,
    rows: &[Sums],
    weights: Option<&ReferenceWeights>,
    first: usize,
) -> Result<Vec<PieceReading>> {
    let logits = logits.to_device(&Device::Cpu)?;
    let (storage, layout) = logits.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else { candle_core::bail!("expected logits on the CPU") };
    let (_, width) = layout.shape().dims2()?;
    let logits = contiguous(storage, layout)?.chunks_exact(width).zip(rows);
    Ok(logits.map(|(logits, row)| read_row(logits, tokens, row, weights, first)).collect())
}

fn read_row(
    logits: &[f32],
    tokens: &Range<usize>,
    row: &Sums,
    weights: Option<&ReferenceWeights>,
    first: usize,
) -> PieceReading {
    // NaN is never the larger one.
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let largest = vectorised(|| reduced(logits, f32::NEG_INFINITY, |x| x, larger));
    let total = vectorised(|| reduced(logits, 0.0, |x| exp(x - largest), Add::add));
    let mut top = Vec::new();
    // Most slices hold none of the largest.
    let known = &row.whole.top;
    if known.len() < row.n_top() || known.last().is_none_or(|least| largest > least.1) {
        keep_top(&mut top, row.n_top(), logits, tokens.start);
    }
    let log_sum = if largest == f32::NEG_INFINITY {
        // No number is larger, which NaN must not hide.
        if logits.iter().all(|x| *x == largest) { f64::NEG_INFINITY } else { f64::NAN }
    } else {
        f64::from(largest) + f64::from(total).ln()
    };
    let product_with = |reference: Option<usize>| match (reference, weights) {
        (Some(reference), Some(weights)) => {
            product(&weights.weights[reference][first..][..logits.len()], logits)
        }
        _ => 0.0,
    };
    let n_above = |answer: usize| {
        let best = row.largest[answer];
        if largest <= best {
            return 0;
        }
        let n = vectorised(|| logits.iter().filter(|&&logit| logit > best).count());
        // The answer's own logits come from another product, which may round otherwise.
        let is_own = |&&id: &&u32| {
            let at = (id as usize).checked_sub(tokens.start);
            at.and_then(|at| logits.get(at)).is_some_and(|&logit| logit > best)
        };
        (n - row.answers()[answer].iter().filter(is_own).count()) as u32
    };
    PieceReading {
        log_sum,
        top,
        n_above: [0, 1].map(n_above),
        products: row.row.references.map(product_with),
    }
}
