//! What a table of experiments compiles to: batches of pairs whose runs are unpatched rows of one
//! matrix, and waves of trials that go through the layers with them.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use shared::specification::vocabulary::Site;
use shared::specification::{MeanOver, Run, Specification, Write};

use super::SweepError;
use super::certificate::Check;
use super::check::check;
use super::cost::{self, BlockCost};
use super::means;
use super::reach::{self, Reach};
use super::readout::Reading;
use super::runs::{RunRows, n_read, sequence};
use super::sizes::{Activations, Sizes};
use super::wave_plan::{Put, Puts, Sites, Traveller, Wave};
use crate::model::{Config, Indices, Network, Placement, Slice};

/// How a table is divided.
#[derive(Debug, Clone, Copy)]
pub struct Division {
    /// Bytes that may be taken beyond the weights.
    pub allowed: usize,
    /// The most operations of pairs that share each pass over the layers; a pair that has more goes
    /// alone.
    pub most_operations: f64,
    /// The least number of waves of a batch, where it has as many columns: each wave's results are
    /// known before the next begins.
    pub n_waves: usize,
    /// Whether it goes in fewer than that if its rows do not fill so many rounds of tiles that go
    /// through a block at the same time: then waves cost nothing, and lower ones would, since weights
    /// are read and packed for low tiles as often as for tall ones.
    pub only_tall_waves: bool,
    /// The most rows of a wave, unless one trial has more.
    pub n_wave_rows: usize,
    /// The most rows of a tile, which goes through a block in one piece, likewise.
    pub n_tile_rows: usize,
    /// How many tiles go through a block at the same time, each on a thread of its own, if memory
    /// allows.
    pub n_at_once: usize,
    /// The most rows whose whole vocabulary is read at a time.
    pub n_readout_rows: usize,
    /// How many trials of each pair are checked.
    pub n_verified: usize,
    /// Whether to compute even trials whose results are known, to check them.
    pub computes_all: bool,
    /// How activations are held.
    pub activations: Activations,
}

impl Division {
    /// For a table in `network`, whose weights are `n_stored_bytes` in their files, on a machine that
    /// does `speed` operations a second: a batch is as large as makes it efficient and no larger, so
    /// that results come soon and an interruption costs little.
    pub fn of_table(network: &Network, n_stored_bytes: u64, speed: f64, allowed: usize) -> Self {
        let secs = match network.is_streamed() {
            true => BATCH_SECS.max(READS_PER_BATCH * n_stored_bytes as f64 / READ_BYTES_PER_SEC),
            false => BATCH_SECS,
        };
        Self { most_operations: speed * secs, ..Self::within(allowed).on(&network.placement) }
    }

    /// As large as `allowed` bytes allow, and in as few waves.
    pub fn within(allowed: usize) -> Self {
        Self {
            allowed,
            most_operations: f64::INFINITY,
            n_waves: 1,
            only_tall_waves: false,
            n_wave_rows: usize::MAX,
            n_tile_rows: TILE_ROWS,
            n_at_once: rayon::current_num_threads(),
            n_readout_rows: READOUT_ROWS,
            n_verified: 0,
            computes_all: false,
            activations: Activations::own(),
        }
    }

    /// The same in `n` waves, or, where nothing is said of it, in as many as cost no time.
    #[must_use]
    pub fn in_waves(self, n: Option<usize>) -> Self {
        Self { n_waves: n.unwrap_or(MOST_WAVES), only_tall_waves: n.is_none(), ..self }
    }

    /// The same where `placement` says: what an accelerator does at a time is larger.
    #[must_use]
    pub fn on(self, placement: &Placement) -> Self {
        let activations = Activations::of(placement);
        let n_at_once = placement.kernels.n_tiles_at_once(self.n_at_once);
        match placement.device.is_cpu() {
            true => Self { n_at_once, activations, ..self },
            false => Self {
                n_at_once,
                n_tile_rows: self.n_tile_rows.max(ACCELERATOR_TILE_ROWS),
                activations,
                ..self
            },
        }
    }
}

/// Floating-point operations, a multiply-add counting two.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Operations {
    /// Unpatched runs once, the computed trials, and the readout.
    pub useful: f64,
    /// What is done: more where runs are computed again for a later wave.
    pub done: f64,
}

/// How a table of experiments is carried out.
#[derive(Debug, Clone)]
pub struct Program {
    /// Consecutive pairs that share each pass over the layers.
    pub batches: Vec<Batch>,
    /// The most rows whose whole vocabulary is read at a time.
    pub n_readout_rows: usize,
    /// The most memory beyond the weights, in bytes, by this program's own count.
    pub peak_bytes: usize,
    /// What it costs.
    pub operations: Operations,
}

/// Some consecutive pairs of a table.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Which pairs.
    pub pairs: Range<usize>,
    /// The rows of all of their runs.
    pub runs: RunRows,
    /// What the runs' own edits write.
    pub run_puts: Vec<Vec<Put>>,
    /// The positions of the runs' rows.
    pub run_positions: Slice,
    /// The runs' rows one after another, where they are in another order.
    pub order: Option<Slice>,
    /// The first run of each pair.
    pub first_run: Vec<usize>,
    /// Trials that equal a run, as pair, trial and run.
    pub known: Vec<(usize, usize, usize)>,
    /// Trials that were computed before.
    pub finished: Vec<(usize, Finished)>,
    /// The waves, at least one.
    pub waves: Vec<Wave>,
    /// What is checked of each pair.
    pub checks: Vec<Check>,
    /// Whether what later waves need of the runs is kept, or else computed again.
    pub keeps_runs: bool,
    /// Row numbers that waves and puts refer to.
    pub indices: Indices,
    /// What the batch costs.
    pub operations: Operations,
}

/// Trials of a pair that were computed before, with their readings.
pub type Finished = BTreeMap<usize, Reading>;

/// In how many waves a sweep that somebody watches goes at most, where nothing is said of it.
const MOST_WAVES: usize = 4;
/// The longest that the results of pairs wait for those of the others in their batch, about.
const BATCH_SECS: f64 = 5.0;
/// How many times as long as reading the weights a batch computes: reading no longer dominates.
const READS_PER_BATCH: f64 = 4.0;
/// How fast a disk is taken to be.
const READ_BYTES_PER_SEC: f64 = 1e9;
/// Rows of a tile, if memory allows: enough that the matrix products run at their peak, few enough
/// that what lies between them stays in cache, and that no thread waits long for the last tile.
const TILE_ROWS: usize = 256;
/// The same on accelerators, which need more to be busy.
const ACCELERATOR_TILE_ROWS: usize = 8192;
/// Rows of a vocabulary readout, if memory allows.
const READOUT_ROWS: usize = 1024;

impl Program {
    /// Compiles `table`.
    ///
    /// # Errors
    /// [`SweepError::NoSite`] and the like for what the model lacks, [`SweepError::Memory`] if not
    /// even one trial fits.
    pub fn new(
        config: &Config,
        table: &[&Specification],
        division: &Division,
    ) -> Result<Self, SweepError> {
        Self::going_on(config, table, division, &[])
    }

    /// Compiles what is left of `table`: `finished` has the trials of each pair that were computed
    /// before an interruption; of pairs that it lacks, none.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn going_on(
        config: &Config,
        table: &[&Specification],
        division: &Division,
        finished: &[Finished],
    ) -> Result<Self, SweepError> {
        for specification in table {
            check(config, specification)?;
        }
        let pairs: Vec<_> = (0..table.len())
            .map(|pair| {
                let finished = finished.get(pair).cloned().unwrap_or_default();
                Pair::new(config, table[pair], pair, finished, division.computes_all)
            })
            .collect();
        let mut checks = Vec::new();
        if division.n_verified > 0 {
            // The pair alone takes its share of memory, and the table what it leaves.
            let half = Division { allowed: division.allowed / 2, ..*division };
            for (pair, specification) in table.iter().enumerate() {
                let n = division.n_verified;
                checks.push(Check::new(config, specification, pair, n, &half)?);
            }
        }
        let mut program = Self {
            batches: Vec::new(),
            n_readout_rows: division.n_readout_rows,
            peak_bytes: 0,
            operations: Operations::default(),
        };
        let mut begin = 0;
        while begin < pairs.len() {
            let draft = |end: usize| {
                let checks = checks.get(begin..end).unwrap_or_default();
                Draft::new(config, table, &pairs[begin..end], checks, division)
            };
            let mut best = draft(begin + 1)?;
            // The largest batch that goes in one wave and is not too long; `most` is too many.
            let (mut least, mut most) = (begin + 1, pairs.len() + 1);
            if best.n_waves() > 1 {
                most = least + 1;
            }
            while least + 1 < most {
                let end = least + (most - least).div_ceil(2).min(least - begin);
                match draft(end) {
                    Ok(draft)
                        if draft.n_waves() == 1 && draft.operations <= division.most_operations =>
                    {
                        (best, least) = (draft, end);
                    }
                    Ok(_) | Err(SweepError::Memory { .. }) => most = end,
                    Err(error) => return Err(error),
                }
            }
            let checks = checks.get(begin..least).unwrap_or_default();
            best.compile(config, table, checks, division, &mut program);
            begin = least;
        }
        let means = means::operations(config, &program);
        program.operations.useful += means;
        program.operations.done += means;
        Ok(program)
    }

    /// How many trials are computed; what is known beforehand, and what is the same as another, is
    /// not.
    pub fn n_computed(&self) -> usize {
        self.batches.iter().flat_map(|batch| &batch.waves).map(|wave| wave.travellers.len()).sum()
    }

    /// How often the layers are gone through.
    pub fn n_passes(&self) -> usize {
        let passes = self.batches.iter().map(|batch| {
            let of_checks = batch.checks.iter().map(Check::n_passes).max().unwrap_or(0);
            batch.waves.len().max(of_checks)
        });
        passes.sum()
    }

    /// How many tiles go through a block at the same time, at most.
    pub fn n_at_once(&self) -> usize {
        let waves = self.batches.iter().flat_map(|batch| &batch.waves);
        waves.map(|wave| wave.n_at_once).max().unwrap_or(1)
    }

    /// The longest run.
    pub fn n_positions(&self) -> usize {
        let positions = self.batches.iter().flat_map(|batch| &batch.runs.positions);
        positions.max().map_or(0, |last| last + 1)
    }

    /// The activations whose means are written, by layer.
    pub fn means(&self) -> Vec<(Arc<MeanOver>, usize, Site)> {
        let mut means: Vec<(Arc<MeanOver>, usize, Site)> = Vec::new();
        let of_checks = self.batches.iter().flat_map(|batch| &batch.checks);
        let batches = self.batches.iter().chain(of_checks.flat_map(|check| &check.program.batches));
        let travellers = batches.flat_map(|batch| &batch.waves).flat_map(|wave| &wave.travellers);
        for step in travellers.flat_map(|traveller| &traveller.steps) {
            if let Write::Mean(over) = &step.write {
                let is_known = |(known, layer, site): &(Arc<MeanOver>, usize, Site)| {
                    Arc::ptr_eq(known, over) && (*layer, *site) == (step.layer, step.site)
                };
                if !means.iter().any(is_known) {
                    means.push((over.clone(), step.layer, step.site));
                }
            }
        }
        means
    }
}

/// A pair whose trials are known or to be computed.
struct Pair {
    index: usize,
    known: Vec<(usize, usize)>,
    finished: Finished,
    travellers: Vec<Traveller>,
}

impl Pair {
    fn new(
        config: &Config,
        specification: &Specification,
        index: usize,
        finished: Finished,
        computes_all: bool,
    ) -> Self {
        let (mut known, mut travellers) = (Vec::new(), Vec::<Traveller>::new());
        let mut seen: HashMap<String, usize> = HashMap::new();
        for (i, trial) in specification.trials.iter().enumerate() {
            let mut reach = reach::reach(specification, trial, config.n_layers);
            let all = reach::in_order(&trial.edits, config.n_layers);
            if computes_all && !all.is_empty() {
                reach = Reach::Steps(all);
            }
            match reach {
                Reach::Run(run) => known.push((i, run)),
                Reach::Steps(steps) => {
                    let same = format!("{} {steps:?}", trial.base);
                    if let Some(&at) = seen.get(&same) {
                        travellers[at].trials.push(i);
                        continue;
                    }
                    seen.insert(same, travellers.len());
                    let base = &specification.runs[trial.base];
                    let first = steps.iter().map(|step| step.positions[0]).min().unwrap_or(0);
                    let n = sequence(base).len();
                    travellers.push(Traveller {
                        pair: index,
                        trials: vec![i],
                        run: trial.base,
                        // What is read travels, too.
                        first: first.min(n - n_read(base)),
                        n,
                        n_read: n_read(base),
                        steps,
                    });
                }
            }
        }
        // Column by column, so that a wave finishes whole ones.
        travellers.sort_by_key(|traveller| (traveller.first, traveller.entry()));
        Self { index, known, finished, travellers }
    }
}

/// A batch before it is laid out.
struct Draft {
    pairs: Range<usize>,
    runs: RunRows,
    first_run: Vec<usize>,
    known: Vec<(usize, usize, usize)>,
    finished: Vec<(usize, Finished)>,
    travellers: Vec<Traveller>,
    n_tile_rows: usize,
    n_at_once: usize,
    n_readout_rows: usize,
    n_state_rows: usize,
    keeps_runs: bool,
    peak_bytes: usize,
    operations: f64,
}

impl Draft {
    fn new(
        config: &Config,
        table: &[&Specification],
        pairs: &[Pair],
        checks: &[Check],
        division: &Division,
    ) -> Result<Self, SweepError> {
        let mut runs: Vec<&Run> = Vec::new();
        let (mut first_run, mut known, mut travellers) = (Vec::new(), Vec::new(), Vec::new());
        for pair in pairs {
            let first = runs.len();
            first_run.push(first);
            runs.extend(&table[pair.index].runs);
            known.extend(pair.known.iter().map(|&(trial, run)| (pair.index, trial, first + run)));
            travellers.extend(pair.travellers.iter().cloned().map(|mut traveller| {
                traveller.run += first;
                for step in &mut traveller.steps {
                    if let Write::From { run, .. } = &mut step.write {
                        *run += first;
                    }
                }
                traveller
            }));
        }
        let range = pairs[0].index..pairs[pairs.len() - 1].index + 1;
        let n_reads: usize = runs.iter().map(|run| n_read(run)).sum();
        let runs = RunRows::new(&runs, config.n_layers);
        let sizes = Sizes::new(config, division.activations, &runs, n_reads);
        let reads_all = table[range.clone()].iter().any(|spec| spec.metrics.vocabulary);
        let largest = travellers.iter().map(Traveller::n_rows).max().unwrap_or(0);
        let has_lens = table[range.clone()].iter().any(|spec| spec.metrics.lens);
        let n_rows = travellers.iter().map(Traveller::n_rows).sum::<usize>();
        let fixed = sizes.fixed()
            + sizes.notes(travellers.len() + known.len(), n_rows)
            + checks.iter().map(|check| check.n_bytes(config)).sum::<usize>()
            + if has_lens { sizes.lens(config.n_layers) } else { 0 };
        // The runs' readings are of the whole vocabulary.
        let least_readout = sizes.readout(1);
        let needed = fixed + sizes.tile(largest) + sizes.state(largest) + least_readout;
        let allowed = division.allowed;
        if needed > allowed {
            return Err(SweepError::Memory { needed, allowed });
        }
        // A share of what is free goes to scratch, the rest to the wave itself.
        let scratch = (allowed - fixed) / 4;
        let most_tile_rows = division.n_tile_rows.max(largest).max(1);
        let n_at_once = (scratch / sizes.tile(largest.max(1))).clamp(1, division.n_at_once.max(1));
        let n_tile_rows = sizes.n_tile_rows(scratch / n_at_once);
        let n_tile_rows = n_tile_rows.clamp(largest.max(1), most_tile_rows);
        let n_readout_rows = match reads_all {
            true => (scratch / sizes.readout(1)).clamp(1, division.n_readout_rows),
            false => 1,
        };
        let in_tiles = n_at_once * sizes.tile(n_tile_rows);
        let taken = fixed + in_tiles.max(sizes.readout(n_readout_rows));
        let n_state_rows =
            (allowed.saturating_sub(taken) / sizes.state(1)).min(division.n_wave_rows).max(largest);
        let cost = BlockCost::new(config);
        let in_trials =
            travellers.iter().map(|t| t.n_rows() as f64 * (config.n_layers - t.entry().0) as f64);
        let per_row = cost.keys_values + cost.queries + cost.output + cost.mlp;
        let operations =
            per_row * (in_trials.sum::<f64>() + (runs.n_rows() * config.n_layers) as f64);
        let mut draft = Self {
            pairs: range,
            runs,
            first_run,
            known,
            finished: pairs.iter().map(|pair| (pair.index, pair.finished.clone())).collect(),
            travellers,
            n_tile_rows,
            n_at_once,
            n_readout_rows,
            n_state_rows,
            keeps_runs: false,
            peak_bytes: taken + sizes.state(n_rows.min(n_state_rows)),
            operations,
        };
        // Keeping the runs of a batch with several waves must not make it more of them.
        let kept = sizes.kept(config.n_layers);
        let is_cut = draft.n_waves().max(draft.n_waves_wanted(division)) > 1;
        if is_cut && draft.peak_bytes + kept <= allowed {
            draft.keeps_runs = true;
            draft.peak_bytes += kept;
        }
        Ok(draft)
    }

    fn n_rows(&self) -> usize {
        self.travellers.iter().map(Traveller::n_rows).sum()
    }

    /// How many waves memory makes of it, about.
    fn n_waves(&self) -> usize {
        self.n_rows().div_ceil(self.n_state_rows).max(1)
    }

    /// In how many waves it is to go where memory allows one.
    fn n_waves_wanted(&self, division: &Division) -> usize {
        let full = self.n_tile_rows.saturating_mul(self.n_at_once).max(1);
        let most = match division.only_tall_waves {
            true => self.n_rows().div_ceil(full),
            false => usize::MAX,
        };
        division.n_waves.min(most).max(1)
    }

    fn compile(
        self,
        config: &Config,
        table: &[&Specification],
        checks: &[Check],
        division: &Division,
        program: &mut Program,
    ) {
        let mut indices = Indices::default();
        let order = self.runs.order().map(|order| indices.add(order));
        let run_positions = indices.add(self.runs.positions.iter().copied());
        let run_puts = run_puts(config, &self.runs, &mut indices);
        let n_waves = self.n_waves_wanted(division);
        let total = self.n_rows();
        let (mut groups, mut group) = (Vec::<Vec<Traveller>>::new(), Vec::new());
        let (mut n_rows, mut n_before) = (0, 0);
        let mut last_column = None;
        for traveller in self.travellers {
            let column = (traveller.pair, traveller.first);
            // Where a wave may end: when memory is full, or between columns when it has its share.
            let has_share = n_before * n_waves >= total * (groups.len() + 1)
                && last_column.is_some_and(|last| last != column);
            if n_rows + traveller.n_rows() > self.n_state_rows || has_share {
                if !group.is_empty() {
                    groups.push(std::mem::take(&mut group));
                }
                n_rows = 0;
            }
            n_rows += traveller.n_rows();
            n_before += traveller.n_rows();
            last_column = Some(column);
            group.push(traveller);
        }
        groups.push(group);
        // What is finished is left out after the division, so that what is left is computed in the
        // same company as without the interruption, and comes out the same to the bit.
        let is_left = |traveller: &Traveller| {
            let finished = self.finished.iter().find(|(pair, _)| *pair == traveller.pair);
            let is_finished = |trial| finished.is_some_and(|(_, f)| f.contains_key(trial));
            !traveller.trials.iter().all(is_finished)
        };
        for group in &mut groups {
            group.retain(is_left);
        }
        groups.retain(|group| !group.is_empty());
        if groups.is_empty() {
            groups.push(Vec::new());
        }
        let waves: Vec<_> = groups
            .into_iter()
            .map(|group| {
                let (n_rows, n_at_once) = (self.n_tile_rows, self.n_at_once);
                Wave::new(config, &self.runs, group, n_rows, n_at_once, &mut indices)
            })
            .collect();
        let runs = BlockCost::new(config).runs(&self.runs.spans) * config.n_layers as f64;
        let n_passes = if self.keeps_runs { 1 } else { waves.len() };
        let in_waves =
            waves.iter().map(|wave| wave.operations() + trials_readout(config, table, wave));
        let in_waves = in_waves.sum::<f64>() + runs_readout(config, table, &self.pairs);
        let in_checks: f64 = checks.iter().map(Check::operations).sum();
        let operations = Operations {
            useful: runs + in_waves,
            done: runs * n_passes as f64 + in_waves + in_checks,
        };
        program.operations.useful += operations.useful;
        program.operations.done += operations.done;
        program.peak_bytes = program.peak_bytes.max(self.peak_bytes);
        program.n_readout_rows = program.n_readout_rows.min(self.n_readout_rows);
        program.batches.push(Batch {
            pairs: self.pairs,
            runs: self.runs,
            run_puts,
            run_positions,
            order,
            first_run: self.first_run,
            known: self.known,
            finished: self.finished,
            keeps_runs: self.keeps_runs && waves.len() > 1,
            checks: checks.to_vec(),
            waves,
            indices,
            operations,
        });
    }
}

/// What the runs' own edits write, layer by layer.
fn run_puts(config: &Config, runs: &RunRows, indices: &mut Indices) -> Vec<Vec<Put>> {
    let mut layers: Vec<_> = (0..config.n_layers).map(|_| Puts::default()).collect();
    let mut last = None;
    for (run, step) in &runs.steps {
        if last != Some(*run) {
            layers.iter_mut().for_each(Puts::next);
            last = Some(*run);
        }
        let rows = &runs.rows[*run];
        layers[step.layer].add(config, runs, step, |position| rows.get(position).copied());
    }
    layers.into_iter().map(|puts| puts.finish(indices)).collect()
}

/// The operations of reading all runs of some pairs, with the logit lens where it is asked for.
pub fn runs_readout(config: &Config, table: &[&Specification], pairs: &Range<usize>) -> f64 {
    let of_pair = |spec: &&Specification| {
        let n: usize = spec.runs.iter().map(n_read).sum();
        let of_lens =
            spec.runs.iter().take(Specification::SOURCE + 1).map(|run| sequence(run).len());
        let n_lens = if spec.metrics.lens { config.n_layers * of_lens.sum::<usize>() } else { 0 };
        cost::readout(config, n_ids(spec), n + n_lens, n + n_lens)
    };
    table[pairs.clone()].iter().map(of_pair).sum()
}

/// The operations of reading the trials of a wave.
pub fn trials_readout(config: &Config, table: &[&Specification], wave: &Wave) -> f64 {
    let of_trial = |traveller: &Traveller| {
        let (spec, n) = (table[traveller.pair], traveller.n_read);
        let is_whole =
            spec.metrics.vocabulary || spec.runs.iter().any(|run| run.continuation.is_some());
        cost::readout(config, n_ids(spec), n, if is_whole { n } else { 0 })
    };
    wave.travellers.iter().map(of_trial).sum()
}

fn n_ids(specification: &Specification) -> usize {
    specification.metrics.true_ids.len() + specification.metrics.false_ids.len()
}

/// The sites of the runs that any wave of a batch reads, by layer.
pub fn needs(waves: &[Wave], n_layers: usize) -> Vec<Sites> {
    let mut needs = vec![Sites::default(); n_layers];
    for wave in waves {
        for (all, of_one) in needs.iter_mut().zip(&wave.needs) {
            *all = all.union(*of_one);
        }
    }
    needs
}
