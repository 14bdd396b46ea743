//! A sweep's memory beyond the weights stays within what it was allowed.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::ops::ControlFlow;

use compute::model::Config;
use compute::sweep::{Plan, Request, naive, plan, wavefront};
use peak_alloc::PeakAlloc;
use shared::alignment::Alignment;
use shared::vocabulary::{Align, Site};

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// One test, since the allocator counts what all threads do.
#[test]
fn a_sweep_stays_within_its_memory() {
    let config = support::llama(Config {
        n_layers: 8,
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
    });
    let (network, weights) = support::random_network(config, 1);
    drop(weights);
    let prompt = |seed: u32| (0..100).map(|i| (i * 37 + seed) % 2048).collect::<Vec<_>>();
    let request = Request {
        alignment: Alignment::new(&prompt(1), &prompt(2), (0, 0), Align::Pad, 0),
        site: Site::ResidPost,
        true_ids: vec![1],
        false_ids: vec![2],
        readout: true,
    };
    let mut n_passes = Vec::new();
    for allowed in [1 << 30, 64 << 20, 48 << 20] {
        let plan = Plan::new(&network.config, &request, allowed).unwrap();
        assert!(plan.peak_bytes <= allowed, "{} of {allowed}", plan.peak_bytes);
        let before = ALLOCATED.current_usage();
        ALLOCATED.reset_peak_usage();
        wavefront::sweep(&network, &request, &plan, &mut |_| ControlFlow::Continue(())).unwrap();
        let used = ALLOCATED.peak_usage() - before;
        eprintln!(
            "{} passes, {} MiB planned, {} MiB used",
            plan.passes.len(),
            plan.peak_bytes >> 20,
            used >> 20
        );
        assert!(used <= plan.peak_bytes, "{used} bytes used, {} planned", plan.peak_bytes);
        n_passes.push(plan.passes.len());
    }
    for n_tokens in [8, 60, 128] {
        let tokens: Vec<_> = (0..n_tokens).collect();
        let planned = plan::naive_bytes(&network.config, tokens.len());
        let before = ALLOCATED.current_usage();
        ALLOCATED.reset_peak_usage();
        naive::baseline(&network, &tokens, &request).unwrap();
        let used = ALLOCATED.peak_usage() - before;
        eprintln!("{n_tokens} tokens, {planned} bytes planned, {used} used");
        assert!(used <= planned, "{used} bytes used, {planned} planned");
    }
    assert_eq!(n_passes[0], 1);
    assert!(n_passes[2] > n_passes[1] && n_passes[1] > 1, "{n_passes:?}");
}
