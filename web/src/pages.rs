//! The pages.

mod actions;
pub mod apart;
mod card;
mod compare;
pub mod embedded;
pub mod experiment;
mod followed;
pub mod index;
mod job;
mod listing;
pub mod live;
mod loaded;
mod neighbours;
mod new;
mod panels;
mod queue;
mod result;
mod study;
