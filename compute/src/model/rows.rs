//! Rows of tall matrices: which run and position each is, and how a kernel reads them.

use candle_core::{CpuStorage, Device, Layout, Result, Tensor};

/// Consecutive rows that are the positions `start..start + len` of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The position of the first row.
    pub start: usize,
    /// How many rows.
    pub len: usize,
}

/// Which rows of every span are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outputs {
    /// All of them.
    All,
    /// Only the last row of each span: all that the last layer needs.
    Last,
}

impl Outputs {
    /// How many rows of a span of length `len` are asked for.
    pub fn n_rows(self, len: usize) -> usize {
        match self {
            Self::All => len,
            Self::Last => len.min(1),
        }
    }
}

/// The rows of all spans together.
pub fn n_rows(spans: &[Span]) -> usize {
    spans.iter().map(|span| span.len).sum()
}

/// The position of every row, `[rows]` u32.
///
/// # Errors
/// What candle reports.
pub fn positions(spans: &[Span], device: &Device) -> Result<Tensor> {
    let positions = spans.iter().flat_map(|span| span.start..span.start + span.len);
    let positions: Vec<_> = positions.map(|position| position as u32).collect();
    let n = positions.len();
    Tensor::from_vec(positions, n, device)
}

/// The index of every span's last row, `[spans]` u32.
///
/// # Errors
/// What candle reports.
pub fn last_rows(spans: &[Span], device: &Device) -> Result<Tensor> {
    let ends = spans.iter().scan(0u32, |end, span| {
        *end += span.len as u32;
        Some(*end - 1)
    });
    let ends: Vec<_> = ends.collect();
    let n = ends.len();
    Tensor::from_vec(ends, n, device)
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
