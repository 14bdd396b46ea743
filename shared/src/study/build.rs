//! Makes a study of the results of its pairs.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Map;

use super::values::{self, Arrays, METRICS};
use super::{
    Group, Keep, Rule, SCHEMA, Study, StudyAxis, StudyGrid, StudyPair, StudyPrompt, Summary,
    compare,
};
use crate::document::{AxisKeys, CellGrid, Document, Prompt, Provenance, content_id};
use crate::specification::roles::{PromptTokens, Role, roles};
use crate::specification::settings::Settings;
use crate::specification::vocabulary::{Direction, Site, Span, Written};
use crate::statistics::{Method, WEAK_CONTRAST};

/// How a study is made.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// What it is called.
    pub title: String,
    /// What its author says of it, in Markdown.
    pub text: String,
    /// Which pairs count.
    pub rule: Rule,
    /// The column of the table whose values make groups.
    pub group_by: Option<String>,
    /// How intervals and tests are computed.
    pub method: Method,
}

impl Default for Rule {
    fn default() -> Self {
        Self { keep: Keep::default(), min_contrast: WEAK_CONTRAST }
    }
}

impl Rule {
    /// Whether the least contrast is one: 0 or more, and finite.
    pub fn is_valid(&self) -> bool {
        self.min_contrast >= 0.0 && self.min_contrast.is_finite()
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            title: "Study".into(),
            text: String::new(),
            rule: Rule::default(),
            group_by: None,
            method: Method::default(),
        }
    }
}

/// Results that make no study.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// No results.
    #[error("a study needs the result of one pair at least")]
    Empty,
    /// Of different models.
    #[error(
        "the results are of different models, {0} and {1}: make a study of each, and compare them"
    )]
    Models(String, String),
    /// A file of another tool, or of an early version.
    #[error("the result {id} of {entity:?} does not say {what}: sweep the pair again")]
    Unknown {
        /// The result.
        id: String,
        /// Its entity.
        entity: String,
        /// What it does not say.
        what: &'static str,
    },
    /// Cells that no study has.
    #[error(
        "the result {id} has a grid at {site} whose cells are neither swept positions, named sets of positions nor heads"
    )]
    Cells {
        /// The result.
        id: String,
        /// The grid's site.
        site: Site,
    },
    /// A pair twice.
    #[error("the result {0} is there twice")]
    Twice(String),
    /// A column that no row has.
    #[error("no pair has a column `{found}` to make groups of: they have {has}")]
    NoColumn {
        /// The column.
        found: String,
        /// What there is.
        has: String,
    },
    /// Too many groups.
    #[error("the column `{0}` has {1} values: groups are made of up to {MAX_GROUPS}")]
    Groups(String, usize),
}

/// A column with more values than this is no grouping.
const MAX_GROUPS: usize = 12;

/// What the columns of a pair's grid are.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Columns {
    /// The swept positions.
    Positions,
    /// Named sets.
    Spans(Vec<Span>),
    /// Everything together.
    One,
}

/// What makes two pairs' grids the same.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Name {
    site: Site,
    direction: Direction,
    window: usize,
    write: Written,
    receiver: Prompt,
    n_heads: Option<usize>,
    columns: Columns,
}

/// A grid's values, of each pair `[column][layer][head]` for each of [`METRICS`].
struct Raw {
    name: Name,
    pairs: Vec<Option<[Vec<f32>; 3]>>,
}

/// Takes results one by one, in the table's order, so that they need not be in memory together.
#[derive(Default)]
pub struct Builder {
    head: Option<Head>,
    pairs: Vec<StudyPair>,
    directions: Vec<Direction>,
    ids: BTreeSet<String>,
    grids: Vec<Raw>,
    provenance: Vec<Provenance>,
}

/// What all results have in common.
struct Head {
    model: String,
    fingerprint: Option<String>,
    n_layers: usize,
    answers: Option<[String; 2]>,
    settings: Option<Settings>,
}

impl Builder {
    /// No results yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether it has the result `id`: two rows of a table may be the same experiment.
    pub fn has(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    /// Takes a result.
    ///
    /// # Errors
    /// [`BuildError`] where it does not belong to those before it, or does not say enough.
    pub fn push(&mut self, document: &Document) -> Result<(), BuildError> {
        let unknown = |what| BuildError::Unknown {
            id: document.id.clone(),
            entity: document.entity.clone(),
            what,
        };
        if document.base_tokens.is_empty() || document.source_tokens.is_empty() {
            return Err(unknown("which tokens the prompts have"));
        }
        let site = document.site.ok_or_else(|| unknown("what was patched"))?;
        let direction = document.direction.ok_or_else(|| unknown("in which direction"))?;
        if self.has(&document.id) {
            return Err(BuildError::Twice(document.id.clone()));
        }
        let flat;
        let grids = match &document.grids[..] {
            [] => {
                flat = [flat_grid(document, site, direction)];
                &flat[..]
            }
            grids => grids,
        };
        let named: Vec<_> = grids
            .iter()
            .map(|grid| Ok((name(document, grid)?, grid)))
            .collect::<Result<_, BuildError>>()?;
        self.see_head(document)?;
        self.see_provenance(document);
        let pair = self.pairs.len();
        self.pairs.push(study_pair(document));
        self.directions.push(direction);
        self.ids.insert(document.id.clone());
        for (name, grid) in named {
            let found = self.grids.iter().position(|raw| raw.name == name);
            let at = found.unwrap_or_else(|| {
                self.grids.push(Raw { name, pairs: Vec::new() });
                self.grids.len() - 1
            });
            let raw = &mut self.grids[at];
            raw.pairs.resize(pair + 1, None);
            raw.pairs[pair] = Some(by_column(grid, &raw.name, document.num_layers));
        }
        Ok(())
    }

    fn see_head(&mut self, document: &Document) -> Result<(), BuildError> {
        let fingerprint = document.provenance.as_ref().map(|p| p.model_fingerprint.clone());
        let answers = document.answers.as_ref();
        let answers = answers.map(|a| [a.true_answer.word.clone(), a.false_answer.word.clone()]);
        let Some(head) = &mut self.head else {
            self.head = Some(Head {
                model: document.model.clone(),
                fingerprint,
                n_layers: document.num_layers,
                answers,
                settings: document.settings.clone(),
            });
            return Ok(());
        };
        let is_other =
            head.fingerprint.as_ref().zip(fingerprint.as_ref()).is_some_and(|(a, b)| a != b);
        if head.model != document.model || head.n_layers != document.num_layers || is_other {
            return Err(BuildError::Models(head.model.clone(), document.model.clone()));
        }
        if head.answers != answers {
            head.answers = None;
        }
        if head.settings != document.settings {
            head.settings = None;
        }
        Ok(())
    }

    /// One entry for each engine, model and device, with the sums of what they cost.
    fn see_provenance(&mut self, document: &Document) {
        let Some(new) = &document.provenance else { return };
        let is_like = |old: &&mut Provenance| {
            let alike = Provenance {
                wall_secs: new.wall_secs,
                operations: new.operations,
                finished_at: new.finished_at.clone(),
                ..(*old).clone()
            };
            alike == *new
        };
        match self.provenance.iter_mut().find(is_like) {
            Some(old) => {
                old.wall_secs += new.wall_secs;
                old.operations += new.operations;
                old.finished_at = old.finished_at.clone().max(new.finished_at.clone());
            }
            None => self.provenance.push(new.clone()),
        }
    }

    /// The study of all results so far, with the file of their values.
    ///
    /// # Errors
    /// [`BuildError`] where there are none, or none can be grouped as asked.
    pub fn finish(&self, options: &Options) -> Result<(Study, Vec<u8>), BuildError> {
        let head = self.head.as_ref().ok_or(BuildError::Empty)?;
        let mut pairs = self.pairs.clone();
        for (pair, direction) in pairs.iter_mut().zip(&self.directions) {
            pair.left_out = left_out(pair, *direction, &options.rule);
        }
        let groups = groups(&pairs, options.group_by.as_deref())?;
        let how = serde_json::json!({
            "pairs": pairs.iter().map(|pair| &pair.id).collect::<Vec<_>>(),
            "rows": pairs.iter().map(|pair| &pair.row).collect::<Vec<_>>(),
            "rule": options.rule,
            "group_by": options.group_by,
            "method": options.method,
        });
        let mut study = Study {
            schema: SCHEMA.into(),
            id: content_id(&how.to_string()),
            title: options.title.clone(),
            text: options.text.clone(),
            model: head.model.clone(),
            num_layers: head.n_layers,
            answers: head.answers.clone(),
            settings: head.settings.clone(),
            rule: options.rule,
            method: options.method,
            group_by: options.group_by.clone(),
            pairs,
            grids: Vec::new(),
            values: None,
            provenance: self.provenance.clone(),
            extra: Map::new(),
        };
        let mut arrays = Arrays::new();
        for (at, raw) in self.grids.iter().enumerate() {
            let grid = raw.grid(&study);
            raw.add_arrays(&study, &grid, at, &mut arrays);
            study.grids.push(grid);
        }
        for at in 0..study.grids.len() {
            let logit_diff = &arrays[&values::name(at, METRICS[0])].1;
            let grid = &study.grids[at];
            let summary = |group: Option<&Group>| {
                let pooled = study.pooled(grid, logit_diff, study.kept(group));
                Summary::of(grid, group.cloned(), &pooled, &options.method)
            };
            let all = [None].into_iter().chain(groups.iter().map(Some));
            let summaries = all.map(summary).collect();
            let differences = compare::groups(&study, grid, logit_diff, &groups);
            let grid = &mut study.grids[at];
            (grid.summaries, grid.differences) = (summaries, differences);
        }
        let (file, place) = values::pack(&arrays);
        study.values = Some(place);
        Ok((study, file))
    }
}

/// The notebook's grid as one of a version that has several.
fn flat_grid(document: &Document, site: Site, direction: Direction) -> CellGrid {
    let end = document.sentence_start + document.token_labels.len();
    let list = |grid: &crate::grid::Grid<f32>| grid.cells().collect::<Vec<_>>();
    let axes = vec![
        AxisKeys::Layer((0..document.num_layers).collect()),
        AxisKeys::Position((document.sentence_start..end).collect()),
    ];
    CellGrid {
        p_true: document.readout.as_ref().map(|readout| list(&readout.p_true)),
        p_false: document.readout.as_ref().map(|readout| list(&readout.p_false)),
        ..CellGrid::of_logit_diffs(site, direction, axes, list(&document.patching_results))
    }
}

/// The first swept position of a prompt.
fn start(document: &Document, prompt: Prompt) -> usize {
    match prompt {
        Prompt::Base => document.sentence_start,
        Prompt::Source => {
            // What a grid patches there is what is swept; without one, as much as of the base.
            let of_source = |grid: &&CellGrid| grid.receiver(document) == Prompt::Source;
            let keys =
                document.grids.iter().filter(of_source).find_map(|grid| match grid.axes.last() {
                    Some(AxisKeys::Position(keys)) => keys.first().copied(),
                    _ => None,
                });
            let first = document.source_positions.iter().flatten().min().copied();
            let n = document.source_tokens.len();
            let as_much = n.saturating_sub(document.token_labels.len());
            keys.or(first).unwrap_or(as_much).min(n - 1)
        }
    }
}

/// What a pair's grid is.
fn name(document: &Document, grid: &CellGrid) -> Result<Name, BuildError> {
    let bad = || BuildError::Cells { id: document.id.clone(), site: grid.site };
    let receiver = grid.receiver(document);
    let (n_heads, columns) = match &grid.axes[..] {
        [AxisKeys::Layer(_)] => (None, None),
        [AxisKeys::Layer(_), AxisKeys::Head(heads)] => (Some(heads.len()), None),
        [AxisKeys::Layer(_), columns] => (None, Some(columns)),
        [AxisKeys::Layer(_), AxisKeys::Head(heads), columns] => (Some(heads.len()), Some(columns)),
        _ => return Err(bad()),
    };
    let swept = start(document, receiver)..receiver.tokens(document).len();
    let columns = match columns {
        None => Columns::One,
        Some(AxisKeys::Span(spans)) => Columns::Spans(spans.clone()),
        Some(AxisKeys::Position(keys)) if swept.eq(keys.iter().copied()) => Columns::Positions,
        Some(_) => return Err(bad()),
    };
    let CellGrid { site, direction, window, write, .. } = *grid;
    let is_whole = matches!(&grid.axes[0], AxisKeys::Layer(l) if l.len() == document.num_layers);
    if !is_whole {
        return Err(bad());
    }
    Ok(Name { site, direction, window, write, receiver, n_heads, columns })
}

/// A grid's values, columns first.
fn by_column(grid: &CellGrid, name: &Name, n_layers: usize) -> [Vec<f32>; 3] {
    let n_in_column = n_layers * name.n_heads.unwrap_or(1);
    let n_columns = grid.logit_diff.len() / n_in_column.max(1);
    let list = |values: Option<&Vec<Option<f32>>>| {
        let Some(values) = values else { return Vec::new() };
        let value = |at: usize| values.get(at).copied().flatten().unwrap_or(f32::NAN);
        let column = |column| (0..n_in_column).map(move |at| value(at * n_columns + column));
        (0..n_columns).flat_map(column).collect()
    };
    [list(Some(&grid.logit_diff)), list(grid.p_true.as_ref()), list(grid.p_false.as_ref())]
}

fn study_pair(document: &Document) -> StudyPair {
    let prompt = |prompt: Prompt, sentence: &str| {
        let tokens = &prompt.tokens(document)[start(document, prompt)..];
        let metric = document.baselines.as_ref().and_then(|b| b.of(prompt).logit_diff);
        StudyPrompt {
            sentence: sentence.to_string(),
            logit_diff: metric,
            tokens: tokens.iter().map(|token| token.text.clone()).collect(),
            roles: document_roles(document, prompt).split_off(start(document, prompt)),
        }
    };
    StudyPair {
        id: document.id.clone(),
        entity: document.entity.clone(),
        row: document.row.clone(),
        left_out: None,
        warnings: document.warnings(),
        base: prompt(Prompt::Base, &document.base_sentence),
        source: prompt(Prompt::Source, &document.source_sentence),
    }
}

/// What the tokens of a prompt are; of a file that does not say, as far as the tokens tell.
fn document_roles(document: &Document, prompt: Prompt) -> Vec<Role> {
    if let Some(known) = &document.roles {
        return known.of(prompt).to_vec();
    }
    let tokens = |prompt: Prompt| {
        let padding = match prompt {
            Prompt::Base => document.base_padding,
            Prompt::Source => document.source_padding,
        };
        let tokens = prompt.tokens(document);
        let padding = padding.min(tokens.len());
        (padding, tokens[padding..].iter().map(|token| token.id).collect::<Vec<_>>())
    };
    let ((padding, own), (_, other)) = (tokens(prompt), tokens(prompt.other()));
    let prompt_tokens = |ids| PromptTokens { ids, ..PromptTokens::default() };
    let of_tokens = roles(&prompt_tokens(&own), &prompt_tokens(&other));
    std::iter::repeat_n(Role::Before, padding).chain(of_tokens).collect()
}

/// Why a pair does not count, if so.
fn left_out(pair: &StudyPair, direction: Direction, rule: &Rule) -> Option<String> {
    let Some((source, base)) = pair.source.logit_diff.zip(pair.base.logit_diff) else {
        return Some("its baselines are unknown".into());
    };
    // The table's source is the prompt that should say the true answer.
    let (yes, no) = match direction {
        Direction::Denoising => (source, base),
        Direction::Noising => (base, source),
    };
    let contrast = yes - no;
    match rule.keep {
        Keep::All => None,
        Keep::Contrast if contrast >= rule.min_contrast => None,
        Keep::Contrast => {
            Some(format!("its contrast of {contrast:.2} is below {}", rule.min_contrast))
        }
        Keep::Right if yes > 0.0 && no < 0.0 => None,
        Keep::Right => {
            let wrong = match (yes > 0.0, no < 0.0) {
                (false, false) => "both prompts",
                (false, true) => "the prompt whose answer is the true one",
                _ => "the prompt whose answer is the false one",
            };
            Some(format!("the model gets {wrong} wrong ({yes:.2} and {no:.2})"))
        }
    }
}

/// The groups by a column, in the order of their values.
fn groups(pairs: &[StudyPair], group_by: Option<&str>) -> Result<Vec<Group>, BuildError> {
    let Some(column) = group_by else { return Ok(Vec::new()) };
    let values: BTreeSet<_> = pairs.iter().filter_map(|pair| pair.row.get(column)).collect();
    if values.is_empty() {
        let names: BTreeSet<_> = pairs.iter().flat_map(|pair| pair.row.keys()).collect();
        let names: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
        let has = if names.is_empty() { "no columns".into() } else { names.join(", ") };
        return Err(BuildError::NoColumn { found: column.into(), has });
    }
    if values.len() > MAX_GROUPS {
        return Err(BuildError::Groups(column.into(), values.len()));
    }
    let group = |value: &String| Group { column: column.into(), value: value.clone() };
    Ok(values.into_iter().map(group).collect())
}

impl Raw {
    /// The study's grid without statistics.
    fn grid(&self, study: &Study) -> StudyGrid {
        let Name { site, direction, window, write, receiver, n_heads, ref columns } = self.name;
        let mut axes = vec![StudyAxis::Layer((0..study.num_layers).collect())];
        axes.extend(n_heads.map(|n| StudyAxis::Head((0..n).collect())));
        match columns {
            Columns::Positions => axes.push(StudyAxis::Role(self.roles(study))),
            Columns::Spans(spans) => axes.push(StudyAxis::Span(spans.clone())),
            Columns::One => {}
        }
        StudyGrid {
            site,
            direction,
            window,
            write,
            receiver,
            axes,
            summaries: Vec::new(),
            differences: Vec::new(),
        }
    }

    /// The roles that the pairs which count have, in the order in which their tokens stand: by their
    /// mean distance from the end.
    fn roles(&self, study: &Study) -> Vec<Role> {
        let mut distances: BTreeMap<Role, (usize, usize)> = BTreeMap::new();
        let has_grid = |at: &usize| self.pairs.get(*at).is_some_and(Option::is_some);
        let kept: Vec<_> = study.kept(None).filter(has_grid).collect();
        // Where no pair counts there are still axes, with cells that are empty.
        let all = (0..study.pairs.len()).filter(has_grid);
        let pairs = if kept.is_empty() { all.collect() } else { kept };
        for pair in pairs {
            let roles = &study.pairs[pair].of(self.name.receiver).roles;
            for (from_end, role) in roles.iter().rev().enumerate() {
                let (sum, n) = distances.entry(*role).or_default();
                (*sum, *n) = (*sum + from_end, *n + 1);
            }
        }
        let mut roles: Vec<_> = distances.into_iter().collect();
        let mean = |(sum, n): (usize, usize)| sum as f64 / n as f64;
        roles.sort_by(|a, b| mean(b.1).total_cmp(&mean(a.1)));
        roles.into_iter().map(|(role, _)| role).collect()
    }

    /// The values of all pairs; of metrics that no pair has, none.
    fn add_arrays(&self, study: &Study, grid: &StudyGrid, at: usize, arrays: &mut Arrays) {
        let n_in_column = grid.n_in_column();
        for (metric, name) in METRICS.iter().enumerate() {
            let of = |pair: usize| self.pairs.get(pair)?.as_ref().map(|lists| &lists[metric]);
            let has_any =
                (0..study.pairs.len()).any(|pair| of(pair).is_some_and(|v| !v.is_empty()));
            if !has_any {
                continue;
            }
            let mut all = Vec::new();
            for (pair, of_study) in study.pairs.iter().enumerate() {
                let n = values::n_columns(grid, of_study) * n_in_column;
                match of(pair).filter(|list| list.len() == n) {
                    Some(list) => all.extend_from_slice(list),
                    None => all.extend(std::iter::repeat_n(f32::NAN, n)),
                }
            }
            let mut shape = vec![all.len() / n_in_column.max(1), study.num_layers];
            shape.extend(self.name.n_heads);
            arrays.insert(values::name(at, name), (shape, all));
        }
    }
}
