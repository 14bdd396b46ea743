//! How fast this machine is at what a sweep mostly does.

use std::time::Instant;

use candle_core::{Result, Tensor};

use super::tile_threads::{Lanes, TileThreads};
use crate::model::{Linear, Network, Placement};

/// Operations a second of the matrix products of one block, for tiles of `n_rows` rows, on the
/// model's device and as the model computes them.
///
/// # Errors
/// What candle reports.
pub fn matrix_products(network: &Network, n_rows: usize) -> Result<f64> {
    let config = &network.config;
    let (d_q, d_kv) = (config.n_heads * config.d_head, config.n_kv_heads * config.d_head);
    let mut shapes = vec![
        (config.d_model, d_q),
        (config.d_model, d_kv),
        (config.d_model, d_kv),
        (d_q, config.d_model),
        (config.d_model, config.d_mlp),
        (config.d_mlp, config.d_model),
    ];
    if config.spec.gated {
        shapes.push((config.d_model, config.d_mlp));
    }
    measured(&network.placement, &shapes, n_rows)
}

/// Operations a second to expect of a sweep, roughly, from a product that is small enough to be
/// measured at once.
///
/// # Errors
/// What candle reports.
pub fn estimate(placement: &Placement) -> Result<f64> {
    Ok(SHARE_OF_PEAK * measured(placement, &[(1024, 1024)], 256)?)
}

/// What sweeps reach of the speed of matrix products, a little below what was measured.
const SHARE_OF_PEAK: f64 = 0.8;

/// Rounds that a device is given at once.
const N_QUEUED: usize = 10;

fn measured(placement: &Placement, shapes: &[(usize, usize)], n_rows: usize) -> Result<f64> {
    let random =
        |dims| Tensor::randn(0f32, 1f32, dims, &placement.device)?.to_dtype(placement.dtype);
    let maps = shapes.iter().map(|&(d_in, d_out)| {
        let map = Linear::new(random((d_out, d_in))?, None, placement.kernels)?;
        Ok((random((n_rows, d_in))?, map))
    });
    let maps = maps.collect::<Result<Vec<_>>>()?;
    // As tiles are: each on a thread of its own, or one after the other.
    let n_tiles = placement.kernels.n_tiles_at_once(rayon::current_num_threads());
    let threads = TileThreads::new(n_tiles)?;
    let products = || -> Result<()> {
        let of_tile = |_, _| maps.iter().try_for_each(|(x, map)| map.apply(x).map(drop));
        threads.advance(n_tiles, Lanes::new(1, n_tiles, 0, 1), of_tile, |_, _| Ok(()))
    };
    let of_row: usize = shapes.iter().map(|(d_in, d_out)| d_in * d_out).sum();
    let operations = 2.0 * (n_tiles * n_rows * of_row) as f64;
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let begin = Instant::now();
        products()?;
        placement.device.synchronize()?;
        best = best.min(begin.elapsed().as_secs_f64());
    }
    // A device that computes while the host goes on is not to wait for the host between rounds.
    if !placement.device.is_cpu() {
        let begin = Instant::now();
        (0..N_QUEUED).try_for_each(|_| products())?;
        placement.device.synchronize()?;
        best = best.min(begin.elapsed().as_secs_f64() / N_QUEUED as f64);
    }
    Ok(operations / best)
}
