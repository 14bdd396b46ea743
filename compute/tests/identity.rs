//! A model whose files differ in any byte is another model.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file;
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Tensor};
use compute::model::{Config, FAMILIES, Loader};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

fn oracle() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracle/models")
}

/// A model in a folder of its own.
struct Stored {
    _folder: tempfile::TempDir,
    /// What is opened.
    path: PathBuf,
    /// Where the bytes of each weight lie: the file, and the range in it.
    weights: Vec<(PathBuf, std::ops::Range<usize>)>,
}

/// All the ways in which models are stored: folders of one file and of shards in each type, and GGUF
/// files in each type.
fn stored() -> Vec<Stored> {
    let config = support::llama(Config {
        n_layers: 1,
        d_model: 256,
        n_heads: 2,
        n_kv_heads: 1,
        d_head: 128,
        d_mlp: 256,
        d_vocab: 480,
        n_context: 32,
        norm_eps: 1e-5,
        ..Config::LLAMA
    });
    let (_, weights) = support::random_network(config, 11);
    let named: HashMap<_, _> =
        weights.iter().map(|(w, t)| (FAMILIES[0].tensor_name(*w).unwrap(), t.clone())).collect();
    let mut all = Vec::new();
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        all.extend([1, 3].map(|n_shards| in_folder(&named, dtype, n_shards)));
    }
    let by_gguf_name: Vec<_> =
        weights.iter().map(|(w, t)| (w.gguf().unwrap(), t.clone())).collect();
    all.extend(GGUF_TYPES.map(|dtype| in_gguf(&by_gguf_name, dtype)));
    all
}

const GGUF_TYPES: [GgmlDType; 13] = [
    GgmlDType::F32,
    GgmlDType::F16,
    GgmlDType::BF16,
    GgmlDType::Q4_0,
    GgmlDType::Q4_1,
    GgmlDType::Q5_0,
    GgmlDType::Q5_1,
    GgmlDType::Q8_0,
    GgmlDType::Q2K,
    GgmlDType::Q3K,
    GgmlDType::Q4K,
    GgmlDType::Q5K,
    GgmlDType::Q6K,
];

fn in_folder(tensors: &HashMap<String, Tensor>, dtype: DType, n_shards: usize) -> Stored {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_path_buf();
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(oracle().join("tiny-llama3").join(name), path.join(name)).unwrap();
    }
    let config = r#"{"model_type": "llama", "hidden_act": "silu", "hidden_size": 256,
        "intermediate_size": 256, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 1, "vocab_size": 480, "max_position_embeddings": 32,
        "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "tie_word_embeddings": false}"#;
    fs::write(path.join("config.json"), config).unwrap();
    let names: Vec<String> = match n_shards {
        1 => vec!["model.safetensors".into()],
        n => (0..n).map(|i| format!("shard-{i}.safetensors")).collect(),
    };
    let mut shards = vec![HashMap::new(); n_shards];
    let mut weight_map = HashMap::new();
    for (i, (name, tensor)) in tensors.iter().enumerate() {
        shards[i % n_shards].insert(name.clone(), tensor.to_dtype(dtype).unwrap());
        weight_map.insert(name.clone(), names[i % n_shards].clone());
    }
    let mut weights = Vec::new();
    for (name, shard) in names.iter().zip(&shards) {
        let file = path.join(name);
        candle_core::safetensors::save(shard, &file).unwrap();
        let bytes = fs::read(&file).unwrap();
        let n_header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + n_header]).unwrap();
        for info in header.as_object().unwrap().values() {
            let at = |i: usize| 8 + n_header + info["data_offsets"][i].as_u64().unwrap() as usize;
            weights.push((file.clone(), at(0)..at(1)));
        }
    }
    if n_shards > 1 {
        let index = serde_json::json!({ "weight_map": weight_map }).to_string();
        fs::write(path.join("model.safetensors.index.json"), index).unwrap();
    }
    Stored { _folder: folder, path, weights }
}

fn in_gguf(tensors: &[(String, Tensor)], dtype: GgmlDType) -> Stored {
    // The metadata, with its tokenizer, of a model that is there.
    let mut donor = File::open(oracle().join("tiny-llama3.gguf")).unwrap();
    let mut metadata = gguf_file::Content::read(&mut donor).unwrap().metadata;
    for (key, n) in [
        ("block_count", 1),
        ("embedding_length", 256),
        ("feed_forward_length", 256),
        ("attention.head_count", 2),
        ("attention.head_count_kv", 1),
        ("attention.key_length", 128),
        ("attention.value_length", 128),
        ("rope.dimension_count", 128),
    ] {
        metadata.insert(format!("llama.{key}"), gguf_file::Value::U32(n));
    }
    let metadata: Vec<_> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let quantised: Vec<_> = tensors
        .iter()
        .map(|(name, tensor)| {
            let dtype = if tensor.rank() == 2 { dtype } else { GgmlDType::F32 };
            (name.as_str(), QTensor::quantize(tensor, dtype).unwrap())
        })
        .collect();
    let tensors: Vec<_> = quantised.iter().map(|(name, tensor)| (*name, tensor)).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(format!("{dtype:?}.gguf"));
    gguf_file::write(&mut File::create(&path).unwrap(), &metadata, &tensors).unwrap();
    let content = gguf_file::Content::read(&mut File::open(&path).unwrap()).unwrap();
    let weights = content.tensor_infos.values().map(|info| {
        let begin = (content.tensor_data_offset + info.offset) as usize;
        let n = info.shape.elem_count() / info.ggml_dtype.block_size();
        (path.clone(), begin..begin + n * info.ggml_dtype.type_size())
    });
    Stored { weights: weights.collect(), _folder: folder, path }
}

fn fingerprint(path: &Path) -> Option<String> {
    Some(Loader::new(path).load().ok()?.fingerprint.get().unwrap().to_string())
}

/// Runs `check` while one byte of a file is another, and the file says that it was last modified
/// when it was.
fn with_edit<R>(path: &Path, at: usize, flipped: u8, check: impl FnOnce() -> R) -> R {
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    let original = fs::read(path).unwrap();
    let mut edited = original.clone();
    edited[at] ^= flipped;
    let write = |bytes: &[u8]| {
        fs::write(path, bytes).unwrap();
        File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
    };
    write(&edited);
    let outcome = check();
    write(&original);
    outcome
}

#[test]
fn one_edited_byte_is_another_model() {
    let stored = stored();
    let originals: Vec<_> = stored.iter().map(|s| fingerprint(&s.path).unwrap()).collect();
    assert_eq!(originals.iter().collect::<std::collections::HashSet<_>>().len(), stored.len());
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 400,
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        rng_seed: proptest::test_runner::RngSeed::Fixed(7),
        ..ProptestConfig::default()
    });
    let place = (0..stored.len(), any::<proptest::sample::Index>(), any::<u64>(), 1..=255u8);
    let outcome = runner.run(&place, |(which, weight, at, flipped)| {
        let Stored { path, weights, .. } = &stored[which];
        let (file, range) = weight.get(weights);
        let at = range.start + at as usize % range.len();
        // Any bytes are weights.
        let edited = with_edit(file, at, flipped, || fingerprint(path)).unwrap();
        prop_assert_ne!(&edited, &originals[which], "{} at {}", file.display(), at);
        Ok(())
    });
    outcome.unwrap_or_else(|e| panic!("{e}"));
    // The same bytes are the same model again.
    for (stored, original) in stored.iter().zip(&originals) {
        assert_eq!(fingerprint(&stored.path).as_ref(), Some(original));
    }
}

#[test]
fn one_edited_byte_of_the_configuration_or_the_tokenizer_is_another_model() {
    let donor = oracle().join("tiny-llama3");
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(&donor).unwrap() {
        let from = entry.unwrap().path();
        fs::copy(&from, folder.path().join(from.file_name().unwrap())).unwrap();
    }
    let original = fingerprint(folder.path()).unwrap();
    assert_eq!(Some(&original), fingerprint(&donor).as_ref());
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        let path = folder.path().join(name);
        let n_bytes = fs::metadata(&path).unwrap().len() as usize;
        let mut n_opened = 0;
        for at in (0..n_bytes).step_by(n_bytes / 97 + 1) {
            // Most edits make a file that is refused; none makes the same model.
            let edited = with_edit(&path, at, 1, || fingerprint(folder.path()));
            n_opened += usize::from(edited.is_some());
            assert_ne!(edited.as_ref(), Some(&original), "{name} at {at}");
        }
        assert!(n_opened > 0, "{name}");
    }
    fs::remove_file(folder.path().join("tokenizer_config.json")).unwrap();
    assert_ne!(fingerprint(folder.path()), Some(original));
}
