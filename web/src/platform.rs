//! The browser: nothing here knows a type of ours.

pub mod asking;
pub mod dom;
pub mod dynamic;
pub mod history;
