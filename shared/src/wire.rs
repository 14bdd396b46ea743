//! What leaves the process beside documents: addresses, links, lists of results, and what a server and
//! its clients say to each other.

pub mod address;
pub mod draft;
pub mod event;
pub mod gallery;
pub mod job;
pub mod listing;
pub mod live;
pub mod numbers;
pub mod permalink;
pub mod problem;
pub mod studies;
