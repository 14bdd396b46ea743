//! Norms and gates by the kernels of `rows.cu`.

use candle_core::backend::BackendStorage;
use candle_core::cuda::WrapErr;
use candle_core::cuda::cudarc::driver::{LaunchConfig, PushKernelArg};
use candle_core::{CudaStorage, Layout, Result, Shape, Tensor};

use super::{Kernel, LANES, Number, OnCuda, function, part, view};
use crate::model::arch::Activation;

const SOURCE: &str = include_str!("rows.cu");
/// The most threads that take a row, or a part of all numbers.
const MOST_THREADS: u32 = 256;
/// Numbers of a row that a thread takes.
const N_EACH: u32 = 8;
/// The most blocks of threads that share all numbers.
const MOST_BLOCKS: usize = 1 << 16;
/// Bytes that are read at once.
const READ_BYTES: usize = 16;

/// The norm of every row of `x` `[rows, width]` with `weight` `[width]` f32: a layer norm with a
/// `bias` `[width]` f32, and else an RMS norm.
///
/// # Errors
/// Shapes that do not fit, or what CUDA reports.
pub fn norm(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, eps: f32) -> Result<Tensor> {
    x.contiguous()?.apply_op1_no_bwd(&OnCuda(Norm { weight, bias, eps }))
}

/// `activation(gate) * up`, elementwise, for contiguous tensors of one shape.
///
/// # Errors
/// Shapes that do not fit, or what CUDA reports.
pub fn gated(gate: &Tensor, up: &Tensor, activation: Activation) -> Result<Tensor> {
    gate.apply_op1_no_bwd(&OnCuda(Gated { up, activation }))
}

struct Norm<'a> {
    weight: &'a Tensor,
    bias: Option<&'a Tensor>,
    eps: f32,
}

impl Kernel for Norm<'_> {
    const NAME: &'static str = "norm-on-cuda";

    fn run<T: Number>(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let (n_rows, width) = layout.shape().dims2()?;
        let bias = self.bias.unwrap_or(self.weight);
        if n_rows == 0 || self.weight.dims() != [width] || bias.dims() != [width] {
            candle_core::bail!("a norm of {:?} for {layout:?}", self.weight)
        }
        let device = x.device().clone();
        let constants = [("CENTRED", usize::from(self.bias.is_some())), ("ACTIVATION", 0)];
        let function = function(&device, ("norm_rows", SOURCE), T::DTYPE, &constants)?;
        let (weight, weight_layout) = self.weight.storage_and_layout();
        let weight = view::<f32>(&weight, weight_layout)?;
        let (bias, bias_layout) = bias.storage_and_layout();
        let bias = view::<f32>(&bias, bias_layout)?;
        let x = part(x.as_cuda_slice::<T>()?, layout)?;
        // SAFETY: the kernel writes every number of it.
        let out = unsafe { device.alloc::<T>(n_rows * width)? };
        let n = width as u32;
        let stream = device.cuda_stream();
        let mut builder = stream.launch_builder(&function);
        builder.arg(&x).arg(&weight).arg(&bias).arg(&out).arg(&n).arg(&self.eps);
        let n_threads = n.div_ceil(N_EACH).next_multiple_of(LANES).min(MOST_THREADS);
        let launch = LaunchConfig {
            grid_dim: (n_rows as u32, 1, 1),
            block_dim: (n_threads, 1, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: the arguments are those of the kernel in their order, of the lengths that it reads.
        unsafe { builder.launch(launch) }.w()?;
        Ok((CudaStorage::wrap_cuda_slice(out, device), layout.shape().clone()))
    }
}

struct Gated<'a> {
    up: &'a Tensor,
    activation: Activation,
}

impl Kernel for Gated<'_> {
    const NAME: &'static str = "gated-activation-on-cuda";

    fn run<T: Number>(
        &self,
        gate: &CudaStorage,
        gate_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (up, up_layout) = self.up.storage_and_layout();
        if gate_layout.shape() != up_layout.shape() || gate_layout.shape().elem_count() == 0 {
            candle_core::bail!("a gate of {gate_layout:?} for {up_layout:?}")
        }
        let n = gate_layout.shape().elem_count();
        let device = gate.device().clone();
        let activation = match self.activation {
            Activation::Silu => 0,
            Activation::Gelu => 1,
            Activation::GeluTanh => 2,
            Activation::Relu => 3,
        };
        let constants = [("CENTRED", 0), ("ACTIVATION", activation)];
        let function = function(&device, ("gate_rows", SOURCE), T::DTYPE, &constants)?;
        let n_read = READ_BYTES / size_of::<T>();
        // Several numbers can be read at once where they begin at a multiple.
        let is_aligned = [gate_layout, up_layout]
            .iter()
            .all(|layout| layout.start_offset().is_multiple_of(n_read));
        let n_reads = if is_aligned { n / n_read } else { 0 };
        let gate = part(gate.as_cuda_slice::<T>()?, gate_layout)?;
        let up = view::<T>(&up, up_layout)?;
        // SAFETY: the kernel writes every number of it.
        let out = unsafe { device.alloc::<T>(n)? };
        let stream = device.cuda_stream();
        let mut builder = stream.launch_builder(&function);
        builder.arg(&gate).arg(&up).arg(&out).arg(&n).arg(&n_reads);
        let n_blocks = n.div_ceil(n_read).div_ceil(MOST_THREADS as usize).clamp(1, MOST_BLOCKS);
        let launch = LaunchConfig {
            grid_dim: (n_blocks as u32, 1, 1),
            block_dim: (MOST_THREADS, 1, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: the arguments are those of the kernel in their order, of the lengths that it reads.
        unsafe { builder.launch(launch) }.w()?;
        Ok((CudaStorage::wrap_cuda_slice(out, device), gate_layout.shape().clone()))
    }
}
