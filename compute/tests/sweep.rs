//! The wave against the oracle on random models and random experiments, and what any result must
//! satisfy.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;
#[path = "support/devices.rs"]
mod where_to_run;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use candle_core::{DType, Tensor};
use compute::model::{
    Config, FAMILIES, Family, Kernels, Network, Placement, Rope, RopeScaling, Weight,
};
use compute::sweep::oracle::{self, Oracle};
use compute::sweep::{Division, Program, Progress, Reading, Readings, SweepError, certify, run};
use proptest::prelude::*;
use shared::specification::{
    Continuation, Edit, Key, MeanOver, Metrics, Run, Specification, Trial, Write,
};
use shared::vocabulary::Site;
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
    /// What the width of the residual stream has beyond that of all heads.
    d_extra: usize,
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
            d_extra: 0,
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
        d_model: n_heads * shape.d_head + shape.d_extra,
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

fn sweep_all(network: &Network, table: &[Specification], division: &Division) -> Vec<Readings> {
    let table: Vec<_> = table.iter().collect();
    let program = Program::new(&network.config, &table, division).unwrap();
    run(network, &table, &program, &mut |_| ControlFlow::Continue(())).unwrap()
}

fn sweep(network: &Network, specification: &Specification) -> Readings {
    sweep_all(network, std::slice::from_ref(specification), &Division::within(MEMORY)).remove(0)
}

fn metrics() -> Metrics {
    Metrics { true_ids: vec![1, 2], false_ids: vec![3], vocabulary: true, n_top: 3, lens: false }
}

fn plain(tokens: &[u32]) -> Run {
    Run { tokens: tokens.to_vec(), ..Run::default() }
}

/// What a random edit is made of. Numbers are taken modulo what there is.
#[derive(Debug, Clone)]
struct AnyEdit {
    site: Site,
    head: Option<usize>,
    layers: (usize, usize),
    positions: Vec<usize>,
    write: (u8, usize, u64),
}

/// A random experiment of one pair.
#[derive(Debug, Clone)]
struct AnyPair {
    common: Vec<u32>,
    source: Vec<u32>,
    base: Vec<u32>,
    continuations: Option<[Vec<u32>; 2]>,
    noise: Option<(Vec<usize>, u64)>,
    trials: Vec<(usize, Vec<AnyEdit>)>,
    vocabulary: bool,
}

/// The experiment in a model, where the choices that it lacks are replaced.
fn specification(config: &Config, pair: &AnyPair, mean: &Arc<MeanOver>) -> Specification {
    let source = [&*pair.common, &*pair.source].concat();
    let base = [&*pair.common, &*pair.base].concat();
    let mut runs = vec![plain(&base), plain(&source)];
    if let Some((positions, seed)) = &pair.noise {
        let positions = positions.iter().map(|p| p % source.len()).collect();
        let edit = Edit {
            site: Site::ResidPre,
            head: None,
            layers: 0..1,
            positions,
            write: Write::Noise { seed: *seed, scale: 1.0 },
        };
        runs.push(Run { edits: vec![edit], ..plain(&source) });
    }
    if let Some(continuations) = &pair.continuations {
        for (ids, is_true) in continuations.iter().zip([true, false]) {
            let continuation = Some(Continuation { is_true, ids: ids.clone() });
            runs.push(Run { continuation, ..plain(&base) });
        }
    }
    let trials = pair.trials.iter().enumerate().map(|(i, (base, edits))| {
        let base = base % runs.len();
        let n = runs[base].tokens.len();
        let edits = edits.iter().map(|edit| {
            let site = if config.has_site(edit.site) { edit.site } else { Site::ResidPost };
            let n_heads = match site {
                Site::Query | Site::Z => config.n_heads,
                Site::Key | Site::Value => config.n_kv_heads,
                _ => 0,
            };
            let from = edit.write.1 % runs.len();
            // Aligned at the right ends of the prompts, as far as both reach.
            let shift = runs[from].tokens.len() as isize - n as isize;
            let positions: Vec<_> = edit
                .positions
                .iter()
                .map(|p| p % n)
                .filter(|p| p.checked_add_signed(shift).is_some())
                .collect();
            let layer = edit.layers.0 % config.n_layers;
            let write = match (edit.write.0, site.has_heads()) {
                (0, _) => Write::Zero,
                (1, _) => Write::Mean(mean.clone()),
                (2, false) => Write::Noise { seed: edit.write.2, scale: 0.5 },
                _ => Write::From { run: from, shift },
            };
            Edit {
                site,
                head: edit.head.filter(|_| n_heads > 0).map(|head| head % n_heads),
                layers: layer..(layer + 1 + edit.layers.1).min(config.n_layers),
                positions,
                write,
            }
        });
        Trial { base, edits: edits.collect(), key: Key { grid: 0, cell: i } }
    });
    let trials = trials.collect();
    let metrics = Metrics { vocabulary: pair.vocabulary, ..metrics() };
    Specification { runs, trials, grids: Vec::new(), metrics }
}

fn edits() -> impl Strategy<Value = AnyEdit> {
    let node = (prop::sample::select(Site::ALL), prop::option::of(0..9usize));
    let place = ((0..9usize, 0..3usize), prop::collection::vec(0..16usize, 1..4));
    (node, place, (0..8u8, 0..9usize, 0..99u64)).prop_map(
        |((site, head), (layers, positions), write)| AnyEdit {
            site,
            head,
            layers,
            positions,
            write,
        },
    )
}

fn pairs() -> impl Strategy<Value = AnyPair> {
    let tokens = |lens| prop::collection::vec(0..D_VOCAB as u32, lens);
    let prompts = (tokens(0..8), tokens(1..7), tokens(1..7));
    let continuations = prop::option::weighted(0.3, [tokens(1..4), tokens(1..4)]);
    let noise = prop::option::weighted(0.3, (prop::collection::vec(0..16usize, 1..3), 0..99u64));
    let trials = prop::collection::vec((0..9usize, prop::collection::vec(edits(), 1..4)), 1..12);
    (prompts, continuations, noise, trials, any::<bool>()).prop_map(
        |((common, source, base), continuations, noise, trials, vocabulary)| AnyPair {
            common,
            source,
            base,
            continuations,
            noise,
            trials,
            vocabulary,
        },
    )
}

fn shapes() -> impl Strategy<Value = Shape> {
    let dims = (1..=4usize, 1..=3usize, 1..=3usize, 1..=6usize, 0..=5usize);
    let conventions = (
        prop::sample::select(FAMILIES),
        prop::option::of(1..=6usize),
        any::<bool>(),
        any::<bool>(),
        0..3usize,
        1..=6usize,
    );
    (dims, conventions, 0..1000u64).prop_map(|(dims, conventions, seed)| {
        let (n_layers, n_kv_heads, n_groups, half_head, d_extra) = dims;
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
            d_extra,
            seed,
        }
    })
}

/// Whether two readings of the same are as near as rounding allows.
fn compare(got: &Reading, expected: &Reading, scale: f32) -> Result<(), String> {
    let near = |name: &str, got: f32, expected: f32, tolerance: f32| match (got - expected).abs()
        <= tolerance
    {
        true => Ok(()),
        false => Err(format!("{name}: {got} for {expected}")),
    };
    near("logit_diff", got.logit_diff, expected.logit_diff, 1e-5 * scale)?;
    if let (Some(got), Some(expected)) = (&got.vocabulary, &expected.vocabulary) {
        near("p_true", got.p_true, expected.p_true, 1e-5)?;
        near("p_false", got.p_false, expected.p_false, 1e-5)?;
        for (got, expected) in got.top.iter().zip(&expected.top) {
            near("p_top", got.1, expected.1, 1e-5)?;
        }
        let pairs = [(got.kl_base, expected.kl_base), (got.kl_source, expected.kl_source)];
        for (got, expected) in pairs {
            match (got, expected) {
                (Some(got), Some(expected)) => near("kl", got, expected, 2e-5 * scale)?,
                (got, expected) if got == expected => {}
                (got, expected) => return Err(format!("kl: {got:?} for {expected:?}")),
            }
        }
        // Equal logits may change places.
        if got.rank_true.is_some() != expected.rank_true.is_some() {
            return Err(format!("rank: {:?} for {:?}", got.rank_true, expected.rank_true));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Several random experiments mixed in waves, whole and cut into many waves and tiles, from
    /// memory and streamed, on every device, against one forward pass a trial.
    #[test]
    fn the_wave_is_the_oracle(shape in shapes(), pairs in prop::collection::vec(pairs(), 1..4)) {
        let network = network(&shape);
        let config = &network.config;
        let mean = Arc::new(MeanOver {
            runs: pairs.iter().map(|p| (p.source.clone(), 0..p.source.len())).collect(),
        });
        let table: Vec<_> = pairs.iter().map(|pair| specification(config, pair, &mean)).collect();
        let mut expected = Vec::new();
        for specification in &table {
            let trials: Vec<_> = specification.trials.iter().collect();
            let oracle = Oracle::new(&network, specification, &trials).unwrap();
            let trials = oracle.trials(&trials).unwrap();
            expected.push(Readings { runs: oracle.runs().to_vec(), trials, lens: Vec::new() });
        }
        let whole = Division::within(MEMORY);
        let cut = Division { n_waves: 3, n_wave_rows: 7, n_tile_rows: 3, ..whole };
        let alone = Division { most_operations: 0.0, computes_all: true, ..whole };
        for placement in devices() {
            let (network, weights) = network_on(&shape, &placement);
            let mut found = Vec::new();
            for division in [whole, cut, alone] {
                found.push(sweep_all(&network, &table, &division));
            }
            // Weights that stay where they are change nothing at all.
            let streamed = Network::stream_on(network.config.clone(), weights, &placement).unwrap();
            let again = sweep_all(&streamed, &table, &whole);
            for (again, whole) in again.iter().zip(&found[0]) {
                prop_assert_eq!(&again.runs, &whole.runs);
                prop_assert_eq!(&again.trials, &whole.trials);
            }
            for (way, found) in ["whole", "cut", "alone"].iter().zip(&found) {
                prop_assert_eq!(found.len(), table.len());
                for (pair, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    let scale = expected.runs.iter().map(|r| r.logit_diff.abs()).fold(1.0, f32::max);
                    let all = found.runs.iter().zip(&expected.runs);
                    let all = all.chain(found.trials.iter().zip(&expected.trials));
                    prop_assert_eq!(found.trials.len(), expected.trials.len());
                    for (i, (got, expected)) in all.enumerate() {
                        let i = i as isize - found.runs.len() as isize;
                        let outcome = compare(got, expected, scale);
                        prop_assert!(
                            outcome.is_ok(),
                            "{} of pair {pair}, {way}, {placement:?}: {outcome:?}; {:?}",
                            if i < 0 { "a run".into() } else { format!("trial {i}") },
                            (i >= 0).then(|| &table[pair].trials[i as usize]),
                        );
                    }
                }
            }
        }
    }
}
