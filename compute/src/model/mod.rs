//! Language models: configuration, weights, tokenizer, and the forward pass of rows.
//!
//! Each room knows those before it and none after it: `arch` what a model is, `checkpoint` what
//! is stored of it, `net` what is computed with it and, beside that, its `tokenizer`; opening a
//! model comes last and knows them all.

mod arch;
mod checkpoint;
mod default_model;
mod net;
mod open;
mod sha256;
mod tokenizer;

pub use arch::{
    Activation, Biases, Config, FAMILIES, Family, Layer, Module, NormKind, Norms, QkNorm, Residual,
    Rope, RopeScaling, Spec, Weight,
};
pub use checkpoint::{
    Checkpoint, Fingerprint, Kernels, ModelError, Placement, Tensors, Weights, cuda_device,
};
pub(crate) use checkpoint::{INDEX, PICKLED, shards};
pub use default_model::{DEFAULT_MODEL, DefaultModel};
pub use net::{
    Block, BlockPass, BlockRows, DeviceSpans, Hook, Indices, KeysValues, Linear, MOST_PADDING,
    Network, PIECE_ROWS, PaddedSpans, Rotary, Shared, Slice, Span, Unembedding, Uploaded, index,
    put_rows, standard_normal,
};
pub(crate) use net::{contiguous, dot, exp, reduced, vectorised};
pub use open::{Description, Elsewhere, Loader, Model};
pub(crate) use sha256::sha256_of;
pub use tokenizer::{Encoded, Tokenizer};

/// Patchboard's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
