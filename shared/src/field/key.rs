//! Which cells of two fields correspond.

use super::axis::{Axis, Coordinate};
use crate::specification::positions::Positions;

/// A cell of one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cell {
    /// The row, from 0.
    pub row: usize,
    /// The column, from 0.
    pub column: usize,
}

/// A cell by what it is, in whichever field it is looked up: this is the one definition of "the same
/// cell". Prompts are aligned at their ends, so tokens correspond that are as far from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// What its row is.
    pub row: Coordinate,
    /// What its column is.
    pub column: Coordinate,
}

impl Key {
    /// The key of a cell as an address has it, with positions of a prompt of `n` tokens.
    pub fn pin(self, n: usize) -> Self {
        Self { row: self.row.from_start(n), column: self.column.from_start(n) }
    }

    /// The key of a cell that an address names, with positions of a prompt of `n` tokens.
    pub fn pinned(self, n: usize) -> Self {
        Self { row: self.row.from_end(n), column: self.column.from_end(n) }
    }
}

/// Which of an axis are among the `positions` of a prompt of `n` tokens.
pub fn among<'a>(
    positions: &'a Positions,
    n: usize,
    axis: &'a Axis,
) -> impl Iterator<Item = usize> + 'a {
    let is_among = move |key: Coordinate| match key.from_start(n) {
        Coordinate::Position(at) => positions.contains(at),
        _ => false,
    };
    let marks = axis.marks.iter().enumerate();
    marks.filter(move |(_, mark)| is_among(mark.key)).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Document;
    use crate::field::axis::n_base;
    use crate::fixture::ramp;

    #[test]
    fn positions_correspond_from_the_end() {
        let short = Document { sentence_start: 10, ..ramp(3, 4) };
        let long = Document { sentence_start: 100, ..ramp(2, 6) };
        let hidden = |text: &str, of: &Document, within: &Document| {
            let positions = text.parse().unwrap();
            among(&positions, n_base(of), &Axis::swept(within)).collect::<Vec<_>>()
        };
        assert_eq!(hidden("9-10,13-14", &short, &long), [1, 2, 5]);
        assert_eq!(hidden("100-102,105", &long, &short), [0, 3]);
        let key = Key { row: Coordinate::Layer(2), column: Coordinate::FromEnd(3) };
        let pin = key.pin(n_base(&short));
        assert_eq!(pin.column, Coordinate::Position(11));
        assert_eq!(pin.pinned(n_base(&short)), key);
        assert_eq!(pin.pinned(n_base(&long)).column, Coordinate::FromEnd(95));
    }
}
