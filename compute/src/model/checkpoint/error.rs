//! What can be wrong with a model's files.

use std::path::{Path, PathBuf};

/// A model that cannot be loaded.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ModelError {
    /// No tensor of that name.
    #[error("the weight `{name}` is missing in {}", .path.display())]
    Missing {
        /// The weight's name in its format.
        name: String,
        /// The file that should hold it.
        path: PathBuf,
    },
    /// Another shape than the configuration says.
    #[error(
        "the weight `{name}` has the shape {found:?}, and the configuration says {expected:?}, in {}",
        .path.display()
    )]
    Shape {
        /// The weight's name in its format.
        name: String,
        /// The shape in the file.
        found: Vec<usize>,
        /// The shape that the configuration implies.
        expected: Vec<usize>,
        /// The file that holds it.
        path: PathBuf,
    },
    /// The file is not what it should be.
    #[error("{message}: {}", .path.display())]
    File {
        /// What was found and what to do.
        message: String,
        /// The file.
        path: PathBuf,
    },
}

impl ModelError {
    /// A file that is not what it should be.
    pub fn file(path: &Path, message: impl ToString) -> Self {
        Self::File { message: message.to_string(), path: path.to_path_buf() }
    }
}
