//! A sweep's memory beyond the weights stays within what it was allowed, whatever is swept.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::ops::ControlFlow;
use std::sync::Arc;

use candle_core::DType;
use compute::model::{Config, Kernels, Network, Placement};
use compute::sweep::{Activations, Division, Program, SweepError, run, unpatched_bytes};
use peak_alloc::PeakAlloc;
use shared::specification::settings::{List, Settings};
use shared::specification::vocabulary::{By, Directions, Site};
use shared::specification::{Edit, Key, MeanOver, Specification, Trial, Write};

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

fn config() -> Config {
    support::llama(Config {
        n_layers: 5,
        d_model: 256,
        n_heads: 4,
        n_kv_heads: 2,
        d_head: 64,
        d_mlp: 704,
        d_vocab: 2048,
        n_context: 128,
        norm_eps: 1e-5,
        tied_embeddings: true,
        ..Config::LLAMA
    })
}

/// Two prompts of 100 tokens that share the first ten, and others for every `seed`.
fn grids(config: &Config, settings: &Settings, seed: u32) -> Specification {
    let prompt = |own: u32| {
        let token = |i| if i < 10 { i } else { (i * 37 + own) % 2048 };
        (0..100).map(token).collect::<Vec<_>>()
    };
    support::grids(config, settings, [&prompt(2 * seed + 1), &prompt(2 * seed + 2)], 76)
}

/// What is swept, by name.
fn tables(config: &Config) -> Vec<(&'static str, Vec<Specification>)> {
    let with = |sites: &[Site]| Settings {
        sites: List::new(sites.to_vec()).unwrap(),
        ..Settings::default()
    };
    let one = |settings: &Settings| vec![grids(config, settings, 0)];
    let mut cases = vec![
        ("resid_post", one(&Settings::default())),
        ("resid_pre", one(&with(&[Site::ResidPre]))),
        ("attn_out", one(&with(&[Site::AttnOut]))),
        ("three sites", one(&with(&[Site::ResidPost, Site::AttnOut, Site::MlpOut]))),
        ("z by head", one(&with(&[Site::Z]))),
        ("q, k, v by head", one(&with(&[Site::Query, Site::Key, Site::Value]))),
        ("z by position", one(&Settings { by: By::Position, ..with(&[Site::Z]) })),
        ("keys by position", one(&Settings { by: By::Position, ..with(&[Site::Key]) })),
        ("both directions", one(&Settings { direction: Directions::Both, ..Settings::default() })),
        ("a window", one(&Settings { window: 3, ..with(&[Site::MlpOut]) })),
        ("the logit lens", one(&Settings { lens: true, ..Settings::default() })),
        ("ten top tokens", one(&Settings { top: 10, ..Settings::default() })),
        ("no readout", one(&Settings { readout: false, ..Settings::default() })),
        ("six pairs", (0..6).map(|i| grids(config, &Settings::default(), i)).collect()),
    ];
    // Noise and means on the way.
    let mut edited = grids(config, &Settings::default(), 0);
    let over = MeanOver { runs: edited.runs.iter().map(|r| (r.tokens.clone(), 76..100)).collect() };
    let over = Arc::new(over);
    for (i, write) in [Write::Mean(over), Write::Noise { seed: 1, scale: 3.0 }, Write::Zero]
        .into_iter()
        .enumerate()
    {
        for layer in 0..config.n_layers {
            let edit = Edit {
                site: Site::MlpOut,
                head: None,
                layers: layer..config.n_layers,
                positions: (76..100).collect(),
                write: write.clone(),
            };
            let key = Key { grid: 0, cell: i };
            edited.trials.push(Trial { base: 0, edits: vec![edit], key });
        }
    }
    cases.push(("ablations", vec![edited]));
    cases
}

/// Alone, since the allocator counts what all threads do.
fn a_sweep_stays_within_its_memory() {
    let config = config();
    let (resident, weights) = support::random_network(config.clone(), 1);
    let streamed = Network::streamed(config.clone(), weights, &Placement::default()).unwrap();
    let stock = Placement { kernels: Kernels::Stock, ..Placement::default() };
    let (stock, weights) = support::random_network_on(config.clone(), 1, &stock);
    drop(weights);
    let mut most_passes = 0;
    for (what, table) in tables(&config) {
        let table: Vec<_> = table.iter().collect();
        // How many tiles may go at once is not for this machine to say.
        for (how, network, is_tight, n_at_once) in [
            ("resident", &resident, false, 2),
            ("resident", &resident, false, 8),
            ("resident", &resident, true, 8),
            ("streamed", &streamed, true, 2),
            ("stock", &stock, false, 2),
            ("stock", &stock, true, 2),
        ] {
            let within = |allowed| {
                let division = Division { n_at_once, ..Division::within(allowed) };
                Program::new(&config, &table, &division.on(&network.placement))
            };
            let least = match within(0) {
                Err(SweepError::Memory { needed, .. }) => needed,
                other => panic!("{what}: {other:?}"),
            };
            let allowed = if is_tight { least + (3 << 20) } else { 1 << 30 };
            let program = within(allowed).unwrap();
            assert!(program.peak_bytes <= allowed, "{what}: {} of {allowed}", program.peak_bytes);
            let before = ALLOCATED.current_usage();
            ALLOCATED.reset_peak_usage();
            run(network, &table, &program, &mut |_| ControlFlow::Continue(())).unwrap();
            // What streaming holds is counted with the weights.
            let held = if network.is_streamed() { network.n_held_bytes() } else { 0 };
            let used = (ALLOCATED.peak_usage() - before).saturating_sub(held);
            eprintln!(
                "{what}, {how}, {n_at_once} tiles: {} passes, {} MiB allowed, {} planned, {} used",
                program.n_passes(),
                allowed >> 20,
                program.peak_bytes >> 20,
                used >> 20
            );
            assert!(
                used <= program.peak_bytes,
                "{what}, {how}, {n_at_once} tiles: {used} bytes used, {} planned",
                program.peak_bytes
            );
            most_passes = most_passes.max(program.n_passes());
        }
    }
    assert!(most_passes > 3, "{most_passes}");

    // Unpatched runs alone, which previews make.
    for n_tokens in [8, 60, 128] {
        let tokens: Vec<_> = (0..n_tokens).collect();
        let mut runs = grids(&config, &Settings::default(), 0);
        runs.trials.clear();
        for run in &mut runs.runs {
            run.tokens = tokens.clone();
        }
        runs.runs[0].tokens.reverse();
        let planned = unpatched_bytes(&resident, tokens.len());
        let program = Program::new(&config, &[&runs], &Division::within(1 << 30)).unwrap();
        let before = ALLOCATED.current_usage();
        ALLOCATED.reset_peak_usage();
        run(&resident, &[&runs], &program, &mut |_| ControlFlow::Continue(())).unwrap();
        let used = ALLOCATED.peak_usage() - before;
        assert!(used <= planned, "{n_tokens} tokens: {used} bytes used, {planned} planned");
    }
}

/// A model of Llama 3's shape.
fn llama3(n_layers: usize, d_model: usize, n_heads: usize, d_mlp: usize) -> Config {
    support::llama(Config {
        n_layers,
        d_model,
        n_heads,
        n_kv_heads: 8,
        d_head: 128,
        d_mlp,
        d_vocab: 128_256,
        n_context: 8192,
        norm_eps: 1e-5,
        tied_embeddings: false,
        ..Config::LLAMA
    })
}

/// Plans for accelerators that are not there: the weights with what a sweep takes are within what the
/// card has, resident or read layer by layer, and what is large stays large.
fn plans_fit_the_cards_that_they_are_made_for() {
    let bf16 = Placement { dtype: DType::BF16, kernels: Kernels::Stock, ..Placement::default() };
    let models = [("8B", llama3(32, 4096, 32, 14_336)), ("70B", llama3(80, 8192, 64, 28_672))];
    // Whether the weights stay on the card.
    let stays = [("8B", 24), ("8B", 80)];
    for (model, config) in &models {
        let prompts = |n: usize, own: usize| -> Vec<u32> {
            (0..n).map(|i| if i < 20 { i } else { i * 37 + own } as u32).collect()
        };
        let pair = |n_tokens: usize, n_columns: usize, own: usize| {
            let (source, base) = (prompts(n_tokens, 2 * own), prompts(n_tokens, 2 * own + 1));
            let settings = Settings::default();
            support::grids(config, &settings, [&source, &base], n_tokens - n_columns)
        };
        let tables = [
            ("a pair of 50 tokens", vec![pair(50, 30, 0)]),
            ("a pair of 1,000 tokens", vec![pair(1000, 60, 0)]),
            ("40 pairs of 25 tokens", (0..40).map(|own| pair(25, 5, own)).collect()),
        ];
        for card in [8, 24, 80] {
            let budget = card * 1_000_000_000;
            let is_resident = Network::n_bytes(config, &bf16, false) + (192 << 20) <= budget;
            assert_eq!(is_resident, stays.contains(&(model, card)), "{model} on {card} GB");
            let held = Network::n_bytes(config, &bf16, !is_resident);
            for (what, table) in &tables {
                let what = format!("{what}, {model} on {card} GB");
                let table: Vec<_> = table.iter().collect();
                let division = Division {
                    n_tile_rows: 8192,
                    n_at_once: 1,
                    activations: Activations {
                        n_bytes: 2,
                        most_padded_bytes: Some(512 << 20),
                        n_per_logit: 4,
                        n_logits: usize::MAX,
                        overhead: 256 << 20,
                    },
                    ..Division::within(budget - held)
                };
                let program = Program::new(config, &table, &division).unwrap();
                assert!(held + program.peak_bytes <= budget, "{what}");
                let waves = program.batches.iter().flat_map(|batch| &batch.waves);
                let tallest = waves
                    .flat_map(|wave| &wave.tiles)
                    .map(|tile| tile.spans.iter().map(|span| span.n_own).sum::<usize>());
                let tallest = tallest.max().unwrap();
                eprintln!(
                    "{what}: {} GB held, {} GB planned, {} passes, tiles of at most {tallest} rows",
                    held / 1_000_000_000,
                    program.peak_bytes / 1_000_000_000,
                    program.n_passes(),
                );
                assert!(card == 8 || tallest >= 1024, "{what}: {tallest}");
            }
        }
    }
}

/// One test, one part after another, since the allocator counts what all threads do.
#[test]
fn memory_is_what_was_planned() {
    a_sweep_stays_within_its_memory();
    plans_fit_the_cards_that_they_are_made_for();
}
