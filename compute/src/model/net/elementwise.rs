//! Elementwise functions of the MLP and biases, in one pass over memory, on all cores: candle
//! computes them on one thread. On other devices they are left to candle, but for
//! gates on NVIDIA's GPUs.

use candle_core::cpu::erf::erf_f32;
use candle_core::{
    CpuStorage, CustomOp2, CustomOp3, InplaceOp1, InplaceOp2, Layout, Result, Shape, Tensor,
};
use rayon::prelude::*;

use super::cuda;
use super::functions::{exp, tanh, vectorised};
use super::rows::contiguous;
use crate::model::arch::Activation;
use crate::model::checkpoint::Kernels;

impl Activation {
    #[inline(always)]
    fn of(self, x: f32) -> f32 {
        match self {
            Self::Silu => x / (1.0 + exp(-x)),
            Self::Gelu => 0.5 * x * (1.0 + erf_f32(x * std::f32::consts::FRAC_1_SQRT_2)),
            Self::GeluTanh => {
                // sqrt(2 / pi)
                const SLOPE: f32 =
                    std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::FRAC_1_SQRT_2;
                0.5 * x * (1.0 + tanh(SLOPE * (x + 0.044_715 * x * x * x)))
            }
            Self::Relu => x.max(0.0),
        }
    }

    /// The same of a tensor, in candle's operations.
    fn stock(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Silu => x.silu(),
            Self::Gelu => x.gelu_erf(),
            Self::GeluTanh => x.gelu(),
            Self::Relu => x.relu(),
        }
    }

    /// Calls `f` with this function as a closure of its own, so that the choice is made once for a
    /// whole slice and not for every number.
    #[inline]
    fn with(self, f: impl Slices) {
        match self {
            Self::Silu => f.run(|x| Self::Silu.of(x)),
            Self::Gelu => f.run(|x| Self::Gelu.of(x)),
            Self::GeluTanh => f.run(|x| Self::GeluTanh.of(x)),
            Self::Relu => f.run(|x| Self::Relu.of(x)),
        }
    }
}

/// A loop over slices that applies a function to each number.
trait Slices {
    fn run(self, f: impl Fn(f32) -> f32 + Sync);
}

/// `activation(gate) * up`, elementwise, in place of `up`, for contiguous tensors of one shape;
/// nothing else may refer to `up`.
///
/// # Errors
/// Shapes that differ, or what candle reports.
pub fn gated(
    gate: &Tensor,
    up: Tensor,
    activation: Activation,
    kernels: Kernels,
) -> Result<Tensor> {
    match kernels {
        Kernels::Own => {
            up.inplace_op2(gate, &Gated(activation))?;
            Ok(up)
        }
        Kernels::Cuda => cuda::gated(gate, &up, activation),
        Kernels::Stock => activation.stock(gate)? * up,
    }
}

/// `activation(x)`, in place, for a contiguous tensor that nothing else refers to.
///
/// # Errors
/// What candle reports.
pub fn activate(x: Tensor, activation: Activation, kernels: Kernels) -> Result<Tensor> {
    if kernels != Kernels::Own {
        return activation.stock(&x);
    }
    x.inplace_op1(&Activate(activation))?;
    Ok(x)
}

/// `a + b`, matrices `[rows, width]`, with the rows of `after` `[rows, width]` after it.
///
/// # Errors
/// Shapes that do not fit, or what candle reports.
pub fn added(a: &Tensor, b: &Tensor, after: Option<&Tensor>, kernels: Kernels) -> Result<Tensor> {
    match (after, kernels) {
        (None, Kernels::Own) => a.apply_op2_no_bwd(b, &Added),
        (Some(after), Kernels::Own) => a.apply_op3_no_bwd(b, &after.contiguous()?, &Added),
        (None, _) => a + b,
        (Some(after), _) => Tensor::cat(&[&(a + b)?, after], 0),
    }
}

/// Adds `bias` `[width]` to every row of `x` `[rows, width]`, in place; `x` must be contiguous and
/// nothing else may refer to it.
///
/// # Errors
/// Shapes that do not fit, or what candle reports.
pub fn biased(x: Tensor, bias: Option<&Tensor>, kernels: Kernels) -> Result<Tensor> {
    match (bias, kernels) {
        (None, _) => Ok(x),
        (Some(bias), Kernels::Own) => {
            x.inplace_op2(bias, &AddBias)?;
            Ok(x)
        }
        (Some(bias), _) => x.broadcast_add(bias),
    }
}

/// `cap * tanh(x / cap)`, in place, for a contiguous tensor that nothing else refers to.
///
/// # Errors
/// What candle reports.
pub fn softcapped(x: Tensor, cap: Option<f32>, kernels: Kernels) -> Result<Tensor> {
    match (cap, kernels) {
        (None, _) => Ok(x),
        (Some(cap), Kernels::Own) => {
            x.inplace_op1(&Softcap(cap))?;
            Ok(x)
        }
        (Some(cap), _) => (x / f64::from(cap))?.tanh()? * f64::from(cap),
    }
}

/// Elements a task: large enough to be worth scheduling, small enough to balance.
const CHUNK: usize = 1 << 14;

struct Gated(Activation);

struct GatedSlices<'a> {
    gate: &'a [f32],
    up: &'a mut [f32],
}

impl Slices for GatedSlices<'_> {
    #[inline]
    fn run(self, f: impl Fn(f32) -> f32 + Sync) {
        let chunks = self.up.par_chunks_mut(CHUNK).zip(self.gate.par_chunks(CHUNK));
        chunks.for_each(|(up, gate)| {
            vectorised(|| {
                for (up, &gate) in up.iter_mut().zip(gate) {
                    *up *= f(gate);
                }
            });
        });
    }
}

impl InplaceOp2 for Gated {
    fn name(&self) -> &'static str {
        "gated-activation"
    }

    fn cpu_fwd(
        &self,
        up: &mut CpuStorage,
        up_layout: &Layout,
        gate: &CpuStorage,
        gate_layout: &Layout,
    ) -> Result<()> {
        if gate_layout.shape() != up_layout.shape() {
            candle_core::bail!("a gate of {gate_layout:?} for {up_layout:?}")
        }
        let (gate, up) = (contiguous(gate, gate_layout)?, contiguous_mut(up, up_layout)?);
        self.0.with(GatedSlices { gate, up });
        Ok(())
    }
}

struct Added;

impl Added {
    fn run(&self, a: &[f32], b: &[f32], after: &[f32]) -> CpuStorage {
        let mut out = vec![0.0f32; a.len() + after.len()];
        let (sums, rest) = out.split_at_mut(a.len());
        let chunks = sums.par_chunks_mut(CHUNK).zip(a.par_chunks(CHUNK).zip(b.par_chunks(CHUNK)));
        chunks.for_each(|(out, (a, b))| {
            vectorised(|| {
                for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
                    *out = a + b;
                }
            });
        });
        rest.par_chunks_mut(CHUNK)
            .zip(after.par_chunks(CHUNK))
            .for_each(|(out, after)| out.copy_from_slice(after));
        CpuStorage::F32(out)
    }
}

impl CustomOp2 for Added {
    fn name(&self) -> &'static str {
        "added"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        if a_layout.shape() != b_layout.shape() {
            candle_core::bail!("{b_layout:?} to add to {a_layout:?}")
        }
        let sum = self.run(contiguous(a, a_layout)?, contiguous(b, b_layout)?, &[]);
        Ok((sum, a_layout.shape().clone()))
    }
}

impl CustomOp3 for Added {
    fn name(&self) -> &'static str {
        "added-with-rows-after"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
        after: &CpuStorage,
        after_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (n_rows, width) = a_layout.shape().dims2()?;
        let (n_after, after_width) = after_layout.shape().dims2()?;
        if a_layout.shape() != b_layout.shape() || after_width != width {
            candle_core::bail!("{b_layout:?} to add to {a_layout:?} before {after_layout:?}")
        }
        let [a, b] = [contiguous(a, a_layout)?, contiguous(b, b_layout)?];
        let sum = self.run(a, b, contiguous(after, after_layout)?);
        Ok((sum, (n_rows + n_after, width).into()))
    }
}

struct Activate(Activation);

struct InPlace<'a>(&'a mut [f32]);

impl Slices for InPlace<'_> {
    #[inline]
    fn run(self, f: impl Fn(f32) -> f32 + Sync) {
        self.0.par_chunks_mut(CHUNK).for_each(|chunk| {
            vectorised(|| chunk.iter_mut().for_each(|x| *x = f(*x)));
        });
    }
}

impl InplaceOp1 for Activate {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn cpu_fwd(&self, x: &mut CpuStorage, layout: &Layout) -> Result<()> {
        self.0.with(InPlace(contiguous_mut(x, layout)?));
        Ok(())
    }
}

struct Softcap(f32);

impl InplaceOp1 for Softcap {
    fn name(&self) -> &'static str {
        "soft-cap"
    }

    fn cpu_fwd(&self, x: &mut CpuStorage, layout: &Layout) -> Result<()> {
        InPlace(contiguous_mut(x, layout)?).run(|x| self.0 * tanh(x / self.0));
        Ok(())
    }
}

struct AddBias;

impl InplaceOp2 for AddBias {
    fn name(&self) -> &'static str {
        "add-bias"
    }

    fn cpu_fwd(
        &self,
        x: &mut CpuStorage,
        layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<()> {
        let (_, width) = layout.shape().dims2()?;
        let bias = contiguous(bias, bias_layout)?;
        if bias.len() != width {
            candle_core::bail!("a bias of {} numbers for rows of {width}", bias.len())
        }
        contiguous_mut(x, layout)?.par_chunks_mut(width).with_min_len(8).for_each(|row| {
            for (x, bias) in row.iter_mut().zip(bias) {
                *x += bias;
            }
        });
        Ok(())
    }
}

/// The numbers of a contiguous f32 tensor, to be changed.
pub(super) fn contiguous_mut<'a>(
    storage: &'a mut CpuStorage,
    layout: &Layout,
) -> Result<&'a mut [f32]> {
    let Some((begin, end)) = layout.contiguous_offsets() else {
        candle_core::bail!("expected a contiguous tensor, found {layout:?}")
    };
    match storage {
        CpuStorage::F32(numbers) => Ok(&mut numbers[begin..end]),
        _ => candle_core::bail!("expected f32"),
    }
}
