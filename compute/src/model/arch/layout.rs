//! How a family's checkpoints and GGUF files lay weights out, as data.

use std::ops::Range;

use super::config::Config;
use super::names::{Module, Names, Weight, tensor_name};
use super::rope::{Pairs, head_order};

/// How weights are laid out in a file.
#[derive(Debug, Clone)]
pub struct WeightLayout {
    /// What names may begin with; the first that fits the embedding is taken.
    pub roots: &'static [&'static str],
    /// The modules' names, the earlier tables before the later.
    pub names: Vec<Names>,
    /// How queries, keys and values are stored.
    pub qkv: Qkv,
    /// Whether the gate lies above the other half of the MLP in one matrix.
    pub gate_stacked: bool,
    /// Whether the matrices of the blocks are stored as `[in, out]`.
    pub transposed: bool,
    /// What is added to a norm's weight before it is multiplied with.
    pub norm_offset: f32,
    /// Rows before the first position's in the table of positions.
    pub position_offset: usize,
    /// The heads' widths and the order of their coordinates.
    pub heads: HeadLayout,
}

/// How queries, keys and values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qkv {
    /// In a matrix each.
    Separate,
    /// In one matrix: all queries, then all keys, then all values.
    Stacked,
    /// In one matrix: each head's query, key and value together.
    ByHead,
}

/// The heads' widths and the order of their coordinates.
#[derive(Debug, Clone)]
pub struct HeadLayout {
    d_q: usize,
    d_kv: usize,
    d_head: usize,
    /// See [`head_order`]; `None` where coordinates stay where they are.
    order: Option<Vec<usize>>,
}

impl HeadLayout {
    /// The layout of the heads of `config`, stored to be rotated as `pairs`.
    pub fn new(config: &Config, pairs: Pairs) -> Self {
        let d_head = config.d_head;
        // A model's rotary embeddings differ in their frequencies, not in what they rotate.
        let order = config.ropes.first().map(|rope| head_order(pairs, rope.n_rotated, d_head));
        Self {
            d_q: config.n_heads * d_head,
            d_kv: config.n_kv_heads * d_head,
            d_head,
            order: order.filter(|order| !order.iter().copied().eq(0..d_head)),
        }
    }
}

/// Some rows of a stored matrix of `n_all` rows.
pub struct StoredRows {
    /// How many rows are stored.
    pub n_all: usize,
    /// Those that are asked for, in order.
    pub ranges: Vec<Range<usize>>,
}

impl WeightLayout {
    /// The name of a weight, below `root`.
    pub fn name(&self, root: &str, weight: Weight) -> Result<String, String> {
        tensor_name(&self.names, root, weight)
            .ok_or_else(|| format!("the layout has no name for {:?}", weight.module))
    }

    /// Where the `n` rows of a weight lie in the tensor that holds them.
    pub fn rows(&self, weight: Weight, n: usize) -> StoredRows {
        let &HeadLayout { d_q, d_kv, d_head, .. } = &self.heads;
        let one = |n_all, range| StoredRows { n_all, ranges: std::iter::once(range).collect() };
        let part = match weight.module {
            Module::Query => 0,
            Module::Key => 1,
            Module::Value => 2,
            Module::Gate if self.gate_stacked => return one(2 * n, 0..n),
            Module::Up if self.gate_stacked => return one(2 * n, n..2 * n),
            Module::Positions => {
                let n_all = n + self.position_offset;
                return one(n_all, self.position_offset..n_all);
            }
            _ => return one(n, 0..n),
        };
        match self.qkv {
            Qkv::Separate => one(n, 0..n),
            Qkv::Stacked => {
                let start = [0, d_q, d_q + d_kv][part];
                one(d_q + 2 * d_kv, start..start + n)
            }
            Qkv::ByHead => {
                let of_head = |head| (3 * head + part) * d_head..(3 * head + part + 1) * d_head;
                StoredRows { n_all: 3 * d_q, ranges: (0..n / d_head).map(of_head).collect() }
            }
        }
    }

    /// Whether a weight is stored as `[in, out]`.
    pub fn is_transposed(&self, weight: Weight) -> bool {
        let in_block = matches!(
            weight.module,
            Module::Query
                | Module::Key
                | Module::Value
                | Module::AttnOut
                | Module::Gate
                | Module::Up
                | Module::Down
        );
        self.transposed && in_block && !weight.is_bias
    }

    /// The order in which a weight's `n` rows are taken, where it is not the stored one.
    pub fn order(&self, weight: Weight, n: usize) -> Option<Vec<u32>> {
        let order = self.heads.order.as_ref().filter(|_| weight.module.is_rotated())?;
        let d_head = self.heads.d_head;
        let heads = (0..n / d_head).flat_map(|head| {
            order.iter().map(move |coordinate| (head * d_head + coordinate) as u32)
        });
        Some(heads.collect())
    }
}
