//! The kernels, and the same in candle's operations, against attention written plainly in f64.

use std::sync::LazyLock;

use candle_core::Device;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::model::checkpoint::cuda_device;
use crate::model::net::device_spans::Places;
use crate::model::net::indices::Indices;
use crate::model::net::padded::PaddedSpans;
use crate::model::net::{batched_attention, cuda};

/// The largest difference allowed between f32 here and f64 there, for values of up to 1.
const TOLERANCE: f64 = 1e-5;

/// Some rows of columns, and as many again.
type Matrices = [Vec<f32>; 2];

/// Attention as the papers write it: one query and one head after another.
fn plainly(
    queries: &[f32],
    own: &Matrices,
    shared: &Matrices,
    spans: &[Span],
    heads: Heads,
) -> Vec<f64> {
    let Heads { n_kv, n_groups, d_head, scale, window, softcap } = heads;
    let (d_kv, d_q) = (n_kv * d_head, n_kv * n_groups * d_head);
    let (mut out, mut own_row, mut query_row) = (Vec::new(), 0, 0);
    for span in spans {
        // Column `column` of the key or the value at a position of the run.
        let number = |which: usize, position: usize, column: usize| {
            let (matrix, row) = match position.checked_sub(span.n_shared) {
                None => (&shared[which], span.offset + position),
                Some(own_position) => (&own[which], own_row + own_position),
            };
            f64::from(matrix[row * d_kv + column])
        };
        for position in span.queries() {
            let first = window.map_or(0, |window| (position + 1).saturating_sub(window));
            for head in 0..n_kv * n_groups {
                let columns = head / n_groups * d_head..(head / n_groups + 1) * d_head;
                let query = &queries[query_row * d_q + head * d_head..][..d_head];
                let score = |position| {
                    let pairs = query.iter().zip(columns.clone());
                    let dot: f64 = pairs.map(|(q, c)| f64::from(*q) * number(0, position, c)).sum();
                    let score = f64::from(scale) * dot;
                    softcap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh())
                };
                let weights: Vec<_> = (first..=position).map(|p| score(p).exp()).collect();
                let total: f64 = weights.iter().sum();
                for column in columns.clone() {
                    let seen = (first..=position).zip(&weights);
                    let mixed: f64 = seen.map(|(p, weight)| weight * number(1, p, column)).sum();
                    out.push(mixed / total);
                }
            }
            query_row += 1;
        }
        own_row += span.n_own;
    }
    out
}

/// The largest differences of the kernel, of candle's operations and, where there is an NVIDIA GPU,
/// of the kernel there from [`plainly`], with random numbers.
fn differences(spans: &[Span], heads: Heads, random: &mut StdRng) -> Vec<f64> {
    let Heads { n_kv, n_groups, d_head, .. } = heads;
    let (d_kv, d_q) = (n_kv * d_head, n_kv * n_groups * d_head);
    let mut matrix = |n_rows: usize, width: usize| -> Vec<f32> {
        (0..n_rows * width).map(|_| random.random_range(-1.0..1.0)).collect()
    };
    let n_queries = spans.iter().map(|span| span.n_queries).sum();
    let n_own = spans.iter().map(|span| span.n_own).sum();
    let n_shared = spans.iter().map(|span| span.offset + span.n_shared).max().unwrap_or(0);
    // Large enough that a query prefers some positions to others, whatever the width.
    let mut queries = matrix(n_queries, d_q);
    queries.iter_mut().for_each(|query| *query *= 5.0);
    let own = [matrix(n_own, d_kv), matrix(n_own, d_kv)];
    let shared = [matrix(n_shared, d_kv), matrix(n_shared, d_kv)];
    let tensor = |numbers: &[f32], n_rows: usize, width: usize| {
        Tensor::from_slice(numbers, (n_rows, width), &Device::Cpu).unwrap()
    };
    let keys_values = |[keys, values]: &Matrices, n_rows: usize| {
        (n_rows > 0).then(|| KeysValues {
            keys: tensor(keys, n_rows, d_kv),
            values: tensor(values, n_rows, d_kv),
        })
    };
    let expected = plainly(&queries, &own, &shared, spans, heads);
    let queries = tensor(&queries, n_queries, d_q);
    let (own, shared) = (keys_values(&own, n_own), keys_values(&shared, n_shared));
    let (own, shared) = (own.as_ref(), shared.as_ref());
    let mut indices = Indices::default();
    let padded = PaddedSpans::new(spans, n_shared, &mut indices);
    let indices = indices.upload(&Device::Cpu).unwrap();
    let n_positions = spans.iter().map(Span::end).max().unwrap_or(0);
    let mask = batched_attention::mask(n_positions, heads.window, &Device::Cpu).unwrap();
    let padded = (&padded, &indices);
    let of_kernel = attend(&queries, own, shared, spans, heads);
    let of_stock = batched_attention::attend(&queries, own, shared, padded, heads, &mask);
    let of_cuda = on_cuda(&queries, own, shared, spans, heads);
    let all = [of_kernel, of_stock].into_iter().chain(of_cuda);
    let difference = |got: Result<Tensor>| {
        let got: Vec<f32> = got.unwrap().flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(got.len(), expected.len());
        let differences =
            got.iter().zip(&expected).map(|(got, expected)| (f64::from(*got) - expected).abs());
        // `max` would pass over what is not a number.
        differences.fold(0.0, |largest, one| if one <= largest { largest } else { one })
    };
    all.map(difference).collect()
}

/// The same on the first NVIDIA GPU, if there is one.
fn on_cuda(
    queries: &Tensor,
    own: Option<&KeysValues>,
    shared: Option<&KeysValues>,
    spans: &[Span],
    heads: Heads,
) -> Option<Result<Tensor>> {
    static GPU: LazyLock<Option<Device>> = LazyLock::new(|| cuda_device(0).ok());
    // Each width is compiled anew there.
    let is_tried = [1, 5, 16, 37, 64, 100, 128, 256].contains(&heads.d_head);
    let gpu = GPU.as_ref().filter(|_| is_tried)?;
    let moved = |rows: Option<&KeysValues>| {
        rows.map(|KeysValues { keys, values }| KeysValues {
            keys: keys.to_device(gpu).unwrap(),
            values: values.to_device(gpu).unwrap(),
        })
    };
    let mut indices = Indices::default();
    let places = Places::new(spans, &mut indices);
    let indices = indices.upload(gpu).unwrap();
    let (own, shared) = (moved(own), moved(shared));
    let queries = queries.to_device(gpu).unwrap();
    Some(cuda::attend(&queries, own.as_ref(), shared.as_ref(), (places, &indices), heads))
}

#[test]
fn the_kernel_is_attention_for_every_width_window_cap_group_and_prefix() {
    let span = |offset, n_shared, n_own, n_queries| Span { offset, n_shared, n_own, n_queries };
    let tables: [&[Span]; 5] = [
        // Whole runs, longer than a task and shorter, and one of a single position.
        &[span(0, 0, 21, 21), span(0, 0, 1, 1), span(0, 0, 6, 6)],
        // After prefixes of several runs, which lie in one matrix; only the last rows ask.
        &[span(0, 9, 5, 5), span(9, 3, 18, 18), span(2, 1, 4, 1), span(0, 12, 3, 2)],
        // With and without a prefix, and one of which every key is shared.
        &[span(4, 7, 0, 2), span(0, 0, 5, 3), span(0, 11, 1, 1)],
        // Nothing of their own.
        &[span(1, 10, 0, 1), span(0, 3, 0, 3)],
        // Longer than what a GPU's kernel looks at at once, and just as long.
        &[span(0, 40, 30, 3), span(8, 20, 12, 12), span(0, 70, 0, 2)],
    ];
    let windows = [None, Some(1), Some(2), Some(3), Some(7), Some(100)];
    let softcaps = [None, Some(0.5), Some(30.0)];
    let divisions = [(1, 1), (2, 1), (1, 3), (2, 2), (3, 4), (1, 7), (2, 5)];
    let widths = (1..=40).chain([48, 63, 64, 65, 80, 96, 100, 128, 256]);
    let mut random = StdRng::seed_from_u64(1);
    let (mut n, mut largest) = (0, 0.0f64);
    for d_head in widths {
        let scale = 1.0 / (d_head as f32).sqrt();
        for window in windows {
            for softcap in softcaps {
                for spans in tables {
                    let (n_kv, n_groups) = divisions[n % divisions.len()];
                    let heads = Heads { n_kv, n_groups, d_head, scale, window, softcap };
                    for difference in differences(spans, heads, &mut random) {
                        assert!(difference < TOLERANCE, "{difference:.1e}: {heads:?}, {spans:?}");
                        largest = largest.max(difference);
                    }
                    n += 1;
                }
            }
        }
    }
    eprintln!("{n} cases: largest difference {largest:.1e}");
}
