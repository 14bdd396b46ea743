//! A model in one GGUF file: configuration and weights.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::ops::Range;
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::{Content, TensorInfo, Value};
use candle_core::{DType, Device, Tensor};

use super::error::ModelError;
use super::file_state::FileState;
use super::weights::{Tensors, check_shape, converted, prevailing_dtype};
use crate::model::arch::{Config, RopeScaling, WeightLayout, gguf_config};

/// The metadata of a GGUF file, which need not hold any weights.
///
/// # Errors
/// A file that is missing or damaged.
pub fn metadata(path: &Path) -> Result<HashMap<String, Value>, ModelError> {
    Ok(read(path)?.2.metadata)
}

fn read(path: &Path) -> Result<(FileState, BufReader<File>, Content), ModelError> {
    let error = |message: String| ModelError::file(path, message);
    let io = |e: std::io::Error| error(format!("cannot read the model: {e}"));
    let file = File::open(path).map_err(io)?;
    let state = FileState::of_file(path, &file).map_err(io)?;
    let mut file = BufReader::new(file);
    let content = Content::read(&mut file)
        .map_err(|e| error(format!("this is no GGUF file, or a damaged one: {e}")))?;
    Ok((state, file, content))
}

/// An opened GGUF file.
pub struct Gguf {
    path: PathBuf,
    file: BufReader<File>,
    /// The file as it was when it was opened.
    state: FileState,
    content: Content,
}

impl Gguf {
    /// Opens the file and reads its metadata: the model, and how its weights are laid out.
    ///
    /// # Errors
    /// A file that is missing, truncated, damaged, or of a family that is not supported.
    pub fn open(path: &Path) -> Result<(Self, Config, WeightLayout), ModelError> {
        let error = |message: String| ModelError::file(path, message);
        let (state, file, content) = read(path)?;
        let n_bytes = state.n_bytes;
        for (name, info) in &content.tensor_infos {
            let (block, n) = (info.ggml_dtype.block_size(), info.shape.elem_count());
            let bytes = (n / block) as u64 * info.ggml_dtype.type_size() as u64;
            let end = content.tensor_data_offset.saturating_add(info.offset).saturating_add(bytes);
            if end > n_bytes {
                return Err(error(format!(
                    "the file has {n_bytes} bytes and its weight `{name}` ends at {end}: the file \
                     is truncated, fetch it again"
                )));
            }
        }
        let mut gguf = Self { path: path.to_path_buf(), file, state, content };
        let arch = gguf_config::arch(gguf.metadata()).map_err(error)?;
        let has = |name: &str| gguf.contains(name);
        let mut config = gguf_config::config(arch, gguf.metadata(), &has).map_err(error)?;
        for &name in arch.rope_divisors {
            if gguf.contains(name) {
                let n = config.ropes.first().map_or(0, |rope| rope.n_rotated / 2);
                let divisors = gguf.read(name, &[n], 0..n, DType::F32)?.to_vec1();
                let divisors = divisors.map_err(|e| error(e.to_string()))?;
                config.ropes[0].scaling = RopeScaling::Divisors(divisors);
                config = config.checked().map_err(error)?;
            }
        }
        let layout = gguf_config::layout(arch, &config);
        Ok((gguf, config, layout))
    }

    /// The file as it was when it was opened.
    pub fn state(&self) -> FileState {
        self.state.clone()
    }

    /// The file's metadata, by key.
    pub fn metadata(&self) -> &HashMap<String, Value> {
        &self.content.metadata
    }

    /// How most of the numbers are stored, e.g. `Q4_1`.
    pub fn dtype(&self) -> String {
        let tensors = self.content.tensor_infos.values();
        let dtype = prevailing_dtype(
            tensors.map(|info| (format!("{:?}", info.ggml_dtype), info.shape.elem_count())),
        );
        // candle's names differ from those that people know by the underscore alone.
        match dtype {
            name if name.starts_with('Q') && name.len() == 3 => {
                format!("{}_{}", &name[..2], &name[2..])
            }
            name => name,
        }
    }
}

impl Tensors for Gguf {
    fn contains(&self, name: &str) -> bool {
        self.content.tensor_infos.contains_key(name)
    }

    fn read(
        &mut self,
        name: &str,
        dims: &[usize],
        rows: Range<usize>,
        dtype: DType,
    ) -> Result<Tensor, ModelError> {
        let Some(info) = self.content.tensor_infos.get(name) else {
            return Err(ModelError::Missing { name: name.to_string(), path: self.path.clone() });
        };
        check_shape(name, info.shape.dims(), dims, &self.path)?;
        // Rows are whole blocks, one after another; only those asked for are read.
        let (block, n) = (info.ggml_dtype.block_size(), dims[1..].iter().product::<usize>());
        let (whole, n_row_bytes) = match n.is_multiple_of(block) {
            true => (false, n / block * info.ggml_dtype.type_size()),
            false => (true, 0),
        };
        let mut shape = dims.to_vec();
        shape[0] = if whole { dims[0] } else { rows.len() };
        let part = TensorInfo {
            ggml_dtype: info.ggml_dtype,
            shape: shape.into(),
            offset: info.offset + if whole { 0 } else { (rows.start * n_row_bytes) as u64 },
        };
        let tensor = part
            .read(&mut self.file, self.content.tensor_data_offset, &Device::Cpu)
            .and_then(|tensor| tensor.dequantize(&Device::Cpu))
            .and_then(|t| if whole { t.narrow(0, rows.start, rows.len()) } else { Ok(t) });
        let tensor = tensor.map_err(|e| {
            ModelError::file(&self.path, format!("the weight `{name}` cannot be read: {e}"))
        })?;
        // A file that is written to while a sweep reads it would give numbers of two models.
        if !self.state.holds_for(self.file.get_ref()) {
            let problem =
                format!("the file was changed while `{name}` was read from it: run again");
            return Err(ModelError::file(&self.path, problem));
        }
        converted(&tensor, dtype, name, &self.path)
    }

    fn path(&self) -> &Path {
        &self.path
    }
}
