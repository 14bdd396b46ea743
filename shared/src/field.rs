//! Numbers over two axes: what a map shows, wherever they come from, and which cells of two of them
//! correspond.

pub mod axis;
pub mod cells;
pub mod chosen;
pub mod key;
pub mod metric;

use self::axis::{Axis, AxisKind};
use self::chosen::{Choice, ChoiceError, Chosen};
use self::key::{Cell, Key};
use self::metric::{Metric, MetricError};
use crate::document::Document;
use crate::grid::Grid;

/// A value of an unpatched run to hold the cells against.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reference {
    /// Which run.
    pub name: &'static str,
    /// Its value.
    pub value: f32,
}

/// What numbers are.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantity {
    /// In a reader's words.
    pub title: String,
    /// The unit, where there is one.
    pub unit: Option<&'static str>,
    /// Where a diverging colour scale has its middle.
    pub centre: f32,
    /// Whether they are ranks, of which 1 is the best: colours are laid over their logarithms.
    pub is_rank: bool,
    /// How many decimals are written.
    pub decimals: usize,
    /// The same of the unpatched runs.
    pub references: Vec<Reference>,
}

/// Numbers over two axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// What varies from row to row.
    pub rows: Axis,
    /// What varies from column to column.
    pub columns: Axis,
    /// `[row][column]`; finite or `None`.
    pub values: Grid<f32>,
    /// What they are.
    pub quantity: Quantity,
}

/// Why there is no field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// The document has no such grid.
    #[error(transparent)]
    Choice(#[from] ChoiceError),
    /// The document does not hold the metric.
    #[error(transparent)]
    Metric(#[from] MetricError),
    /// Models of different depth, whose layers do not correspond.
    #[error("the grids do not match: {} layers and {}", .0[0], .0[1])]
    Layers([usize; 2]),
    /// Cells of different kinds.
    #[error("the grids do not match: {} by {}, and {} by {}", .0[0], .0[1], .1[0], .1[1])]
    Axes([&'static str; 2], [&'static str; 2]),
}

impl Field {
    /// The metric in a grid of a document.
    ///
    /// # Errors
    /// [`FieldError`] where the document has no such grid or does not hold the metric.
    pub fn of(document: &Document, choice: Choice, metric: Metric) -> Result<Self, FieldError> {
        Ok(Chosen::of(document, choice)?.field(document, metric)?)
    }

    /// These values less those of `less` in the cells that correspond; where there is none, there is
    /// no value.
    ///
    /// # Errors
    /// [`FieldError`] where no two cells can correspond.
    pub fn difference(&self, less: &Self) -> Result<Self, FieldError> {
        let kinds = |field: &Self| [field.rows.kind, field.columns.kind];
        if kinds(self) != kinds(less) {
            let names = |field| kinds(field).map(AxisKind::many);
            return Err(FieldError::Axes(names(self), names(less)));
        }
        for (own, other) in [(&self.rows, &less.rows), (&self.columns, &less.columns)] {
            if own.kind == AxisKind::Layer && own.len() != other.len() {
                return Err(FieldError::Layers([own.len(), other.len()]));
            }
        }
        let mut values = self.values.clone();
        let columns: Vec<_> =
            self.columns.marks.iter().map(|mark| less.columns.find(mark.key)).collect();
        for (row, mark) in self.rows.marks.iter().enumerate() {
            let other_row = less.rows.find(mark.key);
            for (column, other_column) in columns.iter().enumerate() {
                let other = other_row.zip(*other_column);
                let other = other.and_then(|(row, column)| less.values.get(row, column));
                let value = self.values.get(row, column).zip(other).map(|(own, less)| own - less);
                values.set(row, column, value.filter(|value| value.is_finite()));
            }
        }
        let titles = [self, less].map(|field| &field.quantity.title);
        let title = if titles[0] == titles[1] {
            format!("Difference of {}", titles[0])
        } else {
            format!("{} less {}", titles[0], titles[1])
        };
        let quantity = Quantity {
            title,
            // Where one of them does not say, the difference has no unit that is known.
            unit: self.quantity.unit.and(less.quantity.unit),
            centre: 0.0,
            is_rank: false,
            decimals: self.quantity.decimals,
            references: Vec::new(),
        };
        Ok(Self { rows: self.rows.clone(), columns: self.columns.clone(), values, quantity })
    }

    /// The key of a cell; `None` where there is no such cell.
    pub fn key(&self, cell: Cell) -> Option<Key> {
        Some(Key { row: self.rows.key(cell.row)?, column: self.columns.key(cell.column)? })
    }

    /// The cell of a key; `None` where there is none such.
    pub fn find(&self, key: Key) -> Option<Cell> {
        Some(Cell { row: self.rows.find(key.row)?, column: self.columns.find(key.column)? })
    }

    /// The value of a key.
    pub fn get(&self, key: Key) -> Option<f32> {
        let Cell { row, column } = self.find(key)?;
        self.values.get(row, column)
    }
}

impl Quantity {
    /// The title with the unit.
    pub fn title_with_unit(&self) -> String {
        match self.unit {
            Some(unit) => format!("{} ({unit})", self.title),
            None => self.title.clone(),
        }
    }
}

impl Chosen {
    /// A metric of this grid.
    ///
    /// # Errors
    /// [`MetricError`] where the document lacks what the metric is made of.
    pub fn field(&self, document: &Document, metric: Metric) -> Result<Field, MetricError> {
        Ok(Field {
            values: self.values(document, metric)?,
            quantity: self.quantity(document, metric),
            rows: self.rows().clone(),
            columns: self.columns().clone(),
        })
    }
}

#[cfg(test)]
mod tests;
