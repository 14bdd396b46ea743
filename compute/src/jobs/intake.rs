//! From a submission to pairs that are known to be runnable: whatever can be wrong with it is said
//! now, every bad row at once.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use shared::document::{Baselines, Document};
use shared::specification::MeanOver;
use shared::specification::pairs::{self, Columns, Pair, TableError};
use shared::specification::settings::{Checked, SettingsError};
use shared::wire::job::{PairPreview, Preview, Said, Submission};
use shared::wire::listing::Limits;
use shared::wire::problem::RowProblem;

use super::{Engine, Offered, Queue};
use crate::experiment::{self, Experiment};
use crate::model::{Description, Model};
use crate::ndif::plan::PairPlan;
use crate::ndif::{NdifError, check_experiment, check_settings};
use crate::store::{NewPair, StoreError, wanted};
use crate::sweep::{Finished, SweepError, speed, unpatched_bytes};

/// How many pairs a preview shows; of the others it only says that they can be run.
pub const PREVIEW_PAIRS: usize = 3;
/// The most bad rows that are named.
const N_NAMED_ROWS: usize = 200;

/// A submission that is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// Neither pairs nor a table, or both.
    #[error("a submission holds `pairs` or a `table`, found {0}")]
    PairsOrTable(&'static str),
    /// A model that is not offered.
    #[error("`{found}` is none of the models: expected one of {expected}")]
    UnknownModel {
        /// What was asked for.
        found: String,
        /// What there is.
        expected: String,
    },
    /// A server without models.
    #[error("this server has no model: it only shows what is there")]
    NoModel,
    /// A model on a server that could not be opened yet.
    #[error(
        "`{name}` is on NDIF and could not be opened there: {why}. This server asks again by itself"
    )]
    Away {
        /// The model.
        name: String,
        /// Why.
        why: String,
    },
    /// Settings that cannot be followed.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Settings that cannot be followed on NDIF.
    #[error(transparent)]
    Ndif(#[from] NdifError),
    /// More pairs, or more of something else, than one submission may hold.
    #[error("found {found} {what}, and {limit} are allowed in one submission: split it")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many.
        found: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// Rows that cannot be run.
    #[error("{n} of the rows cannot be run, the first: {}", first(.rows))]
    Rows {
        /// How many.
        n: usize,
        /// What is wrong with them, in order; cut off where there are very many.
        rows: Vec<RowProblem>,
    },
    /// Too many pairs wait.
    #[error(
        "{n_waiting} pairs wait and {n_new} would come, of at most {limit}: wait until some are done"
    )]
    QueueFull {
        /// How many wait.
        n_waiting: usize,
        /// How many would come.
        n_new: usize,
        /// How many may wait.
        limit: usize,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The computation failed.
    #[error(transparent)]
    Sweep(#[from] SweepError),
}

fn first(rows: &[RowProblem]) -> String {
    rows.first().map_or(String::new(), |row| format!("line {}: {}", row.line, row.message))
}

/// The pairs of a submission, their model, and what is wrong with any.
pub fn check<'a>(
    queue: &'a Queue,
    submission: &Submission,
    is_cancelled: &dyn Fn() -> bool,
) -> Result<(&'a Offered, Vec<NewPair>), IntakeError> {
    let mut pairs = Vec::new();
    let offered = prepared(queue, submission, is_cancelled, |_, pair, id, _| {
        pairs.push(NewPair { pair, experiment: id });
    })?;
    Ok((offered, pairs))
}

/// What a submission would do. Ends early once nobody waits for it.
pub fn preview(
    queue: &Queue,
    submission: &Submission,
    is_cancelled: &dyn Fn() -> bool,
) -> Result<Preview, IntakeError> {
    let (mut ids, mut shown, mut work) = (Vec::new(), Vec::new(), Vec::new());
    let mut plan_error = None;
    let offered = prepared(queue, submission, is_cancelled, |offered, _, id, experiment| {
        match planned(queue, offered, &experiment) {
            Ok((done, n_computed)) => {
                work.push(done);
                ids.push(id);
                if shown.len() < PREVIEW_PAIRS {
                    shown.push((experiment, n_computed));
                }
            }
            Err(error) => plan_error = Some(error),
        }
    })?;
    if let Some(error) = plan_error {
        return Err(error);
    }
    let model = offered.model()?;
    let known = queue.store.known(&ids, wanted(&submission.settings))?;
    let _alone = queue.previewing.lock().unwrap_or_else(PoisonError::into_inner);
    let mut pairs = Vec::with_capacity(shown.len());
    let (mut baseline_operations, mut baseline_secs) = (0.0, 0.0);
    for (i, (experiment, n_cells)) in shown.into_iter().enumerate() {
        // What the model says takes a run a token: enough for one pair, and too much for every pair
        // while somebody types.
        let unpatched = match &offered.engine {
            Engine::Here(copies) => {
                unpatched(queue, &copies[0], &experiment, i == 0, is_cancelled)?
            }
            Engine::Ndif(_) => Unpatched::default(),
        };
        baseline_operations += unpatched.operations;
        baseline_secs += unpatched.secs;
        pairs.push(pair_preview(model, ids[i].clone(), experiment, n_cells, known[i], unpatched));
    }
    let speed = match (offered.speed(), &offered.engine) {
        (Some(speed), _) => Some(speed),
        // Until a sweep has been timed, the unpatched runs say what to expect.
        (None, Engine::Here(_)) if baseline_operations > 0.0 => {
            Some(baseline_operations / baseline_secs.max(1e-6))
        }
        (None, Engine::Here(copies)) => {
            let placement = &copies[0].network.placement;
            Some(speed::estimate(placement).map_err(SweepError::from)?)
        }
        (None, Engine::Ndif(_)) => None,
    };
    let secs = |work: f64| speed.map(|speed| work / speed.max(1e-3));
    for (pair, work) in pairs.iter_mut().zip(&work) {
        pair.estimated_secs = secs(*work);
    }
    let is_shown = |known: &bool| *known && !submission.again;
    let new = work.iter().zip(&known).filter(|(_, known)| !is_shown(known));
    Ok(Preview {
        model: model.name.clone(),
        n_pairs: ids.len(),
        n_known: known.iter().filter(|known| is_shown(known)).count(),
        estimated_secs: secs(new.map(|(work, _)| work).sum()),
        pairs,
    })
}

/// The work of an experiment, operations or, on a server, cells, and how many cells are computed.
fn planned(
    queue: &Queue,
    offered: &Offered,
    experiment: &Experiment,
) -> Result<(f64, usize), IntakeError> {
    match &offered.engine {
        Engine::Here(copies) => {
            let allowed = queue.settings.n_memory_bytes;
            let program = queue.compile_alone(&copies[0], experiment, Finished::new(), allowed)?;
            Ok((program.operations.done, program.n_computed()))
        }
        Engine::Ndif(_) => {
            let n_layers = offered.model()?.config.n_layers;
            let n_cells = PairPlan::new(&experiment.specification, n_layers)?.n_cells();
            Ok((n_cells as f64, n_cells))
        }
    }
}

/// What the model says before anything is patched, where there is room to ask it.
#[derive(Default)]
struct Unpatched {
    baselines: Option<Baselines>,
    said: Option<Said>,
    /// What the baselines took.
    operations: f64,
    secs: f64,
}

/// Runs the prompts of an experiment unpatched, and if asked for what the model itself says.
fn unpatched(
    queue: &Queue,
    model: &Model,
    experiment: &Experiment,
    says: bool,
    is_cancelled: &dyn Fn() -> bool,
) -> Result<Unpatched, IntakeError> {
    let alignment = &experiment.alignment;
    let n_tokens = alignment.source.len().max(alignment.base.len());
    if unpatched_bytes(&model.network, n_tokens) > queue.settings.n_preview_bytes {
        return Ok(Unpatched::default());
    }
    let begin = Instant::now();
    let baselines = experiment.baselines(model, is_cancelled)?;
    let secs = begin.elapsed().as_secs_f64();
    let said = if says { experiment.said(model, is_cancelled)? } else { None };
    let operations = match baselines {
        Some(_) => experiment.baseline_operations(model)?,
        None => 0.0,
    };
    Ok(Unpatched { baselines, said, operations, secs })
}

fn pair_preview(
    model: &Description,
    id: String,
    experiment: Experiment,
    n_cells: usize,
    known: bool,
    Unpatched { baselines, said, .. }: Unpatched,
) -> PairPreview {
    let alignment = &experiment.alignment;
    let (n_source, n_base) = alignment.lengths();
    let mut warnings = Document::warnings_of(baselines.as_ref(), Some(&experiment.answers));
    warnings.extend(Document::length_warning(n_source, n_base, Some(experiment.settings.align)));
    PairPreview {
        said,
        known,
        source_tokens: model.tokenizer.tokens(&alignment.source),
        base_tokens: model.tokenizer.tokens(&alignment.base),
        source_padding: alignment.source_padding,
        base_padding: alignment.base_padding,
        sentence_start: alignment.start,
        source_positions: alignment.source_positions.clone(),
        roles: Some(experiment.roles.clone()),
        source_bytes: experiment.source_bytes,
        base_bytes: experiment.base_bytes,
        first_difference: alignment.first_difference,
        warnings,
        n_layers: model.config.n_layers,
        n_cells,
        estimated_secs: None,
        experiment: id,
        entity: experiment.entity,
        source_prompt: experiment.source_prompt,
        base_prompt: experiment.base_prompt,
        answers: experiment.answers,
        baselines,
    }
}

/// Checks everything and hands out each pair with its id; nothing counts if there is an error in the end.
fn prepared<'a>(
    queue: &'a Queue,
    submission: &Submission,
    is_cancelled: &dyn Fn() -> bool,
    mut each: impl FnMut(&Offered, Pair, String, Experiment),
) -> Result<&'a Offered, IntakeError> {
    let limits = queue.limits();
    let offered = queue.offered(submission.model.as_deref()).ok_or_else(|| {
        let names: Vec<_> =
            queue.models.iter().map(|offered| format!("`{}`", offered.name())).collect();
        match &submission.model {
            Some(found) if !names.is_empty() => {
                IntakeError::UnknownModel { found: found.clone(), expected: names.join(", ") }
            }
            _ => IntakeError::NoModel,
        }
    })?;
    let model = offered.model()?;
    let too_many = |what, found, limit| match found > limit {
        true => Err(IntakeError::TooMany { what, found, limit }),
        false => Ok(()),
    };
    too_many("cells to verify", submission.settings.verify, limits.n_verified)?;
    let texts = submission.settings.answers.iter().flat_map(|pair| &pair.0);
    let longest = texts.chain([&submission.settings.template]).map(String::len).max();
    too_many("bytes of template or answer", longest.unwrap_or(0), limits.n_cell_bytes)?;
    let name_len = submission.name.as_deref().map_or(0, str::len);
    too_many("bytes of name", name_len, MAX_NAME_BYTES)?;
    let settings = submission.settings.clone().check()?;
    if let Engine::Ndif(_) = &offered.engine {
        check_settings(&settings.settings)?;
    }
    let pairs = pairs(submission, &settings)?;
    too_many("pairs", pairs.len(), limits.n_pairs)?;

    // A pair that is wrong is named below, with all others that are.
    let mean = match pairs.iter().all(|pair| check_length(pair, limits).is_ok()) {
        true => experiment::mean_over(model, &pairs, &settings).ok().flatten(),
        false => None,
    };
    let (mut n, mut rows) = (0, Vec::new());
    for pair in pairs {
        if is_cancelled() {
            return Err(SweepError::Cancelled.into());
        }
        let line = pair.line;
        let prepared = prepare(offered, model, &pair, &settings, mean.as_ref(), limits);
        let identified = prepared.and_then(|experiment| {
            Ok((experiment.id(model).map_err(|e| e.to_string())?, experiment))
        });
        match identified {
            Ok((id, experiment)) => each(offered, pair, id, experiment),
            Err(message) => {
                n += 1;
                if rows.len() < N_NAMED_ROWS {
                    rows.push(RowProblem { line, column: None, message });
                }
            }
        }
    }
    if n > 0 {
        return Err(IntakeError::Rows { n, rows });
    }
    if is_cancelled() {
        return Err(SweepError::Cancelled.into());
    }
    Ok(offered)
}

/// The most bytes of a job's name.
const MAX_NAME_BYTES: usize = 200;

fn pairs(submission: &Submission, settings: &Checked) -> Result<Vec<Pair>, IntakeError> {
    match &submission.table {
        Some(_) if !submission.pairs.is_empty() => Err(IntakeError::PairsOrTable("both")),
        None if submission.pairs.is_empty() => Err(IntakeError::PairsOrTable("neither")),
        None => Ok((1..)
            .zip(&submission.pairs)
            .map(|(line, input)| Pair {
                line,
                entity: input.entity.clone(),
                source: input.source.clone(),
                base: input.base.clone(),
                cells: input.cells.clone(),
            })
            .collect()),
        Some(table) => {
            let uses_entity =
                settings.template.iter().any(|t| t.columns().any(|column| column == "entity"));
            let bytes = table.text.as_bytes();
            let columns = Columns::guess(bytes, &table.columns, uses_entity);
            let name = submission.name.as_deref().unwrap_or("the table");
            pairs::read(name, bytes, table.format, &columns).map_err(rows)
        }
    }
}

/// The bad rows of a table.
pub fn rows(error: TableError) -> IntakeError {
    let n = error.problems.len();
    let rows = error.problems.into_iter().take(N_NAMED_ROWS).map(|problem| RowProblem {
        line: problem.line,
        column: problem.column,
        message: problem.message,
    });
    IntakeError::Rows { n, rows: rows.collect() }
}

/// Whether the texts of a pair are short enough for the tokenizer, which takes its time for a very
/// long one.
fn check_length(pair: &Pair, limits: &Limits) -> Result<(), String> {
    let texts = pair.cells.values().chain([&pair.entity, &pair.source, &pair.base]);
    let (found, limit) = (texts.map(String::len).max().unwrap_or(0), limits.n_cell_bytes);
    match found > limit {
        true => Err(format!("a cell has {found} bytes, and {limit} are allowed: shorten it")),
        false => Ok(()),
    }
}

fn prepare(
    offered: &Offered,
    model: &Description,
    pair: &Pair,
    settings: &Checked,
    mean: Option<&Arc<MeanOver>>,
    limits: &Limits,
) -> Result<Experiment, String> {
    check_length(pair, limits)?;
    if pair.source.trim().is_empty() || pair.base.trim().is_empty() {
        return Err("a sentence is empty".into());
    }
    let experiment =
        Experiment::prepare(model, pair, settings, mean).map_err(|error| error.to_string())?;
    if let Engine::Ndif(_) = &offered.engine {
        check_experiment(&experiment).map_err(|error| error.to_string())?;
    }
    let alignment = &experiment.alignment;
    let found = alignment.base.len().max(alignment.source.len());
    match found > limits.n_prompt_tokens {
        true => Err(format!(
            "a prompt has {found} tokens, and this server takes {}: shorten it",
            limits.n_prompt_tokens
        )),
        false => Ok(experiment),
    }
}
