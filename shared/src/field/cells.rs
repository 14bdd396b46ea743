//! A result as a table in long form, one row per cell, for R, pandas and spreadsheets.

use std::borrow::Cow;

use crate::document::{CellGrid, Document, Place};
use crate::field::metric::Metric;

/// The columns of [`csv()`].
pub const COLUMNS: [&str; 18] = [
    "site",
    "direction",
    "layer",
    "head",
    "position",
    "span",
    "token",
    "token_id",
    "logit_diff",
    "recovery",
    "p_true",
    "p_false",
    "kl_base",
    "kl_source",
    "rank_true",
    "rank_false",
    "top_token",
    "p_top",
];

/// The cells as CSV (RFC 4180, UTF-8, lines end in `\n`), grid by grid in the order of their axes.
///
/// `layer` and `head` count from 0; `position` is that of the run that is patched, and `token` its
/// token there; `token` and `top_token` are texts as the tokenizer has them, leading space included;
/// `logit_diff` and the divergences are in nats, the others have no unit. Where the document does
/// not say what was measured, the column is `metric_unknown` instead of `logit_diff`. A number has
/// as many digits as it takes to read the same `f32` back. What is missing or undefined is empty.
/// Nothing is escaped beyond CSV's quotes: a token `=1+1` stays `=1+1`.
pub fn csv(document: &Document) -> String {
    let mut columns = COLUMNS;
    if document.answers.is_none() {
        columns[8] = "metric_unknown";
    }
    let mut csv = columns.join(",") + "\n";
    let mut write = |cells: [Cow<str>; COLUMNS.len()]| {
        csv += &cells.join(",");
        csv.push('\n');
    };
    if document.grids.is_empty() {
        flat(document, &mut write);
    }
    for grid in &document.grids {
        long(document, grid, &mut write);
    }
    csv
}

/// About how many bytes [`csv()`] makes at most, and those of the longest token in it. A token's text
/// is in every cell whose token it is.
pub fn csv_size(document: &Document) -> (usize, usize) {
    let tokens = document.source_tokens.iter().chain(&document.base_tokens);
    let tokens = tokens.map(|token| token.text.len());
    let labels = document.token_labels.iter().map(String::len).chain(tokens).max().unwrap_or(0);
    let said = document.readout.iter().flat_map(|readout| readout.top_token_labels.values());
    let said = said.map(String::len).chain(document.token_texts.values().map(String::len));
    let said = said.max().unwrap_or(0);
    let n_cells: usize = match &document.grids[..] {
        [] => document.num_layers.saturating_mul(document.token_labels.len()),
        grids => grids.iter().map(|grid| grid.logit_diff.len()).sum(),
    };
    // Numbers and commas beside the two texts.
    (n_cells.saturating_mul(labels + said + 200), labels.max(said))
}

/// The rows of one grid.
fn long(document: &Document, grid: &CellGrid, write: &mut impl FnMut([Cow<str>; COLUMNS.len()])) {
    let recovery = grid.recovery(document);
    let is_base = Some(grid.direction) == document.direction;
    let tokens = if is_base { &document.base_tokens } else { &document.source_tokens };
    let value =
        |list: &Option<Vec<Option<f32>>>, cell: usize| number(list.as_ref().and_then(|l| l[cell]));
    for (cell, Place { layer, head, position, span }) in grid.places().into_iter().enumerate() {
        let token = position.and_then(|position| tokens.get(position));
        let tops = grid.top.as_ref().and_then(|tops| tops[cell].as_ref());
        let top = tops.and_then(|tops| tops.first());
        write([
            grid.site.name().into(),
            grid.direction.name().into(),
            count(Some(layer)),
            count(head),
            count(position),
            span.map_or("", |span| span.name()).into(),
            quoted(token.map_or("", |token| &token.text)),
            count(token.map(|token| token.id)),
            number(grid.logit_diff[cell]),
            number(recovery[cell]),
            value(&grid.p_true, cell),
            value(&grid.p_false, cell),
            value(&grid.kl_base, cell),
            value(&grid.kl_source, cell),
            value(&grid.rank_true, cell),
            value(&grid.rank_false, cell),
            quoted(top.and_then(|top| document.token_text(top.id)).unwrap_or_default()),
            number(top.and_then(|top| top.p)),
        ]);
    }
}

/// The rows of a document that has one grid and no more than the notebook's axes.
fn flat(document: &Document, write: &mut impl FnMut([Cow<str>; COLUMNS.len()])) {
    let recovery = Metric::Recovery.grid(document).ok();
    let readout = document.readout.as_ref();
    for layer in 0..document.num_layers {
        for (column, label) in document.token_labels.iter().enumerate() {
            let position = document.sentence_start.saturating_add(column);
            let top = readout.and_then(|readout| readout.top_token.get(layer, column));
            write([
                document.site.map_or("", |site| site.name()).into(),
                document.direction.map_or("", |direction| direction.name()).into(),
                count(Some(layer)),
                "".into(),
                count(Some(position)),
                "".into(),
                quoted(label),
                count(document.base_tokens.get(position).map(|token| token.id)),
                number(document.patching_results.get(layer, column)),
                number(recovery.as_ref().and_then(|r| r.get(layer, column))),
                number(readout.and_then(|r| r.p_true.get(layer, column))),
                number(readout.and_then(|r| r.p_false.get(layer, column))),
                "".into(),
                "".into(),
                "".into(),
                "".into(),
                quoted(top.and_then(|id| document.token_text(id)).unwrap_or_default()),
                "".into(),
            ]);
        }
    }
}

/// A text as a field. The csv crate's writer can tell numbers from texts, for which it brings the
/// standard library's table of powers of ten: a thirtieth of the viewer, which a page that is
/// loaded over a network need not have.
fn quoted(text: &str) -> Cow<'_, str> {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\"")).into()
    } else {
        text.into()
    }
}

fn number(value: Option<f32>) -> Cow<'static, str> {
    // `{:?}` is the shortest text that reads back, with an exponent for the very small and large.
    value.filter(|v| v.is_finite()).map(|v| format!("{v:?}")).unwrap_or_default().into()
}

fn count(value: Option<impl ToString>) -> Cow<'static, str> {
    value.map(|value| value.to_string()).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{AxisKeys, TopToken};
    use crate::fixture::{answers, baselines, document, ramp, readout, with_tokens};
    use crate::specification::vocabulary::{Direction, Site, Span, Written};

    #[test]
    fn every_cell_is_a_row_and_tokens_stay_data() {
        let mut awkward = document(&[
            &[Some(1.0), Some(0.1), None, Some(1e-9)],
            &[Some(-2.5), Some(f32::NAN), Some(3.0), Some(4.0)],
        ]);
        awkward.token_labels =
            [" \"quoted\"", "a,b", "line\nbreak", "=1+1"].map(String::from).to_vec();
        let mut full = with_tokens(awkward, &[]);
        full.baselines = Some(baselines(4.0, 2.0));
        full.readout = Some(readout(&full));
        full.answers = Some(answers("TRUE", "FALSE"));
        assert_eq!(
            csv(&full),
            "site,direction,layer,head,position,span,token,token_id,logit_diff,recovery,p_true,p_false,\
             kl_base,kl_source,rank_true,rank_false,top_token,p_top\n\
             ,,0,,3,,\" \"\"quoted\"\"\",103,1.0,-0.5,0.0,1.0,,,,, TRUE,\n\
             ,,0,,4,,\"a,b\",104,0.1,-0.95,0.1,0.9,,,,, TRUE,\n\
             ,,0,,5,,\"line\nbreak\",105,,,0.2,0.8,,,,, TRUE,\n\
             ,,0,,6,,=1+1,106,1e-9,-1.0,0.3,0.7,,,,, TRUE,\n\
             ,,1,,3,,\" \"\"quoted\"\"\",103,-2.5,-2.25,0.4,0.6,,,,, TRUE,\n\
             ,,1,,4,,\"a,b\",104,,,0.5,0.5,,,,, TRUE,\n\
             ,,1,,5,,\"line\nbreak\",105,3.0,0.5,0.6,0.4,,,,, TRUE,\n\
             ,,1,,6,,=1+1,106,4.0,1.0,0.7,0.3,,,,, TRUE,\n"
        );
    }

    #[test]
    fn what_a_file_does_not_say_is_empty_or_unknown() {
        assert_eq!(
            csv(&document(&[&[Some(1.5)]])),
            "site,direction,layer,head,position,span,token,token_id,metric_unknown,recovery,p_true,\
             p_false,kl_base,kl_source,rank_true,rank_false,top_token,p_top\n\
             ,,0,,3,,t0,,1.5,,,,,,,,,\n"
        );
    }

    #[test]
    fn every_grid_of_an_experiment_has_its_rows() {
        let mut document = with_tokens(ramp(2, 2), &[0]);
        document.baselines = Some(baselines(4.0, 2.0));
        document.answers = Some(answers("TRUE", "FALSE"));
        document.direction = Some(Direction::Denoising);
        document.token_texts = [(7, " TRUE".to_string())].into();
        let heads = CellGrid {
            site: Site::Z,
            direction: Direction::Denoising,
            window: 1,
            write: Written::Source,
            axes: vec![AxisKeys::Layer(vec![0, 1]), AxisKeys::Head(vec![0, 1])],
            logit_diff: vec![Some(2.0), Some(3.0), None, Some(4.0)],
            p_true: Some(vec![Some(0.5); 4]),
            p_false: Some(vec![Some(0.25); 4]),
            kl_base: Some(vec![Some(0.0), Some(0.5), None, Some(1.0)]),
            kl_source: Some(vec![Some(1.0); 4]),
            rank_true: Some(vec![Some(1.0); 4]),
            rank_false: Some(vec![Some(12.5); 4]),
            top: Some(vec![Some(vec![TopToken { id: 7, p: Some(0.5) }]); 4]),
        };
        let spans = CellGrid {
            direction: Direction::Noising,
            site: Site::AttnOut,
            axes: vec![
                AxisKeys::Layer(vec![0]),
                AxisKeys::Span(vec![Span::Entity]),
                AxisKeys::Position(vec![3, 4]),
            ],
            logit_diff: vec![Some(4.0), Some(3.0)],
            p_true: None,
            p_false: None,
            kl_base: None,
            kl_source: None,
            rank_true: None,
            rank_false: None,
            top: None,
            ..heads.clone()
        };
        document.grids = vec![heads, spans];
        let rows = csv(&document);
        let rows: Vec<_> = rows.lines().skip(1).collect();
        assert_eq!(
            rows,
            [
                "z,denoising,0,0,,,,,2.0,0.0,0.5,0.25,0.0,1.0,1.0,12.5, TRUE,0.5",
                "z,denoising,0,1,,,,,3.0,0.5,0.5,0.25,0.5,1.0,1.0,12.5, TRUE,0.5",
                "z,denoising,1,0,,,,,,,0.5,0.25,,1.0,1.0,12.5, TRUE,0.5",
                "z,denoising,1,1,,,,,4.0,1.0,0.5,0.25,1.0,1.0,1.0,12.5, TRUE,0.5",
                // The other direction begins at the source and ends at the base.
                "attn_out,noising,0,,3,entity,t0,1103,4.0,0.0,,,,,,,,",
                "attn_out,noising,0,,4,entity,t1,104,3.0,0.5,,,,,,,,",
            ]
        );
    }
}
