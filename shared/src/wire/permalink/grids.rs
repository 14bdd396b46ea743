//! The grids of a result with several of them.

use serde::{Deserialize, Serialize};

use super::{
    Planes, SCALE, above_added, above_subtracted, by_id, pack_probabilities, rounded,
    unpack_probabilities, unrounded,
};
use crate::document::{AxisKeys, CellGrid, Document, LensGrid, TopToken};
use crate::field::chosen::{Choice, Chosen, GridName};

/// How many values a link holds beside those of the grid that is shown: about 60 KB of text.
const ROOM: usize = 40_000;

/// How many it may hold at most: what is larger is refused where it is read.
const MOST: usize = 3_000_000;

/// Steps of a rank.
const RANK_SCALE: f64 = 10.0;

/// What stands in the header of the grids; their values come after.
#[derive(Serialize, Deserialize)]
pub(super) struct More {
    /// The grids. A list that they have is empty.
    grids: Vec<CellGrid>,
    /// The same of the logit lens.
    lens: Vec<LensGrid>,
    /// How many top tokens a cell has: of each grid, then of each lens.
    n_top: Vec<usize>,
    /// The texts of the top tokens in the order of their ids.
    texts: Vec<(u32, String)>,
    /// The names of those that there was no room for.
    left_out: Vec<String>,
}

type Top = Vec<Option<Vec<TopToken>>>;

fn n_top(top: &Top) -> usize {
    top.iter().flatten().map(Vec::len).max().unwrap_or(0)
}

/// How many cells there are; `None` where there are none or too many to count.
fn n_cells(axes: &[AxisKeys]) -> Option<usize> {
    let n = axes.iter().try_fold(1, |n: usize, axis| n.checked_mul(axis.len()))?;
    Some(n).filter(|n| *n > 0)
}

fn n_columns(axes: &[AxisKeys]) -> usize {
    axes.last().map_or(1, AxisKeys::len)
}

/// How many lists of numbers a grid has beside its top tokens.
fn n_lists(grid: &CellGrid) -> usize {
    let lists = [
        &grid.p_true,
        &grid.p_false,
        &grid.kl_base,
        &grid.kl_source,
        &grid.rank_true,
        &grid.rank_false,
    ];
    1 + lists.iter().filter(|list| list.is_some()).count()
}

/// How many a lens has.
const N_LENS_LISTS: usize = 3;

impl More {
    /// Packs what there is room for; nothing of a document that has no grids.
    pub fn pack(
        document: &Document,
        shown: Option<GridName>,
        numbers: &mut Vec<Vec<u32>>,
    ) -> (Option<Self>, Vec<GridName>) {
        let names = GridName::all(document);
        if names.is_empty() {
            return (None, Vec::new());
        }
        let n_grids = document.grids.len();
        let n_values = |at: usize| match at.checked_sub(n_grids) {
            None => {
                let grid = &document.grids[at];
                let n_top = grid.top.as_ref().map_or(0, n_top);
                grid.logit_diff.len() * (n_lists(grid) + 2 * n_top)
            }
            Some(at) => {
                let lens = &document.lens[at];
                lens.logit_diff.len() * (N_LENS_LISTS + 2 * n_top(&lens.top))
            }
        };
        let default = Chosen::of(document, Choice::default()).ok().and_then(|chosen| chosen.name);
        let place = |name: Option<GridName>| names.iter().position(|own| Some(*own) == name);
        let default = place(default);
        let first = place(shown).or(default);
        let mut is_held = vec![false; names.len()];
        let mut n_all = 0;
        for at in first.into_iter().chain(default).chain(0..names.len()) {
            let n = n_all + n_values(at);
            let most = if Some(at) == first { MOST } else { ROOM };
            if !is_held[at] && n <= most {
                (n_all, is_held[at]) = (n, true);
            }
        }
        let (mut grids, mut lens, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
        for (at, name) in names.iter().enumerate() {
            match (is_held[at], at.checked_sub(n_grids)) {
                (false, _) => left_out.push(*name),
                (true, None) => grids.push(&document.grids[at]),
                (true, Some(at)) => lens.push(&document.lens[at]),
            }
        }
        let tops = grids.iter().filter_map(|grid| grid.top.as_ref());
        let tops = tops.chain(lens.iter().map(|lens| &lens.top));
        let text =
            |top: &TopToken| (top.id, document.token_text(top.id).unwrap_or_default().to_string());
        let texts = by_id(tops.flatten().flatten().flatten().map(text));
        let mut more = Self {
            grids: Vec::new(),
            lens: Vec::new(),
            n_top: Vec::new(),
            left_out: left_out.iter().map(ToString::to_string).collect(),
            texts: texts.into_iter().collect(),
        };
        for grid in grids {
            more.grid(grid, numbers);
        }
        for lens in lens {
            more.lens(lens, numbers);
        }
        (Some(more), left_out)
    }

    fn grid(&mut self, grid: &CellGrid, numbers: &mut Vec<Vec<u32>>) {
        numbers.push(above_subtracted(&grid.logit_diff, n_columns(&grid.axes)));
        match (&grid.p_true, &grid.p_false) {
            (Some(p_true), Some(p_false)) => {
                numbers.extend(pack_probabilities(p_true, p_false, &grid.logit_diff));
            }
            (p_true, p_false) => {
                numbers.extend([p_true, p_false].into_iter().flatten().map(|l| list(l, SCALE)));
            }
        }
        let first = grid.top.as_ref().map_or(0, n_top);
        self.top(grid.top.as_ref(), first, numbers);
        let divergences = [&grid.kl_base, &grid.kl_source].into_iter().flatten();
        numbers.extend(divergences.map(|values| list(values, SCALE)));
        let ranks = [&grid.rank_true, &grid.rank_false].into_iter().flatten();
        numbers.extend(ranks.map(|values| list(values, RANK_SCALE)));
        let bare = |list: &Option<Vec<Option<f32>>>| list.as_ref().map(|_| Vec::new());
        self.grids.push(CellGrid {
            axes: grid.axes.clone(),
            logit_diff: Vec::new(),
            p_true: bare(&grid.p_true),
            p_false: bare(&grid.p_false),
            kl_base: bare(&grid.kl_base),
            kl_source: bare(&grid.kl_source),
            rank_true: bare(&grid.rank_true),
            rank_false: bare(&grid.rank_false),
            top: grid.top.as_ref().map(|_| Vec::new()),
            ..*grid
        });
    }

    fn lens(&mut self, lens: &LensGrid, numbers: &mut Vec<Vec<u32>>) {
        numbers.push(above_subtracted(&lens.logit_diff, n_columns(&lens.axes)));
        numbers.extend(pack_probabilities(&lens.p_true, &lens.p_false, &lens.logit_diff));
        self.top(Some(&lens.top), n_top(&lens.top), numbers);
        self.lens.push(LensGrid {
            run: lens.run,
            axes: lens.axes.clone(),
            logit_diff: Vec::new(),
            p_true: Vec::new(),
            p_false: Vec::new(),
            top: Vec::new(),
        });
    }

    /// The top tokens of all cells: the first of each as numbers into the table of texts and their
    /// probabilities, then the second.
    fn top(&mut self, top: Option<&Top>, n: usize, numbers: &mut Vec<Vec<u32>>) {
        self.n_top.push(n);
        let Some(top) = top else { return };
        for place in 0..n {
            let at = |cell: &Option<Vec<TopToken>>| cell.as_ref()?.get(place).copied();
            let index = |top: TopToken| {
                let found = self.texts.binary_search_by_key(&top.id, |text| text.0);
                found.map_or(0, |at| at as u32 + 1)
            };
            numbers.push(top.iter().map(|cell| at(cell).map_or(0, index)).collect());
            numbers
                .push(top.iter().map(|cell| rounded(at(cell).and_then(|t| t.p), SCALE)).collect());
        }
    }

    /// How many values come after the header; `None` where it contradicts itself.
    pub fn n_values(&self) -> Option<usize> {
        if self.n_top.len() != self.grids.len() + self.lens.len() {
            return None;
        }
        let grids = self.grids.iter().map(|grid| (&grid.axes, n_lists(grid)));
        let all = grids.chain(self.lens.iter().map(|lens| (&lens.axes, N_LENS_LISTS)));
        all.zip(&self.n_top).try_fold(0usize, |n, ((axes, n_lists), n_top)| {
            let n_lists = n_top.checked_mul(2)?.checked_add(n_lists)?;
            n.checked_add(n_cells(axes)?.checked_mul(n_lists)?)
        })
    }

    /// Gives the document its grids. Returns the names of those that were left out; `None` where there
    /// are too few values.
    pub fn unpack(self, document: &mut Document, planes: &mut Planes) -> Option<Vec<String>> {
        let Self { grids, lens, n_top, texts, left_out } = self;
        let mut n_top = n_top.into_iter();
        let top = |n_top: usize, n: usize, planes: &mut Planes| {
            let mut top: Top = vec![None; n];
            for _ in 0..n_top {
                let (ids, ps) = (planes.next(n)?, planes.next(n)?);
                for (cell, (id, p)) in top.iter_mut().zip(ids.into_iter().zip(ps)) {
                    let Some(at) = id.checked_sub(1) else { continue };
                    let (id, _) = texts.get(at as usize)?;
                    let p = unrounded(p, SCALE);
                    cell.get_or_insert_default().push(TopToken { id: *id, p });
                }
            }
            Some(top)
        };
        for mut grid in grids {
            let n = n_cells(&grid.axes)?;
            grid.logit_diff = above_added(planes.next(n)?, n_columns(&grid.axes));
            if grid.p_true.is_some() && grid.p_false.is_some() {
                let (larger, smaller) = (planes.next(n)?, planes.next(n)?);
                let (p_true, p_false) = unpack_probabilities(&larger, &smaller, &grid.logit_diff);
                (grid.p_true, grid.p_false) = (Some(p_true), Some(p_false));
            } else {
                for list in [&mut grid.p_true, &mut grid.p_false].into_iter().flatten() {
                    *list = values(&planes.next(n)?, SCALE);
                }
            }
            let found = top(n_top.next()?, n, planes)?;
            grid.top = grid.top.map(|_| found);
            for list in [&mut grid.kl_base, &mut grid.kl_source].into_iter().flatten() {
                *list = values(&planes.next(n)?, SCALE);
            }
            for list in [&mut grid.rank_true, &mut grid.rank_false].into_iter().flatten() {
                *list = values(&planes.next(n)?, RANK_SCALE);
            }
            document.grids.push(grid);
        }
        for mut lens in lens {
            let n = n_cells(&lens.axes)?;
            lens.logit_diff = above_added(planes.next(n)?, n_columns(&lens.axes));
            let (larger, smaller) = (planes.next(n)?, planes.next(n)?);
            (lens.p_true, lens.p_false) = unpack_probabilities(&larger, &smaller, &lens.logit_diff);
            lens.top = top(n_top.next()?, n, planes)?;
            document.lens.push(lens);
        }
        document.token_texts = by_id(texts.into_iter());
        Some(left_out)
    }
}

fn list(values: &[Option<f32>], scale: f64) -> Vec<u32> {
    values.iter().map(|value| rounded(*value, scale)).collect()
}

fn values(numbers: &[u32], scale: f64) -> Vec<Option<f32>> {
    numbers.iter().map(|number| unrounded(*number, scale)).collect()
}
