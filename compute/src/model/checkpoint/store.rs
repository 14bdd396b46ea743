//! Weights that stay where they are stored, for all who read them.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::placed::Placed;
use super::placement::Placement;
use super::weights::Weights;
use crate::model::arch::Config;

/// A model's weights where they are stored, for all who read them.
#[derive(Clone)]
pub struct WeightStore {
    weights: Arc<Mutex<dyn Weights + Send>>,
    /// Where they go when they are read.
    placement: Placement,
    config: Arc<Config>,
}

impl WeightStore {
    /// The weights of the model of `config`, each of which goes to `placement` when it is read.
    pub fn new(
        weights: impl Weights + Send + 'static,
        placement: Placement,
        config: Config,
    ) -> Self {
        Self { weights: Arc::new(Mutex::new(weights)), placement, config: Arc::new(config) }
    }

    /// Where weights go.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// The model.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Reads some of the weights, once nobody else does.
    pub fn with<R>(&self, read: impl FnOnce(&mut Placed) -> R) -> R {
        // A reader that panicked leaves a file and its headers, nothing half done.
        let mut weights = self.weights.lock().unwrap_or_else(PoisonError::into_inner);
        read(&mut Placed {
            weights: &mut *weights,
            placement: &self.placement,
            config: &self.config,
        })
    }
}

impl fmt::Debug for WeightStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeightStore")
    }
}
