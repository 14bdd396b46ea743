//! What the page says of one cell.

use shared::document::Document;
use shared::field::key::{Cell, Key};
use shared::field::metric::Metric;
use shared::figure::text;
use shared::statistics;
use shared::wire::numbers;

/// A cell in words and numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readout {
    /// The base's token, spaces and line breaks made visible.
    pub token: String,
    /// The source's token, where it is another.
    pub source_token: Option<String>,
    /// The base position.
    pub position: usize,
    /// The layer.
    pub layer: usize,
    /// Name and value of every number, as they are shown.
    pub values: Vec<(String, String)>,
}

impl Readout {
    /// Reads the cell of a key; `None` where the document has none.
    pub fn of(document: &Document, key: Key) -> Option<Self> {
        let cell = key.find(document)?;
        Self::with(document, cell, values(document, cell))
    }

    /// Reads the cells of a key in two documents, and the difference of a metric.
    pub fn difference(
        document: &Document,
        less: &Document,
        metric: Metric,
        key: Key,
    ) -> Option<Self> {
        let [second, first] = [document, less].map(|document| {
            let cell = key.find(document)?;
            metric.grid(document).ok()?.get(cell.layer, cell.column)
        });
        let difference = second.zip(first).map(|(second, first)| second - first);
        let values = [("First", first), ("Second", second), ("Difference", difference)];
        let values = values.map(|(name, value)| (name.into(), numbers::value(metric, value)));
        Self::with(document, key.find(document)?, values.to_vec())
    }

    fn with(document: &Document, cell: Cell, values: Vec<(String, String)>) -> Option<Self> {
        let Cell { layer, column } = cell;
        let position = document.sentence_start.saturating_add(column);
        let differs = |token: &&shared::document::Token| {
            document.base_tokens.get(position).is_none_or(|base| base.id != token.id)
        };
        Some(Self {
            token: text::token(document.token_labels.get(column)?),
            source_token: document
                .source_token(column)
                .filter(differs)
                .map(|t| text::token(&t.text)),
            position,
            layer,
            values,
        })
    }

    /// The cell as a sentence, for those who listen.
    pub fn sentence(&self) -> String {
        let values: Vec<_> =
            self.values.iter().map(|(name, value)| format!("{name} {value}")).collect();
        format!(
            "Layer {}, position {}, token {}: {}",
            self.layer,
            self.position,
            self.token,
            values.join(", ")
        )
    }
}

/// What the grid's own numbers are called. Of a file that does not name the answers nobody knows.
pub fn measured(document: &Document) -> &'static str {
    if document.answers.is_some() { "Logit difference" } else { "Metric (unknown)" }
}

/// The numbers of a cell.
fn values(document: &Document, cell: Cell) -> Vec<(String, String)> {
    let Cell { layer, column } = cell;
    let logit_diff = document.patching_results.get(layer, column);
    let baselines = document.baselines.as_ref();
    let recovery = baselines
        .and_then(|b| statistics::recovery(logit_diff, b.base.logit_diff, b.source.logit_diff));
    let readout = document.readout.as_ref();
    let top = readout.and_then(|r| r.top_token_labels.get(&r.top_token.get(layer, column)?));
    let mut values = vec![
        (measured(document).into(), numbers::value(Metric::LogitDiff, logit_diff)),
        ("Recovery".into(), numbers::value(Metric::Recovery, recovery)),
    ];
    for (metric, grid) in
        [(Metric::PTrue, readout.map(|r| &r.p_true)), (Metric::PFalse, readout.map(|r| &r.p_false))]
    {
        let value = grid.and_then(|grid| grid.get(layer, column));
        values.push((metric.title(document), numbers::probability(value)));
    }
    let top = top.map_or(numbers::NO_VALUE.to_string(), |top| text::token(top));
    values.push(("Top token".into(), top));
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_another_document_reads_the_cell_that_corresponds_or_none() {
        let document = |n_layers: usize, labels: &[&str]| {
            let labels = labels.iter().map(ToString::to_string).collect();
            let mut document = Document::blank(n_layers, labels);
            let last = document.token_labels.len() - 1;
            document.patching_results.set(n_layers - 1, last, Some(n_layers as f32));
            document
        };
        let (small, large) = (document(2, &["x"]), document(4, &["a", "b", "c"]));
        let metric = Metric::LogitDiff;
        let read = |key| {
            let difference = Readout::difference(&large, &small, metric, key);
            let back = Readout::difference(&small, &large, metric, key);
            [Readout::of(&large, key), Readout::of(&small, key), difference, back]
                .map(|readout| readout.map(|r| (r.token, r.values.last().unwrap().1.clone())))
        };
        let last = read(Key { layer: 1, from_end: 1 });
        let expected = [("c", "–"), ("x", "–"), ("c", "–"), ("x", "–")];
        assert_eq!(last, expected.map(|(a, b)| Some((a.to_string(), b.to_string()))));
        let first = read(Key { layer: 3, from_end: 3 });
        assert_eq!(first.map(|r| r.is_some()), [true, false, true, false]);
        for key in [Key { layer: 4, from_end: 1 }, Key { layer: 0, from_end: usize::MAX }] {
            assert_eq!(read(key), [None, None, None, None]);
        }
    }
}
