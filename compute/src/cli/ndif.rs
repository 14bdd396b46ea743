//! `patchboard sweep --on ndif`: the model is on a server.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
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
use crate::hub::Wanted;
use crate::model::{Description, Elsewhere, VERSION};
use crate::ndif::plan::PairPlan;
use crate::ndif::protocol::{Answer, Ask, Opened};
use crate::ndif::{Event, Helper, Limits, NdifError, Settings, Summary, check_settings, run};
use crate::study::Experiment;
use crate::sweep::{Finished, SweepError};

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

/// A longer time limit is none.
const MAX_LIMIT_SECS: f64 = 1e6;
/// The host that is no server.
const LOCAL: &str = "local";

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

/// A model on a server.
pub struct Remote {
    /// What is known of it.
    pub model: Description,
    helper: RefCell<Helper>,
    time_limit: Option<Duration>,
}

impl Remote {
    /// Reads configuration and tokenizer, asks the server for the model, and shows what it says.
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
    ) -> Result<Self> {
        check_settings(&settings.settings)?;
        if opening.names_device() {
            bail!(
                "`--device` and `--dtype` are this machine's: with `--on ndif` the server decides"
            );
        }
        let name =
            name.context("`--on ndif` needs `--model`, an id of the hub such as `org/name`")?;
        let host = args.ndif_host.as_deref();
        let is_local = host == Some(LOCAL);
        let wanted = if is_local { Wanted::All } else { Wanted::AllButWeights };
        let (id, revision, folder) = match opening::hub_id(name) {
            Some(id) => {
                let snapshot = opening.snapshot(&id, wanted, !prints_text)?;
                let revision = (id.revision != "main").then_some(id.revision);
                (id.name, revision, snapshot.folder)
            }
            None if is_local => (name.display().to_string(), None, name.canonicalize()?),
            None => bail!(
                "{} is a path, and a server knows models by their ids on the hub: expected `org/name`",
                name.display()
            ),
        };
        let mut helper = Helper::start(&Settings::default())?;
        helper.ask(&Ask::Open {
            host,
            model: &id,
            folder: &folder,
            revision: revision.as_deref(),
        })?;
        let opened = loop {
            match helper.answer(&mut || interrupt::check().is_break())? {
                Answer::Opened(opened) => break opened,
                Answer::Said { text } if prints_text => eprintln!("ndif: {text}"),
                Answer::Said { .. } | Answer::Alive => {}
                Answer::Failed { reason, message } => {
                    return Err(NdifError::Failed { reason, message }.into());
                }
                _ => bail!("NDIF's answer is not as it should be: found numbers before a model"),
            }
        };
        let model = Description::of_folder(&folder, &elsewhere(&opened, id, revision))?;
        if prints_text {
            output::line(&described_server(&model, &opened))?;
        }
        let time_limit = opened.time_limit_secs.filter(|secs| *secs > 0.0 && secs.is_finite());
        let time_limit = time_limit.map(|secs| Duration::from_secs_f64(secs.min(MAX_LIMIT_SECS)));
        Ok(Self { model, helper: RefCell::new(helper), time_limit })
    }

    /// Sweeps a table behind a progress bar. What has arrived of a pair is kept in `folder` until all
    /// of it has.
    ///
    /// # Errors
    /// A server or a file that fails, or an interruption.
    pub fn sweep(
        &self,
        folder: &Folder,
        table: &[&Experiment],
        prints_text: bool,
        done: &mut dyn FnMut(usize, Document) -> ControlFlow<()>,
    ) -> Result<()> {
        if table.is_empty() {
            return Ok(());
        }
        let partials = table.iter().map(|experiment| Partial::new(folder, &self.model, experiment));
        let partials = partials.collect::<Result<Vec<_>>>()?;
        let mut finished = vec![Finished::new(); table.len()];
        for ((experiment, partial), finished) in table.iter().zip(&partials).zip(&mut finished) {
            *finished = partial.read(experiment);
            partial.rewrite(finished)?;
        }
        let bar = progress_bar(prints_text);
        let mut failure = None;
        let mut listener = |event: Event| {
            match event {
                Event::Share(share) => bar.set_position((share * BAR_STEPS as f64) as u64),
                Event::Said(text) if prints_text => say(&bar, text),
                Event::Trials { pair, readings } => {
                    if let Err(error) = partials[pair].add(readings) {
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
        let mut helper = self.helper.borrow_mut();
        let limits = Limits { time_limit: self.time_limit, ..Limits::default() };
        let swept = run(&mut helper, &self.model, table, &finished, limits, &mut listener);
        bar.finish_and_clear();
        match (failure, swept) {
            (Some(error), _) => Err(error),
            (None, Err(NdifError::Cancelled)) => Err(SweepError::Cancelled.into()),
            (None, Err(error)) => Err(error.into()),
            (None, Ok(summary)) if prints_text => output::line(&cost(&summary)),
            (None, Ok(_)) => Ok(()),
        }
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

/// What the description of a model says of where it is computed.
fn elsewhere(opened: &Opened, name: String, revision: Option<String>) -> Elsewhere {
    let dtype = match opened.dtype.as_deref().map(|dtype| dtype.trim_start_matches("torch.")) {
        Some("float32") => "f32",
        Some("bfloat16") => "bf16",
        Some("float16") => "f16",
        Some(other) => other,
        None => shared::specification::vocabulary::UNKNOWN,
    };
    let ndif = opened.ndif.as_ref().map(|version| format!(", ndif {version}"));
    Elsewhere {
        name,
        revision,
        dtype: dtype.to_string(),
        device: format!("ndif {}", opened.host),
        engine: format!(
            "patchboard {VERSION}, nnsight {}{}",
            opened.server_nnsight.as_ref().unwrap_or(&opened.nnsight),
            ndif.unwrap_or_default()
        ),
    }
}

/// The server and the model there, in a line.
fn described_server(model: &Description, opened: &Opened) -> String {
    let limit = match opened.time_limit_secs {
        Some(secs) => format!("{secs:.0} s a request at most"),
        None => "no time limit known".into(),
    };
    let key = match opened.is_trusted {
        Some(true) => ", with a trusted key",
        Some(false) => ", with a key whose requests run in a sandbox, which is slower",
        None => "",
    };
    format!(
        "{}: {} layers of width {} on {} ({}), {}, computed in {}, {limit}{key}",
        model.name,
        model.config.n_layers,
        model.config.d_model,
        model.device,
        model.engine,
        opened.state,
        model.dtype
    )
}

/// What a sweep took.
fn cost(summary: &Summary) -> String {
    format!(
        "\nndif     {}, {}, {} bytes sent and {} received; control cells came out within {:.1e}",
        counted(summary.n_requests, "request"),
        counted(summary.n_waves, "wave"),
        summary.n_sent,
        summary.n_received,
        summary.largest_control
    )
}
