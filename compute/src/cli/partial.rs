//! What is finished of a sweep that takes several passes over the layers, in a file beside its
//! result until that is there.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::files::Folder;
use crate::model::Description;
use crate::study::{Experiment, finished};
use crate::sweep::{Finished, Reading};

/// The file of one pair.
pub struct Partial {
    path: PathBuf,
    /// The first line: what the numbers are of, and how much is read of them.
    made_for: String,
}

impl Partial {
    /// The file of `experiment`. It needs the whole of the model's files to have been read.
    ///
    /// # Errors
    /// Files of the model that cannot be read.
    pub fn new(folder: &Folder, model: &Description, experiment: &Experiment) -> Result<Self> {
        let id = experiment.id(model)?;
        let path = folder.partial(&experiment.entity, &id);
        let (readout, top) = (experiment.settings.readout, experiment.settings.top);
        Ok(Self { path, made_for: format!("{id} readout={readout} top={top}") })
    }

    /// What an interrupted run has left of `experiment`. What cannot be read, or was made for
    /// something else, is computed again.
    pub fn read(&self, experiment: &Experiment) -> Finished {
        let Ok(file) = File::open(&self.path) else { return Finished::new() };
        let mut lines = BufReader::new(file).lines().map_while(Result::ok);
        if lines.next().as_deref() != Some(&*self.made_for) {
            return Finished::new();
        }
        let n_trials = experiment.specification.trials.len();
        // The last line may be cut off.
        lines.map_while(|line| finished::from_json(&line, n_trials)).flatten().collect()
    }

    /// Adds finished trials.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn add(&self, readings: &[(usize, Reading)]) -> Result<()> {
        let add = || {
            let mut file = File::options().create(true).append(true).open(&self.path)?;
            let mut text = String::new();
            if file.metadata()?.len() == 0 {
                text = format!("{}\n", self.made_for);
            }
            text += &format!("{}\n", finished::to_json(readings));
            file.write_all(text.as_bytes())
        };
        add().with_context(|| format!("cannot write to {}", self.path.display()))
    }

    /// Begins anew with what was read, so that nothing unreadable stays in the way.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn rewrite(&self, found: &Finished) -> Result<()> {
        self.remove();
        let readings: Vec<_> = found.iter().map(|(&trial, r)| (trial, r.clone())).collect();
        if readings.is_empty() { Ok(()) } else { self.add(&readings) }
    }

    /// Forgets it.
    pub fn remove(&self) {
        // What is not there need not be removed.
        let _ = std::fs::remove_file(&self.path);
    }
}
