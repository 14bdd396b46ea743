//! The pages.

mod actions;
pub mod compare;
pub mod experiment;
mod followed;
pub mod index;
pub mod job;
mod listing;
pub mod live;
pub mod new;
pub mod queue;
