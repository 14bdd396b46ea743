//! What a model is: its dimensions and conventions, read from a `config.json` or a GGUF's metadata,
//! and which weights it has, what they are called and how they are laid out. No file is opened here,
//! and there are no tensors.

mod config;
mod family;
mod fields;
pub mod gguf_config;
pub mod hugging_face;
mod layout;
mod names;
mod rope;
mod shapes;
mod specials;

pub use config::{Activation, Biases, Config, Layer, NormKind, Norms, QkNorm, Residual, Spec};
pub use family::{FAMILIES, Family};
pub use layout::{StoredRows, WeightLayout};
pub use names::{Module, Weight};
pub use rope::{Rope, RopeScaling};
