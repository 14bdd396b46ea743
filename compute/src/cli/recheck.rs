//! `patchboard sweep --recheck`: cells of finished results computed again in f32 on the CPU.

use std::num::NonZero;
use std::ops::ControlFlow;

use anyhow::{Context, Result, bail};
use shared::document::{Document, Recheck};
use shared::figure::FigureOptions;

use super::files::Folder;
use super::report::counted;
use super::sweep::{BAR_STEPS, SweepArgs, progress_bar};
use super::{interrupt, output};
use crate::experiment::{self, Experiment};
use crate::export::Format;
use crate::model::{Description, Placement};
use crate::sweep::{Progress, SweepError};

impl SweepArgs {
    /// Refuses to compare a sweep with itself, or with what is not here.
    ///
    /// # Errors
    /// Why.
    pub fn check_recheck(&self) -> Result<()> {
        if self.recheck.is_none() {
            return Ok(());
        }
        if self.ndif.is_on()? {
            bail!(
                "`--recheck` computes on this machine, and with `--on ndif` the weights are elsewhere"
            );
        }
        if !self.opening.names_device() {
            bail!(
                "`--recheck` compares with f32 on the CPU, which is what this sweep is computed in: \
                 name another `--device`, or compare with the naive engine by `--verify N`"
            );
        }
        Ok(())
    }

    /// Computes cells of the results of `prepared`, which are all in `folder`, again; those that were
    /// already are left as they are.
    ///
    /// # Errors
    /// A model that does not fit, a file that cannot be written, or an interruption.
    pub fn recheck(
        &self,
        folder: &Folder,
        model: &Description,
        prepared: &[Experiment],
        prints_text: bool,
    ) -> Result<()> {
        let Some(n) = self.recheck.map(NonZero::get) else { return Ok(()) };
        let mut table: Vec<(&Experiment, Document)> = Vec::new();
        for experiment in prepared {
            let document = folder.document(experiment, model)?;
            let is_known = table.iter().any(|(_, known)| known.id == document.id);
            if !is_known && !has_rechecked(&document, n) {
                table.push((experiment, document));
            }
        }
        if table.is_empty() {
            return Ok(());
        }
        let limit = self.memory.host_limit()?;
        let (name, quiet) = (self.model.as_deref(), !prints_text);
        let reference = self.opening.open(name, quiet, &Placement::default(), limit)?;
        let allowed = reference.n_sweep_bytes(limit);
        let bar = progress_bar(prints_text, "computing cells again in f32");
        let mut found = Vec::with_capacity(table.len());
        let mut failure = None;
        let mut listener = |progress: Progress| {
            if let Progress::Share(share) = progress {
                bar.set_position((share * BAR_STEPS as f64) as u64);
            }
            interrupt::check()
        };
        let mut done = |index: usize, recheck: Recheck| {
            let mut document = table[index].1.clone();
            document.verification.get_or_insert_default().recheck = Some(recheck);
            found.push(recheck);
            let written = folder
                .write(&document, &[Format::Json], &FigureOptions::default())
                .and_then(|_| if self.json { print(&document, recheck) } else { Ok(()) });
            match written {
                Ok(()) => interrupt::check(),
                Err(error) => {
                    failure = Some(error);
                    ControlFlow::Break(())
                }
            }
        };
        let pairs: Vec<_> = table.iter().map(|(e, document)| (*e, document)).collect();
        let swept = experiment::recheck(&reference, &pairs, n, allowed, &mut listener, &mut done);
        bar.finish_and_clear();
        match (failure, swept) {
            (Some(error), _) => return Err(error),
            (None, Err(SweepError::Cancelled)) => bail!(
                "interrupted: the cells of {} of {} were computed again; run the same command again \
                 to go on",
                found.len(),
                counted(table.len(), "pair")
            ),
            (None, swept) => {
                swept.context("cells could not be computed again in f32 on the CPU")?
            }
        }
        if prints_text { output::line(&said(&found)) } else { Ok(()) }
    }
}

/// Whether as many cells as `n` of either kind were computed again before, or all that there are.
fn has_rechecked(document: &Document, n: usize) -> bool {
    let recheck = document.verification.as_ref().and_then(|verification| verification.recheck);
    // Where there were fewer others than largest, there are no more.
    recheck.is_some_and(|recheck| recheck.n_largest >= n || recheck.n_random < recheck.n_largest)
}

fn print(document: &Document, recheck: Recheck) -> Result<()> {
    let line = serde_json::json!({
        "id": document.id,
        "entity": document.entity,
        "status": "rechecked",
        "recheck": recheck,
    });
    output::line(&line.to_string())
}

/// What was found of a table.
fn said(found: &[Recheck]) -> String {
    let n: usize = found.iter().map(Recheck::n_cells).sum();
    let cells = format!(
        "\n{} of {} computed again in f32 on the CPU",
        counted(n, "cell"),
        counted(found.len(), "pair")
    );
    let mut differences = found.iter().map(|recheck| recheck.max_abs_diff);
    match differences.try_fold(0.0, |largest: f32, next| Some(largest.max(next?))) {
        Some(largest) => format!("{cells}: largest difference {largest:.1e}"),
        None => format!("{cells}: at least one is no number, here or there"),
    }
}
