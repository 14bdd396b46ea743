//! How keys move between the cells that are shown.

use shared::field::key::Cell;
use shared::figure::{FigureOptions, Origin};

/// A step on the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Left,
    Right,
    Up,
    Down,
    /// To the first cell of the row.
    Home,
    /// To the last cell of the row.
    End,
}

impl Step {
    /// The step that a key makes.
    pub fn of_key(key: &str) -> Option<Self> {
        Some(match key {
            "ArrowLeft" => Step::Left,
            "ArrowRight" => Step::Right,
            "ArrowUp" => Step::Up,
            "ArrowDown" => Step::Down,
            "Home" => Step::Home,
            "End" => Step::End,
            _ => return None,
        })
    }
}

/// The cell one step from `from` on the page; the first key shows the cell at the top left.
/// `columns` are those shown, of `n_field_rows` rows. At the edge the cell stays. `None` where there
/// is no cell.
pub fn step(
    from: Option<Cell>,
    step: Step,
    n_field_rows: usize,
    columns: &[usize],
    options: &FigureOptions,
) -> Option<Cell> {
    let (n_rows, n_cols) = if options.transpose {
        (columns.len(), n_field_rows)
    } else {
        (n_field_rows, columns.len())
    };
    if n_rows == 0 || n_cols == 0 {
        return None;
    }
    // Rows and columns as they stand on the page, from the top left.
    let flip = |row: usize| match options.origin {
        Origin::Top => row,
        Origin::Bottom => n_rows - 1 - row,
    };
    let at = from.filter(|cell| cell.row < n_field_rows).and_then(|cell| {
        let column = columns.iter().position(|&c| c == cell.column)?;
        let (row, col) = if options.transpose { (column, cell.row) } else { (cell.row, column) };
        Some((flip(row), col))
    });
    let (row, col) = match (at, step) {
        (None, _) => (0, 0),
        (Some((row, col)), Step::Left) => (row, col.saturating_sub(1)),
        (Some((row, col)), Step::Right) => (row, (col + 1).min(n_cols - 1)),
        (Some((row, col)), Step::Up) => (row.saturating_sub(1), col),
        (Some((row, col)), Step::Down) => ((row + 1).min(n_rows - 1), col),
        (Some((row, _)), Step::Home) => (row, 0),
        (Some((row, _)), Step::End) => (row, n_cols - 1),
    };
    let row = flip(row);
    let (row, column) = if options.transpose { (col, row) } else { (row, col) };
    Some(Cell { row, column: *columns.get(column)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_move_on_the_page_however_the_grid_is_turned() {
        let plain = FigureOptions::default();
        let bottom = FigureOptions { origin: Origin::Bottom, ..plain.clone() };
        let turned = FigureOptions { transpose: true, ..plain.clone() };
        let both = FigureOptions { transpose: true, ..bottom.clone() };
        let columns = [0, 2, 3];
        // (options, from (row, column), step, to)
        let cases = [
            (&plain, None, Step::Down, (0, 0)),
            (&bottom, None, Step::Down, (1, 0)),
            (&both, None, Step::Right, (0, 3)),
            (&plain, Some((0, 0)), Step::Right, (0, 2)),
            (&plain, Some((0, 0)), Step::Left, (0, 0)),
            (&plain, Some((0, 2)), Step::Down, (1, 2)),
            (&plain, Some((1, 2)), Step::Down, (1, 2)),
            (&bottom, Some((0, 2)), Step::Up, (1, 2)),
            (&turned, Some((0, 2)), Step::Right, (1, 2)),
            (&turned, Some((0, 2)), Step::Down, (0, 3)),
            (&both, Some((0, 2)), Step::Up, (0, 3)),
            (&plain, Some((1, 0)), Step::End, (1, 3)),
            (&plain, Some((1, 3)), Step::Home, (1, 0)),
            (&plain, Some((1, 1)), Step::Left, (0, 0)),
            // Of a grid that was larger.
            (&bottom, Some((7, 2)), Step::Up, (1, 0)),
            (&both, Some((7, 3)), Step::Up, (0, 3)),
        ];
        for (options, from, key, (row, column)) in cases {
            let cell = |(row, column)| Cell { row, column };
            let to = step(from.map(cell), key, 2, &columns, options);
            assert_eq!(to, Some(cell((row, column))), "{options:?} {from:?} {key:?}");
        }
        assert_eq!(step(None, Step::Up, 2, &[], &plain), None);
    }
}
