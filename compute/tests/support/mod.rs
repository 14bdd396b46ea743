//! Random models for tests.

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use compute::model::{Config, Network, Weight};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// A model of `config` with random weights, large enough that every cell has its own value.
pub fn random_network(config: Config, seed: u64) -> (Network, HashMap<String, Tensor>) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut weights = HashMap::new();
    let (d_q, d_kv) = (config.n_heads * config.d_head, config.n_kv_heads * config.d_head);
    let (d_model, d_mlp) = (config.d_model, config.d_mlp);
    let mut add = |weight: Weight, dims: &[usize]| {
        let n = dims.iter().product();
        let is_norm = dims.len() == 1;
        let spread = if is_norm { 0.3 } else { 1.5 / (dims[dims.len() - 1] as f32).sqrt() };
        let centre = if is_norm { 1.0 } else { 0.0 };
        let numbers: Vec<f32> =
            (0..n).map(|_| centre + spread * random.random_range(-1.0..1.0f32)).collect();
        weights
            .insert(weight.hugging_face(), Tensor::from_vec(numbers, dims, &Device::Cpu).unwrap());
    };
    add(Weight::Embed, &[config.d_vocab, d_model]);
    add(Weight::FinalNorm, &[d_model]);
    if !config.tied_embeddings {
        add(Weight::Unembed, &[config.d_vocab, d_model]);
    }
    for layer in 0..config.n_layers {
        add(Weight::AttnNorm(layer), &[d_model]);
        add(Weight::Query(layer), &[d_q, d_model]);
        add(Weight::Key(layer), &[d_kv, d_model]);
        add(Weight::Value(layer), &[d_kv, d_model]);
        add(Weight::AttnOut(layer), &[d_model, d_q]);
        add(Weight::MlpNorm(layer), &[d_model]);
        add(Weight::Gate(layer), &[d_mlp, d_model]);
        add(Weight::Up(layer), &[d_mlp, d_model]);
        add(Weight::Down(layer), &[d_model, d_mlp]);
    }
    (Network::load(config, &mut weights).unwrap(), weights)
}
