//! Where a model's numbers are, in which type, and what computes with them.

use candle_core::{DType, Device};

use crate::model::arch::{Config, Module, Weight};

/// What computes beside the matrix products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kernels {
    /// Our own, for f32 on the CPU.
    #[default]
    Own,
    /// Our own for NVIDIA's GPUs, and candle's tensor operations for the rest.
    Cuda,
    /// candle's tensor operations, on any device in any type.
    Stock,
}

impl Kernels {
    /// How many tiles go through a block at the same time, of the `n` that may: all but our own
    /// kernels for the CPU divide their work themselves.
    pub fn n_tiles_at_once(self, n: usize) -> usize {
        match self {
            Self::Own => n,
            Self::Cuda | Self::Stock => 1,
        }
    }
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

/// NVIDIA's GPU number `ordinal`, on which everything happens in the order in which it is asked for,
/// whichever thread asks. `Device::new_cuda` gives each thread a stream of its own and lets none wait
/// for another: the weights that one thread reads would not be there yet when another computes with
/// them, or would be written into memory that has another use by then.
///
/// # Errors
/// No such GPU, or a program that was built without CUDA.
pub fn cuda_device(ordinal: usize) -> candle_core::Result<Device> {
    let device = Device::new_cuda_with_stream(ordinal)?;
    #[cfg(feature = "cuda")]
    if let Device::Cuda(cuda) = &device {
        #[allow(unsafe_code, reason = "candle leaves it to its callers to order streams")]
        // SAFETY: there is one stream, so there is no other to wait for.
        unsafe {
            cuda.disable_event_tracking();
        }
    }
    Ok(device)
}

impl Placement {
    /// A device and a type with the kernels that there are for them.
    pub fn new(device: Device, dtype: DType) -> Self {
        let kernels = match (device.is_cpu() && dtype == DType::F32, device.is_cuda()) {
            (true, _) => Kernels::Own,
            (_, true) => Kernels::Cuda,
            _ => Kernels::Stock,
        };
        Self { device, dtype, kernels }
    }

    /// The type of a weight of the model of `config`.
    pub fn dtype_of(&self, config: &Config, weight: Weight) -> DType {
        let is_unembed = weight.module == Module::Unembed
            || (weight.module == Module::Embed && config.tied_embeddings);
        match is_unembed || weight.module.is_norm() {
            true => DType::F32,
            false => self.dtype,
        }
    }

    /// The memory that weights of the model of `config` take, which come with their shapes.
    pub fn n_bytes(
        &self,
        config: &Config,
        weights: impl Iterator<Item = (Weight, Vec<usize>)>,
    ) -> usize {
        let bytes = |(weight, dims): (Weight, Vec<usize>)| {
            dims.iter().product::<usize>() * self.dtype_of(config, weight).size_in_bytes()
        };
        weights.map(bytes).sum()
    }

    /// The device's name: `cpu`, `cuda:0` or `metal`.
    pub fn device_name(&self) -> String {
        match self.device.location() {
            candle_core::DeviceLocation::Cpu => "cpu".into(),
            candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
            candle_core::DeviceLocation::Metal { .. } => "metal".into(),
        }
    }

    /// The memory that is free on a device that has its own, in bytes, by its driver; of Metal, which
    /// shares the machine's, what the system recommends to use.
    ///
    /// # Errors
    /// A driver that does not say.
    pub fn n_free_bytes(device: &Device) -> candle_core::Result<Option<u64>> {
        match device {
            Device::Cpu => Ok(None),
            #[cfg(feature = "cuda")]
            Device::Cuda(cuda) => {
                let (free, _) = cuda
                    .cuda_stream()
                    .context()
                    .mem_get_info()
                    .map_err(|e| candle_core::Error::msg(format!("what is free there: {e}")))?;
                Ok(Some(free as u64))
            }
            #[cfg(feature = "metal")]
            Device::Metal(metal) => {
                Ok(Some(metal.metal_device().recommended_max_working_set_size() as u64))
            }
            #[allow(
                unreachable_patterns,
                reason = "which devices there are depends on the features"
            )]
            _ => Ok(None),
        }
    }
}
