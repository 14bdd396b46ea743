//! Where results and news come from: the page, files, links, a server.

pub mod api;
pub mod feed;
pub mod library;
pub mod listed;
pub mod opened;
pub mod pasted;
pub mod rights;
pub mod server;
pub mod source;
pub mod studies;
pub mod words;
