//! The wavefront: all cells of a sweep in one pass over the layers.
//!
//! The base run, the source run and every patched run advance together, layer by layer. Cell
//! (l, t) joins the wave at layer l with the positions from t on: row t holds the patch, the later
//! rows are the base's. The rows left of t never change, so wherever a later layer's attention
//! looks there it reads the base run's keys and values, which that same layer has just computed.

use std::ops::ControlFlow;

use candle_core::{Result, Tensor};
use shared::vocabulary::Site;

use super::plan::{self, Known};
use super::{Cell, Plan, Reading, Request, Sweep, SweepError, metric};
use crate::model::{Block, KeysValues, Network, Outputs, Rotary, Span, last_rows, n_rows};

/// What a sweep tells while it runs.
#[derive(Debug, Clone, Copy)]
pub enum Progress<'a> {
    /// The share that is done, from 0 to 1.
    Share(f64),
    /// Both unpatched runs are known: the source and the base.
    Baselines(Reading, Reading),
    /// Cells are finished, computed or known beforehand; those of a pass all at once.
    Cells(&'a [(Cell, Reading)]),
}

/// Hears how far a sweep is, and may break it off.
pub type Listener<'a> = dyn FnMut(Progress) -> ControlFlow<()> + 'a;

/// A sweep that rides in a wave, maybe with others.
#[derive(Debug, Clone, Copy)]
pub struct Rider<'a> {
    /// What is swept.
    pub request: &'a Request,
    /// How; made for the request and the network.
    pub plan: &'a Plan,
}

/// Runs `plan`, which must have been made for `request` and this network.
///
/// # Errors
/// [`SweepError::Cancelled`] if `listener` broke it off, or what candle reports.
pub fn sweep(
    network: &Network,
    request: &Request,
    plan: &Plan,
    listener: &mut Listener,
) -> std::result::Result<Sweep, SweepError> {
    let sweeps = run(network, &[Rider { request, plan }], &mut |_, progress| listener(progress))?;
    Ok(sweeps.into_iter().next().expect("there is a sweep for every rider"))
}

/// Runs several sweeps in the same passes over the layers, so that each block is asked for once a
/// pass for all of them. `listener` hears the share of all together.
///
/// # Errors
/// As for [`sweep`].
pub fn sweep_together(
    network: &Network,
    riders: &[Rider],
    listener: &mut Listener,
) -> std::result::Result<Vec<Sweep>, SweepError> {
    run(network, riders, &mut |_, progress| match progress {
        Progress::Share(_) => listener(progress),
        _ => ControlFlow::Continue(()),
    })
}

/// Hears whose progress it is, too.
type Tell<'a> = dyn FnMut(usize, Progress) -> ControlFlow<()> + 'a;

fn run(
    network: &Network,
    riders: &[Rider],
    tell: &mut Tell,
) -> std::result::Result<Vec<Sweep>, SweepError> {
    let lens = riders.iter().flat_map(|rider| {
        let alignment = &rider.request.alignment;
        [alignment.base.len(), alignment.source.len()]
    });
    let n_positions = lens.max().unwrap_or(0);
    let rotary = Rotary::new(&network.config, n_positions, &network.placement)?;
    let total = riders.iter().map(|rider| rider.plan.operations.done).sum();
    let mut meter = Meter { done: 0.0, total, tell };
    let mut sweeps: Vec<Option<Sweep>> = riders.iter().map(|_| None).collect();
    let n_passes = riders.iter().map(|rider| rider.plan.passes.len()).max().unwrap_or(0);
    for pass in 0..n_passes {
        let mut runs = Vec::new();
        for (index, rider) in riders.iter().enumerate() {
            if let Some(cells) = rider.plan.passes.get(pass) {
                runs.push((index, Run::start(network, *rider, cells)?));
            }
        }
        for (layer, block) in network.blocks().enumerate() {
            let block = block?;
            for (_, run) in &mut runs {
                run.advance(network, layer, &block, &rotary, &mut meter)?;
            }
        }
        let n_chunk = riders.iter().map(|rider| rider.plan.n_readout_rows).min().unwrap_or(1);
        let mut order = Vec::with_capacity(runs.len());
        let mut rows = Vec::with_capacity(2 * runs.len());
        for (index, run) in runs {
            let request = riders[index].request;
            let (cells, ends) = run.finish()?;
            let whole = sweeps[index].is_none();
            rows.push(metric::Rows { x: ends.narrow(0, 0, 2)?, request, whole });
            let x = ends.narrow(0, 2, cells.len())?;
            rows.push(metric::Rows { x, request, whole: request.readout });
            order.push((index, cells));
        }
        let mut readings = metric::read_all(network, &rows, n_chunk)?.into_iter();
        for (index, cells) in order {
            let (Some(ends), Some(computed)) = (readings.next(), readings.next()) else {
                return Err(candle_core::Error::msg("readings are missing").into());
            };
            let request = riders[index].request;
            let columns = request.positions();
            let sweep = match &mut sweeps[index] {
                Some(sweep) => sweep,
                none => {
                    let (base, source) = (ends[0], ends[1]);
                    meter.tell(index, Progress::Baselines(source, base))?;
                    let known = known_cells(network, request, base, source);
                    meter.tell(index, Progress::Cells(&known))?;
                    // Cells that are not known are filled in below.
                    let mut cells = vec![vec![base; columns.len()]; network.config.n_layers];
                    put(&mut cells, columns.start, &known);
                    none.insert(Sweep { base, source, cells })
                }
            };
            let computed: Vec<_> = cells.into_iter().zip(computed).collect();
            meter.tell(index, Progress::Cells(&computed))?;
            put(&mut sweep.cells, columns.start, &computed);
        }
    }
    let whole: Option<Vec<_>> = sweeps.into_iter().collect();
    Ok(whole.ok_or_else(|| candle_core::Error::msg("a plan has at least one pass"))?)
}

/// The cells whose results are known beforehand.
fn known_cells(
    network: &Network,
    request: &Request,
    base: Reading,
    source: Reading,
) -> Vec<(Cell, Reading)> {
    let all = request.positions().flat_map(|position| {
        (0..network.config.n_layers).map(move |layer| Cell { layer, position })
    });
    let known = all.filter_map(|cell| {
        Some(match plan::known(&network.config, request, cell)? {
            Known::Source => (cell, source),
            Known::Base => (cell, base),
        })
    });
    known.collect()
}

fn put(cells: &mut [Vec<Reading>], start: usize, readings: &[(Cell, Reading)]) {
    for &(cell, reading) in readings {
        cells[cell.layer][cell.position - start] = reading;
    }
}

/// Some of a sweep's cells on their way through the layers.
struct Run<'a> {
    request: &'a Request,
    cells: &'a [Cell],
    /// Both unpatched runs, the base first, `[base + source, d_model]`.
    runs: Tensor,
    wave: Wave,
}

impl<'a> Run<'a> {
    fn start(network: &Network, rider: Rider<'a>, cells: &'a [Cell]) -> Result<Self> {
        let Rider { request, plan } = rider;
        let (base, source) = (&request.alignment.base, &request.alignment.source);
        let runs = Tensor::cat(&[network.embed(base)?, network.embed(source)?], 0)?;
        let wave = Wave { n_base: base.len(), n_tile_rows: plan.n_tile_rows, tiles: Vec::new() };
        Ok(Self { request, cells, runs, wave })
    }

    /// Takes everything through the block of `layer`.
    fn advance(
        &mut self,
        network: &Network,
        layer: usize,
        block: &Block,
        rotary: &Rotary,
        meter: &mut Meter,
    ) -> std::result::Result<(), SweepError> {
        let Self { request, runs, wave, .. } = self;
        let config = &network.config;
        let alignment = &request.alignment;
        let (n_base, n_source) = (alignment.base.len(), alignment.source.len());
        let spans = [Span { start: 0, len: n_base }, Span { start: 0, len: n_source }];
        let runs = &*runs;
        let attended = block.attend(runs, rotary, &spans, None, Outputs::All)?;
        let attn_out = attended.attn_out;
        let mid = (runs + &attn_out)?;
        let mlp_out = block.mlp(runs, &mid)?;
        let post = (&mid + &mlp_out)?;
        meter.add(plan::block_cost(config, &spans, false))?;
        let prefix = KeysValues {
            keys: attended.keys_values.keys.narrow(0, 0, n_base)?,
            values: attended.keys_values.values.narrow(0, 0, n_base)?,
        };

        let joining: Vec<_> =
            self.cells.iter().copied().filter(|cell| cell.layer == layer).collect();
        // The joining cells' rows of an activation, from the base run or from the source run.
        let pick = |activation: &Tensor, row: &dyn Fn(&Cell) -> usize| {
            let rows: Vec<_> = joining.iter().map(|cell| row(cell) as u32).collect();
            activation.index_select(&Tensor::new(rows, network.device())?, 0)
        };
        let from_base = |activation: &Tensor| pick(activation, &|cell| cell.position);
        let from_source = |activation: &Tensor| {
            pick(activation, &|cell| n_base + alignment.source_position(cell.position))
        };
        let after_mlp = |mid: Tensor| &mid + block.mlp(&from_base(runs)?, &mid)?;

        let only_last = layer + 1 == config.n_layers;
        let outputs = if only_last { Outputs::Last } else { Outputs::All };
        if !joining.is_empty() && request.site == Site::ResidPre {
            wave.join(&joining, runs, &from_source(runs)?)?;
        }
        wave.advance(network, block, rotary, &prefix, outputs, meter)?;
        if !joining.is_empty() {
            let patched = match request.site {
                Site::ResidPre => None,
                Site::AttnOut => Some(after_mlp((from_base(runs)? + from_source(&attn_out)?)?)?),
                Site::ResidMid => Some(after_mlp(from_source(&mid)?)?),
                Site::MlpOut => Some((from_base(&mid)? + from_source(&mlp_out)?)?),
                Site::ResidPost => Some(from_source(&post)?),
            };
            if let Some(patched) = patched {
                wave.join(&joining, &post, &patched)?;
            }
        }
        self.runs = post;
        Ok(())
    }

    /// The cells in the order of their rows, and the final residual streams `[2 + cells, d_model]`
    /// of the base, the source and each cell.
    fn finish(self) -> Result<(Vec<Cell>, Tensor)> {
        let n_base = self.request.alignment.base.len();
        let n_source = self.request.alignment.source.len();
        let [base, source] =
            [n_base - 1, n_base + n_source - 1].map(|row| self.runs.narrow(0, row, 1));
        let (mut rows, mut order) = (vec![base?, source?], Vec::with_capacity(self.cells.len()));
        for tile in self.wave.tiles {
            rows.push(tile.x);
            order.extend(tile.cells);
        }
        Ok((order, Tensor::cat(&rows, 0)?))
    }
}

/// All patched runs of a pass.
struct Wave {
    n_base: usize,
    n_tile_rows: usize,
    tiles: Vec<Tile>,
}

/// Some patched runs, which go through a block together.
struct Tile {
    cells: Vec<Cell>,
    /// The positions of each cell, from its patch to the end.
    spans: Vec<Span>,
    /// Their residual streams, `[rows, d_model]`.
    x: Tensor,
}

impl Wave {
    /// Adds cells whose patched rows are `patched` `[cells, d_model]`; the rows after them are
    /// those of `base`, whose first rows are the base run's.
    fn join(&mut self, cells: &[Cell], base: &Tensor, patched: &Tensor) -> Result<()> {
        let n_base = self.n_base;
        let table = Tensor::cat(&[&base.narrow(0, 0, n_base)?, patched], 0)?;
        let mut next = 0;
        while next < cells.len() {
            let n_taken = self.tiles.last().map_or(0, |tile| n_rows(&tile.spans));
            let begins = n_taken == 0 || n_taken + n_base - cells[next].position > self.n_tile_rows;
            let mut n = if begins { 0 } else { n_taken };
            let begin = next;
            while next < cells.len()
                && (n == 0 || n + n_base - cells[next].position <= self.n_tile_rows)
            {
                n += n_base - cells[next].position;
                next += 1;
            }
            let rows: Vec<_> = (begin..next)
                .flat_map(|i| {
                    let later = cells[i].position + 1..n_base;
                    std::iter::once(n_base + i).chain(later).map(|row| row as u32)
                })
                .collect();
            let x = table.index_select(&Tensor::new(rows, table.device())?, 0)?;
            let cells = &cells[begin..next];
            let spans =
                cells.iter().map(|cell| Span { start: cell.position, len: n_base - cell.position });
            match self.tiles.last_mut().filter(|_| !begins) {
                Some(tile) => {
                    tile.x = Tensor::cat(&[&tile.x, &x], 0)?;
                    tile.cells.extend(cells);
                    tile.spans.extend(spans);
                }
                None => {
                    let (cells, spans) = (cells.to_vec(), spans.collect());
                    self.tiles.push(Tile { cells, spans, x });
                }
            }
        }
        Ok(())
    }

    /// Takes every tile through a block. With [`Outputs::Last`] a tile keeps one row a cell.
    fn advance(
        &mut self,
        network: &Network,
        block: &Block,
        rotary: &Rotary,
        prefix: &KeysValues,
        outputs: Outputs,
        meter: &mut Meter,
    ) -> std::result::Result<(), SweepError> {
        for tile in &mut self.tiles {
            let attn_out =
                block.attend(&tile.x, rotary, &tile.spans, Some(prefix), outputs)?.attn_out;
            if outputs == Outputs::Last {
                tile.x = tile.x.index_select(&last_rows(&tile.spans, network.device())?, 0)?;
            }
            let mid = (&tile.x + attn_out)?;
            let mlp_out = block.mlp(&tile.x, &mid)?;
            tile.x = (mid + mlp_out)?;
            let only_last = outputs == Outputs::Last;
            meter.add(plan::block_cost(&network.config, &tile.spans, only_last))?;
        }
        Ok(())
    }
}

/// Counts operations and reports the share done.
struct Meter<'a, 'b> {
    done: f64,
    total: f64,
    tell: &'a mut Tell<'b>,
}

impl Meter<'_, '_> {
    fn add(&mut self, operations: f64) -> std::result::Result<(), SweepError> {
        self.done += operations;
        self.tell(0, Progress::Share((self.done / self.total).min(1.0)))
    }

    fn tell(&mut self, index: usize, progress: Progress) -> std::result::Result<(), SweepError> {
        match (self.tell)(index, progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(SweepError::Cancelled),
        }
    }
}
