//! What is looked at of a study: the grid, whose statistics, and the cell.

use std::sync::Arc;

use leptos::prelude::*;
use shared::field::Field;
use shared::field::axis::{Axis, Coordinate};
use shared::field::key::{Cell, Key};
use shared::figure::FigureOptions;
use shared::specification::roles::Role;
use shared::study::{Pooled, Shown, Statistic, Study, StudyGrid, Summary};
use shared::wire::studies::{Selected, StudySource, StudyView};

use crate::data::opened::Opened;
use crate::map::picture::{Picture, Pictured};

/// The signals that the parts of the page share.
#[derive(Clone, Copy)]
pub struct Look {
    /// Where the study comes from.
    pub source: StoredValue<StudySource>,
    /// The study.
    pub opened: Signal<Option<Arc<Opened>>>,
    /// What the address says of it.
    pub view: Memo<StudyView>,
    /// How the map is drawn, and of a grid with three axes what is held of the one that is not shown.
    pub options: Memo<FigureOptions>,
    /// The map.
    pub picture: Memo<Pictured>,
    /// The effects of all pairs in the cells of the grid.
    pub pooled: RwSignal<Option<Result<Arc<Pooled>, String>>>,
    /// The cell whose pairs are shown: the one that is held, otherwise that of the largest mean.
    pub cell: Memo<Option<Key>>,
    /// The effects of all pairs in that cell; empty until they are there.
    pub effects: Memo<Vec<Option<f32>>>,
}

/// The study and the grid of it that is looked at.
#[derive(Clone)]
pub struct Looked {
    opened: Arc<Opened>,
    /// The grid's place.
    pub at: usize,
    /// What the address says.
    pub view: StudyView,
    slice: Option<Coordinate>,
}

impl Looked {
    /// What `view` says of a study; `None` where it has no grid.
    pub fn of(opened: Arc<Opened>, view: StudyView, slice: Option<Coordinate>) -> Option<Self> {
        let names = opened.study.grid_names();
        let at = names.iter().position(|name| *name == view.grid).unwrap_or(0);
        (at < opened.study.grids.len()).then_some(Self { opened, at, view, slice })
    }

    /// The study.
    pub fn study(&self) -> &Study {
        &self.opened.study
    }

    /// The grid.
    pub fn grid(&self) -> &StudyGrid {
        &self.study().grids[self.at]
    }

    /// The summary of the group that is looked at, otherwise of all pairs.
    pub fn summary(&self) -> &Summary {
        let is_it = |summary: &&Summary| match (&self.view.selected, &summary.group) {
            (Selected::Group(value), Some(group)) => group.value == *value,
            _ => false,
        };
        let all = &self.grid().summaries;
        all.iter().find(is_it).unwrap_or(&all[0])
    }

    /// The numbers.
    pub fn shown(&self) -> Shown<'_> {
        let difference = match self.view.selected {
            Selected::Difference(at) => self.grid().differences.get(at),
            _ => None,
        };
        match difference {
            Some(of) => Shown::Difference(of, self.view.statistic == Statistic::Recovery),
            None => Shown::Summary(self.summary(), self.view.statistic),
        }
    }

    /// The map.
    pub fn field(&self) -> Field {
        self.grid().field(self.shown(), self.slice)
    }

    /// The place of a cell in the grid's lists.
    pub fn index(&self, key: Key) -> Option<usize> {
        self.index_along(&self.grid().field_axes(), key)
    }

    fn index_along(&self, axes: &[Axis], key: Key) -> Option<usize> {
        let place = |axis: &Axis| {
            let held = || self.slice.and_then(|slice| axis.find(slice));
            axis.find(key.row).or_else(|| axis.find(key.column)).or_else(held)
        };
        // Of three axes the last column is shown where nothing is said.
        let mut at = Vec::new();
        for (i, axis) in axes.iter().enumerate() {
            at.push(match place(axis) {
                None if i == 2 => axis.len() - 1,
                place => place?,
            });
        }
        Some(self.grid().index(&at))
    }

    /// The places of the cells of a map in the grid's lists, row by row.
    pub fn indices(&self, field: &Field) -> Vec<(Cell, usize)> {
        let (mut indices, axes) = (Vec::new(), self.grid().field_axes());
        for row in 0..field.rows.len() {
            for column in 0..field.columns.len() {
                let cell = Cell { row, column };
                let index = field.key(cell).and_then(|key| self.index_along(&axes, key));
                indices.extend(index.map(|index| (cell, index)));
            }
        }
        indices
    }

    /// The cell with the largest mean effect of the pairs that are looked at. At the last position of
    /// the last layer it is the whole contrast, which says nothing: that position comes last.
    pub fn strongest(&self) -> Option<Key> {
        let field = self.field();
        let mean = &self.summary().effect.mean;
        let (mut found, mut found_last) = ((-1.0, None), (-1.0, None));
        for (cell, at) in self.indices(&field) {
            let key = field.key(cell);
            let is_last = key.is_some_and(|key| key.column == Coordinate::Role(Role::Last));
            let best = if is_last { &mut found_last } else { &mut found };
            let size = mean.get(at).copied().flatten().map_or(-1.0, f32::abs);
            if size > best.0 {
                *best = (size, key);
            }
        }
        found.1.or(found_last.1)
    }

    /// The pairs that count of those that are looked at.
    pub fn kept(&self) -> Vec<usize> {
        self.study().kept(self.summary().group.as_ref()).collect()
    }
}

impl Look {
    /// The study and the grid, as they are now.
    pub fn now(self) -> Option<Looked> {
        Looked::of(self.opened.get()?, self.view.get(), self.slice())
    }

    /// Of a grid with three axes, what is held of the one that is not shown.
    pub fn slice(self) -> Option<Coordinate> {
        self.options.with(|options| options.grid.at)
    }
}

/// The map of what is looked at.
pub fn pictured(looked: Option<Looked>) -> Pictured {
    let looked = looked.ok_or_else(|| "the study has no grid".to_string())?;
    Ok(Arc::new(Picture::whole(looked.field())))
}

/// The places of numbers from the smallest to the largest; what is none comes first. One function for
/// all that is sorted on the page, since each kind of sorting is large.
pub fn order(numbers: &[Option<f32>]) -> Vec<usize> {
    let number = |at: &usize| numbers[*at].unwrap_or(f32::NEG_INFINITY);
    let mut order: Vec<usize> = (0..numbers.len()).collect();
    order.sort_by(|a, b| number(a).total_cmp(&number(b)));
    order
}
