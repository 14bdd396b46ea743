//! What is wrong with a pair is said before anything is computed.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::Path;

use compute::experiment::{Experiment, PrepareError};
use compute::model::{Loader, Model};
use serde_json::{Value, json};
use shared::specification::pairs::Pair;
use shared::specification::settings::{AnswerPair, Settings};
use shared::specification::vocabulary::{Align, Directions};

fn tiny() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracle/models/tiny-llama3")
}

/// The tiny model, whose tokenizer was given tokens that its embedding has no rows for: the classic
/// is a pad token for which nobody resized the model.
fn with_added_tokens() -> Model {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(tiny()).unwrap() {
        let from = entry.unwrap().path();
        std::fs::copy(&from, folder.path().join(from.file_name().unwrap())).unwrap();
    }
    let edit = |name: &str, change: &dyn Fn(&mut Value)| {
        let path = folder.path().join(name);
        let mut value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        change(&mut value);
        std::fs::write(path, value.to_string()).unwrap();
    };
    edit("tokenizer.json", &|tokenizer| {
        for (id, content) in [(480, "[PAD]"), (481, "[NEW]")] {
            tokenizer["added_tokens"].as_array_mut().unwrap().push(json!({
                "id": id, "content": content, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true,
            }));
        }
    });
    edit("tokenizer_config.json", &|settings| settings["pad_token"] = json!("[PAD]"));
    Loader::new(folder.path()).load().unwrap()
}

#[test]
fn tokens_beyond_the_vocabulary_are_refused_with_what_to_do() {
    let model = with_added_tokens();
    assert_eq!(model.tokenizer.pad(), Some(480));
    let prepare = |source: &str, base: &str, answer: &str, align| {
        let pair = Pair {
            line: 1,
            entity: String::new(),
            source: source.into(),
            base: base.into(),
            cells: Default::default(),
        };
        let settings = Settings {
            template: "none".into(),
            answers: Some(AnswerPair([answer.into(), "b".into()])),
            exact_answers: true,
            align,
            ..Settings::default()
        };
        Experiment::prepare(&model, &pair, &settings.check().unwrap(), None)
    };
    let refused = [
        ("the a c", "the a", "a", Align::Pad, "`[PAD]` (480) of padding", "`--align right`"),
        (
            "a [NEW] c",
            "a b c",
            "a",
            Align::Right,
            "`[NEW]` (481) of the source prompt",
            "480 tokens",
        ),
        ("a b c", "a [NEW] c", "a", Align::Right, "`[NEW]` (481) of the base", "resize_token"),
        ("a b c", "a d c", "[NEW]", Align::Right, "`[NEW]` (481) of the answers", "resize_token"),
    ];
    for (source, base, answer, align, expected, advice) in refused {
        let error = prepare(source, base, answer, align).err().map(|e| {
            assert!(matches!(e, PrepareError::BeyondVocabulary { .. }), "{e}");
            e.to_string()
        });
        let error = error.unwrap_or_default();
        assert!(error.contains(expected) && error.contains(advice), "{expected}: {error}");
    }
    // Nobody is refused for a token that is not used.
    for (source, base, align) in [("a", "b", Align::Pad), ("the a c", "a", Align::Right)] {
        assert!(prepare(source, base, "a", align).is_ok(), "{source}, {base}");
    }
}

#[test]
fn an_id_depends_on_what_determines_the_numbers_alone() {
    let model = Loader::new(&tiny()).load().unwrap();
    let id = |source: &str, base: &str, change: &dyn Fn(&mut Settings)| {
        let pair = Pair {
            line: 1,
            entity: "somebody".into(),
            source: source.into(),
            base: base.into(),
            cells: Default::default(),
        };
        let mut settings = Settings {
            template: "none".into(),
            answers: Some(AnswerPair(["a", "b"].map(String::from))),
            exact_answers: true,
            ..Settings::default()
        };
        change(&mut settings);
        let settings = settings.check().unwrap();
        Experiment::prepare(&model, &pair, &settings, None).unwrap().id(&model).unwrap()
    };
    let right: &dyn Fn(&mut Settings) = &|settings| settings.align = Align::Right;
    let (even, uneven) = (("a", "b"), ("a b c e f", "a d"));
    assert_eq!(id(even.0, even.1, &|_| {}), id(even.0, even.1, right));
    assert_ne!(id(uneven.0, uneven.1, &|_| {}), id(uneven.0, uneven.1, right));
    // More or less is written down of the same numbers.
    let reads = |settings: &mut Settings| (settings.readout, settings.verify) = (false, 3);
    assert_eq!(id(even.0, even.1, &|_| {}), id(even.0, even.1, &reads));
    let noising = |settings: &mut Settings| {
        settings.direction = Directions::Noising;
    };
    assert_ne!(id(even.0, even.1, &|_| {}), id(even.0, even.1, &noising));
}

#[test]
fn every_token_says_which_words_of_the_sentence_it_stands_for() {
    let model = Loader::new(&tiny()).load().unwrap();
    let pair = Pair {
        line: 1,
        entity: "Zoë".into(),
        source: "[Zoë](#who) orders it.".into(),
        base: "Zoë sees [it](#what).".into(),
        cells: [("align".to_string(), "20:20".to_string())].into(),
    };
    for (template, align) in [("notebook", Align::Pad), ("none", Align::Right)] {
        let settings = Settings { template: template.into(), align, ..Settings::default() };
        let experiment =
            Experiment::prepare(&model, &pair, &settings.check().unwrap(), None).unwrap();
        let alignment = &experiment.alignment;
        for (ids, bytes, sentence, prompt) in [
            (
                &alignment.source,
                &experiment.source_bytes,
                "Zoë orders it.",
                &experiment.source_prompt,
            ),
            (&alignment.base, &experiment.base_bytes, "Zoë sees it.", &experiment.base_prompt),
        ] {
            assert_eq!(ids.len(), bytes.len());
            let mut covered = vec![false; sentence.len()];
            for (&id, bytes) in ids.iter().zip(bytes) {
                let Some([start, end]) = *bytes else { continue };
                covered[start..end].fill(true);
                let text = model.tokenizer.token(id).text;
                let words = &sentence[start..end];
                // A token may begin before the sentence, and be a part of a character.
                assert!(text.ends_with(words) || text.starts_with("<0x"), "{text:?} {words:?}");
            }
            let all = covered.iter().zip(sentence.bytes()).all(|(is, byte)| *is || byte == b' ');
            assert!(all, "{prompt}: {bytes:?}");
        }
    }
}
