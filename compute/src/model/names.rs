//! What each weight is called in Hugging Face checkpoints and in GGUF files.

/// A weight outside the decoder blocks, or one of every block. Shapes are `[out, in]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// `[d_vocab, d_model]`
    Embed,
    /// `[d_model]`
    FinalNorm,
    /// `[d_vocab, d_model]`
    Unembed,
    /// `[d_model]`
    AttnNorm(usize),
    /// `[n_heads * d_head, d_model]`
    Query(usize),
    /// `[n_kv_heads * d_head, d_model]`
    Key(usize),
    /// `[n_kv_heads * d_head, d_model]`
    Value(usize),
    /// `[d_model, n_heads * d_head]`
    AttnOut(usize),
    /// `[d_model]`
    MlpNorm(usize),
    /// `[d_mlp, d_model]`
    Gate(usize),
    /// `[d_mlp, d_model]`
    Up(usize),
    /// `[d_model, d_mlp]`
    Down(usize),
}

impl Weight {
    /// The name in Hugging Face checkpoints.
    pub fn hugging_face(self) -> String {
        let block = |layer, name| format!("model.layers.{layer}.{name}.weight");
        match self {
            Self::Embed => "model.embed_tokens.weight".into(),
            Self::FinalNorm => "model.norm.weight".into(),
            Self::Unembed => "lm_head.weight".into(),
            Self::AttnNorm(layer) => block(layer, "input_layernorm"),
            Self::Query(layer) => block(layer, "self_attn.q_proj"),
            Self::Key(layer) => block(layer, "self_attn.k_proj"),
            Self::Value(layer) => block(layer, "self_attn.v_proj"),
            Self::AttnOut(layer) => block(layer, "self_attn.o_proj"),
            Self::MlpNorm(layer) => block(layer, "post_attention_layernorm"),
            Self::Gate(layer) => block(layer, "mlp.gate_proj"),
            Self::Up(layer) => block(layer, "mlp.up_proj"),
            Self::Down(layer) => block(layer, "mlp.down_proj"),
        }
    }

    /// The name in GGUF files.
    pub fn gguf(self) -> String {
        let block = |layer, name| format!("blk.{layer}.{name}.weight");
        match self {
            Self::Embed => "token_embd.weight".into(),
            Self::FinalNorm => "output_norm.weight".into(),
            Self::Unembed => "output.weight".into(),
            Self::AttnNorm(layer) => block(layer, "attn_norm"),
            Self::Query(layer) => block(layer, "attn_q"),
            Self::Key(layer) => block(layer, "attn_k"),
            Self::Value(layer) => block(layer, "attn_v"),
            Self::AttnOut(layer) => block(layer, "attn_output"),
            Self::MlpNorm(layer) => block(layer, "ffn_norm"),
            Self::Gate(layer) => block(layer, "ffn_gate"),
            Self::Up(layer) => block(layer, "ffn_up"),
            Self::Down(layer) => block(layer, "ffn_down"),
        }
    }
}
