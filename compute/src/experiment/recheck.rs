//! Cells of finished results computed again by a reference: the same model in f32 on the CPU.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::index::sample;
use shared::document::{Document, Recheck};
use shared::specification::{Key, Metrics, Specification};

use super::Experiment;
use crate::model::Model;
use crate::sweep::{self, Division, Program, Progress, Readings, SweepError, cell_readings};

/// Which cells are drawn is fixed, so that the same request gives the same document.
const SEED: u64 = 0x72_65_63_68_65_63_6b;

/// Of each document in `table`, which came of the experiment beside it, computes the `n` cells that
/// are farthest from the unpatched run and `n` others drawn at random again on `reference`, all in the
/// same passes over the layers, within `allowed` bytes. `listener` hears how far it is, and `done` gets
/// what was found of each document; either may break it off.
///
/// # Errors
/// [`SweepError::Cancelled`] if it was broken off, or what went wrong.
pub fn recheck(
    reference: &Model,
    table: &[(&Experiment, &Document)],
    n: usize,
    allowed: usize,
    listener: &mut sweep::Listener,
    done: &mut dyn FnMut(usize, Recheck) -> ControlFlow<()>,
) -> Result<(), SweepError> {
    let chosen: Vec<_> = table.iter().map(|(e, d)| Chosen::new(&e.specification, d, n)).collect();
    let specifications: Vec<_> = chosen.iter().map(|chosen| &chosen.specification).collect();
    let division = Division::within(allowed).on(&reference.network.placement);
    let program = Program::new(&reference.network.config, &specifications, &division)?;
    sweep::run(&reference.network, &specifications, &program, &mut |progress| match progress {
        Progress::Pair { pair, readings } => {
            done(pair, chosen[pair].compare(table[pair].1, readings))
        }
        progress => listener(progress),
    })?;
    Ok(())
}

/// The cells of a document that are computed again.
struct Chosen {
    /// Their trials.
    specification: Specification,
    n_largest: usize,
    n_random: usize,
}

impl Chosen {
    fn new(specification: &Specification, document: &Document, n: usize) -> Self {
        let cells: BTreeSet<_> = specification.trials.iter().map(|trial| trial.key).collect();
        let mut cells: Vec<_> = cells.into_iter().collect();
        // What came out as no number is farthest from any.
        let change = |key: &Key| change(document, *key).unwrap_or(f32::INFINITY);
        cells.sort_by(|a, b| change(b).total_cmp(&change(a)));
        let n_largest = n.min(cells.len());
        let rest = cells.split_off(n_largest);
        let n_random = n.min(rest.len());
        let drawn = sample(&mut StdRng::seed_from_u64(SEED), rest.len(), n_random);
        let cells: BTreeSet<_> =
            cells.into_iter().chain(drawn.into_iter().map(|i| rest[i])).collect();
        let trials = specification.trials.iter().filter(|trial| cells.contains(&trial.key));
        let metrics = Metrics { vocabulary: false, lens: false, ..specification.metrics.clone() };
        let trials = trials.cloned().collect();
        let specification = Specification { trials, metrics, ..specification.clone() };
        Self { specification, n_largest, n_random }
    }

    /// How far `document` is from what the reference read of these cells.
    fn compare(&self, document: &Document, readings: &Readings) -> Recheck {
        let grids = cell_readings(&self.specification, readings);
        let cells = grids.iter().enumerate().flat_map(|(grid, cells)| {
            let key = move |cell| Key { grid, cell };
            cells.iter().enumerate().filter_map(move |(i, cell)| Some((key(i), cell.as_ref()?)))
        });
        let mut differences = cells.map(|(key, cell)| {
            let difference = (value(document, key)? - cell.logit_diff).abs();
            difference.is_finite().then_some(difference)
        });
        let largest = differences.try_fold(0.0, |largest: f32, next| Some(largest.max(next?)));
        Recheck { n_largest: self.n_largest, n_random: self.n_random, max_abs_diff: largest }
    }
}

/// A cell of a document.
fn value(document: &Document, key: Key) -> Option<f32> {
    *document.grids.get(key.grid)?.logit_diff.get(key.cell)?
}

/// How far a cell is from the unpatched run that receives; where nothing was read of that, from 0.
fn change(document: &Document, key: Key) -> Option<f32> {
    let ends = document.grids.get(key.grid)?.ends(document);
    let base = ends.map_or(Some(0.0), |[receiver, _]| receiver.logit_diff)?;
    Some((value(document, key)? - base).abs())
}
