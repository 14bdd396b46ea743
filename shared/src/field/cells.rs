//! A result as a table in long form, one row per cell, for R, pandas and spreadsheets.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::document::{CellGrid, Document, LensGrid, Place, Prompt, TopToken};
use crate::field::chosen::{Choice, ChoiceError, Chosen, GridName, Lists};
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
///
/// # Errors
/// [`TableError::Large`].
pub fn csv(document: &Document) -> Result<String, TableError> {
    let mut text = String::new();
    rows(document, &mut |row| line(&mut text, row))?;
    Ok(text)
}

/// The rows of [`csv()`], the names of its columns first, a text for each column.
///
/// # Errors
/// [`TableError::Large`].
pub fn rows(document: &Document, each: &mut dyn FnMut(&[Cow<str>])) -> Result<(), TableError> {
    let n_cells = match &document.grids[..] {
        [] => n_flat(document),
        grids => grids.iter().map(|grid| grid.logit_diff.len()).sum(),
    };
    let mut table = Table::new(document, n_cells, each)?;
    if document.grids.is_empty() {
        table.flat();
    }
    document.grids.iter().for_each(|grid| table.grid(grid));
    Ok(())
}

/// The same of one grid, of three axes all. `site` is `lens` for the logit lens, and `direction` then
/// says of which run; its `position` and `token` are that run's.
///
/// # Errors
/// [`TableError`].
pub fn csv_of(document: &Document, name: Option<GridName>) -> Result<String, TableError> {
    let chosen = Chosen::of(document, Choice { grid: name, at: None })?;
    let lists = chosen.lists(document);
    let n_cells = match lists {
        Lists::Flat(_) => n_flat(document),
        Lists::Grid(grid) => grid.logit_diff.len(),
        Lists::Lens(lens) => lens.logit_diff.len(),
    };
    let mut text = String::new();
    let each = &mut |row: &[Cow<str>]| line(&mut text, row);
    let mut table = Table::new(document, n_cells, each)?;
    match lists {
        Lists::Flat(_) => table.flat(),
        Lists::Grid(grid) => table.grid(grid),
        Lists::Lens(lens) => table.lens(lens, chosen.prompt(document)),
    }
    Ok(text)
}

/// Why there is no table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// The document has no such grid.
    #[error(transparent)]
    Choice(#[from] ChoiceError),
    /// More than a gigabyte.
    #[error(
        "the table might have {} MB, since the longest token has {longest} bytes and tokens are there \
         once a cell: export the document as JSON",
        .n_bytes / 1_000_000
    )]
    Large {
        /// The bytes of the table, at most.
        n_bytes: usize,
        /// Those of the longest token.
        longest: usize,
    },
}

/// The most bytes of a table, beyond which token texts are no tokens' or the document should not be
/// a table.
const MAX_BYTES: usize = 1 << 30;

/// The cells of the notebook's grid.
fn n_flat(document: &Document) -> usize {
    document.num_layers.saturating_mul(document.token_labels.len())
}

/// About how many bytes the rows of `n_cells` cells have at most, and those of the longest token in
/// them. A token's text is in every cell whose token it is.
fn size(document: &Document, n_cells: usize) -> (usize, usize) {
    let (mut label, mut said) = (0, 0);
    for text in &document.token_labels {
        label = label.max(text.len());
    }
    for token in document.source_tokens.iter().chain(&document.base_tokens) {
        label = label.max(token.text.len());
    }
    let labels = document.readout.as_ref().map(|readout| &readout.top_token_labels);
    for text in labels.into_iter().chain([&document.token_texts]).flat_map(BTreeMap::values) {
        said = said.max(text.len());
    }
    // Numbers and commas beside the two texts.
    (n_cells.saturating_mul(label + said + 200), label.max(said))
}

/// A table that is handed out row by row.
struct Table<'a, 'b> {
    document: &'a Document,
    each: &'b mut dyn FnMut(&[Cow<str>]),
}

/// What a row says beside its place.
#[derive(Default)]
struct Values<'a> {
    logit_diff: Option<f32>,
    recovery: Option<f32>,
    p_true: Option<f32>,
    p_false: Option<f32>,
    kl_base: Option<f32>,
    kl_source: Option<f32>,
    rank_true: Option<f32>,
    rank_false: Option<f32>,
    top_token: Option<&'a str>,
    p_top: Option<f32>,
}

impl<'a, 'b> Table<'a, 'b> {
    /// Hands out the heading of a table of `n_cells` rows, unless they would be too large.
    fn new(
        document: &'a Document,
        n_cells: usize,
        each: &'b mut dyn FnMut(&[Cow<str>]),
    ) -> Result<Self, TableError> {
        let (n_bytes, longest) = size(document, n_cells);
        if n_bytes > MAX_BYTES {
            return Err(TableError::Large { n_bytes, longest });
        }
        let mut columns = COLUMNS;
        if document.answers.is_none() {
            columns[8] = "metric_unknown";
        }
        each(&columns.map(Cow::from));
        Ok(Self { document, each })
    }

    fn row(
        &mut self,
        [site, direction]: [&str; 2],
        place: Place,
        token: [Cow<str>; 2],
        values: Values,
    ) {
        let Place { layer, head, position, span } = place;
        let [token, token_id] = token;
        let cells: [Cow<str>; COLUMNS.len()] = [
            site.into(),
            direction.into(),
            count(Some(layer)),
            count(head),
            count(position),
            span.map_or("", |span| span.name()).into(),
            token,
            token_id,
            number(values.logit_diff),
            number(values.recovery),
            number(values.p_true),
            number(values.p_false),
            number(values.kl_base),
            number(values.kl_source),
            number(values.rank_true),
            number(values.rank_false),
            values.top_token.unwrap_or_default().into(),
            number(values.p_top),
        ];
        (self.each)(&cells);
    }

    /// The token at a place.
    fn token(&self, prompt: Prompt, place: Place) -> [Cow<'a, str>; 2] {
        let token = place.position.and_then(|at| prompt.tokens(self.document).get(at));
        [token.map_or("", |token| &token.text).into(), count(token.map(|token| token.id))]
    }

    fn top(&self, tops: &[TopToken]) -> (Option<&'a str>, Option<f32>) {
        let first = tops.first();
        (first.and_then(|top| self.document.token_text(top.id)), first.and_then(|top| top.p))
    }

    /// The rows of one grid.
    fn grid(&mut self, grid: &CellGrid) {
        let recovery = grid.recovery(self.document);
        let prompt = grid.receiver(self.document);
        let names = [grid.site.name(), grid.direction.name()];
        for (cell, place) in grid.places().into_iter().enumerate() {
            let of = |list: &Option<Vec<Option<f32>>>| list.as_ref().and_then(|list| list[cell]);
            let tops = grid.top.as_ref().and_then(|tops| tops[cell].as_deref());
            let (top_token, p_top) = self.top(tops.unwrap_or_default());
            let values = Values {
                logit_diff: grid.logit_diff[cell],
                recovery: recovery[cell],
                p_true: of(&grid.p_true),
                p_false: of(&grid.p_false),
                kl_base: of(&grid.kl_base),
                kl_source: of(&grid.kl_source),
                rank_true: of(&grid.rank_true),
                rank_false: of(&grid.rank_false),
                top_token,
                p_top,
            };
            self.row(names, place, self.token(prompt, place), values);
        }
    }

    /// The rows of the logit lens of a run.
    fn lens(&mut self, lens: &LensGrid, prompt: Prompt) {
        for (cell, place) in lens.places().into_iter().enumerate() {
            let (top_token, p_top) = self.top(lens.top[cell].as_deref().unwrap_or_default());
            let values = Values {
                logit_diff: lens.logit_diff[cell],
                p_true: lens.p_true[cell],
                p_false: lens.p_false[cell],
                top_token,
                p_top,
                ..Values::default()
            };
            self.row(["lens", prompt.name()], place, self.token(prompt, place), values);
        }
    }

    /// The rows of a document that has one grid and no more than the notebook's axes.
    fn flat(&mut self) {
        let document = self.document;
        let chosen = Chosen::of(document, Choice::default()).ok();
        let recovery = chosen.and_then(|chosen| chosen.values(document, Metric::Recovery).ok());
        let readout = document.readout.as_ref();
        let names = [
            document.site.map_or("", |site| site.name()),
            document.direction.map_or("", |direction| direction.name()),
        ];
        for layer in 0..document.num_layers {
            for (column, label) in document.token_labels.iter().enumerate() {
                let position = document.sentence_start.saturating_add(column);
                let top = readout.and_then(|readout| readout.top_token.get(layer, column));
                let id = document.base_tokens.get(position).map(|token| token.id);
                let values = Values {
                    logit_diff: document.patching_results.get(layer, column),
                    recovery: recovery.as_ref().and_then(|r| r.get(layer, column)),
                    p_true: readout.and_then(|r| r.p_true.get(layer, column)),
                    p_false: readout.and_then(|r| r.p_false.get(layer, column)),
                    top_token: top.and_then(|id| document.token_text(id)),
                    ..Values::default()
                };
                let place = Place { layer, position: Some(position), ..Place::default() };
                self.row(names, place, [label.into(), count(id)], values);
            }
        }
    }
}

/// Adds a row to a text.
fn line(text: &mut String, row: &[Cow<str>]) {
    for (at, cell) in row.iter().enumerate() {
        text.push_str(if at == 0 { "" } else { "," });
        text.push_str(&quoted(cell));
    }
    text.push('\n');
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
    use crate::document::AxisKeys;
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
            csv(&full).unwrap(),
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
            csv(&document(&[&[Some(1.5)]])).unwrap(),
            "site,direction,layer,head,position,span,token,token_id,metric_unknown,recovery,p_true,\
             p_false,kl_base,kl_source,rank_true,rank_false,top_token,p_top\n\
             ,,0,,3,,t0,,1.5,,,,,,,,,\n"
        );
    }

    #[test]
    fn a_table_that_would_be_huge_is_refused() {
        let huge = |n_bytes: usize, longest| TableError::Large { n_bytes, longest };
        let mut document = ramp(50, 40);
        assert!(csv(&document).is_ok());
        document.token_labels[3] = "x".repeat(1 << 20);
        let n_bytes = 50 * 40 * ((1 << 20) + 200);
        for made in [csv(&document), csv_of(&document, None)] {
            assert_eq!(made, Err(huge(n_bytes, 1 << 20)));
        }
        // Of one grid, its own cells count.
        let mut document = with_tokens(ramp(50, 40), &[]);
        document.base_tokens[5].text = "x".repeat(1 << 20);
        let n = document.base_tokens.len();
        let layers = |n| AxisKeys::Layer((0..n).collect());
        let lens = |n_layers: usize| LensGrid {
            run: Prompt::Base,
            axes: vec![layers(n_layers), AxisKeys::Position((0..n).collect())],
            logit_diff: vec![None; n_layers * n],
            p_true: vec![None; n_layers * n],
            p_false: vec![None; n_layers * n],
            top: vec![None; n_layers * n],
        };
        let name = Some(GridName::Lens(Prompt::Base));
        document.lens = vec![lens(1)];
        assert!(csv_of(&document, name).is_ok() && csv(&document).is_err());
        document.lens = vec![lens(50)];
        assert!(matches!(csv_of(&document, name), Err(TableError::Large { .. })));
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
        let axes = vec![
            AxisKeys::Layer(vec![0]),
            AxisKeys::Span(vec![Span::Entity]),
            AxisKeys::Position(vec![3, 4]),
        ];
        let values = vec![Some(4.0), Some(3.0)];
        let spans = CellGrid::of_logit_diffs(Site::AttnOut, Direction::Noising, axes, values);
        document.grids = vec![heads, spans];
        let rows = csv(&document).unwrap();
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
