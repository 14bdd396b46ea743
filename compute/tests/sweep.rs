//! The wavefront against the naive engine on random models, and what any result must satisfy.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;
#[path = "support/devices.rs"]
mod where_to_run;

use std::collections::HashMap;
use std::ops::ControlFlow;

use candle_core::{DType, Tensor};
use compute::model::{
    Config, FAMILIES, Family, Kernels, Network, Placement, Rope, RopeScaling, Weight,
};
use compute::sweep::wavefront::{Progress, Rider};
use compute::sweep::{Cell, Plan, Request, Sweep, naive, verify, wavefront};
use proptest::prelude::*;
use shared::alignment::Alignment;
use shared::vocabulary::{Align, Site};
use support::random_network_on;
use where_to_run::devices;

const MEMORY: usize = 1 << 30;

/// The vocabulary of random models.
const D_VOCAB: usize = 32;

/// What varies among random models.
#[derive(Debug, Clone)]
struct Shape {
    n_layers: usize,
    n_kv_heads: usize,
    n_groups: usize,
    d_head: usize,
    tied: bool,
    rope: Option<Rope>,
    /// The family whose conventions it has.
    family: &'static Family,
    /// The window of most layers.
    window: Option<usize>,
    /// Whether scores and logits are soft-capped and the embedding scaled.
    capped: bool,
    seed: u64,
}

impl Shape {
    /// A llama of `n_layers` layers with one head.
    fn llama(n_layers: usize, d_head: usize) -> Self {
        Self {
            n_layers,
            n_kv_heads: 1,
            n_groups: 1,
            d_head,
            tied: false,
            rope: Some(Rope::plain(10_000.0, d_head)),
            family: &FAMILIES[0],
            window: None,
            capped: false,
            seed: 7,
        }
    }
}

/// A random model.
fn network(shape: &Shape) -> Network {
    network_on(shape, &Placement::default()).0
}

/// The same model elsewhere, and its weights.
fn network_on(shape: &Shape, to: &Placement) -> (Network, HashMap<Weight, Tensor>) {
    let n_heads = shape.n_kv_heads * shape.n_groups;
    let mut config = Config {
        n_layers: shape.n_layers,
        d_model: n_heads * shape.d_head,
        n_heads,
        n_kv_heads: shape.n_kv_heads,
        d_head: shape.d_head,
        d_mlp: 20,
        d_vocab: D_VOCAB,
        n_context: 64,
        norm_eps: 1e-5,
        architecture: shape.family.name,
        spec: shape.family.spec,
        embed_scale: if shape.capped { 3.0 } else { 1.0 },
        attn_softcap: shape.capped.then_some(1.5),
        final_softcap: shape.capped.then_some(2.0),
        tied_embeddings: shape.tied,
        ..Config::LLAMA
    }
    .with_uniform_layers(shape.rope.clone().filter(|_| !shape.family.spec.learned_positions));
    // As Gemma's: two of three layers see a window, and rotate otherwise.
    if let Some(window) = shape.window {
        config.ropes.extend(shape.rope.iter().map(|rope| Rope { theta: 50.0, ..rope.clone() }));
        for (i, layer) in config.layers.iter_mut().enumerate() {
            layer.window = (i % 3 != 2).then_some(window);
            layer.scale /= 1.0 + i as f32;
            layer.rope = layer.rope.map(|_| usize::from(layer.window.is_some()));
        }
    }
    random_network_on(config, shape.seed, to)
}

fn sweep(network: &Network, request: &Request, memory: usize) -> Sweep {
    let plan = Plan::new(&network.config, request, memory).unwrap();
    wavefront::sweep(network, request, &plan, &mut |_| ControlFlow::Continue(())).unwrap()
}

fn request(source: &[u32], base: &[u32], start: usize, align: Align, site: Site) -> Request {
    let starts = (start.min(source.len() - 1), start.min(base.len() - 1));
    Request {
        alignment: Alignment::new(source, base, starts, align, 0),
        site,
        true_ids: vec![1, 2],
        false_ids: vec![3],
        readout: true,
    }
}

/// A sweep's shape and inputs, drawn at random.
#[derive(Debug, Clone)]
struct Case {
    shape: Shape,
    source: Vec<u32>,
    base: Vec<u32>,
    start: usize,
    align: Align,
    site: Site,
    readout: bool,
}

fn cases() -> impl Strategy<Value = Case> {
    let dims = (1..=4usize, 1..=3usize, 1..=3usize, 1..=6usize);
    let conventions = (
        prop::sample::select(FAMILIES),
        prop::option::of(1..=6usize),
        any::<bool>(),
        any::<bool>(),
        0..3usize,
        1..=6usize,
    );
    let shape = (dims, conventions, 0..1000u64).prop_map(
        |((n_layers, n_kv_heads, n_groups, half_head), conventions, seed)| {
            let (family, window, capped, tied, scaling, half_rotated) = conventions;
            let d_head = 2 * half_head;
            let scaling = match scaling {
                0 => RopeScaling::None,
                1 => RopeScaling::Linear(2.0),
                _ => RopeScaling::Llama3 {
                    factor: 8.0,
                    low_freq_factor: 1.0,
                    high_freq_factor: 4.0,
                    original_context: 8.0,
                },
            };
            let n_rotated = 2 * half_rotated.min(half_head);
            let rope = Rope { n_rotated, scaling, ..Rope::plain(100.0, d_head) };
            Shape {
                n_layers,
                n_kv_heads,
                n_groups,
                d_head,
                tied,
                rope: Some(rope),
                family: Family::named(family.name).unwrap(),
                window,
                capped,
                seed,
            }
        },
    );
    // A common beginning, then two endings that may differ in length and from any token on.
    let tokens = |lens| prop::collection::vec(0..D_VOCAB as u32, lens);
    let prompts = (tokens(0..8), tokens(1..9), tokens(1..9));
    let settings = (
        0..16usize,
        prop::sample::select(Align::ALL),
        prop::sample::select(Site::ALL),
        any::<bool>(),
    );
    (shape, prompts, settings).prop_map(
        |(shape, (common, source, base), (start, align, site, readout))| Case {
            shape,
            source: [&*common, &*source].concat(),
            base: [&*common, &*base].concat(),
            start,
            align,
            site,
            readout,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Every cell, relative to the metric's scale, the same with the wave cut into many passes and
    /// tiles, and both on every device. The naive engine runs on the CPU with our kernels.
    #[test]
    fn the_wavefront_is_the_naive_engine(case in cases()) {
        prop_assume!(case.source != case.base);
        let network = network(&case.shape);
        prop_assume!(network.config.has_site(case.site));
        let mut request = request(&case.source, &case.base, case.start, case.align, case.site);
        request.readout = case.readout;
        let mut plan = Plan::new(&network.config, &request, MEMORY).unwrap();
        plan.n_tile_rows = 3;
        plan.n_readout_rows = 2;
        plan.passes = plan.passes.concat().chunks(5).map(<[Cell]>::to_vec).collect();
        if plan.passes.is_empty() {
            plan.passes.push(Vec::new());
        }
        let activations = naive::source_activations(&network, &request).unwrap();
        let base = naive::baseline(&network, &request.alignment.base, &request).unwrap();
        let source = naive::baseline(&network, &request.alignment.source, &request).unwrap();
        let scale = 1.0 + base.logit_diff.abs().max(source.logit_diff.abs());
        let close = |a: f32, b: f32| (a - b).abs() <= 1e-5 * scale;
        let mut sweeps = Vec::new();
        for placement in devices() {
            let (network, weights) = network_on(&case.shape, &placement);
            let whole = sweep(&network, &request, MEMORY);
            let goes_on = &mut |_: Progress| ControlFlow::Continue(());
            let verified = verify::verify(&network, &request, &whole, 4, goes_on).unwrap();
            prop_assert!(verified.max_abs_diff <= 1e-5 * scale);
            // Weights that stay where they are change nothing at all.
            let streamed = Network::stream_on(network.config.clone(), weights, &placement).unwrap();
            let streamed = sweep(&streamed, &request, MEMORY);
            prop_assert_eq!((streamed.base, streamed.source), (whole.base, whole.source));
            prop_assert_eq!(&streamed.cells, &whole.cells);
            // In company, too.
            let other =
                self::request(&case.base, &case.source, case.start, case.align, case.site);
            let other_plan = Plan::new(&network.config, &other, MEMORY).unwrap();
            let riders = [
                Rider { request: &other, plan: &other_plan },
                Rider { request: &request, plan: &plan },
            ];
            sweeps.extend(wavefront::sweep_together(&network, &riders, goes_on).unwrap().pop());
            sweeps.push(whole);
            sweeps.push(wavefront::sweep(&network, &request, &plan, goes_on).unwrap());
        }
        for sweep in &sweeps {
            prop_assert!(close(sweep.base.logit_diff, base.logit_diff));
            prop_assert!(close(sweep.source.logit_diff, source.logit_diff));
            for (layer, row) in sweep.cells.iter().enumerate() {
                prop_assert_eq!(row.len(), request.positions().len());
                for (column, got) in row.iter().enumerate() {
                    let cell = Cell { layer, position: request.alignment.start + column };
                    let expected = naive::cell(&network, &request, &activations, cell).unwrap();
                    prop_assert!(
                        close(got.logit_diff, expected.logit_diff),
                        "{:?}: {} for {}", cell, got.logit_diff, expected.logit_diff
                    );
                    if let Some(vocabulary) = got.vocabulary {
                        let expected = expected.vocabulary.unwrap();
                        prop_assert!((vocabulary.p_true - expected.p_true).abs() < 1e-5);
                        prop_assert!((vocabulary.p_false - expected.p_false).abs() < 1e-5);
                        prop_assert!((vocabulary.p_top - expected.p_top).abs() < 1e-5);
                    }
                }
            }
        }
    }
}

/// Every activation at every site together, and so also those that no metric would notice.
#[test]
fn activations_are_the_same_on_every_device() {
    for family in FAMILIES {
        let windowed = [None, Some(3)];
        for (window, capped) in windowed.into_iter().zip([false, true]) {
            let shape = Shape {
                n_kv_heads: 2,
                n_groups: 3,
                family: Family::named(family.name).unwrap(),
                window,
                capped,
                ..Shape::llama(4, 6)
            };
            let activations = |to: &Placement| {
                let mut found = Vec::new();
                naive::forward(&network_on(&shape, to).0, &SOURCE, |_, _, x| {
                    found.push(x.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?);
                    Ok(x)
                })
                .unwrap();
                found.concat()
            };
            let half =
                Placement { dtype: DType::F16, kernels: Kernels::Stock, ..Default::default() };
            let runs = devices().into_iter().map(|to| (to, 1e-6)).chain([(half, 1e-2)]);
            let expected = activations(&Placement::default());
            for (to, tolerance) in runs {
                let got = activations(&to);
                assert_eq!(got.len(), expected.len());
                let norm = |numbers: &mut dyn Iterator<Item = f32>| {
                    numbers.map(|x| x * x).sum::<f32>().sqrt()
                };
                let error = norm(&mut got.iter().zip(&expected).map(|(got, x)| got - x))
                    / norm(&mut expected.iter().copied());
                let what = format!("{} {window:?} {to:?}: relative error {error}", family.name);
                assert!(error <= tolerance, "{what}");
            }
        }
    }
}

/// Computing in f16 is the same experiment with rounding: the metric itself is f32.
#[test]
fn a_sweep_in_half_precision_is_near() {
    let shape = Shape { n_kv_heads: 2, n_groups: 2, ..Shape::llama(3, 8) };
    let half = Placement { dtype: DType::F16, kernels: Kernels::Stock, ..Default::default() };
    let request = request(&SOURCE, &[5, 6, 7, 13, 9, 10, 14], 1, Align::Pad, Site::ResidPost);
    let [full, half] = [Placement::default(), half]
        .map(|to| sweep(&network_on(&shape, &to).0, &request, MEMORY).cells.concat());
    let differences = full.iter().zip(&half).map(|(a, b)| (a.logit_diff - b.logit_diff).abs());
    let largest = differences.fold(0.0, f32::max);
    assert!(largest > 0.0 && largest < 2e-2, "{largest}");
}

/// Three layers, grouped queries.
fn ordinary_network() -> Network {
    network(&Shape { n_kv_heads: 2, n_groups: 2, ..Shape::llama(3, 8) })
}

const SOURCE: [u32; 8] = [5, 6, 7, 8, 9, 10, 11, 12];

fn assert_close(got: f32, expected: f32, what: &str) {
    assert!((got - expected).abs() < 1e-5, "{what}: {got}, expected {expected}");
}

#[test]
fn patching_a_run_with_its_own_activations_changes_nothing() {
    let network = ordinary_network();
    for &site in Site::ALL {
        let mut request = request(&SOURCE, &SOURCE, 2, Align::Pad, site);
        // As if the very first tokens differed, so that every cell is computed.
        request.alignment.first_difference = 0;
        let sweep = sweep(&network, &request, MEMORY);
        for reading in sweep.cells.iter().flatten() {
            assert_close(reading.logit_diff, sweep.base.logit_diff, site.name());
        }
    }
}

#[test]
fn what_is_known_beforehand_is_so() {
    let network = ordinary_network();
    let base = [5, 6, 7, 8, 13, 10, 14, 12];
    for &site in Site::ALL {
        let request = request(&SOURCE, &base, 1, Align::Pad, site);
        let sweep = sweep(&network, &request, MEMORY);
        assert!((sweep.base.logit_diff - sweep.source.logit_diff).abs() > 1e-3);
        // Columns before the first difference, which is at position 4, are the base.
        for (layer, row) in sweep.cells.iter().enumerate() {
            for (column, reading) in row[..3].iter().enumerate() {
                assert_eq!(reading.logit_diff, sweep.base.logit_diff, "{site} {layer} {column}");
            }
        }
    }
    // Last layer: the last position is the source, any other is the base.
    let sweep = sweep(&network, &request(&SOURCE, &base, 1, Align::Pad, Site::ResidPost), MEMORY);
    let (last, others) = sweep.cells.last().unwrap().split_last().unwrap();
    assert_eq!(last.logit_diff, sweep.source.logit_diff);
    assert!(others.iter().all(|reading| reading.logit_diff == sweep.base.logit_diff));
}

#[test]
fn a_single_differing_token_is_all_the_source_has() {
    let network = ordinary_network();
    let base = [5, 6, 7, 13, 9, 10, 11, 12];
    let request = request(&SOURCE, &base, 2, Align::Pad, Site::ResidPre);
    let sweep = sweep(&network, &request, MEMORY);
    assert_close(sweep.cells[0][1].logit_diff, sweep.source.logit_diff, "layer 0");
}

#[test]
fn patching_all_positions_of_a_layer_gives_the_source() {
    let network = ordinary_network();
    let base = [5, 16, 17, 18, 9, 20, 11, 22];
    for &site in &[Site::ResidPre, Site::ResidMid, Site::ResidPost] {
        let request = request(&SOURCE, &base, 0, Align::Pad, site);
        let source = naive::baseline(&network, &SOURCE, &request).unwrap();
        let activations = naive::source_activations(&network, &request).unwrap();
        for (patched, source_activation) in activations.iter().enumerate() {
            let hook = |layer, at, activation: Tensor| {
                Ok(match (layer, at) == (patched, site) {
                    true => source_activation.clone(),
                    false => activation,
                })
            };
            let x = naive::forward(&network, &base, hook).unwrap();
            let reading = &compute::sweep::metric::read(&network, x, &request).unwrap()[0];
            assert_close(reading.logit_diff, source.logit_diff, site.name());
        }
    }
}

#[test]
fn a_model_of_one_layer_leaves_nothing_to_compute() {
    let network = network(&Shape { tied: true, ..Shape::llama(1, 4) });
    let sweep = sweep(&network, &request(&[1, 2], &[1, 3], 0, Align::Pad, Site::ResidPost), MEMORY);
    let row: Vec<_> = sweep.cells[0].iter().map(|reading| reading.logit_diff).collect();
    assert_eq!(row, [sweep.base.logit_diff, sweep.source.logit_diff]);
}

#[test]
fn finished_columns_are_heard_pass_by_pass() {
    let network = ordinary_network();
    for site in [Site::ResidPre, Site::ResidPost] {
        let request = request(&SOURCE, &[1, 2, 7, 13], 0, Align::Pad, site);
        let plan = Plan::new(&network.config, &request, MEMORY).unwrap();
        let whole = sweep(&network, &request, MEMORY);
        let (done, n_cells) = (plan.operations.done, plan.n_cells());
        let plan = plan.in_passes(&network.config, &request, 3);
        assert!((2..=3).contains(&plan.passes.len()), "{} passes", plan.passes.len());
        assert_eq!(plan.n_cells(), n_cells);
        assert!(plan.operations.done > done);
        let (mut heard, mut baselines) =
            (vec![vec![None; request.positions().len()]; network.config.n_layers], None);
        let swept = wavefront::sweep(&network, &request, &plan, &mut |progress| {
            match progress {
                Progress::Share(_) => {}
                Progress::Baselines(source, base) => baselines = Some((source, base)),
                Progress::Cells(cells) => {
                    assert!(baselines.is_some(), "the baselines come first");
                    for &(Cell { layer, position }, reading) in cells {
                        let before =
                            heard[layer][position - request.positions().start].replace(reading);
                        assert!(before.is_none(), "layer {layer}, position {position} came twice");
                    }
                }
            }
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(baselines, Some((swept.source, swept.base)));
        for (heard, (cells, whole)) in heard.iter().zip(swept.cells.iter().zip(&whole.cells)) {
            assert!(heard.iter().zip(cells).all(|(heard, cell)| *heard == Some(*cell)));
            let close = |a: f32, b: f32| (a - b).abs() < 1e-4;
            assert!(cells.iter().zip(whole).all(|(a, b)| close(a.logit_diff, b.logit_diff)));
        }
    }
}

#[test]
fn a_sweep_can_be_broken_off() {
    let network = ordinary_network();
    let request = request(&SOURCE, &[5, 6, 7, 13], 0, Align::Pad, Site::ResidPost);
    let plan = Plan::new(&network.config, &request, MEMORY).unwrap();
    let mut shares = Vec::new();
    let outcome = wavefront::sweep(&network, &request, &plan, &mut |progress| {
        let Progress::Share(share) = progress else { return ControlFlow::Continue(()) };
        shares.push(share);
        if shares.len() < 3 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    assert!(matches!(outcome, Err(compute::sweep::SweepError::Cancelled)));
    assert_eq!(shares.len(), 3);
    assert!(shares.is_sorted() && shares.iter().all(|share| (0.0..=1.0).contains(share)));
}

#[test]
fn too_little_memory_is_refused_with_what_is_needed() {
    let network = ordinary_network();
    let request = request(&SOURCE, &[5, 6, 7, 13], 0, Align::Pad, Site::ResidPost);
    let error = Plan::new(&network.config, &request, 1 << 20).unwrap_err().to_string();
    assert!(error.starts_with("the sweep needs at least 25 MiB"), "{error}");
    assert!(error.ends_with("of what is allowed 1 MiB are left: raise `--memory`"), "{error}");
    assert!(Plan::new(&network.config, &request, 25 << 20).is_ok());
}

#[test]
fn a_site_that_the_model_lacks_is_refused_by_name() {
    let family = Family::named("gptj").unwrap();
    let network = network(&Shape { family, ..Shape::llama(2, 4) });
    let request = request(&SOURCE, &[5, 6, 7, 13], 0, Align::Pad, Site::ResidMid);
    let error = Plan::new(&network.config, &request, MEMORY).unwrap_err().to_string();
    assert!(error.starts_with("the model has no `resid_mid`: in gptj, attention"), "{error}");
}
