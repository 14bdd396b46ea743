//! `patchboard bench`: the wavefront against what else one could do, from one run a cell to batches on
//! a cached prefix, and against this device's matrix products, all in one process, since only ratios
//! within one run mean anything.

use std::hint::black_box;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use shared::specification::pairs::Pair;
use shared::specification::settings::{Checked, Settings};
use shared::specification::template::{NOTEBOOK, Template};
use shared::specification::vocabulary::Site;
use shared::specification::{Edit, Specification, Trial, Write};

use super::memory::MemoryArgs;
use super::opening::OpenArgs;
use super::report::passes;
use super::{interrupt, output};
use crate::experiment::Experiment;
use crate::model::{Config, Network, Span};
use crate::sweep::oracle::Oracle;
use crate::sweep::{self, BlockCost, Division, Program, Progress, readout_cost, speed};

/// What to measure.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// The model, a path or an id of the hub. Default: SmolLM2-135M-Instruct.
    #[arg(long, value_name = "PATH|ID")]
    model: Option<PathBuf>,

    #[command(flatten)]
    opening: OpenArgs,

    /// Full prompts, the source's and the base's. Default: a pair in the notebook's template, about
    /// 40 tokens long.
    #[arg(long, num_args = 2, value_names = ["SOURCE", "BASE"])]
    pair: Option<Vec<String>>,

    /// How often everything is measured; the best counts.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// How many cells are run one by one in each round, and of how many layers in batches; 0 leaves both
    /// out.
    #[arg(long, value_name = "N", default_value_t = 4)]
    naive_cells: u32,

    #[command(flatten)]
    memory: MemoryArgs,

    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Figures {
    model: String,
    n_threads: usize,
    n_tokens: usize,
    n_layers: usize,
    n_columns: usize,
    n_cells: usize,
    n_cells_computed: usize,
    n_passes: usize,
    /// Best of all rounds, in seconds.
    wavefront_secs: f64,
    /// One full forward pass a cell: best of all rounds, in seconds.
    naive_secs_per_cell: Option<f64>,
    /// Cells of several layers in one batch, each from its first token through all layers: likewise.
    batched_secs_per_cell: Option<f64>,
    /// The same for the tokens from the first swept one on, with the keys and values before them kept.
    prefix_secs_per_cell: Option<f64>,
    /// Operations that any exact prefix-sharing sweep must do.
    useful_operations: f64,
    /// Operations that this sweep did.
    done_operations: f64,
    /// Operations of the naive engine over all cells.
    naive_operations: f64,
    /// Useful operations a second, in 10^9.
    achieved_gflops: f64,
    /// The matrix products of one block at the sweep's shapes, best of all rounds, in 10^9
    /// operations a second.
    peak_gflops: f64,
    /// Naive seconds for all cells over wavefront seconds.
    speedup_over_naive: Option<f64>,
    /// The same of batches.
    speedup_over_batched: Option<f64>,
    /// The same of batches on a kept prefix.
    speedup_over_prefix: Option<f64>,
    /// Achieved over peak.
    share_of_peak: f64,
    /// What every pass reads from files, where the weights are not kept in memory.
    read_bytes: u64,
    /// The memory that the weights take.
    held_bytes: usize,
    /// The sweep's memory beyond the weights by its own plan, in bytes.
    planned_bytes: usize,
}

/// Runs the command.
///
/// # Errors
/// A model or pair that cannot be run.
pub fn run(args: BenchArgs) -> Result<()> {
    let placement = args.opening.placement()?;
    let limit = args.memory.limit(&placement.device)?;
    interrupt::listen()?;
    let model = args.opening.open(args.model.as_deref(), args.json, &placement, limit)?;
    let config = &model.network.config;
    let (pair, template) = pair(args.pair)?;
    let settings = Checked { template, ..Settings::default().check()? };
    let experiment = Experiment::prepare(&model, &pair, &settings, None)?;
    let specification = &experiment.specification;
    let division = Division::within(model.n_sweep_bytes(limit)).on(&model.network.placement);
    let program = Program::new(config, &[specification], &division)?;
    let n_tokens = experiment.alignment.base.len();
    let n_cells = specification.trials.len();
    // Spread over the cells that are not known beforehand, which come last in each layer.
    let n_drawn = (args.naive_cells as usize).min(n_cells);
    let drawn: Vec<_> =
        (1..=n_drawn).map(|i| &specification.trials[i * n_cells / n_drawn - 1]).collect();
    let naive = match n_drawn {
        0 => None,
        _ => Some(Oracle::new(&model.network, specification, &drawn)?),
    };

    let start = experiment.alignment.start;
    let layers = drawn_layers(specification, n_tokens - start, args.naive_cells as usize);
    let batches = match n_drawn {
        0 => Vec::new(),
        _ => [0, start]
            .map(|first| Batched::new(config, specification, &layers, first, &division))
            .into_iter()
            .collect::<Result<Vec<_>>>()?,
    };

    let (mut peak, mut wavefront_secs, mut naive_secs) = (0.0f64, f64::INFINITY, f64::INFINITY);
    let mut batched_secs = vec![f64::INFINITY; batches.len()];
    // Interleaved, so that a machine whose speed wanders is measured alike.
    for _ in 0..args.rounds {
        peak = peak.max(speed::matrix_products(&model.network, division.n_tile_rows)?);
        let begin = Instant::now();
        let mut goes_on = |_: Progress| ControlFlow::Continue(());
        black_box(sweep::run(&model.network, &[specification], &program, &mut goes_on)?);
        wavefront_secs = wavefront_secs.min(begin.elapsed().as_secs_f64());
        if let Some(naive) = &naive {
            let begin = Instant::now();
            for trial in &drawn {
                black_box(naive.trials(&[trial])?);
            }
            naive_secs = naive_secs.min(begin.elapsed().as_secs_f64() / n_drawn as f64);
        }
        for (batched, best) in batches.iter().zip(&mut batched_secs) {
            *best = best.min(batched.secs_per_cell(&model.network)?);
        }
    }
    let achieved = program.operations.useful / wavefront_secs;
    let naive_secs = naive_secs.is_finite().then_some(naive_secs);
    let [batched_secs, prefix_secs] = [0, 1].map(|i| batched_secs.get(i).copied());
    let speedup = |secs: Option<f64>| secs.map(|secs| secs * n_cells as f64 / wavefront_secs);
    let figures = Figures {
        model: model.name.clone(),
        n_threads: rayon::current_num_threads(),
        n_tokens,
        n_layers: config.n_layers,
        n_columns: n_tokens - experiment.alignment.start,
        n_cells,
        n_cells_computed: program.n_computed(),
        n_passes: program.n_passes(),
        wavefront_secs,
        naive_secs_per_cell: naive_secs,
        batched_secs_per_cell: batched_secs,
        prefix_secs_per_cell: prefix_secs,
        useful_operations: program.operations.useful,
        done_operations: program.operations.done,
        naive_operations: naive_cost(config, specification) * n_cells as f64,
        achieved_gflops: achieved / 1e9,
        peak_gflops: peak / 1e9,
        speedup_over_naive: speedup(naive_secs),
        speedup_over_batched: speedup(batched_secs),
        speedup_over_prefix: speedup(prefix_secs),
        share_of_peak: achieved / peak,
        read_bytes: if model.network.is_streamed() { model.n_stored_bytes } else { 0 },
        held_bytes: model.network.n_held_bytes(),
        planned_bytes: program.peak_bytes,
    };
    if args.json {
        return output::line(&serde_json::to_string(&figures)?);
    }
    output::line(&figures.text())
}

/// The trials of `n` layers, spread evenly, of a specification with `n_columns` trials a layer.
fn drawn_layers(specification: &Specification, n_columns: usize, n: usize) -> Vec<&Trial> {
    let layers: Vec<_> = specification.trials.chunks(n_columns).collect();
    let n = n.min(layers.len());
    (1..=n).flat_map(|i| layers[i * layers.len() / n - 1]).collect()
}

/// Trials that go through all layers together, as a batch of runs would.
struct Batched {
    specification: Specification,
    program: Program,
}

impl Batched {
    /// Has each of `trials` enter before the first layer with all its tokens from `first` on: there it
    /// copies what its base has, which changes nothing.
    fn new(
        config: &Config,
        specification: &Specification,
        trials: &[&Trial],
        first: usize,
        division: &Division,
    ) -> Result<Self> {
        let entering = |trial: &&Trial| {
            let entry = Edit {
                site: Site::ResidPre,
                head: None,
                layers: 0..1,
                positions: vec![first],
                write: Write::From { run: trial.base, shift: 0 },
            };
            let mut trial = (*trial).clone();
            trial.edits.insert(0, entry);
            trial
        };
        let trials = trials.iter().map(entering).collect();
        let specification = Specification { trials, ..specification.clone() };
        let division = Division { computes_all: true, ..*division };
        let program = Program::new(config, &[&specification], &division)?;
        Ok(Self { specification, program })
    }

    fn secs_per_cell(&self, network: &Network) -> Result<f64> {
        let begin = Instant::now();
        let mut goes_on = |_: Progress| ControlFlow::Continue(());
        black_box(sweep::run(network, &[&self.specification], &self.program, &mut goes_on)?);
        Ok(begin.elapsed().as_secs_f64() / self.specification.trials.len() as f64)
    }
}

/// The operations of one trial by the naive engine.
fn naive_cost(config: &Config, specification: &Specification) -> f64 {
    let n = specification.runs[Specification::BASE].tokens.len();
    let span = Span { offset: 0, n_shared: n, n_own: 0, n_queries: n };
    let metrics = &specification.metrics;
    let n_ids = metrics.true_ids.len() + metrics.false_ids.len();
    config.n_layers as f64 * BlockCost::new(config).runs(&[span])
        + readout_cost(config, n_ids, 1, 1)
}

impl Figures {
    fn text(&self) -> String {
        format!(
            "{}, {} threads, {} tokens: {} layers x {} positions = {} cells, {} of them computed\n\
             wavefront    {:9.3} s for all cells ({} of the layers)\n\
             naive        {:>9} s for one cell, a run each\n\
             batched      {:>9} s, many cells a run\n\
             prefix       {:>9} s, the same on a kept prefix\n\
             speed-up     {:>9} times naive, {} times batched, {} times prefix\n\
             operations   {:9.1} GFLOP useful, {:.1} done, {:.1} by the naive engine\n\
             achieved     {:9.1} GFLOP/s\n\
             peak         {:9.1} GFLOP/s, the matrix products of a block at these shapes\n\
             share        {:9.2} of the peak\n\
             weights      {:9.1} GB read a pass, {} MiB of memory\n\
             memory       {:9} MiB beyond the weights, at most",
            self.model,
            self.n_threads,
            self.n_tokens,
            self.n_layers,
            self.n_columns,
            self.n_cells,
            self.n_cells_computed,
            self.wavefront_secs,
            passes(self.n_passes),
            measured(self.naive_secs_per_cell, 4),
            measured(self.batched_secs_per_cell, 4),
            measured(self.prefix_secs_per_cell, 4),
            measured(self.speedup_over_naive, 1),
            measured(self.speedup_over_batched, 1),
            measured(self.speedup_over_prefix, 1),
            self.useful_operations / 1e9,
            self.done_operations / 1e9,
            self.naive_operations / 1e9,
            self.achieved_gflops,
            self.peak_gflops,
            self.share_of_peak,
            self.read_bytes as f64 / 1e9,
            self.held_bytes >> 20,
            self.planned_bytes >> 20
        )
    }
}

/// A number, or a dash where it was not measured.
fn measured(value: Option<f64>, n_decimals: usize) -> String {
    value.map_or("-".into(), |value| format!("{value:.n_decimals$}"))
}

fn pair(prompts: Option<Vec<String>>) -> Result<(Pair, Option<Template>)> {
    let (entity, [source, base], template) = match prompts {
        Some(prompts) => {
            let prompts =
                <[String; 2]>::try_from(prompts).ok().context("two prompts are needed")?;
            (String::new(), prompts, None)
        }
        None => (
            "The general".to_string(),
            [
                "The general ordered the tired soldiers to march through the snow.",
                "The general watched the tired soldiers come home through the snow.",
            ]
            .map(String::from),
            Some(Template::prompt(NOTEBOOK)?),
        ),
    };
    Ok((Pair { line: 0, entity, source, base, cells: Default::default() }, template))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::model::Loader;

    /// Whatever is compared finds the same numbers.
    #[test]
    fn batches_find_what_the_wavefront_finds() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/oracle/models/tiny-llama3");
        let model = Loader::new(Path::new(path)).load().unwrap();
        let (config, network) = (&model.network.config, &model.network);
        let (pair, template) = pair(None).unwrap();
        let settings = Checked { template, ..Settings::default().check().unwrap() };
        let experiment = Experiment::prepare(&model, &pair, &settings, None).unwrap();
        let specification = &experiment.specification;
        let division = Division::within(1 << 30);
        let found = |specification: &Specification, program: &Program| {
            let mut goes_on = |_: Progress| ControlFlow::Continue(());
            sweep::run(network, &[specification], program, &mut goes_on).unwrap().remove(0).trials
        };
        let program = Program::new(config, &[specification], &division).unwrap();
        let expected = found(specification, &program);
        let start = experiment.alignment.start;
        let n_columns = experiment.alignment.base.len() - start;
        let layers = drawn_layers(specification, n_columns, config.n_layers);
        assert_eq!(layers.len(), specification.trials.len());
        let mut operations = vec![program.operations.done];
        for first in [start, 0] {
            let batched = Batched::new(config, specification, &layers, first, &division).unwrap();
            let found = found(&batched.specification, &batched.program);
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found.logit_diff - expected.logit_diff).abs() < 1e-4, "from {first}");
            }
            operations.push(batched.program.operations.done);
        }
        assert!(operations.is_sorted(), "{operations:?}");
    }
}
