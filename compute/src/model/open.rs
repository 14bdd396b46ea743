//! Opening a model: from its files, on a device, in a type, within the memory that there is.

use std::ops::Deref;
use std::path::Path;

use super::arch::{Config, Module, Weight, WeightLayout, hugging_face};
use super::checkpoint::{
    Checkpoint, Digests, FileState, Fingerprint, Gguf, ModelError, Part, Placement,
    SafetensorsFolder, Weights, read_text,
};
use super::net::Network;
use super::tokenizer::{Tokenizer, from_metadata};

/// A model: its numbers, and all else that there is to know of it.
pub struct Model {
    /// The numbers.
    pub network: Network,
    /// The bytes of the files that hold the weights.
    pub n_stored_bytes: u64,
    /// All else.
    pub description: Description,
}

impl Deref for Model {
    type Target = Description;

    fn deref(&self) -> &Description {
        &self.description
    }
}

/// What tokens, experiments, ids and documents take of a model: everything but its numbers, which may
/// be on another machine.
pub struct Description {
    /// Dimensions and conventions.
    pub config: Config,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The name shown to people: the folder's or the file's.
    pub name: String,
    /// Tells this model from any other, once all its files are read.
    pub fingerprint: Fingerprint,
    /// How the weights are stored.
    pub weights_dtype: String,
    /// The commit, for a model of the Hugging Face hub.
    pub revision: Option<String>,
    /// The type that is computed in, e.g. `f32`.
    pub dtype: String,
    /// What computes: `cpu`, an accelerator, or a server.
    pub device: String,
    /// The programs that compute, with their versions.
    pub engine: String,
}

/// A model whose weights are on another machine.
#[derive(Debug, Clone)]
pub struct Elsewhere {
    /// What it is called there.
    pub name: String,
    /// The commit, where the other machine says so.
    pub revision: Option<String>,
    /// The type that is computed in there, e.g. `bf16`.
    pub dtype: String,
    /// What computes.
    pub device: String,
    /// The programs that compute, with their versions.
    pub engine: String,
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
        let (tokenizer, read) = Tokenizer::from_folder(self.path, &folder.settings.text)?;
        let weights = folder.weights.states();
        let n_stored_bytes = weights.iter().map(|file| file.n_bytes).sum();
        let mut parts = vec![folder.settings.part()];
        parts.extend(read);
        parts.extend(weights.into_iter().map(|file| Part { role: "weights", file }));
        // The files are read for it while they are read for the network.
        let fingerprint = Fingerprint::begin(parts, Digests::of_user());
        let weights_dtype = folder.weights.dtype();
        let network = self.network_of(folder)?;
        let name = name_of(&self.path.canonicalize().unwrap_or_else(|_| self.path.to_path_buf()));
        let description = describe(&network, name, tokenizer, fingerprint, weights_dtype);
        Ok(Model { network, n_stored_bytes, description })
    }

    fn load_gguf(&self) -> Result<Model, ModelError> {
        let (gguf, config, layout) = Gguf::open(self.path)?;
        let tokenizer =
            from_metadata(gguf.metadata()).map_err(|e| ModelError::file(self.path, e))?;
        let parts = vec![Part { role: "gguf", file: gguf.state() }];
        let fingerprint = Fingerprint::begin(parts, Digests::of_user());
        let (n_stored_bytes, weights_dtype) = (gguf.state().n_bytes, gguf.dtype());
        let network = self.within(config, Checkpoint::new(gguf, layout))?;
        let name = name_of(&self.path.with_extension(""));
        let description = describe(&network, name, tokenizer, fingerprint, weights_dtype);
        Ok(Model { network, n_stored_bytes, description })
    }

    fn network_of(&self, folder: OpenFolder) -> Result<Network, ModelError> {
        let mut config = folder.settings.config;
        let checkpoint = Checkpoint::new(folder.weights, folder.settings.layout);
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

/// The description of a model that is loaded.
fn describe(
    network: &Network,
    name: String,
    tokenizer: Tokenizer,
    fingerprint: Fingerprint,
    weights_dtype: String,
) -> Description {
    Description {
        config: network.config.clone(),
        tokenizer,
        name,
        fingerprint,
        weights_dtype,
        revision: None,
        dtype: network.placement.dtype.as_str().to_string(),
        device: network.placement.device_name(),
        engine: concat!("patchboard ", env!("CARGO_PKG_VERSION")).to_string(),
    }
}

impl Description {
    /// Reads configuration and tokenizer of the folder `path`, of a model whose weights are on another
    /// machine. Nobody here has seen those: the fingerprint is of what was read and of what the other
    /// machine says.
    ///
    /// # Errors
    /// Files that are missing, damaged, or of a family that is not supported.
    pub fn of_folder(path: &Path, elsewhere: &Elsewhere) -> Result<Self, ModelError> {
        let settings = FolderConfig::open(path)?;
        let (tokenizer, read) = Tokenizer::from_folder(path, &settings.text)?;
        let parts = [settings.part()].into_iter().chain(read).collect();
        let files = Fingerprint::begin(parts, None);
        let Elsewhere { name, revision, dtype, device, engine } = elsewhere.clone();
        let told = [files.get()?, &name, revision.as_deref().unwrap_or_default(), &device];
        Ok(Self {
            config: settings.config,
            tokenizer,
            fingerprint: Fingerprint::of_text(&told.join("\n")),
            weights_dtype: dtype.clone(),
            name,
            revision,
            dtype,
            device,
            engine,
        })
    }
}

/// The configuration of a folder in Hugging Face's layout.
struct FolderConfig {
    text: String,
    file: FileState,
    config: Config,
    layout: WeightLayout,
}

impl FolderConfig {
    fn open(folder: &Path) -> Result<Self, ModelError> {
        let path = folder.join("config.json");
        let (text, file) = read_text(&path)
            .map_err(|e| ModelError::file(&path, format!("cannot read it: {e}")))?;
        let (config, layout) =
            hugging_face::parse(&text).map_err(|e| ModelError::file(&path, e))?;
        Ok(Self { text, file, config, layout })
    }

    fn part(&self) -> Part {
        Part { role: "config", file: self.file.clone() }
    }
}

/// A folder in Hugging Face's layout whose configuration and headers are read.
struct OpenFolder {
    settings: FolderConfig,
    weights: SafetensorsFolder,
}

impl OpenFolder {
    fn new(path: &Path) -> Result<Self, ModelError> {
        Ok(Self { settings: FolderConfig::open(path)?, weights: SafetensorsFolder::open(path)? })
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
