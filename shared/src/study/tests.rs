use std::collections::BTreeMap;

use super::values::{self, METRICS};
use super::*;
use crate::document::{AxisKeys, CellGrid, Document, Roles};
use crate::field::axis::Coordinate;
use crate::fixture::{answers, baselines, document as cells, with_tokens};
use crate::specification::vocabulary::Align;
use crate::statistics::{self, Samples};

const N_LAYERS: usize = 4;

/// A pair of `n` columns of which the third is the one that differs, with an effect of `size` that is
/// at that column in the first two layers and at the last position above.
fn pair(at: usize, n: usize, size: f32, contrast: f32) -> Document {
    let unpatched = -contrast / 2.0;
    let effect = |layer: usize, column: usize| match (layer < 2, column) {
        (true, 2) => size,
        (false, last) if last + 1 == n => size,
        _ => 0.0,
    };
    let row = |layer: usize| -> Vec<_> {
        (0..n).map(|column| Some(unpatched + effect(layer, column))).collect()
    };
    let rows: Vec<_> = (0..N_LAYERS).map(row).collect();
    let mut document =
        with_tokens(cells(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>()), &[2]);
    document.id = format!("{at:020x}");
    document.entity = format!("entity {at}");
    document.site = Some(Site::ResidPost);
    document.direction = Some(Direction::Denoising);
    document.align = Some(Align::Right);
    document.answers = Some(answers("TRUE", "FALSE"));
    document.baselines = Some(baselines(contrast / 2.0, unpatched));
    document.row = BTreeMap::from([("kind".into(), ["a", "b"][at % 2].into())]);
    document
}

/// Pairs of other lengths, with effects of 1, 2, 3, 4, 5, 1, 2, ...
fn table(n: usize) -> Vec<Document> {
    (0..n).map(|at| pair(at, 5 + at % 3, 1.0 + (at % 5) as f32, 6.0)).collect()
}

fn study(documents: &[Document], options: &Options) -> Result<(Study, Vec<u8>), BuildError> {
    let mut builder = Builder::new();
    for document in documents {
        builder.push(document)?;
    }
    builder.finish(options)
}

fn quick() -> Options {
    let method = Method { n_resamples: 200, n_flips: 100, ..Method::default() };
    Options { method, ..Options::default() }
}

#[test]
fn pairs_of_other_lengths_are_pooled_by_role() {
    let (made, file) = study(&table(20), &quick()).unwrap();
    let grid = &made.grids[0];
    let roles = ["before", "last differing", "rest", "last"].map(|role| role.parse().unwrap());
    let layers = StudyAxis::Layer((0..N_LAYERS).collect());
    assert_eq!(grid.axes, [layers, StudyAxis::Role(roles.to_vec())]);
    let Summary { n_pairs, effect, recovery, .. } = &grid.summaries[0];
    assert_eq!(*n_pairs, 20);
    let at = |layer: usize, role: usize| grid.index(&[layer, role]);
    assert_eq!(effect.n[at(0, 0)], 20);
    assert_eq!((effect.mean[at(0, 1)], effect.mean[at(3, 1)]), (Some(3.0), Some(0.0)));
    assert_eq!((effect.mean[at(1, 3)], effect.mean[at(2, 3)]), (Some(0.0), Some(3.0)));
    assert_eq!(recovery.value[at(0, 1)], Some(0.5));
    // The statistics are those of the effects themselves.
    let mut samples = Samples::new(1);
    (0..20).for_each(|at| samples.push([Some(1.0 + (at % 5) as f32)]));
    let expected = statistics::mean(&samples, &made.method)[0].interval.unwrap();
    assert_eq!(effect.low[at(0, 1)], Some(expected[0] as f32));
    assert_eq!(effect.high[at(0, 1)], Some(expected[1] as f32));
    assert_eq!(effect.median[at(0, 1)], Some(3.0));
    assert!(effect.p_family[at(0, 1)].unwrap() < 0.05);
    assert_eq!(effect.p_family[at(0, 0)], Some(1.0));
    // From layer 2 on the last position has what the differing token had.
    let handover = grid.summaries[0].handover.unwrap();
    assert_eq!((handover.from, handover.layer), (Role::LastDiffering, 2));
    assert_eq!(handover.interval, Some([2, 2]));
    // A pair's own numbers are found in the file.
    let place = made.values.as_ref().unwrap();
    let array = &place.arrays["grids.0.logit_diff"];
    let numbers = values::numbers(place.of("grids.0.logit_diff", &file).unwrap());
    assert_eq!(array.shape, [numbers.len() / N_LAYERS, N_LAYERS]);
    let columns = made.columns(grid)[4].clone();
    assert_eq!(columns.len(), 6);
    let of_pair = &numbers[columns.start * N_LAYERS..columns.end * N_LAYERS];
    assert_eq!(of_pair[2 * N_LAYERS], -3.0 + 5.0, "column 2, layer 0");
    assert_eq!(of_pair[5 * N_LAYERS + 3], -3.0 + 5.0, "the last column, layer 3");
}

#[test]
fn roles_that_a_pair_names_are_kept_apart() {
    let mut documents = table(3);
    for document in &mut documents {
        let mut roles = vec![Role::Before; document.base_tokens.len()];
        let n = roles.len();
        roles[n - 2] = "#verb".parse().unwrap();
        roles[n - 1] = Role::Last;
        document.roles = Some(Roles { base: roles.clone(), source: roles });
    }
    let (made, _) = study(&documents, &quick()).unwrap();
    let StudyAxis::Role(roles) = &made.grids[0].axes[1] else { panic!("roles") };
    assert_eq!(roles.iter().map(Role::to_string).collect::<Vec<_>>(), ["before", "#verb", "last"]);
}

#[test]
fn pairs_are_left_out_by_a_rule_that_says_why() {
    let mut documents = table(4);
    documents[1].baselines = Some(baselines(0.2, 0.1));
    documents[2].baselines = Some(baselines(-2.0, 1.0));
    documents[3].baselines = None;
    let why = |keep: Keep| {
        let rule = Rule { keep, ..Rule::default() };
        let (made, _) = study(&documents, &Options { rule, ..quick() }).unwrap();
        assert_eq!(made.grids[0].summaries[0].n_pairs, made.n_kept());
        made.pairs.iter().map(|pair| pair.left_out.clone().unwrap_or_default()).collect::<Vec<_>>()
    };
    let unknown = "its baselines are unknown";
    let contrast = |found: &str| format!("its contrast of {found} is below 0.5");
    assert_eq!(why(Keep::Contrast), ["", &contrast("0.10"), &contrast("-3.00"), unknown]);
    let wrong = |which: &str| format!("the model gets {which}");
    let found = why(Keep::Right);
    assert_eq!(found[0], "");
    assert!(found[1].starts_with(&wrong("the prompt whose answer is the false one wrong")));
    assert!(found[2].starts_with(&wrong("both prompts wrong (-2.00 and 1.00)")), "{found:?}");
    assert_eq!(why(Keep::All), ["", "", "", unknown]);
}

#[test]
fn groups_have_their_own_statistics_and_differ() {
    let mut documents: Vec<_> =
        (0..30).map(|at| pair(at, 5, if at % 2 == 0 { 1.0 } else { 4.0 }, 6.0)).collect();
    for (at, document) in documents.iter_mut().enumerate() {
        for value in [(0, 2), (3, 4)] {
            let old = document.patching_results.get(value.0, value.1).unwrap();
            let noise = ((at * 7) % 5) as f32 / 50.0;
            document.patching_results.set(value.0, value.1, Some(old + noise));
        }
    }
    let options = Options { group_by: Some("kind".into()), ..quick() };
    let (made, _) = study(&documents, &options).unwrap();
    let grid = &made.grids[0];
    let of = |at: usize| grid.summaries[at].group.as_ref().map(|group| group.value.clone());
    assert_eq!([of(0), of(1), of(2)], [None, Some("a".into()), Some("b".into())]);
    let difference = &grid.differences[0];
    assert_eq!((difference.n_pairs, difference.is_paired), ([15, 15], false));
    let at = grid.index(&[0, 1]);
    let value = difference.effect.value[at].unwrap();
    assert!((value + 3.0).abs() < 0.05, "{value}");
    assert!(
        difference.effect.low[at].unwrap() < value && value < difference.effect.high[at].unwrap()
    );
    assert!((difference.recovery.value[at].unwrap() + 0.5).abs() < 0.01);

    let error = |column: &str| {
        let options = Options { group_by: Some(column.into()), ..quick() };
        study(&documents, &options).unwrap_err().to_string()
    };
    assert!(error("knd").contains("no pair has a column `knd`") && error("knd").contains("`kind`"));
    documents.iter_mut().for_each(|d| drop(d.row.insert("kind".into(), d.id.clone())));
    let many = study(&documents, &Options { group_by: Some("kind".into()), ..quick() });
    assert!(many.unwrap_err().to_string().contains("30 values"));
}

#[test]
fn two_studies_are_compared_cell_by_cell() {
    let (mut one, file) = study(&table(20), &quick()).unwrap();
    // The same pairs, measured with half of the effect, and one role more in some.
    let mut documents: Vec<_> =
        (0..20).map(|at| pair(at, 5 + at % 3, 0.5 + (at % 5) as f32 / 2.0, 6.0)).collect();
    documents.iter_mut().for_each(|d| d.model = "other".into());
    let mut roles = vec![Role::Before; documents[0].base_tokens.len()];
    *roles.last_mut().unwrap() = Role::Last;
    documents[0].roles = Some(Roles { base: roles.clone(), source: roles });
    let (other, other_file) = study(&documents, &quick()).unwrap();
    one.compare(&file, &other, &other_file).unwrap();
    let grid = &one.grids[0];
    let difference = &grid.differences[0];
    assert!(difference.is_paired);
    assert_eq!(difference.less.study.as_ref().unwrap().model, "other");
    let value = difference.effect.value[grid.index(&[3, 3])].unwrap();
    assert!((value - 1.5).abs() < 1e-5, "{value}");
    assert!(Study::read(one.to_json().as_bytes()).is_ok());

    let deeper = Document { num_layers: 5, ..pair(0, 5, 1.0, 6.0) };
    let mut deeper = Document { id: "9".repeat(20), ..deeper };
    deeper.patching_results = (0..5).map(|_| vec![Some(0.0); 5]).collect();
    let (deeper, deeper_file) = study(&[deeper], &quick()).unwrap();
    let error = one.compare(&file, &deeper, &deeper_file).unwrap_err();
    assert!(error.to_string().contains("4 and 5 layers do not correspond"), "{error}");
}

/// A document of heads, of spans and of both directions.
fn rich() -> Document {
    let mut document = pair(0, 5, 2.0, 6.0);
    let n = document.base_tokens.len();
    let grid = |direction, axes: Vec<AxisKeys>, n: usize| {
        let values = (0..n).map(|cell| Some(cell as f32)).collect();
        let grid = CellGrid::of_logit_diffs(Site::Z, direction, axes, values);
        CellGrid { p_true: Some(vec![None; n]), ..grid }
    };
    let layer = || AxisKeys::Layer((0..N_LAYERS).collect());
    let head = || AxisKeys::Head(vec![0, 1, 2]);
    let positions = || AxisKeys::Position((n - 5..n).collect());
    let both = [Direction::Denoising, Direction::Noising];
    document.grids = vec![
        grid(both[0], vec![layer(), head()], 12),
        grid(both[1], vec![layer(), head(), positions()], 60),
        grid(both[0], vec![layer(), AxisKeys::Span(vec![Span::Entity, Span::All])], 8),
    ];
    document
}

#[test]
fn heads_and_sets_of_positions_are_fields_too() {
    let (made, file) = study(&[rich()], &quick()).unwrap();
    assert_eq!(made.grid_names(), ["z.denoising", "z.noising", "z.denoising.2"]);
    let summary = |grid: usize| Shown::Summary(&made.grids[grid].summaries[0], Statistic::Mean);
    let field = made.grids[0].field(summary(0), None);
    assert_eq!((field.rows.len(), field.columns.len()), (4, 3));
    assert_eq!(field.values.get(1, 2), Some(5.0 + 3.0));
    // Layers and heads at the last position, unless another is asked for.
    let field = made.grids[1].field(summary(1), None);
    assert_eq!((field.rows.len(), field.columns.len()), (4, 3));
    assert_eq!(field.values.get(0, 1), Some(9.0 - 3.0), "the source receives");
    let field = made.grids[1].field(summary(1), Some(Coordinate::Head(2)));
    assert_eq!(
        field.columns.marks.iter().map(|m| &*m.text).collect::<Vec<_>>(),
        ["before", "last differing", "rest", "last"]
    );
    assert_eq!(field.values.get(0, 1), Some(12.0 - 3.0));
    let field = made.grids[2].field(summary(2), None);
    assert_eq!(field.values.get(3, 1), Some(7.0 + 3.0));
    let place = made.values.as_ref().unwrap();
    let shapes: Vec<_> =
        place.arrays.iter().map(|(name, array)| (&**name, &*array.shape)).collect();
    let expected: [(&str, &[usize]); 6] = [
        ("grids.0.logit_diff", &[1, 4, 3]),
        ("grids.0.p_true", &[1, 4, 3]),
        ("grids.1.logit_diff", &[5, 4, 3]),
        ("grids.1.p_true", &[5, 4, 3]),
        ("grids.2.logit_diff", &[2, 4]),
        ("grids.2.p_true", &[2, 4]),
    ];
    assert_eq!(shapes, expected);
    // `[column][layer][head]`
    let numbers = values::numbers(place.of(&values::name(1, METRICS[0]), &file).unwrap());
    assert_eq!(numbers[2 * 12 + 3 + 1], (4.0 * 5.0) + 2.0, "column 2, layer 1, head 1");
}

#[test]
fn a_study_comes_back_with_what_this_version_does_not_know() {
    let (made, file) = study(&table(12), &quick()).unwrap();
    let text = made.to_json();
    let schema = text.replacen("patchboard/2.0", "patchboard/2.7", 1);
    let newer = format!("{},\"mood\":[1]}}", schema.trim_end().strip_suffix('}').unwrap());
    let read = Study::read(newer.as_bytes()).unwrap();
    assert_eq!(read.extra["mood"], serde_json::json!([1]));
    assert!(read.to_json().ends_with(",\"mood\":[1]}\n"));
    assert_eq!(Study { schema: SCHEMA.into(), extra: Map::new(), ..read }, made);
    let mut inline = made.clone();
    inline.values.as_mut().unwrap().put_inline(&file);
    let read = Study::read(inline.to_json().as_bytes()).unwrap();
    assert_eq!(read.values.unwrap().inline().unwrap(), file);
}

#[test]
fn what_is_no_study_is_refused_by_name() {
    let (made, _) = study(&table(12), &quick()).unwrap();
    let text = made.to_json();
    let with = |from: &str, to: &str| text.replacen(from, to, 1);
    let cases = [
        ("".to_string(), "expected a study in JSON"),
        ("[]".into(), "found no schema"),
        (pair(0, 5, 1.0, 1.0).to_json(), "the result of a single pair"),
        (with("patchboard/2.0", "patchboard/3.0"), "`patchboard/3.0`, and this version reads"),
        (with("patchboard/2.0", "other/2"), "the schema `other/2`"),
        (with(&made.pairs[0].id, "../../etc"), "the id \"../../etc\""),
        (with("\"num_layers\":4", "\"num_layers\":3"), "layers below 3"),
        (with("\"n\":[12,", "\"n\":["), "a list has 15 numbers for 16 cells"),
        (with("\"pairs\":[{", "\"pairs\":[{\"base\":3},{"), "damaged"),
        (with("\"shape\":[", "\"shape\":[9,"), "another size than its shape"),
        (with("values.safetensors", "../../x"), "`values.file` is \"../../x\""),
        (with("values.safetensors", "//evil/x"), "`values.file` is \"//evil/x\""),
        (with("values.safetensors", "https://evil"), "no file beside the manifest"),
        (with("\"tokens\":[", "\"tokens\":[\"x\","), "roles for"),
    ];
    for (text, expected) in cases {
        let error = Study::read(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    // A number that is none stays none.
    let infinite = Study::read(with("\"mean\":[0.0", "\"mean\":[1e39").as_bytes()).unwrap();
    assert_eq!(infinite.grids[0].summaries[0].effect.mean[0], None);
}

#[test]
fn results_that_make_no_study_are_refused() {
    let documents = table(2);
    let error = |documents: &[Document]| study(documents, &quick()).unwrap_err().to_string();
    assert!(error(&[]).contains("one pair at least"));
    assert!(error(&[documents[0].clone(), documents[0].clone()]).contains("is there twice"));
    let other = Document { model: "other".into(), ..documents[1].clone() };
    assert!(error(&[documents[0].clone(), other]).contains("different models, tiny and other"));
    let blind = Document { base_tokens: vec![], ..documents[0].clone() };
    assert!(error(&[blind]).contains("does not say which tokens"));
    let unknown = Document { site: None, ..documents[0].clone() };
    assert!(error(&[unknown]).contains("does not say what was patched"));
    let mut odd = rich();
    odd.grids[2].axes[1] = AxisKeys::Position(vec![3, 5]);
    assert!(error(&[odd]).contains("whose cells are neither"));
}

#[test]
fn one_pair_and_one_that_lacks_a_grid_are_no_obstacle() {
    let (made, _) = study(&table(1), &quick()).unwrap();
    let summary = &made.grids[0].summaries[0];
    assert_eq!(summary.effect.low, vec![None; 16]);
    assert_eq!(summary.handover.unwrap().interval, None);
    let mut other = pair(1, 6, 1.0, 6.0);
    other.grids = vec![];
    let (made, file) = study(&[rich(), other], &quick()).unwrap();
    assert_eq!(made.grids.len(), 4);
    assert_eq!(made.grids[0].summaries[0].effect.n, vec![1; 12]);
    assert_eq!(made.grids[3].summaries[0].effect.n.iter().max(), Some(&1));
    assert!(Study::read(made.to_json().as_bytes()).is_ok());
    let place = made.values.unwrap();
    let numbers = values::numbers(place.of("grids.0.logit_diff", &file).unwrap());
    assert!(numbers[12..].iter().all(|number| number.is_nan()) && numbers.len() == 24);
}

#[test]
fn a_table_that_nothing_of_counts_is_still_a_study() {
    let documents: Vec<_> = (0..3).map(|at| pair(at, 5, 1.0, 0.1)).collect();
    let (made, _) = study(&documents, &quick()).unwrap();
    assert_eq!(made.n_kept(), 0);
    assert!(made.counted().starts_with("0 of 3 pairs count: those with a contrast"));
    assert!(made.grids[0].summaries[0].effect.mean.iter().all(Option::is_none));
    assert!(Study::read(made.to_json().as_bytes()).is_ok());
}
