//! `silu(gate) * up` in one pass over memory, on all cores.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::rows::contiguous;

/// `silu(gate) * up`, elementwise, for contiguous tensors of one shape.
///
/// # Errors
/// Shapes that differ, or what candle reports.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.apply_op2_no_bwd(up, &SwiGlu)
}

struct SwiGlu;

/// Elements a task: large enough to be worth scheduling, small enough to balance.
const CHUNK: usize = 1 << 14;

impl CustomOp2 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        gate_layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (gate, up) = (contiguous(gate, gate_layout)?, contiguous(up, up_layout)?);
        if gate_layout.shape() != up_layout.shape() {
            candle_core::bail!("swiglu of {gate_layout:?} and {up_layout:?}")
        }
        let mut out = vec![0.0f32; gate.len()];
        let chunks =
            out.par_chunks_mut(CHUNK).zip(gate.par_chunks(CHUNK)).zip(up.par_chunks(CHUNK));
        chunks.for_each(|((out, gate), up)| {
            for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
                *out = gate / (1.0 + (-gate).exp()) * up;
            }
        });
        Ok((CpuStorage::F32(out), gate_layout.shape().clone()))
    }
}
