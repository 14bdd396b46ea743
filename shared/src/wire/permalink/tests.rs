use proptest::prelude::*;

use super::*;
use crate::document::{AxisKeys, CellGrid, DocumentSpan, LensGrid, Prompt, TopToken};
use crate::field::Field;
use crate::field::chosen::Choice;
use crate::field::metric::Metric;
use crate::fixture::{baselines, document, ramp, readout, with_tokens};
use crate::specification::settings::Settings;
use crate::specification::vocabulary::{Direction, Site, Span, Written};
use crate::wire::numbers;

fn text(document: &Document) -> String {
    encode(document, None).text
}

fn through(document: &Document) -> Document {
    let Opened { document, left_out } = decode(&text(document)).unwrap();
    assert_eq!(left_out, [""; 0]);
    document
}

fn full() -> Document {
    let mut full = with_tokens(ramp(30, 14), &[2]);
    full.token_labels = full.base_tokens[3..].iter().map(|t| t.text.clone()).collect();
    full.baselines = Some(baselines(4.0, 2.0));
    let mut cells = readout(&full);
    let odds = full.patching_results.map(|value: f32| Some(value.exp()));
    cells.p_true = odds.map(|odds| Some(0.3 * odds / (1.0 + odds)));
    cells.p_false = odds.map(|odds| Some(0.3 / (1.0 + odds)));
    full.readout = Some(cells);
    full
}

/// What a reader sees of every cell; of probabilities what a link promises.
fn shown(document: &Document) -> Vec<String> {
    let text = |metric, value: Option<f32>| match (metric, value) {
        (Metric::PTrue | Metric::PFalse, Some(value)) => format!("{value:.0$}", DECIMALS as usize),
        _ => numbers::value(metric.decimals(), value),
    };
    let values = |metric| Field::of(document, Choice::default(), metric).ok().map(|f| f.values);
    let grids = Metric::ALL.iter().filter_map(|metric| Some((*metric, values(*metric)?)));
    let texts = |(metric, grid): (Metric, Grid<f32>)| {
        grid.cells().map(|value| text(metric, value)).collect::<Vec<_>>()
    };
    grids.flat_map(texts).collect()
}

#[test]
fn a_result_goes_through_a_link() {
    let full = full();
    let back = through(&full);
    assert_eq!(back.patching_results, full.patching_results);
    assert_eq!(shown(&back), shown(&full));
    let without = |document: &Document| Document { readout: None, ..document.clone() };
    assert_eq!(without(&back), without(&full));
    let top = |document: &Document| {
        let readout = document.readout.clone().unwrap();
        (readout.top_token, readout.top_token_labels)
    };
    assert_eq!(top(&back), top(&full));
}

#[test]
fn bare_and_odd_results_go_through_unchanged() {
    let mut odd = document(&[&[Some(-0.0), None], &[Some(f32::MIN_POSITIVE), Some(f32::MAX)]]);
    odd.token_labels = vec![" <b>\n".into(), "\u{1f600}".into()];
    odd.entity = String::new();
    for document in [odd, document(&[&[Some(1.5)]]), with_tokens(ramp(3, 4), &[])] {
        assert_eq!(through(&document), document);
    }
}

/// A grid of `axes` in which every list is there but P(FALSE).
fn grid(site: Site, axes: Vec<AxisKeys>) -> CellGrid {
    let n = axes.iter().map(AxisKeys::len).product::<usize>();
    let list =
        |scale: f32| (0..n).map(|i| (i != 1).then_some(scale * i as f32)).collect::<Vec<_>>();
    let token = |id, p| TopToken { id, p };
    let top = |i| (i != 2).then(|| vec![token(7, Some(0.5)), token(9, None)]);
    CellGrid {
        site,
        direction: Direction::Noising,
        window: 3,
        write: Written::Zero,
        axes,
        logit_diff: list(1.1),
        p_true: Some(list(0.0001)),
        p_false: None,
        kl_base: Some(list(0.1234)),
        kl_source: Some(list(3.0)),
        rank_true: Some(list(100.5)),
        rank_false: Some(list(1.0)),
        top: Some((0..n).map(top).collect()),
    }
}

fn of_many() -> Document {
    let mut document = full();
    let layers = || AxisKeys::Layer((0..30).collect());
    let swept = || AxisKeys::Position((3..17).collect());
    let heads = || AxisKeys::Head((0..9).collect());
    let lens = grid(Site::Z, vec![layers(), swept()]);
    document.grids = vec![
        grid(Site::AttnOut, vec![layers(), swept()]),
        grid(Site::Z, vec![layers(), heads()]),
        grid(Site::Key, vec![layers(), AxisKeys::Span(vec![Span::All])]),
    ];
    document.lens = vec![LensGrid {
        run: Prompt::Source,
        axes: lens.axes,
        p_true: lens.p_true.clone().unwrap(),
        p_false: lens.p_true.unwrap(),
        logit_diff: lens.logit_diff,
        top: lens.top.unwrap(),
    }];
    document.spans = vec![DocumentSpan { span: Span::All, base: vec![3], source: vec![4] }];
    document.settings = Some(Settings { window: 3, ..Settings::default() });
    document.token_texts = [(7, " yes".to_string()), (9, " no".to_string())].into();
    document
}

#[test]
fn grids_of_every_kind_go_through_a_link() {
    let document = of_many();
    let text = text(&document);
    assert!(text.starts_with("2."));
    let back = through(&document);
    let near = |a: &Option<Vec<Option<f32>>>, b: &Option<Vec<Option<f32>>>, most: f32| {
        let (a, b) = (a.iter().flatten(), b.iter().flatten());
        assert!(a.clone().count() == b.clone().count());
        assert!(a.zip(b).all(|(a, b)| match (a, b) {
            (Some(a), Some(b)) => (a - b).abs() <= most,
            (a, b) => a == b,
        }));
    };
    for (a, b) in back.grids.iter().zip(&document.grids) {
        assert_eq!((&a.logit_diff, &a.p_false), (&b.logit_diff, &b.p_false));
        near(&a.p_true, &b.p_true, 5.1e-5);
        near(&a.kl_base, &b.kl_base, 1e-3);
        near(&a.kl_source, &b.kl_source, 1e-3);
        near(&a.rank_true, &b.rank_true, 0.051);
        near(&a.rank_false, &b.rank_false, 0.051);
        assert_eq!(a.top, b.top);
        let bare = |grid: &CellGrid| CellGrid {
            p_true: None,
            kl_base: None,
            kl_source: None,
            rank_true: None,
            rank_false: None,
            ..grid.clone()
        };
        assert_eq!(bare(a), bare(b));
    }
    let (a, b) = (&back.lens[0], &document.lens[0]);
    assert_eq!((&a.axes, &a.logit_diff, &a.top, a.run), (&b.axes, &b.logit_diff, &b.top, b.run));
    let rest = |document: &Document| Document {
        grids: vec![],
        lens: vec![],
        readout: None,
        ..document.clone()
    };
    assert_eq!(rest(&back), rest(&document));
}

#[test]
fn what_there_is_no_room_for_is_named_and_what_is_shown_is_held() {
    let mut document = of_many();
    let layers = || AxisKeys::Layer((0..30).collect());
    let swept = AxisKeys::Position((3..17).collect());
    let heads = AxisKeys::Head((0..40).collect());
    document.grids.push(grid(Site::Value, vec![layers(), heads, swept]));
    let large: GridName = "v.noising".parse().unwrap();
    let Packed { text, left_out } = encode(&document, None);
    assert_eq!(left_out, [large]);
    let opened = decode(&text).unwrap();
    assert_eq!((opened.document.grids.len(), opened.left_out), (3, vec![large.to_string()]));
    let Packed { text, left_out } = encode(&document, Some(large));
    assert_eq!(left_out.len(), 4, "{left_out:?}");
    let opened = decode(&text).unwrap().document;
    assert_eq!(opened.grids[0].site, Site::Value);
    assert_eq!(opened.patching_results, document.patching_results);
    // A name that the result does not have changes nothing.
    assert_eq!(encode(&document, Some("q.noising".parse().unwrap())).left_out, [large]);
}

#[test]
fn whatever_is_no_link_is_refused_with_the_reason() {
    let good = text(&full());
    let bomb = compress_to_vec_zlib(&vec![0; MAX_INFLATED + 1], 9);
    let cases = [
        (String::new(), "expected it to begin with `1.`, found ``"),
        ("hello".into(), "found `hello`"),
        ("x.abc".into(), "found `x.abc`"),
        ("3.abc".into(), "version 3, and this viewer reads up to version 2"),
        ("1.".into(), "damaged"),
        ("1.@@@@".into(), "damaged"),
        (good[..good.len() / 2].into(), "damaged, perhaps cut short"),
        (good.replacen("1.e", "1.f", 1), "damaged"),
        (format!("1.{}", URL_SAFE_NO_PAD.encode(bomb)), "holds more than 16 MiB"),
        ("1".repeat(MAX_TEXT + 1), "holds more than 16 MiB"),
    ];
    for (text, expected) in cases {
        let error = decode(&text).unwrap_err().to_string();
        let start: String = text.chars().take(20).collect();
        assert!(error.contains(expected), "{start}: {error}");
    }
    let broken = format!("{}\n {}", &good[..40], &good[40..]);
    assert!(decode(&broken).is_ok(), "a mail program's line breaks do no harm");
}

#[test]
fn a_usual_result_stays_below_4_kb() {
    let length = text(&full()).len();
    assert!(length < 4096, "{length}");
}

proptest! {
    #[test]
    fn any_grid_goes_through(
        cells in (1..9usize, 1..9usize).prop_flat_map(|(layers, columns)| {
            let cell = prop::option::of(any::<f32>().prop_filter("finite", |v| v.is_finite()));
            prop::collection::vec(prop::collection::vec(cell, columns), layers)
        }),
        texts in prop::collection::vec("\\PC{0,4}", 9),
    ) {
        let rows: Vec<_> = cells.iter().map(Vec::as_slice).collect();
        let mut document = document(&rows);
        document.base_prompt = texts.concat();
        document.token_labels = texts[..cells[0].len()].to_vec();
        let mut document = with_tokens(document, &[0]);
        document.readout = Some(readout(&document));
        let readout = document.readout.as_mut().unwrap();
        for grid in [&mut readout.p_true, &mut readout.p_false] {
            *grid = grid.map(|p| Some(p.clamp(0.0, 1.0)));
        }
        let back = through(&document);
        prop_assert_eq!(&back.patching_results, &document.patching_results);
        prop_assert_eq!(shown(&back), shown(&document));
        prop_assert_eq!(back.base_tokens, document.base_tokens);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = unpack(&bytes);
        let _ = decode(&String::from_utf8_lossy(&bytes));
        let _ = decode(&format!("1.{}", URL_SAFE_NO_PAD.encode(&bytes)));
        let zlib = compress_to_vec_zlib(&bytes, 1);
        let _ = decode(&format!("1.{}", URL_SAFE_NO_PAD.encode(zlib)));
    }

    #[test]
    fn no_change_of_the_inflated_bytes_makes_it_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let text = text(&of_many());
        let packed = URL_SAFE_NO_PAD.decode(&text[2..]).unwrap();
        let mut body = decompress_to_vec_zlib_with_limit(&packed, MAX_INFLATED).unwrap();
        for (at, byte) in changes {
            let at = at.index(body.len());
            body[at] = byte;
        }
        let _ = unpack(&body);
    }

    #[test]
    fn no_text_that_was_altered_opens_as_another_result(
        at in any::<prop::sample::Index>(),
        with in "[A-Za-z0-9_-]",
    ) {
        let document = full();
        let text = text(&document);
        let at = 2 + at.index(text.len() - 2);
        let mut altered = text.clone();
        altered.replace_range(at..=at, &with);
        if let Ok(opened) = decode(&altered) {
            prop_assert_eq!(opened.document.patching_results, document.patching_results);
        }
    }
}
