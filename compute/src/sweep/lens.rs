//! The logit lens (nostalgebraist, 2020): what the unembedding says of the residual stream after
//! every layer, of the unpatched runs.

use candle_core::{Result, Tensor};
use shared::specification::Specification;

use super::program::Batch;
use super::readout::{self, ReadRow, Reading, RowReading};
use crate::model::{Network, index};

/// The readings of one run, `[layer][position]`.
pub type LensReading = Vec<Vec<Reading>>;

/// Residual streams that are kept for the lens.
pub struct Lens {
    /// The runs' rows that are read, in this order.
    rows: Vec<usize>,
    /// Their residual streams after each layer, `[rows, d_model]`.
    layers: Vec<Tensor>,
}

impl Lens {
    /// Which rows of the base and the source of every pair of `batch` are read; `None` if nobody
    /// asked for any.
    pub fn new(table: &[&Specification], batch: &Batch) -> Option<Self> {
        let mut rows: Vec<usize> =
            runs_of(table, batch).flat_map(|(_, run)| batch.runs.rows[run].clone()).collect();
        rows.sort_unstable();
        rows.dedup();
        (!rows.is_empty()).then(|| Self { rows, layers: Vec::new() })
    }

    /// Keeps what is read of the runs' rows `post` `[run rows, d_model]` after the next layer.
    ///
    /// # Errors
    /// What candle reports.
    pub fn keep(&mut self, post: &Tensor) -> Result<()> {
        self.layers.push(post.index_select(&index(self.rows.iter().copied(), post.device())?, 0)?);
        Ok(())
    }

    /// Reads them: for each pair that asked for it, the base's and the source's readings.
    ///
    /// # Errors
    /// What candle reports.
    pub fn read(
        &self,
        network: &Network,
        table: &[&Specification],
        batch: &Batch,
        n_chunk: usize,
    ) -> Result<Vec<(usize, Vec<LensReading>)>> {
        let mut all: Vec<(usize, Vec<LensReading>)> = Vec::new();
        let x = Tensor::cat(&self.layers, 0)?;
        for (pair, run) in runs_of(table, batch) {
            let metrics = &table[pair].metrics;
            let n = self.rows.len();
            let at: Vec<_> = batch.runs.rows[run]
                .iter()
                .map(|row| self.rows.binary_search(row).unwrap_or(0))
                .collect();
            let wanted =
                (0..self.layers.len()).flat_map(|layer| at.iter().map(move |i| layer * n + i));
            let x = x.index_select(&index(wanted, network.device())?, 0)?;
            let row = ReadRow { metrics, whole: true, token: None, references: [None; 2] };
            let rows = vec![row; at.len() * self.layers.len()];
            let read = readout::read(network, &x, &rows, None, n_chunk)?;
            let readings = read.iter().map(|row| RowReading::of_answers(row, metrics));
            let readings: Vec<_> = readings.collect();
            let lens = readings.chunks(at.len()).map(<[Reading]>::to_vec).collect();
            match all.last_mut() {
                Some((last, runs)) if *last == pair => runs.push(lens),
                _ => all.push((pair, vec![lens])),
            }
        }
        Ok(all)
    }
}

/// The base and the source of every pair with a lens, as pair and run of the batch.
fn runs_of<'a>(
    table: &'a [&'a Specification],
    batch: &'a Batch,
) -> impl Iterator<Item = (usize, usize)> + 'a {
    let pairs = batch.pairs.clone().zip(&batch.first_run);
    pairs.filter(|(pair, _)| table[*pair].metrics.lens).flat_map(|(pair, &first)| {
        let n = table[pair].runs.len().min(Specification::SOURCE + 1);
        (first..first + n).map(move |run| (pair, run))
    })
}
