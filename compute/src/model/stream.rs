//! Weights that are not kept: blocks are read one after another while they are needed, and of the
//! tables of vectors only what is asked for.

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use candle_core::{Device, Error, Result, Tensor};

use super::block::Block;
use super::config::Config;
use super::error::ModelError;
use super::names::Weight;
use super::placement::{Placed, Placement};
use super::weights::Weights;

/// A model's weights where they are stored, for all who read them.
#[derive(Clone)]
pub(super) struct Source {
    weights: Arc<Mutex<dyn Weights + Send>>,
    /// Where they go when they are read.
    placement: Placement,
    tied: bool,
}

impl Source {
    pub fn new(weights: impl Weights + Send + 'static, placement: Placement, tied: bool) -> Self {
        Self { weights: Arc::new(Mutex::new(weights)), placement, tied }
    }

    /// Reads some of the weights, once nobody else does.
    pub fn with<R>(&self, read: impl FnOnce(&mut Placed) -> R) -> R {
        // A reader that panicked leaves a file and its headers, nothing half done.
        let mut weights = self.weights.lock().unwrap_or_else(PoisonError::into_inner);
        let placement = self.placement.clone();
        read(&mut Placed { weights: &mut *weights, placement, tied: self.tied })
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source")
    }
}

/// The decoder blocks of a network.
#[derive(Debug)]
pub(super) enum Blocks {
    /// All in memory.
    Resident(Vec<Arc<Block>>),
    /// Read whenever they are needed.
    Stored(Source),
}

/// The blocks from the first to the last, each but once. Of stored ones the next is read while one
/// is at work, and one that is let go of is freed.
pub struct BlockPass<'a>(Reading<'a>);

enum Reading<'a> {
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
    pub(super) fn new(blocks: &'a Blocks, config: &Config) -> Self {
        let source = match blocks {
            Blocks::Resident(blocks) => return Self(Reading::Resident(blocks.iter())),
            Blocks::Stored(source) => source.clone(),
        };
        // With no room in the channel the reader holds one block and waits until it is taken.
        let (sender, receiver) = sync_channel(0);
        let (config, n_layers) = (config.clone(), config.n_layers);
        let reader = std::thread::spawn(move || {
            for layer in 0..config.n_layers {
                let block = source.with(|weights| Block::load(weights, layer, &config));
                let failed = block.is_err();
                if sender.send(block).is_err() || failed {
                    return;
                }
            }
        });
        let (blocks, reader) = (Some(receiver), Some(reader));
        Self(Reading::Stored { blocks, reader, n_left: n_layers, n_layers })
    }
}

impl Iterator for BlockPass<'_> {
    type Item = Result<Arc<Block>>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Reading::Resident(blocks) => blocks.next().cloned().map(Ok),
            Reading::Stored { n_left: 0, .. } => None,
            Reading::Stored { blocks, reader, n_left, n_layers } => {
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
        if let Reading::Stored { blocks, reader, .. } = &mut self.0 {
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
pub(super) enum Table {
    /// `[d_vocab, width]`, in memory.
    Resident(Tensor),
    /// Read row by row.
    Stored { source: Source, weight: Weight, dims: [usize; 2] },
}

/// The most rows of a stored table that are in memory at a time.
pub(super) const PIECE_ROWS: usize = 1 << 13;

impl Table {
    /// The rows `ids`, `[ids, width]`.
    pub fn rows(&self, ids: &[u32]) -> Result<Tensor> {
        match self {
            Self::Resident(table) => table.index_select(&Tensor::new(ids, table.device())?, 0),
            Self::Stored { source, weight, dims } => {
                let rows = ids.iter().map(|&id| {
                    let row = id as usize;
                    if row >= dims[0] {
                        candle_core::bail!("the token {id} is beyond the {} of the model", dims[0])
                    }
                    let read = source.with(|w| w.load_rows(*weight, dims, row..row + 1));
                    read.map_err(Error::wrap)
                });
                Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, 0)
            }
        }
    }

    /// The whole table in pieces of consecutive rows.
    pub fn pieces(&self) -> Vec<Range<usize>> {
        match self {
            Self::Resident(table) => std::iter::once(0..table.dims()[0]).collect(),
            Self::Stored { dims: [n_rows, _], .. } => {
                let starts = (0..*n_rows).step_by(PIECE_ROWS);
                starts.map(|at| at..(at + PIECE_ROWS).min(*n_rows)).collect()
            }
        }
    }

    /// One of the pieces, `[rows, width]`.
    pub fn piece(&self, rows: Range<usize>) -> Result<Tensor> {
        match self {
            Self::Resident(table) => table.narrow(0, rows.start, rows.len()),
            Self::Stored { source, weight, dims } => {
                source.with(|w| w.load_rows(*weight, dims, rows)).map_err(Error::wrap)
            }
        }
    }

    /// Where its rows come to be.
    pub fn device(&self) -> &Device {
        match self {
            Self::Resident(table) => table.device(),
            Self::Stored { source, .. } => &source.placement.device,
        }
    }
}
