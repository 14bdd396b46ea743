//! A model folder in Hugging Face's layout: `config.json`, `tokenizer.json`, and safetensors,
//! in one file or sharded.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytemuck::{Pod, Zeroable, pod_collect_to_vec};
use candle_core::{DType, Device, Tensor, WithDType};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::Metadata;

use super::error::ModelError;
use super::file_state::FileState;
use super::weights::{Tensors, check_shape, converted, prevailing_dtype};

/// The safetensors files of a folder, opened and their headers checked.
pub struct SafetensorsFolder {
    files: Vec<TensorFile>,
    /// Which of the files holds a tensor.
    file_of: HashMap<String, usize>,
    path: PathBuf,
}

/// One safetensors file.
struct TensorFile {
    path: PathBuf,
    file: File,
    metadata: Metadata,
    /// Where the header ends and the numbers begin.
    data_start: u64,
    /// The file as it was when it was opened.
    state: FileState,
}

/// So many numbers each core reads and converts at a time: what is in memory beside the weight
/// itself.
const CHUNK: usize = 1 << 18;

/// The file that names the shards.
pub const INDEX: &str = "model.safetensors.index.json";

/// What to do about a checkpoint without safetensors.
pub const PICKLED: &str = "found only pickled weights (`pytorch_model.bin`), which are not read: \
    convert them to safetensors, e.g. by `AutoModelForCausalLM.from_pretrained(folder)\
    .save_pretrained(folder)` with transformers";

/// A header longer than this is no header.
const MAX_HEADER_BYTES: u64 = 100 << 20;

impl SafetensorsFolder {
    /// Opens the weights in `path`: `model.safetensors`, or the shards that
    /// `model.safetensors.index.json` names.
    ///
    /// # Errors
    /// Files that are missing, truncated or damaged.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let index_path = path.join(INDEX);
        let single = path.join("model.safetensors");
        let (paths, indexed) = if single.is_file() {
            (vec![single], None)
        } else if index_path.is_file() {
            let indexed = read_index(&index_path)?;
            let names: BTreeSet<_> = indexed.values().collect();
            (names.into_iter().map(|name| path.join(name)).collect(), Some(indexed))
        } else {
            let pickles = ["pytorch_model.bin", "pytorch_model.bin.index.json"];
            let pickled = pickles.iter().any(|name| path.join(name).is_file());
            return Err(ModelError::file(
                path,
                if pickled {
                    PICKLED
                } else {
                    "found neither `model.safetensors` nor `model.safetensors.index.json`"
                },
            ));
        };
        let files = paths.into_iter().map(TensorFile::open).collect::<Result<Vec<_>, _>>()?;
        let mut file_of = HashMap::new();
        for (i, file) in files.iter().enumerate() {
            file_of.extend(file.metadata.tensors().into_keys().map(|name| (name, i)));
        }
        if let Some(name) =
            indexed.iter().flatten().map(|(name, _)| name).find(|name| !file_of.contains_key(*name))
        {
            return Err(ModelError::file(
                &index_path,
                format!("the index names a weight `{name}` that its shard does not hold"),
            ));
        }
        Ok(Self { files, file_of, path: path.to_path_buf() })
    }

    /// The files, in order, as they were when they were opened.
    pub fn states(&self) -> Vec<FileState> {
        self.files.iter().map(|file| file.state.clone()).collect()
    }

    /// How most of the numbers are stored, e.g. `BF16`.
    pub fn dtype(&self) -> String {
        let tensors = self.files.iter().flat_map(|file| file.metadata.tensors().into_values());
        prevailing_dtype(
            tensors.map(|info| (format!("{:?}", info.dtype), info.shape.iter().product())),
        )
    }
}

impl Tensors for SafetensorsFolder {
    fn contains(&self, name: &str) -> bool {
        self.file_of.contains_key(name)
    }

    fn read(
        &mut self,
        name: &str,
        dims: &[usize],
        rows: Range<usize>,
        dtype: DType,
    ) -> Result<Tensor, ModelError> {
        match self.file_of.get(name) {
            Some(&file) => self.files[file].read(name, dims, rows, dtype),
            None => Err(ModelError::Missing { name: name.to_string(), path: self.path.clone() }),
        }
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl TensorFile {
    fn open(path: PathBuf) -> Result<Self, ModelError> {
        let error = |message: String| ModelError::file(&path, message);
        let io = |e: std::io::Error| error(format!("cannot read the weights: {e}"));
        let mut file = File::open(&path).map_err(io)?;
        let state = FileState::of_file(&path, &file).map_err(io)?;
        let n_bytes = state.n_bytes;
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(|_| error("the file is empty".into()))?;
        let header_bytes = u64::from_le_bytes(length);
        let data_start = header_bytes.saturating_add(8);
        if header_bytes > MAX_HEADER_BYTES || data_start > n_bytes {
            return Err(error("this is no safetensors file, or only the beginning of one".into()));
        }
        let mut header = vec![0; header_bytes as usize];
        file.read_exact(&mut header).map_err(io)?;
        let metadata: Metadata = serde_json::from_slice(&header)
            .map_err(|e| error(format!("the safetensors header is damaged: {e}")))?;
        let expected = data_start + metadata.data_len() as u64;
        if n_bytes != expected {
            return Err(error(format!(
                "the file has {n_bytes} bytes and its header promises {expected}: fetch it again"
            )));
        }
        Ok(Self { metadata, file, data_start, state, path })
    }

    /// Reads the bytes of these rows alone.
    fn read(
        &self,
        name: &str,
        dims: &[usize],
        rows: Range<usize>,
        dtype: DType,
    ) -> Result<Tensor, ModelError> {
        let missing = || ModelError::Missing { name: name.to_string(), path: self.path.clone() };
        let info = self.metadata.info(name).ok_or_else(missing)?;
        check_shape(name, &info.shape, dims, &self.path)?;
        let (stored, n_row) = (info.dtype, dims[1..].iter().product::<usize>());
        let place = Place {
            name,
            begin: info.data_offsets.0 + rows.start * n_row * stored.bitsize() / 8,
            n: rows.len() * n_row,
            n_bytes: stored.bitsize() / 8,
        };
        let mut shape = dims.to_vec();
        shape[0] = rows.len();
        // Halves that are wanted as they are stored are copied; all else comes by way of f32.
        match (stored, dtype) {
            (Dtype::F16, DType::F16) => return self.numbers::<f16>(&place, None, shape),
            (Dtype::BF16, DType::BF16) => return self.numbers::<bf16>(&place, None, shape),
            _ => {}
        }
        let widen: Option<Convert<f32>> = match stored {
            Dtype::F32 => None,
            Dtype::F16 => Some(|bytes, numbers| {
                let halves: Vec<f16> = pod_collect_to_vec(bytes);
                halves.convert_to_f32_slice(numbers);
            }),
            Dtype::BF16 => Some(|bytes, numbers| {
                let halves: Vec<bf16> = pod_collect_to_vec(bytes);
                halves.convert_to_f32_slice(numbers);
            }),
            other => {
                return Err(ModelError::file(
                    &self.path,
                    format!(
                        "the weight `{name}` is stored as {other:?}: only F32, F16 and BF16 are \
                         read"
                    ),
                ));
            }
        };
        let numbers = self.numbers(&place, widen, shape)?;
        converted(&numbers, dtype, name, &self.path)
    }

    /// Reads numbers, which `convert` makes of their bytes unless they are stored as they are wanted.
    fn numbers<T: WithDType + Pod>(
        &self,
        place: &Place,
        convert: Option<Convert<T>>,
        shape: Vec<usize>,
    ) -> Result<Tensor, ModelError> {
        let Place { name, begin, n, n_bytes } = *place;
        let error = |message: String| ModelError::file(&self.path, message);
        let failed = |e: std::io::Error| {
            error(format!("the weight `{name}` cannot be read, was the file cut short? ({e})"))
        };
        let start = self.data_start + begin as u64;
        let mut numbers = vec![<T as Zeroable>::zeroed(); n];
        let read = |(i, part): (usize, &mut [T])| {
            let at = start + (i * CHUNK * n_bytes) as u64;
            match convert {
                None => self.read_at(bytemuck::cast_slice_mut(part), at),
                Some(convert) => {
                    let mut bytes = vec![0; n_bytes * part.len()];
                    self.read_at(&mut bytes, at)?;
                    convert(&bytes, part);
                    Ok(())
                }
            }
        };
        // On all cores: one alone reads what the system keeps of a file slower than any device takes it.
        numbers.par_chunks_mut(CHUNK).enumerate().try_for_each(read).map_err(failed)?;
        // A file that is written to while a sweep reads it would give numbers of two models.
        if !self.state.holds_for(&self.file) {
            return Err(error(format!(
                "the file was changed while `{name}` was read from it: run again"
            )));
        }
        Tensor::from_vec(numbers, shape, &Device::Cpu)
            .map_err(|e| error(format!("the weight `{name}` cannot be read: {e}")))
    }

    /// Fills `bytes` from the byte `at` of the file on, whoever else reads it.
    fn read_at(&self, bytes: &mut [u8], at: u64) -> std::io::Result<()> {
        #[cfg(unix)]
        return std::os::unix::fs::FileExt::read_exact_at(&self.file, bytes, at);
        #[cfg(not(unix))]
        {
            use std::io::{Seek, SeekFrom};
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(at))?;
            file.read_exact(bytes)
        }
    }
}

/// Makes numbers of the bytes that they are stored in.
type Convert<T> = fn(&[u8], &mut [T]);

/// Where numbers are in a file.
struct Place<'a> {
    /// The tensor's name, for errors.
    name: &'a str,
    /// The first byte, counted from the end of the header.
    begin: usize,
    /// How many numbers.
    n: usize,
    /// How many bytes each takes.
    n_bytes: usize,
}

/// The shards that an index names.
///
/// # Errors
/// An index that is damaged, or that names something else than files beside it.
pub fn shards(index: &Path) -> Result<BTreeSet<String>, ModelError> {
    Ok(read_index(index)?.into_values().collect())
}

/// Which shard holds each tensor.
fn read_index(path: &Path) -> Result<HashMap<String, String>, ModelError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: HashMap<String, String>,
    }
    let text = std::fs::read_to_string(path)
        .map_err(|e| ModelError::file(path, format!("cannot read the index of shards: {e}")))?;
    let index: Index = serde_json::from_str(&text)
        .map_err(|e| ModelError::file(path, format!("the index of shards is damaged: {e}")))?;
    // A shard is a file beside the index, never a way out of the folder.
    match index.weight_map.values().find(|name| name.contains(['/', '\\']) || name.is_empty()) {
        Some(name) => Err(ModelError::file(
            path,
            format!("the index names the shard `{name}`: expected a file name"),
        )),
        None => Ok(index.weight_map),
    }
}
