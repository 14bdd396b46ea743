//! Patchboard's engine: activation patching in one pass over the layers.

pub mod experiment;
pub mod model;
pub mod sweep;
