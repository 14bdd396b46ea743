//! One value for each cell, looked up and never indexed: what asks may have been made for another
//! document.

use serde::{Deserialize, Serialize};

/// A grid of one value per cell, `[row][column]`; `None` where there is no value. In JSON it is a
/// list of rows.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Grid<T> {
    rows: Vec<Vec<Option<T>>>,
}

impl<T: Copy> Grid<T> {
    /// A grid without values.
    pub fn blank(n_rows: usize, n_columns: usize) -> Self {
        Self { rows: vec![vec![None; n_columns]; n_rows] }
    }

    /// A grid whose cells are listed row by row; what does not fill a row is a shorter one.
    pub fn of_cells(cells: &[Option<T>], n_columns: usize) -> Self {
        cells.chunks(n_columns.max(1)).map(<[_]>::to_vec).collect()
    }

    /// The value of a cell; `None` where there is none, and where there is no such cell.
    pub fn get(&self, row: usize, column: usize) -> Option<T> {
        *self.rows.get(row)?.get(column)?
    }

    /// Writes a cell. Outside of the grid nothing is written.
    pub fn set(&mut self, row: usize, column: usize, value: Option<T>) {
        if let Some(cell) = self.rows.get_mut(row).and_then(|row| row.get_mut(column)) {
            *cell = value;
        }
    }

    /// How many rows there are.
    pub fn n_rows(&self) -> usize {
        self.rows.len()
    }

    /// The rows.
    pub fn rows(&self) -> impl Iterator<Item = &[Option<T>]> {
        self.rows.iter().map(Vec::as_slice)
    }

    /// All cells, row by row.
    pub fn cells(&self) -> impl Iterator<Item = Option<T>> + '_ {
        self.rows.iter().flatten().copied()
    }

    /// The cells of some columns, row by row.
    pub fn of_columns<'a>(&'a self, columns: &'a [usize]) -> impl Iterator<Item = Option<T>> + 'a {
        let row = |row: &'a Vec<Option<T>>| columns.iter().map(|c| row.get(*c).copied().flatten());
        self.rows.iter().flat_map(row)
    }

    /// The same cells with other values.
    pub fn map<U>(&self, f: impl Fn(T) -> Option<U>) -> Grid<U> {
        let row = |row: &Vec<Option<T>>| row.iter().map(|value| f((*value)?)).collect();
        Grid { rows: self.rows.iter().map(row).collect() }
    }
}

impl<T> FromIterator<Vec<Option<T>>> for Grid<T> {
    fn from_iter<I: IntoIterator<Item = Vec<Option<T>>>>(rows: I) -> Self {
        Self { rows: rows.into_iter().collect() }
    }
}

impl<T> From<Vec<Vec<Option<T>>>> for Grid<T> {
    fn from(rows: Vec<Vec<Option<T>>>) -> Self {
        Self { rows }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_none_and_stays_so() {
        let mut grid: Grid<f32> = vec![vec![Some(1.0), None], vec![Some(2.0)]].into();
        let found = |grid: &Grid<f32>| {
            [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (0, usize::MAX), (usize::MAX, 0)]
                .map(|(row, column)| grid.get(row, column))
        };
        assert_eq!(found(&grid), [Some(1.0), None, Some(2.0), None, None, None, None]);
        for (row, column) in [(1, 1), (2, 0), (usize::MAX, usize::MAX)] {
            grid.set(row, column, Some(9.0));
        }
        assert_eq!(found(&grid), [Some(1.0), None, Some(2.0), None, None, None, None]);
        grid.set(0, 1, Some(3.0));
        assert_eq!(grid.get(0, 1), Some(3.0));
        let columns: Vec<_> = grid.of_columns(&[1, 7]).collect();
        assert_eq!(columns, [Some(3.0), None, None, None]);
        let doubled = grid.map(|v| (v < 3.0).then_some(2.0 * v));
        assert_eq!(doubled.cells().collect::<Vec<_>>(), [Some(2.0), None, Some(4.0)]);
        assert_eq!(serde_json::to_string(&grid).unwrap(), "[[1.0,3.0],[2.0]]");
    }
}
