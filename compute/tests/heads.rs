//! Patches of single heads against what they are by definition: a head's `z` reaches the residual
//! stream through its own slice of the output projection, and a key head serves a whole group of
//! query heads.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "support/devices.rs"]
mod devices;
mod support;

use std::collections::HashMap;

use candle_core::Tensor;
use compute::model::{Config, Family, Module, Network, Placement, Rope, Weight};
use compute::sweep::{Reading, cell_readings, oracle};
use shared::specification::settings::Settings;
use shared::specification::vocabulary::{By, Site};
use shared::specification::{Edit, Key, Specification, Trial, Write};
use support::{grids, random_network_on, sweep};

const TOLERANCE: f32 = 1e-5;
const SOURCE: &[u32] = &[4, 9, 17, 5, 22, 8, 30, 11];
const BASE: &[u32] = &[4, 9, 3, 5, 27, 8, 6, 11];
const START: usize = 2;

/// As many key heads as query heads, whose width together is that of the stream, and two query
/// heads to a key head, whose width is not; with and without a norm after attention.
fn configs() -> Vec<Config> {
    let shapes = [("gpt2", 4, 4, 6, 24), ("qwen3", 6, 3, 8, 20), ("gemma2", 4, 2, 8, 20)];
    let config = |(name, n_heads, n_kv_heads, d_head, d_model)| {
        let family = Family::named(name).unwrap();
        let rope = (!family.spec.learned_positions).then(|| Rope::plain(10_000.0, d_head));
        let config = Config {
            architecture: family.name,
            spec: family.spec,
            n_layers: 3,
            d_model,
            n_heads,
            n_kv_heads,
            d_head,
            d_mlp: 20,
            d_vocab: 32,
            n_context: 16,
            ..Config::LLAMA
        };
        config.with_uniform_layers(rope)
    };
    shapes.map(config).into()
}

/// Every model wherever tests run.
fn networks() -> impl Iterator<Item = (Network, HashMap<Weight, Tensor>)> {
    let everywhere = devices::devices();
    configs().into_iter().flat_map(move |config| {
        let on = |to: &Placement| random_network_on(config.clone(), 11, to);
        everywhere.iter().map(on).collect::<Vec<_>>()
    })
}

/// A site, a head, a layer and a position.
type Patch = (Site, Option<usize>, usize, usize);

/// `trials` of the base with copies of the source, each of the edits (site, head, layer, position).
fn trials(config: &Config, trials: Vec<Vec<Patch>>) -> Specification {
    let edit = |(site, head, layer, position)| Edit {
        site,
        head,
        layers: layer..layer + 1,
        positions: vec![position],
        write: Write::From { run: Specification::SOURCE, shift: 0 },
    };
    let trial = |(cell, edits): (usize, Vec<_>)| Trial {
        base: Specification::BASE,
        edits: edits.into_iter().map(edit).collect(),
        key: Key { grid: 0, cell },
    };
    let trials = trials.into_iter().enumerate().map(trial).collect();
    let grids = grids(config, &Settings::default(), [SOURCE, BASE], START);
    Specification { trials, grids: Vec::new(), ..grids }
}

fn assert_near(got: f32, expected: f32, what: &str) {
    assert!((got - expected).abs() <= TOLERANCE, "{what}: {got}, expected {expected}");
}

/// All activations at `site` of a plain run, `[layer][position, width]`.
fn activations(network: &Network, tokens: &[u32], wanted: Site) -> Vec<Tensor> {
    let mut seen = Vec::new();
    oracle::forward(network, tokens, |_, site, x| {
        if site == wanted {
            seen.push(x.clone());
        }
        Ok(x)
    })
    .unwrap();
    seen
}

/// The metric of the base with `added` `[position, d_model]` on top of what attention adds in
/// `layer`.
fn with_added(network: &Network, layer: usize, added: &Tensor) -> f32 {
    let x = oracle::forward(network, BASE, |at, site, x| {
        if (at, site) == (layer, Site::AttnOut) { x + added } else { Ok(x) }
    });
    let logits = network.logits(&network.final_norm(&x.unwrap()).unwrap()).unwrap();
    let logits: Vec<f32> = logits.flatten_all().unwrap().to_vec1().unwrap();
    // The answers of `support::grids`.
    (logits[1].exp() + logits[2].exp()).ln() - logits[3]
}

/// Where no norm follows attention, patching a head adds its slice of the output projection times
/// the difference of the two runs' `z`.
#[test]
fn a_head_acts_through_its_own_slice_of_the_output_projection() {
    for (network, weights) in networks().filter(|(n, _)| !n.config.spec.norms.after) {
        let Config { architecture, n_heads, d_head, .. } = network.config;
        let of = |tokens| activations(&network, tokens, Site::Z);
        let differences: Vec<_> = of(SOURCE)
            .iter()
            .zip(&of(BASE))
            .map(|(source, base)| (source - base).unwrap())
            .collect();
        for by in [By::Head, By::Position] {
            let settings = Settings { sites: Site::Z.into(), by, ..Settings::default() };
            let specification = grids(&network.config, &settings, [SOURCE, BASE], START);
            let readings = sweep(&network, &specification).unwrap();
            let cells = cell_readings(&specification, &readings).remove(0);
            let columns: Vec<_> = match by {
                By::Head => std::iter::once(START..BASE.len()).collect(),
                By::Position => (START..BASE.len()).map(|p| p..p + 1).collect(),
            };
            assert_eq!(cells.len(), 3 * n_heads * columns.len());
            let mut cells = cells.into_iter();
            for (layer, difference) in differences.iter().enumerate() {
                let weight = &weights[&Weight::new(Module::AttnOut, layer)];
                for head in 0..n_heads {
                    let slice = |x: &Tensor| x.narrow(1, head * d_head, d_head).unwrap();
                    let through = slice(&weight.to_device(network.device()).unwrap()).t().unwrap();
                    let through = through.contiguous().unwrap();
                    let added = slice(difference).contiguous().unwrap().matmul(&through).unwrap();
                    for positions in &columns {
                        let part = added.narrow(0, positions.start, positions.len()).unwrap();
                        let added = added
                            .zeros_like()
                            .unwrap()
                            .slice_assign(&[positions.clone(), 0..network.config.d_model], &part);
                        let expected = with_added(&network, layer, &added.unwrap());
                        let got = cells.next().unwrap().unwrap().logit_diff;
                        let what =
                            format!("{architecture}: head {head} of {layer} at {positions:?}");
                        assert_near(got, expected, &what);
                    }
                }
            }
        }
    }
}

/// The heads' `z` patched together are the whole of it, and that is `attn_out`; so are the queries,
/// keys and values of a layer's heads the whole of each.
#[test]
fn all_heads_together_are_the_whole_activation() {
    for (network, _) in networks() {
        let config = &network.config;
        let (mut parts, mut wholes, mut names) = (Vec::new(), Vec::new(), Vec::new());
        for (layer, position) in
            (0..config.n_layers).flat_map(|layer| (START..BASE.len()).map(move |p| (layer, p)))
        {
            let sites = [
                (Site::Z, Site::Z, config.n_heads),
                (Site::Z, Site::AttnOut, config.n_heads),
                (Site::Query, Site::Query, config.n_heads),
                (Site::Key, Site::Key, config.n_kv_heads),
                (Site::Value, Site::Value, config.n_kv_heads),
            ];
            for (of_heads, whole, n_heads) in sites {
                let heads = (0..n_heads).map(|head| (of_heads, Some(head), layer, position));
                parts.push(heads.collect());
                wholes.push(vec![(whole, None, layer, position)]);
                names.push(format!(
                    "{}: heads of {of_heads} as {whole} at {layer}, {position}",
                    config.architecture
                ));
            }
        }
        // One table, so that both ways share the wave.
        let n = parts.len();
        let specification = trials(config, parts.into_iter().chain(wholes).collect());
        let readings = sweep(&network, &specification).unwrap();
        let (parts, wholes) = readings.trials.split_at(n);
        let moved = |reading: &&Reading| {
            (reading.logit_diff - readings.runs[Specification::BASE].logit_diff).abs() > 1e-3
        };
        assert!(
            wholes.iter().filter(moved).count() > n / 3,
            "patches that change little show little"
        );
        for ((part, whole), name) in parts.iter().zip(wholes).zip(names) {
            assert_near(part.logit_diff, whole.logit_diff, &name);
        }
    }
}

/// Grouped queries are those of a model in which every query head has its own copy of the key head.
#[test]
fn a_key_head_is_that_of_all_query_heads_of_its_group() {
    for (grouped, weights) in networks() {
        let config = &grouped.config;
        let n_groups = config.n_heads / config.n_kv_heads;
        if n_groups == 1 {
            continue;
        }
        let expanded = |(&weight, tensor): (&Weight, &Tensor)| {
            if !matches!(weight.module, Module::Key | Module::Value) {
                return (weight, tensor.clone());
            }
            let copies = (0..config.n_heads).map(|head| {
                tensor.narrow(0, head / n_groups * config.d_head, config.d_head).unwrap()
            });
            (weight, Tensor::cat(&copies.collect::<Vec<_>>(), 0).unwrap())
        };
        let weights: HashMap<_, _> = weights.iter().map(expanded).collect();
        let single = Config { n_kv_heads: config.n_heads, ..config.clone() };
        let single = Network::resident(single, &mut weights.clone(), &grouped.placement).unwrap();
        let (mut few, mut many) = (Vec::new(), Vec::new());
        for site in [Site::Key, Site::Value] {
            for (layer, head) in (0..config.n_layers)
                .flat_map(|layer| (0..config.n_kv_heads).map(move |head| (layer, head)))
            {
                for position in START..BASE.len() {
                    few.push(vec![(site, Some(head), layer, position)]);
                    let group = head * n_groups..(head + 1) * n_groups;
                    many.push(group.map(|head| (site, Some(head), layer, position)).collect());
                }
            }
        }
        let few = sweep(&grouped, &trials(config, few)).unwrap();
        let many = sweep(&single, &trials(&single.config, many)).unwrap();
        assert_eq!(few.trials.len(), many.trials.len());
        for (i, (few, many)) in few.trials.iter().zip(&many.trials).enumerate() {
            let what = format!("{}: trial {i}", config.architecture);
            assert_near(few.logit_diff, many.logit_diff, &what);
        }
    }
}
