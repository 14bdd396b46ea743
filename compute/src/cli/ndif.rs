//! `patchboard sweep --on ndif`: the model is on a server.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use shared::document::Document;
use shared::specification::settings::Checked;

use super::files::Folder;
use super::opening::{self, OpenArgs};
use super::partial::Partial;
use super::report::{self, counted};
use super::sweep::{BAR_STEPS, progress_bar, title};
use super::{interrupt, output};
use crate::experiment::Experiment;
use crate::hub::Wanted;
use crate::model::Description;
use crate::ndif::plan::PairPlan;
use crate::ndif::protocol::Reason;
use crate::ndif::{
    Event, LOCAL, Limits, NdifError, Place, Remote, Settings, Summary, check_settings,
};
use crate::sweep::SweepError;

/// Where the model is computed, if not on this machine.
#[derive(Debug, Args)]
pub struct NdifArgs {
    /// Where the model is: here, or on ndif, a server of the National Deep Inference Fabric. The key is
    /// taken from NDIF_API_KEY or nnsight's own configuration.
    #[arg(long, value_enum, default_value_t = On::Here)]
    on: On,

    /// The NDIF server's address; `local` computes in the helper's own process. Default: NDIF_HOST, or
    /// what nnsight is configured for.
    #[arg(long, value_name = "URL|local")]
    ndif_host: Option<String>,
}

/// Where the model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum On {
    Here,
    Ndif,
}

impl NdifArgs {
    /// Whether a server is asked for.
    ///
    /// # Errors
    /// An address for nothing.
    pub fn is_on(&self) -> Result<bool> {
        match (self.on, &self.ndif_host) {
            (On::Here, Some(_)) => bail!("`--ndif-host` is for `--on ndif`: give both or neither"),
            (on, _) => Ok(on == On::Ndif),
        }
    }
}

/// Where the model `name` is to be asked for on NDIF, with its configuration and tokenizer at hand;
/// `host` as for [`Place::host`].
///
/// # Errors
/// A name that is none, or files that cannot be had.
pub fn place(opening: &OpenArgs, host: Option<&str>, name: &Path, quiet: bool) -> Result<Place> {
    let is_local = host == Some(LOCAL);
    let wanted = if is_local { Wanted::All } else { Wanted::AllButWeights };
    let (name, revision, folder) = match opening::hub_id(name) {
        Some(id) => {
            let snapshot = opening.snapshot(&id, wanted, quiet)?;
            let revision = (id.revision != "main").then_some(id.revision);
            (id.name, revision, snapshot.folder)
        }
        None if is_local => {
            let folder = name
                .canonicalize()
                .with_context(|| format!("there is no folder {}", name.display()))?;
            let name = folder.file_name().unwrap_or(folder.as_os_str());
            (name.to_string_lossy().into_owned(), None, folder)
        }
        None => bail!(
            "{} is a path, and a server knows models by their ids on the hub: expected `org/name`",
            name.display()
        ),
    };
    Ok(Place { host: host.map(str::to_string), name, revision, folder })
}

/// Asks a server for the model, and shows what it says.
///
/// # Errors
/// Settings that cannot be followed there, a model that cannot be had, or a server that cannot be
/// reached.
pub fn open(
    args: &NdifArgs,
    opening: &OpenArgs,
    name: Option<&Path>,
    settings: &Checked,
    prints_text: bool,
) -> Result<Remote> {
    check_settings(&settings.settings)?;
    if opening.names_device() {
        bail!("`--device` and `--dtype` are this machine's: with `--on ndif` the server decides");
    }
    let name = name.context("`--on ndif` needs `--model`, an id of the hub such as `org/name`")?;
    let place = place(opening, args.ndif_host.as_deref(), name, !prints_text)?;
    let remote = Remote::new(place, Settings::default());
    let line = remote.open(&mut |event| {
        match event {
            Event::Said(text) if prints_text => eprintln!("ndif: {text}"),
            _ => {}
        }
        interrupt::check()
    })?;
    if prints_text {
        output::line(&line)?;
    }
    Ok(remote)
}

/// A model on NDIF that a server offers. A server of NDIF that cannot be reached will be asked again;
/// anything else would be no better later.
///
/// # Errors
/// As for [`open`].
pub fn offered(opening: &OpenArgs, host: Option<&str>, name: &Path) -> Result<Remote> {
    let remote = Remote::new(place(opening, host, name, true)?, Settings::default());
    let opened = remote.open(&mut |event| {
        if let Event::Said(text) = event {
            tracing::info!(model = remote.name(), text, "ndif");
        }
        ControlFlow::Continue(())
    });
    match opened {
        Ok(line) => tracing::info!("{line}"),
        Err(error @ NdifError::Failed { reason: Reason::Unreachable, .. }) => {
            tracing::warn!(model = remote.name(), %error, "it is offered once it can be reached");
        }
        Err(error) => {
            return Err(error).with_context(|| format!("cannot offer {}", name.display()));
        }
    }
    Ok(remote)
}

/// Sweeps a table behind a progress bar. What has arrived of a pair is kept in `folder` until all of
/// it has.
///
/// # Errors
/// A server or a file that fails, or an interruption.
pub fn sweep(
    remote: &Remote,
    model: &Description,
    folder: &Folder,
    table: &[&Experiment],
    prints_text: bool,
    done: &mut dyn FnMut(usize, Document) -> ControlFlow<()>,
) -> Result<()> {
    if table.is_empty() {
        return Ok(());
    }
    let partials = table.iter().map(|experiment| Partial::new(folder, model, experiment));
    let partials = partials.collect::<Result<Vec<_>>>()?;
    let mut begun = Vec::with_capacity(table.len());
    for (experiment, partial) in table.iter().zip(&partials) {
        begun.push(partial.take_up(experiment)?);
    }
    let bar = progress_bar(prints_text, "sweeping");
    let mut failure = None;
    let mut listener = |event: Event| {
        match event {
            Event::Share(share) => bar.set_position((share * BAR_STEPS as f64) as u64),
            Event::Said(text) if prints_text => say(&bar, text),
            Event::Wave { pair, part } => {
                if let Err(error) = partials[pair].add(part) {
                    failure = Some(error);
                    return ControlFlow::Break(());
                }
            }
            Event::Pair { pair, document } => {
                let went_on = bar.suspend(|| done(pair, document.clone()));
                if went_on.is_continue() {
                    partials[pair].remove();
                }
                return went_on;
            }
            _ => {}
        }
        interrupt::check()
    };
    let swept = remote.sweep(table, &begun, Limits::default(), &mut listener);
    bar.finish_and_clear();
    match (failure, swept) {
        (Some(error), _) => Err(error),
        (None, Err(NdifError::Cancelled)) => Err(SweepError::Cancelled.into()),
        (None, Err(error)) => {
            Err(anyhow!("{error}; what has come is kept, and the same command goes on from there"))
        }
        (None, Ok(summary)) if prints_text => output::line(&cost(&summary)),
        (None, Ok(_)) => Ok(()),
    }
}

fn say(bar: &ProgressBar, text: &str) {
    bar.suspend(|| eprintln!("ndif: {text}"));
}

/// Shows what would be asked of a server.
///
/// # Errors
/// An experiment that cannot be carried out there.
pub fn dry_run(
    model: &Description,
    prepared: &[Experiment],
    is_json: bool,
    is_quiet: bool,
) -> Result<()> {
    for (i, experiment) in prepared.iter().enumerate() {
        let plan = PairPlan::new(&experiment.specification, model.config.n_layers)?;
        if is_json {
            let alignment = &experiment.alignment;
            let planned = serde_json::json!({
                "id": experiment.id(model)?,
                "entity": experiment.entity,
                "status": "planned",
                "source_tokens": alignment.source,
                "base_tokens": alignment.base,
                "sentence_start": alignment.start,
                "answers": experiment.answers,
                "n_cells": plan.n_cells(),
            });
            output::line(&planned.to_string())?;
        } else if !is_quiet {
            let n_waves = plan.waves(plan.wave_cells(), |_| false).len();
            output::line(&title(i, prepared.len(), experiment))?;
            output::line(&report::experiment(model, experiment))?;
            output::line(&format!(
                "plan     {} in {}, {} known beforehand",
                counted(plan.n_cells(), "cell"),
                counted(n_waves, "wave"),
                plan.known.len()
            ))?;
        }
    }
    Ok(())
}

/// What a sweep took.
fn cost(summary: &Summary) -> String {
    format!(
        "\nndif     {}, {}, {} bytes sent and {} received; control cells came out within {:.1e}",
        counted(summary.n_requests, "request"),
        counted(summary.controls.n_waves, "wave"),
        summary.n_sent,
        summary.n_received,
        summary.controls.largest()
    )
}
