//! What computes a sweep: this process, or a server.

use std::time::Instant;

use anyhow::Result;
use shared::specification::settings::Checked;

use super::sweep::SweepArgs;
use super::{ndif, output};
use crate::experiment::{self, Experiment};
use crate::model::{Description, Model};
use crate::ndif::{Remote, check_experiment};
use crate::sweep::Division;

/// What computes a sweep.
pub enum Engine {
    /// This process.
    Here {
        /// The model.
        model: Box<Model>,
        /// What a sweep may take of memory, in bytes.
        allowed: usize,
    },
    /// A server.
    Ndif(Box<Remote>),
}

impl Engine {
    /// Opens what `args` ask for, and says what it is.
    ///
    /// # Errors
    /// A model that cannot be had, or a server that cannot be reached.
    pub fn open(args: &SweepArgs, settings: &Checked, prints_text: bool) -> Result<Self> {
        let begin = Instant::now();
        let name = args.model.as_deref();
        if args.ndif.is_on()? {
            let remote = ndif::open(&args.ndif, &args.opening, name, settings, prints_text)?;
            return Ok(Self::Ndif(Box::new(remote)));
        }
        let placement = args.opening.placement()?;
        let limit = args.memory.limit(&placement.device)?;
        let model = args.opening.open(name, !prints_text, &placement, limit)?;
        if prints_text {
            output::line(&format!(
                "{}: {} layers of width {}, weights in {}{} computed in {} on {}, opened in {:.1} s",
                model.name,
                model.config.n_layers,
                model.config.d_model,
                model.weights_dtype,
                if model.network.is_streamed() { ", read layer by layer," } else { "" },
                model.dtype,
                model.device,
                begin.elapsed().as_secs_f64()
            ))?;
        }
        let allowed = model.n_sweep_bytes(limit);
        Ok(Self::Here { model: Box::new(model), allowed })
    }

    /// What is known of the model.
    pub fn model(&self) -> &Description {
        match self {
            Self::Here { model, .. } => model,
            Self::Ndif(remote) => remote.model().expect("it is opened with the engine"),
        }
    }

    /// Refuses what it cannot carry out.
    ///
    /// # Errors
    /// Why.
    pub fn check(&self, experiment: &Experiment) -> Result<()> {
        match self {
            Self::Here { model, allowed } => check(model, *allowed, experiment),
            Self::Ndif(_) => Ok(check_experiment(experiment)?),
        }
    }
}

/// Refuses what `model` cannot carry out with `allowed` bytes of memory.
///
/// # Errors
/// Why.
pub fn check(model: &Model, allowed: usize, experiment: &Experiment) -> Result<()> {
    experiment::compile(model, &[experiment], &Division::within(allowed), &[])?;
    Ok(())
}
