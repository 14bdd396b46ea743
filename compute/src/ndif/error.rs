//! What can go wrong between here and a server.

use std::path::PathBuf;

use super::protocol::Reason;
use crate::model::ModelError;
use crate::sweep::SweepError;

/// A sweep on NDIF that did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum NdifError {
    /// The caller asked it to stop.
    #[error("cancelled")]
    Cancelled,
    /// No Python for the helper.
    #[error(
        "the helper that speaks with NDIF cannot be started ({error}): {}; `scripts/setup-ndif.sh` \
         installs it, or name its Python by PATCHBOARD_NDIF_PYTHON",
        python.display()
    )]
    NoHelper {
        /// The interpreter.
        python: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The helper ended.
    #[error("the helper that speaks with NDIF ended in the middle{}", last_words(.0))]
    Died(String),
    /// The helper says nothing any more.
    #[error("the helper that speaks with NDIF has said nothing for {0} s, and was ended")]
    Silent(u64),
    /// What the helper says is no answer, or not one to what was asked.
    #[error("NDIF's answer is not as it should be: {0}")]
    BadAnswer(String),
    /// The server, or what is between, refuses or fails.
    #[error("{}: {message}{}", reason.what(), reason.advice())]
    Failed {
        /// The kind of failure.
        reason: Reason,
        /// The server's words.
        message: String,
    },
    /// What was asked for cannot be had there.
    #[error("on NDIF there is no {what}: {instead}")]
    Unsupported {
        /// The setting.
        what: String,
        /// What there is.
        instead: &'static str,
    },
    /// The model is computed in another way than before.
    #[error(
        "`{name}` is computed in {now}, and was in {before} when it was opened: start again, so that \
         results say what made them"
    )]
    Changed {
        /// The model.
        name: String,
        /// Type, server and versions when it was opened.
        before: String,
        /// The same now.
        now: String,
    },
    /// A wave whose controls did not come out, again and again.
    #[error(
        "the control cells of {n} waves did not come out, which were thrown away; the last: {what}. \
         The server does not compute what was asked for: nothing of this model can be trusted there"
    )]
    Control {
        /// How many waves.
        n: usize,
        /// What was found and expected.
        what: String,
    },
    /// Requests end well and bring nothing.
    #[error(
        "the server says that it is done and has not sent all cells, {0} times in a row: try again later"
    )]
    Incomplete(usize),
    /// A model that cannot be described.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A document that cannot be written.
    #[error(transparent)]
    Sweep(#[from] SweepError),
}

fn last_words(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("; its last words: {text}") }
}

impl NdifError {
    /// Whether no request to this server would do better, whatever is asked for.
    pub fn is_of_the_server(&self) -> bool {
        match self {
            Self::NoHelper { .. } | Self::Changed { .. } | Self::Control { .. } => true,
            Self::Failed { reason, .. } => matches!(
                reason,
                Reason::Key | Reason::Model | Reason::Unsupported | Reason::Unreachable
            ),
            _ => false,
        }
    }

    /// What the helper or the server said that does not fit.
    pub(super) fn bad(what: impl Into<String>) -> Self {
        Self::BadAnswer(what.into())
    }
}
