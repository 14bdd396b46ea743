//! Reads logits that are on the host, row by row.

use std::ops::{Add, Range};

use candle_core::{Device, Result, Storage, Tensor};
use rayon::prelude::*;

use super::{PieceReading, ReferenceWeights, Sums, keep_top, product};
use crate::model::{contiguous, exp, reduced, vectorised};

/// What `logits` `[rows, piece]` of the tokens `piece` say of each row, wherever they are.
///
/// # Errors
/// What candle reports.
pub fn read(
    logits: &Tensor,
    piece: &Range<usize>,
    rows: &[Sums],
    weights: Option<&ReferenceWeights>,
) -> Result<Vec<PieceReading>> {
    let logits = logits.to_device(&Device::Cpu)?;
    let (storage, layout) = logits.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else { candle_core::bail!("expected logits on the CPU") };
    let (_, width) = layout.shape().dims2()?;
    let logits = contiguous(storage, layout)?.par_chunks_exact(width);
    Ok(logits.zip(rows).map(|(logits, row)| read_row(logits, piece, row, weights)).collect())
}

/// Logits that are read while they are near the processor.
const BLOCK: usize = 1024;

fn read_row(
    logits: &[f32],
    piece: &Range<usize>,
    row: &Sums,
    weights: Option<&ReferenceWeights>,
) -> PieceReading {
    let blocks = logits.chunks(BLOCK);
    // NaN is never the larger one.
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let maximum = |block| vectorised(|| reduced(block, f32::NEG_INFINITY, |x| x, larger));
    let maxima: Vec<_> = blocks.clone().map(maximum).collect();
    let largest = maxima.iter().copied().fold(f32::NEG_INFINITY, larger);
    let (mut total, mut top, mut n_above) = (0.0, Vec::new(), [0; 2]);
    for (i, (block, maximum)) in blocks.zip(maxima).enumerate() {
        total += f64::from(vectorised(|| reduced(block, 0.0, |x| exp(x - largest), Add::add)));
        let is_kept = |least: &(u32, f32)| top.len() < row.n_top() || maximum > least.1;
        if top.last().is_none_or(is_kept) {
            keep_top(&mut top, row.n_top(), block, piece.start + i * BLOCK);
        }
        for (n_above, best) in n_above.iter_mut().zip(row.largest) {
            if maximum > best {
                *n_above += block.iter().filter(|&&logit| logit > best).count();
            }
        }
    }
    let log_sum = if largest == f32::NEG_INFINITY {
        // No number is larger, which NaN must not hide.
        if logits.iter().all(|x| *x == largest) { largest } else { f32::NAN }
    } else {
        largest + total.ln() as f32
    };
    let product_with = |reference: Option<usize>| match (reference, weights) {
        (Some(reference), Some(weights)) => product(&weights.weights[reference], logits),
        _ => 0.0,
    };
    let n_above = |answer: usize| {
        let best = row.largest[answer];
        // The answer's own logits come from another product, which may round otherwise.
        let is_own = |&&id: &&u32| {
            let at = (id as usize).checked_sub(piece.start);
            at.and_then(|at| logits.get(at)).is_some_and(|&logit| logit > best)
        };
        (n_above[answer] - row.answers()[answer].iter().filter(is_own).count()) as u32
    };
    PieceReading {
        log_sum,
        top,
        n_above: [0, 1].map(n_above),
        products: row.row.references.map(product_with),
    }
}
