//! The plain numbers of cells over pairs.

use super::Samples;

/// What a cell is over pairs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Description {
    /// How many pairs have a value.
    pub n: usize,
    /// Their mean; `None` without any.
    pub mean: Option<f64>,
    /// Their median; of an even number, halfway between the two in the middle.
    pub median: Option<f64>,
    /// Their standard deviation, the sum of squares divided by n - 1; `None` below two.
    pub sd: Option<f64>,
}

/// Describes every cell.
pub fn describe(samples: &Samples) -> Vec<Description> {
    let one = |cell: usize| {
        let mut values: Vec<f64> = samples.of_cell(cell).map(f64::from).collect();
        values.sort_unstable_by(f64::total_cmp);
        let n = values.len();
        let mean = (n > 0).then(|| values.iter().sum::<f64>() / n as f64);
        let sd = mean.filter(|_| n > 1).map(|mean| {
            let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
            (squares / (n - 1) as f64).sqrt()
        });
        let median = (n > 0).then(|| (values[(n - 1) / 2] + values[n / 2]) / 2.0);
        Description { n, mean, median, sd }
    };
    (0..samples.n_cells()).map(one).collect()
}
