//! Reads a GGUF's metadata: for each architecture, what its files say and how they are laid out.
//!
//! The keys and conventions are those of llama.cpp's converter and loaders. What a file does not
//! say, such as Gemma's alternation of windows, is there a constant of the architecture.

use std::collections::HashMap;

use candle_core::quantized::gguf_file::Value;

use super::config::{Biases, Config, Layer, Residual};
use super::family::{Family, WindowRule};
use super::fields::is_positive;
use super::layout::{HeadLayout, Qkv, WeightLayout};
use super::names::{GGUF, GGUF_STACKED_GATE, GGUF_STACKED_QKV, Names};
use super::rope::{Pairs, Rope, RopeScaling};

type Metadata = HashMap<String, Value>;

/// One row of the table of GGUF's architectures.
#[derive(Debug, Clone, Copy)]
pub struct Arch {
    /// `general.architecture`.
    name: &'static str,
    /// The family whose conventions it has, by Hugging Face's name.
    family: &'static str,
    /// Which layers attend to a window.
    window: WindowRule,
    /// Which coordinates are rotated together as they are stored: the converter permutes a llama's
    /// queries and keys.
    pairs: Pairs,
    /// How queries, keys and values are stored.
    qkv: Qkv,
    /// Whether the gate lies above the other half of the MLP in one matrix.
    gate_stacked: bool,
    /// Tensors that divide the rotary frequencies.
    pub rope_divisors: &'static [&'static str],
    /// The layer count of the one size whose scores are scaled by the width of the residual stream
    /// a head, and not by the width of a head.
    scaled_by_model: Option<usize>,
    /// Whether layers with a window have a rotary embedding of their own, with this base.
    local_rope: Option<f64>,
}

const LLAMA: Arch = Arch {
    name: "llama",
    family: "llama",
    window: WindowRule::Never,
    pairs: Pairs::Neighbours,
    qkv: Qkv::Separate,
    gate_stacked: false,
    rope_divisors: &["rope_freqs.weight"],
    scaled_by_model: None,
    local_rope: None,
};
/// What all but the llamas have in common: coordinates stay where Hugging Face has them.
const OTHER: Arch = Arch { pairs: Pairs::Halves, rope_divisors: &[], ..LLAMA };

const ARCHS: &[Arch] = &[
    LLAMA,
    Arch { name: "qwen2", family: "qwen2", ..OTHER },
    Arch { name: "qwen3", family: "qwen3", ..OTHER },
    Arch { name: "gemma", family: "gemma", ..OTHER },
    Arch {
        name: "gemma2",
        family: "gemma2",
        window: WindowRule::AllButEvery(2),
        scaled_by_model: Some(46),
        ..OTHER
    },
    Arch {
        name: "gemma3",
        family: "gemma3_text",
        window: WindowRule::AllButEvery(6),
        scaled_by_model: Some(62),
        local_rope: Some(10_000.0),
        ..OTHER
    },
    Arch {
        name: "phi3",
        family: "phi3",
        window: WindowRule::All,
        qkv: Qkv::Stacked,
        gate_stacked: true,
        rope_divisors: &["rope_factors_short.weight"],
        ..OTHER
    },
    Arch { name: "olmo2", family: "olmo2", ..OTHER },
    Arch { name: "gpt2", family: "gpt2", qkv: Qkv::Stacked, ..OTHER },
    Arch { name: "gptneox", family: "gpt_neox", qkv: Qkv::Stacked, ..OTHER },
];

/// Settings that no architecture here has; a file with one of them is something else.
const UNEXPECTED: &[&str] = &[
    "attention.scale",
    "attention.clamp_kqv",
    "attention.max_alibi_bias",
    "attention.temperature_scale",
    "attention.temperature_length",
    "embedding_scale",
    "residual_scale",
    "logit_scale",
    "expert_count",
];

/// The row of the file's architecture.
///
/// # Errors
/// One that is not known, or none.
pub fn arch(metadata: &Metadata) -> Result<&'static Arch, String> {
    let name = metadata.get("general.architecture").and_then(|v| v.to_string().ok());
    let name = name.ok_or("`general.architecture` is missing, which names the model family")?;
    ARCHS.iter().find(|arch| arch.name == name).ok_or_else(|| {
        let known: Vec<_> = ARCHS.iter().map(|arch| arch.name).collect();
        let known = known.join(", ");
        format!("the model family is `{name}`: only {known} are supported from GGUF")
    })
}

/// The metadata of one architecture, whose keys begin with its name.
struct Keys<'a> {
    arch: &'static str,
    metadata: &'a Metadata,
}

impl Keys<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.arch)
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.get(&self.key(key))
    }

    fn whole(&self, key: &str) -> Result<Option<u64>, String> {
        let whole = self.get(key).map(|v| match v {
            Value::I32(n) => u64::try_from(*n).map_err(|e| e.to_string()),
            other => other.to_u64().map_err(|e| e.to_string()),
        });
        whole.transpose().map_err(|e| format!("`{}`: {e}", self.key(key)))
    }

    fn size(&self, key: &str) -> Result<Option<usize>, String> {
        match self.whole(key)? {
            Some(n) if (1..=1 << 31).contains(&n) => Ok(Some(n as usize)),
            Some(n) => Err(format!("`{}` is {n}: expected a positive size", self.key(key))),
            None => Ok(None),
        }
    }

    fn need(&self, key: &str) -> Result<usize, String> {
        self.size(key)?.ok_or(format!("`{}` is missing", self.key(key)))
    }

    fn positive(&self, key: &str) -> Result<Option<f64>, String> {
        let number = self.get(key).map(|v| v.to_f32().map(f64::from)).transpose();
        match number.map_err(|e| format!("`{}`: {e}", self.key(key)))? {
            Some(x) if !is_positive(x) => {
                Err(format!("`{}` is {x}: expected a positive number", self.key(key)))
            }
            number => Ok(number),
        }
    }

    fn text(&self, key: &str) -> Result<Option<&str>, String> {
        let text = self.get(key).map(|v| v.to_string().map(String::as_str));
        text.transpose().map_err(|e| format!("`{}`: {e}", self.key(key)))
    }
}

/// The model that the metadata describe; `has` says which tensors there are.
///
/// # Errors
/// A sentence that names the key to blame.
pub fn config(
    arch: &'static Arch,
    metadata: &Metadata,
    has: &dyn Fn(&str) -> bool,
) -> Result<Config, String> {
    let keys = Keys { arch: arch.name, metadata };
    let family = Family::named(arch.family).ok_or("an architecture without a family")?;
    for key in UNEXPECTED {
        let is_nothing = |value: &Value| {
            value.to_u64().is_ok_and(|n| n == 0) || value.to_f32().is_ok_and(|x| x == 0.0)
        };
        match keys.get(key) {
            Some(_) if *key == "expert_count" && keys.whole(key)? > Some(0) => {
                return Err("the model is a mixture of experts, which is not supported".into());
            }
            Some(value) if !is_nothing(value) => {
                return Err(format!("the model has `{}`, which is not supported", keys.key(key)));
            }
            _ => {}
        }
    }
    let (d_model, n_heads) = (keys.need("embedding_length")?, keys.need("attention.head_count")?);
    let d_head = keys.size("attention.key_length")?.unwrap_or(d_model / n_heads);
    if keys.size("attention.value_length")?.is_some_and(|n| n != d_head) {
        return Err("the model's values are wider than its keys, which is not supported".into());
    }
    let tokens = metadata.get("tokenizer.ggml.tokens").and_then(|v| v.to_vec().ok());
    let eps = ["attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"];
    let eps = match keys.positive(eps[0])? {
        Some(eps) => Some(eps),
        None => keys.positive(eps[1])?,
    };
    let mut spec = family.spec;
    spec.biases = Biases {
        qkv: has("blk.0.attn_q.bias") || has("blk.0.attn_qkv.bias"),
        attn_out: has("blk.0.attn_output.bias"),
        mlp: has("blk.0.ffn_up.bias"),
        unembed: has("output.bias"),
    };
    let parallel = keys.get("use_parallel_residual").map(|v| v.to_bool());
    if parallel.transpose().map_err(|e| format!("`use_parallel_residual`: {e}"))? == Some(false) {
        spec.residual = Residual::Serial;
    }
    let cap = |key: &str| keys.positive(key).map(|cap| cap.map(|cap| cap as f32));
    let mut config = Config {
        architecture: family.name,
        n_layers: keys.need("block_count")?,
        d_model,
        n_heads,
        n_kv_heads: keys.size("attention.head_count_kv")?.unwrap_or(n_heads),
        d_head,
        d_mlp: keys.need("feed_forward_length")?,
        d_vocab: match keys.size("vocab_size")? {
            Some(n) => n,
            None => tokens.map(Vec::len).ok_or("`tokenizer.ggml.tokens` is missing")?,
        },
        n_context: keys.need("context_length")?,
        spec,
        norm_eps: eps.ok_or("the key of the norms' epsilon is missing")? as f32,
        embed_scale: if family.scales_embedding { (d_model as f32).sqrt() } else { 1.0 },
        attn_softcap: cap("attn_logit_softcapping")?,
        final_softcap: cap("final_logit_softcapping")?,
        tied_embeddings: !has("output.weight"),
        ..Config::LLAMA
    };
    if !spec.learned_positions {
        let rope = rope(family, &keys, &mut config)?;
        config.ropes.push(rope);
    }
    if let Some(theta) = arch.local_rope {
        let theta = keys.positive("rope.freq_base_swa")?.unwrap_or(theta);
        config.ropes.push(Rope::plain(theta, d_head));
    }
    config.layers = layers(arch, &keys, &config)?;
    config.checked()
}

/// Each layer's attention.
fn layers(arch: &Arch, keys: &Keys, config: &Config) -> Result<Vec<Layer>, String> {
    // A window of 0 is how Phi-4 says that it has none.
    let window = keys.whole("attention.sliding_window")?.filter(|n| *n > 0).map(|n| n as usize);
    let rule = match (arch.window, keys.size("attention.sliding_window_pattern")?) {
        (WindowRule::AllButEvery(_), Some(n)) => WindowRule::AllButEvery(n),
        (rule, _) => rule,
    };
    let slides = |layer: usize| match rule {
        WindowRule::AllButEvery(n) => !(layer + 1).is_multiple_of(n),
        WindowRule::All => window.is_some(),
        WindowRule::Never | WindowRule::Late => false,
    };
    if matches!(rule, WindowRule::AllButEvery(_)) && window.is_none() {
        return Err(format!("`{}` is missing", keys.key("attention.sliding_window")));
    }
    if rule == WindowRule::Never && window.is_some() {
        return Err(format!(
            "`{}` is set, which is not supported for this architecture: use the model's Hugging \
             Face folder",
            keys.key("attention.sliding_window")
        ));
    }
    let scalar = match arch.scaled_by_model == Some(config.n_layers) {
        true => config.d_model / config.n_heads,
        false => config.d_head,
    };
    let layer = |layer: usize| {
        let window = window.filter(|_| slides(layer));
        let local = arch.local_rope.is_some() && window.is_some();
        let rope = (!config.ropes.is_empty()).then_some(usize::from(local));
        Layer { window, rope, scale: 1.0 / (scalar as f32).sqrt() }
    };
    Ok((0..config.n_layers).map(layer).collect())
}

fn rope(family: &Family, keys: &Keys, config: &mut Config) -> Result<Rope, String> {
    let factor = || {
        let key = keys.key("rope.scaling.factor");
        keys.positive("rope.scaling.factor")?.ok_or(format!("`{key}` is missing"))
    };
    let scaling = match keys.text("rope.scaling.type")? {
        None | Some("none") => RopeScaling::None,
        Some("linear") => RopeScaling::Linear(factor()?),
        Some("longrope") if family.name == "phi3" => RopeScaling::None,
        Some(other) => {
            return Err(format!(
                "the rotary scaling is `{other}`: only none and linear, and longrope for phi3, are \
                 supported"
            ));
        }
    };
    let n_rotated = keys.size("rope.dimension_count")?.unwrap_or(config.d_head);
    if n_rotated != config.d_head && !family.rotates_partially {
        return Err("only a part of each head is rotated, which is not supported".into());
    }
    // Beyond the original context, Phi-3's rotary embedding is another one.
    if let (Some(original), "phi3") =
        (keys.size("rope.scaling.original_context_length")?, family.name)
    {
        config.n_context = config.n_context.min(original);
    }
    Ok(Rope {
        theta: keys.positive("rope.freq_base")?.unwrap_or(10_000.0),
        n_rotated,
        scaling,
        magnitude: keys.positive("rope.scaling.attn_factor")?.unwrap_or(1.0) as f32,
    })
}

/// How the weights of `config` are laid out.
pub fn layout(arch: &Arch, config: &Config) -> WeightLayout {
    let mut names: Vec<Names> = Vec::new();
    if arch.qkv != Qkv::Separate {
        names.push(GGUF_STACKED_QKV);
    }
    if arch.gate_stacked {
        names.push(GGUF_STACKED_GATE);
    }
    names.push(GGUF);
    WeightLayout {
        roots: &[""],
        names,
        qkv: arch.qkv,
        gate_stacked: arch.gate_stacked,
        // The converter turns matrices round and adds the offset to norms.
        transposed: false,
        norm_offset: 0.0,
        position_offset: 0,
        heads: HeadLayout::new(config, arch.pairs),
    }
}
