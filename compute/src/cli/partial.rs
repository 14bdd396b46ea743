//! What is finished of a sweep that takes several passes over the layers, or several requests to a
//! server, in a file beside its result until that is there.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::files::Folder;
use crate::experiment::{Experiment, Part};
use crate::model::Description;

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

    /// Takes up what an interrupted run has left of `experiment`, and leaves nothing unreadable in the
    /// file. What cannot be read, or was made for something else, is computed again.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn take_up(&self, experiment: &Experiment) -> Result<Part> {
        let found = self.read(experiment.specification.trials.len());
        self.remove();
        if !found.is_empty() {
            self.add(&found)?;
        }
        Ok(found)
    }

    fn read(&self, n_trials: usize) -> Part {
        let mut found = Part::default();
        let Ok(file) = File::open(&self.path) else { return found };
        let mut lines = BufReader::new(file).lines().map_while(Result::ok);
        if lines.next().as_deref() == Some(&*self.made_for) {
            // The last line may be cut off.
            lines
                .map_while(|line| Part::from_json(&line, n_trials))
                .for_each(|part| found.add(part));
        }
        found
    }

    /// Adds what has come.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn add(&self, part: &Part) -> Result<()> {
        let add = || {
            let mut file = File::options().create(true).append(true).open(&self.path)?;
            let mut text = String::new();
            if file.metadata()?.len() == 0 {
                text = format!("{}\n", self.made_for);
            }
            text += &format!("{}\n", part.to_json());
            file.write_all(text.as_bytes())
        };
        add().with_context(|| format!("cannot write to {}", self.path.display()))
    }

    /// Forgets it.
    pub fn remove(&self) {
        // What is not there need not be removed.
        let _ = std::fs::remove_file(&self.path);
    }
}
