//! A model's dimensions and conventions.
//!
//! Families differ in these axes alone; the block never asks which family it is. They are read
//! from `config.json` ([`super::hugging_face`]) or from a GGUF's metadata ([`super::gguf_config`]).

use shared::specification::Dimensions;
use shared::specification::vocabulary::Site;

use super::fields::is_positive;
use super::rope::{Rope, RopeScaling};

/// The dimensions and conventions of a decoder-only model.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The family's name, as Hugging Face's `model_type` has it.
    pub architecture: &'static str,
    /// Decoder blocks.
    pub n_layers: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Width of one head.
    pub d_head: usize,
    /// Width of the MLP's hidden layer.
    pub d_mlp: usize,
    /// Vocabulary size.
    pub d_vocab: usize,
    /// The longest prompt, in tokens.
    pub n_context: usize,
    /// The family's conventions.
    pub spec: Spec,
    /// Added to the mean square, or to the variance, in norms.
    pub norm_eps: f32,
    /// What is particular to each block's attention, `[n_layers]`.
    pub layers: Vec<Layer>,
    /// The rotary embeddings that the layers refer to.
    pub ropes: Vec<Rope>,
    /// What the embedding is multiplied by.
    pub embed_scale: f32,
    /// Attention scores become `cap * tanh(score / cap)`.
    pub attn_softcap: Option<f32>,
    /// Logits become `cap * tanh(logit / cap)`.
    pub final_softcap: Option<f32>,
    /// Whether the unembedding is the embedding.
    pub tied_embeddings: bool,
}

/// The conventions by which families differ, beside their dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    /// The kind of all norms.
    pub norm: NormKind,
    /// Where the norms of a block stand.
    pub norms: Norms,
    /// What a block's MLP reads.
    pub residual: Residual,
    /// Whether queries and keys are normed before they are rotated.
    pub qk_norm: QkNorm,
    /// Which linear maps add a bias.
    pub biases: Biases,
    /// Whether the MLP has a gate: `down(activation(gate(x)) * up(x))`, and not
    /// `down(activation(up(x)))`.
    pub gated: bool,
    /// The MLP's nonlinearity.
    pub activation: Activation,
    /// Whether a learned vector a position is added to the embedding.
    pub learned_positions: bool,
}

/// The nonlinearity of an MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(x)`
    Silu,
    /// `x * Phi(x)`, `Phi` being the normal distribution's.
    Gelu,
    /// The approximation of [`Activation::Gelu`] by a hyperbolic tangent, which GPT-2 and Gemma use.
    GeluTanh,
    /// `max(x, 0)`
    Relu,
}

/// Which norm a model uses throughout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// `x / sqrt(mean(x^2) + eps) * weight`
    Rms,
    /// `(x - mean(x)) / sqrt(var(x) + eps) * weight + bias`
    Layer,
}

/// What is particular to one block's attention.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Layer {
    /// How many positions a query sees, its own included; `None` for all before it.
    pub window: Option<usize>,
    /// Which of [`Config::ropes`] rotates queries and keys.
    pub rope: Option<usize>,
    /// What scores are multiplied by.
    pub scale: f32,
}

/// Where the norms of a block stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Norms {
    /// Before attention and MLP.
    pub before: bool,
    /// On what attention and MLP add to the residual stream.
    pub after: bool,
}

/// What a block's MLP reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Residual {
    /// The residual stream after attention.
    Serial,
    /// The residual stream before attention, through a norm of its own.
    Parallel,
    /// The residual stream before attention, through attention's norm.
    ParallelOneNorm,
}

/// Norms on queries and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkNorm {
    /// None.
    None,
    /// Over each head.
    Head,
    /// Over all heads together.
    Whole,
}

/// Which linear maps add a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Biases {
    /// Queries, keys and values.
    pub qkv: bool,
    /// Attention's output.
    pub attn_out: bool,
    /// All maps of the MLP.
    pub mlp: bool,
    /// The unembedding.
    pub unembed: bool,
}

impl Spec {
    /// The conventions of a llama: what other families differ from.
    pub const LLAMA: Self = Self {
        norm: NormKind::Rms,
        norms: Norms { before: true, after: false },
        residual: Residual::Serial,
        qk_norm: QkNorm::None,
        biases: Biases { qkv: false, attn_out: false, mlp: false, unembed: false },
        gated: true,
        activation: Activation::Silu,
        learned_positions: false,
    };
}

impl Config {
    /// A llama without dimensions, to be filled in.
    pub const LLAMA: Self = Self {
        architecture: "llama",
        n_layers: 0,
        d_model: 0,
        n_heads: 0,
        n_kv_heads: 0,
        d_head: 0,
        d_mlp: 0,
        d_vocab: 0,
        n_context: 0,
        spec: Spec::LLAMA,
        norm_eps: 1e-6,
        layers: Vec::new(),
        ropes: Vec::new(),
        embed_scale: 1.0,
        attn_softcap: None,
        final_softcap: None,
        tied_embeddings: false,
    };

    /// Gives every layer the same attention: to all positions, with the rotary embedding `rope` or
    /// none, scores divided by the root of `d_head`.
    #[must_use]
    pub fn with_uniform_layers(mut self, rope: Option<Rope>) -> Self {
        self.ropes = rope.into_iter().collect();
        let rope = (!self.ropes.is_empty()).then_some(0);
        let layer = Layer { window: None, rope, scale: 1.0 / (self.d_head as f32).sqrt() };
        self.layers = vec![layer; self.n_layers];
        self
    }

    /// Refuses dimensions that do not fit each other.
    pub fn checked(self) -> Result<Self, String> {
        let Self { n_heads, n_kv_heads, d_head, .. } = self;
        if !n_heads.is_multiple_of(n_kv_heads) {
            return Err(format!(
                "{n_heads} query heads do not divide among {n_kv_heads} key heads"
            ));
        }
        if d_head == 0 {
            return Err(format!("{n_heads} heads do not divide a width of {}", self.d_model));
        }
        for rope in &self.ropes {
            if !d_head.is_multiple_of(2) {
                return Err(format!(
                    "heads of width {d_head}: rotary embedding needs an even width"
                ));
            }
            let n = rope.n_rotated;
            if n == 0 || n > d_head || !n.is_multiple_of(2) {
                return Err(format!(
                    "{n} of {d_head} coordinates of a head are rotated: expected an even number"
                ));
            }
            if let RopeScaling::Divisors(divisors) = &rope.scaling
                && divisors.len() != n / 2
            {
                return Err(format!(
                    "the rotary scaling has {} factors: expected {}",
                    divisors.len(),
                    n / 2
                ));
            }
            if let RopeScaling::Divisors(divisors) = &rope.scaling
                && let Some(found) = divisors.iter().find(|x| !is_positive(f64::from(**x)))
            {
                return Err(format!(
                    "the rotary scaling has the factor {found}: expected positive numbers"
                ));
            }
            if !is_positive(f64::from(rope.magnitude)) {
                return Err(format!(
                    "rotated coordinates are multiplied by {}: expected a positive number",
                    rope.magnitude
                ));
            }
            if let RopeScaling::Llama3 { low_freq_factor, high_freq_factor, .. } = rope.scaling
                && high_freq_factor <= low_freq_factor
            {
                return Err(format!(
                    "`high_freq_factor` should be more than `low_freq_factor`, found \
                     {high_freq_factor} and {low_freq_factor}"
                ));
            }
        }
        Ok(self)
    }

    /// What experiments on the model depend on.
    pub fn dimensions(&self) -> Dimensions {
        let Self { n_layers, n_heads, n_kv_heads, .. } = *self;
        Dimensions { n_layers, n_heads, n_kv_heads }
    }

    /// Query heads a key head: `n_heads / n_kv_heads`.
    pub fn n_groups(&self) -> usize {
        self.n_heads / self.n_kv_heads
    }

    /// Whether the model has the site: where attention and MLP read the same residual stream,
    /// there is none between them.
    pub fn has_site(&self, site: Site) -> bool {
        site != Site::ResidMid || self.spec.residual == Residual::Serial
    }
}
