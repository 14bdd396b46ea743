//! The figure as a whole: what its SVG says, and that nothing is clipped or written over.

use std::collections::HashMap;

use plotters::backend::SVGBackend;
use plotters::drawing::IntoDrawingArea;

use super::layout::{Anchor, Text};
use super::*;
use crate::document::{Answer, Answers, AxisKeys, CellGrid};
use crate::field::axis::Coordinate;
use crate::fixture::{answers, baselines, document, ramp, readout, with_tokens};
use crate::specification::vocabulary::{Direction, Site, Span, Written};

fn svg(document: &Document, options: &FigureOptions) -> String {
    let mut svg = String::new();
    let figure = Figure::new(document, options).unwrap();
    let root = SVGBackend::with_string(&mut svg, figure.size()).into_drawing_area();
    figure.draw(&root, TextUnit::LineHeight).unwrap();
    drop(root);
    svg
}

fn field(document: &Document) -> Field {
    Field::of(document, Choice::default(), Metric::LogitDiff).unwrap()
}

fn attribute<'a>(tag: &'a str, name: &str) -> &'a str {
    let (_, rest) = tag.split_once(&format!(" {name}=\"")).unwrap();
    rest.split_once('"').unwrap().0
}

/// The fill of the last rectangle over each point asked for.
fn fills(svg: &str, points: &[(i32, i32)]) -> Vec<String> {
    let mut fills = vec![String::new(); points.len()];
    for tag in svg.lines().filter(|line| line.starts_with("<rect")) {
        let [x, y, width, height] =
            ["x", "y", "width", "height"].map(|name| attribute(tag, name).parse::<i32>().unwrap());
        for (fill, (px, py)) in fills.iter_mut().zip(points) {
            if (x..x + width).contains(px) && (y..y + height).contains(py) {
                *fill = attribute(tag, "fill").to_lowercase();
            }
        }
    }
    fills
}

#[test]
fn every_cell_has_its_colour_at_its_place_up_to_its_edges() {
    let (n_layers, n_columns) = (5, 4);
    let mut document = ramp(n_layers, n_columns);
    document.patching_results.set(2, 1, None);
    let plain = FigureOptions::default();
    let cases = [
        plain.clone(),
        FigureOptions { origin: Origin::Bottom, ..plain.clone() },
        FigureOptions { transpose: true, preset: Preset::Viridis, ..plain.clone() },
        FigureOptions {
            transpose: true,
            origin: Origin::Bottom,
            scale: Some(1.37),
            ..plain.clone()
        },
        FigureOptions { range: Range::Set(-3.0, 3.0), preset: Preset::RdBu, ..plain.clone() },
    ];
    for options in cases {
        let figure = Figure::new(&document, &options).unwrap();
        let svg = svg(&document, &options);
        let (lo, hi) = match options.range {
            Range::Auto => (0.0, 0.25 * (n_layers * n_columns - 1) as f32),
            Range::Set(lo, hi) => (lo, hi),
            Range::Around(half) => (-half, half),
        };
        let plot = figure.layout().plot();
        let (n_x, n_y) =
            if options.transpose { (n_layers, n_columns) } else { (n_columns, n_layers) };
        for layer in 0..n_layers {
            for column in 0..n_columns {
                let value = document.patching_results.get(layer, column);
                let expected = value.map_or(MISSING, |v| {
                    colour_at(options.preset, ((v - lo) / (hi - lo)).clamp(0.0, 1.0))
                });
                let (x, y) = if options.transpose { (layer, column) } else { (column, layer) };
                let y = if options.origin == Origin::Top { y } else { n_y - 1 - y };
                let share = |from: i32, to: i32, i: usize, n: usize| {
                    f64::from(from) + f64::from(to - from) * (i as f64 + 0.5) / n as f64
                };
                let centre =
                    (share(plot.left, plot.right, x, n_x), share(plot.top, plot.bottom, y, n_y));
                assert_eq!(figure.layout().cell_at(centre.0, centre.1), Some((layer, column)));

                let cell = figure.layout().cell(layer, column).unwrap();
                let corners = [
                    (centre.0 as i32, centre.1 as i32),
                    (cell.left, cell.top),
                    (cell.right - 1, cell.bottom - 1),
                ];
                for fill in fills(&svg, &corners) {
                    assert_eq!(fill, expected.to_string(), "{layer}, {column} of {options:?}");
                }
            }
        }
        let beside = (f64::from(plot.left) - 1.0, f64::from(plot.top));
        assert_eq!(figure.layout().cell_at(beside.0, beside.1), None);
        // The frame is right beside the outermost cells.
        let around = [(plot.left - 1, plot.top), (plot.right, plot.bottom - 1)];
        assert_eq!(fills(&svg, &around), ["#444444", "#444444"]);
    }
}

#[test]
fn the_colour_bar_stands_beside_the_grid_with_its_high_end_on_top() {
    let document = ramp(30, 14);
    for preset in [Preset::Notebook, Preset::Viridis] {
        let options = FigureOptions { preset, ..FigureOptions::default() };
        let figure = Figure::new(&document, &options).unwrap();
        let bar = figure.layout().pixels(figure.layout().bar.unwrap());
        let plot = figure.layout().plot();
        assert_eq!((bar.top, bar.bottom), (plot.top, plot.bottom));
        assert!(bar.left > plot.right);
        let points = [(bar.left, bar.top), (bar.right - 1, bar.bottom - 1)];
        let expected = [255.5, 0.5].map(|step| colour_at(preset, step / 256.0).to_string());
        assert_eq!(fills(&svg(&document, &options), &points), expected);
    }
}

#[test]
fn labels_tell_where_source_and_base_differ() {
    let document = with_tokens(ramp(2, 3), &[1]);
    let labels = |labels| {
        let figure = Figure::new(&document, &FigureOptions { labels, ..Default::default() });
        let texts = figure.unwrap().layout.texts;
        let upright = texts.into_iter().filter(|t| t.upright && t.text.starts_with('t'));
        upright.map(|t| (t.text, t.colour.to_string())).collect::<Vec<_>>()
    };
    let expected = |texts: [&str; 3]| {
        texts.map(String::from).into_iter().zip(["#767676", "#1a1a1a", "#767676"].map(String::from))
    };
    assert!(labels(LabelStyle::Token).into_iter().eq(expected(["t0", "t1", "t2"])));
    assert!(
        labels(LabelStyle::TokenIndex).into_iter().eq(expected(["t0 (3)", "t1 (4)", "t2 (5)"]))
    );
}

#[test]
fn hidden_columns_leave_no_gap_and_no_trace_in_the_range() {
    let document = ramp(3, 5);
    for transpose in [false, true] {
        // The columns 0, 2 and 4: positions count from 3.
        let hidden = "3,5,7".parse().unwrap();
        let options = FigureOptions { hidden, transpose, ..FigureOptions::default() };
        let figure = Figure::new(&document, &options).unwrap();
        let layout = figure.layout();
        let columns = (0..5).filter(|column| layout.cell(1, *column).is_some());
        assert_eq!(columns.collect::<Vec<_>>(), [1, 3]);
        for (layer, column, cell) in layout.cells() {
            assert_eq!(layout.cell(layer, column), Some(cell));
            let middle = ((cell.left + cell.right) / 2, (cell.top + cell.bottom) / 2);
            let found = layout.cell_at(f64::from(middle.0), f64::from(middle.1));
            assert_eq!(found, Some((layer, column)));
        }
        let plot = layout.plot();
        let (first, last) = (layout.cell(0, 1).unwrap(), layout.cell(2, 3).unwrap());
        assert_eq!((first.left, first.top), (plot.left, plot.top));
        assert_eq!((last.right, last.bottom), (plot.right, plot.bottom));
        let colours = figure.colours().unwrap();
        assert_eq!((colours.lo, colours.hi), (0.25, 3.25));
        let svg = svg(&document, &options);
        assert!(svg.contains("3 of 5 tokens are hidden."), "{svg}");
        assert!(svg.contains("\nt1\n") && !svg.contains("\nt2\n"), "{svg}");
    }
    let all = FigureOptions { hidden: "0-9".parse().unwrap(), ..FigureOptions::default() };
    let error = Figure::new(&document, &all).unwrap_err().to_string();
    assert_eq!(error, "all 5 columns are hidden: show at least one of them");
}

#[test]
fn themes_change_the_ground_and_no_data() {
    let document = ramp(2, 2);
    let dark = FigureOptions { theme: Theme::Dark, ..FigureOptions::default() };
    let figure = Figure::new(&document, &dark).unwrap();
    let cell = figure.layout().cell(1, 1).unwrap();
    let points = [(0, 0), (cell.left, cell.top)];
    assert_eq!(fills(&svg(&document, &dark), &points), ["#1a2125", "#156082"]);
    assert_eq!(fills(&svg(&document, &FigureOptions::default()), &points), ["#ffffff", "#156082"]);
}

#[test]
fn figures_are_compared_in_one_range_and_a_diverging_one_keeps_its_middle() {
    let [mut first, mut second] =
        [&[Some(1.0), Some(2.0)], &[Some(-3.0), Some(9.0)]].map(|row| document(&[row]));
    first.baselines = Some(baselines(5.0, 1.0));
    second.baselines = Some(baselines(5.0, 4.0));
    let range = |preset, range| {
        let options = FigureOptions { preset, range, ..FigureOptions::default() };
        let fields = [&first, &second].map(field);
        common_range(fields.iter().map(|field| (field, vec![0, 1])), &options)
    };
    let cases = [
        (Preset::Blues, Range::Auto, Range::Set(-3.0, 9.0), (-3.0, 9.0)),
        // From the base's 4 it is 7 to the furthest value.
        (Preset::RdBu, Range::Auto, Range::Around(7.0), (-3.0, 11.0)),
        (Preset::RdBu, Range::Set(0.0, 1.0), Range::Set(0.0, 1.0), (0.0, 1.0)),
    ];
    for (preset, set, expected, ends) in cases {
        assert_eq!(range(preset, set), Some((expected, ends)), "{preset} {set:?}");
    }
    let options = FigureOptions {
        preset: Preset::RdBu,
        range: Range::Around(7.0),
        ..FigureOptions::default()
    };
    for (document, base) in [(&first, 1.0), (&second, 4.0)] {
        let figure = Figure::new(document, &options).unwrap();
        let colours = figure.colours().unwrap();
        assert_eq!(colours.colour(Some(base)).to_string(), "#f7f7f7");
        assert_eq!((colours.lo, colours.hi), (base as f64 - 7.0, base as f64 + 7.0));
    }
    let empty = field(&document(&[&[None]]));
    assert_eq!(common_range([(&empty, vec![0])], &FigureOptions::default()), None);
}

#[test]
fn heads_and_sets_of_positions_have_axes_of_their_own() {
    let mut document = ramp(2, 3);
    let grid = |site, axes: Vec<AxisKeys>| {
        let n = axes.iter().map(AxisKeys::len).product();
        let values = (0..n).map(|i| Some(i as f32)).collect();
        let grid = CellGrid::of_logit_diffs(site, Direction::Noising, axes, values);
        CellGrid { window: 3, write: Written::Zero, ..grid }
    };
    let layers = || AxisKeys::Layer(vec![0, 1]);
    let (heads, spans) = (AxisKeys::Head(vec![0, 1, 2]), vec![Span::Entity, Span::Sentence]);
    document.grids = vec![
        grid(Site::Key, vec![layers(), heads.clone(), AxisKeys::Position(vec![3, 4])]),
        grid(Site::Z, vec![layers(), heads]),
        grid(Site::AttnOut, vec![layers(), AxisKeys::Span(spans)]),
    ];
    let cases: [(&str, Option<Coordinate>, &[&str]); 4] = [
        ("z.noising", None, &["Head", "tiny · z · noising · 3 layers at a time · zeros written"]),
        ("attn_out.noising", None, &["Positions", "sentence", "entity"]),
        ("k.noising", Some(Coordinate::Head(2)), &["Token", "t1", "key head 2"]),
        ("k.noising", Some(Coordinate::Position(4)), &["Key head", "position 4"]),
    ];
    for (name, at, expected) in cases {
        let options = FigureOptions {
            grid: Choice { grid: Some(name.parse().unwrap()), at },
            // Nothing is hidden where there are no tokens.
            hidden: "3".parse().unwrap(),
            ..FigureOptions::default()
        };
        let svg = svg(&document, &options);
        for text in expected.iter().chain(&["Layer"]) {
            let is_there =
                svg.lines().any(|line| line == *text || line.ends_with(&format!("· {text}")));
            assert!(is_there, "{text} in {name}: {svg}");
        }
        assert_eq!(svg.contains("1 of 2 tokens are hidden."), at == Some(Coordinate::Head(2)));
    }
}

#[test]
fn text_is_data() {
    let mut document = document(&[&[Some(1.0), Some(2.0), Some(3.0)]]);
    document.token_labels = [" <b>", "a&\"'", "\u{1}\n"].map(String::from).to_vec();
    document.entity = "]]></text><script>\u{0}\u{ffff}".into();
    document.answers = Some(answers("TRUE", "<FALSE>"));
    let svg = svg(&document, &FigureOptions::default());
    for expected in [
        "\n·&lt;b&gt;\n",
        "\na&amp;&quot;&apos;\n",
        "\n&lt;U+0001&gt;↵\n",
        "\n]]&gt;&lt;/text&gt;&lt;script&gt;&lt;U+0000&gt;&lt;U+FFFF&gt;\n",
        "\nSource: The council fined them.\n",
        "\nlog\u{a0}P(TRUE) −\n",
        "P(&lt;FALSE&gt;)",
    ] {
        assert!(svg.contains(expected), "{expected:?} in {svg}");
    }
    assert!(!svg.contains(|c: char| c.is_control() && c != '\n'), "{svg}");
}

#[test]
fn a_figure_says_what_the_file_does_not_say() {
    let options = FigureOptions::default();
    let mut document = document(&[&[Some(1.0), Some(2.0)]]);
    let unknown = svg(&document, &options);
    assert!(unknown.contains("\ntiny · site unknown\n"), "{unknown}");
    assert!(unknown.contains("\nmetric (unknown)\n"), "{unknown}");
    assert!(!unknown.contains("nats"), "{unknown}");
    document.site = Some(Site::AttnOut);
    document.answers = Some(answers("yes", "no"));
    let known = svg(&document, &options);
    assert!(known.contains("\ntiny · attn_out\n") && known.contains("nats"), "{known}");
    assert!(!known.contains("unknown"), "{known}");
}

#[test]
fn notes_tell_what_the_picture_alone_does_not() {
    let mut document = with_tokens(ramp(2, 3), &[1]);
    let note = |document: &Document, range| {
        let options = FigureOptions { range, ..FigureOptions::default() };
        let svg = svg(document, &options);
        ["Grey tokens", "Hatched cells", "Values beyond"].map(|note| svg.contains(note))
    };
    assert_eq!(note(&ramp(2, 3), Range::Auto), [false, false, false]);
    assert_eq!(note(&document, Range::Auto), [true, false, false]);
    document.patching_results.set(0, 0, None);
    assert_eq!(note(&document, Range::Auto), [true, true, false]);
    assert_eq!(note(&document, Range::Set(0.0, 1.0)), [true, true, true]);
}

#[test]
fn sizes_grow_with_the_grid_and_stay_within_limits() {
    let size =
        |document: &Document| Figure::new(document, &FigureOptions::default()).unwrap().size();
    let mut last = (0, 0);
    for n in [1, 2, 5, 10, 20, 40, 60, 80] {
        let (width, height) = size(&ramp(n, n));
        assert!(width >= last.0 && height >= last.1, "{n}: {width} x {height} after {last:?}");
        last = (width, height);
    }
    for (n_layers, n_columns) in [(80, 400), (3, 3000), (1200, 3), (1, 1)] {
        let (width, height) = size(&ramp(n_layers, n_columns));
        assert!((380..1800).contains(&width), "{width} for {n_columns} columns");
        assert!((200..1400).contains(&height), "{height} for {n_layers} layers");
    }
    let mut long = ramp(3, 3);
    long.token_labels[1] = "x".repeat(500);
    let grown = size(&long).1 - size(&ramp(3, 3)).1;
    assert!((50..130).contains(&grown), "long labels are cut");
    // Cells meet on whole pixels at every scale, and double exactly.
    let document = ramp(30, 14);
    let at = |scale| {
        let options = FigureOptions { scale: Some(scale), ..FigureOptions::default() };
        Figure::new(&document, &options).unwrap()
    };
    let (once, twice) = (at(1.0), at(2.0));
    assert_eq!(twice.size(), (2 * once.size().0, 2 * once.size().1));
    for (a, b) in once.layout().cells().zip(twice.layout().cells()) {
        let PixelRect { left, top, right, bottom } = a.2;
        let double =
            PixelRect { left: 2 * left, top: 2 * top, right: 2 * right, bottom: 2 * bottom };
        assert_eq!(b.2, double);
    }
}

/// Left, top, right, bottom of what a text inks, at scale 1.
fn extent(text: &Text) -> [f64; 4] {
    let width = text::width(&text.text, text.em);
    let start = match text.anchor {
        Anchor::Start => 0.0,
        Anchor::Middle => -width / 2.0,
        Anchor::End => -width,
    };
    let (above, below) = (0.73 * text.em, 0.2 * text.em);
    let Text { x, y, .. } = *text;
    if text.upright {
        [x - above, y - start - width, x + below, y - start]
    } else {
        [x + start, y - above, x + start + width, y + below]
    }
}

#[test]
fn whatever_the_document_nothing_is_clipped_or_written_over() {
    let mut documents = HashMap::new();
    for (n_layers, n_columns) in [(1, 1), (4, 3), (30, 14), (80, 200), (2, 1500), (3, 2000)] {
        documents.insert(format!("{n_layers} x {n_columns}"), ramp(n_layers, n_columns));
    }
    let mut long = ramp(12, 3);
    long.token_labels = vec!["x".repeat(500), " \u{202e}".repeat(300), String::new()];
    long.entity = "word ".repeat(200);
    long.source_sentence = "x".repeat(5000);
    long.model = "m".repeat(300);
    let answer = |word: String| Answer { word, kept: vec![], dropped: vec![], continued: vec![] };
    long.answers = Some(Answers {
        true_answer: answer("certainly ".repeat(40)),
        false_answer: answer("n".repeat(200)),
    });
    documents.insert("long".into(), long);
    for (name, a, b) in [
        ("extreme", f32::MIN, f32::MAX),
        ("tiny", 1e-40, 1e-45),
        ("equal", 0.1, 0.1),
        ("not finite", f32::NAN, f32::INFINITY),
        ("ulp", 1.0, 1.0 + f32::EPSILON),
    ] {
        documents.insert(name.into(), document(&[&[Some(a), None], &[Some(b), Some(a)]]));
    }
    documents.insert("empty".into(), document(&[&[None, None]]));
    let mut start = ramp(2, 2);
    start.sentence_start = usize::MAX - 1;
    documents.insert("start".into(), start);

    let plain = FigureOptions::default();
    let mut n_texts = 0;
    for (name, mut document) in documents {
        document.baselines = Some(baselines(f32::MAX, -3.0));
        document.readout = Some(readout(&document));
        for options in [
            plain.clone(),
            FigureOptions { transpose: true, labels: LabelStyle::TokenIndex, ..plain.clone() },
            FigureOptions { preset: Preset::RdBu, metric: Metric::Change, ..plain.clone() },
            FigureOptions { metric: Metric::PTrue, scale: Some(f64::INFINITY), ..plain.clone() },
            FigureOptions { range: Range::Set(-0.001, 1e30), scale: Some(0.0), ..plain.clone() },
        ] {
            let figure = Figure::new(&document, &options).unwrap();
            let (width, height) = figure.size();
            let scale = options.scale();
            let texts = &figure.layout().texts;
            let extents: Vec<_> = texts.iter().map(extent).collect();
            for (text, [left, top, right, bottom]) in texts.iter().zip(&extents) {
                assert!(
                    *left >= 0.0
                        && *top >= 0.0
                        && right * scale <= f64::from(width)
                        && bottom * scale <= f64::from(height),
                    "{name} {options:?}: {text:?} is clipped by {width} x {height}"
                );
            }
            for (i, a) in extents.iter().enumerate() {
                for (j, b) in extents.iter().enumerate().skip(i + 1) {
                    let apart = a[0] >= b[2] || b[0] >= a[2] || a[1] >= b[3] || b[1] >= a[3];
                    assert!(apart, "{name} {options:?}: {:?} over {:?}", texts[i], texts[j]);
                }
            }
            n_texts += texts.len();
            if width < 1000 {
                svg(&document, &options);
            }
        }
    }
    assert!(n_texts > 1000);
}
