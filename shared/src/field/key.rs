//! Which cells of two results correspond.

use crate::document::Document;
use crate::specification::positions::Positions;

/// A cell of one document's grids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cell {
    /// The row.
    pub layer: usize,
    /// The column, from 0.
    pub column: usize,
}

/// A cell by what stays the same however it is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pin {
    /// The layer, from 0.
    pub layer: usize,
    /// The base position.
    pub position: usize,
}

/// A cell by what it is, in whichever document it is looked up: this is the one definition of "the
/// same cell". Prompts are aligned at their ends, so columns correspond that are as far from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// The layer, from 0.
    pub layer: usize,
    /// The columns from here to the end, this one included; 1 is the last.
    pub from_end: usize,
}

impl Key {
    /// The key of a cell; `None` where the document has no such cell.
    pub fn of(document: &Document, cell: Cell) -> Option<Self> {
        let from_end = document.token_labels.len().checked_sub(cell.column)?;
        let exists = from_end > 0 && cell.layer < document.num_layers;
        exists.then_some(Self { layer: cell.layer, from_end })
    }

    /// The document's cell of this key; `None` where it has none.
    pub fn find(self, document: &Document) -> Option<Cell> {
        let column = document.token_labels.len().checked_sub(self.from_end)?;
        let exists = self.from_end > 0 && self.layer < document.num_layers;
        exists.then_some(Cell { layer: self.layer, column })
    }

    /// The key of a pin, which names a position of `document`. Of layers another document may have
    /// more.
    pub fn pinned(document: &Document, pin: Pin) -> Option<Self> {
        let column = pin.position.checked_sub(document.sentence_start)?;
        let from_end = document.token_labels.len().checked_sub(column)?;
        (from_end > 0).then_some(Self { layer: pin.layer, from_end })
    }

    /// The pin of this key, where `document` has its column.
    pub fn pin(self, document: &Document) -> Option<Pin> {
        let column = document.token_labels.len().checked_sub(self.from_end)?;
        let position = document.sentence_start.saturating_add(column);
        (self.from_end > 0).then_some(Pin { layer: self.layer, position })
    }
}

/// The positions of `within` that correspond to the `positions` of `of`.
pub fn corresponding(positions: &Positions, of: &Document, within: &Document) -> Positions {
    let columns = 0..within.token_labels.len();
    let is_in = |column: &usize| {
        let key = Key::of(within, Cell { layer: 0, column: *column });
        let pin = key.and_then(|key| key.pin(of));
        pin.is_some_and(|pin| positions.contains(pin.position))
    };
    columns.filter(is_in).map(|column| within.sentence_start.saturating_add(column)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn document(n_layers: usize, n_columns: usize, sentence_start: usize) -> Document {
        let labels = vec![String::new(); n_columns];
        Document { sentence_start, ..Document::blank(n_layers, labels) }
    }

    #[test]
    fn cells_correspond_that_are_as_far_from_the_end() {
        let (short, long) = (document(3, 4, 10), document(2, 6, 100));
        // (cell of the short one, position in it, cell of the long one)
        let cases = [
            ((0, 0), Some(10), Some((0, 2))),
            ((1, 3), Some(13), Some((1, 5))),
            ((2, 3), Some(13), None),
            ((3, 0), None, None),
            ((0, 4), None, None),
            ((usize::MAX, usize::MAX), None, None),
        ];
        for ((layer, column), position, there) in cases {
            let key = Key::of(&short, Cell { layer, column });
            let pin = position.map(|position| Pin { layer, position });
            assert_eq!(key.and_then(|key| key.pin(&short)), pin);
            assert_eq!(pin.and_then(|pin| Key::pinned(&short, pin)), key);
            let found = key.and_then(|key| key.find(&long)).map(|c| (c.layer, c.column));
            assert_eq!(found, there, "{layer}, {column}");
        }
        let deep = Key::pinned(&long, Pin { layer: 2, position: 103 });
        assert_eq!(deep, Some(Key { layer: 2, from_end: 3 }));
        assert_eq!(deep.and_then(|key| key.pin(&long)).map(|pin| pin.position), Some(103));
        assert_eq!(deep.and_then(|key| key.find(&long)), None);
        for position in [0, 99, 106, usize::MAX] {
            assert_eq!(Key::pinned(&long, Pin { layer: 0, position }), None, "{position}");
        }
        assert_eq!(Key { layer: 0, from_end: 5 }.find(&short), None);
        assert_eq!(Key { layer: 0, from_end: 0 }.find(&short), None);
        let hidden =
            |text: &str, of, within| corresponding(&text.parse().unwrap(), of, within).to_string();
        assert_eq!(hidden("9-10,13-14", &short, &long), "102,105");
        assert_eq!(hidden("100-102,105", &long, &short), "10,13");
    }

    proptest! {
        #[test]
        fn a_document_corresponds_to_itself(
            n_layers in 1usize..5, n_columns in 1usize..9, start: usize,
            layer in 0usize..5, column in 0usize..9,
        ) {
            let document = document(n_layers, n_columns, start);
            let cell = Cell { layer, column };
            let key = Key::of(&document, cell);
            prop_assert_eq!(key.is_some(), layer < n_layers && column < n_columns);
            prop_assert_eq!(key.and_then(|key| key.find(&document)), key.map(|_| cell));
        }
    }
}
