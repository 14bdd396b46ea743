//! Spans as the attention of a device wants them: row numbers that are made once and lie on the
//! device, whatever the number of spans.

use super::indices::{Indices, Slice};
use super::padded::PaddedSpans;
use super::rows::Span;
use crate::model::checkpoint::Kernels;

/// Spans for a device.
#[derive(Debug, Clone)]
pub enum DeviceSpans {
    /// For our kernel on NVIDIA's GPUs.
    Places(Places),
    /// For candle's operations.
    Padded(PaddedSpans),
}

/// For each row of queries where its run's keys and values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Places {
    /// Four numbers for each row: the row of position 0 among the shared ones, how many positions
    /// are read from there, the row of the next position among the spans' own, and the query's
    /// position.
    pub numbers: Slice,
    /// How many rows of queries.
    pub n_rows: usize,
    /// How many shared rows there must be.
    pub n_shared: usize,
    /// How many rows of their own.
    pub n_own: usize,
}

/// Numbers for each row of queries.
pub const PLACE: usize = 4;

impl DeviceSpans {
    /// Prepares `spans`, which share `n_shared_rows` rows of keys and values, for kernels that are
    /// not [`Kernels::Own`].
    pub fn new(
        spans: &[Span],
        n_shared_rows: usize,
        indices: &mut Indices,
        kernels: Kernels,
    ) -> Self {
        match kernels {
            Kernels::Cuda => Self::Places(Places::new(spans, indices)),
            _ => Self::Padded(PaddedSpans::new(spans, n_shared_rows, indices)),
        }
    }

    /// The first `n` of `spans`, of which these were made.
    pub fn first(&self, spans: &[Span], n: usize, indices: &mut Indices) -> Self {
        match self {
            Self::Padded(padded) => Self::Padded(padded.first(spans, n, indices)),
            Self::Places(places) => Self::Places(places.first(&spans[..n])),
        }
    }
}

impl Places {
    /// Those of `spans`.
    pub fn new(spans: &[Span], indices: &mut Indices) -> Self {
        let (mut numbers, mut n_own) = (Vec::new(), 0);
        for span in spans {
            let place = |position| [span.offset, span.n_shared, n_own, position];
            numbers.extend(span.queries().flat_map(place));
            n_own += span.n_own;
        }
        Self { numbers: indices.add(numbers), ..Self::default() }.first(spans)
    }

    /// Those of the first of the spans.
    fn first(self, spans: &[Span]) -> Self {
        let n_rows = spans.iter().map(|span| span.n_queries).sum();
        Self {
            numbers: self.numbers.first(PLACE * n_rows),
            n_rows,
            n_shared: spans.iter().map(|span| span.offset + span.n_shared).max().unwrap_or(0),
            n_own: spans.iter().map(|span| span.n_own).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn every_row_knows_where_its_keys_are_and_the_first_spans_keep_the_list() {
        let spans = [
            Span { offset: 3, n_shared: 2, n_own: 2, n_queries: 1 },
            Span { offset: 7, n_shared: 4, n_own: 0, n_queries: 2 },
            Span { offset: 0, n_shared: 0, n_own: 1, n_queries: 1 },
        ];
        let mut indices = Indices::default();
        let places = Places::new(&spans, &mut indices);
        let numbers = indices.upload(&Device::Cpu).unwrap().get(places.numbers).unwrap();
        let expected = [[3, 2, 0, 3], [7, 4, 2, 2], [7, 4, 2, 3], [0, 0, 2, 0]];
        assert_eq!(numbers.to_vec1::<u32>().unwrap(), expected.concat());
        assert_eq!((places.n_rows, places.n_shared, places.n_own), (4, 11, 3));
        let first = places.first(&spans[..2]);
        assert_eq!(first.numbers, places.numbers.first(12));
        assert_eq!((first.n_rows, first.n_shared, first.n_own), (3, 11, 2));
        assert!(places.first(&[]).numbers.is_empty());
    }
}
