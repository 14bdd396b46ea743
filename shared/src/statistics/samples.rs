//! Values of cells over pairs.

/// How many cells are worked on together: their sums stay in registers.
pub(super) const TILE: usize = 8;

/// One row of a tile: the values of a pair.
pub(super) type Row = [f64; TILE];

/// A value for each pair and cell, `[pair][cell]`; where a pair has no such cell, there is none.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples {
    n_cells: usize,
    n_pairs: usize,
    /// `[pair][cell]`, NaN where there is no value.
    values: Vec<f32>,
}

impl Samples {
    /// No pairs yet.
    pub fn new(n_cells: usize) -> Self {
        Self { n_cells, n_pairs: 0, values: Vec::new() }
    }

    /// Adds a pair: a value for each cell, in order. What is not finite is no value; what lacks at
    /// the end is none, and what is too much is left out.
    pub fn push(&mut self, values: impl IntoIterator<Item = Option<f32>>) {
        let values = values.into_iter().map(|v| v.filter(|v| v.is_finite()).unwrap_or(f32::NAN));
        self.values.extend(values.chain(std::iter::repeat(f32::NAN)).take(self.n_cells));
        self.n_pairs += 1;
    }

    /// How many cells there are.
    pub fn n_cells(&self) -> usize {
        self.n_cells
    }

    /// How many pairs there are.
    pub fn n_pairs(&self) -> usize {
        self.n_pairs
    }

    /// The value of a cell in a pair; `None` where there is none, and where there is no such cell.
    pub fn get(&self, pair: usize, cell: usize) -> Option<f32> {
        if cell >= self.n_cells {
            return None;
        }
        self.values.get(pair * self.n_cells + cell).copied().filter(|value| !value.is_nan())
    }

    /// The values that a cell has, in the order of the pairs.
    pub fn of_cell(&self, cell: usize) -> impl Iterator<Item = f32> + '_ {
        (0..self.n_pairs).filter_map(move |pair| self.get(pair, cell))
    }

    /// The first cells of all tiles.
    pub(super) fn tiles(&self) -> impl Iterator<Item = usize> + use<> {
        (0..self.n_cells).step_by(TILE)
    }

    /// The values of the tile that begins with `cell`, a row for each pair; NaN where there is none.
    pub(super) fn tile(&self, cell: usize) -> Vec<Row> {
        let row = |pair: usize| {
            let mut row = [f64::NAN; TILE];
            for (k, value) in row.iter_mut().enumerate().take(self.n_cells - cell) {
                *value = f64::from(self.values[pair * self.n_cells + cell + k]);
            }
            row
        };
        (0..self.n_pairs).map(row).collect()
    }
}
