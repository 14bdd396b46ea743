//! Which weights a model has, and of which shapes: what is loaded and what is counted.

use super::config::{Config, NormKind, QkNorm, Residual};
use super::names::{Module, Weight};

/// The modules outside of the blocks.
const OUTSIDE: [Module; 4] = [Module::Embed, Module::Positions, Module::FinalNorm, Module::Unembed];

/// The modules of a block.
const IN_BLOCK: [Module; 13] = [
    Module::AttnNorm,
    Module::Query,
    Module::Key,
    Module::Value,
    Module::QueryNorm,
    Module::KeyNorm,
    Module::AttnOut,
    Module::AttnPostNorm,
    Module::MlpNorm,
    Module::Gate,
    Module::Up,
    Module::Down,
    Module::MlpPostNorm,
];

impl Config {
    /// The shape of a weight, matrices as `[out, in]`; `None` if the model has no such weight.
    pub fn shape(&self, weight: Weight) -> Option<Vec<usize>> {
        let &Self { d_model, d_mlp, d_vocab, spec, .. } = self;
        let (d_q, d_kv) = (self.n_heads * self.d_head, self.n_kv_heads * self.d_head);
        let biases = spec.biases;
        let dims = match weight.module {
            Module::Embed => vec![d_vocab, d_model],
            // The embedding may be the unembedding; the bias is its own.
            Module::Unembed if self.tied_embeddings && !weight.is_bias => return None,
            Module::Unembed => vec![d_vocab, d_model],
            Module::Positions => vec![self.n_context, d_model],
            Module::Query => vec![d_q, d_model],
            Module::Key | Module::Value => vec![d_kv, d_model],
            Module::AttnOut => vec![d_model, d_q],
            Module::Gate | Module::Up => vec![d_mlp, d_model],
            Module::Down => vec![d_model, d_mlp],
            Module::QueryNorm => vec![self.qk_norm_width(d_q)?],
            Module::KeyNorm => vec![self.qk_norm_width(d_kv)?],
            _ => vec![d_model],
        };
        let is_there = match weight.module {
            Module::Positions => spec.learned_positions,
            Module::AttnNorm => spec.norms.before,
            Module::MlpNorm => spec.norms.before && spec.residual != Residual::ParallelOneNorm,
            Module::AttnPostNorm | Module::MlpPostNorm => spec.norms.after,
            Module::Gate => spec.gated,
            _ => true,
        };
        let has_bias = match weight.module {
            Module::Query | Module::Key | Module::Value => biases.qkv,
            Module::AttnOut => biases.attn_out,
            Module::Gate | Module::Up | Module::Down => biases.mlp,
            Module::Unembed => biases.unembed,
            Module::Embed | Module::Positions => false,
            _ => spec.norm == NormKind::Layer,
        };
        match (is_there, weight.is_bias) {
            (true, false) => Some(dims),
            (true, true) if has_bias => Some(dims[..1].to_vec()),
            _ => None,
        }
    }

    /// The width of the norm of queries or keys that are `width` numbers in all.
    fn qk_norm_width(&self, width: usize) -> Option<usize> {
        match self.spec.qk_norm {
            QkNorm::None => None,
            QkNorm::Head => Some(self.d_head),
            QkNorm::Whole => Some(width),
        }
    }

    /// All weights of the model with their shapes.
    pub fn weights(&self) -> impl Iterator<Item = (Weight, Vec<usize>)> {
        let outside = self.shaped(&OUTSIDE, 0);
        outside.chain((0..self.n_layers).flat_map(|layer| self.block_weights(layer)))
    }

    /// The weights of one block.
    pub fn block_weights(&self, layer: usize) -> impl Iterator<Item = (Weight, Vec<usize>)> {
        self.shaped(&IN_BLOCK, layer)
    }

    fn shaped(
        &self,
        modules: &'static [Module],
        layer: usize,
    ) -> impl Iterator<Item = (Weight, Vec<usize>)> {
        let both = move |&module| [Weight::new(module, layer), Weight::bias(module, layer)];
        let weights = modules.iter().flat_map(both);
        weights.filter_map(|weight| Some((weight, self.shape(weight)?)))
    }

    /// How many numbers the weights are.
    pub fn n_weights(&self) -> usize {
        self.weights().map(|(_, dims)| dims.iter().product::<usize>()).sum()
    }
}
