//! Hugging Face folders: every storage type that is read, in one file and in shards.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{DType, Tensor};
use compute::model::{Config, FAMILIES, Loader, Network, Placement, Weight};
use compute::sweep::oracle;
use support::random_network;

const CONFIG: &str = r#"{"model_type": "llama", "hidden_act": "silu", "hidden_size": 32,
    "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 40, "max_position_embeddings": 32,
    "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "tie_word_embeddings": false}"#;

fn config() -> Config {
    support::llama(Config {
        n_layers: 2,
        d_model: 32,
        n_heads: 4,
        n_kv_heads: 2,
        d_head: 8,
        d_mlp: 24,
        d_vocab: 40,
        n_context: 32,
        norm_eps: 1e-5,
        ..Config::LLAMA
    })
}

/// Weights by their Hugging Face names.
fn named(weights: &HashMap<Weight, Tensor>) -> HashMap<String, Tensor> {
    let name = |weight: &Weight| FAMILIES[0].tensor_name(*weight).unwrap();
    weights.iter().map(|(weight, tensor)| (name(weight), tensor.clone())).collect()
}

fn logits(network: &Network) -> Vec<f32> {
    let x = oracle::forward(network, &[1, 4, 7, 3], |_, _, x| Ok(x)).unwrap();
    let logits = network.logits(&network.final_norm(&x).unwrap()).unwrap();
    logits.flatten_all().unwrap().to_vec1().unwrap()
}

/// Writes the weights in `n_shards` files, with an index where there are several.
fn write(folder: &Path, tensors: &HashMap<String, Tensor>, n_shards: usize) {
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracle/models/tiny-tied");
    std::fs::copy(tokenizer.join("tokenizer.json"), folder.join("tokenizer.json")).unwrap();
    std::fs::write(folder.join("config.json"), CONFIG).unwrap();
    if n_shards == 1 {
        candle_core::safetensors::save(tensors, folder.join("model.safetensors")).unwrap();
        return;
    }
    let mut shards: Vec<HashMap<String, Tensor>> = vec![HashMap::new(); n_shards];
    let mut weight_map = BTreeMap::new();
    for (i, (name, tensor)) in tensors.iter().enumerate() {
        shards[i % n_shards].insert(name.clone(), tensor.clone());
        weight_map.insert(name, format!("shard-{}.safetensors", i % n_shards));
    }
    for (i, shard) in shards.iter().enumerate() {
        let path = folder.join(format!("shard-{i}.safetensors"));
        candle_core::safetensors::save(shard, path).unwrap();
    }
    let index = serde_json::json!({ "weight_map": weight_map }).to_string();
    std::fs::write(folder.join("model.safetensors.index.json"), index).unwrap();
}

#[test]
fn every_storage_type_is_read_from_one_file_and_from_shards() {
    let (_, tensors) = random_network(config(), 11);
    for (dtype, name) in [(DType::F32, "F32"), (DType::F16, "F16"), (DType::BF16, "BF16")] {
        let mut stored: HashMap<_, _> =
            tensors.iter().map(|(w, t)| (*w, t.to_dtype(dtype).unwrap())).collect();
        let expected =
            logits(&Network::resident(config(), &mut stored, &Placement::default()).unwrap());
        for n_shards in [1, 3] {
            let folder = tempfile::tempdir().unwrap();
            write(folder.path(), &named(&stored), n_shards);
            let model = Loader::new(folder.path()).load().unwrap();
            assert_eq!(model.weights_dtype, name);
            assert_eq!(model.network.config, config());
            assert_eq!(logits(&model.network), expected, "{name} in {n_shards} files");
        }
    }
}

#[test]
fn a_type_that_is_not_read_is_named() {
    let (_, mut tensors) = random_network(config(), 11);
    for tensor in tensors.values_mut() {
        *tensor = tensor.to_dtype(DType::F64).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &named(&tensors), 1);
    let error = Loader::new(folder.path()).load().err().map(|e| e.to_string()).unwrap_or_default();
    assert!(error.contains("is stored as F64: only F32, F16 and BF16 are read"), "{error}");
}
