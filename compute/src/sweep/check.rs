//! Whether a specification fits a model.

use shared::specification::vocabulary::Site;
use shared::specification::{Edit, Specification, Write};

use super::SweepError;
use super::runs::sequence;
use crate::model::Config;

/// Refuses what the model lacks and what refers to something that is not there.
///
/// # Errors
/// [`SweepError::NoSite`] or [`SweepError::Specification`].
pub fn check(config: &Config, specification: &Specification) -> Result<(), SweepError> {
    let wrong = |what: String| Err(SweepError::Specification(what));
    for run in &specification.runs {
        if run.tokens.is_empty() {
            return wrong("a run has no tokens".into());
        }
        if let Some(id) = sequence(run).into_iter().find(|&id| id as usize >= config.d_vocab) {
            return wrong(format!("the token {id} is beyond the {} of the model", config.d_vocab));
        }
        let n = sequence(run).len();
        for edit in &run.edits {
            check_edit(config, specification, edit, n)?;
        }
    }
    for trial in &specification.trials {
        let Some(base) = specification.runs.get(trial.base) else {
            return wrong(format!("a trial has the base {}, which is no run", trial.base));
        };
        let n = sequence(base).len();
        for edit in &trial.edits {
            check_edit(config, specification, edit, n)?;
        }
    }
    Ok(())
}

fn check_edit(
    config: &Config,
    specification: &Specification,
    edit: &Edit,
    n: usize,
) -> Result<(), SweepError> {
    let wrong = |what: String| Err(SweepError::Specification(what));
    if !config.has_site(edit.site) {
        return Err(SweepError::NoSite { site: edit.site, architecture: config.architecture });
    }
    if edit.layers.end > config.n_layers {
        let (layers, n_layers) = (&edit.layers, config.n_layers);
        return wrong(format!("an edit of the layers {layers:?} in a model of {n_layers}"));
    }
    let n_heads = match edit.site {
        Site::Query | Site::Z => config.n_heads,
        Site::Key | Site::Value => config.n_kv_heads,
        _ => 0,
    };
    if let Some(head) = edit.head.filter(|&head| head >= n_heads) {
        return wrong(format!("an edit of head {head} of {n_heads} at `{}`", edit.site));
    }
    if let Some(position) = edit.positions.iter().find(|&&position| position >= n) {
        return wrong(format!("an edit at position {position} of a run of {n} tokens"));
    }
    match &edit.write {
        Write::From { run, shift } => {
            let Some(from) = specification.runs.get(*run) else {
                return wrong(format!("an edit copies from run {run}, which is none"));
            };
            let n_from = sequence(from).len();
            let outside = |&&p: &&usize| p.checked_add_signed(*shift).is_none_or(|p| p >= n_from);
            match edit.positions.iter().find(outside) {
                Some(p) => wrong(format!(
                    "an edit copies position {p} shifted by {shift} of a run of {n_from} tokens"
                )),
                None => Ok(()),
            }
        }
        Write::Noise { .. } if edit.head.is_some() || edit.site.has_heads() => {
            wrong(format!("noise at `{}`: expected a site of the residual stream", edit.site))
        }
        Write::Mean(over) => {
            let is_within = over.runs.iter().all(|(tokens, at)| at.end <= tokens.len());
            match is_within && over.runs.iter().any(|(_, at)| !at.is_empty()) {
                true => Ok(()),
                false => wrong("a mean over no positions, or over some that are not there".into()),
            }
        }
        _ => Ok(()),
    }
}
