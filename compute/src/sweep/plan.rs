//! What a sweep computes, in which passes, and what that costs.

use std::ops::Range;

use shared::vocabulary::Site;

use super::{Request, SweepError};
use crate::model::{Config, Span};

/// One intervention: the base run with the activation at (layer, position) replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// The layer, from 0.
    pub layer: usize,
    /// The position in the base run, from 0.
    pub position: usize,
}

/// A cell whose result is known exactly beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It equals the unpatched base run.
    Base,
    /// It equals the unpatched source run.
    Source,
}

/// Floating-point operations, a multiply-add counting two.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Operations {
    /// What any exact sweep that shares prefixes must do: both runs once, each unknown cell's rows
    /// in the layers after its patch, and the readout.
    pub useful: f64,
    /// What this plan does: more where memory forces several passes.
    pub done: f64,
}

/// How a sweep is carried out.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The cells to compute, divided among passes over the layers; at least one pass.
    pub passes: Vec<Vec<Cell>>,
    /// The most rows that go through a block at a time, unless one cell alone has more.
    pub n_tile_rows: usize,
    /// The most rows whose whole vocabulary is read at a time.
    pub n_readout_rows: usize,
    /// The most memory beyond the weights, in bytes, by this plan's own count.
    pub peak_bytes: usize,
    /// What of it is needed throughout, and cannot be shared with other sweeps in the same wave.
    pub kept_bytes: usize,
    /// What it costs.
    pub operations: Operations,
}

/// Rows in a tile, if memory allows: enough that the matrix products run at their peak, few enough
/// that what lies between them stays in cache.
const TILE_ROWS: usize = 1024;
/// Rows of a vocabulary readout, if memory allows.
const READOUT_ROWS: usize = 256;
/// The baselines, whose whole vocabulary is always read.
const BASELINE_ROWS: usize = 2;
/// Packing buffers of the matrix products, the allocator's slack, and the like.
const OVERHEAD_BYTES: usize = 24 << 20;
const F32_BYTES: usize = 4;

impl Plan {
    /// Plans `request` within `allowed` bytes beyond the weights.
    ///
    /// # Errors
    /// [`SweepError::NoSite`] if the model lacks the site, [`SweepError::Memory`] if not even one
    /// cell fits.
    pub fn new(config: &Config, request: &Request, allowed: usize) -> Result<Self, SweepError> {
        if !config.has_site(request.site) {
            let architecture = config.architecture;
            return Err(SweepError::NoSite { site: request.site, architecture });
        }
        let cells = unknown_cells(config, request);
        let size = Sizes::new(config, request);
        let n_base = request.alignment.base.len();
        let largest = cells.iter().map(|cell| n_base - cell.position).max().unwrap_or(0);
        let fixed = OVERHEAD_BYTES + size.runs();
        let smallest =
            fixed + size.tile(largest) + size.state(largest) + size.readout(BASELINE_ROWS);
        if smallest > allowed {
            return Err(SweepError::Memory { needed: smallest, allowed });
        }
        // A share of what is free goes to scratch, the rest to the wave itself.
        let scratch = (allowed - fixed) / 4;
        let n_tile_rows = (scratch / size.tile(1)).clamp(largest.max(1), TILE_ROWS.max(largest));
        let n_readout_rows = match request.readout {
            true => (scratch / size.readout(1)).clamp(BASELINE_ROWS, READOUT_ROWS),
            false => BASELINE_ROWS,
        };
        let taken = fixed + size.tile(n_tile_rows).max(size.readout(n_readout_rows));
        let n_state_rows = (allowed.saturating_sub(taken) / size.state(1)).max(largest);

        let mut passes = vec![Vec::new()];
        let (mut n_rows, mut n_most_rows) = (0, 0);
        for cell in cells {
            let n = n_base - cell.position;
            if n_rows + n > n_state_rows {
                passes.push(Vec::new());
                n_rows = 0;
            }
            passes.last_mut().expect("there is at least one pass").push(cell);
            n_rows += n;
            n_most_rows = n_most_rows.max(n_rows);
        }
        Ok(Self {
            operations: count(config, request, &passes),
            peak_bytes: taken + size.state(n_most_rows),
            kept_bytes: size.runs() + size.state(n_most_rows),
            passes,
            n_tile_rows,
            n_readout_rows,
        })
    }

    /// The same sweep in at least `n_passes` passes where it has as many columns, each pass whole
    /// columns of about the same cost: its columns are finished, and can be shown, before the next
    /// begins. Every pass costs both unpatched runs once more.
    pub fn in_passes(mut self, config: &Config, request: &Request, n_passes: usize) -> Self {
        if n_passes <= self.passes.len() {
            return self;
        }
        let block = BlockCost::new(config);
        let cost = |cell: &Cell| cell_cost(config, request, block, *cell);
        let total: f64 = self.passes.iter().flatten().map(cost).sum();
        let mut passes = Vec::with_capacity(n_passes);
        let mut done = 0.0;
        for cells in self.passes {
            // A pass that memory bounds stays a pass of its own.
            let mut pass = Vec::new();
            for column in cells.chunk_by(|a, b| a.position == b.position) {
                pass.extend(column);
                done += column.iter().map(cost).sum::<f64>();
                if done >= total * (passes.len() + 1) as f64 / n_passes as f64 {
                    passes.push(std::mem::take(&mut pass));
                }
            }
            if !pass.is_empty() || passes.is_empty() {
                passes.push(pass);
            }
        }
        self.operations = count(config, request, &passes);
        self.passes = passes;
        self
    }

    /// The same sweep without the cells that `is_there`. Passes of which nothing is left are not
    /// run, but for one, which reads the unpatched runs.
    pub fn without(
        mut self,
        config: &Config,
        request: &Request,
        is_there: impl Fn(Cell) -> bool,
    ) -> Self {
        for cells in &mut self.passes {
            cells.retain(|&cell| !is_there(cell));
        }
        self.passes.retain(|cells| !cells.is_empty());
        if self.passes.is_empty() {
            self.passes.push(Vec::new());
        }
        self.operations = count(config, request, &self.passes);
        self
    }

    /// How many cells are computed.
    pub fn n_cells(&self) -> usize {
        self.passes.iter().map(Vec::len).sum()
    }
}

/// Which consecutive plans ride together within `allowed` bytes beyond the weights. A sweep that
/// takes several passes rides alone.
pub fn groups(plans: &[&Plan], allowed: usize) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let (mut kept, mut scratch) = (0, 0);
    for (i, plan) in plans.iter().enumerate() {
        let own_scratch = plan.peak_bytes - plan.kept_bytes;
        let together = kept + plan.kept_bytes + own_scratch.max(scratch);
        let fits = plan.passes.len() == 1 && together <= allowed;
        match groups.last_mut() {
            Some(group) if fits && plans[group.start].passes.len() == 1 => {
                group.end = i + 1;
                kept += plan.kept_bytes;
                scratch = scratch.max(own_scratch);
            }
            _ => {
                groups.push(i..i + 1);
                (kept, scratch) = (plan.kept_bytes, own_scratch);
            }
        }
    }
    groups
}

/// What is known of a cell beforehand.
pub fn known(config: &Config, request: &Request, cell: Cell) -> Option<Known> {
    let is_last_layer = cell.layer + 1 == config.n_layers;
    let is_last_position = cell.position + 1 == request.alignment.base.len();
    if cell.position < request.alignment.first_difference {
        Some(Known::Base)
    } else if !is_last_layer || request.site == Site::ResidPre {
        None
    } else if !is_last_position {
        // Nothing after this layer's attention carries it to the last position.
        Some(Known::Base)
    } else {
        (request.site == Site::ResidPost).then_some(Known::Source)
    }
}

/// The cells that must be computed, column by column.
fn unknown_cells(config: &Config, request: &Request) -> Vec<Cell> {
    let cells = request
        .positions()
        .flat_map(|position| (0..config.n_layers).map(move |layer| Cell { layer, position }));
    cells.filter(|&cell| known(config, request, cell).is_none()).collect()
}

/// Bytes of the sweep's parts.
struct Sizes<'a> {
    config: &'a Config,
    n_run_rows: usize,
}

impl<'a> Sizes<'a> {
    fn new(config: &'a Config, request: &Request) -> Self {
        let n_run_rows = request.alignment.base.len() + request.alignment.source.len();
        Self { config, n_run_rows }
    }

    /// The wave's residual streams.
    fn state(&self, n_rows: usize) -> usize {
        n_rows * self.config.d_model * F32_BYTES
    }

    /// What a block needs while rows go through it: in the attention half the normed rows,
    /// queries, keys and values before and after rotation, and the mixed values; in the MLP half
    /// three times its width.
    fn tile(&self, n_rows: usize) -> usize {
        let c = self.config;
        let attention = 3 * c.d_model + (3 * c.n_heads + 3 * c.n_kv_heads) * c.d_head;
        let mlp = 4 * c.d_model + 3 * c.d_mlp;
        n_rows * attention.max(mlp) * F32_BYTES
    }

    /// Both runs with every activation that may be patched, the rows that join, and rotary tables.
    fn runs(&self) -> usize {
        let tables = self.n_run_rows * self.config.d_head * F32_BYTES;
        self.tile(self.n_run_rows) + self.state(10 * self.n_run_rows) + tables
    }

    /// Rows read with their whole vocabulary.
    fn readout(&self, n_rows: usize) -> usize {
        n_rows * (self.config.d_vocab + 2 * self.config.d_model) * F32_BYTES
    }
}

/// The operations of the linear maps of one block, a row.
#[derive(Clone, Copy)]
struct BlockCost {
    keys_values: f64,
    queries_and_output: f64,
    mlp: f64,
    /// Attention, for each position seen. Windows are not taken off: few prompts are longer, and
    /// their share is small.
    seen: f64,
}

impl BlockCost {
    fn new(config: &Config) -> Self {
        let d_model = config.d_model as f64;
        let d_q = (config.n_heads * config.d_head) as f64;
        let d_kv = (config.n_kv_heads * config.d_head) as f64;
        Self {
            keys_values: 4.0 * d_model * d_kv,
            queries_and_output: 4.0 * d_model * d_q,
            mlp: if config.spec.gated { 6.0 } else { 4.0 } * d_model * config.d_mlp as f64,
            seen: 4.0 * d_q,
        }
    }

    /// All rows of a span through one block.
    fn all(self, span: Span) -> f64 {
        let (start, len) = (span.start as f64, span.len as f64);
        let n_seen = len * start + len * (len + 1.0) / 2.0;
        len * (self.keys_values + self.queries_and_output + self.mlp) + n_seen * self.seen
    }

    /// A span through the last block, of which only the last row is wanted.
    fn last(self, span: Span) -> f64 {
        let len = span.len as f64;
        let one = self.queries_and_output + self.mlp + self.seen * (span.start as f64 + len);
        len * self.keys_values + one
    }
}

/// The operations of `cell` in the blocks it goes through.
fn cell_cost(config: &Config, request: &Request, block: BlockCost, cell: Cell) -> f64 {
    let len = request.alignment.base.len() - cell.position;
    let span = Span { start: cell.position, len };
    let joins_before_block = request.site == Site::ResidPre;
    let n_blocks = config.n_layers - cell.layer - usize::from(!joins_before_block);
    let in_blocks = match n_blocks {
        0 => 0.0,
        n => (n - 1) as f64 * block.all(span) + block.last(span),
    };
    let recomputes_mlp = matches!(request.site, Site::AttnOut | Site::ResidMid);
    in_blocks + if recomputes_mlp { block.mlp } else { 0.0 }
}

/// The operations of reading cells.
fn readout_cost(config: &Config, request: &Request, n_rows: usize) -> f64 {
    if request.readout {
        return whole_readout_cost(config, request, n_rows);
    }
    let n_ids = request.true_ids.len() + request.false_ids.len();
    2.0 * (config.d_model * n_ids * n_rows) as f64
}

/// The operations of reading rows with their whole vocabulary, as the baselines always are.
fn whole_readout_cost(config: &Config, request: &Request, n_rows: usize) -> f64 {
    let n_ids = request.true_ids.len() + request.false_ids.len();
    2.0 * (config.d_model * (n_ids + config.d_vocab) * n_rows) as f64
}

fn count(config: &Config, request: &Request, passes: &[Vec<Cell>]) -> Operations {
    let block = BlockCost::new(config);
    let runs = [request.alignment.base.len(), request.alignment.source.len()];
    let runs = runs.map(|len| Span { start: 0, len });
    let n_early = (config.n_layers - 1) as f64;
    let runs_useful: f64 = runs.iter().map(|&s| n_early * block.all(s) + block.last(s)).sum();
    let runs_done: f64 = runs.iter().map(|&s| (n_early + 1.0) * block.all(s)).sum();
    let mut operations = Operations { useful: runs_useful, done: 0.0 };
    for cells in passes {
        let cells_cost: f64 =
            cells.iter().map(|&cell| cell_cost(config, request, block, cell)).sum();
        operations.useful += cells_cost + readout_cost(config, request, cells.len());
        operations.done += runs_done + cells_cost + readout_cost(config, request, cells.len());
    }
    operations.useful += whole_readout_cost(config, request, 2);
    operations.done += whole_readout_cost(config, request, 2);
    operations
}

/// Bytes beyond the weights of one unpatched run of `n_tokens` by the naive engine.
pub fn naive_bytes(config: &Config, n_tokens: usize) -> usize {
    let size = Sizes { config, n_run_rows: n_tokens };
    OVERHEAD_BYTES + size.runs() + size.readout(1)
}

/// The operations of one run of the base by the naive engine, which reads the vocabulary at the
/// last position alone.
pub fn naive_cost(config: &Config, request: &Request) -> f64 {
    let span = Span { start: 0, len: request.alignment.base.len() };
    config.n_layers as f64 * BlockCost::new(config).all(span)
        + whole_readout_cost(config, request, 1)
}

/// The operations of all rows of `spans` through one block.
pub(super) fn block_cost(config: &Config, spans: &[Span], only_last: bool) -> f64 {
    let block = BlockCost::new(config);
    spans.iter().map(|&s| if only_last { block.last(s) } else { block.all(s) }).sum()
}
