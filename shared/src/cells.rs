//! A result as a table in long form, one row per cell, for R, pandas and spreadsheets.

use crate::document::Document;
use crate::metric::Metric;

/// The columns of [`csv()`].
pub const COLUMNS: [&str; 9] = [
    "layer",
    "position",
    "token",
    "token_id",
    "logit_diff",
    "p_true",
    "p_false",
    "recovery",
    "top_token",
];

/// The cells as CSV (RFC 4180, UTF-8, lines end in `\n`), layer by layer.
///
/// `layer` counts from 0; `position` is the base position; `token` and `top_token` are texts as
/// the tokenizer has them, leading space included; `logit_diff` is in nats, the others have no
/// unit. Where the document does not say what was measured, the column is `metric_unknown` instead
/// of `logit_diff`. A number has as many digits as it takes to read the same `f32` back. What is missing or
/// undefined is empty. Nothing is escaped beyond CSV's quotes: a token `=1+1` stays `=1+1`.
pub fn csv(document: &Document) -> String {
    let recovery = Metric::Recovery.grid(document).ok();
    let readout = document.readout.as_ref();
    let mut columns = COLUMNS;
    if document.answers.is_none() {
        columns[4] = "metric_unknown";
    }
    let mut csv = columns.join(",") + "\n";
    for layer in 0..document.num_layers {
        for (column, label) in document.token_labels.iter().enumerate() {
            let position = document.sentence_start.saturating_add(column);
            let top_token =
                readout.and_then(|r| r.top_token_labels.get(&r.top_token.get(layer, column)?));
            let cells = [
                layer.to_string(),
                position.to_string(),
                quoted(label),
                document.base_tokens.get(position).map(|t| t.id.to_string()).unwrap_or_default(),
                number(document.patching_results.get(layer, column)),
                number(readout.and_then(|r| r.p_true.get(layer, column))),
                number(readout.and_then(|r| r.p_false.get(layer, column))),
                number(recovery.as_ref().and_then(|r| r.get(layer, column))),
                quoted(top_token.map_or("", String::as_str)),
            ];
            csv += &cells.join(",");
            csv.push('\n');
        }
    }
    csv
}

/// A text as a field. The csv crate's writer can tell numbers from texts, for which it brings the
/// standard library's table of powers of ten: a thirtieth of the viewer, which a page that is
/// loaded over a network need not have.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_string()
    }
}

fn number(value: Option<f32>) -> String {
    // `{:?}` is the shortest text that reads back, with an exponent for the very small and large.
    value.filter(|v| v.is_finite()).map(|v| format!("{v:?}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{answers, baselines, document, readout, with_tokens};

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
            "layer,position,token,token_id,logit_diff,p_true,p_false,recovery,top_token\n\
             0,3,\" \"\"quoted\"\"\",103,1.0,0.0,1.0,-0.5, TRUE\n\
             0,4,\"a,b\",104,0.1,0.1,0.9,-0.95, TRUE\n\
             0,5,\"line\nbreak\",105,,0.2,0.8,, TRUE\n\
             0,6,=1+1,106,1e-9,0.3,0.7,-1.0, TRUE\n\
             1,3,\" \"\"quoted\"\"\",103,-2.5,0.4,0.6,-2.25, TRUE\n\
             1,4,\"a,b\",104,,0.5,0.5,, TRUE\n\
             1,5,\"line\nbreak\",105,3.0,0.6,0.4,0.5, TRUE\n\
             1,6,=1+1,106,4.0,0.7,0.3,1.0, TRUE\n"
        );
    }

    #[test]
    fn what_a_file_does_not_say_is_empty_or_unknown() {
        assert_eq!(
            csv(&document(&[&[Some(1.5)]])),
            "layer,position,token,token_id,metric_unknown,p_true,p_false,recovery,top_token\n\
             0,3,t0,,1.5,,,,\n"
        );
    }
}
