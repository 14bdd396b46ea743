//! From a table's pairs to experiments, and from readings to result documents. What can be wrong
//! with a pair is known here, before any long work; running belongs to [`crate::sweep`].

mod answers;
mod document;
mod error;
mod finished;
mod prepare;
mod preview;
mod recheck;
mod run;
mod spans;

use std::collections::BTreeMap;

use shared::document::{Answers, Roles};
use shared::specification::alignment::Alignment;
use shared::specification::settings::Settings;
use shared::specification::vocabulary::Direction;
use shared::specification::{SpanPositions, Specification};

pub use document::{Cost, base_and_source};
pub use error::PrepareError;
pub use finished::Part;
pub use prepare::mean_over;
pub use preview::N_SAID;
pub use recheck::recheck;
pub use run::{compile, run};

/// Part of every id: raised whenever any number of any result may change, so that what an older
/// version computed is not taken for what this one would.
pub const NUMERICS: u32 = 7;

/// A pair made ready for the model.
#[derive(Debug, Clone)]
pub struct Experiment {
    /// What is run.
    pub specification: Specification,
    /// What was asked for.
    pub settings: Settings,
    /// The two prompts' tokens and the swept positions.
    pub alignment: Alignment,
    /// What both sentences are about; may be empty.
    pub entity: String,
    /// The source prompt.
    pub source_prompt: String,
    /// The base prompt.
    pub base_prompt: String,
    /// The answers and the tokens that count as them.
    pub answers: Answers,
    source_sentence: String,
    base_sentence: String,
    template: Option<String>,
    /// Which of the pair's prompts is the source; of both directions, the first.
    direction: Direction,
    /// What each token of both runs is.
    pub roles: Roles,
    /// For each token of the source run the bytes of its sentence, marks not counted; `None` outside.
    pub source_bytes: Vec<Option<[usize; 2]>>,
    /// The same of the base run.
    pub base_bytes: Vec<Option<[usize; 2]>>,
    /// The pair's row of the table.
    pub row: BTreeMap<String, String>,
    spans: Vec<SpanPositions>,
}
