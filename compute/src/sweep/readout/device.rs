//! Reads logits on the device that made them, in a few large operations: of each row a handful of
//! numbers and some hundred maxima are copied to the host, and not the whole vocabulary.

use std::ops::Range;

use candle_core::{DType, Result, Tensor};
use rayon::prelude::*;

use super::{PieceReading, ReferenceWeights, Sums, host, keep_top};

/// Consecutive tokens of which the largest logit is looked for first.
const BLOCK: usize = 128;

/// What `logits` `[rows, piece]` of the tokens `piece` say of each row.
///
/// # Errors
/// What candle reports.
pub fn read(
    logits: &Tensor,
    piece: &Range<usize>,
    rows: &[Sums],
    weights: Option<&ReferenceWeights>,
) -> Result<Vec<PieceReading>> {
    let largest = logits.max_keepdim(1)?;
    let totals = logits.broadcast_sub(&largest)?.exp()?.sum(1)?.to_vec1::<f32>()?;
    let largest = largest.squeeze(1)?.to_vec1::<f32>()?;
    let n_top = rows.iter().map(Sums::n_top).max().unwrap_or(1);
    let tops = tops(logits, n_top, piece.start)?;
    let n_above = [n_above(logits, piece, rows, 0)?, n_above(logits, piece, rows, 1)?];
    let products = match weights.and_then(|weights| weights.on_device.as_ref()) {
        Some(weights) => Some(logits.matmul(&weights.t()?)?.to_vec2::<f32>()?),
        None => None,
    };
    let reading = |(i, mut top): (usize, Vec<(u32, f32)>)| {
        let (row, log_sum) = (&rows[i], largest[i] + totals[i].ln());
        if !log_sum.is_finite() {
            // The host says what can be said of infinities and of what is no number.
            let logits = logits.narrow(0, i, 1)?.force_contiguous()?;
            let read = host::read_logits(&logits, piece, &rows[i..=i], weights, 0)?.pop();
            return read.ok_or_else(|| candle_core::Error::msg("a row was not read"));
        }
        top.truncate(row.n_top());
        let product_with = |reference: Option<usize>| match (reference, &products) {
            (Some(reference), Some(products)) => f64::from(products[i][reference]),
            _ => 0.0,
        };
        Ok(PieceReading {
            log_sum: log_sum.into(),
            top,
            n_above: [n_above[0][i], n_above[1][i]],
            products: row.row.references.map(product_with),
        })
    };
    tops.into_iter().enumerate().map(reading).collect()
}

/// The `n` largest logits of each row with their tokens, of equals the first ones. They lie in the
/// `n` blocks whose largest logits are the largest, so that no more is copied.
fn tops(logits: &Tensor, n: usize, first: usize) -> Result<Vec<Vec<(u32, f32)>>> {
    let (n_rows, width) = logits.dims2()?;
    let (n_blocks, n_rest) = (width / BLOCK, width % BLOCK);
    let mut tops = vec![Vec::new(); n_rows];
    if n_blocks > 0 {
        let blocks = match n_rest {
            0 => logits.clone(),
            _ => logits.narrow(1, 0, n_blocks * BLOCK)?.contiguous()?,
        };
        let blocks = blocks.reshape((n_rows * n_blocks, BLOCK))?;
        let maxima = blocks.max(1)?.to_vec1::<f32>()?;
        let chosen: Vec<_> =
            maxima.par_chunks(n_blocks).map(|all| places_of_largest(all, n)).collect();
        let rows = chosen.iter().enumerate();
        let at: Vec<_> = rows
            .flat_map(|(row, chosen)| {
                chosen.iter().map(move |block| (row * n_blocks + block) as u32)
            })
            .collect();
        let index = Tensor::new(at, logits.device())?;
        let found = blocks.index_select(&index, 0)?.to_vec2::<f32>()?;
        let mut found = found.iter();
        for (top, chosen) in tops.iter_mut().zip(&chosen) {
            for (block, logits) in chosen.iter().zip(found.by_ref()) {
                keep_top(top, n, logits, first + block * BLOCK);
            }
        }
    }
    if n_rest > 0 {
        let rest = logits.narrow(1, n_blocks * BLOCK, n_rest)?.contiguous()?.to_vec2::<f32>()?;
        for (top, logits) in tops.iter_mut().zip(&rest) {
            keep_top(top, n, logits, first + n_blocks * BLOCK);
        }
    }
    Ok(tops)
}

/// The places of the `n` largest numbers, of equals the first ones, in ascending order.
fn places_of_largest(numbers: &[f32], n: usize) -> Vec<usize> {
    let mut places: Vec<_> = (0..numbers.len()).collect();
    if n < places.len() {
        // The sum makes no difference between the two zeros.
        places.select_nth_unstable_by(n, |&a, &b| {
            (numbers[b] + 0.0).total_cmp(&(numbers[a] + 0.0)).then(a.cmp(&b))
        });
        places.truncate(n);
        places.sort_unstable();
    }
    places
}

/// For each row, how many tokens that are no variant of `answer` have a larger logit.
fn n_above(
    logits: &Tensor,
    piece: &Range<usize>,
    rows: &[Sums],
    answer: usize,
) -> Result<Vec<u32>> {
    let device = logits.device();
    let best: Vec<_> = rows.iter().map(|row| row.largest[answer]).collect();
    let best = Tensor::new(best, device)?.unsqueeze(1)?;
    let n_above = logits.broadcast_gt(&best)?.to_dtype(DType::F32)?.sum(1)?.to_vec1::<f32>()?;
    let mut ids: Vec<u32> = rows.iter().flat_map(|row| row.answers()[answer]).copied().collect();
    ids.retain(|&id| piece.contains(&(id as usize)));
    ids.sort_unstable();
    ids.dedup();
    // The answer's own logits come from another product, which may round otherwise.
    let own = match ids.is_empty() {
        true => vec![Vec::new(); rows.len()],
        false => {
            let at: Vec<_> = ids.iter().map(|&id| id - piece.start as u32).collect();
            logits.index_select(&Tensor::new(at, device)?, 1)?.to_vec2::<f32>()?
        }
    };
    let without_own = rows.iter().zip(n_above).zip(own).map(|((row, n), own)| {
        let is_above =
            |id: &&u32| ids.binary_search(id).is_ok_and(|at| own[at] > row.largest[answer]);
        n as u32 - row.answers()[answer].iter().filter(is_above).count() as u32
    });
    Ok(without_own.collect())
}
