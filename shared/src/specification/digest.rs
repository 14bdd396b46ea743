//! What determines an experiment's numbers, in one canonical form.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{Axis, Edit, MeanOver, Specification, Write};

impl Specification {
    /// The SHA-256 in hexadecimal digits of everything that determines the numbers: runs, trials,
    /// grids, answers, and what is kept beside them. Whether the whole vocabulary is read is not in
    /// it, since a result that says more can take the place of one that says less.
    pub fn digest(&self) -> String {
        let mut canon = Canon::default();
        canon.list(&self.runs, |canon, run| {
            canon.list(&run.tokens, |canon, &id| canon.number(id.into()));
            canon.list(run.continuation.as_slice(), |canon, continuation| {
                canon.number(continuation.is_true.into());
                canon.list(&continuation.ids, |canon, &id| canon.number(id.into()));
            });
            canon.list(&run.edits, Canon::edit);
        });
        canon.list(&self.trials, |canon, trial| {
            canon.numbers([trial.base, trial.key.grid, trial.key.cell]);
            canon.list(&trial.edits, Canon::edit);
        });
        canon.list(&self.grids, |canon, grid| {
            canon.text(grid.site.name());
            canon.text(grid.direction.name());
            canon.list(&grid.axes, Canon::axis);
        });
        for ids in [&self.metrics.true_ids, &self.metrics.false_ids] {
            canon.list(ids, |canon, &id| canon.number(id.into()));
        }
        canon.numbers([self.metrics.n_top, usize::from(self.metrics.lens)]);
        canon.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Hashes numbers and texts so that no two lists of them are the same bytes.
#[derive(Default)]
struct Canon {
    hash: Sha256,
    /// The means that were met: each is long, and there are few.
    means: Vec<Arc<MeanOver>>,
}

impl Canon {
    fn number(&mut self, number: u64) {
        self.hash.update(number.to_le_bytes());
    }

    fn numbers(&mut self, numbers: impl IntoIterator<Item = usize>) {
        numbers.into_iter().for_each(|number| self.number(number as u64));
    }

    fn text(&mut self, text: &str) {
        self.numbers([text.len()]);
        self.hash.update(text);
    }

    fn list<T>(&mut self, items: &[T], mut each: impl FnMut(&mut Self, &T)) {
        self.numbers([items.len()]);
        items.iter().for_each(|item| each(self, item));
    }

    fn edit(&mut self, edit: &Edit) {
        self.text(edit.site.name());
        self.list(edit.head.as_slice(), |canon, &head| canon.numbers([head]));
        self.numbers([edit.layers.start, edit.layers.end]);
        self.list(&edit.positions, |canon, &position| canon.numbers([position]));
        match &edit.write {
            Write::From { run, shift } => {
                self.numbers([0, *run]);
                self.hash.update((*shift as i64).to_le_bytes());
            }
            Write::Zero => self.numbers([1]),
            Write::Mean(mean) => {
                self.numbers([2]);
                self.mean(mean);
            }
            Write::Noise { seed, scale } => {
                self.numbers([3]);
                self.number(*seed);
                self.number(scale.to_bits().into());
            }
        }
    }

    fn mean(&mut self, mean: &Arc<MeanOver>) {
        let known = self.means.iter().position(|m| Arc::ptr_eq(m, mean) || m == mean);
        let index = known.unwrap_or(self.means.len());
        self.numbers([index]);
        if known.is_none() {
            self.list(&mean.runs, |canon, (tokens, rows)| {
                canon.list(tokens, |canon, &id| canon.number(id.into()));
                canon.numbers([rows.start, rows.end]);
            });
            self.means.push(mean.clone());
        }
    }

    fn axis(&mut self, axis: &Axis) {
        match axis {
            Axis::Layer(n) => self.numbers([0, *n]),
            Axis::Head(n) => self.numbers([1, *n]),
            Axis::Position(positions) => self.numbers([2, positions.start, positions.end]),
            Axis::Span(names) => {
                self.numbers([3]);
                self.list(names, |canon, name| canon.text(name));
            }
        }
    }
}
