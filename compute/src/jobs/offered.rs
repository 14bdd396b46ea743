//! Models to choose from: of this machine, or on a server.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use shared::wire::listing::ModelInfo;

use super::intake::IntakeError;
use crate::model::{Description, Model, ModelError};
use crate::ndif::Remote;

/// A model to choose from.
pub struct Offered {
    /// What computes its sweeps.
    pub engine: Engine,
    /// The model as clients see it, once it is opened.
    info: OnceLock<ModelInfo>,
    /// Why a model on a server is not opened yet.
    why_away: Mutex<String>,
    /// What was done in a second of its last sweep, operations or, on a server, cells, as the bits of
    /// an f64; 0 while there was none.
    speed: AtomicU64,
}

/// What computes the sweeps of a model.
pub enum Engine {
    /// This machine: what each worker sweeps. Checks and previews see the first one's.
    Here(Vec<Arc<Model>>),
    /// A server, which one worker of its own asks.
    Ndif(Box<Remote>),
}

impl Offered {
    /// A model, of which each worker has one of `copies`.
    ///
    /// # Errors
    /// Files that cannot be read, or that were changed since the model was opened.
    pub fn here(copies: Vec<Arc<Model>>) -> Result<Self, ModelError> {
        let info = info(&copies[0])?;
        Ok(Self { info: info.into(), ..Self::new(Engine::Here(copies)) })
    }

    /// A model on a server, which may be opened later.
    pub fn on_ndif(remote: Remote) -> Self {
        Self::new(Engine::Ndif(Box::new(remote)))
    }

    fn new(engine: Engine) -> Self {
        let why_away = Mutex::new("it has not been asked for yet".to_string());
        Self { engine, info: OnceLock::new(), why_away, speed: AtomicU64::new(0) }
    }

    /// By which it is asked for.
    pub fn name(&self) -> &str {
        match &self.engine {
            Engine::Here(copies) => &copies[0].name,
            Engine::Ndif(remote) => remote.name(),
        }
    }

    /// What is known of it.
    ///
    /// # Errors
    /// [`IntakeError::Away`]: it is on a server, and could not be opened there yet.
    pub fn model(&self) -> Result<&Description, IntakeError> {
        let model = match &self.engine {
            Engine::Here(copies) => Some(&copies[0].description),
            Engine::Ndif(remote) => remote.model(),
        };
        model.ok_or_else(|| IntakeError::Away {
            name: self.name().to_string(),
            why: self.why_away.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        })
    }

    /// The model as clients see it; `None` until it is opened.
    pub fn info(&self) -> Option<&ModelInfo> {
        match (self.info.get(), self.model()) {
            (None, Ok(model)) => info(model).ok().map(|info| self.info.get_or_init(|| info)),
            (info, _) => info,
        }
    }

    /// Says why it could not be opened; whether that is news.
    pub fn is_away(&self, why: String) -> bool {
        let mut before = self.why_away.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = *before != why;
        *before = why;
        is_news
    }

    /// Operations or cells a second; `None` while nothing was measured.
    pub fn speed(&self) -> Option<f64> {
        Some(f64::from_bits(self.speed.load(Ordering::Relaxed))).filter(|speed| *speed > 0.0)
    }

    /// Remembers how much was done in how many seconds.
    pub fn set_speed(&self, done: f64, secs: f64) {
        if done > 0.0 && secs > 0.0 {
            self.speed.store((done / secs).to_bits(), Ordering::Relaxed);
        }
    }
}

fn info(model: &Description) -> Result<ModelInfo, ModelError> {
    let config = &model.config;
    Ok(ModelInfo {
        name: model.name.clone(),
        architecture: config.architecture.to_string(),
        fingerprint: model.fingerprint.get()?.to_string(),
        weights_dtype: model.weights_dtype.clone(),
        dtype: model.dtype.clone(),
        device: model.device.clone(),
        engine: model.engine.clone(),
        n_layers: config.n_layers,
        d_model: config.d_model,
        d_vocab: config.d_vocab,
        n_context: config.n_context,
    })
}
