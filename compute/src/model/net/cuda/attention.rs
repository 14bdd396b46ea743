//! Attention by the kernel of `attention.cu`.

use candle_core::backend::BackendStorage;
use candle_core::cuda::WrapErr;
use candle_core::cuda::cudarc::driver::{LaunchConfig, PushKernelArg};
use candle_core::{CudaStorage, Layout, Result, Shape, Tensor};

use super::{Kernel, LANES, Number, OnCuda, function, part, view};
use crate::model::net::attention::{Heads, KeysValues};
use crate::model::net::device_spans::{PLACE, Places};
use crate::model::net::indices::Uploaded;

/// Rows of queries that a block of threads takes, as in the kernel.
const WARPS: u32 = 8;
/// Heads that a warp takes at most, likewise.
const MOST_HEADS: usize = 4;

/// As [`crate::model::net::attention::attend`] for the spans of which `places` was made, whose row
/// numbers are in `indices`.
///
/// # Errors
/// Shapes that do not fit, or what CUDA reports.
pub fn attend(
    queries: &Tensor,
    own: Option<&KeysValues>,
    shared: Option<&KeysValues>,
    (places, indices): (Places, &Uploaded),
    heads: Heads,
) -> Result<Tensor> {
    let n_rows = |rows: Option<&KeysValues>| rows.map_or(Ok(0), |rows| rows.keys.dim(0));
    if n_rows(own)? != places.n_own || n_rows(shared)? < places.n_shared {
        candle_core::bail!("keys of {own:?} and {shared:?} for {places:?}")
    }
    // What is not there is not read.
    let (Some(shared), Some(own)) = (shared.or(own), own.or(shared)) else {
        candle_core::bail!("attention without keys and values")
    };
    let numbers = indices.get(places.numbers)?;
    let attention = Attention { own, shared, places, numbers, heads };
    queries.contiguous()?.apply_op1_no_bwd(&OnCuda(attention))
}

struct Attention<'a> {
    own: &'a KeysValues,
    shared: &'a KeysValues,
    places: Places,
    numbers: Tensor, // [query rows * 4]
    heads: Heads,
}

impl Kernel for Attention<'_> {
    const NAME: &'static str = "prefix-shared-attention-on-cuda";

    fn run<T: Number>(
        &self,
        queries: &CudaStorage,
        layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let Heads { n_kv, n_groups, d_head, scale, window, softcap } = self.heads;
        let (d_keys, d_queries) = (n_kv * d_head, n_kv * n_groups * d_head);
        let n_rows = self.places.n_rows;
        let matrices = [&self.shared.keys, &self.shared.values, &self.own.keys, &self.own.values];
        if n_rows == 0
            || layout.dims() != [n_rows, d_queries]
            || self.numbers.dims() != [n_rows * PLACE]
            || matrices.iter().any(|matrix| matrix.dims().get(1) != Some(&d_keys))
        {
            candle_core::bail!("queries of {layout:?} for {matrices:?} and {:?}", self.places)
        }
        let device = queries.device().clone();
        let constants = [("D_HEAD", d_head), ("N_KV", n_kv), ("N_GROUPS", n_groups)];
        let source = ("attend_rows", include_str!("attention.cu"));
        let function = function(&device, source, T::DTYPE, &constants)?;
        let guards = matrices.map(|matrix| matrix.storage_and_layout());
        let views = guards.iter().map(|(storage, layout)| view::<T>(storage, layout));
        let views = views.collect::<Result<Vec<_>>>()?;
        let (numbers, numbers_layout) = self.numbers.storage_and_layout();
        let numbers = view::<u32>(&numbers, numbers_layout)?;
        let queries = part(queries.as_cuda_slice::<T>()?, layout)?;
        // SAFETY: the kernel writes every number of it.
        let out = unsafe { device.alloc::<T>(n_rows * d_queries)? };
        let window = window.map_or(0, |window| u32::try_from(window).unwrap_or(0));
        let (cap, n) = (softcap.unwrap_or(0.0), n_rows as u32);
        let stream = device.cuda_stream();
        let mut builder = stream.launch_builder(&function);
        builder.arg(&queries);
        views.iter().for_each(|view| {
            builder.arg(view);
        });
        builder.arg(&numbers).arg(&out).arg(&n).arg(&scale).arg(&window).arg(&cap);
        let n_parts = n_groups.div_ceil(MOST_HEADS.min(n_groups)) as u32;
        let launch = LaunchConfig {
            grid_dim: (n.div_ceil(WARPS), n_kv as u32, n_parts),
            block_dim: (LANES, WARPS, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: the arguments are those of the kernel in their order, and the rows that `places`
        // names were held against the matrices.
        unsafe { builder.launch(launch) }.w()?;
        Ok((CudaStorage::wrap_cuda_slice(out, device), (n_rows, d_queries).into()))
    }
}
