//! Rows of tall matrices: which run and position each is, and how a kernel reads them.

use std::ops::Range;

use candle_core::{CpuStorage, Device, Layout, Result, Tensor};

/// Consecutive positions of one run, of which the first are read from keys and values that many
/// runs share, and the rest are rows of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The row of the shared keys and values that is position 0 of the run.
    pub offset: usize,
    /// How many positions are read from there.
    pub n_shared: usize,
    /// How many positions after those have keys and values of their own.
    pub n_own: usize,
    /// How many positions have queries: the last ones.
    pub n_queries: usize,
}

impl Span {
    /// One past the last position.
    pub fn end(&self) -> usize {
        self.n_shared + self.n_own
    }

    /// The positions that have keys and values of their own.
    pub fn own(&self) -> Range<usize> {
        self.n_shared..self.end()
    }

    /// The positions that have queries.
    pub fn queries(&self) -> Range<usize> {
        self.end() - self.n_queries..self.end()
    }
}

/// Row numbers or positions as a tensor, `[numbers]` u32.
///
/// # Errors
/// What candle reports.
pub fn index(numbers: impl IntoIterator<Item = usize>, device: &Device) -> Result<Tensor> {
    let numbers: Vec<_> = numbers.into_iter().map(|number| number as u32).collect();
    let n = numbers.len();
    Tensor::from_vec(numbers, n, device)
}

/// The numbers of a contiguous f32 tensor.
///
/// # Errors
/// Another type, or a tensor with gaps.
pub fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let Some((begin, end)) = layout.contiguous_offsets() else {
        candle_core::bail!("expected a contiguous tensor, found {layout:?}")
    };
    Ok(&storage.as_slice::<f32>()?[begin..end])
}
