//! What Patchboard's engine and its viewer share. Its rooms, each of which knows those before it
//! alone (`compute/tests/rooms.rs`):
//!
//! - [`json`], [`markdown`]: texts taken apart;
//! - [`grid`], [`statistics`]: numbers, of whatever;
//! - [`specification`]: pairs, templates, settings, and the experiment that they ask for;
//! - [`document`]: what an experiment found;
//! - [`field`]: values over axes, and which cells of two results correspond;
//! - [`study`]: what the pairs of a table have in common;
//! - [`figure`]: colours and the drawing;
//! - [`wire`]: addresses, links, lists, and what a server and its clients say to each other.
//!
//! Nothing here reads or writes a file, a socket or a clock, and everything compiles to
//! WebAssembly.

pub mod document;
pub mod field;
pub mod figure;
pub mod grid;
pub mod json;
pub mod markdown;
pub mod specification;
pub mod statistics;
pub mod study;
pub mod wire;

#[cfg(test)]
mod fixture;
