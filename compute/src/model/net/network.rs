//! A model's numbers and what is computed with them outside of the blocks.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use candle_core::{DType, Device, Result, Tensor};

use super::block::Block;
use super::elementwise::softcapped;
use super::linear::Linear;
use super::norm::Norm;
use super::rows::index;
use super::stream::{BlockPass, Blocks, EmbeddingTable, PIECE_ROWS};
use crate::model::arch::{Config, Module, Weight};
use crate::model::checkpoint::{Kernels, ModelError, Placed, Placement, WeightStore, Weights};

/// A model's numbers: in memory, or where they are stored.
#[derive(Debug)]
pub struct Network {
    /// Dimensions and conventions.
    pub config: Config,
    /// Where the numbers are, in which type, and what computes with them.
    pub placement: Placement,
    blocks: Blocks,
    embed: EmbeddingTable,        // [d_vocab, d_model]
    positions: Option<Tensor>,    // [n_context, d_model]
    final_norm: Norm,             // over d_model
    unembed: EmbeddingTable,      // [d_vocab, d_model]
    unembed_bias: Option<Tensor>, // [d_vocab]
    /// See [`Self::embedding_std`].
    embedding_std: OnceLock<f64>,
}

impl Network {
    /// Loads all weights to where and as `to` says.
    ///
    /// # Errors
    /// A weight that is missing, damaged or of another shape, or a device on which there is no room.
    pub fn resident(
        config: Config,
        weights: &mut dyn Weights,
        to: &Placement,
    ) -> std::result::Result<Self, ModelError> {
        let weights = &mut Placed { weights, placement: to, config: &config };
        let mut table = |module| -> std::result::Result<_, ModelError> {
            let table = weights.load(Weight::new(module, 0))?;
            Ok(table.map(EmbeddingTable::Resident))
        };
        let embed = table(Module::Embed)?.expect("every model has it");
        let (embed, unembed) = match table(Module::Unembed)? {
            Some(unembed) => (embed, unembed.for_products(to.kernels)),
            None => {
                let both = embed.for_products(to.kernels);
                (both.clone(), both)
            }
        };
        let blocks = (0..config.n_layers).map(|layer| Ok(Arc::new(Block::load(weights, layer)?)));
        let blocks = Blocks::Resident(blocks.collect::<std::result::Result<_, _>>()?);
        Self::assemble(weights, (embed, unembed), blocks)
    }

    /// Leaves the weights where they are stored: each block is read when a pass comes to it, and of
    /// the embeddings only the rows that are asked for. Each weight goes to where and as `to` says
    /// when it is read.
    ///
    /// # Errors
    /// A weight that is missing, damaged or of another shape, as far as that can be seen of the
    /// first block.
    pub fn streamed(
        config: Config,
        weights: impl Weights + Send + 'static,
        to: &Placement,
    ) -> std::result::Result<Self, ModelError> {
        let store = WeightStore::new(weights, to.clone(), config.clone());
        let dims = [config.d_vocab, config.d_model];
        let table = |module| {
            let weight = Weight::new(module, 0);
            EmbeddingTable::Stored { store: store.clone(), weight, dims }
        };
        let unembed = if config.tied_embeddings { Module::Embed } else { Module::Unembed };
        let tables = (table(Module::Embed), table(unembed));
        // What is wrong with all blocks is said now, and not in the middle of a sweep.
        store.with(|weights| Block::load(weights, 0))?;
        let blocks = Blocks::Stored(store.clone());
        store.with(|weights| Self::assemble(weights, tables, blocks))
    }

    fn assemble(
        weights: &mut Placed,
        (embed, unembed): (EmbeddingTable, EmbeddingTable),
        blocks: Blocks,
    ) -> std::result::Result<Self, ModelError> {
        let final_norm = Norm::load(weights, Module::FinalNorm, 0)?;
        Ok(Self {
            placement: weights.placement.clone(),
            positions: weights.load(Weight::new(Module::Positions, 0))?,
            final_norm: final_norm.expect("every model has it"),
            unembed_bias: weights.load(Weight::bias(Module::Unembed, 0))?,
            unembed,
            embed,
            blocks,
            embedding_std: OnceLock::new(),
            config: weights.config.clone(),
        })
    }

    /// The blocks, from the first to the last.
    pub fn blocks(&self) -> BlockPass<'_> {
        BlockPass::new(&self.blocks)
    }

    /// Whether the blocks are read anew for every pass.
    pub fn is_streamed(&self) -> bool {
        matches!(self.blocks, Blocks::Stored(_))
    }

    /// The memory that the weights take.
    pub fn n_held_bytes(&self) -> usize {
        Self::n_bytes(&self.config, &self.placement, self.is_streamed())
    }

    /// The memory that the weights of such a model take: all of them, or where they are read in
    /// every pass two blocks, one at work and one that is read, with what reading takes.
    pub fn n_bytes(config: &Config, to: &Placement, is_streamed: bool) -> usize {
        match is_streamed {
            false => to.n_bytes(config, config.weights()),
            true => {
                // A weight may be in f32 while it is read, whatever it becomes.
                let n_f32s = |dims: Vec<usize>| dims.iter().product::<usize>() * size_of::<f32>();
                let largest = config.block_weights(0).map(|(_, dims)| n_f32s(dims)).max();
                // A piece of the vocabulary is read, and packed, when the blocks are gone.
                let piece = 2 * n_f32s(vec![config.d_model, config.d_vocab.min(PIECE_ROWS)]);
                (2 * to.n_bytes(config, config.block_weights(0)) + largest.unwrap_or(0)).max(piece)
            }
        }
    }

    /// The device that holds the weights.
    pub fn device(&self) -> &Device {
        self.embed.device()
    }

    /// The residual stream before the first block, `[tokens, d_model]`, of `tokens` at
    /// `positions`.
    ///
    /// # Errors
    /// What candle reports, e.g. a token beyond the vocabulary.
    pub fn embed(&self, tokens: &[u32], positions: &[usize]) -> Result<Tensor> {
        let x = self.embed.rows(tokens)?;
        let x = match self.config.embed_scale {
            1.0 => x,
            scale => (x * f64::from(scale))?,
        };
        let x = x.to_dtype(self.placement.dtype)?;
        match &self.positions {
            None => Ok(x),
            Some(learned) => {
                x + learned.index_select(&index(positions.iter().copied(), self.device())?, 0)?
            }
        }
    }

    /// The standard deviation of the numbers of all tokens' embeddings, as they enter the first
    /// block: the unit of noise. The table is gone through once.
    ///
    /// # Errors
    /// What candle reports.
    pub fn embedding_std(&self) -> Result<f64> {
        if let Some(&std) = self.embedding_std.get() {
            return Ok(std);
        }
        let (mut n, mut sum, mut squares) = (0usize, 0.0, 0.0);
        for piece in self.embed.pieces() {
            let numbers = self.embed.piece(piece)?.to_dtype(DType::F32)?;
            let total = |x: &Tensor| -> Result<f64> {
                // By rows first, so that f32 keeps its digits.
                Ok(x.sum(1)?.to_vec1::<f32>()?.into_iter().map(f64::from).sum())
            };
            n += numbers.elem_count();
            sum += total(&numbers)?;
            squares += total(&numbers.sqr()?)?;
        }
        let mean = sum / n as f64;
        let std = (squares / n as f64 - mean * mean).max(0.0).sqrt();
        Ok(*self.embedding_std.get_or_init(|| std * f64::from(self.config.embed_scale)))
    }

    /// The final norm of residual streams `x` `[rows, d_model]`, in f32.
    ///
    /// # Errors
    /// What candle reports.
    pub fn final_norm(&self, x: &Tensor) -> Result<Tensor> {
        self.final_norm.apply(&x.to_dtype(DType::F32)?)
    }

    /// The logits of the tokens `ids` for normed rows `x` `[rows, d_model]`: `[rows, ids]`.
    ///
    /// # Errors
    /// What candle reports.
    pub fn logits_of(&self, x: &Tensor, ids: &[u32]) -> Result<Tensor> {
        let bias = match &self.unembed_bias {
            Some(bias) => Some(bias.index_select(&Tensor::new(ids, self.device())?, 0)?),
            None => None,
        };
        let kernels = self.placement.kernels;
        let logits = Linear::new(self.unembed.rows(ids)?, bias, kernels)?.apply(x)?;
        softcapped(logits, self.config.final_softcap, kernels)
    }

    /// The vocabulary in pieces that can be had in memory.
    pub fn vocabulary(&self) -> Vec<Range<usize>> {
        self.unembed.pieces()
    }

    /// The unembedding of one of these pieces.
    ///
    /// # Errors
    /// What candle reports.
    pub fn unembedding(&self, piece: Range<usize>) -> Result<Unembedding> {
        let bias = match &self.unembed_bias {
            Some(bias) => Some(bias.narrow(0, piece.start, piece.len())?),
            None => None,
        };
        let kernels = self.placement.kernels;
        let map = self.unembed.map(piece, bias, kernels)?;
        Ok(Unembedding::new(map, self.config.final_softcap, kernels))
    }

    /// The logits of the whole vocabulary for normed rows `x` `[rows, d_model]`: `[rows, d_vocab]`.
    ///
    /// # Errors
    /// What candle reports.
    pub fn logits(&self, x: &Tensor) -> Result<Tensor> {
        let logits = |piece| self.unembedding(piece)?.logits(x);
        let parts: Vec<_> = self.vocabulary().into_iter().map(logits).collect::<Result<_>>()?;
        Tensor::cat(&parts, 1)
    }
}

/// The unembedding of consecutive tokens.
#[derive(Debug)]
pub struct Unembedding {
    map: Linear,
    softcap: Option<f32>,
    kernels: Kernels,
}

impl Unembedding {
    /// That of the tokens that are the outputs of `map`.
    pub fn new(map: Linear, softcap: Option<f32>, kernels: Kernels) -> Self {
        Self { map, softcap, kernels }
    }

    /// The logits of its tokens for normed rows `x` `[rows, d_model]`: `[rows, tokens]`.
    ///
    /// # Errors
    /// What candle reports.
    pub fn logits(&self, x: &Tensor) -> Result<Tensor> {
        softcapped(self.map.apply(x)?, self.softcap, self.kernels)
    }

    /// That of some of its tokens, which begin where a panel of a packed matrix does.
    ///
    /// # Errors
    /// Tokens that there are not, or that begin elsewhere.
    pub fn slice(&self, tokens: Range<usize>) -> Result<Self> {
        Ok(Self { map: self.map.slice(tokens)?, ..*self })
    }
}
