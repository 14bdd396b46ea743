//! The metric: `log P(TRUE) - log P(FALSE)` at the last position, and what the whole vocabulary
//! says there.

use candle_core::{CpuStorage, CustomOp1, D, DType, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::Request;
use crate::model::{Kernels, Network, contiguous};

/// What one run says at its last position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// `logsumexp(TRUE logits) - logsumexp(FALSE logits)`, in nats. The normaliser cancels.
    pub logit_diff: f32,
    /// Probabilities and the top token, where the whole vocabulary was read.
    pub vocabulary: Option<VocabularyReading>,
}

/// What the whole vocabulary says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VocabularyReading {
    /// The probability of all variants of the true answer.
    pub p_true: f32,
    /// The same of the false answer.
    pub p_false: f32,
    /// The most probable token.
    pub top_token: u32,
    /// Its probability.
    pub p_top: f32,
}

/// Final residual streams to read.
#[derive(Debug)]
pub struct Rows<'a> {
    /// `[rows, d_model]`
    pub x: Tensor,
    /// Whose answers count.
    pub request: &'a Request,
    /// Whether the whole vocabulary is read.
    pub whole: bool,
}

/// Reads final residual streams `x` `[rows, d_model]` with the whole vocabulary.
///
/// # Errors
/// What candle reports.
pub fn read(network: &Network, x: Tensor, request: &Request) -> Result<Vec<Reading>> {
    let n_rows = x.dim(0)?;
    let rows = [Rows { x, request, whole: true }];
    Ok(read_all(network, &rows, n_rows)?.remove(0))
}

/// Reads rows of several requests, the vocabulary once for all of them and for at most `n_chunk`
/// rows at a time.
///
/// # Errors
/// What candle reports.
pub fn read_all(network: &Network, parts: &[Rows], n_chunk: usize) -> Result<Vec<Vec<Reading>>> {
    let mut readings = Vec::with_capacity(parts.len());
    // Normed rows whose vocabulary is read, and whose they are.
    let (mut whole, mut owners) = (Vec::new(), Vec::new());
    for (part, Rows { x, request, whole: is_whole }) in parts.iter().enumerate() {
        // A sweep may have no cell that is not known beforehand, and candle reduces no empty tensor.
        let n_rows = x.dim(0)?;
        if n_rows == 0 {
            readings.push(Vec::new());
            continue;
        }
        let x = network.final_norm(x)?;
        let log_sum = |ids| network.logits_of(&x, ids)?.log_sum_exp(D::Minus1)?.to_vec1::<f32>();
        let (log_true, log_false) = (log_sum(&request.true_ids)?, log_sum(&request.false_ids)?);
        let logs = log_true.iter().zip(&log_false);
        readings.push(
            logs.map(|(t, f)| Reading { logit_diff: t - f, vocabulary: None }).collect::<Vec<_>>(),
        );
        if *is_whole {
            let logs = log_true.into_iter().zip(log_false).enumerate();
            owners.extend(logs.map(|(row, logs)| (part, row, logs)));
            whole.push(x);
        }
    }
    if !whole.is_empty() {
        let wholes = summaries(network, &Tensor::cat(&whole, 0)?, n_chunk)?;
        for ((part, row, (log_true, log_false)), whole) in owners.into_iter().zip(wholes) {
            readings[part][row].vocabulary = Some(VocabularyReading {
                p_true: (log_true - whole.log_sum).exp(),
                p_false: (log_false - whole.log_sum).exp(),
                top_token: whole.top_token,
                p_top: (whole.top_logit - whole.log_sum).exp(),
            });
        }
    }
    Ok(readings)
}

/// What is kept of a row's logits.
#[derive(Debug, Clone, Copy)]
struct Whole {
    log_sum: f32,
    top_token: u32,
    top_logit: f32,
}

/// The logits of normed rows `x` `[rows, d_model]` over the whole vocabulary, which is visited once,
/// piece by piece, with at most `n_chunk` rows at a time.
fn summaries(network: &Network, x: &Tensor, n_chunk: usize) -> Result<Vec<Whole>> {
    let n_rows = x.dim(0)?;
    let nothing = Whole { log_sum: f32::NEG_INFINITY, top_token: 0, top_logit: f32::NEG_INFINITY };
    let mut wholes = vec![nothing; n_rows];
    for piece in network.vocabulary() {
        network.with_piece(piece.clone(), |logits| {
            for begin in (0..n_rows).step_by(n_chunk) {
                let logits = logits(&x.narrow(0, begin, n_chunk.min(n_rows - begin))?)?;
                let summaries = summarised(&logits, network.placement.kernels)?;
                for (whole, summary) in wholes[begin..].iter_mut().zip(summaries) {
                    let [log_sum, top_token, top_logit] = summary[..] else {
                        candle_core::bail!("a summary has three numbers, found {summary:?}")
                    };
                    // The first of equals is the top, as in a single piece.
                    if top_logit > whole.top_logit {
                        whole.top_logit = top_logit;
                        whole.top_token = piece.start as u32 + top_token as u32;
                    }
                    let (larger, smaller) =
                        (log_sum.max(whole.log_sum), log_sum.min(whole.log_sum));
                    whole.log_sum = larger + (smaller - larger).exp().ln_1p();
                }
            }
            Ok(())
        })?;
    }
    Ok(wholes)
}

/// Of every row of logits: log-sum-exp, index of the largest, and the largest, `[rows, 3]`. An
/// index is exact in f32 up to 2^24.
fn summarised(logits: &Tensor, kernels: Kernels) -> Result<Vec<Vec<f32>>> {
    let summaries = match kernels {
        Kernels::Own => logits.apply_op1_no_bwd(&Summary)?,
        Kernels::Stock => Tensor::stack(
            &[
                logits.log_sum_exp(D::Minus1)?,
                logits.argmax(D::Minus1)?.to_dtype(DType::F32)?,
                logits.max(D::Minus1)?,
            ],
            1,
        )?,
    };
    summaries.to_vec2()
}

/// The CPU's kernel of [`summarised`], `[rows, 3]`.
struct Summary;

impl CustomOp1 for Summary {
    fn name(&self) -> &'static str {
        "vocabulary-summary"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n_rows, d_vocab) = layout.shape().dims2()?;
        let rows = contiguous(logits, layout)?.par_chunks_exact(d_vocab);
        let summaries = rows.map(|row| {
            let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let index = row.iter().position(|&logit| logit == largest).unwrap_or(0);
            let total: f64 = row.iter().map(|logit| f64::from((logit - largest).exp())).sum();
            [largest + total.ln() as f32, index as f32, largest]
        });
        let summaries: Vec<_> = summaries.collect();
        Ok((CpuStorage::F32(summaries.into_flattened()), (n_rows, 3).into()))
    }
}
