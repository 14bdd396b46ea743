//! Where a model's numbers are, in which type, and what computes with them.

use std::ops::Range;

use candle_core::{DType, Device, Tensor};

use super::error::ModelError;
use super::names::{Module, Weight};
use super::weights::Weights;

/// What computes beside the matrix products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kernels {
    /// Our own, for f32 on the CPU.
    #[default]
    Own,
    /// candle's tensor operations, on any device in any type.
    Stock,
}

/// Where a model's numbers are, in which type, and what computes with them.
#[derive(Debug, Clone)]
pub struct Placement {
    /// The device that holds the weights and computes.
    pub device: Device,
    /// The type of the residual stream and of the linear maps. Norms, softmax and the unembedding
    /// are f32 whatever it is.
    pub dtype: DType,
    /// What computes beside the matrix products.
    pub kernels: Kernels,
}

impl Default for Placement {
    fn default() -> Self {
        Self { device: Device::Cpu, dtype: DType::F32, kernels: Kernels::Own }
    }
}

impl Placement {
    /// A device and a type with the kernels that there are for them.
    pub fn new(device: Device, dtype: DType) -> Self {
        let kernels = match device.is_cpu() && dtype == DType::F32 {
            true => Kernels::Own,
            false => Kernels::Stock,
        };
        Self { device, dtype, kernels }
    }

    /// The type of a weight, where the embedding is the unembedding, too, if they are `tied`.
    pub fn dtype_of(&self, weight: Weight, tied: bool) -> DType {
        let is_unembed =
            weight.module == Module::Unembed || (weight.module == Module::Embed && tied);
        match is_unembed || weight.module.is_norm() {
            true => DType::F32,
            false => self.dtype,
        }
    }

    /// The device's name: `cpu`, `cuda:0` or `metal`.
    pub fn device_name(&self) -> String {
        match self.device.location() {
            candle_core::DeviceLocation::Cpu => "cpu".into(),
            candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
            candle_core::DeviceLocation::Metal { .. } => "metal".into(),
        }
    }
}

/// Weights that come out where and as `placement` says.
pub struct Placed<'a> {
    /// Where they come from, in f32 on the CPU.
    pub weights: &'a mut dyn Weights,
    /// Where they go.
    pub placement: Placement,
    /// Whether the embedding is the unembedding, too.
    pub tied: bool,
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

    fn kernels(&self) -> Kernels {
        self.placement.kernels
    }
}

impl Placed<'_> {
    fn placed(&self, weight: Weight, tensor: Tensor) -> Result<Tensor, ModelError> {
        let dtype = self.placement.dtype_of(weight, self.tied);
        // Converted first, so that less is copied.
        let placed = tensor.to_dtype(dtype).and_then(|t| t.to_device(&self.placement.device));
        placed.map_err(|e| {
            let problem = format!("{weight:?} cannot be put there: {e}");
            ModelError::file(std::path::Path::new(&self.placement.device_name()), problem)
        })
    }
}
