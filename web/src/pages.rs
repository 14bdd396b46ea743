//! The pages.

mod actions;
mod card;
pub mod compare;
pub mod embedded;
pub mod experiment;
mod followed;
pub mod index;
pub mod job;
mod listing;
pub mod live;
mod loaded;
mod neighbours;
pub mod new;
mod panels;
pub mod queue;
mod result;
pub mod study;
