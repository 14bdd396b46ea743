use std::slice;

use proptest::prelude::*;
use shared::document::{Answer, Answers, Baseline, Baselines, Token};
use shared::figure::FigureOptions;
use shared::specification::vocabulary::{Align, Direction, Site};
use shared::statistics::Method;
use shared::study::{Builder, Options, Study};

use super::super::files::Folder;
use super::*;

const N_LAYERS: usize = 3;

/// The result of pair `at`, whose length and numbers depend on it.
fn document(at: usize) -> Document {
    let n = 4 + at % 3;
    let cell = |layer: usize, column: usize| {
        Some(-2.0 + ((at * 31 + layer * 7 + column * 3) % 17) as f32 / 4.0)
    };
    let mut document = Document::blank(N_LAYERS, (0..n).map(|i| format!(" t{i}")).collect());
    document.patching_results =
        (0..N_LAYERS).map(|l| (0..n).map(|c| cell(l, c)).collect()).collect();
    let tokens = |differs: bool| -> Vec<Token> {
        let id = |i: usize| if differs && i == 1 { 900 } else { 100 + i as u32 };
        (0..n).map(|i| Token { id: id(i), text: format!(" t{i}") }).collect()
    };
    (document.source_tokens, document.base_tokens) = (tokens(true), tokens(false));
    document.id = format!("{:020x}", 0xabc0 + at);
    document.model = "tiny".into();
    document.entity = format!("entity {at}");
    document.site = Some(Site::ResidPost);
    document.align = Some(Align::Right);
    document.direction = Some(Direction::Denoising);
    let answer = |word: &str| Answer {
        word: word.into(),
        kept: Vec::new(),
        dropped: Vec::new(),
        continued: Vec::new(),
    };
    document.answers = Some(Answers { true_answer: answer("a"), false_answer: answer("b") });
    let baseline = |logit_diff| Baseline {
        logit_diff: Some(logit_diff),
        p_true: Some(0.5),
        p_false: Some(0.5),
        top_token: None,
        p_top: Some(0.5),
    };
    document.baselines = Some(Baselines { source: baseline(2.0), base: baseline(-2.0) });
    document
}

fn manifest(shard: Shard, n_pairs: usize) -> Manifest {
    let pair = |at: usize| ManifestPair {
        id: document(at).id,
        entity: document(at).entity,
        row: BTreeMap::from([("kind".into(), ["x", "y"][at % 2].into())]),
    };
    let pairs: Vec<_> = (0..n_pairs).map(pair).collect();
    Manifest {
        schema: SCHEMA.into(),
        shard,
        table: "pairs".into(),
        settings: Settings::default(),
        model: "tiny".into(),
        model_fingerprint: "f".repeat(64),
        dtype: "f32".into(),
        device: "cpu".into(),
        engine: "patchboard 0.1.0".into(),
        pairs,
    }
}

/// Runs a shard into a folder.
fn run(shard: Shard, n_pairs: usize, folder: &Path) {
    let results = Folder::open(folder).unwrap();
    for pair in shard.pairs(n_pairs) {
        let options = FigureOptions::default();
        results.write(&document(pair), &[Format::Json], &options).unwrap();
    }
    manifest(shard, n_pairs).write(folder).unwrap();
}

fn study(documents: impl IntoIterator<Item = Document>) -> (Study, Vec<u8>) {
    let mut builder = Builder::new();
    documents.into_iter().for_each(|document| builder.push(&document).unwrap());
    let method = Method { n_resamples: 50, n_flips: 50, ..Method::default() };
    builder.finish(&Options { method, ..Options::default() }).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However a table is divided, in whatever order shards are run, some of them twice and in other
    /// divisions, they come to the study of the whole table.
    #[test]
    fn any_division_gives_the_same_study(
        n_pairs in 1usize..14,
        of in 1usize..9,
        order in prop::collection::vec((0usize..9, 0usize..3), 0..12),
        other in prop::option::of(1usize..5),
    ) {
        let place = tempfile::tempdir().unwrap();
        let folders: Vec<_> = (0..3).map(|i| place.path().join(format!("f{i}"))).collect();
        // Some first, in any order and folder, then all that may be missing.
        let chosen = order.iter().map(|&(number, folder)| (number % of, folder));
        let all = (0..of).map(|number| (number, number % 3));
        let mut used = std::collections::BTreeSet::new();
        for (number, folder) in chosen.chain(all) {
            run(Shard { number: number + 1, of }, n_pairs, &folders[folder]);
            used.insert(folder);
        }
        if let Some(of) = other {
            run(Shard { number: 1, of }, n_pairs, &folders[0]);
            used.insert(0);
        }
        let used: Vec<_> = used.into_iter().rev().map(|folder| folders[folder].clone()).collect();
        let gathered = gather(&used, false).unwrap();
        prop_assert!(gathered.missing.is_empty() && gathered.mixed.is_empty());
        let merged = (0..n_pairs).map(|pair| gathered.document(pair).unwrap().unwrap());
        let whole = (0..n_pairs).map(|pair| {
            let row = manifest(Shard { number: 1, of: 1 }, n_pairs).pairs[pair].row.clone();
            Document { row, ..document(pair) }
        });
        prop_assert_eq!(study(merged), study(whole));
    }

    #[test]
    fn shards_cover_the_table_once(n_pairs in 0usize..1000, of in 1usize..300) {
        let mut next = 0;
        for number in 1..=of {
            let pairs = Shard { number, of }.pairs(n_pairs);
            prop_assert_eq!(pairs.start, next);
            prop_assert!(pairs.len().abs_diff(n_pairs / of) <= 1);
            next = pairs.end;
        }
        prop_assert_eq!(next, n_pairs);
    }
}

#[test]
fn what_is_missing_foreign_or_damaged_is_named() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("results");
    let of = 4;
    let error = |folders: &[PathBuf], mixed| gather(folders, mixed).unwrap_err().to_string();
    assert!(error(slice::from_ref(&folder), false).contains("found no shard below"));
    for number in [1, 4] {
        run(Shard { number, of }, 8, &folder);
    }
    let of_table = manifest(Shard { number: 1, of }, 8);
    let n_done = [1, 2].map(|number| of_table.n_done(Shard { number, of }, &folder));
    assert_eq!(n_done, [2, 0]);
    let gathered = gather(slice::from_ref(&folder), false).unwrap();
    let missing: Vec<_> =
        gathered.missing.iter().map(|(s, p)| (s.to_string(), p.clone())).collect();
    assert_eq!(missing, [("2/4".into(), 2..4), ("3/4".into(), 4..6)]);
    for number in [2, 3] {
        run(Shard { number, of }, 8, &folder);
    }
    assert!(gather(slice::from_ref(&folder), false).unwrap().missing.is_empty());

    // Of another model, of another table, in another type: the last may be mixed.
    let shard = Shard { number: 2, of };
    let path = shard.manifest(&folder);
    let plain = manifest(shard, 8);
    type Change<'a> = &'a dyn Fn(&mut Manifest);
    let cases: [(&str, Change, &str, bool); 6] = [
        ("model", &|m| m.model_fingerprint = "e".repeat(64), "another model: tiny (ffff", false),
        ("settings", &|m| m.settings.window = 3, "other settings", false),
        ("pairs", &|m| drop(m.pairs.pop()), "another number of pairs: 8 and 7", false),
        ("table", &|m| m.pairs.swap(0, 1), "another table", false),
        ("dtype", &|m| m.dtype = "bf16".into(), "another type: f32 and bf16", true),
        ("device", &|m| m.device = "cuda:0".into(), "another device: cpu and cuda:0", true),
    ];
    for (name, change, expected, may_be_mixed) in cases {
        let mut other = plain.clone();
        change(&mut other);
        other.write(&folder).unwrap();
        let error = error(slice::from_ref(&folder), false);
        assert!(error.contains(expected) && error.contains("00002-of-00004"), "{name}: {error}");
        assert_eq!(error.contains("--mixed"), may_be_mixed, "{name}: {error}");
        assert_eq!(gather(slice::from_ref(&folder), true).is_ok(), may_be_mixed, "{name}");
    }
    assert_eq!(gather(slice::from_ref(&folder), true).unwrap().mixed.len(), 1);

    for (text, expected) in [
        ("{", "is damaged"),
        ("{\"schema\":\"patchboard-shard/9\"}", "is damaged"),
        (&serde_json::to_string(&plain).unwrap().replace("-shard/1", "-shard/2"), "found `patchb"),
        (&serde_json::to_string(&plain).unwrap().replace(&plain.pairs[0].id, "../x"), "is no id"),
        (&serde_json::to_string(&plain).unwrap().replace("\"of\":4", "\"of\":0"), "is no shard"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = error(slice::from_ref(&folder), true);
        assert!(error.contains(expected) && error.contains("00002-of-00004"), "{error}");
    }
    plain.write(&folder).unwrap();

    let gathered = gather(slice::from_ref(&folder), false).unwrap();
    let result = gathered.results[5].clone().unwrap();
    let bytes = std::fs::read(&result).unwrap();
    for (bytes, expected) in [
        (&bytes[..bytes.len() / 2], "run shard 3/4 again"),
        (document(2).to_json().as_bytes(), "it holds the result"),
    ] {
        std::fs::write(&result, bytes).unwrap();
        let error = gathered.document(5).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("entity-5"), "{error}");
    }
}

#[test]
fn odd_shards_are_refused() {
    for text in ["", "3", "0/4", "5/4", "a/b", "1/0", "-1/4", "1/4/2", "1/100001"] {
        let error = text.parse::<Shard>().unwrap_err().to_string();
        assert!(error.contains("is no shard: expected its number"), "{error}");
    }
    assert_eq!("3/40".parse::<Shard>().unwrap().to_string(), "3/40");
}
