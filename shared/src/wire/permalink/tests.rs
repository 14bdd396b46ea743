use proptest::prelude::*;

use super::*;
use crate::field::Field;
use crate::field::chosen::Choice;
use crate::field::metric::Metric;
use crate::fixture::{baselines, document, ramp, readout, with_tokens};
use crate::wire::numbers;

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
    let back = decode(&encode(&full)).unwrap();
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
        assert_eq!(decode(&encode(&document)).unwrap(), document);
    }
}

#[test]
fn whatever_is_no_link_is_refused_with_the_reason() {
    let good = encode(&full());
    let bomb = compress_to_vec_zlib(&vec![0; MAX_INFLATED + 1], 9);
    let cases = [
        (String::new(), "expected it to begin with `1.`, found ``"),
        ("hello".into(), "found `hello`"),
        ("x.abc".into(), "found `x.abc`"),
        ("2.abc".into(), "version 2, and this viewer reads up to version 1"),
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
    let length = encode(&full()).len();
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
        let back = decode(&encode(&document)).unwrap();
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
        let text = encode(&full());
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
        let text = encode(&document);
        let at = 2 + at.index(text.len() - 2);
        let mut altered = text.clone();
        altered.replace_range(at..=at, &with);
        if let Ok(opened) = decode(&altered) {
            prop_assert_eq!(opened.patching_results, document.patching_results);
        }
    }
}
