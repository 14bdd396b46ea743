//! Weights on their way from where they are stored to where they are computed with.

use std::ops::Range;
use std::path::Path;

use candle_core::Tensor;

use super::error::ModelError;
use super::placement::Placement;
use super::weights::Weights;
use crate::model::arch::{Config, Weight};

/// Weights that come out where and as `placement` says.
pub struct Placed<'a> {
    /// Where they come from.
    pub weights: &'a mut dyn Weights,
    /// Where they go.
    pub placement: &'a Placement,
    /// The model.
    pub config: &'a Config,
}

impl Placed<'_> {
    /// Reads one weight, if the model has it.
    ///
    /// # Errors
    /// As for [`Weights::load`], or a device on which there is no room.
    pub fn load(&mut self, weight: Weight) -> Result<Option<Tensor>, ModelError> {
        let Some(dims) = self.config.shape(weight) else { return Ok(None) };
        let dtype = self.placement.dtype_of(self.config, weight);
        let tensor = self.weights.load(weight, &dims, dtype)?;
        self.moved(weight, &tensor).map(Some)
    }

    /// Reads some consecutive rows of one weight, whose whole shape must be `dims`.
    ///
    /// # Errors
    /// As for [`Self::load`].
    pub fn load_rows(
        &mut self,
        weight: Weight,
        dims: &[usize],
        rows: Range<usize>,
    ) -> Result<Tensor, ModelError> {
        let dtype = self.placement.dtype_of(self.config, weight);
        let tensor = self.weights.load_rows(weight, dims, rows, dtype)?;
        self.moved(weight, &tensor)
    }

    fn moved(&self, weight: Weight, tensor: &Tensor) -> Result<Tensor, ModelError> {
        tensor.to_device(&self.placement.device).map_err(|e| {
            let problem = format!("{weight:?} cannot be put there: {e}");
            ModelError::file(Path::new(&self.placement.device_name()), problem)
        })
    }
}
