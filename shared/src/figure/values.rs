//! What a figure draws: a metric of a result, or the difference of two results.

use super::FigureError;
use crate::document::{Document, Grid};
use crate::field::key::{Cell, Key};
use crate::field::metric::{Metric, MetricError};

/// Numbers to draw.
#[derive(Debug, Clone)]
pub(super) struct Values {
    /// `[layer][column]`
    pub grid: Grid<f32>,
    /// Where a diverging scale has its middle.
    pub centre: f32,
    /// What they are, with the unit.
    pub title: String,
}

impl Values {
    /// A metric of `document`.
    pub fn of(document: &Document, metric: Metric) -> Result<Self, MetricError> {
        Ok(Self {
            grid: metric.grid(document)?,
            centre: metric.base_value(document),
            title: with_unit(metric.title(document), metric.unit(document)),
        })
    }

    /// The same less that of `less`, cell by cell.
    pub fn difference(
        document: &Document,
        less: &Document,
        metric: Metric,
    ) -> Result<Self, FigureError> {
        let n_layers = [document, less].map(|document| document.num_layers);
        if n_layers[0] != n_layers[1] {
            return Err(FigureError::Layers(n_layers));
        }
        let (mut grid, subtracted) = (metric.grid(document)?, metric.grid(less)?);
        for layer in 0..document.num_layers {
            for column in 0..document.token_labels.len() {
                let there = Key::of(document, Cell { layer, column }).and_then(|k| k.find(less));
                let less = there.and_then(|cell| subtracted.get(cell.layer, cell.column));
                let value = grid.get(layer, column).zip(less).map(|(value, less)| value - less);
                grid.set(layer, column, value);
            }
        }
        let titles = [document, less].map(|d| metric.title(d));
        let title = if titles[0] == titles[1] {
            format!("Difference of {}", titles[0])
        } else {
            format!("{} less {}", titles[0], titles[1])
        };
        // Where one of them does not say, the difference has no unit that is known.
        let unit = metric.unit(document).and(metric.unit(less));
        Ok(Self { grid, centre: 0.0, title: with_unit(title, unit) })
    }
}

fn with_unit(title: String, unit: Option<&str>) -> String {
    match unit {
        Some(unit) => format!("{title} ({unit})"),
        None => title,
    }
}
