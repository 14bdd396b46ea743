//! Every family against numbers recorded from Hugging Face transformers, on small random models
//! (see `tests/oracle/`).

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "../compute/tests/support/devices.rs"]
mod devices;
#[path = "families/recorded.rs"]
mod recorded;

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use compute::experiment;
use compute::model::{FAMILIES, Loader, Network, Placement};
use compute::sweep::{Division, Program, Readings, cell_readings, oracle, run};
use recorded::{Case, fixtures, oracle_folder};
use serde_json::{Map, Value};

/// The largest difference allowed between f32 here and f32 there, in nats, in probability or in a
/// logit.
const TOLERANCE: f32 = 1e-4;
const MEMORY: usize = 1 << 30;

fn network(name: &str, to: &Placement) -> Network {
    Loader {
        path: &oracle_folder().join("models").join(name),
        placement: to.clone(),
        budget: usize::MAX,
    }
    .network()
    .unwrap()
}

fn logits(network: &Network, tokens: &[u32]) -> Vec<f32> {
    let x = oracle::forward(network, tokens, |_, _, x| Ok(x)).unwrap();
    let logits = network.logits(&network.final_norm(&x).unwrap()).unwrap();
    logits.flatten_all().unwrap().to_vec1().unwrap()
}

/// A text in a configuration, and what takes its place.
type Change = (&'static str, &'static str);

/// The same, with texts of its configuration replaced.
fn network_like(name: &str, changes: &[Change]) -> Network {
    let (from, to) = (oracle_folder().join("models").join(name), tempfile::tempdir().unwrap());
    let mut config = std::fs::read_to_string(from.join("config.json")).unwrap();
    for (old, new) in changes {
        assert!(config.contains(old), "{name}: no {old}");
        config = config.replace(old, new);
    }
    std::fs::write(to.path().join("config.json"), config).unwrap();
    for file in std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
        let name = file.file_name().unwrap();
        if name.to_string_lossy().contains(".safetensors") {
            std::fs::copy(&file, to.path().join(name)).unwrap();
        }
    }
    Loader::new(to.path()).network().unwrap()
}

/// Compares numbers; remembers the largest difference.
struct Comparison {
    name: String,
    largest: f32,
}

impl Comparison {
    fn compare(&mut self, what: &str, got: &[f32], recorded: &[f32]) {
        assert_eq!(got.len(), recorded.len(), "{} {what}", self.name);
        for (i, (got, recorded)) in got.iter().zip(recorded).enumerate() {
            let difference = (got - recorded).abs();
            assert!(
                difference <= TOLERANCE,
                "{} {what} {i}: {got}, recorded {recorded}",
                self.name
            );
            self.largest = self.largest.max(difference);
        }
    }

    /// Compares everything that was recorded of an experiment.
    fn compare_all(&mut self, case: &Case, readings: &Readings) {
        if let Some(recorded) = &case.logit_diffs {
            // Of a base with noise there is a run for each seed.
            let both = experiment::base_and_source(&case.specification, &readings.runs).unwrap();
            let got = both.map(|run| run.logit_diff);
            self.compare(&format!("{}: runs", case.what), &got, recorded);
        }
        let grids = cell_readings(&case.specification, readings);
        for (cells, grid) in grids.into_iter().zip(&case.grids) {
            let what = |metric| format!("{}: {metric} of {}", case.what, grid.site);
            let cells: Vec<_> = cells.into_iter().map(|cell| cell.unwrap()).collect();
            let diffs: Vec<_> = cells.iter().map(|cell| cell.logit_diff).collect();
            self.compare(&what("logit_diff"), &diffs, &grid.logit_diff);
            let whole: Vec<_> = cells.into_iter().map(|cell| cell.vocabulary.unwrap()).collect();
            let p_true: Vec<_> = whole.iter().map(|whole| whole.p_true).collect();
            self.compare(&what("p_true"), &p_true, &grid.p_true);
            if let (Some(of_base), Some(of_source)) = (&grid.kl_base, &grid.kl_source) {
                let got: Vec<_> = whole.iter().map(|whole| whole.kl_base.unwrap()).collect();
                self.compare(&what("KL from base"), &got, of_base);
                let got: Vec<_> = whole.iter().map(|whole| whole.kl_source.unwrap()).collect();
                self.compare(&what("KL from source"), &got, of_source);
            }
            if let (Some(of_true), Some(of_false)) = (&grid.rank_true, &grid.rank_false) {
                let got = whole.iter().flat_map(|whole| [whole.rank_true, whole.rank_false]);
                let recorded = of_true.iter().zip(of_false).flat_map(|(t, f)| [*t, *f]);
                for (i, (got, recorded)) in got.zip(recorded).enumerate() {
                    let (cell, answer) = (i / 2, ["true", "false"][i % 2]);
                    let is_same = recorded.is_none() || got == recorded;
                    assert!(
                        is_same,
                        "{} {}: {got:?}, recorded {recorded:?}, in cell {cell}",
                        self.name,
                        what(&format!("rank of the {answer} answer"))
                    );
                }
            }
        }
    }
}

/// Everything recorded of a model shares the waves of one table: pairs, sites, heads, windows,
/// ablations and directions.
#[test]
fn every_family_agrees_in_every_experiment() {
    let mut families = Vec::new();
    let mut n_experiments = BTreeMap::new();
    let whole = Division::within(MEMORY);
    let cut = Division { n_waves: 3, n_wave_rows: 500, n_tile_rows: 32, ..whole };
    let divisions = [
        ("one wave", whole),
        ("small waves", cut),
        ("all", Division { computes_all: true, ..cut }),
    ];
    for to in devices::devices() {
        for fixture in fixtures() {
            let network = network(&fixture.model, &to);
            families.push(network.config.architecture);
            if fixture.n_experiments() > 0 {
                n_experiments.insert(network.config.architecture, fixture.n_experiments());
            }
            let mut comparison = Comparison { name: fixture.model.clone(), largest: 0.0 };
            let cases = fixture.cases(&network.config);
            for case in &cases {
                for (run, recorded) in
                    case.specification.runs.iter().zip(case.logits.iter().flatten())
                {
                    comparison.compare(&case.what, &logits(&network, &run.tokens), recorded);
                }
            }
            let table: Vec<_> = cases.iter().map(|case| &case.specification).collect();
            for (way, division) in &divisions {
                let program = Program::new(&network.config, &table, division).unwrap();
                let is_one_wave = program.batches.len() == 1 && program.n_passes() == 1;
                assert_eq!(is_one_wave, *way == "one wave", "{way}: {}", program.n_passes());
                let readings =
                    run(&network, &table, &program, &mut |_| ControlFlow::Continue(())).unwrap();
                assert_eq!(readings.len(), cases.len());
                for (case, readings) in cases.iter().zip(&readings) {
                    comparison.compare_all(case, readings);
                }
            }
            eprintln!("{}: largest difference {:.1e}", comparison.name, comparison.largest);
        }
    }
    // Llamas of the usual kind are in `tests/oracle.rs`.
    for family in FAMILIES {
        assert!(families.contains(&family.name), "{} has no recorded numbers", family.name);
    }
    assert!(n_experiments.len() >= 5, "experiments of {n_experiments:?} alone were recorded");
}

/// Checkpoints of one model under other names: without their root, or as part of a larger model.
#[test]
fn tensors_are_found_below_every_root() {
    let cases = [
        ("fam-gpt2", "transformer.", "", None),
        ("fam-opt", "model.decoder.", "decoder.", None),
        ("fam-gemma3", "model.", "language_model.model.", Some("gemma3")),
        ("fam-gemma3", "model.", "model.language_model.", Some("gemma3")),
    ];
    let tokens = [5, 9, 33, 40, 7, 8, 51];
    for (name, root, other_root, wrapped) in cases {
        let (from, to) = (oracle_folder().join("models").join(name), tempfile::tempdir().unwrap());
        let config = std::fs::read_to_string(from.join("config.json")).unwrap();
        let config = match wrapped {
            None => config,
            Some(kind) => format!("{{\"model_type\": \"{kind}\", \"text_config\": {config}}}"),
        };
        std::fs::write(to.path().join("config.json"), config).unwrap();
        let file = "model.safetensors";
        let tensors = candle_core::safetensors::load(from.join(file), &Device::Cpu).unwrap();
        let renamed: HashMap<_, _> = tensors
            .into_iter()
            .map(|(name, tensor)| match name.strip_prefix(root) {
                Some(rest) => (format!("{other_root}{rest}"), tensor),
                None => (name, tensor),
            })
            .collect();
        candle_core::safetensors::save(&renamed, to.path().join(file)).unwrap();
        let got = logits(&Loader::new(to.path()).network().unwrap(), &tokens);
        assert_eq!(
            got,
            logits(&network(name, &Placement::default()), &tokens),
            "{name} below {other_root:?}"
        );
    }
}

/// What a GGUF does not say: the scale of Gemma's scores is that of the size with this many layers.
const HEAD_SCALE: &[Change] = &[("\"query_pre_attn_scalar\": 12", "\"query_pre_attn_scalar\": 8")];

#[test]
fn a_gguf_is_the_model_of_the_folder_that_it_was_made_from() {
    let cases: [(&str, &[Change]); 14] = [
        ("tiny-llama3", &[]),
        ("fam-llama-bias", &[]),
        ("fam-llama-linear", &[]),
        ("fam-qwen2", &[]),
        ("fam-qwen3", &[]),
        ("fam-gemma", &[]),
        ("fam-gemma2", HEAD_SCALE),
        ("fam-gemma3", HEAD_SCALE),
        ("fam-phi3", &[]),
        ("fam-phi3-longrope", &[]),
        ("fam-olmo2", &[]),
        ("fam-gpt2", &[]),
        ("fam-gpt-neox", &[]),
        ("fam-gpt-neox-serial", &[]),
    ];
    let tokens = [5, 9, 33, 40, 7, 8, 51, 30, 17, 44, 29, 6];
    for (name, changes) in cases {
        let folder = network_like(name, changes);
        let path = oracle_folder().join("models").join(format!("{name}.gguf"));
        let gguf = Loader::new(&path).load().unwrap_or_else(|e| panic!("{e}")).network;
        assert_eq!(gguf.config.architecture, folder.config.architecture);
        assert_eq!(gguf.config.n_weights(), folder.config.n_weights(), "{name}");
        let (got, expected) = (logits(&gguf, &tokens), logits(&folder, &tokens));
        // What divides the frequencies of Llama 3 is rounded in a GGUF, and all else is the same.
        let tolerance = if name == "tiny-llama3" { 1e-5 } else { 1e-6 };
        let scale = expected.iter().fold(1.0f32, |scale, x| scale.max(x.abs()));
        for (got, expected) in got.iter().zip(&expected) {
            assert!((got - expected).abs() < tolerance * scale, "{name}: {got} for {expected}");
        }
    }
}

/// Loads a model of candle-transformers and runs it, for the logits of the last position.
macro_rules! witness {
    ($module:ident :: $model:ident $(, $first:expr)?) => {
        |config, weights: VarBuilder, tokens: &Tensor| {
            use candle_transformers::models::$module::{Config, $model};
            let config: Config = serde_json::from_value(config).unwrap();
            $model::new($($first,)? &config, weights)?.forward(tokens, 0)
        }
    };
}

/// candle-transformers, written by others, as a second witness of the logits. Its windows are one
/// position wider than those of transformers, so they are opened here; for Gemma 2 it divides scores
/// by the width of a head. Its Gemma 3 runs with one key head alone.
#[test]
fn candle_transformers_agrees_where_it_has_the_family() {
    type Witness = fn(Value, VarBuilder, &Tensor) -> candle_core::Result<Tensor>;
    let open = |size: &'static str| (size, "\"sliding_window\": 64");
    let cases: [(&str, Vec<Change>, Witness); 8] = [
        ("tiny-tied", vec![], |config, weights, tokens| {
            use candle_transformers::models::llama::{Cache, Llama, LlamaConfig};
            let config = serde_json::from_value::<LlamaConfig>(config).unwrap().into_config(false);
            let mut cache = Cache::new(false, DType::F32, &config, &Device::Cpu)?;
            Llama::load(weights, &config)?.forward(tokens, 0, &mut cache)
        }),
        ("fam-mistral", vec![open("\"sliding_window\": 5")], witness!(mistral::Model)),
        ("fam-qwen2", vec![], witness!(qwen2::ModelForCausalLM)),
        ("fam-qwen3", vec![], witness!(qwen3::ModelForCausalLM)),
        ("fam-gemma", vec![], witness!(gemma::Model, false)),
        (
            "fam-gemma2",
            vec![open("\"sliding_window\": 4"), HEAD_SCALE[0]],
            witness!(gemma2::Model, false),
        ),
        ("fam-phi3", vec![open("\"sliding_window\": 6")], witness!(phi3::Model)),
        ("fam-olmo2", vec![], witness!(olmo2::Model)),
    ];
    let tokens = [5, 9, 33, 40, 7, 8, 51, 30, 17, 44, 29, 6u32];
    for (name, changes, witness) in cases {
        let folder = oracle_folder().join("models").join(name);
        let network = network_like(name, &changes);
        let mut text = std::fs::read_to_string(folder.join("config.json")).unwrap();
        for (old, new) in changes {
            text = text.replace(old, new);
        }
        // What the structures there need and newer configurations say elsewhere or not at all.
        let mut config: Map<String, Value> = serde_json::from_str(&text).unwrap();
        let rope = config.get("rope_parameters").cloned().unwrap_or_default();
        let more = serde_json::json!({
            "rope_theta": rope["rope_theta"], "sliding_window": 64, "clip_qkv": null,
            "max_window_layers": 99, "use_sliding_window": false, "attention_bias": false,
        });
        for (key, value) in more.as_object().unwrap() {
            let slot = config.entry(key).or_insert(Value::Null);
            if slot.is_null() && !(key == "sliding_window" && name == "fam-phi3") {
                *slot = value.clone();
            }
        }
        config.retain(|key, _| key != "rope_scaling");
        let weights =
            candle_core::safetensors::load(folder.join("model.safetensors"), &Device::Cpu);
        let weights = VarBuilder::from_tensors(weights.unwrap(), DType::F32, &Device::Cpu);
        let ids = Tensor::new(&tokens, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
        let expected = witness(Value::Object(config), weights, &ids).unwrap();
        let expected: Vec<f32> = expected.flatten_all().unwrap().to_vec1().unwrap();
        for (got, expected) in logits(&network, &tokens).iter().zip(&expected) {
            assert!((got - expected).abs() < TOLERANCE, "{name}: {got}, witness {expected}");
        }
    }
}
