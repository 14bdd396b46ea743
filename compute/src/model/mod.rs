//! Language models: configuration, weights, tokenizer, and the forward pass of rows.

mod attention;
mod block;
mod config;
mod default_model;
mod error;
mod fingerprint;
mod folder;
mod gguf;
mod gguf_tokenizer;
mod names;
mod rotary;
mod rows;
mod swiglu;
mod tokenizer;
mod weights;

use std::path::Path;

use candle_core::{Device, Result, Tensor};
use candle_nn::ops::rms_norm;

pub use attention::KeysValues;
pub use block::{Attended, Block};
pub use config::{ARCHITECTURE, Config, Rope, RopeScaling};
pub use default_model::{DEFAULT_MODEL, DefaultModel};
pub use error::ModelError;
pub use names::Weight;
pub use rotary::Rotary;
pub(crate) use rows::contiguous;
pub use rows::{Outputs, Span, last_rows, n_rows};
pub use tokenizer::{Encoded, Tokenizer};
pub use weights::Weights;

/// Patchboard's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A model's numbers, resident in memory in f32.
#[derive(Debug)]
pub struct Network {
    /// Dimensions and conventions.
    pub config: Config,
    /// The decoder blocks, in order.
    pub blocks: Vec<Block>,
    embed: Tensor,      // [d_vocab, d_model]
    final_norm: Tensor, // [d_model]
    unembed: Tensor,    // [d_vocab, d_model]
}

/// A model: its numbers, its tokenizer, and where it came from.
pub struct Model {
    /// The numbers.
    pub network: Network,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The name shown to people: the folder's or the file's.
    pub name: String,
    /// Tells this model from any other.
    pub fingerprint: String,
    /// How the weights are stored.
    pub weights_dtype: String,
}

impl Model {
    /// Loads a model from a folder in Hugging Face's layout or from a `.gguf` file.
    ///
    /// # Errors
    /// Files that are missing, damaged, or of a family that is not supported.
    pub fn open(path: &Path) -> std::result::Result<Self, ModelError> {
        let is_gguf = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf"));
        if path.is_dir() {
            Self::open_folder(path)
        } else if is_gguf && path.is_file() {
            Self::open_gguf(path)
        } else {
            Err(ModelError::file(
                path,
                "no such model: expected a folder with `config.json`, `tokenizer.json` and \
                 safetensors, or a `.gguf` file",
            ))
        }
    }

    fn open_folder(path: &Path) -> std::result::Result<Self, ModelError> {
        let config_path = path.join("config.json");
        let config_text = std::fs::read_to_string(&config_path)
            .map_err(|e| ModelError::file(&config_path, format!("cannot read it: {e}")))?;
        let mut config = Config::from_hugging_face(&config_text)
            .map_err(|e| ModelError::file(&config_path, e))?;
        let tokenizer = Tokenizer::from_folder(path, &config_text)?;
        let mut folder = folder::Folder::open(path)?;
        // Checkpoints that tie their embeddings have no weight of its own for the unembedding.
        config.tied_embeddings |= !folder.contains(Weight::Unembed);
        let mut paths = vec![config_path];
        paths.extend(folder.paths());
        Ok(Self {
            name: name_of(&path.canonicalize().unwrap_or_else(|_| path.to_path_buf())),
            fingerprint: fingerprint::fingerprint(&paths)?,
            weights_dtype: folder.dtype(),
            network: Network::load(config, &mut folder)?,
            tokenizer,
        })
    }

    fn open_gguf(path: &Path) -> std::result::Result<Self, ModelError> {
        let (mut gguf, config) = gguf::Gguf::open(path)?;
        let tokenizer =
            gguf_tokenizer::from_gguf(gguf.metadata()).map_err(|e| ModelError::file(path, e))?;
        Ok(Self {
            name: name_of(&path.with_extension("")),
            fingerprint: fingerprint::fingerprint(&[path])?,
            weights_dtype: gguf.dtype(),
            network: Network::load(config, &mut gguf)?,
            tokenizer,
        })
    }
}

/// The last part of a path.
fn name_of(path: &Path) -> String {
    path.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned())
}

impl Network {
    /// Loads all weights.
    ///
    /// # Errors
    /// A weight that is missing, damaged or of another shape.
    pub fn load(
        config: Config,
        weights: &mut dyn Weights,
    ) -> std::result::Result<Self, ModelError> {
        let &Config { d_model, d_vocab, n_layers, tied_embeddings, .. } = &config;
        let embed = weights.load(Weight::Embed, &[d_vocab, d_model])?;
        Ok(Self {
            final_norm: weights.load(Weight::FinalNorm, &[d_model])?,
            unembed: if tied_embeddings {
                embed.clone()
            } else {
                weights.load(Weight::Unembed, &[d_vocab, d_model])?
            },
            embed,
            blocks: (0..n_layers)
                .map(|layer| Block::load(weights, layer, &config))
                .collect::<std::result::Result<_, _>>()?,
            config,
        })
    }

    /// The device that holds the weights.
    pub fn device(&self) -> &Device {
        self.embed.device()
    }

    /// The residual stream before the first block, `[tokens, d_model]`.
    ///
    /// # Errors
    /// What candle reports, e.g. a token beyond the vocabulary.
    pub fn embed(&self, tokens: &[u32]) -> Result<Tensor> {
        self.embed.index_select(&Tensor::new(tokens, self.device())?, 0)
    }

    /// The final norm of residual streams `x` `[rows, d_model]`.
    ///
    /// # Errors
    /// What candle reports.
    pub fn final_norm(&self, x: &Tensor) -> Result<Tensor> {
        rms_norm(x, &self.final_norm, self.config.norm_eps)
    }

    /// The logits of the tokens `ids` for normed rows `x` `[rows, d_model]`: `[rows, ids]`.
    ///
    /// # Errors
    /// What candle reports.
    pub fn logits_of(&self, x: &Tensor, ids: &[u32]) -> Result<Tensor> {
        let rows = self.unembed.index_select(&Tensor::new(ids, self.device())?, 0)?;
        block::linear(x, &rows)
    }

    /// The logits of the whole vocabulary for normed rows `x` `[rows, d_model]`: `[rows, d_vocab]`.
    ///
    /// # Errors
    /// What candle reports.
    pub fn logits(&self, x: &Tensor) -> Result<Tensor> {
        block::linear(x, &self.unembed)
    }
}
