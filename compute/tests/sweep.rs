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
    Config, FAMILIES, Family, Kernels, Module, Network, Placement, Rope, RopeScaling, Weight,
};
use compute::sweep::oracle::{self, Oracle};
use compute::sweep::{Division, Finished, Program, Progress, Reading, Readings, SweepError, run};
use proptest::prelude::*;
use shared::specification::settings::{List, Settings};
use shared::specification::vocabulary::{By, Directions, Site};
use shared::specification::{
    Continuation, Edit, Key, MeanOver, Metrics, Run, Specification, Trial, Write,
};
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
    support::sweep(network, specification).unwrap()
}

/// The grids of one site.
fn patches(
    network: &Network,
    source: &[u32],
    base: &[u32],
    start: usize,
    site: Site,
) -> Specification {
    let settings = Settings { sites: List::from(site), ..Settings::default() };
    support::grids(&network.config, &settings, [source, base], start)
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

/// Whether two readings of the same are as near as rounding allows, by the `tolerance` for numbers
/// around 1.
fn compare(got: &Reading, expected: &Reading, scale: f32, tolerance: f32) -> Result<(), String> {
    let near = |name: &str, got: f32, expected: f32, tolerance: f32| match (got - expected).abs()
        <= tolerance
    {
        true => Ok(()),
        false => Err(format!("{name}: {got} for {expected}")),
    };
    near("logit_diff", got.logit_diff, expected.logit_diff, tolerance * scale)?;
    if let (Some(got), Some(expected)) = (&got.vocabulary, &expected.vocabulary) {
        near("p_true", got.p_true, expected.p_true, tolerance)?;
        near("p_false", got.p_false, expected.p_false, tolerance)?;
        for (got, expected) in got.top.iter().zip(&expected.top) {
            near("p_top", got.1, expected.1, tolerance)?;
        }
        let pairs = [(got.kl_base, expected.kl_base), (got.kl_source, expected.kl_source)];
        for (got, expected) in pairs {
            match (got, expected) {
                (Some(got), Some(expected)) => near("kl", got, expected, 2.0 * tolerance * scale)?,
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

/// Whether all readings of a table are as near as `tolerance` says; where not, which and why.
fn agree(
    found: &[Readings],
    expected: &[Readings],
    table: &[Specification],
    tolerance: f32,
) -> Result<(), String> {
    assert_eq!(found.len(), table.len());
    for (pair, (found, expected)) in found.iter().zip(expected).enumerate() {
        let scale = expected.runs.iter().map(|r| r.logit_diff.abs()).fold(1.0, f32::max);
        assert_eq!(found.trials.len(), expected.trials.len());
        for (i, (got, expected)) in found.runs.iter().zip(&expected.runs).enumerate() {
            compare(got, expected, scale, tolerance)
                .map_err(|why| format!("run {i} of pair {pair}: {why}"))?;
        }
        for (i, (got, expected)) in found.trials.iter().zip(&expected.trials).enumerate() {
            compare(got, expected, scale, tolerance).map_err(|why| {
                let trial = &table[pair].trials[i];
                format!("trial {i} of pair {pair}: {why}; {trial:?}")
            })?;
        }
    }
    Ok(())
}

/// What the oracle finds in `network`.
fn by_oracle(network: &Network, table: &[Specification]) -> Vec<Readings> {
    let found = table.iter().map(|specification| {
        let trials: Vec<_> = specification.trials.iter().collect();
        let oracle = Oracle::new(network, specification, &trials).unwrap();
        let trials = oracle.trials(&trials).unwrap();
        Readings { runs: oracle.runs().to_vec(), trials, ..Readings::default() }
    });
    found.collect()
}

/// All numbers of a reading, so that those that are none can be compared, too.
fn bits(reading: &Reading) -> Vec<u32> {
    let mut numbers = vec![reading.logit_diff];
    if let Some(v) = &reading.vocabulary {
        numbers.extend([v.p_true, v.p_false]);
        numbers.extend([v.rank_true, v.rank_false, v.kl_base, v.kl_source].into_iter().flatten());
        numbers.extend(v.top.iter().map(|(_, p)| p));
    }
    numbers.into_iter().map(f32::to_bits).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

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
        let on_cpu = by_oracle(&network, &table);
        let whole = Division::within(MEMORY);
        // On more threads than there may be, in tiles that are full early.
        let threads = Division { n_at_once: 3, n_tile_rows: 20, ..whole };
        let cut = Division { n_waves: 3, n_wave_rows: 7, n_tile_rows: 3, ..whole };
        let alone = Division { most_operations: 0.0, computes_all: true, ..whole };
        for placement in devices() {
            let (network, weights) = network_on(&shape, &placement);
            let mut found = Vec::new();
            for division in [whole, cut, alone, threads] {
                found.push(sweep_all(&network, &table, &division));
            }
            // Weights that stay where they are change nothing at all.
            let streamed = Network::streamed(network.config.clone(), weights, &placement).unwrap();
            let again = sweep_all(&streamed, &table, &whole);
            for (again, whole) in again.iter().zip(&found[0]) {
                prop_assert_eq!(&again.runs, &whole.runs);
                prop_assert_eq!(&again.trials, &whole.trials);
            }
            // On the CPU company changes nothing at all, either.
            if placement.kernels == Kernels::Own {
                for (pair, whole) in found[0].iter().enumerate() {
                    for (way, other) in ["cut", "alone", "threads"].iter().zip(&found[1..]) {
                        let same = |a: &[Reading], b: &[Reading]| {
                            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| bits(a) == bits(b))
                        };
                        prop_assert!(same(&other[pair].runs, &whole.runs), "runs of {pair}, {way}");
                        prop_assert!(same(&other[pair].trials, &whole.trials), "{pair}, {way}");
                    }
                }
            }
            // The same kernels round alike; others may be further from each other where a small norm
            // makes much of little.
            let expected = match placement.kernels {
                Kernels::Own => on_cpu.clone(),
                _ => by_oracle(&network, &table),
            };
            let between = agree(&expected, &on_cpu, &table, 5e-5);
            prop_assert!(between.is_ok(), "the oracle, {placement:?}: {between:?}");
            for (way, found) in ["whole", "cut", "alone", "threads"].iter().zip(&found) {
                for (found, specification) in found.iter().zip(&table) {
                    let is_read = |trial: &Reading| trial.vocabulary.is_some();
                    let is_asked = specification.metrics.vocabulary;
                    prop_assert!(found.trials.iter().all(|trial| is_read(trial) == is_asked));
                }
                let outcome = agree(found, &expected, &table, 1e-5);
                prop_assert!(outcome.is_ok(), "{way}, {placement:?}: {outcome:?}");
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
                oracle::forward(&network_on(&shape, to).0, &SOURCE, |_, _, x| {
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
    let [full, half] = [Placement::default(), half].map(|to| {
        let network = network_on(&shape, &to).0;
        let base = [5, 6, 7, 13, 9, 10, 14];
        sweep(&network, &patches(&network, &SOURCE, &base, 1, Site::ResidPost)).trials
    });
    let differences = full.iter().zip(&half).map(|(a, b)| (a.logit_diff - b.logit_diff).abs());
    let largest = differences.fold(0.0, f32::max);
    assert!(largest > 0.0 && largest < 2e-2, "{largest}");
}

/// Scores that f16 cannot hold before they are scaled.
#[test]
fn large_scores_do_not_overflow_half_precision() {
    let shape = Shape { seed: 3, ..Shape::llama(1, 64) };
    let half = Placement { dtype: DType::F16, kernels: Kernels::Stock, ..Default::default() };
    let [full, half] = [Placement::default(), half].map(|to| {
        let mut weights = network_on(&shape, &to).1;
        for (weight, tensor) in &mut weights {
            if matches!(weight.module, Module::Query | Module::Key) {
                *tensor = (&*tensor * 200.0).unwrap();
            }
        }
        let config = network(&shape).config;
        let network = Network::resident(config, &mut weights, &to).unwrap();
        let x = oracle::forward(&network, &SOURCE, |_, _, x| Ok(x)).unwrap();
        x.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
    });
    assert!(half.iter().all(|x| x.is_finite()), "{half:?}");
    let differences = full.iter().zip(&half).map(|(a, b)| (a - b).abs());
    assert!(differences.fold(0.0, f32::max) < 0.2, "{full:?} and {half:?}");
}

/// Three layers, grouped queries.
fn ordinary_network() -> Network {
    network(&Shape { n_kv_heads: 2, n_groups: 2, d_extra: 3, ..Shape::llama(3, 8) })
}

const SOURCE: [u32; 8] = [5, 6, 7, 8, 9, 10, 11, 12];

fn assert_close(got: f32, expected: f32, what: &str) {
    assert!((got - expected).abs() < 1e-5, "{what}: {got}, expected {expected}");
}

#[test]
fn certificates_hold_at_every_site() {
    let network = ordinary_network();
    let base = [5, 6, 7, 8, 13, 10, 14, 12];
    for &site in Site::ALL {
        let patches = patches(&network, &SOURCE, &base, 1, site);
        let others = self::patches(&network, &base, &SOURCE, 2, Site::MlpOut);
        let table = [others, patches];
        for n_waves in [1, 3] {
            let division = Division { n_verified: 500, n_waves, ..Division::within(MEMORY) };
            for readings in sweep_all(&network, &table, &division) {
                let found = readings.certificate.unwrap();
                assert_eq!(found.n_trials, readings.trials.len());
                for (what, difference) in [
                    ("oracle", found.max_abs_diff),
                    ("itself", found.self_patch),
                    ("alone", found.alone),
                ] {
                    assert!(difference < 1e-5, "{site} {what}: {difference}");
                }
                // Heads are patched at all positions together, which is nowhere without effect.
                assert!(found.n_unreachable > 0 || site.has_heads(), "{site}");
                assert!(found.unreachable_equal, "{site}");
            }
        }
    }
}

/// A number in the wrong place does not pass.
#[test]
fn a_certificate_shows_what_is_off() {
    let network = ordinary_network();
    let base = [5, 6, 7, 8, 13, 10, 14, 12];
    let patches = patches(&network, &SOURCE, &base, 1, Site::ResidPost);
    let table = [&patches];
    let division = Division { n_verified: 500, ..Division::within(MEMORY) };
    let program = Program::new(&network.config, &table, &division).unwrap();
    let mut damaged = program;
    // A computed trial gets the place of another one, whose own reading is then missing.
    let travellers = &mut damaged.batches[0].waves[0].travellers;
    travellers[0].trials = travellers[1].trials.clone();
    let goes_on = &mut |_: Progress| ControlFlow::Continue(());
    let found = run(&network, &table, &damaged, goes_on).unwrap().remove(0);
    let found = found.certificate.unwrap();
    assert!(found.max_abs_diff > 1e-3 && found.alone > 1e-3, "{found:?}");
    assert!(found.self_patch < 1e-5, "{found:?}");
}

/// What is not computed because it is known, computed after all.
#[test]
fn what_is_known_beforehand_is_so() {
    let network = ordinary_network();
    let base = [5, 6, 7, 8, 13, 10, 14, 12];
    let all = Division { computes_all: true, ..Division::within(MEMORY) };
    let mut n_known = 0;
    for &site in Site::ALL {
        let settings = Settings {
            sites: List::from(site),
            by: By::Position,
            direction: Directions::Both,
            ..Settings::default()
        };
        let table = [support::grids(&network.config, &settings, [&SOURCE, &base], 1)];
        let [known, computed] =
            [Division::within(MEMORY), all].map(|how| sweep_all(&network, &table, &how).remove(0));
        let spread = known.runs[0].logit_diff - known.runs[1].logit_diff;
        assert!(spread.abs() > 1e-3, "{site}: {spread}");
        for (trial, (known, computed)) in
            table[0].trials.iter().zip(known.trials.iter().zip(&computed.trials))
        {
            assert_close(known.logit_diff, computed.logit_diff, &format!("{trial:?}"));
        }
        let equal = |r: &&Reading| known.runs.iter().any(|run| run.logit_diff == r.logit_diff);
        n_known += known.trials.iter().filter(equal).count();
    }
    assert!(n_known > 100, "{n_known}");
}

#[test]
fn a_single_differing_token_is_all_the_source_has() {
    let network = ordinary_network();
    let base = [5, 6, 7, 13, 9, 10, 11, 12];
    let found = sweep(&network, &patches(&network, &SOURCE, &base, 2, Site::ResidPre));
    assert_close(found.trials[1].logit_diff, found.runs[1].logit_diff, "layer 0");
}

/// One edit at several positions and, of heads, one of each.
fn together(network: &Network, site: Site, positions: &[usize], layer: usize) -> Vec<Edit> {
    let n_heads = match site {
        Site::Query | Site::Z => network.config.n_heads,
        Site::Key | Site::Value => network.config.n_kv_heads,
        _ => 0,
    };
    let heads: Vec<_> = if n_heads == 0 { vec![None] } else { (0..n_heads).map(Some).collect() };
    let edit = |head| Edit {
        site,
        head,
        layers: layer..layer + 1,
        positions: positions.to_vec(),
        write: Write::From { run: Specification::SOURCE, shift: 0 },
    };
    heads.into_iter().map(edit).collect()
}

#[test]
fn all_positions_of_the_residual_stream_are_the_source() {
    let network = ordinary_network();
    let base = [5, 16, 17, 18, 9, 20, 11, 22];
    let mut patches = patches(&network, &SOURCE, &base, 0, Site::ResidPost);
    patches.trials.clear();
    let all: Vec<_> = (0..8).collect();
    for &site in &[Site::ResidPre, Site::ResidMid, Site::ResidPost] {
        for layer in 0..network.config.n_layers {
            let edits = together(&network, site, &all, layer);
            patches.trials.push(Trial { base: 0, edits, key: Key { grid: 0, cell: 0 } });
        }
    }
    let found = sweep(&network, &patches);
    for trial in &found.trials {
        assert_close(trial.logit_diff, found.runs[1].logit_diff, "all positions");
    }
}

#[test]
fn a_model_of_one_layer_leaves_nothing_to_compute() {
    let network = network(&Shape { tied: true, ..Shape::llama(1, 4) });
    let patches = patches(&network, &[1, 2], &[1, 3], 0, Site::ResidPost);
    let found = sweep(&network, &patches);
    let program = Program::new(&network.config, &[&patches], &Division::within(MEMORY)).unwrap();
    assert_eq!(program.n_computed(), 0);
    assert_eq!(found.trials[0].logit_diff, found.runs[0].logit_diff);
    assert_eq!(found.trials[1].logit_diff, found.runs[1].logit_diff);
}

/// What the tiles say that they cost is what is said to be done, and the last share is all.
#[test]
fn finished_trials_are_heard_wave_by_wave() {
    let network = ordinary_network();
    for site in [Site::ResidPre, Site::ResidPost, Site::Z, Site::Key] {
        let patches = patches(&network, &SOURCE, &[1, 2, 7, 13], 0, site);
        let table = [&patches];
        let whole = sweep(&network, &patches);
        let compile = |n_waves| {
            let division = Division { n_waves, ..Division::within(MEMORY) };
            Program::new(&network.config, &table, &division).unwrap()
        };
        let (one, program) = (compile(1), compile(3));
        assert!(site.has_heads() || program.n_passes() == 3, "{} passes", program.n_passes());
        assert_eq!(program.n_computed(), one.n_computed());
        // The runs are kept from wave to wave.
        assert!((program.operations.done / one.operations.done - 1.0).abs() < 1e-9);
        let (mut heard, mut shares, mut runs) =
            (vec![None; patches.trials.len()], Vec::new(), None);
        let found = run(&network, &table, &program, &mut |progress| {
            match progress {
                Progress::Share(share) => shares.push(share),
                Progress::Runs { pair: 0, readings } => runs = Some(readings.to_vec()),
                Progress::Trials { pair: 0, readings } => {
                    assert!(runs.is_some(), "the runs come first");
                    for (trial, reading) in readings {
                        let before = heard[*trial].replace(reading.clone());
                        assert!(before.is_none(), "trial {trial} came twice");
                    }
                }
                Progress::Pair { pair: 0, .. } => {}
                other => panic!("{other:?}"),
            }
            ControlFlow::Continue(())
        });
        let found = found.unwrap().remove(0);
        assert_eq!(runs.unwrap(), found.runs);
        assert!(shares.is_sorted(), "{shares:?}");
        let (last, before) = shares.split_last().unwrap();
        assert!((last - 1.0).abs() < 1e-9, "{shares:?}");
        // More than all would be told as all.
        assert!(before.iter().all(|share| *share < 1.0), "{shares:?}");
        for (heard, (trial, whole)) in heard.iter().zip(found.trials.iter().zip(&whole.trials)) {
            assert_eq!(heard.as_ref(), Some(trial));
            assert!((trial.logit_diff - whole.logit_diff).abs() < 1e-4);
        }
    }
}

/// There are as many waves as are asked for, or no more than rounds of tiles that go through a block at
/// the same time.
#[test]
fn waves_are_as_many_as_are_worth_it() {
    let network = ordinary_network();
    let patches = patches(&network, &SOURCE, &[1, 2, 7, 13], 0, Site::ResidPost);
    let whole = Division { n_waves: 3, n_at_once: 2, ..Division::within(MEMORY) };
    let n_passes = |n_tile_rows, only_tall_waves| {
        let division = Division { n_tile_rows, only_tall_waves, ..whole };
        Program::new(&network.config, &[&patches], &division).unwrap().n_passes()
    };
    let program = Program::new(&network.config, &[&patches], &whole).unwrap();
    let waves = program.batches.iter().flat_map(|batch| &batch.waves);
    let n_rows: usize = waves.flat_map(|w| &w.travellers).map(|t| t.n_rows()).sum();
    // Two tiles go at the same time.
    let of = |n_rounds: usize| n_rows.div_ceil(2 * n_rounds);
    for (n_tile_rows, expected) in [(1, 3), (of(3), 3), (of(2), 2), (of(1), 1), (n_rows, 1)] {
        assert_eq!(n_passes(n_tile_rows, true), expected, "tiles of {n_tile_rows} rows");
        assert_eq!(n_passes(n_tile_rows, false), 3, "tiles of {n_tile_rows} rows");
    }
}

/// What was computed before an interruption is not computed again, and the whole is the same.
#[test]
fn a_sweep_goes_on_from_what_is_finished() {
    let network = ordinary_network();
    let tables = [Site::ResidPost, Site::Z]
        .map(|site| patches(&network, &SOURCE, &[1, 2, 7, 13, 4, 9, 30, 11], 0, site));
    let table: Vec<_> = tables.iter().collect();
    let division = Division { n_waves: 3, ..Division::within(MEMORY) };
    let program = Program::new(&network.config, &table, &division).unwrap();
    let goes_on = &mut |_: Progress| ControlFlow::Continue(());
    let whole = run(&network, &table, &program, goes_on).unwrap();
    for n_heard in 0..7 {
        let mut finished = vec![Finished::new(); 2];
        let mut n = 0;
        let outcome = run(&network, &table, &program, &mut |progress| {
            if let Progress::Trials { pair, readings } = progress {
                finished[pair].extend(readings.iter().cloned());
                n += 1;
                if n > n_heard {
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        });
        assert!(outcome.is_err() || n <= n_heard);
        let rest = Program::going_on(&network.config, &table, &division, &finished).unwrap();
        assert!(n_heard < 2 || rest.n_computed() < program.n_computed());
        for (found, whole) in run(&network, &table, &rest, goes_on).unwrap().iter().zip(&whole) {
            for (found, whole) in found.trials.iter().zip(&whole.trials) {
                assert_close(found.logit_diff, whole.logit_diff, "after an interruption");
            }
        }
    }
}

#[test]
fn a_sweep_can_be_broken_off() {
    let network = ordinary_network();
    let patches = patches(&network, &SOURCE, &[5, 6, 7, 13], 0, Site::ResidPost);
    let program = Program::new(&network.config, &[&patches], &Division::within(MEMORY)).unwrap();
    let mut shares = Vec::new();
    let outcome = run(&network, &[&patches], &program, &mut |progress| {
        let Progress::Share(share) = progress else { return ControlFlow::Continue(()) };
        shares.push(share);
        if shares.len() < 3 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    assert!(matches!(outcome, Err(SweepError::Cancelled)));
    assert_eq!(shares.len(), 3);
    assert!(shares.is_sorted() && shares.iter().all(|share| (0.0..=1.0).contains(share)));
}

#[test]
fn what_does_not_fit_is_refused_with_what_is_needed() {
    let network = ordinary_network();
    let whole = patches(&network, &SOURCE, &[5, 6, 7, 13], 0, Site::ResidPost);
    let refused = |network: &Network, specification: &Specification, allowed| {
        let division = Division::within(allowed);
        Program::new(&network.config, &[specification], &division).unwrap_err().to_string()
    };
    let error = refused(&network, &whole, 1 << 20);
    assert!(error.starts_with("the sweep needs at least 25 MiB"), "{error}");
    let advice = "of what is allowed 1 MiB are left: raise `--memory`, or on a GPU `--device-memory`, \
                  and see what others take there";
    assert!(error.ends_with(advice), "{error}");

    let family = Family::named("gptj").unwrap();
    let parallel = self::network(&Shape { family, ..Shape::llama(2, 4) });
    let error =
        refused(&parallel, &patches(&parallel, &SOURCE, &[5, 6], 0, Site::ResidMid), MEMORY);
    assert!(error.starts_with("the model has no `resid_mid`: in gptj, attention"), "{error}");

    let changed = |change: &dyn Fn(&mut Specification)| {
        let mut specification = whole.clone();
        change(&mut specification);
        refused(&network, &specification, MEMORY)
    };
    type Change = Box<dyn Fn(&mut Specification)>;
    let edit = |f: fn(&mut Edit)| -> Change { Box::new(move |s| f(&mut s.trials[0].edits[0])) };
    let cases: [(&str, Change); 9] = [
        ("a run has no tokens", Box::new(|s| s.runs[0].tokens.clear())),
        ("the token 32 is beyond the 32 of the model", Box::new(|s| s.runs[1].tokens[0] = 32)),
        ("a trial has the base 7, which is no run", Box::new(|s| s.trials[0].base = 7)),
        ("an edit of the layers 1..4 in a model of 3", edit(|e| e.layers = 1..4)),
        ("an edit at position 8 of a run of", edit(|e| e.positions = vec![8])),
        ("an edit of head 0 of 0 at `resid_post`", edit(|e| e.head = Some(0))),
        ("an edit of head 2 of 2 at `k`", edit(|e| (e.site, e.head) = (Site::Key, Some(2)))),
        (
            "an edit copies from run 9, which is none",
            edit(|e| e.write = Write::From { run: 9, shift: 0 }),
        ),
        (
            "noise at `z`: expected a site of the residual stream",
            edit(|e| (e.site, e.write) = (Site::Z, Write::Noise { seed: 0, scale: 1.0 })),
        ),
    ];
    for (expected, change) in cases {
        let error = changed(&*change);
        assert!(error.contains(expected), "{error}: expected {expected}");
    }
}

/// The lens of the last layer is the reading of the run itself, and that of each layer what the
/// unembedding says of the oracle's residual stream.
#[test]
fn the_lens_reads_every_layer_and_position() {
    let network = ordinary_network();
    let base = [5, 6, 13, 8];
    let mut patches = patches(&network, &SOURCE, &base, 1, Site::ResidPost);
    patches.metrics.lens = true;
    let found = sweep(&network, &patches);
    assert_eq!(found.lens.len(), 2);
    for ((reading, lens), run) in found.runs.iter().zip(&found.lens).zip(&patches.runs) {
        let tokens = &run.tokens;
        let mut streams = Vec::new();
        oracle::forward(&network, tokens, |_, site, x| {
            if site == Site::ResidPost {
                streams.push(x.clone());
            }
            Ok(x)
        })
        .unwrap();
        assert_eq!(lens.len(), streams.len());
        let last = lens.last().unwrap().last().unwrap();
        assert_close(last.logit_diff, reading.logit_diff, "the last layer");
        for (layer, (lens, stream)) in lens.iter().zip(&streams).enumerate() {
            assert_eq!(lens.len(), tokens.len());
            let logits = network.logits(&network.final_norm(stream).unwrap()).unwrap();
            for (reading, logits) in lens.iter().zip(logits.to_vec2::<f32>().unwrap()) {
                let total: f32 = logits.iter().map(|logit| logit.exp()).sum();
                let p_true = (logits[1].exp() + logits[2].exp()) / total;
                let vocabulary = reading.vocabulary.as_ref().unwrap();
                assert_close(vocabulary.p_true, p_true, &format!("layer {layer}"));
            }
        }
    }
}
