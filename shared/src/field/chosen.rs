//! Which of a result's numbers are shown: a grid by its name, and of one with three axes a slice.

use std::fmt;
use std::str::FromStr;

use super::axis::{Axis, AxisKind, Coordinate, n_base};
use super::key::{Cell, Key};
use crate::document::{Baseline, CellGrid, Document, LensGrid, Prompt, TopToken};
use crate::specification::vocabulary::{Direction, Site, Span, Written};

/// One of a result's grids by what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GridName {
    /// Patches at a site in a direction. Of several such, which: 0 is the first.
    Patched(Site, Direction, usize),
    /// The logit lens of an unpatched run.
    Lens(Prompt),
}

/// What an address says of the grid that is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Choice {
    /// Its name; without one it is the result's first.
    pub grid: Option<GridName>,
    /// Of a grid with three axes, the row or column of the one that is not shown.
    pub at: Option<Coordinate>,
}

impl Choice {
    /// With a position of a prompt of `n` tokens as one that other prompts have too.
    pub fn from_end(self, n: usize) -> Self {
        Self { at: self.at.map(|at| at.from_end(n)), ..self }
    }
}

/// Why a grid cannot be shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// The result has no such grid.
    #[error("the result has no grid `{found}`: it has {has}")]
    NoGrid {
        /// The name.
        found: GridName,
        /// The names that it has.
        has: String,
    },
    /// The slice is none of this grid's.
    #[error("the grid has no {0}")]
    NoSlice(String),
    /// More axes than can be drawn.
    #[error("the grid has {0} axes, and a map shows a grid of up to three")]
    Axes(usize),
}

/// How many axes a map can show: two, and one place on a third.
const MAX_AXES: usize = 3;

/// Where a result keeps the cells of a grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the notebook's fields.
    Flat,
    /// In [`Document::grids`].
    Grid(usize),
    /// In [`Document::lens`].
    Lens(usize),
}

/// A grid of a result, or a slice of it, as rows and columns.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    /// The grid's name; `None` for the grid of a file that does not say what it is.
    pub name: Option<GridName>,
    /// All axes, the slowest first.
    axes: Vec<Axis>,
    /// Which of them are rows and columns.
    shown: [usize; 2],
    /// The axis that is not shown, and what of it is.
    fixed: Option<(usize, usize)>,
    place: Place,
}

impl fmt::Display for GridName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Patched(site, direction, 0) => write!(f, "{site}.{direction}"),
            Self::Patched(site, direction, n) => write!(f, "{site}.{direction}.{}", n + 1),
            Self::Lens(prompt) => write!(f, "lens.{}", prompt.name()),
        }
    }
}

/// A text that is no grid's name.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` is no grid: expected a site and a direction, as in `z.denoising`, or `lens.base` or \
     `lens.source`"
)]
pub struct NoGridName(String);

impl FromStr for GridName {
    type Err = NoGridName;

    fn from_str(text: &str) -> Result<Self, NoGridName> {
        let name = || {
            let mut parts = text.splitn(3, '.');
            let (site, of, n) = (parts.next()?, parts.next(), parts.next());
            if site == "lens" {
                return match (of, n) {
                    (Some("base"), None) => Some(Self::Lens(Prompt::Base)),
                    (Some("source"), None) => Some(Self::Lens(Prompt::Source)),
                    _ => None,
                };
            }
            let direction = of.map_or(Ok(Direction::default()), str::parse).ok()?;
            let n = match n {
                None => 0,
                Some(n) => n.parse::<usize>().ok()?.checked_sub(1).filter(|n| *n > 0)?,
            };
            Some(Self::Patched(site.parse().ok()?, direction, n))
        };
        name().ok_or_else(|| NoGridName(text.chars().take(60).collect()))
    }
}

impl GridName {
    /// The names of a result's grids, the first first. None where it has the notebook's fields alone.
    pub fn all(document: &Document) -> Vec<Self> {
        let mut counts = [[0; Direction::ALL.len()]; Site::ALL.len()];
        let patched = document.grids.iter().map(|grid| {
            let n = &mut counts[grid.site as usize][grid.direction as usize];
            *n += 1;
            Self::Patched(grid.site, grid.direction, *n - 1)
        });
        let mut names: Vec<_> = patched.collect();
        names.extend(document.lens.iter().map(|lens| Self::Lens(lens.run)));
        names
    }

    /// What it is in a reader's words, as far as `names`, those that there are, do not go without
    /// saying.
    pub fn title(self, names: &[Self]) -> String {
        let other_direction = |direction| {
            let other = |name: &Self| matches!(name, Self::Patched(_, d, _) if *d != direction);
            names.iter().any(other)
        };
        match self {
            Self::Lens(prompt) => format!("logit lens of the {}", prompt.name()),
            Self::Patched(site, direction, n) => {
                let mut title = site.to_string();
                if other_direction(direction) {
                    title = format!("{title}, {direction}");
                }
                if n > 0 {
                    title = format!("{title}, number {}", n + 1);
                }
                title
            }
        }
    }
}

impl Chosen {
    /// What `choice` means in `document`.
    ///
    /// # Errors
    /// [`ChoiceError`] where the document has no such grid, or none of this slice.
    pub fn of(document: &Document, choice: Choice) -> Result<Self, ChoiceError> {
        let names = GridName::all(document);
        let (name, place) = match choice.grid {
            // A file without a grid that can be shown has the one of the notebook's fields.
            None => match first_shown(document) {
                None => (flat_name(document), Place::Flat),
                Some(first) => (names.get(first).copied(), Place::Grid(first)),
            },
            Some(name) if document.grids.is_empty() && flat_name(document) == Some(name) => {
                (Some(name), Place::Flat)
            }
            Some(found) => {
                let Some(at) = names.iter().position(|name| *name == found) else {
                    let has: Vec<_> = match &*names {
                        [] => {
                            flat_name(document).map(|name| name.to_string()).into_iter().collect()
                        }
                        names => names.iter().map(ToString::to_string).collect(),
                    };
                    let has =
                        if has.is_empty() { "one without a name".into() } else { has.join(", ") };
                    return Err(ChoiceError::NoGrid { found, has });
                };
                let place = match at.checked_sub(document.grids.len()) {
                    None => Place::Grid(at),
                    Some(at) => Place::Lens(at),
                };
                (Some(found), place)
            }
        };
        let mut axes = axes(document, place);
        if axes.len() == 1 {
            axes.push(Axis::whole());
        }
        if axes.len() > MAX_AXES {
            return Err(ChoiceError::Axes(axes.len()));
        }
        let n_base = n_base(document);
        let fixed = match (axes.len(), choice.from_end(n_base).at) {
            (2, _) => None,
            (_, None) => Some((1, 0)),
            (_, Some(key)) => {
                let found = axes.iter().enumerate().find_map(|(i, a)| Some((i, a.find(key)?)));
                let Some(found) = found else {
                    return Err(ChoiceError::NoSlice(slice(key.from_start(n_base))));
                };
                Some(found)
            }
        };
        let shown = match fixed {
            Some((0, _)) => [1, 2],
            Some((1, _)) => [0, 2],
            _ => [0, 1],
        };
        Ok(Self { name, axes, shown, fixed, place })
    }

    /// What varies from row to row.
    pub fn rows(&self) -> &Axis {
        &self.axes[self.shown[0]]
    }

    /// What varies from column to column.
    pub fn columns(&self) -> &Axis {
        &self.axes[self.shown[1]]
    }

    /// The axis that is not shown, and where on it the cells are.
    pub fn fixed(&self) -> Option<(&Axis, usize)> {
        self.fixed.map(|(axis, at)| (&self.axes[axis], at))
    }

    /// Of a grid with three axes, all of them: one is not shown.
    pub fn slices(&self) -> &[Axis] {
        if self.fixed.is_some() { &self.axes } else { &[] }
    }

    /// Which of [`Self::slices`] is not shown.
    pub fn fixed_axis(&self) -> Option<usize> {
        self.fixed.map(|(axis, _)| axis)
    }

    /// Whether it shows an unpatched run.
    pub fn is_lens(&self) -> bool {
        matches!(self.place, Place::Lens(_))
    }

    /// The cell of a key; `None` where there is none such.
    pub fn find(&self, key: Key) -> Option<Cell> {
        Some(Cell { row: self.rows().find(key.row)?, column: self.columns().find(key.column)? })
    }

    /// The place of a cell in the lists of values.
    pub(super) fn index(&self, cell: Cell) -> Option<usize> {
        if cell.row >= self.rows().len() || cell.column >= self.columns().len() {
            return None;
        }
        let mut at = [0; 3];
        at[self.shown[0]] = cell.row;
        at[self.shown[1]] = cell.column;
        if let Some((axis, key)) = self.fixed {
            at[axis] = key;
        }
        Some(self.axes.iter().zip(at).fold(0, |index, (axis, at)| index * axis.len() + at))
    }

    /// The lists of values.
    pub(super) fn lists<'a>(&self, document: &'a Document) -> Lists<'a> {
        match self.place {
            Place::Flat => Lists::Flat(document),
            Place::Grid(at) => document.grids.get(at).map_or(Lists::Flat(document), Lists::Grid),
            Place::Lens(at) => document.lens.get(at).map_or(Lists::Flat(document), Lists::Lens),
        }
    }

    /// The most probable tokens of a cell, the first first.
    pub fn top(&self, document: &Document, cell: Cell) -> Vec<TopToken> {
        let Some(index) = self.index(cell) else { return Vec::new() };
        let tops = match self.lists(document) {
            Lists::Flat(document) => {
                let top = document.readout.as_ref();
                let top = top.and_then(|readout| readout.top_token.get(cell.row, cell.column));
                return top.map(|id| TopToken { id, p: None }).into_iter().collect();
            }
            Lists::Grid(grid) => grid.top.as_ref().and_then(|tops| tops.get(index)),
            Lists::Lens(lens) => lens.top.get(index),
        };
        tops.cloned().flatten().unwrap_or_default()
    }

    /// Which prompt's run is shown: the one that is patched, or read by the lens.
    pub fn prompt(&self, document: &Document) -> Prompt {
        prompt(document, self.place)
    }

    /// The unpatched runs: the one that is patched, and the one that it may come to say. Neither
    /// where nothing is patched or they are unknown.
    pub fn ends<'a>(&self, document: &'a Document) -> Option<[&'a Baseline; 2]> {
        match self.lists(document) {
            Lists::Flat(document) => {
                let baselines = document.baselines.as_ref()?;
                Some([&baselines.base, &baselines.source])
            }
            Lists::Grid(grid) => grid.ends(document),
            Lists::Lens(_) => None,
        }
    }

    /// Whether the other run's activations are written into this one.
    pub fn writes_other_run(&self, document: &Document) -> bool {
        match self.lists(document) {
            Lists::Flat(_) => true,
            Lists::Grid(grid) => grid.write == Written::Source,
            Lists::Lens(_) => false,
        }
    }

    /// The positions of a named set in the run that is shown; none where they are unknown.
    pub fn positions_of<'a>(&self, document: &'a Document, span: Span) -> &'a [usize] {
        let found = document.spans.iter().find(|found| found.span == span);
        found.map_or(&[], |found| match self.prompt(document) {
            Prompt::Base => &found.base,
            Prompt::Source => &found.source,
        })
    }

    /// The tokens of a named set one after the other; `None` where they are unknown.
    pub fn text_of(&self, document: &Document, span: Span) -> Option<String> {
        let tokens = self.prompt(document).tokens(document);
        let text = |at: &usize| tokens.get(*at).map(|token| &*token.text);
        let texts: String = self.positions_of(document, span).iter().filter_map(text).collect();
        Some(texts).filter(|text| !text.is_empty())
    }

    /// What was done, in words that stand beside the model's name: the site, and whatever is not as
    /// by default.
    pub fn what(&self, document: &Document) -> Vec<String> {
        let mut what = Vec::new();
        match self.lists(document) {
            Lists::Flat(document) => what.push(document.site_name().to_string()),
            Lists::Grid(grid) => {
                what.push(grid.site.to_string());
                if grid.direction != Direction::default() {
                    what.push(grid.direction.to_string());
                }
                if grid.window > 1 {
                    what.push(format!("{} layers at a time", grid.window));
                }
                match grid.write {
                    Written::Source => {}
                    Written::Zero => what.push("zeros written".into()),
                    Written::Mean => what.push("means written".into()),
                }
            }
            Lists::Lens(lens) => {
                what.push(format!("logit lens of the unpatched {}", lens.run.name()));
            }
        }
        let noise = document.settings.as_ref().and_then(|settings| settings.noise);
        if let Some(span) = noise.filter(|_| !self.is_lens()) {
            what.push(format!("noise on {span} in the base"));
        }
        if let Some((axis, at)) = self.fixed {
            let axis = &self.axes[axis];
            let mark = &axis.marks[at];
            what.push(match mark.position {
                Some(position) => format!("position {position}"),
                None => format!("{} {}", axis.kind.one(), mark.text),
            });
        }
        what
    }
}

/// A row or column in words.
fn slice(at: Coordinate) -> String {
    match at {
        Coordinate::Layer(n) => format!("layer {n}"),
        Coordinate::Head(n) => format!("head {n}"),
        Coordinate::Position(n) => format!("position {n}"),
        Coordinate::FromEnd(n) => format!("position {n} from the end"),
        Coordinate::Span(span) => format!("set of positions `{span}`"),
        Coordinate::Role(role) => format!("role `{role}`"),
        Coordinate::Whole => "single column".into(),
    }
}

/// Which grid is shown unless another is chosen: what the notebook's fields hold too, and otherwise the
/// first that a map can show.
fn first_shown(document: &Document) -> Option<usize> {
    let grids = || document.grids.iter();
    let first = grids().position(CellGrid::is_layer_by_position);
    first.or_else(|| grids().position(|grid| grid.axes.len() <= MAX_AXES))
}

/// The name of the notebook's grid, where the file says what it is.
fn flat_name(document: &Document) -> Option<GridName> {
    Some(GridName::Patched(document.site?, document.direction.unwrap_or_default(), 0))
}

fn prompt(document: &Document, place: Place) -> Prompt {
    match place {
        Place::Flat => Prompt::Base,
        Place::Grid(at) => match document.grids.get(at) {
            Some(grid) => grid.receiver(document),
            None => Prompt::Base,
        },
        Place::Lens(at) => document.lens.get(at).map_or(Prompt::Base, |lens| lens.run),
    }
}

fn axes(document: &Document, place: Place) -> Vec<Axis> {
    let of = |site: Option<Site>, keys: &[_]| {
        let prompt = prompt(document, place);
        keys.iter().map(|keys| Axis::of(document, prompt, site, keys)).collect()
    };
    let grid = match place {
        Place::Flat => None,
        Place::Grid(at) => document.grids.get(at).map(|grid| of(Some(grid.site), &grid.axes)),
        Place::Lens(at) => document.lens.get(at).map(|lens| of(None, &lens.axes)),
    };
    grid.unwrap_or_else(|| {
        vec![Axis::numbered(AxisKind::Layer, 0..document.num_layers), Axis::swept(document)]
    })
}

/// A grid's values, of which there is one for each of its cells.
pub(super) enum Lists<'a> {
    Flat(&'a Document),
    Grid(&'a CellGrid),
    Lens(&'a LensGrid),
}
