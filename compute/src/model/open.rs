//! Opening a model: from its files, on a device, in a type, within the memory that there is.

use std::path::Path;

use super::arch::{Config, Module, Weight, WeightLayout, hugging_face};
use super::checkpoint::{
    Checkpoint, Digests, FileState, Fingerprint, Gguf, ModelError, Part, Placement,
    SafetensorsFolder, Weights, read_text,
};
use super::net::Network;
use super::tokenizer::{Tokenizer, from_metadata};

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

/// How a model is opened.
#[derive(Debug, Clone)]
pub struct Loader<'a> {
    /// A folder in Hugging Face's layout or a `.gguf` file.
    pub path: &'a Path,
    /// Where the weights go, in which type, and what computes with them.
    pub placement: Placement,
    /// The memory that the whole process may take on the CPU, or else what may be taken on the
    /// device, in bytes. Weights are loaded if that leaves enough for a sweep, and otherwise stay
    /// where they are stored.
    pub budget: usize,
}

impl<'a> Loader<'a> {
    /// Loads all of a model into memory, in f32 on the CPU.
    pub fn new(path: &'a Path) -> Self {
        Self { path, placement: Placement::default(), budget: usize::MAX }
    }

    /// Opens the model.
    ///
    /// # Errors
    /// Files that are missing, damaged, or of a family that is not supported, or a device on which
    /// there is no room.
    pub fn load(&self) -> Result<Model, ModelError> {
        match self.is_gguf()? {
            true => self.load_gguf(),
            false => self.load_folder(),
        }
    }

    /// Opens the numbers alone, which takes no tokenizer.
    ///
    /// # Errors
    /// As for [`Self::load`].
    pub fn network(&self) -> Result<Network, ModelError> {
        match self.is_gguf()? {
            true => {
                let (gguf, config, layout) = Gguf::open(self.path)?;
                self.within(config, Checkpoint::new(gguf, layout))
            }
            false => self.network_of(OpenFolder::new(self.path)?),
        }
    }

    fn is_gguf(&self) -> Result<bool, ModelError> {
        let is_gguf = self.path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf"));
        match (self.path.is_dir(), is_gguf && self.path.is_file()) {
            (true, _) => Ok(false),
            (_, true) => Ok(true),
            _ => Err(ModelError::file(
                self.path,
                "no such model: expected a folder with `config.json`, `tokenizer.json` and \
                 safetensors, or a `.gguf` file",
            )),
        }
    }

    fn load_folder(&self) -> Result<Model, ModelError> {
        let folder = OpenFolder::new(self.path)?;
        let (tokenizer, read) = Tokenizer::from_folder(self.path, &folder.config_text)?;
        let weights = folder.weights.states();
        let n_stored_bytes = weights.iter().map(|file| file.n_bytes).sum();
        let mut parts = vec![Part { role: "config", file: folder.config_file.clone() }];
        parts.extend(read);
        parts.extend(weights.into_iter().map(|file| Part { role: "weights", file }));
        // The files are read for it while they are read for the network.
        let fingerprint = Fingerprint::begin(parts, Digests::of_user());
        Ok(Model {
            name: name_of(&self.path.canonicalize().unwrap_or_else(|_| self.path.to_path_buf())),
            fingerprint,
            n_stored_bytes,
            weights_dtype: folder.weights.dtype(),
            revision: None,
            network: self.network_of(folder)?,
            tokenizer,
        })
    }

    fn load_gguf(&self) -> Result<Model, ModelError> {
        let (gguf, config, layout) = Gguf::open(self.path)?;
        let tokenizer =
            from_metadata(gguf.metadata()).map_err(|e| ModelError::file(self.path, e))?;
        let parts = vec![Part { role: "gguf", file: gguf.state() }];
        Ok(Model {
            name: name_of(&self.path.with_extension("")),
            fingerprint: Fingerprint::begin(parts, Digests::of_user()),
            n_stored_bytes: gguf.state().n_bytes,
            weights_dtype: gguf.dtype(),
            revision: None,
            network: self.within(config, Checkpoint::new(gguf, layout))?,
            tokenizer,
        })
    }

    fn network_of(&self, folder: OpenFolder) -> Result<Network, ModelError> {
        let mut config = folder.config;
        let checkpoint = Checkpoint::new(folder.weights, folder.layout);
        // Checkpoints that tie their embeddings have no weight of its own for the unembedding.
        config.tied_embeddings |= !checkpoint.contains(Weight::new(Module::Unembed, 0));
        self.within(config, checkpoint)
    }

    /// Loads the weights if they leave enough memory, or else leaves them where they are.
    fn within(
        &self,
        config: Config,
        mut weights: impl Weights + Send + 'static,
    ) -> Result<Network, ModelError> {
        let all = Network::n_bytes(&config, &self.placement, false);
        let beside = n_process_bytes(&config, &self.placement) + MIN_SWEEP_BYTES;
        let needed = all.saturating_add(beside);
        match needed <= self.budget {
            true => Network::resident(config, &mut weights, &self.placement),
            false => Network::streamed(config, weights, &self.placement),
        }
    }
}

impl Model {
    /// What a sweep may take, in bytes, where the [`Loader`] had `limit`.
    pub fn n_sweep_bytes(&self, limit: usize) -> usize {
        let Network { config, placement, .. } = &self.network;
        let taken = n_process_bytes(config, placement) + self.network.n_held_bytes();
        limit.saturating_sub(taken)
    }
}

/// A folder in Hugging Face's layout whose configuration and headers are read.
struct OpenFolder {
    config_text: String,
    config_file: FileState,
    config: Config,
    layout: WeightLayout,
    weights: SafetensorsFolder,
}

impl OpenFolder {
    fn new(path: &Path) -> Result<Self, ModelError> {
        let config_path = path.join("config.json");
        let (config_text, config_file) = read_text(&config_path)
            .map_err(|e| ModelError::file(&config_path, format!("cannot read it: {e}")))?;
        let (config, layout) =
            hugging_face::parse(&config_text).map_err(|e| ModelError::file(&config_path, e))?;
        let weights = SafetensorsFolder::open(path)?;
        Ok(Self { weights, config_text, config_file, config, layout })
    }
}

/// The last part of a path.
fn name_of(path: &Path) -> String {
    path.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned())
}

/// What the process takes beside weights and sweeps: its code, and the tokenizer with the texts of
/// its vocabulary and its merges; nothing on a device that has memory of its own.
fn n_process_bytes(config: &Config, placement: &Placement) -> usize {
    if placement.device.is_cpu() { (48 << 20) + config.d_vocab * (1 << 10) } else { 0 }
}

/// What must be left to a sweep if weights are to stay in memory.
const MIN_SWEEP_BYTES: usize = 192 << 20;
