//! What Patchboard's engine and its viewer share: the result document, the vocabulary of an
//! experiment, pair tables, templates, alignment, statistics, colours and the figure.
//!
//! Nothing here reads or writes a file, a socket or a clock, and everything compiles to
//! WebAssembly.

pub mod address;
pub mod alignment;
pub mod cells;
pub mod colour;
pub mod document;
pub mod figure;
pub mod gallery;
pub mod metric;
pub mod numbers;
pub mod pairs;
pub mod permalink;
pub mod positions;
pub mod stats;
pub mod template;
pub mod vocabulary;

#[cfg(test)]
mod fixture;
