//! What is stored of a model: its files, how they are read, and how models are told apart by them.

mod digests;
mod error;
mod file_state;
mod fingerprint;
mod folder;
mod gguf;
mod placed;
mod placement;
mod store;
mod weights;

pub use digests::Digests;
pub use error::ModelError;
pub use file_state::{FileState, read_text};
pub use fingerprint::{Fingerprint, Part};
pub use folder::{INDEX, PICKLED, SafetensorsFolder, shards};
pub use gguf::{Gguf, metadata};
pub use placed::Placed;
pub use placement::{Kernels, Placement, cuda_device};
pub use store::WeightStore;
pub use weights::{Checkpoint, Tensors, Weights};
