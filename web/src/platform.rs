//! The browser: nothing here knows a type of ours.

pub mod dom;
pub mod history;
