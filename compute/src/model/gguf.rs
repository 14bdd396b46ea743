//! A model in one GGUF file: configuration, weights and tokenizer.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::{Device, Tensor};

use super::config::{ARCHITECTURE, Config, Rope, RopeScaling};
use super::error::ModelError;
use super::names::Weight;
use super::weights::{Weights, prevailing_dtype, widened};

/// An opened GGUF file.
pub struct Gguf {
    path: PathBuf,
    file: BufReader<File>,
    content: Content,
    /// Needed to undo the permutation of queries and keys: their numbers of heads.
    n_heads: usize,
    n_kv_heads: usize,
}

impl Gguf {
    /// Opens the file and reads its metadata; refuses a family other than llama.
    ///
    /// # Errors
    /// A file that is missing, truncated, damaged, or of another family.
    pub fn open(path: &Path) -> Result<(Self, Config), ModelError> {
        let error = |message: String| ModelError::file(path, message);
        let file = File::open(path).map_err(|e| error(format!("cannot read the model: {e}")))?;
        let n_bytes = file.metadata().map_err(|e| error(e.to_string()))?.len();
        let mut file = BufReader::new(file);
        let content = Content::read(&mut file)
            .map_err(|e| error(format!("this is no GGUF file, or a damaged one: {e}")))?;
        let mut config = config(&content.metadata).map_err(error)?;
        config.tied_embeddings = !content.tensor_infos.contains_key(&Weight::Unembed.gguf());
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
        let (n_heads, n_kv_heads) = (config.n_heads, config.n_kv_heads);
        let mut gguf = Self { path: path.to_path_buf(), file, content, n_heads, n_kv_heads };
        if gguf.content.tensor_infos.contains_key(ROPE_DIVISORS) {
            let divisors = gguf.tensor(ROPE_DIVISORS, &[config.d_head / 2])?;
            let divisors = divisors.to_vec1().map_err(|e| error(e.to_string()))?;
            config.rope.scaling = RopeScaling::Divisors(divisors);
        }
        Ok((gguf, config))
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

    fn tensor(&mut self, name: &str, dims: &[usize]) -> Result<Tensor, ModelError> {
        if !self.content.tensor_infos.contains_key(name) {
            return Err(ModelError::Missing { name: name.to_string(), path: self.path.clone() });
        }
        let tensor = self
            .content
            .tensor(&mut self.file, name, &Device::Cpu)
            .and_then(|tensor| tensor.dequantize(&Device::Cpu));
        let tensor = tensor.map_err(|e| {
            ModelError::file(&self.path, format!("the weight `{name}` cannot be read: {e}"))
        })?;
        widened(&tensor, name, dims, &self.path)
    }
}

const ROPE_DIVISORS: &str = "rope_freqs.weight";

impl Weights for Gguf {
    fn load(&mut self, weight: Weight, dims: &[usize]) -> Result<Tensor, ModelError> {
        let name = weight.gguf();
        let tensor = self.tensor(&name, dims)?;
        let n_heads = match weight {
            Weight::Query(_) => self.n_heads,
            Weight::Key(_) => self.n_kv_heads,
            _ => return Ok(tensor),
        };
        unpermuted(&tensor, n_heads).map_err(|e| ModelError::file(&self.path, e))
    }
}

/// GGUF stores the rows of a llama's queries and keys for rotary embedding of neighbouring
/// coordinates `(0, 1), (2, 3), ...`; Hugging Face's order rotates the two halves of a head. This
/// undoes llama.cpp's `LlamaModel.permute`.
fn unpermuted(tensor: &Tensor, n_heads: usize) -> candle_core::Result<Tensor> {
    let (d_out, d_in) = tensor.dims2()?;
    tensor
        .reshape((n_heads, d_out / n_heads / 2, 2, d_in))?
        .transpose(1, 2)?
        .contiguous()?
        .reshape((d_out, d_in))
}

fn config(metadata: &HashMap<String, Value>) -> Result<Config, String> {
    match metadata.get("general.architecture").and_then(|v| v.to_string().ok()) {
        Some(found) if found == ARCHITECTURE => {}
        Some(found) => {
            return Err(format!(
                "the model family is `{found}`: only `{ARCHITECTURE}` is supported"
            ));
        }
        None => {
            return Err("`general.architecture` is missing, which names the model family".into());
        }
    }
    let get = |key: &str| metadata.get(&format!("{ARCHITECTURE}.{key}"));
    let size = |key: &str| {
        let size = get(key).map(|v| v.to_u64().map_err(|e| format!("`{ARCHITECTURE}.{key}`: {e}")));
        match size.transpose()? {
            Some(n) if (1..=1 << 31).contains(&n) => Ok(Some(n as usize)),
            Some(n) => Err(format!("`{ARCHITECTURE}.{key}` is {n}: expected a positive size")),
            None => Ok(None),
        }
    };
    let need = |key: &str| size(key)?.ok_or(format!("`{ARCHITECTURE}.{key}` is missing"));
    let number = |key: &str| get(key).and_then(|v| v.to_f32().ok()).map(f64::from);
    if get("expert_count").and_then(|v| v.to_u64().ok()).is_some_and(|n| n > 0) {
        return Err("the model is a mixture of experts, which is not supported".into());
    }
    let scaling =
        match get("rope.scaling.type").and_then(|v| v.to_string().ok()).map(String::as_str) {
            None | Some("none") => RopeScaling::None,
            Some("linear") => RopeScaling::Linear(
                number("rope.scaling.factor").ok_or("`llama.rope.scaling.factor` is missing")?,
            ),
            Some(other) => {
                return Err(format!(
                    "the rotary scaling is `{other}`: only none and linear are supported"
                ));
            }
        };
    let (d_model, n_heads) = (need("embedding_length")?, need("attention.head_count")?);
    let d_head = size("attention.key_length")?.unwrap_or(d_model / n_heads);
    if size("rope.dimension_count")?.is_some_and(|n| n != d_head) {
        return Err("only a part of each head is rotated, which is not supported".into());
    }
    let tokens = metadata.get("tokenizer.ggml.tokens").and_then(|v| v.to_vec().ok());
    Config {
        n_layers: need("block_count")?,
        d_model,
        n_heads,
        n_kv_heads: size("attention.head_count_kv")?.unwrap_or(n_heads),
        d_head,
        d_mlp: need("feed_forward_length")?,
        d_vocab: match size("vocab_size")? {
            Some(n) => n,
            None => tokens.map(Vec::len).ok_or("`tokenizer.ggml.tokens` is missing")?,
        },
        n_context: need("context_length")?,
        norm_eps: number("attention.layer_norm_rms_epsilon")
            .ok_or("`llama.attention.layer_norm_rms_epsilon` is missing")? as f32,
        rope: Rope { theta: number("rope.freq_base").unwrap_or(10_000.0), scaling },
        tied_embeddings: false,
    }
    .checked()
}
