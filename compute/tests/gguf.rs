//! GGUF files: every storage type, the order of queries and keys, and the tokenizer.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use compute::model::{Config, Loader, Module, Network, Placement, Weight};
use compute::sweep::oracle;
use support::random_network;

/// Widths are multiples of 256, the largest block of a quantised type.
fn config() -> Config {
    support::llama(Config {
        n_layers: 2,
        d_model: 256,
        n_heads: 4,
        n_kv_heads: 2,
        d_head: 64,
        d_mlp: 256,
        d_vocab: 12,
        n_context: 32,
        norm_eps: 1e-5,
        ..Config::LLAMA
    })
}

/// llama.cpp's order of a head's rows: the two halves of Hugging Face's, interleaved.
fn interleaved(tensor: &Tensor, n_heads: usize) -> Tensor {
    let (d_out, d_in) = tensor.dims2().unwrap();
    let halves = tensor.reshape((n_heads, 2, d_out / n_heads / 2, d_in)).unwrap();
    halves.transpose(1, 2).unwrap().contiguous().unwrap().reshape((d_out, d_in)).unwrap()
}

fn texts(texts: &[&str]) -> Value {
    Value::Array(texts.iter().map(|text| Value::String(text.to_string())).collect())
}

const TOKENS: [&str; 12] =
    ["<unk>", "<s>", "</s>", "\u{2581}", "a", "b", "c", "ab", "\u{2581}ab", "bc", "<0x0A>", "abc"];

/// A SentencePiece tokenizer's metadata: `ab` is merged before `bc`.
fn metadata(config: &Config) -> Vec<(&'static str, Value)> {
    let number = |n: usize| Value::U32(n as u32);
    let scores = [0.0, 0.0, 0.0, -9.0, -9.0, -9.0, -9.0, -1.0, -2.0, -3.0, 0.0, -4.0];
    let types = [2, 3, 3, 1, 1, 1, 1, 1, 1, 1, 6, 1];
    vec![
        ("general.architecture", Value::String("llama".into())),
        ("llama.block_count", number(config.n_layers)),
        ("llama.embedding_length", number(config.d_model)),
        ("llama.feed_forward_length", number(config.d_mlp)),
        ("llama.attention.head_count", number(config.n_heads)),
        ("llama.attention.head_count_kv", number(config.n_kv_heads)),
        ("llama.context_length", number(config.n_context)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(config.norm_eps)),
        ("tokenizer.ggml.model", Value::String("llama".into())),
        ("tokenizer.ggml.tokens", texts(&TOKENS)),
        ("tokenizer.ggml.scores", Value::Array(scores.map(Value::F32).to_vec())),
        ("tokenizer.ggml.token_type", Value::Array(types.map(Value::I32).to_vec())),
        ("tokenizer.ggml.unknown_token_id", number(0)),
        ("tokenizer.ggml.bos_token_id", number(1)),
        ("tokenizer.ggml.eos_token_id", number(2)),
    ]
}

/// Writes a model with its matrices in `dtype`; returns its weights as they come out of that.
fn write(
    path: &Path,
    dtype: GgmlDType,
    change: impl Fn(&mut Vec<(&'static str, Value)>),
) -> HashMap<Weight, Tensor> {
    let config = config();
    let (_, tensors) = random_network(config.clone(), 5);
    let (mut stored, mut expected) = (Vec::new(), HashMap::new());
    for (&weight, tensor) in &tensors {
        let is_matrix = tensor.rank() == 2;
        // Rows move as a whole, so that quantising and reordering can be exchanged.
        let ordered = match weight.module {
            Module::Query => interleaved(tensor, config.n_heads),
            Module::Key => interleaved(tensor, config.n_kv_heads),
            _ => tensor.clone(),
        };
        let dtype = if is_matrix { dtype } else { GgmlDType::F32 };
        stored.push((weight.gguf().unwrap(), QTensor::quantize(&ordered, dtype).unwrap()));
        let kept = QTensor::quantize(tensor, dtype).unwrap().dequantize(&Device::Cpu).unwrap();
        expected.insert(weight, kept);
    }
    let mut metadata = metadata(&config);
    change(&mut metadata);
    let metadata: Vec<_> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let tensors: Vec<_> = stored.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    gguf_file::write(&mut File::create(path).unwrap(), &metadata, &tensors).unwrap();
    expected
}

#[test]
fn every_storage_type_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = [1, 4, 7, 3, 9, 5];
    let logits = |network: &Network| {
        let x = oracle::forward(network, &tokens, |_, _, x| Ok(x)).unwrap();
        let logits = network.logits(&network.final_norm(&x).unwrap()).unwrap();
        logits.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    for dtype in [
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
    ] {
        let path = folder.path().join(format!("{dtype:?}.gguf"));
        let mut expected = write(&path, dtype, |_| {});
        let model = Loader::new(&path).load().unwrap();
        assert_eq!(model.network.config, config());
        assert_eq!(model.name, format!("{dtype:?}"));
        assert_eq!(model.weights_dtype.replace('_', ""), format!("{dtype:?}").replace('_', ""));
        let expected =
            logits(&Network::resident(config(), &mut expected, &Placement::default()).unwrap());
        for (got, expected) in logits(&model.network).iter().zip(&expected) {
            assert!((got - expected).abs() < 1e-5, "{dtype:?}: {got}, expected {expected}");
        }
    }
}

/// Numbers are widened by candle; ggml's own reference in Python must read the same of random blocks.
#[test]
fn quantised_blocks_are_widened_as_the_reference_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracle/models/quantised.gguf");
    let mut file = File::open(path).unwrap();
    let content = gguf_file::Content::read(&mut file).unwrap();
    let mut numbers = |name: &str| {
        let tensor = content.tensor(&mut file, name, &Device::Cpu).unwrap();
        let tensor = tensor.dequantize(&Device::Cpu).unwrap();
        tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let names = content.tensor_infos.keys().filter(|name| !name.ends_with(".f32"));
    let mut n_types = 0;
    for name in names {
        let (got, expected) = (numbers(name), numbers(&format!("{name}.f32")));
        let largest = expected.iter().fold(0f32, |most, x| most.max(x.abs()));
        for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
            let difference = (got - expected).abs();
            assert!(difference <= 1e-6 * largest, "{name} {i}: {got}, expected {expected}");
        }
        n_types += 1;
    }
    assert_eq!(n_types, 10);
}

#[test]
fn a_sentence_piece_tokenizer_is_rebuilt_from_pieces_and_scores() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    write(&path, GgmlDType::F32, |_| {});
    let tokenizer = Loader::new(&path).load().unwrap().description.tokenizer;
    let cases: [(&str, &[u32]); 6] = [
        ("ab", &[1, 8]),
        ("abc", &[1, 8, 6]),
        ("bc ab", &[1, 3, 9, 8]),
        ("a\n", &[1, 3, 4, 10]),
        ("cb", &[1, 3, 6, 5]),
        ("a</s>", &[1, 3, 4, 2]),
    ];
    for (text, expected) in cases {
        assert_eq!(tokenizer.encode(text).unwrap().ids, expected, "{text:?}");
    }
    assert_eq!(tokenizer.token(8).text, " ab");
    assert_eq!(tokenizer.pad(), Some(2));
}

/// Every kind of tokenizer that is rebuilt from a GGUF, against what other code makes of awkward
/// strings (`tests/oracle/make_tiny_tokenizers.py`).
#[test]
fn tokenizers_of_every_kind_agree_on_awkward_strings() {
    #[derive(serde::Deserialize)]
    struct Fixture {
        model: String,
        pre: String,
        tokens: Vec<String>,
        #[serde(default)]
        merges: Vec<String>,
        #[serde(default)]
        scores: Vec<f32>,
        types: Vec<i32>,
        bos: u32,
        eos: u32,
        unk: Option<u32>,
        add_space_prefix: Option<bool>,
        strings: Vec<Case>,
    }
    #[derive(serde::Deserialize)]
    struct Case {
        text: String,
        ids: Vec<u32>,
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracle/fixtures");
    let mut n_tokenizers = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if !name.starts_with("split-") {
            continue;
        }
        n_tokenizers += 1;
        let fixture = std::fs::read_to_string(&path).unwrap();
        let fixture: Fixture = serde_json::from_str(&fixture).unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("model.gguf");
        write(&path, GgmlDType::F32, |metadata| {
            metadata.retain(|(key, _)| !key.starts_with("tokenizer."));
            let list =
                |texts: &[String]| Value::Array(texts.iter().cloned().map(Value::String).collect());
            metadata.extend([
                ("llama.vocab_size", Value::U32(config().d_vocab as u32)),
                ("tokenizer.ggml.model", Value::String(fixture.model.clone())),
                ("tokenizer.ggml.pre", Value::String(fixture.pre.clone())),
                ("tokenizer.ggml.tokens", list(&fixture.tokens)),
                ("tokenizer.ggml.bos_token_id", Value::U32(fixture.bos)),
                ("tokenizer.ggml.eos_token_id", Value::U32(fixture.eos)),
                (
                    "tokenizer.ggml.token_type",
                    Value::Array(fixture.types.iter().copied().map(Value::I32).collect()),
                ),
            ]);
            if fixture.scores.is_empty() {
                metadata.push(("tokenizer.ggml.merges", list(&fixture.merges)));
            } else {
                let scores = fixture.scores.iter().copied().map(Value::F32).collect();
                metadata.push(("tokenizer.ggml.scores", Value::Array(scores)));
            }
            if let Some(unk) = fixture.unk {
                metadata.push(("tokenizer.ggml.unknown_token_id", Value::U32(unk)));
            }
            if let Some(adds) = fixture.add_space_prefix {
                metadata.push(("tokenizer.ggml.add_space_prefix", Value::Bool(adds)));
            }
        });
        let tokenizer = Loader::new(&path).load().unwrap().description.tokenizer;
        assert!(fixture.strings.len() >= 40, "{name}");
        for case in &fixture.strings {
            let got = tokenizer.encode(&case.text).unwrap().ids;
            assert_eq!(got, case.ids, "{name}: {:?}", case.text);
        }
    }
    assert_eq!(n_tokenizers, 9);
}

#[test]
fn what_is_not_known_to_be_right_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let set = |key: &'static str, value: Value| {
        move |metadata: &mut Vec<(&'static str, Value)>| {
            metadata.retain(|(k, _)| *k != key);
            metadata.push((key, value.clone()));
        }
    };
    let text = |text: &str| Value::String(text.to_string());
    let cases = [
        (
            set("general.architecture", text("mamba")),
            "the model family is `mamba`: only llama, qwen2, ",
        ),
        (set("llama.expert_count", Value::U32(8)), "mixture of experts"),
        (set("llama.rope.scaling.type", text("yarn")), "the rotary scaling is `yarn`"),
        (set("llama.rope.dimension_count", Value::U32(32)), "only a part of each head is rotated"),
        (
            set("llama.attention.head_count_kv", Value::U32(3)),
            "4 query heads do not divide among 3 key heads",
        ),
        (set("tokenizer.ggml.model", text("bert")), "the tokenizer is of the kind `bert`"),
        (set("llama.attention.sliding_window", Value::U32(9)), "`llama.attention.sliding_window`"),
        (set("llama.attention.value_length", Value::U32(9)), "values are wider than its keys"),
        (set("llama.logit_scale", Value::F32(0.5)), "the model has `llama.logit_scale`"),
        (set("tokenizer.ggml.scores", Value::U32(1)), "`tokenizer.ggml.scores` is missing"),
        (set("llama.feed_forward_length", Value::U32(512)), "the configuration says [512, 256]"),
    ];
    for (i, (change, expected)) in cases.iter().enumerate() {
        let path = folder.path().join(format!("{i}.gguf"));
        write(&path, GgmlDType::F32, change);
        let error = Loader::new(&path).load().err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains(expected), "{expected}: {error}");
        assert!(error.contains(&path.display().to_string()), "{error}");
    }
    let path = folder.path().join("cut.gguf");
    write(&path, GgmlDType::F32, |_| {});
    let n_bytes = std::fs::metadata(&path).unwrap().len();
    for (kept, expected) in [
        (n_bytes - 1, "the file is truncated, fetch it again"),
        (n_bytes / 2, "the file is truncated, fetch it again"),
        (100, "this is no GGUF file, or a damaged one"),
    ] {
        File::options().write(true).open(&path).unwrap().set_len(kept).unwrap();
        let error = Loader::new(&path).load().err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains(expected), "{kept}: {error}");
    }
}
