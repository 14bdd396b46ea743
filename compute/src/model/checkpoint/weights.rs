//! Where weights come from: safetensors files, a GGUF file, or memory.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use candle_core::{DType, Result as CandleResult, Tensor};

use super::error::ModelError;
use crate::model::arch::{Module, StoredRows, Weight, WeightLayout};

/// A source of a model's weights. Layout quirks of formats and families end here: every weight
/// comes out in the type asked for, matrices as `[out, in]`, heads one after another, coordinate `i`
/// of a query or key to be rotated with coordinate `i + d_head / 2`, norms as what is multiplied.
pub trait Weights {
    /// Reads one weight, which must have the shape `dims`, as `dtype`: f32, f16 or bf16.
    ///
    /// # Errors
    /// A weight that is missing, damaged, or of another shape, or stored in a type that is not read.
    fn load(&mut self, weight: Weight, dims: &[usize], dtype: DType) -> Result<Tensor, ModelError>;

    /// Reads some consecutive rows of one weight, whose whole shape must be `dims`, as `dtype`.
    ///
    /// # Errors
    /// As for [`Self::load`].
    fn load_rows(
        &mut self,
        weight: Weight,
        dims: &[usize],
        rows: Range<usize>,
        dtype: DType,
    ) -> Result<Tensor, ModelError> {
        let whole = self.load(weight, dims, dtype)?;
        let part = whole.narrow(0, rows.start, rows.len());
        part.map_err(|e| ModelError::file(Path::new("memory"), e))
    }
}

/// Tensors by name, as a file holds them.
pub trait Tensors {
    /// Whether there is a tensor of that name.
    fn contains(&self, name: &str) -> bool;

    /// Reads the rows `rows` of the tensor `name`, whose whole shape must be `dims`, as `dtype`:
    /// f32, f16 or bf16.
    ///
    /// # Errors
    /// A tensor that is missing, damaged, or of another shape, or stored in a type that is not read.
    fn read(
        &mut self,
        name: &str,
        dims: &[usize],
        rows: Range<usize>,
        dtype: DType,
    ) -> Result<Tensor, ModelError>;

    /// The file to name in errors.
    fn path(&self) -> &Path;
}

/// A model's weights in the layout of a family and a format.
pub struct Checkpoint<T> {
    tensors: T,
    layout: WeightLayout,
    /// Which of the layout's roots the names begin with.
    root: &'static str,
    /// The last matrix that holds several weights and is stored as `[in, out]`, so that none of them
    /// can be read alone: it is kept while they are asked for, one after the other.
    shared: Option<(String, Tensor)>,
}

impl<T: Tensors> Checkpoint<T> {
    /// Looks at `tensors` as `layout` says.
    pub fn new(tensors: T, layout: WeightLayout) -> Self {
        let embed = Weight::new(Module::Embed, 0);
        let roots = layout.roots.iter().copied();
        let root = roots
            .clone()
            .find(|root| layout.name(root, embed).is_ok_and(|name| tensors.contains(&name)));
        let root = root.or(roots.clone().next()).unwrap_or_default();
        Self { tensors, layout, root, shared: None }
    }

    /// Whether a weight is there.
    pub fn contains(&self, weight: Weight) -> bool {
        self.layout.name(self.root, weight).is_ok_and(|name| self.tensors.contains(&name))
    }

    /// Reads whole rows of the tensor that holds `weight`, as `[out, in]`.
    fn rows(&mut self, weight: Weight, dims: &[usize], dtype: DType) -> Result<Tensor, ModelError> {
        let name = self
            .layout
            .name(self.root, weight)
            .map_err(|e| ModelError::file(self.tensors.path(), e))?;
        let StoredRows { n_all, ranges } = self.layout.rows(weight, dims[0]);
        let mut whole = dims.to_vec();
        whole[0] = n_all;
        let mut parts = match self.layout.is_transposed(weight) {
            false => {
                let read = |rows: Range<usize>| self.tensors.read(&name, &whole, rows, dtype);
                ranges.into_iter().map(read).collect::<Result<Vec<_>, _>>()?
            }
            true => {
                let tensor = match self.shared.take() {
                    Some((shared, tensor)) if shared == name && tensor.dtype() == dtype => tensor,
                    _ => self.tensors.read(&name, &[whole[1], whole[0]], 0..whole[1], dtype)?,
                };
                if n_all != dims[0] {
                    self.shared = Some((name, tensor.clone()));
                }
                let rows = |rows: Range<usize>| {
                    tensor.t()?.narrow(0, rows.start, rows.len())?.contiguous()
                };
                let parts = ranges.into_iter().map(rows).collect::<CandleResult<Vec<_>>>();
                parts.map_err(|e| ModelError::file(self.tensors.path(), e))?
            }
        };
        match parts.len() {
            1 => Ok(parts.remove(0)),
            _ => Tensor::cat(&parts, 0).map_err(|e| ModelError::file(self.tensors.path(), e)),
        }
    }
}

impl<T: Tensors> Weights for Checkpoint<T> {
    fn load(&mut self, weight: Weight, dims: &[usize], dtype: DType) -> Result<Tensor, ModelError> {
        let tensor = self.rows(weight, dims, dtype)?;
        let normalised = self.normalised(weight, tensor);
        normalised.map_err(|e| ModelError::file(self.tensors.path(), e))
    }

    fn load_rows(
        &mut self,
        weight: Weight,
        dims: &[usize],
        rows: Range<usize>,
        dtype: DType,
    ) -> Result<Tensor, ModelError> {
        // Embeddings are stored as they are in all families, so only what is wanted is read.
        let is_plain = matches!(weight.module, Module::Embed | Module::Unembed);
        if is_plain && !self.layout.is_transposed(weight) {
            let name = self.layout.name(self.root, weight);
            let name = name.map_err(|e| ModelError::file(self.tensors.path(), e))?;
            return self.tensors.read(&name, dims, rows, dtype);
        }
        let part = self.load(weight, dims, dtype)?.narrow(0, rows.start, rows.len());
        part.map_err(|e| ModelError::file(self.tensors.path(), e))
    }
}

impl<T: Tensors> Checkpoint<T> {
    fn normalised(&self, weight: Weight, tensor: Tensor) -> CandleResult<Tensor> {
        let tensor = match self.layout.order(weight, tensor.dim(0)?) {
            Some(order) => tensor.index_select(&Tensor::new(order, tensor.device())?, 0)?,
            None => tensor,
        };
        match weight.module.is_norm() && !weight.is_bias && self.layout.norm_offset != 0.0 {
            true => tensor + f64::from(self.layout.norm_offset),
            false => Ok(tensor),
        }
    }
}

/// What was read, as `dtype`.
pub(super) fn converted(
    tensor: &Tensor,
    dtype: DType,
    name: &str,
    path: &Path,
) -> Result<Tensor, ModelError> {
    let converted = tensor.to_dtype(dtype).and_then(|tensor| tensor.contiguous());
    converted
        .map_err(|e| ModelError::file(path, format!("the weight `{name}` cannot be read: {e}")))
}

/// Refuses a tensor whose shape is not the one that the configuration implies.
pub(super) fn check_shape(
    name: &str,
    found: &[usize],
    expected: &[usize],
    path: &Path,
) -> Result<(), ModelError> {
    if found == expected {
        return Ok(());
    }
    Err(ModelError::Shape {
        name: name.to_string(),
        found: found.to_vec(),
        expected: expected.to_vec(),
        path: path.to_path_buf(),
    })
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

/// Tensors in memory.
impl Tensors for HashMap<String, Tensor> {
    fn contains(&self, name: &str) -> bool {
        self.contains_key(name)
    }

    fn read(
        &mut self,
        name: &str,
        dims: &[usize],
        rows: Range<usize>,
        dtype: DType,
    ) -> Result<Tensor, ModelError> {
        let path = Tensors::path(self).to_path_buf();
        let tensor = match self.get(name) {
            Some(tensor) => tensor,
            None => return Err(ModelError::Missing { name: name.to_string(), path }),
        };
        check_shape(name, tensor.dims(), dims, &path)?;
        let part = tensor.narrow(0, rows.start, rows.len());
        converted(&part.map_err(|e| ModelError::file(&path, e))?, dtype, name, &path)
    }

    fn path(&self) -> &Path {
        Path::new("memory")
    }
}

/// Weights in memory, each under the name by which it is asked for.
impl Weights for HashMap<Weight, Tensor> {
    fn load(&mut self, weight: Weight, dims: &[usize], dtype: DType) -> Result<Tensor, ModelError> {
        let (name, path) = (format!("{weight:?}"), PathBuf::from("memory"));
        let Some(tensor) = self.get(&weight) else {
            return Err(ModelError::Missing { name, path });
        };
        check_shape(&name, tensor.dims(), dims, &path)?;
        converted(tensor, dtype, &name, &path)
    }
}

#[cfg(test)]
mod tests {
    use super::super::folder::SafetensorsFolder;
    use super::*;
    use crate::model::arch::hugging_face;

    /// Counts how many numbers of each tensor are read.
    struct Counting {
        folder: SafetensorsFolder,
        n_read: std::rc::Rc<std::cell::RefCell<HashMap<String, (usize, usize)>>>,
    }

    impl Tensors for Counting {
        fn contains(&self, name: &str) -> bool {
            self.folder.contains(name)
        }

        fn read(
            &mut self,
            name: &str,
            dims: &[usize],
            rows: Range<usize>,
            dtype: DType,
        ) -> Result<Tensor, ModelError> {
            let n_row = dims[1..].iter().product::<usize>();
            let mut n_read = self.n_read.borrow_mut();
            let entry = n_read.entry(name.to_string()).or_insert((0, n_row * dims[0]));
            entry.0 += n_row * rows.len();
            drop(n_read);
            self.folder.read(name, dims, rows, dtype)
        }

        fn path(&self) -> &Path {
            self.folder.path()
        }
    }

    #[test]
    fn no_number_is_read_twice() {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracle/models");
        let mut n_models = 0;
        for entry in std::fs::read_dir(models).unwrap() {
            let path = entry.unwrap().path();
            if !path.is_dir() {
                continue;
            }
            n_models += 1;
            let text = std::fs::read_to_string(path.join("config.json")).unwrap();
            let (mut config, layout) = hugging_face::parse(&text).unwrap();
            let n_read = std::rc::Rc::default();
            let counting = Counting {
                folder: SafetensorsFolder::open(&path).unwrap(),
                n_read: std::rc::Rc::clone(&n_read),
            };
            let mut checkpoint = Checkpoint::new(counting, layout);
            config.tied_embeddings |= !checkpoint.contains(Weight::new(Module::Unembed, 0));
            for (weight, dims) in config.weights() {
                checkpoint.load(weight, &dims, DType::F32).unwrap();
            }
            for (name, &(n_read, n_all)) in n_read.borrow().iter() {
                // OPT keeps two rows of positions that nobody reads.
                let is_read = n_read == n_all || name.contains("embed_positions");
                assert!(
                    is_read && n_read <= n_all,
                    "{}: {n_read} of {n_all} of {name}",
                    path.display()
                );
            }
        }
        assert!(n_models > 15);
    }
}
