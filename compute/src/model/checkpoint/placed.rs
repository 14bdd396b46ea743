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
    /// Where they come from, in f32 on the CPU.
    pub weights: &'a mut dyn Weights,
    /// Where they go.
    pub placement: &'a Placement,
    /// The model.
    pub config: &'a Config,
}

impl Weights for Placed<'_> {
    fn load(&mut self, weight: Weight, dims: &[usize]) -> Result<Tensor, ModelError> {
        let tensor = self.weights.load(weight, dims)?;
        self.placed(weight, tensor)
    }

    fn load_rows(
        &mut self,
        weight: Weight,
        dims: &[usize],
        rows: Range<usize>,
    ) -> Result<Tensor, ModelError> {
        let tensor = self.weights.load_rows(weight, dims, rows)?;
        self.placed(weight, tensor)
    }
}

impl Placed<'_> {
    fn placed(&self, weight: Weight, tensor: Tensor) -> Result<Tensor, ModelError> {
        let dtype = self.placement.dtype_of(self.config, weight);
        // Converted first, so that less is copied.
        let placed = tensor.to_dtype(dtype).and_then(|t| t.to_device(&self.placement.device));
        placed.map_err(|e| {
            let problem = format!("{weight:?} cannot be put there: {e}");
            ModelError::file(Path::new(&self.placement.device_name()), problem)
        })
    }
}
