//! What the page says of one cell.

use shared::document::Document;
use shared::figure::text;
use shared::metric::Metric;
use shared::numbers;
use shared::stats;

use crate::cells::Cell;

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
    /// Reads a cell, which must be one of the document's.
    pub fn of(document: &Document, cell: Cell) -> Self {
        Self::with(document, cell, values(document, cell))
    }

    /// Reads a cell of two documents whose grids match, and the difference of a metric.
    pub fn difference(document: &Document, less: &Document, metric: Metric, cell: Cell) -> Self {
        let [second, first] = [document, less].map(|document| {
            metric.grid(document).ok().and_then(|grid| grid[cell.layer][cell.column])
        });
        let difference = second.zip(first).map(|(second, first)| second - first);
        let values = [("First", first), ("Second", second), ("Difference", difference)];
        let values = values.map(|(name, value)| (name.into(), numbers::value(metric, value)));
        Self::with(document, cell, values.to_vec())
    }

    fn with(document: &Document, cell: Cell, values: Vec<(String, String)>) -> Self {
        let Cell { layer, column } = cell;
        let position = document.sentence_start.saturating_add(column);
        let differs = |token: &&shared::document::Token| {
            document.base_tokens.get(position).is_none_or(|base| base.id != token.id)
        };
        Self {
            token: text::token(&document.token_labels[column]),
            source_token: document
                .source_token(column)
                .filter(differs)
                .map(|t| text::token(&t.text)),
            position,
            layer,
            values,
        }
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

/// The numbers of a cell.
fn values(document: &Document, cell: Cell) -> Vec<(String, String)> {
    let Cell { layer, column } = cell;
    let logit_diff = document.patching_results[layer][column];
    let baselines = document.baselines.as_ref();
    let recovery =
        baselines.and_then(|b| stats::recovery(logit_diff, b.base.logit_diff, b.source.logit_diff));
    let readout = document.readout.as_ref();
    let top = readout.and_then(|r| r.top_token_labels.get(&r.top_token[layer][column]?));
    let mut values = vec![
        ("Logit difference".into(), numbers::value(Metric::LogitDiff, logit_diff)),
        ("Recovery".into(), numbers::value(Metric::Recovery, recovery)),
    ];
    for (metric, grid) in
        [(Metric::PTrue, readout.map(|r| &r.p_true)), (Metric::PFalse, readout.map(|r| &r.p_false))]
    {
        let value = grid.and_then(|grid| grid[layer][column]);
        values.push((metric.title(document), numbers::probability(value)));
    }
    let top = top.map_or(numbers::NO_VALUE.to_string(), |top| text::token(top));
    values.push(("Top token".into(), top));
    values
}
