//! Carries out a [`Program`]: unpatched runs and trials advance together, layer by layer, and each
//! layer's weights are visited once a wave.
//!
//! Left of its first edit a trial is its base run, so there its attention reads the keys and values
//! of the base run, which that same layer has just computed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{Result, Tensor};
use shared::specification::vocabulary::Site;
use shared::specification::{Run, Specification};

use super::certificate::{Certificate, Check, Checker};
use super::device_spans::BatchSpans;
use super::lens::{Lens, LensReading};
use super::means::{self, Means};
use super::program::{Batch, Program, needs, runs_readout, trials_readout};
use super::readout::{self, ReadRow, Reading, RowReading};
use super::runs::n_read;
use super::tile_threads::{Lanes, TileThreads};
use super::wave_plan::{Entering, Put, PutValue, Sites, Wave};
use super::{SweepError, cost};
use crate::model::{
    Block, BlockRows, DeviceSpans, Kernels, KeysValues, Network, Rotary, Shared, Slice, Uploaded,
    index, put_rows, standard_normal,
};

/// What a sweep says while it runs.
#[derive(Debug, Clone, Copy)]
pub enum Progress<'a> {
    /// The share of the whole table that is done, from 0 to 1.
    Share(f64),
    /// All runs of a pair are known.
    Runs {
        /// An index into the table.
        pair: usize,
        /// In the order of the pair's runs.
        readings: &'a [Reading],
    },
    /// Trials of a pair are known; those of a wave all at once.
    Trials {
        /// An index into the table.
        pair: usize,
        /// Trials with their readings.
        readings: &'a [(usize, Reading)],
    },
    /// Everything about a pair is known. The pairs of a batch are, one after another, when the batch
    /// is done.
    Pair {
        /// An index into the table.
        pair: usize,
        /// All of its readings.
        readings: &'a Readings,
    },
}

/// Hears how far a sweep is, and may break it off.
pub type Listener<'a> = dyn FnMut(Progress) -> ControlFlow<()> + 'a;

/// The readings of one pair.
#[derive(Debug, Clone, Default)]
pub struct Readings {
    /// Of every run.
    pub runs: Vec<Reading>,
    /// Of every trial.
    pub trials: Vec<Reading>,
    /// What the logit lens shows of base and source, where it was asked for.
    pub lens: Vec<LensReading>,
    /// What was checked, where that was asked for.
    pub certificate: Option<Certificate>,
}

/// Runs `program`, which must have been compiled from `table` for this network. Returns the
/// readings of every pair.
///
/// # Errors
/// [`SweepError::Cancelled`] if `listener` broke it off, or what candle reports.
pub fn run(
    network: &Network,
    table: &[&Specification],
    program: &Program,
    listener: &mut Listener,
) -> std::result::Result<Vec<Readings>, SweepError> {
    let rotary = Rotary::new(&network.config, program.n_positions(), &network.placement)?;
    let mut meter = Meter { done: 0.0, total: program.operations.done, listener };
    let means = Means::compute(network, program)?;
    let n_at_once = network.placement.kernels.n_tiles_at_once(program.n_at_once());
    let threads = TileThreads::new(n_at_once)?;
    let resources = Resources { network, rotary: &rotary, means: &means, threads: &threads };
    meter.add(means::operations(&network.config, program))?;
    let mut all = Vec::with_capacity(table.len());
    for batch in &program.batches {
        let readings = run_batch(resources, table, program, batch, &mut meter)?;
        for (pair, readings) in batch.pairs.clone().zip(&readings) {
            meter.say(Progress::Pair { pair, readings })?;
        }
        all.extend(readings);
    }
    Ok(all)
}

/// What batches compute with.
#[derive(Clone, Copy)]
pub struct Resources<'a> {
    /// The model.
    pub network: &'a Network,
    /// For every position.
    pub rotary: &'a Rotary,
    /// What is written where means are.
    pub means: &'a Means,
    /// The tiles'.
    pub threads: &'a TileThreads,
}

/// Runs one batch. What checks it goes through the layers with its first wave.
fn run_batch(
    resources: Resources,
    table: &[&Specification],
    program: &Program,
    batch: &Batch,
    meter: &mut Meter,
) -> std::result::Result<Vec<Readings>, SweepError> {
    let alone: Vec<_> = batch.checks.iter().map(|check| [&check.alone]).collect();
    let checks = batch.checks.iter().zip(&alone);
    let checks = checks.map(|(check, alone)| Checker::new(resources, check, [table, alone]));
    let mut checks = checks.collect::<Result<Vec<_>>>()?;
    let n_check_waves = batch.checks.iter().map(Check::n_passes).max().unwrap_or(0);
    let mut engine = Engine::new(resources, table, batch, program.n_readout_rows)?;
    let n_waves = batch.waves.len();
    for pass in 0..n_waves.max(n_check_waves) {
        if pass < n_waves {
            engine.begin_wave(pass)?;
        }
        for check in &mut checks {
            check.begin_pass(pass)?;
        }
        let mut blocks = resources.network.blocks();
        // Blocks that are read are there one at a time.
        let n_at_once = if resources.network.is_streamed() { 1 } else { usize::MAX };
        let mut first = 0;
        loop {
            let blocks: Vec<_> = blocks.by_ref().take(n_at_once).collect::<Result<_>>()?;
            if blocks.is_empty() {
                break;
            }
            if pass < n_waves {
                engine.advance(first, &blocks, &mut |operations| meter.add(operations))?;
            }
            for check in &mut checks {
                check.advance(pass, first, &blocks, &mut || meter.add(0.0))?;
            }
            first += blocks.len();
        }
        if pass < n_waves {
            engine.end_wave(meter)?;
        }
        for check in &mut checks {
            check.end_pass(pass)?;
        }
    }
    let mut readings = engine.readings;
    for (checker, check) in checks.into_iter().zip(&batch.checks) {
        let of_pair = &mut readings[check.pair - batch.pairs.start];
        of_pair.certificate = Some(checker.finish(of_pair)?);
        meter.add(check.operations())?;
    }
    Ok(readings)
}

/// Counts operations and reports the share done.
struct Meter<'a, 'b> {
    done: f64,
    total: f64,
    listener: &'a mut Listener<'b>,
}

impl Meter<'_, '_> {
    fn add(&mut self, operations: f64) -> std::result::Result<(), SweepError> {
        self.done += operations;
        self.say(Progress::Share((self.done / self.total).min(1.0)))
    }

    fn say(&mut self, progress: Progress) -> std::result::Result<(), SweepError> {
        match (self.listener)(progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(SweepError::Cancelled),
        }
    }
}

/// What is read of the unpatched runs in one layer.
struct RunLayer {
    /// Activations, `[run rows, width]`.
    activations: BTreeMap<Site, Tensor>,
    shared: KeysValues,
}

impl RunLayer {
    fn rows(&self, site: Site, indices: &Uploaded, rows: Slice) -> Result<Tensor> {
        match self.activations.get(&site) {
            Some(activation) => indices.select(activation, rows),
            None => candle_core::bail!("`{site}` of the runs was not kept"),
        }
    }
}

/// One batch at work.
pub struct Engine<'a> {
    resources: Resources<'a>,
    table: &'a [&'a Specification],
    batch: &'a Batch,
    indices: Uploaded,
    /// For devices alone.
    spans: Option<BatchSpans>,
    n_readout_rows: usize,
    /// What any wave reads of the runs, by layer.
    needs: Vec<Sites>,
    /// What is read of the runs in each layer, from when it is known until no tile of this wave, or of
    /// any where it is kept, has to read it.
    run_layers: Vec<Mutex<Option<Arc<RunLayer>>>>,
    /// The final residual stream of each run where it is first read, once it is known.
    references: Option<Tensor>,
    lens: Mutex<Option<Lens>>,
    /// Which wave is on its way.
    number: usize,
    /// The runs' residual streams `[run rows, d_model]` as far as they have come, unless what was kept
    /// of them serves.
    runs: Mutex<Option<Tensor>>,
    /// The residual streams of each tile, `[rows, d_model]`.
    tiles: Vec<Mutex<Option<Tensor>>>,
    /// What is known so far, of each pair.
    pub readings: Vec<Readings>,
}

impl<'a> Engine<'a> {
    /// A batch before its first wave.
    ///
    /// # Errors
    /// What candle reports.
    pub fn new(
        resources: Resources<'a>,
        table: &'a [&'a Specification],
        batch: &'a Batch,
        n_readout_rows: usize,
    ) -> Result<Self> {
        let network = resources.network;
        let (spans, indices) = match network.placement.kernels {
            Kernels::Own => (None, batch.indices.upload(network.device())?),
            kernels => {
                let mut indices = batch.indices.clone();
                let spans = BatchSpans::new(batch, &mut indices, kernels);
                (Some(spans), indices.upload(network.device())?)
            }
        };
        Ok(Self {
            resources,
            table,
            batch,
            indices,
            spans,
            n_readout_rows,
            needs: needs(&batch.waves, network.config.n_layers),
            run_layers: (0..network.config.n_layers).map(|_| Mutex::new(None)).collect(),
            references: None,
            lens: Mutex::new(Lens::new(table, batch)),
            number: 0,
            runs: Mutex::new(None),
            tiles: Vec::new(),
            readings: Vec::new(),
        })
    }

    /// Begins the wave `number`.
    ///
    /// # Errors
    /// What candle reports.
    pub fn begin_wave(&mut self, number: usize) -> Result<()> {
        let runs = &self.batch.runs;
        self.number = number;
        self.tiles = self.batch.waves[number].tiles.iter().map(|_| Mutex::new(None)).collect();
        self.runs = Mutex::new(match number == 0 || !self.batch.keeps_runs {
            true => Some(self.resources.network.embed(&runs.tokens, &runs.positions)?),
            false => None,
        });
        Ok(())
    }

    /// Takes runs and trials through consecutive `blocks`, the first of which is that of layer `first`.
    /// Each tile goes on by itself, behind the runs. `count` hears of operations.
    ///
    /// # Errors
    /// What candle or `count` reports.
    pub fn advance(
        &mut self,
        first: usize,
        blocks: &[Arc<Block>],
        count: &mut dyn FnMut(f64) -> std::result::Result<(), SweepError>,
    ) -> std::result::Result<(), SweepError> {
        let wave = &self.batch.waves[self.number];
        let of_runs =
            cost::BlockCost::new(&self.resources.network.config).runs(&self.batch.runs.spans);
        let end = first + blocks.len();
        // The last tile that has gone through a layer tells.
        let n_left: Vec<_> = blocks.iter().map(|_| AtomicUsize::new(self.tiles.len())).collect();
        let step = |lane: usize, layer: usize| {
            let block = &blocks[layer - first];
            let Some(tile) = lane.checked_sub(1) else {
                return self.advance_runs(block, layer);
            };
            self.advance_tile(block, layer, tile)?;
            let is_last = n_left[layer - first].fetch_sub(1, Ordering::AcqRel) == 1;
            if is_last && !self.batch.keeps_runs {
                locked(&self.run_layers[layer]).take();
            }
            Ok(())
        };
        let mut done = |lane: usize, layer: usize| match lane.checked_sub(1) {
            Some(tile) => count(wave.tiles[tile].layers[layer].operations),
            None => count(of_runs),
        };
        let (mut runs_end, mut begin) = (first, first);
        if locked(&self.runs).is_none() {
            runs_end = end;
        }
        // All threads divide what the runs do before anybody else has anything to do.
        while runs_end < end {
            step(0, runs_end)?;
            done(0, runs_end)?;
            runs_end += 1;
            if wave.tiles.iter().any(|tile| tile.layers[begin].operations > 0.0) {
                break;
            }
            for lane in 1..=self.tiles.len() {
                step(lane, begin)?;
                done(lane, begin)?;
            }
            begin += 1;
        }
        let lanes = Lanes::new(runs_end, self.tiles.len(), begin, end);
        self.resources.threads.advance(wave.n_at_once, lanes, step, done)
    }

    /// Reads what has come through all layers.
    fn end_wave(&mut self, meter: &mut Meter) -> std::result::Result<(), SweepError> {
        let config = &self.resources.network.config;
        let ends = locked(&self.runs).take();
        if let (0, Some(ends)) = (self.number, ends) {
            let known = self.read_runs(&ends)?;
            meter.add(runs_readout(config, self.table, &self.batch.pairs))?;
            self.begin(&known, meter)?;
        }
        let wave = &self.batch.waves[self.number];
        let trials = self.read_trials(wave)?;
        meter.add(trials_readout(config, self.table, wave))?;
        self.finish(wave, trials, meter)
    }

    /// The same with nobody to hear of it.
    ///
    /// # Errors
    /// What candle reports.
    pub fn end_wave_silently(&mut self) -> std::result::Result<(), SweepError> {
        let listener = &mut |_: Progress| ControlFlow::Continue(());
        self.end_wave(&mut Meter { done: 0.0, total: 1.0, listener })
    }

    /// Takes the unpatched runs through a block.
    fn advance_runs(&self, block: &Block, layer: usize) -> Result<()> {
        let Some(x) = locked(&self.runs).take() else {
            candle_core::bail!("the runs are not here")
        };
        let runs = &self.batch.runs;
        let needed = match self.batch.keeps_runs {
            true => self.needs[layer],
            false => self.batch.waves[self.number].needs[layer],
        };
        let positions = self.indices.get(self.batch.run_positions)?;
        let order = self.batch.order.map(|order| self.indices.get(order)).transpose()?;
        let rows = BlockRows {
            spans: &runs.spans,
            on_device: self.on_device(|spans| &spans.runs),
            own_positions: &positions,
            query_positions: &positions,
            query_rows: None,
            appended: None,
        };
        let mut activations = BTreeMap::new();
        let puts = &self.batch.run_puts[layer];
        let mut hook = |site: Site, x: Option<Tensor>| {
            let Some(mut x) = x else { return Ok(None) };
            for put in puts.iter().filter(|put| put.site == site) {
                // A run may copy from another in the same matrix.
                let from = |rows: Slice| self.indices.select(&x, rows);
                x = self.put(put, layer, x.clone(), &from)?;
            }
            if needed.has(site) {
                activations.insert(site, x.clone());
            }
            Ok(Some(x))
        };
        let shared = Shared::These(order.as_ref());
        let (post, shared) =
            block.run(Some(x), None, rows, shared, self.resources.rotary, &mut hook)?;
        match (post, shared) {
            (Some(post), Some(shared)) => {
                if let (0, Some(lens)) = (self.number, &mut *locked(&self.lens)) {
                    lens.keep(&post)?;
                }
                if self.batch.keeps_runs || !self.tiles.is_empty() {
                    let run_layer = RunLayer { activations, shared };
                    *locked(&self.run_layers[layer]) = Some(Arc::new(run_layer));
                }
                *locked(&self.runs) = Some(post);
                Ok(())
            }
            _ => candle_core::bail!("a batch without runs"),
        }
    }

    /// Takes a tile's residual streams `[rows, d_model]` through a block, with those that enter there. In
    /// the last layer what comes out are the rows that are read.
    fn advance_tile(&self, block: &Block, layer: usize, number: usize) -> Result<()> {
        let Some(runs) = locked(&self.run_layers[layer]).clone() else {
            candle_core::bail!("the runs have not come through layer {layer}")
        };
        let tile = &self.batch.waves[self.number].tiles[number];
        let work = &tile.layers[layer];
        let x = locked(&self.tiles[number]).take();
        let x = match work.embedded.is_empty() {
            true => x,
            false => Some(runs.rows(Site::ResidPre, &self.indices, work.embedded)?),
        };
        let entered = match &work.entering {
            Some(entering) => Some(self.enter(block, layer, number, entering, &runs)?),
            None => None,
        };
        let after = match x {
            Some(x) => self.travel(block, layer, number, x, entered.as_ref(), &runs)?,
            None => entered,
        };
        *locked(&self.tiles[number]) = after;
        Ok(())
    }

    /// The rows `[rows, d_model]` after a block of the trials that are `x` before it, and then
    /// those that `entered` within it.
    fn travel(
        &self,
        block: &Block,
        layer: usize,
        number: usize,
        x: Tensor,
        entered: Option<&Tensor>,
        runs: &RunLayer,
    ) -> Result<Option<Tensor>> {
        let tile = &self.batch.waves[self.number].tiles[number];
        let work = &tile.layers[layer];
        let on_device = self.on_device(|spans| &spans.waves[self.number][number][layer].travelling);
        let positions = self.indices.get(tile.positions.first(work.n_rows))?;
        let is_last = layer + 1 == self.resources.network.config.n_layers;
        let (query_positions, query_rows);
        let rows = if is_last {
            query_positions = self.indices.get(tile.last.positions)?;
            query_rows = self.indices.get(tile.last.rows)?;
            BlockRows {
                spans: &tile.last.spans,
                on_device,
                own_positions: &positions,
                query_positions: &query_positions,
                query_rows: Some(&query_rows),
                appended: entered,
            }
        } else {
            BlockRows {
                spans: &tile.spans[..work.n_travelling],
                on_device,
                own_positions: &positions,
                query_positions: &positions,
                query_rows: None,
                appended: entered,
            }
        };
        let mut hook = |site: Site, x: Option<Tensor>| match x {
            Some(x) => self.put_all(&work.puts, site, layer, x, runs).map(Some),
            None => Ok(None),
        };
        let shared = Shared::Of(&runs.shared);
        Ok(block.run(Some(x), None, rows, shared, self.resources.rotary, &mut hook)?.0)
    }

    /// The rows `[rows, d_model]` after a block of the trials that enter within it.
    fn enter(
        &self,
        block: &Block,
        layer: usize,
        number: usize,
        entering: &Entering,
        runs: &RunLayer,
    ) -> Result<Tensor> {
        let own_positions = self.indices.get(entering.own_positions)?;
        let query_positions = self.indices.get(entering.query_positions)?;
        let rows = BlockRows {
            spans: &entering.spans,
            on_device: self.on_device(|spans| &spans.waves[self.number][number][layer].entering),
            own_positions: &own_positions,
            query_positions: &query_positions,
            query_rows: None,
            appended: None,
        };
        let mut hook = |site: Site, x: Option<Tensor>| {
            let mut parts = Vec::from_iter(x);
            if site == Site::ResidPost && !entering.after_mlp.is_empty() {
                let rows = entering.after_mlp;
                let mlp_out = runs.rows(Site::MlpOut, &self.indices, rows)?;
                let puts = &entering.puts_after_mlp;
                let mlp_out = self.put_all(puts, Site::MlpOut, layer, mlp_out, runs)?;
                parts.push((runs.rows(Site::ResidMid, &self.indices, rows)? + mlp_out)?);
            }
            for (_, rows) in entering.rows.iter().filter(|(entry, _)| *entry == site) {
                parts.push(runs.rows(site, &self.indices, *rows)?);
            }
            let x = match parts.len() {
                0 => return Ok(None),
                1 => parts.remove(0),
                _ => Tensor::cat(&parts, 0)?,
            };
            self.put_all(&entering.puts, site, layer, x, runs).map(Some)
        };
        // Those that enter after the MLP alone need no residual stream.
        let residual = match runs.activations.get(&Site::ResidPre) {
            Some(pre) if !entering.residual.is_empty() => {
                Some(self.indices.select(pre, entering.residual)?)
            }
            _ => None,
        };
        let shared = Shared::Of(&runs.shared);
        let changed =
            block.run(None, residual.as_ref(), rows, shared, self.resources.rotary, &mut hook)?.0;
        let Some(post) = runs.activations.get(&Site::ResidPost) else {
            candle_core::bail!("the runs' residual stream was not kept")
        };
        match changed {
            Some(changed) => {
                self.indices.select(&Tensor::cat(&[post, &changed], 0)?, entering.result)
            }
            None => self.indices.select(post, entering.result),
        }
    }

    /// Spans for the device with their row numbers, where they are prepared.
    fn on_device(
        &self,
        which: impl FnOnce(&BatchSpans) -> &DeviceSpans,
    ) -> Option<(&DeviceSpans, &Uploaded)> {
        self.spans.as_ref().map(|spans| (which(spans), &self.indices))
    }

    fn put_all(
        &self,
        puts: &[Put],
        site: Site,
        layer: usize,
        mut x: Tensor,
        runs: &RunLayer,
    ) -> Result<Tensor> {
        for put in puts.iter().filter(|put| put.site == site) {
            let from = |rows: Slice| {
                let Some(activation) = runs.activations.get(&site) else {
                    candle_core::bail!("`{site}` of the runs was not kept")
                };
                let width =
                    if put.by_head { self.resources.network.config.d_head } else { x.dim(1)? };
                self.indices.select(&by_width(activation, width)?, rows)
            };
            x = self.put(put, layer, x.clone(), &from)?;
        }
        Ok(x)
    }

    /// Writes into the activation `x` `[rows, width]`, with rows of the runs as `from` has them.
    fn put(
        &self,
        put: &Put,
        layer: usize,
        x: Tensor,
        from: &dyn Fn(Slice) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let dims = x.dims2()?;
        let device = self.resources.network.device();
        let width = if put.by_head { self.resources.network.config.d_head } else { dims.1 };
        let rows = self.indices.get(put.rows)?;
        let values = match &put.value {
            PutValue::Rows(slice) => from(*slice)?,
            PutValue::Zero => Tensor::zeros((rows.elem_count(), width), x.dtype(), device)?,
            PutValue::Mean(over, heads) => {
                let mean = self.resources.means.get(over, layer, put.site)?;
                self.indices.select(&by_width(mean, width)?, *heads)?
            }
            PutValue::Noise(seeds, scale) => {
                let std = self.resources.network.embedding_std()? * f64::from(*scale);
                let noise = standard_normal(seeds, width, device)?;
                let there = x.index_select(&rows, 0)?;
                (&there + (noise * std)?.to_dtype(x.dtype())?)?
            }
        };
        let x = put_rows(
            by_width(&x, width)?,
            &rows,
            &values,
            self.resources.network.placement.kernels,
        )?;
        x.reshape(dims)
    }

    /// Reads the rows of all runs, `ends` `[run rows, d_model]`, and what is known of trials, which
    /// are compared to bases of their own.
    fn read_runs(&mut self, ends: &Tensor) -> Result<BTreeMap<usize, Vec<(usize, Reading)>>> {
        let batch = self.batch;
        // Which run is read, and as a trial of which base.
        let (mut reads, mut references) = (Vec::new(), Vec::new());
        for (&first, pair) in batch.first_run.iter().zip(batch.pairs.clone()) {
            for run in 0..self.table[pair].runs.len() {
                reads.push((pair, run, Specification::BASE));
                references.push(batch.runs.last(first + run, n_read(self.run_of(pair, run)))[0]);
            }
        }
        let n_runs = reads.len();
        let known = batch.known.iter().map(|&(pair, trial, run)| {
            let first = batch.first_run[pair - batch.pairs.start];
            (trial, (pair, run - first, self.table[pair].trials[trial].base))
        });
        let known: Vec<_> = known.collect();
        reads.extend(known.iter().map(|&(_, read)| read).collect::<BTreeSet<_>>());
        let (mut rows, mut at) = (Vec::new(), Vec::new());
        for &(pair, run, base) in &reads {
            let first = batch.first_run[pair - batch.pairs.start];
            let of = self.run_of(pair, run);
            at.extend(batch.runs.last(first + run, n_read(of)));
            rows.extend(ReadRow::of_run(self.table[pair], of, true, self.references(pair, base)));
        }
        let device = self.resources.network.device();
        let select = |rows: Vec<usize>| ends.index_select(&index(rows, device)?, 0);
        let references = select(references)?;
        let x = select(at)?;
        let read = readout::read(
            self.resources.network,
            &x,
            &rows,
            Some(&references),
            self.n_readout_rows,
        )?;
        let mut read = read.into_iter();
        let readings = reads.iter().map(|&(pair, run, _)| {
            let run = self.run_of(pair, run);
            let rows: Vec<_> = read.by_ref().take(n_read(run)).collect();
            RowReading::of_run(&rows, self.table[pair], run)
        });
        let mut readings: Vec<_> = readings.collect();
        let of_known: BTreeMap<_, _> =
            reads[n_runs..].iter().copied().zip(readings.split_off(n_runs)).collect();
        let mut readings = readings.into_iter();
        let pairs = batch.pairs.clone().map(|pair| Readings {
            runs: readings.by_ref().take(self.table[pair].runs.len()).collect(),
            ..Readings::default()
        });
        let mut pairs: Vec<_> = pairs.collect();
        let mut known_by_pair: BTreeMap<usize, Vec<(usize, Reading)>> = BTreeMap::new();
        for (trial, read) in known {
            let mut reading = of_known[&read].clone();
            if !self.table[read.0].metrics.vocabulary {
                reading.vocabulary = None;
            }
            known_by_pair.entry(read.0).or_default().push((trial, reading));
        }
        let lens = locked(&self.lens).take();
        if let Some(lens) = lens {
            let read = lens.read(self.resources.network, self.table, batch, self.n_readout_rows)?;
            for (pair, lens) in read {
                pairs[pair - batch.pairs.start].lens = lens;
            }
        }
        (self.readings, self.references) = (pairs, Some(references));
        Ok(known_by_pair)
    }

    fn run_of(&self, pair: usize, run: usize) -> &Run {
        &self.table[pair].runs[run]
    }

    /// The runs to which a trial of `pair` is compared: its base and the source.
    fn references(&self, pair: usize, base: usize) -> [Option<usize>; 2] {
        let first = self.batch.first_run[pair - self.batch.pairs.start];
        let counterpart = self.table[pair].counterpart(base);
        [Some(first + base), counterpart.map(|run| first + run)]
    }

    /// Reads the trials of a wave from what came out of its tiles.
    fn read_trials(&mut self, wave: &Wave) -> Result<Vec<Reading>> {
        let tiles = std::mem::take(&mut self.tiles).into_iter();
        let tiles: Vec<_> =
            tiles.filter_map(|x| x.into_inner().unwrap_or_else(PoisonError::into_inner)).collect();
        if tiles.is_empty() {
            return Ok(Vec::new());
        }
        let x = Tensor::cat(&tiles, 0)?;
        let mut rows = Vec::new();
        for traveller in &wave.travellers {
            let specification = self.table[traveller.pair];
            let first = self.batch.first_run[traveller.pair - self.batch.pairs.start];
            let base = traveller.run - first;
            let whole = specification.metrics.vocabulary;
            let compared = match whole {
                true => self.references(traveller.pair, base),
                false => [None; 2],
            };
            rows.extend(ReadRow::of_run(specification, &specification.runs[base], whole, compared));
        }
        if x.dim(0)? != rows.len() {
            candle_core::bail!("{} rows came out of a wave of {}", x.dim(0)?, rows.len())
        }
        let references = self.references.as_ref();
        let read =
            readout::read(self.resources.network, &x, &rows, references, self.n_readout_rows)?;
        let mut read = read.into_iter();
        let readings = wave.travellers.iter().map(|traveller| {
            let specification = self.table[traveller.pair];
            let first = self.batch.first_run[traveller.pair - self.batch.pairs.start];
            let rows: Vec<_> = read.by_ref().take(traveller.n_read).collect();
            let run = &specification.runs[traveller.run - first];
            let reading = RowReading::of_run(&rows, specification, run);
            // A continuation's normaliser needs the whole vocabulary even where nobody asked for it.
            let vocabulary = reading.vocabulary.filter(|_| specification.metrics.vocabulary);
            Reading { vocabulary, ..reading }
        });
        Ok(readings.collect())
    }

    /// Hands out what is known once the runs are read.
    fn begin(
        &mut self,
        known: &BTreeMap<usize, Vec<(usize, Reading)>>,
        meter: &mut Meter,
    ) -> std::result::Result<(), SweepError> {
        for (pair, readings) in self.batch.pairs.clone().zip(&mut self.readings) {
            meter.say(Progress::Runs { pair, readings: &readings.runs })?;
            // Trials that are not known are filled in later.
            readings.trials = vec![readings.runs[0].clone(); self.table[pair].trials.len()];
            let mut known = known.get(&pair).cloned().unwrap_or_default();
            let finished = self.batch.finished.iter().filter(|(of, _)| *of == pair);
            let finished = finished.flat_map(|(_, finished)| finished);
            known.extend(finished.map(|(&trial, reading)| (trial, reading.clone())));
            for (trial, reading) in &known {
                readings.trials[*trial] = reading.clone();
            }
            meter.say(Progress::Trials { pair, readings: &known })?;
        }
        Ok(())
    }

    /// Hands out the readings of a wave's trials.
    fn finish(
        &mut self,
        wave: &Wave,
        readings: Vec<Reading>,
        meter: &mut Meter,
    ) -> std::result::Result<(), SweepError> {
        let mut by_pair: BTreeMap<usize, Vec<(usize, Reading)>> = BTreeMap::new();
        for (traveller, reading) in wave.travellers.iter().zip(readings) {
            let of_pair = by_pair.entry(traveller.pair).or_default();
            of_pair.extend(traveller.trials.iter().map(|&trial| (trial, reading.clone())));
        }
        for (pair, readings) in by_pair {
            let trials = &mut self.readings[pair - self.batch.pairs.start].trials;
            for (trial, reading) in &readings {
                trials[*trial] = reading.clone();
            }
            meter.say(Progress::Trials { pair, readings: &readings })?;
        }
        Ok(())
    }
}

/// What `of` holds, which is whole even if a thread has panicked meanwhile.
fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A matrix as rows of `width`.
fn by_width(x: &Tensor, width: usize) -> Result<Tensor> {
    x.reshape((x.elem_count() / width.max(1), width))
}
