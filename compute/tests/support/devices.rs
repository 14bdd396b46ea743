//! Where tests of the engine run.

use candle_core::{DType, Device};
use compute::model::{Kernels, Placement, cuda_device};

/// The CPU with our kernels, the CPU with candle's operations, and the accelerators that the tests
/// are built for and find, all in f32.
pub fn devices() -> Vec<Placement> {
    let own = Placement::default();
    let stock = Placement { kernels: Kernels::Stock, ..own.clone() };
    let found = [
        cfg!(feature = "cuda").then(|| cuda_device(0)),
        cfg!(feature = "metal").then(|| Device::new_metal(0)),
    ];
    let found = found.into_iter().flatten().flatten();
    let accelerators = found.map(|device| Placement::new(device, DType::F32));
    [own, stock].into_iter().chain(accelerators).collect()
}
