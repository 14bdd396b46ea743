//! What a figure draws: a metric of a result, or the difference of two results.

use super::FigureError;
use crate::document::{Document, Grid};
use crate::metric::{Metric, MetricError};

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
        let shapes = [document, less].map(|d| (d.num_layers, d.token_labels.len()));
        if shapes[0] != shapes[1] {
            return Err(FigureError::Shapes(shapes));
        }
        let rows = metric.grid(document)?.into_iter().zip(metric.grid(less)?);
        let grid = rows.map(|(row, less)| {
            row.into_iter().zip(less).map(|(value, less)| Some(value? - less?)).collect()
        });
        let titles = [document, less].map(|d| metric.title(d));
        let title = if titles[0] == titles[1] {
            format!("Difference of {}", titles[0])
        } else {
            format!("{} less {}", titles[0], titles[1])
        };
        // Where one of them does not say, the difference has no unit that is known.
        let unit = metric.unit(document).and(metric.unit(less));
        Ok(Self { grid: grid.collect(), centre: 0.0, title: with_unit(title, unit) })
    }
}

fn with_unit(title: String, unit: Option<&str>) -> String {
    match unit {
        Some(unit) => format!("{title} ({unit})"),
        None => title,
    }
}
