//! Values over axes: which there are, which cells of two results correspond, a row for each cell.

pub mod cells;
pub mod key;
pub mod metric;
