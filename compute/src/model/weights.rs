//! Where weights come from: safetensors files, a GGUF file, or memory.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};

use super::error::ModelError;
use super::names::Weight;

/// A source of named weights. Layout quirks of a format end here: every weight comes out in f32,
/// matrices as `[out, in]`, queries and keys in Hugging Face's order of coordinates.
pub trait Weights {
    /// Reads one weight, which must have the shape `dims`.
    ///
    /// # Errors
    /// A weight that is missing, damaged, or of another shape or type.
    fn load(&mut self, weight: Weight, dims: &[usize]) -> Result<Tensor, ModelError>;
}

/// Checks the shape and widens to f32.
pub(super) fn widened(
    tensor: &Tensor,
    name: &str,
    dims: &[usize],
    path: &Path,
) -> Result<Tensor, ModelError> {
    if tensor.dims() != dims {
        return Err(ModelError::Shape {
            name: name.to_string(),
            found: tensor.dims().to_vec(),
            expected: dims.to_vec(),
            path: path.to_path_buf(),
        });
    }
    let widened = tensor.to_dtype(DType::F32).and_then(|tensor| tensor.contiguous());
    widened.map_err(|e| ModelError::file(path, format!("the weight `{name}` cannot be read: {e}")))
}

/// The name of the type in which most numbers are stored; `tensors` gives each tensor's type and
/// count.
pub(super) fn prevailing_dtype(tensors: impl Iterator<Item = (String, usize)>) -> String {
    let mut counts: HashMap<String, usize> = HashMap::new();
    for (dtype, n) in tensors {
        *counts.entry(dtype).or_default() += n;
    }
    counts.into_iter().max_by_key(|(_, n)| *n).map_or_else(String::new, |(dtype, _)| dtype)
}

/// Weights in memory, by their Hugging Face names.
impl Weights for HashMap<String, Tensor> {
    fn load(&mut self, weight: Weight, dims: &[usize]) -> Result<Tensor, ModelError> {
        let name = weight.hugging_face();
        let path = PathBuf::from("memory");
        match self.get(&name) {
            Some(tensor) => widened(tensor, &name, dims, &path),
            None => Err(ModelError::Missing { name, path }),
        }
    }
}
