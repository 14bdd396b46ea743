//! A study's statistics as fields.

use super::{Cells, Study, StudyAxis, StudyDifference, StudyGrid, Summary};
use crate::field::axis::{Axis, AxisKind, Coordinate};
use crate::field::{Field, Quantity, Reference};
use crate::grid::Grid;
use crate::specification::vocabulary::{Site, named};

named! {
    /// What is shown of a study's cells.
    Statistic, "statistic" {
        /// The mean effect, in nats.
        #[default]
        Mean = "mean",
        /// The mean effect divided by the mean contrast.
        Recovery = "recovery",
        /// The median effect, in nats.
        Median = "median",
        /// The standard deviation of the effects, in nats.
        Sd = "sd",
        /// How wide the mean's 95 % interval is, in nats.
        IntervalWidth = "interval_width",
        /// How many pairs have a value.
        N = "n",
        /// The p-value of the cell as one of all.
        PFamily = "p_family",
        /// The p-value of the cell adjusted for the share of false discoveries.
        Q = "q",
    }
}

/// Which numbers of a study are shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shown<'a> {
    /// A statistic over the pairs of a summary.
    Summary(&'a Summary, Statistic),
    /// A difference: of recoveries, or else of mean effects.
    Difference(&'a StudyDifference, bool),
}

impl Statistic {
    /// In a reader's words.
    pub fn title(self) -> &'static str {
        match self {
            Self::Mean => "Mean effect",
            Self::Recovery => "Recovery (ratio of means)",
            Self::Median => "Median effect",
            Self::Sd => "Standard deviation of effects",
            Self::IntervalWidth => "Width of the mean's 95 % interval",
            Self::N => "Pairs with a value",
            Self::PFamily => "p (all cells together, max-T)",
            Self::Q => "q (false discoveries)",
        }
    }

    /// The unit, where there is one.
    pub fn unit(self) -> Option<&'static str> {
        match self {
            Self::Mean | Self::Median | Self::Sd | Self::IntervalWidth => Some("nats"),
            Self::Recovery | Self::N | Self::PFamily | Self::Q => None,
        }
    }

    /// The values of all cells.
    pub fn of(self, summary: &Summary) -> Cells {
        let effect = &summary.effect;
        match self {
            Self::Mean => effect.mean.clone(),
            Self::Recovery => summary.recovery.value.clone(),
            Self::Median => effect.median.clone(),
            Self::Sd => effect.sd.clone(),
            Self::IntervalWidth => {
                let ends = effect.low.iter().zip(&effect.high);
                ends.map(|(low, high)| low.zip(*high).map(|(low, high)| high - low)).collect()
            }
            Self::N => effect.n.iter().map(|n| Some(*n as f32)).collect(),
            Self::PFamily => effect.p_family.clone(),
            Self::Q => effect.q.clone(),
        }
    }
}

impl StudyGrid {
    /// The axes of the grid, the slowest first; of a grid without columns, one column for everything.
    pub fn field_axes(&self) -> Vec<Axis> {
        let heads = match self.site {
            Site::Key | Site::Value => AxisKind::KeyHead,
            _ => AxisKind::Head,
        };
        let axis = |axis: &StudyAxis| match axis {
            StudyAxis::Layer(keys) => Axis::numbered(AxisKind::Layer, keys.iter().copied()),
            StudyAxis::Head(keys) => Axis::numbered(heads, keys.iter().copied()),
            StudyAxis::Role(keys) => {
                Axis::named(AxisKind::Role, keys.iter().map(|role| Coordinate::Role(*role)))
            }
            StudyAxis::Span(keys) => {
                Axis::named(AxisKind::Span, keys.iter().map(|span| Coordinate::Span(*span)))
            }
        };
        let mut axes: Vec<_> = self.axes.iter().map(axis).collect();
        if axes.len() == 1 {
            axes.push(Axis::whole());
        }
        axes
    }

    /// The place of a cell in the lists, by the places of its keys along the axes.
    pub fn index(&self, at: &[usize]) -> usize {
        self.axes.iter().zip(at).fold(0, |index, (axis, at)| index * axis.len() + at)
    }

    /// Numbers of this grid's cells over two axes. Of a grid with three, `at` says the row or column
    /// of the one that is not shown; without it, or where there is none such, that is the last column.
    pub fn field(&self, shown: Shown, at: Option<Coordinate>) -> Field {
        let axes = self.field_axes();
        let fixed = (axes.len() == 3).then(|| {
            let found = at.and_then(|key| {
                axes.iter().enumerate().find_map(|(axis, of)| Some((axis, of.find(key)?)))
            });
            found.unwrap_or((2, axes[2].len() - 1))
        });
        let shown_axes = match fixed {
            Some((0, _)) => [1, 2],
            Some((1, _)) => [0, 2],
            _ => [0, 1],
        };
        let cells = match shown {
            Shown::Summary(summary, statistic) => statistic.of(summary),
            Shown::Difference(difference, true) => difference.recovery.value.clone(),
            Shown::Difference(difference, false) => difference.effect.value.clone(),
        };
        let [rows, columns] = shown_axes.map(|axis| axes[axis].clone());
        let value = |row, column| {
            let mut at = [0; 3];
            (at[shown_axes[0]], at[shown_axes[1]]) = (row, column);
            if let Some((axis, key)) = fixed {
                at[axis] = key;
            }
            cells.get(self.index(&at)).copied().flatten()
        };
        let row = |row| (0..columns.len()).map(|column| value(row, column)).collect::<Vec<_>>();
        let values: Grid<f32> = (0..rows.len()).map(row).collect();
        Field { rows, columns, values, quantity: quantity(shown) }
    }
}

fn quantity(shown: Shown) -> Quantity {
    let (title, unit, decimals, has_ends) = match shown {
        Shown::Summary(_, statistic) => {
            let decimals = match statistic {
                Statistic::N => 0,
                Statistic::PFamily | Statistic::Q => 4,
                _ => 3,
            };
            let has_ends = statistic == Statistic::Recovery;
            (statistic.title().to_string(), statistic.unit(), decimals, has_ends)
        }
        Shown::Difference(_, true) => ("Difference of recoveries".into(), None, 3, false),
        Shown::Difference(_, false) => {
            ("Difference of mean effects".into(), Some("nats"), 3, false)
        }
    };
    let ends = [Reference { name: "source", value: 1.0 }, Reference { name: "base", value: 0.0 }];
    let references = if has_ends { ends.to_vec() } else { Vec::new() };
    Quantity { title, unit, centre: 0.0, is_rank: false, decimals, references }
}

impl Study {
    /// A name for each grid that no other has: its site and direction, and a number where there are
    /// several such.
    pub fn grid_names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for grid in &self.grids {
            let name = format!("{}.{}", grid.site, grid.direction);
            let mut n = 1;
            let numbered = |n: usize| if n == 1 { name.clone() } else { format!("{name}.{n}") };
            while names.contains(&numbered(n)) {
                n += 1;
            }
            names.push(numbered(n));
        }
        names
    }
}
