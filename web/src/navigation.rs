//! Where the reader is, and what all parts of the page share.

pub mod notice;
pub mod viewer;
