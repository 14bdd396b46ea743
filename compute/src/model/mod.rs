//! Language models: configuration, weights, tokenizer, and the forward pass of rows.

mod attention;
mod batched_attention;
mod block;
mod config;
mod default_model;
mod elementwise;
mod error;
mod family;
mod fields;
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
mod rope;
mod rotary;
mod rows;
mod split_rules;
mod tokenizer;
mod weights;

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Result, Tensor};

pub use attention::KeysValues;
use block::Linear;
pub use block::{Attended, Block};
pub use config::{Biases, Config, Layer, Norms, QkNorm, Residual, Spec};
pub use default_model::{DEFAULT_MODEL, DefaultModel};
pub use elementwise::Activation;
use elementwise::softcapped;
pub use error::ModelError;
pub use family::{FAMILIES, Family};
pub(crate) use fingerprint::sha256_of;
pub(crate) use folder::{INDEX, PICKLED, shards};
pub use names::{Module, Weight};
use norm::Norm;
pub use norm::NormKind;
use placement::Placed;
pub use placement::{Kernels, Placement};
pub use rope::{Rope, RopeScaling};
pub use rotary::Rotary;
pub(crate) use rows::contiguous;
pub use rows::{Outputs, Span, last_rows, n_rows};
pub use tokenizer::{Encoded, Tokenizer};
pub use weights::{Checkpoint, Tensors, Weights};

/// Patchboard's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A model's numbers, resident in memory.
#[derive(Debug)]
pub struct Network {
    /// Dimensions and conventions.
    pub config: Config,
    /// Where the numbers are, in which type, and what computes with them.
    pub placement: Placement,
    /// The decoder blocks, in order.
    pub blocks: Vec<Block>,
    embed: Tensor,             // [d_vocab, d_model]; f32 if it is the unembedding, too
    positions: Option<Tensor>, // [n_context, d_model]
    final_norm: Norm,          // over d_model
    unembed: Linear,           // [d_vocab, d_model], f32
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
    /// The commit, for a model of the Hugging Face hub.
    pub revision: Option<String>,
}

impl Model {
    /// Loads a model from a folder in Hugging Face's layout or from a `.gguf` file.
    ///
    /// # Errors
    /// Files that are missing, damaged, or of a family that is not supported.
    pub fn open(path: &Path) -> std::result::Result<Self, ModelError> {
        Self::open_on(path, &Placement::default())
    }

    /// The same, on any device and in any type.
    ///
    /// # Errors
    /// As [`Model::open`], or a device on which there is no room.
    pub fn open_on(path: &Path, to: &Placement) -> std::result::Result<Self, ModelError> {
        let is_gguf = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf"));
        if path.is_dir() {
            Self::open_folder(path, to)
        } else if is_gguf && path.is_file() {
            Self::open_gguf(path, to)
        } else {
            Err(ModelError::file(
                path,
                "no such model: expected a folder with `config.json`, `tokenizer.json` and \
                 safetensors, or a `.gguf` file",
            ))
        }
    }

    fn open_folder(path: &Path, to: &Placement) -> std::result::Result<Self, ModelError> {
        let config_path = path.join("config.json");
        let config_text = hugging_face::read_config(&config_path)?;
        let tokenizer = Tokenizer::from_folder(path, &config_text)?;
        let (network, folder) = Network::open_folder(path, to)?;
        let mut paths = vec![config_path];
        paths.extend(folder.paths);
        Ok(Self {
            name: name_of(&path.canonicalize().unwrap_or_else(|_| path.to_path_buf())),
            fingerprint: fingerprint::fingerprint(&paths)?,
            weights_dtype: folder.dtype,
            revision: None,
            network,
            tokenizer,
        })
    }

    fn open_gguf(path: &Path, to: &Placement) -> std::result::Result<Self, ModelError> {
        let (gguf, config, layout) = gguf::Gguf::open(path)?;
        let tokenizer =
            gguf_tokenizer::from_gguf(gguf.metadata()).map_err(|e| ModelError::file(path, e))?;
        Ok(Self {
            name: name_of(&path.with_extension("")),
            fingerprint: fingerprint::fingerprint(&[path])?,
            weights_dtype: gguf.dtype(),
            revision: None,
            network: Network::load_on(config, &mut Checkpoint::new(gguf, layout), to)?,
            tokenizer,
        })
    }
}

/// The last part of a path.
fn name_of(path: &Path) -> String {
    path.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned())
}

/// Where a folder's weights come from.
struct FolderFiles {
    paths: Vec<PathBuf>,
    dtype: String,
}

impl Network {
    /// Loads the numbers of a model in Hugging Face's layout, which needs no tokenizer.
    ///
    /// # Errors
    /// Files that are missing, damaged, or of a family that is not supported.
    pub fn open(folder: &Path) -> std::result::Result<Self, ModelError> {
        Self::open_on(folder, &Placement::default())
    }

    /// The same, on any device and in any type.
    ///
    /// # Errors
    /// As [`Network::open`], or a device on which there is no room.
    pub fn open_on(folder: &Path, to: &Placement) -> std::result::Result<Self, ModelError> {
        Ok(Self::open_folder(folder, to)?.0)
    }

    fn open_folder(
        path: &Path,
        to: &Placement,
    ) -> std::result::Result<(Self, FolderFiles), ModelError> {
        let config_path = path.join("config.json");
        let config_text = hugging_face::read_config(&config_path)?;
        let (mut config, layout) =
            hugging_face::parse(&config_text).map_err(|e| ModelError::file(&config_path, e))?;
        let folder = folder::Folder::open(path)?;
        let files = FolderFiles { paths: folder.paths(), dtype: folder.dtype() };
        let mut checkpoint = Checkpoint::new(folder, layout);
        // Checkpoints that tie their embeddings have no weight of its own for the unembedding.
        config.tied_embeddings |= !checkpoint.contains(Weight::new(Module::Unembed, 0));
        Ok((Self::load_on(config, &mut checkpoint, to)?, files))
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
    /// As [`Network::load`], or a device on which there is no room.
    pub fn load_on(
        config: Config,
        weights: &mut dyn Weights,
        to: &Placement,
    ) -> std::result::Result<Self, ModelError> {
        let tied = config.tied_embeddings;
        let weights = &mut Placed { weights, placement: to.clone(), tied };
        let &Config { d_model, d_vocab, n_context, n_layers, .. } = &config;
        let embed = weights.load(Weight::new(Module::Embed, 0), &[d_vocab, d_model])?;
        let positions = Weight::new(Module::Positions, 0);
        let positions =
            config.spec.learned_positions.then(|| weights.load(positions, &[n_context, d_model]));
        let norm = (config.spec.norm, config.norm_eps);
        let final_norm = Norm::load(weights, norm, Module::FinalNorm, 0, d_model)?;
        let bias = Weight::bias(Module::Unembed, 0);
        let unembed = match config.tied_embeddings {
            true => Linear {
                kernels: to.kernels,
                weight: embed.clone(),
                bias: config
                    .spec
                    .biases
                    .unembed
                    .then(|| weights.load(bias, &[d_vocab]))
                    .transpose()?,
            },
            false => {
                let weight = Weight::new(Module::Unembed, 0);
                Linear::load(weights, weight, [d_vocab, d_model], config.spec.biases.unembed)?
            }
        };
        Ok(Self {
            placement: to.clone(),
            positions: positions.transpose()?,
            final_norm,
            unembed,
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

    /// The residual stream before the first block, `[tokens, d_model]`, of a run that begins with
    /// `tokens`.
    ///
    /// # Errors
    /// What candle reports, e.g. a token beyond the vocabulary.
    pub fn embed(&self, tokens: &[u32]) -> Result<Tensor> {
        let x = self.embed.index_select(&Tensor::new(tokens, self.device())?, 0)?;
        let x = match self.config.embed_scale {
            1.0 => x,
            scale => (x * f64::from(scale))?,
        };
        let x = x.to_dtype(self.placement.dtype)?;
        match &self.positions {
            None => Ok(x),
            Some(positions) => x + positions.narrow(0, 0, tokens.len())?,
        }
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
        let ids = Tensor::new(ids, self.device())?;
        let pick = |tensor: &Tensor| tensor.index_select(&ids, 0);
        let unembed = Linear {
            kernels: self.placement.kernels,
            weight: pick(&self.unembed.weight)?,
            bias: self.unembed.bias.as_ref().map(pick).transpose()?,
        };
        softcapped(unembed.apply(x)?, self.config.final_softcap, self.placement.kernels)
    }

    /// The logits of the whole vocabulary for normed rows `x` `[rows, d_model]`: `[rows, d_vocab]`.
    ///
    /// # Errors
    /// What candle reports.
    pub fn logits(&self, x: &Tensor) -> Result<Tensor> {
        softcapped(self.unembed.apply(x)?, self.config.final_softcap, self.placement.kernels)
    }
}
