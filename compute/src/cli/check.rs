//! `patchboard check`: whether a device computes what the CPU does, and how near its sweeps come to
//! its matrix products.

use std::collections::HashMap;
use std::hint::black_box;
use std::time::Instant;

use anyhow::{Result, bail};
use candle_core::{DType, Device, Tensor};
use clap::{Args, ValueEnum};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;
use shared::specification::alignment::{Alignment, Side};
use shared::specification::correspondence::Correspondence;
use shared::specification::settings::{List, Settings};
use shared::specification::vocabulary::{By, Site};
use shared::specification::{AnswerIds, Specification, Subject};

use super::memory::MemoryArgs;
use super::opening::DeviceName;
use super::{interrupt, output};
use crate::model::{
    Config, FAMILIES, Family, Kernels, ModelError, Network, Placement, Rope, VERSION, Weight,
    Weights,
};
use crate::sweep::{self, Division, Program, Progress, Readings, speed};

/// What to check.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The device: cpu, cuda:N (the Nth NVIDIA GPU, from 0) or metal. On the CPU the operations that
    /// GPUs are given are checked, and not the CPU's own.
    #[arg(long, value_name = "cpu|cuda:N|metal", default_value = "cpu")]
    device: DeviceName,

    /// The shape of the model that is timed, with random weights.
    #[arg(long, value_enum, default_value_t = Shape::Tiny)]
    shape: Shape,

    /// Tokens of the prompts that are timed.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(2..))]
    tokens: u32,

    /// How often it is timed; the best counts.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Check candle's operations alone, and not Patchboard's own kernels for NVIDIA's GPUs.
    #[arg(long)]
    stock: bool,

    #[command(flatten)]
    memory: MemoryArgs,

    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// A model's dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shape {
    /// Four layers of width 64, in f32.
    Tiny,
    /// Those of SmolLM2-135M, in f32.
    #[value(name = "135m")]
    M135,
    /// Those of Llama-3.1-8B, in bf16.
    #[value(name = "8b")]
    B8,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    device: String,
    /// Whether only candle's operations were used.
    stock: bool,
    families: Vec<Agreement>,
    timing: Timing,
}

/// How far a small random model of a family is from the same on the CPU in f32.
#[derive(Debug, Serialize)]
struct Agreement {
    family: &'static str,
    dtype: &'static str,
    /// The largest difference of the metric over all trials, as a share of its largest absolute
    /// value on the CPU, or of 1 if that is less.
    largest_difference: f32,
    bound: f32,
}

/// A timed sweep of one pair at `resid_post`.
#[derive(Debug, Serialize)]
struct Timing {
    shape: String,
    dtype: &'static str,
    n_tokens: usize,
    n_cells: usize,
    n_cells_computed: usize,
    n_passes: usize,
    secs: f64,
    cells_per_sec: f64,
    /// Operations of the sweep a second, in 10^9.
    achieved_gflops: f64,
    /// The matrix products of one block, as many rows at a time, in 10^9 operations a second.
    peak_gflops: f64,
    share_of_peak: f64,
    /// What the weights take, in bytes.
    held_bytes: usize,
    /// What the sweep takes beside them by its own plan, in bytes.
    planned_bytes: usize,
    /// The most that was taken beside the weights between two layers, in bytes, where the device
    /// says what is free.
    used_bytes: Option<u64>,
}

/// How far rounding may take the metric of a small model.
const BOUNDS: [(DType, f32); 3] = [(DType::F32, 1e-5), (DType::F16, 1e-2), (DType::BF16, 1e-1)];
const D_VOCAB: usize = 512;

/// Runs the command.
///
/// # Errors
/// A device that cannot be used, or whose numbers are not the CPU's.
pub fn run(args: &CheckArgs) -> Result<()> {
    interrupt::listen()?;
    let device = args.device.open()?;
    let limit = args.memory.limit(&device)?;
    let on = |dtype| {
        let own = Placement::new(device.clone(), dtype);
        match device.is_cpu() || args.stock {
            true => Placement { kernels: Kernels::Stock, ..own },
            false => own,
        }
    };
    let mut families = Vec::new();
    for family in FAMILIES {
        for (dtype, bound) in BOUNDS {
            // candle multiplies no bf16 on the CPU.
            if dtype == DType::BF16 && device.is_cpu() {
                continue;
            }
            let largest_difference = difference(family, &on(dtype))?;
            let dtype = dtype.as_str();
            let agreement = Agreement { family: family.name, dtype, largest_difference, bound };
            if !args.json {
                output::line(&agreement.text())?;
            }
            families.push(agreement);
        }
    }
    let timing = time(args, &on, limit)?;
    let checked = on(DType::F32);
    let report = Report {
        version: VERSION,
        device: checked.device_name(),
        stock: checked.kernels == Kernels::Stock,
        families,
        timing,
    };
    match args.json {
        true => output::line(&serde_json::to_string(&report)?)?,
        false => output::line(&report.timing.text())?,
    }
    let beyond: Vec<_> = report.families.iter().filter(|found| !found.is_within()).collect();
    if !beyond.is_empty() {
        let lines: Vec<_> = beyond.iter().map(|found| found.text()).collect();
        bail!("{} computes something else than the CPU:\n{}", report.device, lines.join("\n"));
    }
    Ok(())
}

impl Agreement {
    fn is_within(&self) -> bool {
        // What is no number is not.
        self.largest_difference <= self.bound
    }

    fn text(&self) -> String {
        let Self { family, dtype, largest_difference, bound } = self;
        let verdict = if self.is_within() { "within" } else { "BEYOND" };
        format!(
            "{family:<12} {dtype:<5} {largest_difference:.1e} of the metric, {verdict} {bound:.0e}"
        )
    }
}

impl Timing {
    fn text(&self) -> String {
        let used = self.used_bytes.map_or("not said".into(), |n| format!("{} MiB", n >> 20));
        format!(
            "{} in {}, {} tokens: {} cells, {} of them computed, {} passes\n\
             sweep        {:9.3} s, {:.0} cells a second\n\
             achieved     {:9.1} GFLOP/s\n\
             peak         {:9.1} GFLOP/s, the matrix products of a block\n\
             share        {:9.2} of the peak\n\
             memory       {:9} MiB of weights, {} MiB planned beside them, used {used}",
            self.shape,
            self.dtype,
            self.n_tokens,
            self.n_cells,
            self.n_cells_computed,
            self.n_passes,
            self.secs,
            self.cells_per_sec,
            self.achieved_gflops,
            self.peak_gflops,
            self.share_of_peak,
            self.held_bytes >> 20,
            self.planned_bytes >> 20,
        )
    }
}

/// The largest difference of three mixed pairs in a small model of `family`, between `placement` and
/// the CPU's own kernels, as a share of the metric.
fn difference(family: &Family, placement: &Placement) -> Result<f32> {
    let config = Config {
        n_layers: 3,
        d_model: 64,
        n_heads: 4,
        n_kv_heads: 2,
        d_head: 16,
        d_mlp: 96,
        d_vocab: D_VOCAB,
        n_context: 64,
        norm_eps: 1e-5,
        architecture: family.name,
        spec: family.spec,
        tied_embeddings: false,
        ..Config::LLAMA
    };
    let rope = (!family.spec.learned_positions).then(|| Rope::plain(10_000.0, config.d_head));
    let config = config.with_uniform_layers(rope);
    let mut drawn = Drawn { random: StdRng::seed_from_u64(1), weights: HashMap::new() };
    let cpu = Network::resident(config.clone(), &mut drawn, &Placement::default())?;
    let there = Network::resident(config.clone(), &mut drawn.weights, placement)?;
    let at = |sites: &[Site]| -> Result<Settings> {
        let has = sites.iter().copied().filter(|&site| config.has_site(site)).collect();
        Ok(Settings { sites: List::new(has)?, ..Settings::default() })
    };
    let settings = [
        Settings { window: 2, ..at(&[Site::ResidPost, Site::AttnOut, Site::MlpOut])? },
        at(&[Site::Z, Site::Query])?,
        Settings { by: By::Position, ..at(&[Site::Key, Site::Value])? },
    ];
    let table: Vec<_> = settings
        .iter()
        .enumerate()
        // One is longer than what a GPU's kernel looks at at once.
        .map(|(i, settings)| specification(&config, settings, 12 + 15 * i, 5))
        .collect();
    let table: Vec<_> = table.iter().collect();
    let sweep = |network: &Network| -> Result<Vec<Readings>> {
        let division = Division::within(1 << 30).on(&network.placement);
        let program = Program::new(&config, &table, &division)?;
        Ok(sweep::run(network, &table, &program, &mut |_| interrupt::check())?)
    };
    let diffs = |readings: Vec<Readings>| -> Vec<f32> {
        let all = readings.into_iter().flat_map(|one| one.runs.into_iter().chain(one.trials));
        all.map(|reading| reading.logit_diff).collect()
    };
    let (expected, found) = (diffs(sweep(&cpu)?), diffs(sweep(&there)?));
    let scale = expected.iter().fold(1.0f32, |scale, x| scale.max(x.abs()));
    let differences = expected.iter().zip(&found).map(|(a, b)| (a - b).abs() / scale);
    // `max` would pass over what is not a number.
    Ok(differences.fold(0.0, |largest, one| if one <= largest { largest } else { one }))
}

/// Times a pair in a model of the shape asked for.
fn time(args: &CheckArgs, on: &dyn Fn(DType) -> Placement, limit: usize) -> Result<Timing> {
    let (config, dtype) = args.shape.config();
    let placement = on(dtype);
    let held = Network::n_bytes(&config, &placement, false);
    if held >= limit {
        bail!(
            "a model of this shape takes {} MiB, and {} MiB may be taken: choose a smaller \
             `--shape`, or allow more",
            held >> 20,
            limit >> 20
        );
    }
    let n_tokens = (args.tokens as usize).min(config.n_context);
    let specification = specification(&config, &Settings::default(), n_tokens, n_tokens * 3 / 5);
    let network =
        Network::resident(config.clone(), &mut Made { device: &placement.device }, &placement)?;
    let division = Division::within(limit - held).on(&placement);
    let program = Program::new(&config, &[&specification], &division)?;
    let free = || Placement::n_free_bytes(&placement.device).ok().flatten();
    let (before, mut least) = (free(), free());
    let (mut secs, mut peak) = (f64::INFINITY, 0.0f64);
    for _ in 0..args.rounds {
        peak = peak.max(speed::matrix_products(&network, division.n_tile_rows.min(8192))?);
        let begin = Instant::now();
        let mut listener = |progress: Progress| {
            if let Progress::Share(_) = progress {
                least = least.min(free());
            }
            interrupt::check()
        };
        black_box(sweep::run(&network, &[&specification], &program, &mut listener)?);
        secs = secs.min(begin.elapsed().as_secs_f64());
    }
    let n_cells = specification.trials.len();
    let achieved = program.operations.useful / secs;
    Ok(Timing {
        shape: args.shape.to_possible_value().map_or_else(String::new, |v| v.get_name().into()),
        dtype: dtype.as_str(),
        n_tokens,
        n_cells,
        n_cells_computed: program.n_computed(),
        n_passes: program.n_passes(),
        secs,
        cells_per_sec: n_cells as f64 / secs,
        achieved_gflops: achieved / 1e9,
        peak_gflops: peak / 1e9,
        share_of_peak: achieved / peak,
        held_bytes: held,
        planned_bytes: program.peak_bytes,
        used_bytes: before.zip(least).map(|(before, least)| before.saturating_sub(least)),
    })
}

impl Shape {
    fn config(self) -> (Config, DType) {
        let (dims, d_vocab, dtype) = match self {
            Self::Tiny => ([4, 64, 4, 2, 16, 96], D_VOCAB, DType::F32),
            Self::M135 => ([30, 576, 9, 3, 64, 1536], 49_152, DType::F32),
            Self::B8 => ([32, 4096, 32, 8, 128, 14_336], 128_256, DType::BF16),
        };
        let [n_layers, d_model, n_heads, n_kv_heads, d_head, d_mlp] = dims;
        let config = Config {
            n_layers,
            d_model,
            n_heads,
            n_kv_heads,
            d_head,
            d_mlp,
            d_vocab,
            n_context: 2048,
            norm_eps: 1e-5,
            tied_embeddings: false,
            ..Config::LLAMA
        };
        (config.with_uniform_layers(Some(Rope::plain(500_000.0, d_head))), dtype)
    }
}

/// An experiment with two prompts of `n_tokens` tokens, of which the last `n_columns` are swept.
fn specification(
    config: &Config,
    settings: &Settings,
    n_tokens: usize,
    n_columns: usize,
) -> Specification {
    let prompt = |own: usize| -> Vec<u32> {
        let token = |i: usize| if i < n_tokens - n_columns { i } else { i * 37 + own };
        (0..n_tokens).map(|i| (token(i) % config.d_vocab) as u32).collect()
    };
    let (source, base) = (prompt(101), prompt(211));
    let [source, base] =
        [&source, &base].map(|ids| Side { ids, start: n_tokens - n_columns, roles: &[] });
    let by_hand = Correspondence::default();
    let subject = Subject {
        alignment: Alignment::new(source, base, settings.align, 0, &by_hand),
        spans: Vec::new(),
        noised: Vec::new(),
        answers: AnswerIds::Single { true_ids: vec![1, 2], false_ids: vec![3] },
        mean: None,
        dimensions: config.dimensions(),
    };
    Specification::new(settings, &subject)
}

/// The spread of random weights with which the numbers stay about as large from layer to layer.
fn spread(dims: &[usize]) -> f32 {
    match dims {
        [_] => 0.1,
        _ => 1.0 / (dims[dims.len() - 1] as f32).sqrt(),
    }
}

fn centre(weight: Weight) -> f32 {
    if weight.module.is_norm() && !weight.is_bias { 1.0 } else { 0.0 }
}

/// Draws weights on the CPU, the same ones every time, and keeps them.
struct Drawn {
    random: StdRng,
    weights: HashMap<Weight, Tensor>,
}

impl Weights for Drawn {
    fn load(&mut self, weight: Weight, dims: &[usize], dtype: DType) -> Result<Tensor, ModelError> {
        let (centre, spread, n) = (centre(weight), spread(dims), dims.iter().product());
        let numbers: Vec<f32> =
            (0..n).map(|_| centre + spread * self.random.random_range(-1.5..1.5f32)).collect();
        let failed = |e| ModelError::file("random weights".as_ref(), e);
        let tensor = Tensor::from_vec(numbers, dims, &Device::Cpu).map_err(failed)?;
        self.weights.insert(weight, tensor.clone());
        tensor.to_dtype(dtype).map_err(failed)
    }
}

/// Makes weights where they are computed with.
struct Made<'a> {
    device: &'a Device,
}

impl Weights for Made<'_> {
    fn load(&mut self, weight: Weight, dims: &[usize], dtype: DType) -> Result<Tensor, ModelError> {
        Tensor::randn(centre(weight), spread(dims), dims, self.device)
            .and_then(|tensor| tensor.to_dtype(dtype))
            .map_err(|e| ModelError::file("random weights".as_ref(), e))
    }
}
