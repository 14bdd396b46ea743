//! The pages.

pub mod compare;
pub mod experiment;
pub mod index;
