//! The pages.

pub mod compare;
pub mod experiment;
pub mod index;
pub mod job;
pub mod live;
pub mod new;
pub mod queue;
