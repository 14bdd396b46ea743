//! Patchboard's engine: activation patching in one pass over the layers.

pub mod cli;
pub mod experiment;
pub mod export;
pub mod hub;
pub mod jobs;
pub mod model;
pub mod ndif;
pub mod server;
pub mod site;
pub mod store;
pub mod sweep;
