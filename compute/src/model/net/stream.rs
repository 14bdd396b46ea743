//! Weights that are not kept: blocks are read one after another while they are needed, and of the
//! tables of vectors only what is asked for.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use candle_core::{Device, Error, Result, Tensor};

use super::block::Block;
use super::linear::Linear;
use super::packed::Packed;
use crate::model::arch::Weight;
use crate::model::checkpoint::{Kernels, ModelError, WeightStore};

/// The decoder blocks of a network.
#[derive(Debug)]
pub enum Blocks {
    /// All in memory.
    Resident(Vec<Arc<Block>>),
    /// Read whenever they are needed.
    Stored(WeightStore),
}

/// The blocks from the first to the last, each but once. Of stored ones the next is read while one
/// is at work, and one that is let go of is freed.
pub struct BlockPass<'a>(Pass<'a>);

enum Pass<'a> {
    Resident(std::slice::Iter<'a, Arc<Block>>),
    Stored {
        blocks: Option<Receiver<Loaded>>,
        reader: Option<JoinHandle<()>>,
        /// Blocks that are still to come.
        n_left: usize,
        n_layers: usize,
    },
}

type Loaded = std::result::Result<Block, ModelError>;

impl<'a> BlockPass<'a> {
    pub(super) fn new(blocks: &'a Blocks) -> Self {
        let store = match blocks {
            Blocks::Resident(blocks) => return Self(Pass::Resident(blocks.iter())),
            Blocks::Stored(store) => store.clone(),
        };
        // With no room in the channel the reader holds one block and waits until it is taken.
        let (sender, receiver) = sync_channel(0);
        let n_layers = store.config().n_layers;
        let reader = std::thread::spawn(move || {
            for layer in 0..n_layers {
                let block = store.with(|weights| Block::load(weights, layer));
                let failed = block.is_err();
                if sender.send(block).is_err() || failed {
                    return;
                }
            }
        });
        let (blocks, reader) = (Some(receiver), Some(reader));
        Self(Pass::Stored { blocks, reader, n_left: n_layers, n_layers })
    }
}

impl Iterator for BlockPass<'_> {
    type Item = Result<Arc<Block>>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Pass::Resident(blocks) => blocks.next().cloned().map(Ok),
            Pass::Stored { n_left: 0, .. } => None,
            Pass::Stored { blocks, reader, n_left, n_layers } => {
                let Some(Ok(block)) = blocks.as_ref().map(Receiver::recv) else {
                    // A reader that ends before the last block has died. What came so far must not
                    // pass for the whole model.
                    let layer = *n_layers - *n_left;
                    *n_left = 0;
                    return Some(Err(died(reader.take(), layer, *n_layers)));
                };
                // After an error nothing more comes.
                *n_left = if block.is_ok() { *n_left - 1 } else { 0 };
                Some(block.map(Arc::new).map_err(Error::wrap))
            }
        }
    }
}

/// What to say of a reader that ended before it had read block `layer`.
fn died(reader: Option<JoinHandle<()>>, layer: usize, n_layers: usize) -> Error {
    let panic = reader.and_then(|reader| reader.join().err());
    let texts = |panic: &Box<dyn Any + Send>| {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        text.or_else(|| panic.downcast_ref::<String>().cloned())
    };
    let why = panic.as_ref().and_then(texts).unwrap_or_else(|| "it did not say why".into());
    Error::msg(format!(
        "reading the weights broke off before layer {layer} of {n_layers}, by a defect: {why}"
    ))
}

impl Drop for BlockPass<'_> {
    /// A pass that is broken off stops reading before anything else happens to the files.
    fn drop(&mut self) {
        if let Pass::Stored { blocks, reader, .. } = &mut self.0 {
            drop(blocks.take());
            if let Some(reader) = reader.take() {
                // A reader that panicked has said so already.
                let _ = reader.join();
            }
        }
    }
}

/// A matrix with a row for every token of the vocabulary.
#[derive(Debug, Clone)]
pub enum EmbeddingTable {
    /// `[d_vocab, width]`, in memory.
    Resident(Tensor),
    /// The same as rows are multiplied with it.
    Packed(Packed),
    /// Read row by row.
    Stored { store: WeightStore, weight: Weight, dims: [usize; 2] },
}

/// The most rows of a table that are read at a time, of a stored one and on the CPU: few enough that
/// what is made of them stays near the processor.
pub const PIECE_ROWS: usize = 1 << 13;

impl EmbeddingTable {
    /// A table in memory as rows are multiplied with it.
    pub fn for_products(self, kernels: Kernels) -> Self {
        match (self, kernels) {
            (Self::Resident(table), Kernels::Own) => Self::Packed(
                Packed::new(&table).expect("tables of our kernels are f32, without gaps"),
            ),
            (table, _) => table,
        }
    }

    /// The rows `ids`, `[ids, width]`.
    pub fn rows(&self, ids: &[u32]) -> Result<Tensor> {
        match self {
            Self::Resident(table) => table.index_select(&Tensor::new(ids, table.device())?, 0),
            Self::Packed(table) => table.rows(ids),
            Self::Stored { store, weight, dims } => {
                let rows = ids.iter().map(|&id| {
                    let row = id as usize;
                    if row >= dims[0] {
                        candle_core::bail!("the token {id} is beyond the {} of the model", dims[0])
                    }
                    let read = store.with(|w| w.load_rows(*weight, dims, row..row + 1));
                    read.map_err(Error::wrap)
                });
                Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, 0)
            }
        }
    }

    /// The whole table in pieces of consecutive rows.
    pub fn pieces(&self) -> Vec<Range<usize>> {
        let (n_rows, n_at_once) = match self {
            // An accelerator has enough to do with all of them alone.
            Self::Resident(table) if !table.device().is_cpu() => (table.dims()[0], usize::MAX),
            Self::Resident(table) => (table.dims()[0], PIECE_ROWS),
            Self::Packed(table) => (table.n_outputs(), PIECE_ROWS),
            Self::Stored { dims: [n_rows, _], .. } => (*n_rows, PIECE_ROWS),
        };
        let starts = (0..n_rows).step_by(n_at_once);
        starts.map(|at| at..at.saturating_add(n_at_once).min(n_rows)).collect()
    }

    /// One of the pieces, `[rows, width]`.
    pub fn piece(&self, rows: Range<usize>) -> Result<Tensor> {
        match self {
            Self::Resident(table) => table.narrow(0, rows.start, rows.len()),
            Self::Packed(table) => table.rows(&rows.map(|row| row as u32).collect::<Vec<_>>()),
            Self::Stored { store, weight, dims } => {
                store.with(|w| w.load_rows(*weight, dims, rows)).map_err(Error::wrap)
            }
        }
    }

    /// One of the pieces as a map from `[.., width]` to `[.., rows]`.
    pub fn map(
        &self,
        rows: Range<usize>,
        bias: Option<Tensor>,
        kernels: Kernels,
    ) -> Result<Linear> {
        match self {
            Self::Packed(table) => Ok(Linear::packed(table.narrow(rows)?, bias)),
            _ => Linear::new(self.piece(rows)?, bias, kernels),
        }
    }

    /// Where its rows come to be.
    pub fn device(&self) -> &Device {
        match self {
            Self::Resident(table) => table.device(),
            Self::Packed(_) => &Device::Cpu,
            Self::Stored { store, .. } => &store.placement().device,
        }
    }
}
