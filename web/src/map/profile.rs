//! Rows and columns of a map, as the profiles show them.

use std::sync::Arc;

use shared::field::axis::{Axis, AxisKind};
use shared::field::key::Cell;
use shared::figure::text;
use shared::statistics;

use crate::map::chart::Profile;
use crate::map::picture::Picture;

/// The values that profiles are cut from.
pub struct Lines {
    picture: Arc<Picture>,
    range: (f32, f32),
}

impl Lines {
    /// `None` where there is no value.
    pub fn of(picture: Arc<Picture>) -> Option<Self> {
        let range = statistics::range(picture.field.values.of_columns(&picture.columns))?;
        Some(Self { picture, range })
    }

    /// The row through a cell, or with `over_rows` its column.
    pub fn profile(&self, cell: Cell, over_rows: bool) -> Option<Profile> {
        let Picture { field, columns } = &*self.picture;
        let shown = columns.binary_search(&cell.column).ok()?;
        let end = |axis: &Axis, at: usize| {
            let mark = axis.marks.get(at)?;
            Some(if axis.kind == AxisKind::Token {
                text::token(&mark.text)
            } else {
                mark.text.clone()
            })
        };
        let (values, at, ends) = if over_rows {
            let rows = 0..field.rows.len();
            let ends = (end(&field.rows, 0)?, end(&field.rows, field.rows.len() - 1)?);
            (rows.map(|row| field.values.get(row, cell.column)).collect(), cell.row, ends)
        } else {
            let of = &field.columns;
            let values = columns.iter().map(|column| field.values.get(cell.row, *column)).collect();
            (values, shown, (end(of, *columns.first()?)?, end(of, *columns.last()?)?))
        };
        let of_run = |name| {
            let references = &field.quantity.references;
            references.iter().find(|run| run.name == name).map(|run| run.value)
        };
        Some(Profile {
            values,
            at,
            ends,
            references: [of_run("source"), of_run("base")],
            range: self.range,
            decimals: field.quantity.decimals,
        })
    }
}
