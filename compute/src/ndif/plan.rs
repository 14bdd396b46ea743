//! What an experiment comes to on NDIF: cells, the waves that they go in, and the control cells of
//! each wave.

use std::collections::{BTreeSet, HashMap};

use shared::specification::vocabulary::Site;
use shared::specification::{Specification, Write};

use super::NdifError;
use super::protocol::{AskCell, AskWave};
use crate::sweep::{Reach, Step, reach};

/// A patch that must be computed.
#[derive(Debug, Clone, PartialEq)]
struct Cell {
    /// The trials whose value it is.
    trials: Vec<usize>,
    /// The run that receives.
    base: usize,
    site: Site,
    layer: usize,
    /// A position, a run, and its position.
    writes: Vec<[usize; 3]>,
}

/// One pair's experiment.
#[derive(Debug, Clone, PartialEq)]
pub struct PairPlan {
    /// Trials that equal a run, with it.
    pub known: Vec<(usize, usize)>,
    cells: Vec<Cell>,
    n_layers: usize,
    /// The last position of base and source.
    last: [usize; 2],
}

/// What a cell that is asked for should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// The value of these trials.
    Trials(Vec<usize>),
    /// A control: the same as this unpatched run.
    Run(usize),
}

/// A wave that is asked for, and what each of its cells is.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedWave {
    /// What is asked.
    pub ask: AskWave,
    /// Of each cell, in the same order.
    pub expected: Vec<Expected>,
}

impl PlannedWave {
    /// How many cells it has beside its controls.
    pub fn n_cells(&self) -> usize {
        self.expected.iter().filter(|expected| matches!(expected, Expected::Trials(_))).count()
    }
}

/// The rows of a wave are at most so many tokens, and at most so many cells: that bounds what a
/// request takes of a server's memory.
const WAVE_TOKENS: usize = 4096;
/// The most cells of a wave.
pub(super) const MAX_WAVE_CELLS: usize = 128;

impl PairPlan {
    /// What `specification` comes to in a model of `n_layers` layers.
    ///
    /// # Errors
    /// [`NdifError::Unsupported`] for edits that are not copies of one activation.
    pub fn new(specification: &Specification, n_layers: usize) -> Result<Self, NdifError> {
        let last = |run: usize| specification.runs.get(run).map_or(0, |run| run.tokens.len() - 1);
        let mut plan = Self {
            known: Vec::new(),
            cells: Vec::new(),
            n_layers,
            last: [last(Specification::BASE), last(Specification::SOURCE)],
        };
        let mut seen: HashMap<String, usize> = HashMap::new();
        for (i, trial) in specification.trials.iter().enumerate() {
            let steps = match reach(specification, trial, n_layers) {
                Reach::Run(run) => {
                    plan.known.push((i, run));
                    continue;
                }
                Reach::Steps(steps) => steps,
            };
            let same = format!("{} {steps:?}", trial.base);
            if let Some(&at) = seen.get(&same) {
                plan.cells[at].trials.push(i);
                continue;
            }
            seen.insert(same, plan.cells.len());
            plan.cells.push(Cell::new(i, trial.base, &steps)?);
        }
        // A column of the grid is whole early, and one wave takes about as long as another: of each
        // the cells of the highest layers go through few, and those of the lowest through all.
        plan.cells.sort_by_key(|cell| (cell.base, cell.writes[0], cell.layer, cell.site));
        Ok(plan)
    }

    /// How many cells must be computed.
    pub fn n_cells(&self) -> usize {
        self.cells.len()
    }

    /// How many are left where `is_done` says that a trial is done.
    pub fn n_left(&self, is_done: impl Fn(usize) -> bool) -> usize {
        let is_left = |cell: &&Cell| !cell.trials.iter().all(|&trial| is_done(trial));
        self.cells.iter().filter(is_left).count()
    }

    /// How many cells fit into a wave.
    pub fn wave_cells(&self) -> usize {
        let n_tokens = self.last.iter().max().map_or(1, |last| last + 1);
        (WAVE_TOKENS / n_tokens).clamp(1, MAX_WAVE_CELLS)
    }

    /// The waves of the cells of which `is_done` does not say that all trials are, each of at most
    /// `n_cells` cells and two controls.
    pub fn waves(&self, n_cells: usize, is_done: impl Fn(usize) -> bool) -> Vec<PlannedWave> {
        let mut waves = Vec::new();
        for base in [Specification::BASE, Specification::SOURCE] {
            let left = self.cells.iter().filter(|cell| {
                cell.base == base && !cell.trials.iter().all(|&trial| is_done(trial))
            });
            let left: Vec<_> = left.collect();
            waves.extend(left.chunks(n_cells.max(1)).map(|cells| self.wave(base, cells)));
        }
        waves
    }

    /// Of the control cells one writes the activations that are there, and one copies the end of the
    /// other run, after which the two cannot be told apart.
    fn wave(&self, base: usize, cells: &[&Cell]) -> PlannedWave {
        let other = 1 - base;
        let first = cells[0];
        let written: BTreeSet<_> = first.writes.iter().map(|write| write[0]).collect();
        let unchanged = Cell {
            trials: Vec::new(),
            base,
            site: first.site,
            layer: first.layer,
            writes: written.into_iter().map(|position| [position, base, position]).collect(),
        };
        let whole = Cell {
            trials: Vec::new(),
            base,
            site: Site::ResidPost,
            layer: self.n_layers - 1,
            writes: vec![[self.last[base], other, self.last[other]]],
        };
        let controls = [(&unchanged, Expected::Run(base)), (&whole, Expected::Run(other))];
        let cells = cells.iter().map(|&cell| (cell, Expected::Trials(cell.trials.clone())));
        let mut all: Vec<(&Cell, Expected)> = Vec::from_iter(cells);
        all.extend(controls);
        // The order in which they enter.
        all.sort_by_key(|(cell, _)| (cell.layer, cell.site));
        let (cells, expected): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        let ask = |(number, cell): (usize, &Cell)| AskCell {
            cell: number,
            site: cell.site.name(),
            layer: cell.layer,
            writes: cell.writes.clone(),
        };
        let cells = cells.into_iter().enumerate().map(ask).collect();
        PlannedWave { ask: AskWave { base, cells }, expected }
    }
}

impl Cell {
    fn new(trial: usize, base: usize, steps: &[Step]) -> Result<Self, NdifError> {
        let unsupported = |what: &str| NdifError::Unsupported {
            what: what.to_string(),
            instead: "a cell copies one activation of the other prompt",
        };
        let first = steps.first().ok_or_else(|| unsupported("patch of nothing"))?;
        let mut writes = Vec::new();
        for step in steps {
            if (step.layer, step.site, step.head) != (first.layer, first.site, None) {
                return Err(unsupported("patch of several activations"));
            }
            let Write::From { run, shift } = step.write else {
                return Err(unsupported("patch that is no copy"));
            };
            for &position in &step.positions {
                let from = position.checked_add_signed(shift);
                let from = from.ok_or_else(|| unsupported("copy from before the prompt"))?;
                writes.push([position, run, from]);
            }
        }
        Ok(Self { trials: vec![trial], base, site: first.site, layer: first.layer, writes })
    }
}
