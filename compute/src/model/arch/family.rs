//! The model families: for each, its conventions, the settings that it reads, and where its
//! checkpoints keep the weights. CONTRIBUTING.md says how to add one.
//!
//! All of this was checked against the configuration and modelling files of Hugging Face
//! transformers 5.23, whose `attribute_map`s are the aliases here, and whose defaults hold where a
//! `config.json` leaves a key out.

use super::config::{Activation, Biases, NormKind, Norms, QkNorm, Residual, Spec};
use super::fields::Alias;
use super::layout::Qkv;
use super::names::{Module, Names, Weight, tensor_name};
use super::rope::Pairs;
use super::specials::{Special, gemma2, gemma3, gpt_neox, gpt2, nothing, opt};

/// One row of the table of families.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    /// Hugging Face's `model_type`.
    pub name: &'static str,
    /// Its conventions, where its configuration does not say otherwise.
    pub spec: Spec,
    /// Its names of settings, beside the common ones.
    pub(super) aliases: &'static [Alias],
    /// The settings that transformers assumes where a configuration is silent, a JSON object.
    pub(super) defaults: &'static str,
    /// Settings that are computed in one way only: their names and a JSON list of their values.
    pub(super) expects: &'static [(&'static str, &'static str)],
    /// Which layers attend to a window.
    pub(super) window: WindowRule,
    /// Whether `attention_bias` decides about the biases of all attention's maps.
    pub(super) reads_attention_bias: bool,
    /// Whether `mlp_bias` decides about the MLP's biases.
    pub(super) reads_mlp_bias: bool,
    /// Whether the embedding is multiplied by the root of `d_model`.
    pub(super) scales_embedding: bool,
    /// Whether only a part of each head may be rotated.
    pub(super) rotates_partially: bool,
    /// What else its configuration says.
    pub(super) special: Special,
    /// What tensors' names begin with.
    pub(super) roots: &'static [&'static str],
    /// The tensors' names, the earlier tables before the later.
    pub(super) names: &'static [Names],
    pub(super) qkv: Qkv,
    pub(super) gate_stacked: bool,
    pub(super) transposed: bool,
    pub(super) norm_offset: f32,
    pub(super) position_offset: usize,
    pub(super) pairs: Pairs,
}

/// Which layers attend to a window of `sliding_window` positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowRule {
    /// None.
    Never,
    /// All, if `sliding_window` is set.
    All,
    /// From layer `max_window_layers` on, if `use_sliding_window` is true.
    Late,
    /// All but every n-th; `sliding_window_pattern` may give another n.
    AllButEvery(usize),
}

/// The settings that every family refuses unless they are like this: they change the computation
/// wherever they are honoured.
pub(super) const ALWAYS_EXPECTED: &[(&str, &str)] = &[
    ("quantization_config", "[]"),
    ("num_experts", "[0, 1]"),
    ("num_local_experts", "[0, 1]"),
    ("is_encoder_decoder", "[false]"),
    ("add_cross_attention", "[false]"),
    ("use_bidirectional_attention", "[false]"),
];

const LLAMA_NAMES: Names = &[
    (Module::Embed, "embed_tokens"),
    (Module::FinalNorm, "norm"),
    (Module::Unembed, "/lm_head"),
    (Module::AttnNorm, "layers.{}.input_layernorm"),
    (Module::Query, "layers.{}.self_attn.q_proj"),
    (Module::Key, "layers.{}.self_attn.k_proj"),
    (Module::Value, "layers.{}.self_attn.v_proj"),
    (Module::QueryNorm, "layers.{}.self_attn.q_norm"),
    (Module::KeyNorm, "layers.{}.self_attn.k_norm"),
    (Module::AttnOut, "layers.{}.self_attn.o_proj"),
    (Module::MlpNorm, "layers.{}.post_attention_layernorm"),
    (Module::Gate, "layers.{}.mlp.gate_proj"),
    (Module::Up, "layers.{}.mlp.up_proj"),
    (Module::Down, "layers.{}.mlp.down_proj"),
];

/// Norms on both sides of attention and MLP; only here is `post_attention_layernorm` what its name
/// says.
const GEMMA2_NAMES: Names = &[
    (Module::AttnPostNorm, "layers.{}.post_attention_layernorm"),
    (Module::MlpNorm, "layers.{}.pre_feedforward_layernorm"),
    (Module::MlpPostNorm, "layers.{}.post_feedforward_layernorm"),
];

const PHI3_NAMES: Names = &[
    (Module::Query, "layers.{}.self_attn.qkv_proj"),
    (Module::Key, "layers.{}.self_attn.qkv_proj"),
    (Module::Value, "layers.{}.self_attn.qkv_proj"),
    (Module::Gate, "layers.{}.mlp.gate_up_proj"),
    (Module::Up, "layers.{}.mlp.gate_up_proj"),
];

const GPT2_NAMES: Names = &[
    (Module::Embed, "wte"),
    (Module::Positions, "wpe"),
    (Module::FinalNorm, "ln_f"),
    (Module::Unembed, "/lm_head"),
    (Module::AttnNorm, "h.{}.ln_1"),
    (Module::Query, "h.{}.attn.c_attn"),
    (Module::Key, "h.{}.attn.c_attn"),
    (Module::Value, "h.{}.attn.c_attn"),
    (Module::AttnOut, "h.{}.attn.c_proj"),
    (Module::MlpNorm, "h.{}.ln_2"),
    (Module::Up, "h.{}.mlp.c_fc"),
    (Module::Down, "h.{}.mlp.c_proj"),
];

const GPTJ_NAMES: Names = &[
    (Module::Query, "h.{}.attn.q_proj"),
    (Module::Key, "h.{}.attn.k_proj"),
    (Module::Value, "h.{}.attn.v_proj"),
    (Module::AttnOut, "h.{}.attn.out_proj"),
    (Module::Up, "h.{}.mlp.fc_in"),
    (Module::Down, "h.{}.mlp.fc_out"),
];

const GPT_NEOX_NAMES: Names = &[
    (Module::Embed, "embed_in"),
    (Module::FinalNorm, "final_layer_norm"),
    (Module::Unembed, "/embed_out"),
    (Module::AttnNorm, "layers.{}.input_layernorm"),
    (Module::Query, "layers.{}.attention.query_key_value"),
    (Module::Key, "layers.{}.attention.query_key_value"),
    (Module::Value, "layers.{}.attention.query_key_value"),
    (Module::AttnOut, "layers.{}.attention.dense"),
    (Module::MlpNorm, "layers.{}.post_attention_layernorm"),
    (Module::Up, "layers.{}.mlp.dense_h_to_4h"),
    (Module::Down, "layers.{}.mlp.dense_4h_to_h"),
];

const OPT_NAMES: Names = &[
    (Module::Embed, "embed_tokens"),
    (Module::Positions, "embed_positions"),
    (Module::FinalNorm, "final_layer_norm"),
    (Module::Unembed, "/lm_head"),
    (Module::AttnNorm, "layers.{}.self_attn_layer_norm"),
    (Module::Query, "layers.{}.self_attn.q_proj"),
    (Module::Key, "layers.{}.self_attn.k_proj"),
    (Module::Value, "layers.{}.self_attn.v_proj"),
    (Module::AttnOut, "layers.{}.self_attn.out_proj"),
    (Module::MlpNorm, "layers.{}.final_layer_norm"),
    (Module::Up, "layers.{}.fc1"),
    (Module::Down, "layers.{}.fc2"),
];

const LLAMA: Family = Family {
    name: "llama",
    spec: Spec::LLAMA,
    aliases: &[],
    defaults: r#"{"rms_norm_eps": 1e-6}"#,
    expects: &[
        ("sliding_window", "[]"),
        ("layer_types", "[]"),
        ("rope_interleaved", "[false]"),
        ("no_rope_layers", "[]"),
    ],
    window: WindowRule::Never,
    reads_attention_bias: true,
    reads_mlp_bias: true,
    scales_embedding: false,
    rotates_partially: false,
    special: nothing,
    roots: &["model.", ""],
    names: &[LLAMA_NAMES],
    qkv: Qkv::Separate,
    gate_stacked: false,
    transposed: false,
    norm_offset: 0.0,
    position_offset: 0,
    pairs: Pairs::Halves,
};

const MISTRAL: Family = Family {
    name: "mistral",
    defaults: r#"{"rms_norm_eps": 1e-6, "num_key_value_heads": 8, "sliding_window": 4096}"#,
    // transformers ignores layer types here, other engines do not.
    expects: &[("layer_types", "[]")],
    window: WindowRule::All,
    reads_attention_bias: false,
    reads_mlp_bias: false,
    ..LLAMA
};

const QWEN2: Family = Family {
    name: "qwen2",
    spec: Spec { biases: Biases { qkv: true, ..Spec::LLAMA.biases }, ..Spec::LLAMA },
    defaults: r#"{"rms_norm_eps": 1e-6, "num_key_value_heads": 32, "max_window_layers": 28,
        "sliding_window": 4096}"#,
    expects: &[("use_mrope", "[false]"), ("attention_bias", "[true]")],
    window: WindowRule::Late,
    reads_attention_bias: false,
    reads_mlp_bias: false,
    ..LLAMA
};

const QWEN3: Family = Family {
    name: "qwen3",
    spec: Spec { qk_norm: QkNorm::Head, ..Spec::LLAMA },
    defaults: r#"{"rms_norm_eps": 1e-6, "num_key_value_heads": 32, "head_dim": 128,
        "max_window_layers": 28, "sliding_window": 4096}"#,
    expects: &[],
    window: WindowRule::Late,
    reads_mlp_bias: false,
    ..LLAMA
};

const GEMMA: Family = Family {
    name: "gemma",
    spec: Spec { activation: Activation::GeluTanh, ..Spec::LLAMA },
    defaults: r#"{"rms_norm_eps": 1e-6, "num_key_value_heads": 16, "head_dim": 256,
        "tie_word_embeddings": true}"#,
    reads_mlp_bias: false,
    scales_embedding: true,
    norm_offset: 1.0,
    ..LLAMA
};

const GEMMA2: Family = Family {
    name: "gemma2",
    spec: Spec { norms: Norms { before: true, after: true }, ..GEMMA.spec },
    aliases: &[("hidden_act", "hidden_activation")],
    defaults: r#"{"rms_norm_eps": 1e-6, "num_key_value_heads": 4, "head_dim": 256,
        "tie_word_embeddings": true, "sliding_window": 4096, "query_pre_attn_scalar": 256,
        "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}"#,
    expects: &[],
    window: WindowRule::AllButEvery(2),
    special: gemma2,
    names: &[GEMMA2_NAMES, LLAMA_NAMES],
    ..GEMMA
};

const GEMMA3: Family = Family {
    name: "gemma3_text",
    spec: Spec { qk_norm: QkNorm::Head, ..GEMMA2.spec },
    // The text part of the models that also see is written down as what differs from these.
    defaults: r#"{"rms_norm_eps": 1e-6, "num_attention_heads": 8, "num_key_value_heads": 4,
        "head_dim": 256, "vocab_size": 262208, "hidden_size": 2304, "intermediate_size": 9216,
        "num_hidden_layers": 26, "max_position_embeddings": 131072, "tie_word_embeddings": true,
        "sliding_window": 4096, "query_pre_attn_scalar": 256, "rope_theta": 1000000.0,
        "rope_local_base_freq": 10000.0}"#,
    // transformers reads this one and never applies it.
    expects: &[("attn_logit_softcapping", "[]")],
    window: WindowRule::AllButEvery(6),
    special: gemma3,
    roots: &["model.", "language_model.model.", "model.language_model.", ""],
    ..GEMMA2
};

const PHI3: Family = Family {
    name: "phi3",
    defaults: r#"{"rms_norm_eps": 1e-5, "original_max_position_embeddings": 4096}"#,
    expects: &[("layer_types", "[]"), ("attention_bias", "[false]"), ("lm_head_bias", "[false]")],
    window: WindowRule::All,
    reads_attention_bias: false,
    reads_mlp_bias: false,
    rotates_partially: true,
    names: &[PHI3_NAMES, LLAMA_NAMES],
    qkv: Qkv::Stacked,
    gate_stacked: true,
    ..LLAMA
};

const OLMO2: Family = Family {
    name: "olmo2",
    spec: Spec {
        norms: Norms { before: false, after: true },
        qk_norm: QkNorm::Whole,
        ..Spec::LLAMA
    },
    defaults: r#"{"rms_norm_eps": 1e-5}"#,
    expects: &[("sliding_window", "[]"), ("layer_types", "[]"), ("clip_qkv", "[]")],
    reads_mlp_bias: false,
    names: &[GEMMA2_NAMES, LLAMA_NAMES],
    ..LLAMA
};

/// What GPT-2 and the families after it have in common.
const GPT_SPEC: Spec = Spec {
    norm: NormKind::Layer,
    biases: Biases { qkv: true, attn_out: true, mlp: true, unembed: false },
    gated: false,
    activation: Activation::GeluTanh,
    ..Spec::LLAMA
};

const GPT2: Family = Family {
    name: "gpt2",
    spec: Spec { learned_positions: true, ..GPT_SPEC },
    aliases: &[
        ("hidden_size", "n_embd"),
        ("num_hidden_layers", "n_layer"),
        ("num_attention_heads", "n_head"),
        ("max_position_embeddings", "n_positions"),
        ("intermediate_size", "n_inner"),
        ("hidden_act", "activation_function"),
        ("rms_norm_eps", "layer_norm_epsilon"),
    ],
    defaults: r#"{"rms_norm_eps": 1e-5, "hidden_act": "gelu_new", "tie_word_embeddings": true}"#,
    expects: &[],
    reads_attention_bias: false,
    reads_mlp_bias: false,
    special: gpt2,
    roots: &["transformer.", ""],
    names: &[GPT2_NAMES],
    qkv: Qkv::Stacked,
    transposed: true,
    ..LLAMA
};

const GPTJ: Family = Family {
    name: "gptj",
    spec: Spec {
        biases: Biases { qkv: false, attn_out: false, mlp: true, unembed: true },
        residual: Residual::ParallelOneNorm,
        learned_positions: false,
        ..GPT_SPEC
    },
    defaults: r#"{"rms_norm_eps": 1e-5, "hidden_act": "gelu_new", "rotary_dim": 64}"#,
    rotates_partially: true,
    special: nothing,
    names: &[GPTJ_NAMES, GPT2_NAMES],
    qkv: Qkv::Separate,
    transposed: false,
    pairs: Pairs::Neighbours,
    ..GPT2
};

const GPT_NEOX: Family = Family {
    name: "gpt_neox",
    spec: Spec {
        residual: Residual::Parallel,
        activation: Activation::Gelu,
        learned_positions: false,
        ..GPT_SPEC
    },
    aliases: &[
        ("rms_norm_eps", "layer_norm_eps"),
        ("rope_theta", "rotary_emb_base"),
        ("partial_rotary_factor", "rotary_pct"),
    ],
    defaults: r#"{"rms_norm_eps": 1e-5, "hidden_act": "gelu", "attention_bias": true,
        "use_parallel_residual": true, "partial_rotary_factor": 0.25}"#,
    expects: &[],
    reads_mlp_bias: false,
    rotates_partially: true,
    special: gpt_neox,
    roots: &["gpt_neox.", ""],
    names: &[GPT_NEOX_NAMES],
    qkv: Qkv::ByHead,
    ..LLAMA
};

const OPT: Family = Family {
    name: "opt",
    spec: Spec { activation: Activation::Relu, ..GPT2.spec },
    aliases: &[("intermediate_size", "ffn_dim"), ("hidden_act", "activation_function")],
    // torch's layer norm, whose epsilon no setting changes.
    defaults: r#"{"rms_norm_eps": 1e-5, "hidden_act": "relu", "tie_word_embeddings": true}"#,
    expects: &[
        ("do_layer_norm_before", "[true]"),
        ("_remove_final_layer_norm", "[false]"),
        ("enable_bias", "[true]"),
        ("layer_norm_elementwise_affine", "[true]"),
    ],
    reads_attention_bias: false,
    reads_mlp_bias: false,
    special: opt,
    roots: &["model.decoder.", "decoder.", ""],
    names: &[OPT_NAMES],
    position_offset: 2,
    ..LLAMA
};

/// Every family.
pub const FAMILIES: &[Family] =
    &[LLAMA, MISTRAL, QWEN2, QWEN3, GEMMA, GEMMA2, GEMMA3, PHI3, OLMO2, GPT2, GPTJ, GPT_NEOX, OPT];

impl Family {
    /// The family of that `model_type`.
    pub fn named(name: &str) -> Option<&'static Self> {
        FAMILIES.iter().find(|family| family.name == name)
    }

    /// What a weight is called in the family's checkpoints, or which tensor it is a part of.
    pub fn tensor_name(&self, weight: Weight) -> Option<String> {
        tensor_name(self.names, self.roots[0], weight)
    }

    /// All names, for errors.
    pub fn list() -> String {
        let names: Vec<_> = FAMILIES.iter().map(|family| family.name).collect();
        names.join(", ")
    }
}
