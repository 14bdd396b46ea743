//! What Patchboard's engine and its viewer share: the result document, the vocabulary of an
//! experiment, pair tables, templates, alignment, statistics, colours, the figure, and what a server
//! and its clients say to each other.
//!
//! Nothing here reads or writes a file, a socket or a clock, and everything compiles to
//! WebAssembly.

pub mod address;
pub mod alignment;
pub mod cells;
pub mod colour;
pub mod document;
pub mod draft;
pub mod event;
pub mod figure;
pub mod gallery;
pub mod grid;
pub mod job;
pub mod key;
pub mod listing;
pub mod live;
pub mod metric;
pub mod numbers;
pub mod pairs;
pub mod permalink;
pub mod positions;
pub mod problem;
pub mod settings;
pub mod specification;
pub mod stats;
pub mod template;
pub mod vocabulary;

#[cfg(test)]
mod fixture;
