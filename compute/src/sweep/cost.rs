//! Floating-point operations of what a program does, a multiply-add counting two.

use crate::model::{Config, Span};

/// The operations of one block, a row.
#[derive(Debug, Clone, Copy)]
pub struct BlockCost {
    /// Keys and values.
    pub keys_values: f64,
    /// Queries.
    pub queries: f64,
    /// Attention's output projection.
    pub output: f64,
    /// The MLP.
    pub mlp: f64,
    /// Scores and mixing, for each position seen. Windows are not taken off: few prompts are longer,
    /// and their share is small.
    pub seen: f64,
}

impl BlockCost {
    /// Those of a model.
    pub fn new(config: &Config) -> Self {
        let d_model = config.d_model as f64;
        let d_q = (config.n_heads * config.d_head) as f64;
        let d_kv = (config.n_kv_heads * config.d_head) as f64;
        Self {
            keys_values: 4.0 * d_model * d_kv,
            queries: 2.0 * d_model * d_q,
            output: 2.0 * d_model * d_q,
            mlp: if config.spec.gated { 6.0 } else { 4.0 } * d_model * config.d_mlp as f64,
            seen: 4.0 * d_q,
        }
    }

    /// What the queries of a span see.
    pub fn attention(self, span: Span) -> f64 {
        let (n, end) = (span.n_queries as f64, span.end() as f64);
        self.seen * (n * end - n * (n - 1.0) / 2.0)
    }

    /// A span through a block.
    pub fn span(self, span: Span) -> f64 {
        let n_queries = span.n_queries as f64;
        span.n_own as f64 * self.keys_values
            + n_queries * (self.queries + self.output + self.mlp)
            + self.attention(span)
    }

    /// The rows of unpatched runs through a block.
    pub fn runs(self, spans: &[Span]) -> f64 {
        let n_rows: usize = spans.iter().map(|span| span.n_queries).sum();
        let in_spans: f64 = spans.iter().map(|&span| self.span(span)).sum();
        n_rows as f64 * self.keys_values + in_spans
    }
}

/// The operations of reading rows: `n_rows` with the logits of `n_ids` tokens, and `n_whole` of
/// them with the whole vocabulary.
pub fn readout(config: &Config, n_ids: usize, n_rows: usize, n_whole: usize) -> f64 {
    2.0 * config.d_model as f64 * (n_ids * n_rows + config.d_vocab * n_whole) as f64
}
