//! Language models: configuration, weights, tokenizer, and the forward pass of rows.

mod attention;
mod batched_attention;
mod block;
mod config;
mod default_model;
mod digests;
mod elementwise;
mod error;
mod family;
mod fields;
mod file_state;
mod fingerprint;
mod folder;
mod gguf;
mod gguf_config;
mod gguf_tokenizer;
mod hugging_face;
mod layout;
mod names;
mod norm;
mod placement;
mod put;
mod rope;
mod rotary;
mod rows;
mod sha256;
mod split_rules;
mod stream;
mod tokenizer;
mod weights;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor};

pub use attention::KeysValues;
pub use block::{Block, BlockRows, Hook, Shared};
pub use config::{Biases, Config, Layer, Norms, QkNorm, Residual, Spec};
pub use default_model::{DEFAULT_MODEL, DefaultModel};
use digests::Digests;
pub use elementwise::Activation;
use elementwise::biased;
use elementwise::softcapped;
pub use error::ModelError;
pub use family::{FAMILIES, Family};
use file_state::{FileState, read_text};
pub use fingerprint::Fingerprint;
use fingerprint::Part;
use folder::Folder;
pub(crate) use folder::{INDEX, PICKLED, shards};
use layout::Layout;
pub use names::{Module, Weight};
use norm::Norm;
pub use norm::NormKind;
use placement::Placed;
pub use placement::{Kernels, Placement};
pub use put::{put_rows, standard_normal};
pub use rope::{Rope, RopeScaling};
pub use rotary::Rotary;
pub(crate) use rows::contiguous;
pub use rows::{Span, index};
pub(crate) use sha256::sha256_of;
pub use stream::BlockPass;
use stream::{Blocks, PIECE_ROWS, Source, Table};
pub use tokenizer::{Encoded, Tokenizer};
pub use weights::{Checkpoint, Tensors, Weights};

/// Patchboard's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A model's numbers: in memory, or where they are stored.
#[derive(Debug)]
pub struct Network {
    /// Dimensions and conventions.
    pub config: Config,
    /// Where the numbers are, in which type, and what computes with them.
    pub placement: Placement,
    blocks: Blocks,
    embed: Table,                 // [d_vocab, d_model]
    positions: Option<Tensor>,    // [n_context, d_model]
    final_norm: Norm,             // over d_model
    unembed: Table,               // [d_vocab, d_model]
    unembed_bias: Option<Tensor>, // [d_vocab]
}

/// A model: its numbers, its tokenizer, and where it came from.
pub struct Model {
    /// The numbers.
    pub network: Network,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The name shown to people: the folder's or the file's.
    pub name: String,
    /// Tells this model from any other, once all its files are read.
    pub fingerprint: Fingerprint,
    /// How the weights are stored.
    pub weights_dtype: String,
    /// The bytes of the files that hold the weights.
    pub n_stored_bytes: u64,
    /// The commit, for a model of the Hugging Face hub.
    pub revision: Option<String>,
}

impl Model {
    /// Loads a model from a folder in Hugging Face's layout or from a `.gguf` file, all of it into
    /// memory.
    ///
    /// # Errors
    /// Files that are missing, damaged, or of a family that is not supported.
    pub fn open(path: &Path) -> std::result::Result<Self, ModelError> {
        Self::open_on(path, &Placement::default(), usize::MAX)
    }

    /// Opens a model on any device and in any type, for a process that may take `limit` bytes of
    /// memory: its weights are loaded if that leaves enough for a sweep, and otherwise stay where
    /// they are stored.
    ///
    /// # Errors
    /// As for [`Self::open`], or a device on which there is no room.
    pub fn open_on(
        path: &Path,
        to: &Placement,
        limit: usize,
    ) -> std::result::Result<Self, ModelError> {
        let is_gguf = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf"));
        if path.is_dir() {
            Self::open_folder(path, to, limit)
        } else if is_gguf && path.is_file() {
            Self::open_gguf(path, to, limit)
        } else {
            Err(ModelError::file(
                path,
                "no such model: expected a folder with `config.json`, `tokenizer.json` and \
                 safetensors, or a `.gguf` file",
            ))
        }
    }

    fn open_folder(
        path: &Path,
        to: &Placement,
        limit: usize,
    ) -> std::result::Result<Self, ModelError> {
        let folder = OpenFolder::new(path)?;
        let (tokenizer, read) = Tokenizer::from_folder(path, &folder.config_text)?;
        let weights = folder.weights.states();
        let n_stored_bytes = weights.iter().map(|file| file.n_bytes).sum();
        let mut parts = vec![Part { role: "config", file: folder.config_file.clone() }];
        parts.extend(read);
        parts.extend(weights.into_iter().map(|file| Part { role: "weights", file }));
        // The files are read for it while they are read for the network.
        let fingerprint = Fingerprint::begin(parts, Digests::of_user());
        Ok(Self {
            name: name_of(&path.canonicalize().unwrap_or_else(|_| path.to_path_buf())),
            fingerprint,
            n_stored_bytes,
            weights_dtype: folder.weights.dtype(),
            revision: None,
            network: folder.network(to, limit)?,
            tokenizer,
        })
    }

    fn open_gguf(
        path: &Path,
        to: &Placement,
        limit: usize,
    ) -> std::result::Result<Self, ModelError> {
        let (gguf, config, layout) = gguf::Gguf::open(path)?;
        let tokenizer =
            gguf_tokenizer::from_gguf(gguf.metadata()).map_err(|e| ModelError::file(path, e))?;
        Ok(Self {
            name: name_of(&path.with_extension("")),
            fingerprint: Fingerprint::begin(
                vec![Part { role: "gguf", file: gguf.state() }],
                Digests::of_user(),
            ),
            n_stored_bytes: gguf.state().n_bytes,
            weights_dtype: gguf.dtype(),
            revision: None,
            network: Network::within(config, Checkpoint::new(gguf, layout), to, limit)?,
            tokenizer,
        })
    }

    /// What a sweep may take in a process that may take `limit` bytes.
    pub fn n_sweep_bytes(&self, limit: usize) -> usize {
        let taken = n_process_bytes(&self.network.config) + self.network.n_held_bytes();
        limit.saturating_sub(taken)
    }
}

/// The last part of a path.
fn name_of(path: &Path) -> String {
    path.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned())
}

/// What the process takes beside weights and sweeps: its code, and the tokenizer with the texts of
/// its vocabulary and its merges.
fn n_process_bytes(config: &Config) -> usize {
    (48 << 20) + config.d_vocab * (1 << 10)
}

/// What must be left to a sweep if weights are to stay in memory.
const MIN_SWEEP_BYTES: usize = 192 << 20;

/// A folder in Hugging Face's layout whose configuration and headers are read.
struct OpenFolder {
    config_text: String,
    config_file: FileState,
    config: Config,
    layout: Layout,
    weights: Folder,
}

impl OpenFolder {
    fn new(path: &Path) -> std::result::Result<Self, ModelError> {
        let config_path = path.join("config.json");
        let (config_text, config_file) = read_text(&config_path)
            .map_err(|e| ModelError::file(&config_path, format!("cannot read it: {e}")))?;
        let (config, layout) =
            hugging_face::parse(&config_text).map_err(|e| ModelError::file(&config_path, e))?;
        Ok(Self { weights: Folder::open(path)?, config_text, config_file, config, layout })
    }

    fn network(self, to: &Placement, limit: usize) -> std::result::Result<Network, ModelError> {
        let (mut config, checkpoint) = (self.config, Checkpoint::new(self.weights, self.layout));
        // Checkpoints that tie their embeddings have no weight of its own for the unembedding.
        config.tied_embeddings |= !checkpoint.contains(Weight::new(Module::Unembed, 0));
        Network::within(config, checkpoint, to, limit)
    }
}

impl Network {
    /// Loads the numbers of a model in Hugging Face's layout, which needs no tokenizer.
    ///
    /// # Errors
    /// Files that are missing, damaged, or of a family that is not supported.
    pub fn open(folder: &Path) -> std::result::Result<Self, ModelError> {
        Self::open_on(folder, &Placement::default(), usize::MAX)
    }

    /// The same on any device, in any type and within `limit` bytes, see [`Model::open_on`].
    ///
    /// # Errors
    /// As for [`Model::open_on`].
    pub fn open_on(
        folder: &Path,
        to: &Placement,
        limit: usize,
    ) -> std::result::Result<Self, ModelError> {
        OpenFolder::new(folder)?.network(to, limit)
    }

    fn within(
        config: Config,
        mut weights: impl Weights + Send + 'static,
        to: &Placement,
        limit: usize,
    ) -> std::result::Result<Self, ModelError> {
        let resident = config.n_bytes(to);
        let needed = resident.saturating_add(n_process_bytes(&config) + MIN_SWEEP_BYTES);
        if needed <= limit {
            Self::load_on(config, &mut weights, to)
        } else {
            Self::stream_on(config, weights, to)
        }
    }

    /// Loads all weights, in f32 on the CPU.
    ///
    /// # Errors
    /// A weight that is missing, damaged or of another shape.
    pub fn load(
        config: Config,
        weights: &mut dyn Weights,
    ) -> std::result::Result<Self, ModelError> {
        Self::load_on(config, weights, &Placement::default())
    }

    /// Loads all weights to where and as `to` says.
    ///
    /// # Errors
    /// As for [`Self::load`], or a device on which there is no room.
    pub fn load_on(
        config: Config,
        weights: &mut dyn Weights,
        to: &Placement,
    ) -> std::result::Result<Self, ModelError> {
        let tied = config.tied_embeddings;
        let weights = &mut Placed { weights, placement: to.clone(), tied };
        let dims = [config.d_vocab, config.d_model];
        let mut table = |module| -> std::result::Result<_, ModelError> {
            Ok(Table::Resident(weights.load(Weight::new(module, 0), &dims)?))
        };
        let embed = table(Module::Embed)?;
        let unembed = match config.tied_embeddings {
            true => embed.clone(),
            false => table(Module::Unembed)?,
        };
        let blocks = (0..config.n_layers).map(|l| Ok(Arc::new(Block::load(weights, l, &config)?)));
        let blocks = Blocks::Resident(blocks.collect::<std::result::Result<_, _>>()?);
        Self::assemble(config, weights, (embed, unembed), blocks)
    }

    /// Leaves the weights where they are stored: each block is read when a pass comes to it, and of
    /// the embeddings only the rows that are asked for.
    ///
    /// # Errors
    /// A weight that is missing, damaged or of another shape, as far as that can be seen of the
    /// first block.
    pub fn stream(
        config: Config,
        weights: impl Weights + Send + 'static,
    ) -> std::result::Result<Self, ModelError> {
        Self::stream_on(config, weights, &Placement::default())
    }

    /// The same, each weight to where and as `to` says when it is read.
    ///
    /// # Errors
    /// As for [`Self::stream`].
    pub fn stream_on(
        config: Config,
        weights: impl Weights + Send + 'static,
        to: &Placement,
    ) -> std::result::Result<Self, ModelError> {
        let source = Source::new(weights, to.clone(), config.tied_embeddings);
        let dims = [config.d_vocab, config.d_model];
        let table = |module| {
            let weight = Weight::new(module, 0);
            Table::Stored { source: source.clone(), weight, dims }
        };
        let unembed = if config.tied_embeddings { Module::Embed } else { Module::Unembed };
        let tables = (table(Module::Embed), table(unembed));
        // What is wrong with all blocks is said now, and not in the middle of a sweep.
        source.with(|weights| Block::load(weights, 0, &config))?;
        let blocks = Blocks::Stored(source.clone());
        source.with(|weights| Self::assemble(config, weights, tables, blocks))
    }

    fn assemble(
        config: Config,
        weights: &mut Placed,
        (embed, unembed): (Table, Table),
        blocks: Blocks,
    ) -> std::result::Result<Self, ModelError> {
        let &Config { d_model, d_vocab, n_context, .. } = &config;
        let positions = Weight::new(Module::Positions, 0);
        let positions =
            config.spec.learned_positions.then(|| weights.load(positions, &[n_context, d_model]));
        let bias = Weight::bias(Module::Unembed, 0);
        let bias = config.spec.biases.unembed.then(|| weights.load(bias, &[d_vocab]));
        let norm = (config.spec.norm, config.norm_eps);
        Ok(Self {
            placement: weights.placement.clone(),
            positions: positions.transpose()?,
            final_norm: Norm::load(weights, norm, Module::FinalNorm, 0, d_model)?,
            unembed_bias: bias.transpose()?,
            unembed,
            embed,
            blocks,
            config,
        })
    }

    /// The blocks, from the first to the last.
    pub fn blocks(&self) -> BlockPass<'_> {
        BlockPass::new(&self.blocks, &self.config)
    }

    /// Whether the blocks are read anew for every pass.
    pub fn is_streamed(&self) -> bool {
        matches!(self.blocks, Blocks::Stored(_))
    }

    /// The memory that the weights take: all of them, or two blocks, one at work and one that is
    /// read, with what reading takes.
    pub fn n_held_bytes(&self) -> usize {
        let config = &self.config;
        match &self.blocks {
            Blocks::Resident(_) => config.n_bytes(&self.placement),
            Blocks::Stored(_) => {
                let f32s = |n: usize| n * size_of::<f32>();
                // A weight is in f32 while it is read, whatever it becomes.
                let largest = config.d_model * config.d_mlp.max(config.n_heads * config.d_head);
                // A piece of the vocabulary is read when the blocks are gone.
                let piece = config.d_model * config.d_vocab.min(PIECE_ROWS);
                let blocks = 2 * config.n_block_bytes(&self.placement);
                (blocks + f32s(largest)).max(f32s(piece))
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
    /// block: the unit of noise.
    ///
    /// # Errors
    /// What candle reports.
    pub fn embedding_std(&self) -> Result<f64> {
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
        Ok((squares / n as f64 - mean * mean).max(0.0).sqrt() * f64::from(self.config.embed_scale))
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
        self.unembedded(x, &self.unembed.rows(ids)?, bias.as_ref())
    }

    /// The vocabulary in pieces that can be had in memory.
    pub fn vocabulary(&self) -> Vec<Range<usize>> {
        self.unembed.pieces()
    }

    /// Calls `each` with the unembedding of a piece of the vocabulary, which is a function from
    /// normed rows `[rows, d_model]` to their logits `[rows, piece]`.
    ///
    /// # Errors
    /// What candle reports, and what `each` returns.
    pub fn with_piece(
        &self,
        piece: Range<usize>,
        mut each: impl FnMut(&dyn Fn(&Tensor) -> Result<Tensor>) -> Result<()>,
    ) -> Result<()> {
        let bias = match &self.unembed_bias {
            Some(bias) => Some(bias.narrow(0, piece.start, piece.len())?),
            None => None,
        };
        let weight = self.unembed.piece(piece)?;
        each(&|x| self.unembedded(x, &weight, bias.as_ref()))
    }

    fn unembedded(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let kernels = self.placement.kernels;
        let logits = biased(x.matmul(&weight.t()?)?, bias, kernels)?;
        softcapped(logits, self.config.final_softcap, kernels)
    }

    /// The logits of the whole vocabulary for normed rows `x` `[rows, d_model]`: `[rows, d_vocab]`.
    ///
    /// # Errors
    /// What candle reports.
    pub fn logits(&self, x: &Tensor) -> Result<Tensor> {
        let mut parts = Vec::new();
        for piece in self.vocabulary() {
            self.with_piece(piece, |logits| {
                parts.push(logits(x)?);
                Ok(())
            })?;
        }
        Tensor::cat(&parts, 1)
    }
}
