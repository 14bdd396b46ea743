//! What listeners see of the sweep that is being run.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use shared::specification::{Axis, Key, Specification};
use shared::wire::event::{Column, Event, Live, LiveBaselines};

use super::Queue;
use crate::experiment::{self, Experiment};
use crate::model::Description;
use crate::store::Claim;
use crate::sweep::{self, Finished, Progress, Reading};

/// How often listeners are told the share that is done.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// The sweep before its first column.
fn before(claim: &Claim, model: &Description, experiment: &Experiment) -> Live {
    let alignment = &experiment.alignment;
    let swept = model.tokenizer.tokens(&alignment.base[alignment.start..]);
    Live {
        job: claim.job.clone(),
        index: claim.index,
        experiment: claim.experiment.clone(),
        model: model.name.clone(),
        entity: experiment.entity.clone(),
        site: Some(experiment.settings.sites.first()),
        answers: Some(experiment.answers.clone()),
        n_layers: model.config.n_layers,
        sentence_start: alignment.start,
        token_labels: swept.into_iter().map(|token| token.text).collect(),
        share: 0.0,
        left_secs: None,
        baselines: None,
        said: None,
        columns: Vec::new(),
    }
}

/// How much of a sweep was there when it was begun, and how much is left to compute; operations, or
/// anything else that takes about as long.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// What was there.
    pub found: f64,
    /// What is left.
    pub left: f64,
}

/// Turns what the engine tells into events.
pub struct Announcer<'a> {
    queue: &'a Queue,
    claim: &'a Claim,
    specification: &'a Specification,
    begin: Instant,
    told_at: Instant,
    work: Work,
    /// The share of what was left that is done.
    share: f64,
    /// The columns of the first grid of layers and positions of which some cells are missing.
    unfinished: BTreeMap<usize, Unfinished>,
    /// That grid and its positions.
    shown: Option<(usize, Range<usize>)>,
}

/// A column of which some cells are missing.
#[derive(Clone)]
struct Unfinished {
    /// How many trials are missing.
    n_missing: usize,
    readings: BTreeMap<usize, Reading>,
}

impl<'a> Announcer<'a> {
    /// Says nothing yet.
    pub fn new(queue: &'a Queue, claim: &'a Claim, experiment: &'a Experiment, work: Work) -> Self {
        let begin = Instant::now();
        let specification = &experiment.specification;
        let shown =
            specification.grids.iter().enumerate().find_map(|(i, grid)| match &grid.axes[..] {
                [Axis::Layer(_), Axis::Position(positions)] => Some((i, positions.clone())),
                _ => None,
            });
        let mut unfinished = BTreeMap::new();
        for trial in &specification.trials {
            if let Some(position) = column(shown.as_ref(), trial.key) {
                let none = Unfinished { n_missing: 0, readings: BTreeMap::new() };
                unfinished.entry(position).or_insert(none).n_missing += 1;
            }
        }
        Self {
            queue,
            claim,
            specification,
            begin,
            told_at: begin,
            work,
            share: 0.0,
            unfinished,
            shown,
        }
    }

    /// Says that the sweep begins, with the columns that are there already.
    pub fn begin(&mut self, model: &Description, experiment: &Experiment, found: &Finished) {
        let found: Vec<_> =
            found.iter().map(|(&trial, reading)| (trial, reading.clone())).collect();
        let (columns, share) = (self.finished(&found), self.share(0.0));
        let live = Live { columns, share, ..before(self.claim, model, experiment) };
        self.queue.events.send(Event::Begun { live });
    }

    /// Seconds since the beginning.
    pub fn secs(&self) -> f64 {
        self.begin.elapsed().as_secs_f64()
    }

    /// What was done since the beginning of what was left.
    pub fn done(&self) -> f64 {
        self.share * self.work.left
    }

    /// The share of the whole sweep that is done, of which a part may have been there.
    fn share(&self, share: f64) -> f64 {
        let Work { found, left } = self.work;
        if found + left > 0.0 { (found + share * left) / (found + left) } else { share }
    }

    /// Tells the share of what was left that is done.
    pub fn is_at(&mut self, share: f64) {
        (self.share, self.told_at) = (share, Instant::now());
        let left = self.begin.elapsed().as_secs_f64() * (1.0 - share) / share;
        self.queue.events.send(Event::Progress {
            job: self.claim.job.clone(),
            index: self.claim.index,
            share: self.share(share),
            left_secs: left.is_finite().then_some(left),
        });
    }

    /// Passes on what the server says that computes the pair.
    pub fn said(&self, text: &str) {
        let (job, index) = (self.claim.job.clone(), self.claim.index);
        self.queue.events.send(Event::Said { job, index, text: text.to_string() });
    }

    /// Passes on what the engine tells of the pair.
    pub fn tell(&mut self, progress: Progress) {
        let (job, index) = (self.claim.job.clone(), self.claim.index);
        match progress {
            Progress::Share(share) if self.told_at.elapsed() >= TELL_EVERY => self.is_at(share),
            Progress::Share(share) => self.share = share,
            Progress::Pair { .. } => {}
            Progress::Runs { readings, .. } => {
                let both = experiment::base_and_source(self.specification, readings);
                let value =
                    |reading: &Reading| Some(reading.logit_diff).filter(|value| value.is_finite());
                if let Some([base, source]) = both {
                    let baselines = LiveBaselines { source: value(&source), base: value(&base) };
                    self.queue.events.send(Event::Baselines { job, index, baselines });
                }
            }
            Progress::Trials { readings, .. } => {
                let columns = self.finished(readings);
                if !columns.is_empty() {
                    self.queue.events.send(Event::Columns { job, index, columns });
                }
            }
        }
    }

    /// The columns that these trials complete. A trial that was heard before counts once.
    fn finished(&mut self, readings: &[(usize, Reading)]) -> Vec<Column> {
        let mut finished = Vec::new();
        for (trial, reading) in readings {
            let key = self.specification.trials[*trial].key;
            let Some(position) = column(self.shown.as_ref(), key) else { continue };
            let Some(unfinished) = self.unfinished.get_mut(&position) else { continue };
            if unfinished.readings.insert(*trial, reading.clone()).is_none() {
                unfinished.n_missing -= 1;
            }
            if unfinished.n_missing == 0
                && let Some(whole) = self.unfinished.remove(&position)
            {
                finished.push(self.column(position, &whole));
            }
        }
        finished
    }

    /// A column that is whole.
    fn column(&self, position: usize, whole: &Unfinished) -> Column {
        let mut cells = BTreeMap::<usize, Vec<_>>::new();
        for (trial, reading) in &whole.readings {
            let trial = &self.specification.trials[*trial];
            cells.entry(trial.key.cell).or_default().push((trial, reading));
        }
        let value = |trials: &Vec<_>| {
            let cell = sweep::combined(self.specification, trials)?;
            Some(cell.logit_diff).filter(|value| value.is_finite())
        };
        Column { position, logit_diff: cells.values().map(value).collect() }
    }
}

/// The position of a cell of the grid that is shown.
fn column(shown: Option<&(usize, Range<usize>)>, key: Key) -> Option<usize> {
    let (grid, positions) = shown?;
    (key.grid == *grid).then(|| positions.start + key.cell % positions.len())
}
