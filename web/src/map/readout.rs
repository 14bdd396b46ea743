//! What the page says of one cell.

use shared::document::{Answers, Document};
use shared::field::Field;
use shared::field::axis::{AxisKind, Coordinate, Mark};
use shared::field::chosen::Chosen;
use shared::field::key::{Cell, Key};
use shared::field::metric::Metric;
use shared::figure::text;
use shared::wire::numbers;

/// How many of the most probable tokens there is room for.
const MAX_TOP: usize = 5;

/// A cell in words and numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readout {
    /// What the column is: the token, spaces and line breaks made visible, or its name.
    pub name: String,
    /// The token whose activation is written, where it is another.
    pub from: Option<String>,
    /// Where it is: layer, head, position.
    pub place: Vec<String>,
    /// What else there is to say of the column.
    pub note: Option<String>,
    /// Name and value of every number, as they are shown.
    pub values: Vec<(String, String)>,
}

impl Readout {
    /// Reads the cell of a key; `None` where the grid has none.
    pub fn of(document: &Document, chosen: &Chosen, key: Key) -> Option<Self> {
        let cell = chosen.find(key)?;
        let (row, column) = marks(chosen.rows(), chosen.columns(), cell)?;
        let mut readout = Self::at(row, column, values(document, chosen, cell));
        readout.from = column
            .1
            .other
            .as_ref()
            .filter(|_| !column.1.is_same && chosen.writes_other_run(document))
            .map(|token| text::token(&token.text));
        readout.place.extend(chosen.what(document));
        if let Coordinate::Span(span) = key.column {
            readout.note = chosen.text_of(document, span).map(|tokens| text::token(&tokens));
        }
        Some(readout)
    }

    /// Reads the cell of a key in a field of which no more is known.
    pub fn of_field(field: &Field, key: Key) -> Option<Self> {
        let cell = field.find(key)?;
        let (row, column) = marks(&field.rows, &field.columns, cell)?;
        let value = field.values.get(cell.row, cell.column);
        let value = numbers::value(field.quantity.decimals, value);
        Some(Self::at(row, column, vec![(field.quantity.title.clone(), value)]))
    }

    /// Reads the cells of a key in two fields and their difference.
    pub fn difference(second: &Field, first: &Field, key: Key) -> Option<Self> {
        let values = [second, first].map(|field| field.get(key));
        let difference = values[0].zip(values[1]).map(|(second, first)| second - first);
        let values = [("First", values[1]), ("Second", values[0]), ("Difference", difference)];
        let decimals = second.quantity.decimals;
        let values = values.map(|(name, value)| (name.into(), numbers::value(decimals, value)));
        Some(Self { values: values.into(), ..Self::of_field(second, key)? })
    }

    fn at(
        (row_kind, row): (AxisKind, &Mark),
        (kind, column): (AxisKind, &Mark),
        values: Vec<(String, String)>,
    ) -> Self {
        let mut place = vec![format!("{} {}", row_kind.one(), row.text)];
        let name = match kind {
            AxisKind::Token => text::token(&column.text),
            AxisKind::Head | AxisKind::KeyHead => format!("{} {}", kind.one(), column.text),
            _ => column.text.clone(),
        };
        place.extend(column.position.map(|position| format!("position {position}")));
        Self { name, from: None, place, note: None, values }
    }

    /// The cell as a sentence, for those who listen.
    pub fn sentence(&self) -> String {
        let values: Vec<_> =
            self.values.iter().map(|(name, value)| format!("{name} {value}")).collect();
        format!("{}, {}: {}", self.place.join(", "), self.name, values.join(", "))
    }
}

type Named<'a> = (AxisKind, &'a Mark);

fn marks<'a>(
    rows: &'a shared::field::axis::Axis,
    columns: &'a shared::field::axis::Axis,
    cell: Cell,
) -> Option<(Named<'a>, Named<'a>)> {
    let row = (rows.kind, rows.marks.get(cell.row)?);
    Some((row, (columns.kind, columns.marks.get(cell.column)?)))
}

/// What the grid's own numbers are called. Of a file that does not name the answers nobody knows.
pub fn measured(answers: Option<&Answers>) -> &'static str {
    if answers.is_some() { "Logit difference" } else { "Metric (unknown)" }
}

/// The numbers of a cell.
fn values(document: &Document, chosen: &Chosen, cell: Cell) -> Vec<(String, String)> {
    let mut values = Vec::new();
    for &metric in Metric::ALL {
        // These stand there even where they are undefined; what a file cannot have does not.
        let is_usual = match metric {
            Metric::LogitDiff | Metric::PTrue | Metric::PFalse => true,
            Metric::Recovery => !chosen.is_lens(),
            Metric::Change | Metric::PTop => continue,
            _ => false,
        };
        if is_usual || chosen.holds(document, metric).is_ok() {
            let name = match metric {
                Metric::LogitDiff => measured(document.answers.as_ref()).to_string(),
                metric => metric.title(document.answers.as_ref(), chosen.prompt(document)),
            };
            let value = chosen.value(document, metric, cell);
            values.push((name, numbers::value(metric.decimals(), value)));
        }
    }
    let tops = chosen.top(document, cell);
    if tops.is_empty() {
        values.push(("Top token".into(), numbers::NO_VALUE.to_string()));
    }
    for (i, top) in tops.into_iter().take(MAX_TOP).enumerate() {
        let name = if i == 0 { "Top token".to_string() } else { format!("{}.", i + 1) };
        let mut token = document.token_text(top.id).map_or(numbers::NO_VALUE.into(), text::token);
        if let Some(p) = top.p {
            token = format!("{token}  {}", numbers::probability(Some(p)));
        }
        values.push((name, token));
    }
    values
}

#[cfg(test)]
mod tests {
    use shared::field::chosen::Choice;

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
        let chosen = |document| Chosen::of(document, Choice::default()).unwrap();
        let field = |document| chosen(document).field(document, Metric::LogitDiff).unwrap();
        let read = |key| {
            let difference = Readout::difference(&field(&large), &field(&small), key);
            let back = Readout::difference(&field(&small), &field(&large), key);
            let [large, small] =
                [&large, &small].map(|document| Readout::of(document, &chosen(document), key));
            [large, small, difference, back]
                .map(|readout| readout.map(|r| (r.name, r.values.last().unwrap().1.clone())))
        };
        let key = |layer, from_end| Key {
            row: Coordinate::Layer(layer),
            column: Coordinate::FromEnd(from_end),
        };
        let last = read(key(1, 1));
        let expected = [("c", "–"), ("x", "–"), ("c", "–"), ("x", "–")];
        assert_eq!(last, expected.map(|(a, b)| Some((a.to_string(), b.to_string()))));
        let first = read(key(3, 3));
        assert_eq!(first.map(|r| r.is_some()), [true, false, true, false]);
        let head = Key { row: Coordinate::Layer(0), column: Coordinate::Head(0) };
        for key in [key(4, 1), key(0, usize::MAX), head] {
            assert_eq!(read(key), [None, None, None, None]);
        }
    }
}
