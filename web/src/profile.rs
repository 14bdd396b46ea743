//! Rows and columns of a grid, as the profiles show them.

use shared::document::Document;
use shared::field::key::Cell;
use shared::field::metric::Metric;
use shared::figure::{FigureOptions, text};
use shared::grid::Grid;
use shared::statistics;

use crate::chart::Profile;

/// The values that profiles are cut from.
pub struct Lines {
    metric: Metric,
    grid: Grid<f32>,
    columns: Vec<usize>,
    range: (f32, f32),
}

impl Lines {
    /// `None` where the document lacks the metric.
    pub fn of(document: &Document, options: &FigureOptions) -> Option<Self> {
        let metric = options.metric;
        let columns = options.columns(document);
        let grid = metric.grid(document).ok()?;
        let range = statistics::range(grid.of_columns(&columns))?;
        Some(Self { metric, grid, columns, range })
    }

    /// The row or column of the grid through a cell.
    pub fn profile(&self, document: &Document, cell: Cell, over_layers: bool) -> Option<Profile> {
        let Self { metric, ref grid, ref columns, range } = *self;
        let shown = columns.binary_search(&cell.column).ok()?;
        let baselines = document.baselines.as_ref();
        let references = [baselines.map(|b| &b.source), baselines.map(|b| &b.base)].map(|run| {
            let (run, base) = (run?, &baselines?.base);
            match metric {
                Metric::LogitDiff => run.logit_diff,
                Metric::PTrue => run.p_true,
                Metric::PFalse => run.p_false,
                Metric::Change => Some(run.logit_diff? - base.logit_diff?),
                Metric::Recovery => Some(if std::ptr::eq(run, base) { 0.0 } else { 1.0 }),
            }
        });
        let (values, at, ends) = if over_layers {
            let values = (0..grid.n_rows()).map(|layer| grid.get(layer, cell.column)).collect();
            (values, cell.layer, ("0".into(), (document.num_layers - 1).to_string()))
        } else {
            let label =
                |column: &usize| document.token_labels.get(*column).map(|label| text::token(label));
            let values = columns.iter().map(|column| grid.get(cell.layer, *column)).collect();
            (values, shown, (label(columns.first()?)?, label(columns.last()?)?))
        };
        Some(Profile { values, at, ends, references, range, metric })
    }
}
