//! What can be swept on NDIF, said before anything is sent.

use shared::specification::settings::Settings;
use shared::specification::vocabulary::{Site, Written};

use super::NdifError;
use crate::experiment::Experiment;

/// The activations that can be patched there.
pub const SITES: &[Site] = &[Site::ResidPre, Site::AttnOut, Site::MlpOut, Site::ResidPost];

/// Refuses settings that cannot be followed there.
///
/// # Errors
/// [`NdifError::Unsupported`], by name.
pub fn check_settings(settings: &Settings) -> Result<(), NdifError> {
    let site = settings.sites.items().iter().find(|site| !SITES.contains(site));
    let cases = [
        (
            site.map(|site| format!("site {site}")),
            "choose among resid_pre, attn_out, mlp_out and resid_post",
        ),
        (
            (settings.window != 1).then(|| format!("window of {} layers", settings.window)),
            "a cell patches one layer",
        ),
        (
            (settings.write != Written::Source).then(|| format!("write {}", settings.write)),
            "a cell takes the other prompt's activation",
        ),
        (settings.noise.map(|span| format!("noise {span}")), "both prompts run as they are"),
        (settings.lens.then(|| "lens".to_string()), "only the last layer is read"),
        (
            (settings.verify > 0).then(|| format!("verify {}", settings.verify)),
            "every wave has control cells of its own, and what fails them is thrown away",
        ),
    ];
    match cases.into_iter().find_map(|(what, instead)| Some((what?, instead))) {
        Some((what, instead)) => Err(NdifError::Unsupported { what, instead }),
        None => Ok(()),
    }
}

/// Refuses an experiment that cannot be carried out there.
///
/// # Errors
/// [`NdifError::Unsupported`].
pub fn check_experiment(experiment: &Experiment) -> Result<(), NdifError> {
    if experiment.specification.runs.iter().any(|run| run.continuation.is_some()) {
        let answers = &experiment.answers;
        return Err(NdifError::Unsupported {
            what: format!(
                "answer of several tokens (`{}`, `{}`)",
                answers.true_answer.word, answers.false_answer.word
            ),
            instead: "choose words that are one token each, with `--answers`",
        });
    }
    Ok(())
}
