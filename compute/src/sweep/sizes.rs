//! Bytes that a program takes beyond the weights.

use super::readout::n_logits_at_once;
use super::runs::RunRows;
use crate::model::{Config, Kernels, MOST_PADDING, Network, PIECE_ROWS, PaddedSpans, Placement};

const F32_BYTES: usize = 4;
/// The allocator's slack, buffers of libraries, and the like, on the CPU.
const CPU_OVERHEAD_BYTES: usize = 24 << 20;
/// Code, the libraries' workspaces, and what the allocator of a device keeps.
const DEVICE_OVERHEAD_BYTES: usize = 256 << 20;

/// How activations are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activations {
    /// Bytes of a number.
    pub n_bytes: usize,
    /// How much attention takes at a time where it gathers padded keys and values
    /// ([`PaddedSpans`]), in bytes.
    pub most_padded_bytes: Option<usize>,
    /// How many f32 numbers each logit takes while it is read.
    pub n_per_logit: usize,
    /// The most logits of a row that are there at a time.
    pub n_logits: usize,
    /// What is taken whatever is computed, in bytes.
    pub overhead: usize,
}

impl Activations {
    /// Those of f32 and our kernels on the CPU.
    pub fn own() -> Self {
        Self {
            n_bytes: F32_BYTES,
            most_padded_bytes: None,
            // What is found in each slice of the vocabulary takes no more than its logits.
            n_per_logit: 2,
            n_logits: n_logits_at_once(),
            overhead: CPU_OVERHEAD_BYTES,
        }
    }

    /// Those of a placement.
    pub fn of(placement: &Placement) -> Self {
        if placement.kernels == Kernels::Own {
            return Self::own();
        }
        Self {
            n_bytes: placement.dtype.size_in_bytes(),
            most_padded_bytes: (placement.kernels == Kernels::Stock)
                .then(|| PaddedSpans::most_bytes(&placement.device)),
            // They are reduced where they are, and what they become on the way is there as well.
            n_per_logit: 4,
            n_logits: if placement.device.is_cpu() { PIECE_ROWS } else { usize::MAX },
            overhead: match placement.device.is_cpu() {
                true => CPU_OVERHEAD_BYTES,
                false => DEVICE_OVERHEAD_BYTES,
            },
        }
    }
}

/// Bytes beyond the weights of both unpatched runs of prompts of `n_tokens` tokens.
pub fn unpatched_bytes(network: &Network, n_tokens: usize) -> usize {
    let n = 2 * n_tokens;
    let sizes = Sizes {
        config: &network.config,
        activations: Activations::of(&network.placement),
        n_run_rows: n,
        n_run_positions: n,
        n_longest: n_tokens,
        n_run_reads: 2,
    };
    sizes.fixed() + sizes.readout(2)
}

/// Bytes of a batch's parts.
pub struct Sizes<'a> {
    config: &'a Config,
    activations: Activations,
    n_run_rows: usize,
    /// The runs' positions one after another, what they share counted for each.
    n_run_positions: usize,
    /// The positions of the longest run.
    n_longest: usize,
    n_run_reads: usize,
}

impl<'a> Sizes<'a> {
    /// Those of a batch with these runs, of which `n_run_reads` positions are read.
    pub fn new(
        config: &'a Config,
        activations: Activations,
        runs: &RunRows,
        n_run_reads: usize,
    ) -> Self {
        Self {
            config,
            activations,
            n_run_rows: runs.n_rows(),
            n_run_positions: runs.rows.iter().map(Vec::len).sum(),
            n_longest: runs.rows.iter().map(Vec::len).max().unwrap_or(0),
            n_run_reads,
        }
    }

    /// The trials' residual streams.
    pub fn state(&self, n_rows: usize) -> usize {
        n_rows * self.config.d_model * self.activations.n_bytes
    }

    /// What a block needs while rows go through it, and what padded attention takes there.
    pub fn tile(&self, n_rows: usize) -> usize {
        n_rows * self.row() + self.padded(n_rows)
    }

    /// How many rows may go through a block at a time within `n_bytes`.
    pub fn n_tile_rows(&self, n_bytes: usize) -> usize {
        // Padded attention takes no more than so much, however many rows there are.
        let beside = n_bytes.saturating_sub(self.padded(usize::MAX));
        (beside / self.row()).max(n_bytes / self.tile(1))
    }

    /// What a block needs for a row: in the attention half the normed rows, queries, keys and values
    /// before and after rotation, and the mixed values; in the MLP half three times its width.
    fn row(&self) -> usize {
        let c = self.config;
        let attention = 3 * c.d_model + (3 * c.n_heads + 3 * c.n_kv_heads) * c.d_head;
        let mlp = 4 * c.d_model + 3 * c.d_mlp;
        // Beside it the rows that enter, and the tile that is made of both.
        (attention.max(mlp) + 2 * c.d_model) * self.activations.n_bytes
    }

    /// What padded attention takes beside that at a time, for `n_rows` rows of queries.
    fn padded(&self, n_rows: usize) -> usize {
        let Activations { n_bytes, most_padded_bytes: Some(most), .. } = self.activations else {
            return 0;
        };
        let Config { n_heads, n_kv_heads, d_head, .. } = *self.config;
        let of = |n_queries| {
            let widths = [n_heads, n_heads * d_head, n_kv_heads * d_head];
            PaddedSpans::n_bytes(widths, [n_queries, self.n_longest], n_bytes)
        };
        // The longest span goes alone if need be, and the shared keys and values come first.
        let padded = n_rows
            .saturating_mul(MOST_PADDING * of(1))
            .min(most.max(of(self.n_longest.min(n_rows))));
        padded + self.shared() * n_bytes
    }

    /// All activations of the runs in one layer.
    fn activations(&self) -> usize {
        let c = self.config;
        let of_row = 6 * c.d_model + (2 * c.n_heads + 3 * c.n_kv_heads) * c.d_head;
        (self.n_run_rows * of_row + self.shared()) * self.activations.n_bytes
    }

    /// The keys and values that spans share, in one layer.
    fn shared(&self) -> usize {
        2 * self.n_run_positions * self.config.n_kv_heads * self.config.d_head
    }

    /// What is needed whatever is swept: the runs in a block with every activation that may be
    /// read, there and in the block before, the rows of the residual stream that enter, rotary tables, and the readings of the
    /// runs over the whole vocabulary, to which others are compared.
    pub fn fixed(&self) -> usize {
        let tables = self.n_run_positions * self.config.d_head * F32_BYTES;
        self.activations.overhead
            + self.tile(self.n_run_rows)
            + 2 * self.activations()
            + self.state(4 * self.n_run_rows)
            + tables
            + 2 * self.n_run_reads * self.config.d_vocab * F32_BYTES
    }

    /// What is written down of `n_trials` trials with `n_rows` rows: their edits, and the numbers of
    /// rows, on the host and where they are used.
    pub fn notes(&self, n_trials: usize, n_rows: usize) -> usize {
        n_trials * 768 + n_rows * 96
    }

    /// What later waves need of the runs, kept for all layers.
    pub fn kept(&self, n_layers: usize) -> usize {
        n_layers * self.activations()
    }

    /// The runs' residual streams after every layer, collected and selected.
    pub fn lens(&self, n_layers: usize) -> usize {
        3 * n_layers * self.state(self.n_run_positions)
    }

    /// Rows read with their whole vocabulary.
    pub fn readout(&self, n_rows: usize) -> usize {
        let n_logits = self.config.d_vocab.min(self.activations.n_logits);
        n_rows * (self.activations.n_per_logit * n_logits + 2 * self.config.d_model) * F32_BYTES
    }
}
