use super::read::without_non_finite;

use super::*;
use crate::fixture;
use crate::specification::vocabulary::{Direction, Written};

const NOTEBOOK: &str = r#"{"model": "meta-llama/Llama-3.1-8B", "entity": "the \"NaN\" band",
    "source_prompt": "S a b", "base_prompt": "S a c", "source_sentence": "a b",
    "base_sentence": "a c", "sentence_start": 3, "token_labels": ["a", " c"], "num_layers": 2,
    "patching_results": [[0.5, NaN], [-1.25, -Infinity]]}"#;

fn read_one(text: &str) -> Result<Document, String> {
    Document::read(text.as_bytes())
        .map(|mut documents| documents.remove(0))
        .map_err(|error| error.to_string())
}

#[test]
fn reads_the_notebooks_file_and_writes_a_superset_of_it() {
    let document = read_one(NOTEBOOK).unwrap();
    assert_eq!(document.entity, "the \"NaN\" band");
    let grid = vec![vec![Some(0.5), None], vec![Some(-1.25), None]];
    assert_eq!(document.patching_results, Grid::from(grid));
    assert_eq!((document.site, document.align, document.direction), (None, None, None));
    assert_eq!(document.id.len(), 20);
    assert_eq!(read_one(&document.to_json()).unwrap(), document);

    let ours: Value = serde_json::from_str(&document.to_json()).unwrap();
    let theirs: Value = serde_json::from_slice(&without_non_finite(NOTEBOOK.as_bytes())).unwrap();
    for (key, value) in theirs.as_object().unwrap() {
        assert_eq!(&ours[key], value, "{key}");
    }
    assert!(document.to_json().starts_with(r#"{"schema":"patchboard/1","#));
}

#[test]
fn reads_a_list_of_results_each_once() {
    let other = NOTEBOOK.replace("-1.25", "-1.5");
    let list = format!("[{NOTEBOOK}, {other}, {NOTEBOOK}]");
    assert_eq!(Document::read(list.as_bytes()).unwrap().len(), 2);

    let document = fixture::document(&[&[Some(1.0)]]);
    let mut changed = document.clone();
    changed.patching_results.set(0, 0, Some(2.0));
    let list = serde_json::to_string(&[&document, &document, &changed]).unwrap();
    let error = Document::read(list.as_bytes()).unwrap_err().to_string();
    assert_eq!(
        error,
        "two different documents have the id `00000000000000000000`: leave one of them out"
    );
}

#[test]
fn an_id_is_fit_for_file_names_and_pages_or_made_of_the_content() {
    let with = |id: &str| read_one(&NOTEBOOK.replacen('{', &format!("{{{id}"), 1));
    let (schema, good) = (r#""schema": "patchboard/1","#, "0123456789abcdef0123");
    assert_eq!(with(&format!(r#"{schema} "id": "{good}","#)).unwrap().id, good);
    let made = with(schema).unwrap().id;
    assert!(is_id(&made) && made != good, "{made}");
    assert_eq!(with(&format!(r#"{schema} "id": null,"#)).unwrap().id.len(), 20);
    for id in [
        "",
        "../../x",
        "/home/me/x",
        r"C:\\x",
        "0123456789ABCDEF0123",
        "0123456789abcdef01234",
        r#"\"><img src=x onerror=alert(1)>"#,
        r"0123456789abcdef012\u0000",
        r"0123456789abcdef01é",
    ] {
        let error = with(&format!(r#"{schema} "id": "{id}","#)).unwrap_err();
        assert!(error.contains("expected 20 hexadecimal digits in lower case"), "{id}: {error}");
    }
    let error = with(&format!(r#"{schema} "id": 7,"#)).unwrap_err();
    assert!(error.contains("damaged: invalid type: integer `7`"), "{error}");
}

#[test]
fn refuses_what_is_no_document_and_says_what_it_found() {
    let cases = [
        ("%PDF-1.4", "expected a result document in JSON, found something else"),
        ("[]", "found an empty list"),
        ("3", "found a number"),
        ("{}", "found a JSON object with no fields"),
        (r#"{"layers": 3, "x": 1}"#, "found a JSON object with `layers`, `x`"),
        (
            r#"{"schema": "patchboard/2"}"#,
            "the schema `patchboard/2`, and this version reads up to `patchboard/1`",
        ),
        (r#"{"schema": "other/1"}"#, "found the schema `other/1`"),
        (r#"{"patching_results": [[1.0]]}"#, "damaged: missing field `model`"),
        (
            &NOTEBOOK.replace("\"num_layers\": 2", "\"num_layers\": 3"),
            "`patching_results` has 2 rows for 3 layers",
        ),
        (
            &NOTEBOOK.replace("[0.5, NaN]", "[0.5]"),
            "`patching_results` has 1 values in row 0 for 2 columns",
        ),
        (&NOTEBOOK.replace("[\"a\", \" c\"]", "[]"), "2 layers and 0 columns"),
    ];
    for (text, expected) in cases {
        let error = read_one(text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn what_is_no_finite_number_is_null_and_opens_again() {
    let mut document = fixture::document(&[&[Some(f32::NAN), Some(1.0)]]);
    document.readout = Some(fixture::readout(&document));
    let mut baselines = fixture::baselines(f32::INFINITY, 1.0);
    baselines.base.p_top = Some(f32::NAN);
    baselines.base.top_token = None;
    document.baselines = Some(baselines);
    let recheck = Recheck { n_largest: 3, n_random: 2, max_abs_diff: None };
    document.verification = Some(Verification {
        n_cells: 2,
        max_abs_diff: Some(f32::NAN),
        recheck: Some(Recheck { max_abs_diff: Some(f32::INFINITY), ..recheck }),
        ..Default::default()
    });
    let opened = read_one(&document.to_json()).unwrap();
    assert_eq!(opened.patching_results, Grid::from(vec![vec![None, Some(1.0)]]));
    let Baselines { source, base } = opened.baselines.clone().unwrap();
    assert_eq!((source.logit_diff, source.p_true), (None, Some(0.25)));
    assert_eq!((base.logit_diff, base.p_top, base.top_token), (Some(1.0), None, None));
    let expected = Verification { n_cells: 2, recheck: Some(recheck), ..Default::default() };
    assert_eq!(opened.verification, Some(expected));
    assert_eq!(read_one(&opened.to_json()).unwrap(), opened);
    let warnings = opened.warnings();
    for (warning, expected) in warnings.iter().zip([
        "missing numbers: 1 of 2 cells have none",
        "not verified: 2 cells were run again by the naive engine, and at least one came out as NaN",
        "not rechecked: 5 cells were computed again in f32 on the CPU, and at least one came out as",
        "missing numbers: the unpatched source run lacks some",
        "missing numbers: the unpatched base run lacks some",
    ]) {
        assert!(warning.starts_with(expected), "{warning}");
    }
    assert_eq!(warnings.len(), 5, "{warnings:?}");
}

#[test]
fn a_number_too_large_for_a_cell_is_no_number() {
    let document = read_one(&NOTEBOOK.replace("0.5, NaN", "1e39, -1e300")).unwrap();
    assert_eq!(document.patching_results.rows().next(), Some(&[None, None][..]));
}

#[test]
fn fields_that_this_version_does_not_know_are_kept() {
    let extra = r#"{"x-note": {"seen": [1, null, "two"]}, "zz": 3.5, "model""#;
    let document = read_one(&NOTEBOOK.replacen("{\"model\"", extra, 1)).unwrap();
    assert_eq!(document.extra.len(), 2, "{:?}", document.extra);
    let again: Value = serde_json::from_str(&document.to_json()).unwrap();
    assert_eq!(again["x-note"], serde_json::json!({"seen": [1, null, "two"]}));
    assert_eq!(read_one(&document.to_json()).unwrap(), document);
    assert!(read_one(NOTEBOOK).unwrap().extra.is_empty());
}

#[test]
fn warns_of_weak_contrast_low_mass_and_dropped_variants() {
    let run = |logit_diff| Baseline {
        p_true: Some(0.02),
        p_false: Some(0.02),
        ..fixture::baselines(logit_diff, 0.0).source
    };
    let answer = |word: &str, dropped: &[&str]| Answer {
        word: word.into(),
        kept: vec![Token { id: 7, text: format!(" {word}") }],
        dropped: dropped.iter().map(ToString::to_string).collect(),
        continued: vec![],
    };
    let mut document = fixture::document(&[&[Some(1.0)]]);
    assert!(document.warnings().is_empty());
    document.baselines = Some(Baselines { source: run(0.1), base: run(0.0) });
    document.answers = Some(Answers {
        true_answer: answer("TRUE", &[" TRUE", "true"]),
        false_answer: answer("FALSE", &["False"]),
    });
    let warnings = document.warnings();
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(warnings[0].starts_with("weak contrast: source and base differ by only 0.10"));
    assert!(warnings[1].starts_with("low answer mass: the answers get 4.0 %"));
    assert!(warnings[2].starts_with("the answer \"TRUE\" is more than one token as it is written"));
    document.answers = None;
    let token = |id| Token { id, text: "x".into() };
    document.source_tokens = vec![token(0), token(0), token(1)];
    document.base_tokens = vec![token(2), token(3), token(1)];
    document.source_padding = 2;
    for (align, how) in [
        (
            Some(Align::Pad),
            "the shorter prompt is padded on the left, and the padding is attended to, as in the \
             notebook (alignment `right` does without)",
        ),
        (Some(Align::Right), "positions correspond by their distance from the end"),
        (None, "the file does not say how they were aligned"),
    ] {
        document.align = align;
        let expected = format!("unequal lengths: the source has 1 tokens and the base 3; {how}");
        assert_eq!(document.warnings()[2], expected);
    }
}

#[test]
fn grids_are_read_back_and_held_to_their_axes() {
    let mut document = fixture::ramp(2, 2);
    let grid = CellGrid {
        site: Site::Z,
        direction: Direction::Noising,
        window: 3,
        write: Written::Mean,
        axes: vec![
            AxisKeys::Layer(vec![0, 1]),
            AxisKeys::Head(vec![0]),
            AxisKeys::Position(vec![3, 4]),
        ],
        logit_diff: vec![Some(1.0), None, Some(2.0), Some(3.0)],
        p_true: Some(vec![Some(0.5); 4]),
        p_false: None,
        kl_base: None,
        kl_source: None,
        rank_true: Some(vec![Some(3.0); 4]),
        rank_false: None,
        top: Some(vec![None, Some(vec![TopToken { id: 1, p: None }]), None, None]),
    };
    document.grids = vec![grid.clone()];
    document.token_texts = [(1, " a".to_string())].into();
    let read = |document: &Document| read_one(&document.to_json());
    assert_eq!(read(&document).unwrap(), document);
    let axes = serde_json::to_value(&grid.axes).unwrap();
    assert_eq!(axes[2], serde_json::json!({"axis": "position", "keys": [3, 4]}));
    // The notebook's fields are not what was measured.
    let mut blank = document.clone();
    blank.patching_results = Grid::blank(2, 2);
    let warning = blank.warnings().remove(0);
    assert!(warning.starts_with("missing numbers: 1 of 4 cells have none"), "{warning}");
    blank.grids[0].logit_diff[1] = Some(0.0);
    assert_eq!(blank.warnings().iter().filter(|w| w.starts_with("missing")).count(), 0);
    // What a later version asks for is no reason not to open what came of it.
    let later = document.to_json().replace("\"settings\":null", "\"settings\":{\"path\":[]}");
    assert_eq!(read_one(&later).unwrap(), document);

    // What is known of some measured cells alone is no readout, so that one may still be asked for.
    assert!(document.has_readout());
    for some in [None, Some(vec![Some(0.5), Some(0.5), None, None])] {
        document.grids[0].p_true = some;
        assert!(!document.has_readout());
    }

    let mut refused = |change: &dyn Fn(&mut CellGrid), expected: &str| {
        document.grids = vec![grid.clone()];
        change(&mut document.grids[0]);
        let error = read(&document).unwrap_err();
        assert!(error.contains(expected), "{error}");
    };
    refused(&|g| g.logit_diff.truncate(3), "`grids[0]`: `logit_diff` has 3 values for 4 cells");
    refused(&|g| g.rank_true = Some(vec![]), "`rank_true` has 0 values for 4 cells");
    refused(&|g| g.axes.clear(), "the first axis is not of layers below 2");
    refused(
        &|g| g.axes[0] = AxisKeys::Layer(vec![0, 2]),
        "the first axis is not of layers below 2",
    );
    refused(&|g| g.axes[1] = AxisKeys::Head(vec![]), "an axis is empty or too long");
}
