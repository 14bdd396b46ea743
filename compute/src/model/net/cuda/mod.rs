//! Our kernels for NVIDIA's GPUs, where candle's operations take several passes over memory or many
//! small steps. NVIDIA's compiler library, which candle needs anyway, compiles them for a model's
//! shapes and type when they are first met: constants in place of variables let it unroll the loops.

#![allow(unsafe_code, reason = "a kernel's launch is a call of foreign code")]

mod attention;
mod rows;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use candle_core::backend::BackendStorage;
use candle_core::cuda::cudarc::driver::{CudaFunction, CudaSlice, CudaView, DeviceRepr};
use candle_core::cuda::cudarc::nvrtc::compile_ptx;
use candle_core::cuda::{CudaDType, CudaDevice};
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, DType, Error, Layout, Result, Shape, Storage, WithDType,
};
use half::{bf16, f16};

pub use attention::attend;
pub use rows::{gated, norm};

/// Threads that compute in step.
const LANES: u32 = 32;

/// Numbers that kernels compute.
trait Number: CudaDType + DeviceRepr + WithDType {}

impl Number for f32 {}
impl Number for f16 {}
impl Number for bf16 {}

/// What is made of a matrix on a GPU, whichever type its numbers have.
trait Kernel {
    /// What it is called.
    const NAME: &'static str;

    /// Makes it of `x`.
    fn run<T: Number>(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)>;
}

/// A kernel as one of candle's operations.
struct OnCuda<K>(K);

impl<K: Kernel> CustomOp1 for OnCuda<K> {
    fn name(&self) -> &'static str {
        K::NAME
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        candle_core::bail!("`{}` of numbers on the CPU", K::NAME)
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        match x.dtype() {
            DType::F32 => self.0.run::<f32>(x, layout),
            DType::F16 => self.0.run::<f16>(x, layout),
            DType::BF16 => self.0.run::<bf16>(x, layout),
            other => candle_core::bail!("`{}` of {other:?}", K::NAME),
        }
    }
}

/// The function `name` of `source` for a type and the constants that it asks for, compiled when it is
/// first asked for.
fn function(
    device: &CudaDevice,
    (name, source): (&str, &str),
    dtype: DType,
    constants: &[(&str, usize)],
) -> Result<CudaFunction> {
    /// What was compiled, by its constants and its function.
    static COMPILED: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
    let number = match dtype {
        DType::F32 => 0,
        DType::F16 => 1,
        DType::BF16 => 2,
        other => candle_core::bail!("no kernel computes {other:?}"),
    };
    let constants = [&[("TYPE", number)], constants].concat();
    let constants: String =
        constants.iter().map(|(name, value)| format!("#define {name} {value}\n")).collect();
    let key = format!("{constants}{name}");
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if !compiled.contains_key(&key) {
        let program = format!("{constants}{}{source}", include_str!("numbers.cu"));
        let code = compile_ptx(program)
            .map_err(|e| Error::msg(format!("the kernel {name} cannot be compiled: {e:?}")))?;
        compiled.insert(key.clone(), code.to_src());
    }
    let function = device.get_or_load_custom_func(name, &key, &compiled[&key])?;
    Ok(function.into_cuda_function())
}

/// The numbers of a contiguous tensor.
fn view<'a, T: CudaDType>(storage: &'a Storage, layout: &Layout) -> Result<CudaView<'a, T>> {
    match storage {
        Storage::Cuda(storage) => part(storage.as_cuda_slice::<T>()?, layout),
        _ => candle_core::bail!("a tensor is on another device than the others"),
    }
}

fn part<'a, T>(numbers: &'a CudaSlice<T>, layout: &Layout) -> Result<CudaView<'a, T>> {
    let Some((begin, end)) = layout.contiguous_offsets() else {
        candle_core::bail!("expected a contiguous tensor, found {layout:?}")
    };
    Ok(numbers.slice(begin..end))
}
