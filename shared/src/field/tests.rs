//! Grids of every shape as fields, and what corresponds between them.

use super::axis::Coordinate;
use super::chosen::{Choice, ChoiceError, Chosen, GridName};
use super::key::{Cell, Key};
use super::metric::{Metric, MetricError};
use super::*;
use crate::document::{AxisKeys, CellGrid, Grid, LensGrid, Prompt, TopToken};
use crate::fixture::{answers, baselines, document, ramp, with_tokens};
use crate::specification::vocabulary::{Direction, Site, Span, Written};

/// A grid whose values are 0, 1, 2, ... in the order of its cells.
fn grid(site: Site, direction: Direction, axes: Vec<AxisKeys>) -> CellGrid {
    let n = axes.iter().map(AxisKeys::len).product::<usize>();
    let list = |scale: f32| (0..n).map(|i| Some(scale * i as f32)).collect::<Vec<_>>();
    CellGrid {
        site,
        direction,
        window: 1,
        write: Written::Source,
        axes,
        logit_diff: list(1.0),
        p_true: Some(list(0.01)),
        p_false: None,
        kl_base: Some(list(0.1)),
        kl_source: None,
        rank_true: Some(list(2.0)),
        rank_false: None,
        top: Some(vec![Some(vec![TopToken { id: 7, p: Some(0.5) }]); n]),
    }
}

fn layers(n: usize) -> AxisKeys {
    AxisKeys::Layer((0..n).collect())
}

/// 2 layers and 3 swept tokens from position 3, with grids of all kinds and a lens of the base.
fn of_all_kinds() -> Document {
    let mut document = with_tokens(ramp(2, 3), &[1]);
    document.baselines = Some(baselines(5.0, 1.0));
    document.answers = Some(answers("yes", "no"));
    document.direction = Some(Direction::Denoising);
    let swept = || AxisKeys::Position(vec![3, 4, 5]);
    let heads = || AxisKeys::Head(vec![0, 1, 2, 3]);
    document.grids = vec![
        grid(Site::Z, Direction::Denoising, vec![layers(2), heads()]),
        grid(Site::AttnOut, Direction::Denoising, vec![layers(2), swept()]),
        grid(Site::AttnOut, Direction::Noising, vec![layers(2), swept()]),
        grid(Site::Key, Direction::Denoising, vec![layers(2), heads(), swept()]),
        grid(
            Site::MlpOut,
            Direction::Denoising,
            vec![layers(2), AxisKeys::Span(vec![Span::Entity, Span::All])],
        ),
        grid(Site::AttnOut, Direction::Denoising, vec![layers(1), swept()]),
        grid(Site::ResidPre, Direction::Denoising, vec![layers(2)]),
    ];
    let n = 2 * 6;
    document.lens = vec![LensGrid {
        run: Prompt::Base,
        axes: vec![layers(2), AxisKeys::Position((0..6).collect())],
        logit_diff: (0..n).map(|i| Some(i as f32)).collect(),
        p_true: vec![Some(0.5); n],
        p_false: vec![None; n],
        top: vec![Some(vec![]); n],
    }];
    document
}

fn chosen(document: &Document, grid: &str, at: Option<&str>) -> Chosen {
    let choice = Choice {
        grid: (!grid.is_empty()).then(|| grid.parse().unwrap()),
        at: at.map(|at| at.parse().unwrap()),
    };
    Chosen::of(document, choice).unwrap()
}

#[test]
fn grids_have_names_that_are_read_back() {
    let document = of_all_kinds();
    let names = GridName::all(&document);
    let texts: Vec<_> = names.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "z.denoising",
            "attn_out.denoising",
            "attn_out.noising",
            "k.denoising",
            "mlp_out.denoising",
            "attn_out.denoising.2",
            "resid_pre.denoising",
            "lens.base",
        ]
    );
    for (name, text) in names.iter().zip(&texts) {
        assert_eq!(text.parse::<GridName>().unwrap(), *name);
    }
    assert_eq!("z".parse::<GridName>().unwrap(), names[0]);
    for text in ["", "lens", "lens.both", "lens.base.2", "z.", "z.up", "z.denoising.1", "x.noising"]
    {
        assert!(text.parse::<GridName>().is_err(), "{text}");
    }
    let titles: Vec<_> = names.iter().map(|name| name.title(&names)).collect();
    assert_eq!(titles[2], "attn_out, noising");
    assert_eq!(titles[5], "attn_out, denoising, number 2");
    assert_eq!(titles[7], "logit lens of the base");
    assert_eq!(names[0].title(&names[..2]), "z");
}

#[test]
fn every_grid_is_a_field_of_its_axes() {
    let document = of_all_kinds();
    // (grid, slice, axes, key of the last cell, its value)
    let cases = [
        ("", None, "2 layers, 3 tokens", "l1 e1", 5.0),
        ("z.denoising", None, "2 layers, 4 heads", "l1 h3", 7.0),
        ("attn_out.noising", None, "2 layers, 3 tokens", "l1 e1", 5.0),
        ("k.denoising", None, "2 layers, 3 tokens", "l1 e1", 14.0),
        ("k.denoising", Some("h3"), "2 layers, 3 tokens", "l1 e1", 23.0),
        ("k.denoising", Some("4"), "2 layers, 4 key heads", "l1 h3", 22.0),
        ("k.denoising", Some("l0"), "4 key heads, 3 tokens", "h3 e1", 11.0),
        ("mlp_out.denoising", None, "2 layers, 2 sets of positions", "l1 all", 3.0),
        ("attn_out.denoising.2", None, "1 layer, 3 tokens", "l0 e1", 2.0),
        ("resid_pre.denoising", None, "2 layers, 1 column", "l1 whole", 1.0),
        // What is chosen of a third axis does not matter where there is none.
        ("lens.base", Some("h9"), "2 layers, 6 tokens", "l1 e1", 11.0),
    ];
    for (name, at, axes, key, value) in cases {
        let field = chosen(&document, name, at).field(&document, Metric::LogitDiff).unwrap();
        assert_eq!(format!("{}, {}", field.rows.count(), field.columns.count()), axes, "{name}");
        let cell = Cell { row: field.rows.len() - 1, column: field.columns.len() - 1 };
        let last = field.key(cell).unwrap();
        assert_eq!(format!("{} {}", last.row, last.column), key, "{name} {at:?}");
        assert_eq!((field.find(last), field.get(last)), (Some(cell), Some(value)), "{name} {at:?}");
        assert_eq!(field.values.cells().count(), field.rows.len() * field.columns.len());
        for (row, column) in [(cell.row + 1, 0), (0, cell.column + 1), (usize::MAX, usize::MAX)] {
            assert_eq!(field.key(Cell { row, column }), None);
        }
    }
}

#[test]
fn a_position_of_one_prompt_chooses_what_corresponds_in_another() {
    let short = of_all_kinds(); // 6 tokens
    let mut long = short.clone();
    long.sentence_start += 2;
    for tokens in [&mut long.base_tokens, &mut long.source_tokens] {
        let first = tokens[0].clone();
        tokens.splice(..0, [first.clone(), first]);
    }
    for grid in &mut long.grids {
        for keys in &mut grid.axes {
            if let AxisKeys::Position(positions) = keys {
                positions.iter_mut().for_each(|position| *position += 2);
            }
        }
    }
    let grid = Some("k.denoising".parse().unwrap());
    let choice = Choice { grid, at: Some(Coordinate::Position(4)) };
    let fixed = |document: &Document, choice| {
        let chosen = Chosen::of(document, choice).unwrap();
        let (axis, at) = chosen.fixed().unwrap();
        axis.key(at).unwrap()
    };
    // By itself, of the document that it is asked of.
    assert_eq!(fixed(&short, choice), Coordinate::FromEnd(2));
    assert_eq!(
        fixed(&long, Choice { at: Some(Coordinate::Position(6)), ..choice }),
        Coordinate::FromEnd(2)
    );
    let choice = choice.from_end(axis::n_base(&short));
    assert_eq!(fixed(&short, choice), Coordinate::FromEnd(2));
    assert_eq!(fixed(&long, choice), Coordinate::FromEnd(2));
    let head = Choice { at: Some(Coordinate::Head(1)), ..choice };
    assert_eq!(head.from_end(6), head);
}

#[test]
fn what_a_result_does_not_have_is_told() {
    let document = of_all_kinds();
    let of = |document: &Document, grid: &str, at: Option<Coordinate>| {
        let choice = Choice { grid: Some(grid.parse().unwrap()), at };
        Chosen::of(document, choice).unwrap_err().to_string()
    };
    let error = of(&document, "q.noising", None);
    assert!(
        error.starts_with("the result has no grid `q.noising`: it has z.denoising, "),
        "{error}"
    );
    for at in [Coordinate::Head(4), Coordinate::Position(99), Coordinate::Span(Span::Entity)] {
        let error = of(&document, "k.denoising", Some(at));
        assert!(error.starts_with("the grid has no "), "{error}");
    }
    let mut many = document.clone();
    many.grids[0].axes =
        vec![AxisKeys::Layer(vec![0]), AxisKeys::Head(vec![0]), layers(2), layers(4)];
    assert_eq!(
        Chosen::of(&many, Choice::default()).map(|c| c.name.unwrap().to_string()).unwrap(),
        "attn_out.denoising"
    );
    let error = of(&many, "z.denoising", None);
    assert_eq!(error, "the grid has 4 axes, and a map shows a grid of up to three");
    // Of grids that cannot be shown none is the first, and whatever draws a result still can.
    many.grids.truncate(1);
    let field = Field::of(&many, Choice::default(), Metric::LogitDiff).unwrap();
    assert_eq!(field.values, many.patching_results);
    // A file of the notebook has one grid, whose name it may not know.
    let mut old = ramp(2, 2);
    let error = of(&old, "z.denoising", None);
    assert_eq!(error, "the result has no grid `z.denoising`: it has one without a name");
    old.site = Some(Site::ResidPost);
    assert_eq!(
        chosen(&old, "resid_post.denoising", None),
        Chosen::of(&old, Choice { grid: Some("resid_post".parse().unwrap()), at: None }).unwrap()
    );
    assert_eq!(GridName::all(&old), []);
}

#[test]
fn metrics_are_those_that_a_grid_holds_and_follow_its_direction() {
    let document = of_all_kinds();
    let denoising = chosen(&document, "attn_out.denoising", None);
    let noising = chosen(&document, "attn_out.noising", None);
    let lens = chosen(&document, "lens.base", None);
    let last = Cell { row: 1, column: 2 };
    let cases = [
        (&denoising, Metric::Recovery, Ok(1.0)),
        (&noising, Metric::Recovery, Ok(0.0)),
        (&denoising, Metric::Change, Ok(4.0)),
        (&noising, Metric::Change, Ok(0.0)),
        (&denoising, Metric::KlBase, Ok(0.5)),
        (&denoising, Metric::KlSource, Err(MetricError::NoReadout)),
        (&denoising, Metric::RankTrue, Ok(10.0)),
        (&denoising, Metric::PTop, Ok(0.5)),
        (&lens, Metric::PTrue, Ok(0.5)),
        (&lens, Metric::Recovery, Err(MetricError::Unpatched(Metric::Recovery))),
        (&lens, Metric::KlBase, Err(MetricError::Unpatched(Metric::KlBase))),
    ];
    for (chosen, metric, expected) in cases {
        let value = chosen
            .holds(&document, metric)
            .map(|()| chosen.value(&document, metric, last).unwrap());
        assert_eq!(value, expected, "{:?} {metric}", chosen.name);
    }
    let quantity = |chosen: &Chosen, metric| {
        let quantity = chosen.quantity(&document, metric);
        let references = quantity.references.iter().map(|r| (r.name, r.value));
        (quantity.title, quantity.centre, references.collect::<Vec<_>>())
    };
    let title = || "log P(yes) − log P(no)".to_string();
    let ends = |a, b| vec![a, b];
    let (source, base) = (("source", 5.0), ("base", 1.0));
    assert_eq!(quantity(&denoising, Metric::LogitDiff), (title(), 1.0, ends(source, base)));
    assert_eq!(quantity(&noising, Metric::LogitDiff), (title(), 5.0, ends(base, source)));
    assert_eq!(quantity(&noising, Metric::Recovery).2, ends(("base", 1.0), ("source", 0.0)));
    assert_eq!(quantity(&noising, Metric::KlBase).0, "KL from the source");
    assert_eq!(quantity(&lens, Metric::LogitDiff), (title(), 0.0, vec![base]));
    // A result that does not say which run receives is taken as it is written.
    let unsaid = Document { direction: None, ..document.clone() };
    assert_eq!(chosen(&unsaid, "attn_out.denoising", None).prompt(&unsaid), Prompt::Base);
    assert_eq!(noising.prompt(&document), Prompt::Source);
}

#[test]
fn a_pin_of_one_grid_finds_nothing_in_another_and_hidden_columns_are_tokens() {
    let document = of_all_kinds();
    let pin = Key { row: Coordinate::Layer(1), column: Coordinate::Head(2) };
    let token = Key { row: Coordinate::Layer(1), column: Coordinate::Position(4) };
    let found = |name: &str, key: Key| {
        chosen(&document, name, None).find(key.pinned(axis::n_base(&document)))
    };
    let cell = |row, column| Some(Cell { row, column });
    assert_eq!(found("z.denoising", pin), cell(1, 2));
    assert_eq!(found("z.denoising", token), None);
    assert_eq!(found("attn_out.denoising", pin), None);
    assert_eq!(found("attn_out.denoising", token), cell(1, 1));
    assert_eq!(found("attn_out.denoising.2", token), None);
    assert_eq!(found("lens.base", token), cell(1, 4));
}

#[test]
fn differences_are_of_cells_that_correspond() {
    let of = |rows: &[&[Option<f32>]]| {
        Field::of(&document(rows), Choice::default(), Metric::LogitDiff).unwrap()
    };
    let first = of(&[&[Some(1.0), Some(2.0), None]]);
    let second = of(&[&[Some(3.0), None, Some(1.0)]]);
    // Of unequal lengths the ends correspond.
    let longer = of(&[&[Some(9.0), Some(9.0), Some(5.0), Some(6.0), Some(7.0)]]);
    for (a, b, expected) in [
        (&second, &first, vec![Some(2.0), None, None]),
        (&longer, &first, vec![None, None, Some(4.0), Some(4.0), None]),
        (&first, &longer, vec![Some(-4.0), Some(-4.0), None]),
    ] {
        assert_eq!(a.difference(b).unwrap().values, Grid::from(vec![expected]));
    }
    let deep = Field::of(&ramp(2, 3), Choice::default(), Metric::LogitDiff).unwrap();
    let error = deep.difference(&first).unwrap_err().to_string();
    assert_eq!(error, "the grids do not match: 2 layers and 1");
    let kinds = of_all_kinds();
    let heads = chosen(&kinds, "z.denoising", None).field(&kinds, Metric::LogitDiff).unwrap();
    let error = deep.difference(&heads).unwrap_err();
    assert_eq!(error.to_string(), "the grids do not match: layers by tokens, and layers by heads");
    let heads_less = heads.difference(&heads).unwrap();
    assert_eq!(heads_less.quantity.title, "Difference of log P(yes) − log P(no)");
    assert!(heads_less.values.cells().all(|value| value == Some(0.0)));
    assert!(matches!(
        Field::of(&kinds, Choice { grid: Some("q".parse().unwrap()), at: None }, Metric::LogitDiff),
        Err(FieldError::Choice(ChoiceError::NoGrid { .. }))
    ));
}
