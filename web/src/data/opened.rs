//! A study that was read.

use shared::study::Study;

/// A study, and where it was found.
#[derive(Debug, PartialEq)]
pub struct Opened {
    /// The study.
    pub study: Study,
    /// What the addresses of its files begin with; `None` where there are none beside it.
    pub beside: Option<String>,
    /// The query that it was asked for with.
    pub pooling: String,
}

impl Opened {
    /// A study of which there is no more than the manifest.
    pub fn alone(study: Study) -> Self {
        Self { study, beside: None, pooling: String::new() }
    }
}
