//! What is asked of a server, and how far it is: submissions, previews, jobs.
//!
//! A job is a batch of pairs that were submitted together. Its pairs are run one by one, so a pair
//! that fails leaves the others as they are, and a job that is interrupted goes on from the pairs
//! that are finished.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::document::{Answers, Baselines, Roles, Token};
use crate::specification::correspondence::Correspondence;
use crate::specification::pairs::{TableColumns, TableFormat};
use crate::specification::settings::Settings;
use crate::specification::vocabulary::named;

/// What to sweep: `pairs` or a `table`, not both.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Submission {
    /// One of the server's models, by name; without it the server's first.
    #[serde(default)]
    pub model: Option<String>,
    /// A name for people, e.g. the table's file name.
    #[serde(default)]
    pub name: Option<String>,
    /// The pairs, one by one.
    #[serde(default)]
    pub pairs: Vec<PairInput>,
    /// The pairs as a table.
    #[serde(default)]
    pub table: Option<TableInput>,
    /// What is the same for all pairs.
    #[serde(default)]
    pub settings: Settings,
    /// Whether to compute pairs that have a result once more; what comes of it takes the result's
    /// place.
    #[serde(default)]
    pub again: bool,
}

/// One pair of sentences.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PairInput {
    /// What both are about; may be empty.
    #[serde(default)]
    pub entity: String,
    /// The sentence whose activations are patched in.
    pub source: String,
    /// The sentence that receives them.
    pub base: String,
    /// More columns by name, for templates and answers.
    #[serde(default)]
    pub cells: BTreeMap<String, String>,
}

/// A table of pairs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TableInput {
    /// The table's text, header included.
    pub text: String,
    /// How it is written.
    #[serde(default)]
    pub format: TableFormat,
    /// Which columns mean what; without it `name`, `power`, `no_power` or `name`, `source`, `base`.
    #[serde(default)]
    pub columns: TableColumns,
}

/// What a submission would do, before it is submitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Preview {
    /// The model's name.
    pub model: String,
    /// All pairs of the submission, of which the first few are shown in [`Self::pairs`].
    pub n_pairs: usize,
    /// The pairs that have a result already, which will be shown and not computed; 0 where all are
    /// to be computed again.
    pub n_known: usize,
    /// Seconds that the new ones will take, beyond waiting for others; `null` for a model on a server
    /// on which nothing has been swept yet.
    pub estimated_secs: Option<f64>,
    /// The first few pairs.
    pub pairs: Vec<PairPreview>,
}

/// What a pair becomes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PairPreview {
    /// The id that its result will have.
    pub experiment: String,
    /// Whether the result is there already.
    pub known: bool,
    /// What both sentences are about.
    pub entity: String,
    /// The prompt whose activations are patched in.
    pub source_prompt: String,
    /// The prompt that receives them.
    pub base_prompt: String,
    /// The source run's tokens, padding included.
    pub source_tokens: Vec<Token>,
    /// The base run's tokens, padding included.
    pub base_tokens: Vec<Token>,
    /// How many padding tokens the source run begins with.
    pub source_padding: usize,
    /// How many padding tokens the base run begins with.
    pub base_padding: usize,
    /// The base position of the grid's first column; the last is the base's last token.
    pub sentence_start: usize,
    /// For each column the source position that corresponds; `null` where none does.
    #[serde(default)]
    pub source_positions: Vec<Option<usize>>,
    /// What each token is in its prompt; `null` only in answers of earlier versions.
    #[serde(default)]
    pub roles: Option<Roles>,
    /// For each of the source's tokens the bytes of its sentence, marks not counted, that it stands
    /// for; `null` outside of the sentence.
    #[serde(default)]
    pub source_bytes: Vec<Option<[usize; 2]>>,
    /// The same of the base's.
    #[serde(default)]
    pub base_bytes: Vec<Option<[usize; 2]>>,
    /// The first base position at which the runs differ.
    pub first_difference: usize,
    /// The answers and the tokens that count as them.
    pub answers: Answers,
    /// Both unpatched runs; `null` for a model whose weights are read from disk or are on another
    /// server, which takes too long for a preview, and where they need more memory than the server
    /// has for previews.
    pub baselines: Option<Baselines>,
    /// What the model itself says after each prompt, the most probable token each time; `null` for
    /// all pairs but the first, and for a model whose weights are read from disk or are on another
    /// server.
    #[serde(default)]
    pub said: Option<Said>,
    /// What a reader should know before the sweep, a sentence each.
    pub warnings: Vec<String>,
    /// The layers of the grid.
    pub n_layers: usize,
    /// The cells that will be computed; the others are known beforehand.
    pub n_cells: usize,
    /// Seconds that the sweep will take; `null` where nobody can tell yet.
    pub estimated_secs: Option<f64>,
}

impl PairPreview {
    /// The tokens that correspond, base to source.
    pub fn correspondence(&self) -> Correspondence {
        let pair = |(base, source): (usize, &Option<usize>)| {
            Some((
                base.checked_sub(self.base_padding)?,
                source.as_ref()?.checked_sub(self.source_padding)?,
            ))
        };
        (self.sentence_start..).zip(&self.source_positions).filter_map(pair).collect()
    }
}

/// What a model says after a pair's prompts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Said {
    /// After the source prompt, as many tokens as are shown.
    pub source: Vec<Token>,
    /// After the base prompt.
    pub base: Vec<Token>,
}

named! {
    /// How far a job or one of its pairs is.
    State, "state" {
        /// It waits for its turn.
        #[default]
        Queued = "queued",
        /// It is being computed.
        Running = "running",
        /// It has a result. A job is done when none of its pairs is left and at least one is done.
        Done = "done",
        /// It has none, and an error says why. A job has failed when all of its pairs have.
        Failed = "failed",
        /// Somebody cancelled it.
        Cancelled = "cancelled",
    }
}

impl State {
    /// Whether nothing more will happen.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

/// A batch of pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Job {
    /// 20 hexadecimal digits.
    pub id: String,
    /// A name for people.
    pub name: String,
    /// The model's name.
    pub model: String,
    /// What is the same for all pairs.
    pub settings: Settings,
    /// How far it is.
    pub state: State,
    /// All pairs.
    pub n_pairs: usize,
    /// Those with a result.
    pub n_done: usize,
    /// Those without one, for a reason.
    pub n_failed: usize,
    /// How many pairs of any job run before this job's next one; `null` when it waits for none.
    pub n_ahead: Option<usize>,
    /// When it was submitted, in UTC, `2026-01-31T12:00:00Z`.
    pub submitted_at: String,
    /// When its first pair began.
    pub started_at: Option<String>,
    /// When nothing was left to do.
    pub finished_at: Option<String>,
    /// Why it failed: the first pair's reason.
    pub error: Option<String>,
}

/// A job and all of its pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobDetail {
    /// The job.
    pub job: Job,
    /// Its pairs, in the order of the table.
    pub pairs: Vec<JobPair>,
}

/// One pair of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobPair {
    /// Which of the job's pairs, from 0.
    pub index: usize,
    /// The line of the table, from 1; 0 where there was none.
    pub line: u64,
    /// What both sentences are about.
    pub entity: String,
    /// The source's sentence.
    pub source: String,
    /// The base's sentence.
    pub base: String,
    /// What corresponds, of an alignment by hand: the cell `align` of the pair's row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_hand: Option<String>,
    /// The id that the result has, or will have.
    pub experiment: String,
    /// How far it is.
    pub state: State,
    /// Why it failed.
    pub error: Option<String>,
}

/// Where an experiment is: among the results, in the queue, or nowhere.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Standing {
    /// Whether it has a result.
    pub stored: bool,
    /// The job of [`Self::pair`].
    pub job: Option<Job>,
    /// The pair that makes it, or made it: one that is not finished, otherwise the latest.
    pub pair: Option<JobPair>,
}

/// Jobs, the newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobList {
    /// The jobs.
    pub jobs: Vec<Job>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_submission_needs_no_more_than_its_pair() {
        let text = r#"{"pairs": [{"source": "a", "base": "b"}]}"#;
        let submission: Submission = serde_json::from_str(text).unwrap();
        assert_eq!(submission.settings, Settings::default());
        assert_eq!(submission.pairs[0].source, "a");
        let unknown = serde_json::from_str::<Submission>(r#"{"settings": {"sight": "x"}}"#);
        assert!(unknown.unwrap_err().to_string().contains("unknown field `sight`"));
    }

    #[test]
    fn only_three_states_are_final() {
        let last: Vec<_> = State::ALL.iter().filter(|state| state.is_final()).collect();
        assert_eq!(last, [&State::Done, &State::Failed, &State::Cancelled]);
    }
}
