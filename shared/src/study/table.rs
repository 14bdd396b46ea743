//! The single pairs' values as a table in long form, for R, pandas and spreadsheets.

use std::borrow::Cow;

use super::values::{self, METRICS, n_columns};
use super::{Study, StudyAxis};

/// The columns of [`Study::csv`], before the columns of the pairs' table.
pub const COLUMNS: [&str; 16] = [
    "id",
    "entity",
    "counts",
    "site",
    "direction",
    "window",
    "layer",
    "head",
    "from_end",
    "role",
    "span",
    "token",
    "effect",
    "logit_diff",
    "p_true",
    "p_false",
];

impl Study {
    /// About how many bytes [`Self::csv`] has at most.
    pub fn csv_size(&self) -> usize {
        // Numbers, words and commas beside the pairs' own texts.
        const OTHERS: usize = 200;
        let mut n_bytes: usize = 0;
        for pair in &self.pairs {
            let row: usize = pair.row.values().map(String::len).sum();
            let tokens = pair.base.tokens.iter().chain(&pair.source.tokens);
            let token = tokens.map(String::len).max().unwrap_or(0);
            let n_of_row = OTHERS + row + pair.entity.len() + token;
            for grid in &self.grids {
                let n_rows = n_columns(grid, pair).saturating_mul(grid.n_in_column());
                n_bytes = n_bytes.saturating_add(n_rows.saturating_mul(n_of_row));
            }
        }
        n_bytes
    }

    /// One row for each pair and cell as CSV (RFC 4180, UTF-8, lines end in `\n`), of the file of
    /// values `file`. `counts` says whether the pair counts; `layer` and `head` are from 0; `from_end`
    /// is the position counted from the end of the prompt that is patched, 1 its last; `effect` and
    /// `logit_diff` are in nats. What does not exist is empty. The table's own columns follow, with
    /// `row.` before their names.
    pub fn csv(&self, file: &[u8]) -> String {
        let mut table = csv::WriterBuilder::new().from_writer(Vec::new());
        self.rows(file, &mut |row| {
            let cells = row.iter().map(|cell| cell.as_bytes());
            table.write_record(cells).expect("memory takes it");
        });
        let bytes = table.into_inner().expect("memory takes it");
        String::from_utf8(bytes).expect("texts are UTF-8")
    }

    /// The rows of [`Self::csv`], the names of its columns first, a text for each column.
    pub fn rows(&self, file: &[u8], each: &mut dyn FnMut(&[Cow<str>])) {
        let names: std::collections::BTreeSet<_> =
            self.pairs.iter().flat_map(|pair| pair.row.keys()).collect();
        let own = names.iter().map(|name| format!("row.{name}"));
        let header = COLUMNS.iter().map(|name| Cow::from(*name)).chain(own.map(Cow::from));
        each(&header.collect::<Vec<_>>());
        for (at, grid) in self.grids.iter().enumerate() {
            let numbers = METRICS.map(|metric| {
                let place = self.values.as_ref()?;
                Some(values::numbers(place.of(&values::name(at, metric), file)?))
            });
            let n_heads = grid.axes.iter().find_map(|axis| match axis {
                StudyAxis::Head(heads) => Some(heads.len()),
                _ => None,
            });
            let n_in_column = grid.n_in_column();
            for (pair, columns) in self.pairs.iter().zip(self.columns(grid)) {
                let prompt = pair.of(grid.receiver);
                for (column, place) in columns.clone().enumerate() {
                    let (from_end, role, span, token) = match grid.axes.last() {
                        Some(StudyAxis::Role(_)) => (
                            (columns.len() - column).to_string(),
                            prompt.roles[column].to_string(),
                            String::new(),
                            prompt.tokens[column].clone(),
                        ),
                        Some(StudyAxis::Span(spans)) => {
                            (String::new(), String::new(), spans[column].to_string(), String::new())
                        }
                        _ => Default::default(),
                    };
                    for cell in 0..n_in_column {
                        let value = |metric: usize| {
                            let number = numbers[metric].as_ref()?.get(place * n_in_column + cell);
                            number.copied().filter(|number| number.is_finite())
                        };
                        let text =
                            |number: Option<f32>| number.map_or(String::new(), |n| n.to_string());
                        let effect = value(0).zip(prompt.logit_diff).map(|(v, base)| v - base);
                        let (layer, head) = match n_heads {
                            Some(n) => (cell / n, (cell % n).to_string()),
                            None => (cell, String::new()),
                        };
                        let mut row: Vec<Cow<str>> = vec![
                            (&pair.id).into(),
                            (&pair.entity).into(),
                            (if pair.left_out.is_none() { "true" } else { "false" }).into(),
                            grid.site.name().into(),
                            grid.direction.name().into(),
                            grid.window.to_string().into(),
                            layer.to_string().into(),
                            head.into(),
                            (&from_end).into(),
                            (&role).into(),
                            (&span).into(),
                            (&token).into(),
                            text(effect).into(),
                            text(value(0)).into(),
                            text(value(1)).into(),
                            text(value(2)).into(),
                        ];
                        let cell = |name: &&String| pair.row.get(*name).map_or("", |cell| cell);
                        row.extend(names.iter().map(|name| Cow::from(cell(name))));
                        each(&row);
                    }
                }
            }
        }
    }
}
