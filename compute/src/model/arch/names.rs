//! The parts of a model that have weights, and what they are called in GGUF files. What they are
//! called in Hugging Face checkpoints depends on the family ([`super::family`]).

/// A linear map, a norm or a table of vectors. Shapes are those of the weight; a bias has the
/// first of its dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Module {
    /// `[d_vocab, d_model]`
    Embed,
    /// `[n_context, d_model]`
    Positions,
    /// `[d_model]`
    FinalNorm,
    /// `[d_vocab, d_model]`
    Unembed,
    /// `[d_model]`
    AttnNorm,
    /// `[n_heads * d_head, d_model]`
    Query,
    /// `[n_kv_heads * d_head, d_model]`
    Key,
    /// `[n_kv_heads * d_head, d_model]`
    Value,
    /// `[d_head]` or `[n_heads * d_head]`
    QueryNorm,
    /// `[d_head]` or `[n_kv_heads * d_head]`
    KeyNorm,
    /// `[d_model, n_heads * d_head]`
    AttnOut,
    /// `[d_model]`
    AttnPostNorm,
    /// `[d_model]`
    MlpNorm,
    /// `[d_mlp, d_model]`
    Gate,
    /// `[d_mlp, d_model]`
    Up,
    /// `[d_model, d_mlp]`
    Down,
    /// `[d_model]`
    MlpPostNorm,
}

impl Module {
    /// Whether it is a norm.
    pub fn is_norm(self) -> bool {
        matches!(
            self,
            Self::FinalNorm
                | Self::AttnNorm
                | Self::QueryNorm
                | Self::KeyNorm
                | Self::AttnPostNorm
                | Self::MlpNorm
                | Self::MlpPostNorm
        )
    }

    /// Whether its outputs are the coordinates of heads that may be rotated.
    pub fn is_rotated(self) -> bool {
        matches!(self, Self::Query | Self::Key | Self::QueryNorm | Self::KeyNorm)
    }
}

/// One tensor of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Weight {
    /// Whose it is.
    pub module: Module,
    /// The decoder block, from 0; of no meaning for what is outside the blocks.
    pub layer: usize,
    /// Whether it is the module's bias.
    pub is_bias: bool,
}

impl Weight {
    /// A module's weight.
    pub fn new(module: Module, layer: usize) -> Self {
        Self { module, layer, is_bias: false }
    }

    /// A module's bias.
    pub fn bias(module: Module, layer: usize) -> Self {
        Self { module, layer, is_bias: true }
    }

    /// The name in GGUF files where they keep the weight in a tensor of its own.
    pub fn gguf(self) -> Option<String> {
        tensor_name(&[GGUF], "", self)
    }

    /// The weight's name, given its module's `pattern`, in which `{}` stands for the layer.
    pub fn named(self, pattern: &str) -> String {
        let part = if self.is_bias { "bias" } else { "weight" };
        format!("{}.{part}", pattern.replace("{}", &self.layer.to_string()))
    }
}

/// A module's name, with `{}` for the layer.
pub type Names = &'static [(Module, &'static str)];

/// The name of a weight below `root`, by the first of the tables that has its module. A leading `/`
/// keeps the root away.
pub fn tensor_name(tables: &[Names], root: &str, weight: Weight) -> Option<String> {
    let known = tables.iter().copied().flatten();
    let (_, pattern) = known.into_iter().find(|(module, _)| *module == weight.module)?;
    Some(match pattern.strip_prefix('/') {
        Some(absolute) => weight.named(absolute),
        None => format!("{root}{}", weight.named(pattern)),
    })
}

/// The names in GGUF files, the same for all architectures.
pub const GGUF: Names = &[
    (Module::Embed, "token_embd"),
    (Module::Positions, "position_embd"),
    (Module::FinalNorm, "output_norm"),
    (Module::Unembed, "output"),
    (Module::AttnNorm, "blk.{}.attn_norm"),
    (Module::Query, "blk.{}.attn_q"),
    (Module::Key, "blk.{}.attn_k"),
    (Module::Value, "blk.{}.attn_v"),
    (Module::QueryNorm, "blk.{}.attn_q_norm"),
    (Module::KeyNorm, "blk.{}.attn_k_norm"),
    (Module::AttnOut, "blk.{}.attn_output"),
    (Module::AttnPostNorm, "blk.{}.post_attention_norm"),
    (Module::MlpNorm, "blk.{}.ffn_norm"),
    (Module::Gate, "blk.{}.ffn_gate"),
    (Module::Up, "blk.{}.ffn_up"),
    (Module::Down, "blk.{}.ffn_down"),
    (Module::MlpPostNorm, "blk.{}.post_ffw_norm"),
];

/// The names in GGUF files of the maps that some architectures keep as one.
pub const GGUF_STACKED_QKV: Names = &[
    (Module::Query, "blk.{}.attn_qkv"),
    (Module::Key, "blk.{}.attn_qkv"),
    (Module::Value, "blk.{}.attn_qkv"),
];

/// As [`GGUF_STACKED_QKV`], for a gate above the other half of the MLP.
pub const GGUF_STACKED_GATE: Names = &[(Module::Gate, "blk.{}.ffn_up")];
