//! Products with a matrix that lies in the order in which they read it.
//!
//! A library that is given any two matrices first copies them in that order, "packs" them, each time.
//! Weights are the same in thousands of products, so they are packed once. What multiplies are the
//! kernels of `gemm`, with which candle multiplies, too. A row's numbers are the same to the bit however
//! many rows there are, and whatever they are.

#![allow(unsafe_code, reason = "the kernels take pointers")]

use std::ops::Range;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicPtr, Ordering};

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, Device, Layout, Result, Shape, Storage, Tensor,
};
use rayon::prelude::*;

use super::rows::contiguous;

/// A matrix that rows are multiplied with, f32 on the CPU.
#[derive(Debug, Clone)]
pub struct Packed {
    /// `[panels, in, panel]`: the outputs are divided in panels, as wide as a kernel's outcome, with
    /// zeros after the last of them.
    panels: Tensor,
    d_out: usize,
    kernels: &'static Kernels,
}

impl Packed {
    /// Packs `weight` `[out, in]`, contiguous.
    ///
    /// # Errors
    /// Another type than f32, or a tensor with gaps.
    pub fn new(weight: &Tensor) -> Result<Self> {
        Self::for_kernels(weight, &KERNELS[0])
    }

    fn for_kernels(weight: &Tensor, kernels: &'static Kernels) -> Result<Self> {
        let panels = weight.apply_op1_no_bwd(&Pack { width: kernels.n_outputs() })?;
        Ok(Self { panels, d_out: weight.dim(0)?, kernels })
    }

    /// How many outputs there are.
    pub fn n_outputs(&self) -> usize {
        self.d_out
    }

    /// The part that makes the outputs `range`, which begins where a panel does.
    ///
    /// # Errors
    /// A range that begins elsewhere or ends beyond the last output.
    pub fn narrow(&self, range: Range<usize>) -> Result<Self> {
        let (_, _, width) = self.panels.dims3()?;
        if !range.start.is_multiple_of(width) || range.end > self.d_out {
            candle_core::bail!("outputs {range:?} of {} in panels of {width}", self.d_out)
        }
        let panels = self.panels.narrow(0, range.start / width, range.len().div_ceil(width))?;
        Ok(Self { panels, d_out: range.len(), ..*self })
    }

    /// The rows `outputs` of the matrix that was packed, `[outputs, in]`.
    ///
    /// # Errors
    /// An output that there is not.
    pub fn rows(&self, outputs: &[u32]) -> Result<Tensor> {
        let (_, d_in, width) = self.panels.dims3()?;
        if let Some(output) = outputs.iter().find(|&&output| output as usize >= self.d_out) {
            candle_core::bail!("row {output} of a matrix that has {}", self.d_out)
        }
        let (storage, layout) = self.panels.storage_and_layout();
        let Storage::Cpu(storage) = &*storage else { candle_core::bail!("expected the CPU") };
        let panels = contiguous(storage, layout)?;
        let row = |&output: &u32| {
            let (panel, column) = (output as usize / width, output as usize % width);
            panels[panel * d_in * width..][..d_in * width].iter().skip(column).step_by(width)
        };
        let rows: Vec<f32> = outputs.iter().flat_map(row).copied().collect();
        Tensor::from_vec(rows, (outputs.len(), d_in), &Device::Cpu)
    }

    /// `x` `[rows, in]`, contiguous, times the transposed matrix: `[rows, out]`.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn product(&self, x: &Tensor) -> Result<Tensor> {
        x.apply_op2_no_bwd(&self.panels, &Product { d_out: self.d_out, kernels: self.kernels })
    }
}

/// Multiplies a panel of weights with a few rows, and writes or adds to a part of the outcome. In the
/// order of `gemm`, whose first matrix is the panel: outputs, rows and numbers of a sum; the outcome; the
/// panel; the rows; strides of the outcome by row and output, of the panel by number, of the rows by
/// number and row; what the outcome is multiplied with before, and the product; 0 where the former is 0,
/// and 1 where it is 1; three conjugations; what to fetch next.
type Kernel = unsafe fn(
    usize,
    usize,
    usize,
    *mut f32,
    *const f32,
    *const f32,
    isize,
    isize,
    isize,
    isize,
    isize,
    f32,
    f32,
    u8,
    bool,
    bool,
    bool,
    *const f32,
);

/// Kernels of one kind of instructions.
#[derive(Debug)]
struct Kernels {
    /// For each number of vectors of outputs, and then of rows, from 1 on.
    by_shape: &'static [Kernel],
    /// Numbers in a vector.
    n_lanes: usize,
    /// The most rows at once.
    n_rows: usize,
}

impl Kernels {
    /// The most outputs at once.
    fn n_outputs(&self) -> usize {
        self.by_shape.len() / self.n_rows * self.n_lanes
    }

    fn of(&self, n_outputs: usize, n_rows: usize) -> Kernel {
        self.by_shape[(n_outputs.div_ceil(self.n_lanes) - 1) * self.n_rows + n_rows - 1]
    }
}

macro_rules! kernels {
    ($instructions:ident, $n_lanes:literal) => {{
        use gemm_f32::microkernel::$instructions::f32::{NR, UKR};
        static ALL: [[Kernel; NR]; UKR.len()] = UKR;
        Kernels { by_shape: ALL.as_flattened(), n_lanes: $n_lanes, n_rows: NR }
    }};
}

/// Those that this processor can run, the fastest first.
static KERNELS: LazyLock<Vec<Kernels>> = LazyLock::new(|| {
    let mut all = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            all.push(kernels!(avx512f, 16));
        }
        if is_x86_feature_detected!("fma") {
            all.push(kernels!(fma, 8));
        }
    }
    #[cfg(target_arch = "aarch64")]
    all.push(kernels!(neon, 4));
    all.push(kernels!(scalar, 1));
    all
});

/// The most numbers of a sum that are added up before they go to memory: of a long sum, parts are more
/// exact than all of it from one end to the other.
const SUMMED_AT_ONCE: usize = 384;
/// Bytes of a matrix that are multiplied with all rows before the next: what stays in the second cache.
const CACHED_BYTES: usize = 256 << 10;
/// Pieces of work for each thread.
const PIECES_PER_THREAD: usize = 4;

struct Pack {
    width: usize,
}

impl CustomOp1 for Pack {
    fn name(&self) -> &'static str {
        "pack"
    }

    fn cpu_fwd(&self, weight: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        /// How many numbers of each output are moved at once: few enough that what is written stays in
        /// the first cache.
        const AT_ONCE: usize = 32;
        let (d_out, d_in) = layout.shape().dims2()?;
        let weight = contiguous(weight, layout)?;
        let width = self.width;
        let n_panels = d_out.div_ceil(width);
        let mut out = vec![0.0f32; n_panels * d_in * width];
        out.par_chunks_mut((d_in * width).max(1)).enumerate().for_each(|(panel, out)| {
            let rows = panel * width..d_out.min((panel + 1) * width);
            for (part, out) in out.chunks_mut(AT_ONCE * width).enumerate() {
                let first = part * AT_ONCE;
                let n = out.len() / width;
                for (i, row) in rows.clone().enumerate() {
                    let row = &weight[row * d_in + first..][..n];
                    for (out, &x) in out[i..].iter_mut().step_by(width).zip(row) {
                        *out = x;
                    }
                }
            }
        });
        Ok((CpuStorage::F32(out), (n_panels, d_in, width).into()))
    }
}

struct Product {
    d_out: usize,
    kernels: &'static Kernels,
}

impl CustomOp2 for Product {
    fn name(&self) -> &'static str {
        "product"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        panels: &CpuStorage,
        panels_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let Self { d_out, kernels } = *self;
        let (n_rows, d_in) = x_layout.shape().dims2()?;
        let (n_panels, expected, width) = panels_layout.shape().dims3()?;
        if d_in != expected {
            candle_core::bail!("{x_layout:?} to multiply with a matrix of {expected} inputs")
        }
        let (x, panels) = (contiguous(x, x_layout)?, contiguous(panels, panels_layout)?);
        if n_rows * d_out * d_in == 0 {
            return Ok((CpuStorage::F32(vec![0.0; n_rows * d_out]), (n_rows, d_out).into()));
        }
        let mut out = Vec::<f32>::with_capacity(n_rows * d_out);
        let start = AtomicPtr::new(out.as_mut_ptr());
        // Panels that are in the cache together, and rows that one piece of work multiplies with them.
        let depth = d_in.div_ceil(d_in.div_ceil(SUMMED_AT_ONCE));
        let n_cached = (CACHED_BYTES / (depth * width * size_of::<f32>())).max(1);
        let n_groups = n_panels.div_ceil(n_cached);
        let n_blocks = match rayon::current_num_threads() {
            1 => 1,
            n_threads => (PIECES_PER_THREAD * n_threads).div_ceil(n_groups),
        };
        let n_at_once = n_rows.div_ceil(n_blocks).next_multiple_of(kernels.n_rows);
        let n_blocks = n_rows.div_ceil(n_at_once);
        (0..n_groups * n_blocks).into_par_iter().for_each(|piece| {
            let first = piece / n_blocks * n_cached;
            let group = first..n_panels.min(first + n_cached);
            let first = piece % n_blocks * n_at_once;
            let rows = first..n_rows.min(first + n_at_once);
            for begin in (0..d_in).step_by(depth) {
                let n_summed = depth.min(d_in - begin);
                let is_first = begin == 0;
                for row in rows.clone().step_by(kernels.n_rows) {
                    let n = kernels.n_rows.min(rows.end - row);
                    for panel in group.clone() {
                        let output = panel * width;
                        let n_outputs = width.min(d_out - output);
                        let panel = &panels[(panel * d_in + begin) * width..][..n_summed * width];
                        let x = &x[row * d_in + begin..][..(n - 1) * d_in + n_summed];
                        // SAFETY: a kernel reads `n_summed` rows of the panel and as many numbers of `n`
                        // rows of `x`, which are there as the slices show, and writes `n_outputs`
                        // numbers of `n` rows of the outcome, which has room for `n_rows` of `d_out`
                        // and which no other piece of work writes; it reads of it what it has written
                        // before, and at first nothing.
                        unsafe {
                            let out = start.load(Ordering::Relaxed).add(row * d_out + output);
                            kernels.of(n_outputs, n)(
                                n_outputs,
                                n,
                                n_summed,
                                out,
                                panel.as_ptr(),
                                x.as_ptr(),
                                d_out as isize,
                                1,
                                width as isize,
                                1,
                                d_in as isize,
                                if is_first { 0.0 } else { 1.0 },
                                1.0,
                                u8::from(!is_first),
                                false,
                                false,
                                false,
                                std::ptr::null(),
                            );
                        }
                    }
                }
            }
        });
        // SAFETY: all of it is written, by one piece of work or another.
        unsafe { out.set_len(n_rows * d_out) };
        Ok((CpuStorage::F32(out), (n_rows, d_out).into()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;
    use rayon::ThreadPoolBuilder;

    use super::*;

    fn random(dims: (usize, usize)) -> Tensor {
        Tensor::randn(0f32, 1.0, dims, &Device::Cpu).unwrap()
    }

    fn bits(x: &Tensor) -> Vec<Vec<u32>> {
        let rows = x.to_vec2::<f32>().unwrap().into_iter();
        rows.map(|row| row.into_iter().map(f32::to_bits).collect()).collect()
    }

    /// Whatever the processor, the shape and the number of threads.
    #[test]
    fn products_are_those_of_f64() {
        let shapes = [
            (0, 3, 4),
            (1, 1, 1),
            (1, 64, 5),
            (3, 0, 7),
            (2, 5, 0),
            (2, 33, 1),
            (17, 40, 96),
            (40, 768, 64),
            (7, 769, 65),
            (300, 129, 70),
            (13, 2000, 193),
        ];
        for (n_rows, d_in, d_out) in shapes {
            let (x, weight) = (random((n_rows, d_in)), random((d_out, d_in)));
            let exactly = |x: &Tensor| x.to_dtype(DType::F64).unwrap();
            let expected = exactly(&x).matmul(&exactly(&weight).t().unwrap()).unwrap();
            let mut fused: Option<Vec<Vec<u32>>> = None;
            for kernels in KERNELS.iter() {
                let packed = Packed::for_kernels(&weight, kernels).unwrap();
                let found = packed.product(&x).unwrap();
                assert_eq!(found.dims(), [n_rows, d_out]);
                if n_rows * d_out > 0 {
                    let difference = (exactly(&found) - &expected).unwrap().abs().unwrap();
                    let most = difference.max_all().unwrap().to_scalar::<f64>().unwrap();
                    assert!(most <= 1e-6 * d_in as f64, "{most} of {n_rows}, {d_in}, {d_out}");
                }
                for n_threads in [1, 2, 7] {
                    let pool = ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
                    let again = pool.install(|| packed.product(&x).unwrap());
                    assert!(bits(&again) == bits(&found), "{n_threads} threads");
                }
                // Instructions that multiply and add at once make the same numbers, however wide.
                if kernels.n_lanes > 1 {
                    let found = bits(&found);
                    assert!(*fused.get_or_insert(found.clone()) == found);
                }
            }
        }
    }

    #[test]
    fn what_is_packed_can_be_read_and_divided() {
        for (d_out, d_in) in [(1, 1), (5, 33), (64, 32), (70, 65), (200, 7)] {
            let weight = random((d_out, d_in));
            for kernels in KERNELS.iter() {
                let packed = Packed::for_kernels(&weight, kernels).unwrap();
                let ids: Vec<u32> = (0..d_out as u32).rev().chain([0]).collect();
                let expected = weight.index_select(&Tensor::new(&*ids, &Device::Cpu).unwrap(), 0);
                assert!(bits(&packed.rows(&ids).unwrap()) == bits(&expected.unwrap()));
                assert!(packed.rows(&[d_out as u32]).is_err());
                let width = kernels.n_outputs();
                let x = random((3, d_in));
                for begin in (0..d_out).step_by(width) {
                    let part = packed.narrow(begin..d_out).unwrap();
                    let expected = packed.product(&x).unwrap().narrow(1, begin, d_out - begin);
                    assert!(bits(&part.product(&x).unwrap()) == bits(&expected.unwrap()));
                }
                assert!(packed.narrow(0..d_out + 1).is_err());
                assert!(width == 1 || packed.narrow(1..d_out).is_err());
            }
        }
    }
}
