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

/// Reads final residual streams `x` `[rows, d_model]`; with `n_chunk` also the whole vocabulary, so
/// many rows at a time.
///
/// # Errors
/// What candle reports.
pub fn read(
    network: &Network,
    x: &Tensor,
    request: &Request,
    n_chunk: Option<usize>,
) -> Result<Vec<Reading>> {
    // A sweep may have no cell that is not known beforehand, and candle reduces no empty tensor.
    if x.dim(0)? == 0 {
        return Ok(Vec::new());
    }
    let x = network.final_norm(x)?;
    let log_sum = |ids| network.logits_of(&x, ids)?.log_sum_exp(D::Minus1)?.to_vec1::<f32>();
    let (log_true, log_false) = (log_sum(&request.true_ids)?, log_sum(&request.false_ids)?);
    let mut readings: Vec<_> = log_true
        .iter()
        .zip(&log_false)
        .map(|(t, f)| Reading { logit_diff: t - f, vocabulary: None })
        .collect();
    if let Some(n_chunk) = n_chunk {
        let n_rows = x.dim(0)?;
        for begin in (0..n_rows).step_by(n_chunk) {
            let logits = network.logits(&x.narrow(0, begin, n_chunk.min(n_rows - begin))?)?;
            for (i, summary) in (begin..).zip(summarised(&logits, network.placement.kernels)?) {
                let [log_sum, top_token, top_logit] = summary[..] else {
                    candle_core::bail!("a summary has three numbers, found {summary:?}")
                };
                readings[i].vocabulary = Some(VocabularyReading {
                    p_true: (log_true[i] - log_sum).exp(),
                    p_false: (log_false[i] - log_sum).exp(),
                    top_token: top_token as u32,
                    p_top: (top_logit - log_sum).exp(),
                });
            }
        }
    }
    Ok(readings)
}

/// Of every row of logits `[rows, d_vocab]`: log-sum-exp, index of the largest, and the largest. An
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
