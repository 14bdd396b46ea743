//! The engine against numbers recorded from Hugging Face transformers (see `tests/oracle/`).

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use compute::experiment::{self, Experiment};
use compute::model::{DEFAULT_MODEL, Loader, Model};
use compute::sweep::{Division, Program, oracle};
use serde::Deserialize;
use shared::document::Document;
use shared::specification::pairs::Pair;
use shared::specification::settings::{AnswerPair, Settings};
use shared::specification::template::NO_TEMPLATE;
use shared::specification::vocabulary::{Align, Site};

/// The largest difference allowed between f32 here and f32 there, in nats or in probability.
const TOLERANCE: f32 = 1e-4;
const MEMORY: usize = 1 << 30;

fn oracle_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracle")
}

fn fixtures(prefix: &str) -> Vec<(String, String)> {
    let folder = oracle_folder().join("fixtures");
    let mut fixtures: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), path))
        .filter(|(name, _)| name.starts_with(prefix))
        .map(|(name, path)| (name, std::fs::read_to_string(path).unwrap()))
        .collect();
    fixtures.sort();
    fixtures
}

/// The model of a fixture. The default model is fetched on the first run.
fn model(name: &str) -> &'static Model {
    static TIED: OnceLock<Model> = OnceLock::new();
    static LLAMA3: OnceLock<Model> = OnceLock::new();
    static SMOL: OnceLock<Model> = OnceLock::new();
    let tiny = |name| Loader::new(&oracle_folder().join("models").join(name)).load().unwrap();
    match name {
        "tiny-tied" => TIED.get_or_init(|| tiny("tiny-tied")),
        "tiny-llama3" => LLAMA3.get_or_init(|| tiny("tiny-llama3")),
        "smollm2-135m-instruct-q4_1" => SMOL.get_or_init(|| {
            let path = DEFAULT_MODEL.path().unwrap();
            if !DEFAULT_MODEL.is_whole(&path) {
                DEFAULT_MODEL.fetch(&path).unwrap();
            }
            Loader::new(&path).load().unwrap()
        }),
        other => panic!("no model {other}"),
    }
}

#[derive(Deserialize)]
struct Sweep {
    model: String,
    entity: Option<String>,
    source_sentence: String,
    base_sentence: String,
    source_prompt: String,
    base_prompt: String,
    template: Option<String>,
    align: Align,
    site: Site,
    source_ids: Vec<u32>,
    base_ids: Vec<u32>,
    sentence_start: usize,
    n_layers: usize,
    answers: serde_json::Value,
    source_baseline: serde_json::Value,
    base_baseline: serde_json::Value,
    logit_diff: Vec<Vec<f32>>,
    p_true: Vec<Vec<f32>>,
    p_false: Vec<Vec<f32>>,
    top_token: Vec<Vec<u32>>,
}

impl Sweep {
    fn run(&self) -> Document {
        let model = model(&self.model);
        let word = |which: &str| self.answers[which]["word"].as_str().unwrap().to_string();
        let settings = Settings {
            template: self.template.clone().unwrap_or(NO_TEMPLATE.into()),
            answers: Some(AnswerPair([word("true"), word("false")])),
            sites: self.site.into(),
            align: self.align,
            verify: 3,
            ..Settings::default()
        };
        let settings = settings.check().unwrap();
        let pair = Pair {
            line: 2,
            entity: self.entity.clone().unwrap_or_default(),
            source: self.source_sentence.clone(),
            base: self.base_sentence.clone(),
            cells: Default::default(),
        };
        let experiment = Experiment::prepare(model, &pair, &settings, None).unwrap();
        let division = Division::within(MEMORY);
        let table = [&experiment.specification];
        let program = Program::new(&model.network.config, &table, &division).unwrap();
        let mut made = None;
        experiment::run(
            model,
            &[&experiment],
            &program,
            &mut |_| ControlFlow::Continue(()),
            &mut |_, document| {
                made = Some(document);
                ControlFlow::Continue(())
            },
        )
        .unwrap();
        made.unwrap()
    }

    /// Compares everything that was recorded; returns the largest difference.
    fn check(&self, name: &str) -> f32 {
        let got = self.run();
        assert_eq!(got.source_prompt, self.source_prompt, "{name}");
        assert_eq!(got.base_prompt, self.base_prompt, "{name}");
        let ids =
            |tokens: &[shared::document::Token]| tokens.iter().map(|t| t.id).collect::<Vec<_>>();
        assert_eq!(ids(&got.source_tokens), self.source_ids, "{name}");
        assert_eq!(ids(&got.base_tokens), self.base_ids, "{name}");
        assert_eq!(got.sentence_start, self.sentence_start, "{name}");
        assert_eq!(got.num_layers, self.n_layers, "{name}");
        assert_eq!(serde_json::to_value(&got.answers).unwrap(), self.answers, "{name}");

        let mut largest = 0.0f32;
        let mut compare = |what: &str, got: f32, expected: f32| {
            let difference = (got - expected).abs();
            assert!(difference <= TOLERANCE, "{name} {what}: {got}, recorded {expected}");
            largest = largest.max(difference);
        };
        let baselines = got.baselines.unwrap();
        for (which, got, recorded) in [
            ("source", baselines.source, &self.source_baseline),
            ("base", baselines.base, &self.base_baseline),
        ] {
            let number = |key: &str| recorded[key].as_f64().unwrap() as f32;
            compare(which, got.logit_diff.unwrap(), number("logit_diff"));
            compare(which, got.p_true.unwrap(), number("p_true"));
            compare(which, got.p_false.unwrap(), number("p_false"));
            compare(which, got.p_top.unwrap(), number("top_prob"));
            assert_eq!(
                u64::from(got.top_token.unwrap().id),
                recorded["top_token"].as_u64().unwrap(),
                "{name}"
            );
        }
        let readout = got.readout.unwrap();
        for (what, got, recorded) in [
            ("logit_diff", &got.patching_results, &self.logit_diff),
            ("p_true", &readout.p_true, &self.p_true),
            ("p_false", &readout.p_false, &self.p_false),
        ] {
            assert_eq!(got.n_rows(), recorded.len(), "{name} {what}");
            for (layer, (got, recorded)) in got.rows().zip(recorded).enumerate() {
                assert_eq!(got.len(), recorded.len(), "{name} {what}");
                for (column, (got, recorded)) in got.iter().zip(recorded).enumerate() {
                    compare(&format!("{what} ({layer}, {column})"), got.unwrap(), *recorded);
                }
            }
        }
        let tops: Vec<Vec<_>> = readout
            .top_token
            .rows()
            .map(|row| row.iter().map(|id| id.unwrap()).collect())
            .collect();
        assert_eq!(tops, self.top_token, "{name}");
        largest
    }
}

fn check_sweeps(prefix: &str, n_expected: usize) {
    let fixtures = fixtures(prefix);
    assert!(fixtures.len() >= n_expected, "found {} fixtures {prefix}*", fixtures.len());
    for (name, text) in fixtures {
        let sweep: Sweep = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        eprintln!("{name}: largest difference {:.1e}", sweep.check(&name));
    }
}

#[test]
fn tiny_models_agree_at_every_site_and_alignment() {
    check_sweeps("tiny-", 18);
}

#[test]
fn the_default_model_agrees() {
    check_sweeps("smollm2-", 4);
}

#[test]
fn logits_agree() {
    #[derive(Deserialize)]
    struct Logits {
        model: String,
        ids: Vec<u32>,
        top: Vec<Top>,
    }
    #[derive(Deserialize)]
    struct Top {
        id: u32,
        logit: f32,
    }
    for (name, text) in fixtures("logits-") {
        let recorded: Logits = serde_json::from_str(&text).unwrap();
        let network = &model(&recorded.model).network;
        let x = oracle::forward(network, &recorded.ids, |_, _, x| Ok(x)).unwrap();
        let logits = network.logits(&network.final_norm(&x).unwrap()).unwrap();
        let logits = logits.squeeze(0).unwrap().to_vec1::<f32>().unwrap();
        for top in recorded.top {
            let difference = (logits[top.id as usize] - top.logit).abs();
            assert!(difference <= TOLERANCE, "{name} {}: off by {difference}", top.id);
        }
    }
}

#[test]
fn the_tokenizer_from_gguf_agrees_on_awkward_strings() {
    #[derive(Deserialize)]
    struct Corpus {
        model: String,
        strings: Vec<Case>,
    }
    #[derive(Deserialize)]
    struct Case {
        text: String,
        ids: Vec<u32>,
    }
    for (name, text) in fixtures("tokenizer-") {
        let corpus: Corpus = serde_json::from_str(&text).unwrap();
        assert!(corpus.strings.len() >= 30, "{name}");
        for case in corpus.strings {
            let tokenizer = &model(&corpus.model).tokenizer;
            assert_eq!(tokenizer.encode(&case.text).unwrap().ids, case.ids, "{:?}", case.text);
            let texts: String = case.ids.iter().map(|&id| tokenizer.token(id).text).collect();
            if !texts.contains("<0x") {
                assert_eq!(texts, case.text);
            }
        }
    }
}
