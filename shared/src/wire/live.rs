//! The picture of what a server is doing, kept up to date by its events: on the server for
//! listeners who come in the middle of a sweep, in the viewer for what it shows.

use std::collections::BTreeSet;

use serde_json::Map;

use crate::document::{Document, Grid, Prompt, SCHEMA};
use crate::field::axis::{Axis, AxisKind};
use crate::field::metric::Metric;
use crate::field::{Field, Quantity, Reference};
use crate::wire::event::{Event, Live};
use crate::wire::job::Job;

/// Brings the picture of the running sweeps up to date with an event.
pub fn apply(live: &mut Vec<Live>, event: &Event) {
    match event {
        Event::Snapshot { live: now, .. } => *live = now.clone(),
        Event::Begun { live: begun } => match of(live, &begun.job, begun.index) {
            Some(live) => *live = begun.clone(),
            None => live.push(begun.clone()),
        },
        Event::Progress { job, index, share, left_secs } => {
            if let Some(live) = of(live, job, *index) {
                (live.share, live.left_secs) = (*share, *left_secs);
            }
        }
        Event::Baselines { job, index, baselines } => {
            if let Some(live) = of(live, job, *index) {
                live.baselines = Some(*baselines);
            }
        }
        Event::Said { job, index, text } => {
            if let Some(live) = of(live, job, *index) {
                live.said = Some(text.clone());
            }
        }
        Event::Columns { job, index, columns } => {
            if let Some(live) = of(live, job, *index) {
                live.columns.extend(columns.iter().cloned());
            }
        }
        Event::Pair { job, pair } => {
            live.retain(|live| live.job != *job || live.index != pair.index);
        }
        Event::Job { job } if job.state.is_final() => live.retain(|live| live.job != job.id),
        Event::Job { .. } => {}
        Event::JobRemoved { id } => live.retain(|live| live.job != *id),
        Event::Experiments {} => {}
    }
}

fn of<'a>(live: &'a mut [Live], job: &str, index: usize) -> Option<&'a mut Live> {
    live.iter_mut().find(|live| live.job == job && live.index == index)
}

impl Live {
    /// The result as far as it is: columns that are not finished have no values.
    pub fn field(&self) -> Field {
        let mut values = Grid::blank(self.n_layers, self.token_labels.len());
        for column in &self.columns {
            let Some(at) = column.position.checked_sub(self.sentence_start) else { continue };
            for (layer, value) in column.logit_diff.iter().enumerate() {
                values.set(layer, at, *value);
            }
        }
        let (source, base) = self.baselines.map_or((None, None), |b| (b.source, b.base));
        let references = [("source", source), ("base", base)];
        let metric = Metric::LogitDiff;
        let answers = self.answers.as_ref();
        Field {
            rows: Axis::numbered(AxisKind::Layer, 0..self.n_layers),
            columns: Axis::labelled(self.sentence_start, &self.token_labels),
            values,
            quantity: Quantity {
                is_rank: false,
                title: metric.title(answers, Prompt::Base),
                unit: metric.unit(answers),
                centre: base.unwrap_or(0.0),
                decimals: metric.decimals(),
                references: references
                    .into_iter()
                    .filter_map(|(name, value)| Some(Reference { name, value: value? }))
                    .collect(),
            },
        }
    }
}

impl Document {
    /// A document of which nothing is known but the shape of its grid.
    pub fn blank(n_layers: usize, token_labels: Vec<String>) -> Self {
        Self {
            schema: SCHEMA.into(),
            id: String::new(),
            model: String::new(),
            entity: String::new(),
            source_prompt: String::new(),
            base_prompt: String::new(),
            source_sentence: String::new(),
            base_sentence: String::new(),
            sentence_start: 0,
            num_layers: n_layers,
            patching_results: Grid::blank(n_layers, token_labels.len()),
            token_labels,
            template: None,
            site: None,
            align: None,
            direction: None,
            source_tokens: Vec::new(),
            base_tokens: Vec::new(),
            source_padding: 0,
            base_padding: 0,
            answers: None,
            baselines: None,
            readout: None,
            grids: Vec::new(),
            lens: Vec::new(),
            spans: Vec::new(),
            roles: None,
            row: Default::default(),
            source_positions: Vec::new(),
            token_texts: Default::default(),
            settings: None,
            verification: None,
            provenance: None,
            extra: Map::new(),
        }
    }
}

/// The jobs as a client knows them, the newest first.
///
/// A snapshot holds only the jobs that are not finished, so that a list of all is asked for after
/// it; whatever events say meanwhile is newer than that list.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Board {
    /// The jobs.
    pub jobs: Vec<Job>,
    /// The sweeps that are being run, those that began first first.
    pub live: Vec<Live>,
    /// The jobs of which an event has told since the last snapshot, removed ones included.
    told: BTreeSet<String>,
}

impl Board {
    /// The running sweep of an experiment.
    pub fn live_of(&self, experiment: &str) -> Option<&Live> {
        self.live.iter().find(|live| live.experiment == experiment)
    }

    /// Brings the picture up to date with an event.
    pub fn apply(&mut self, event: &Event) {
        apply(&mut self.live, event);
        match event {
            Event::Snapshot { jobs, .. } => {
                self.told.clear();
                // Whether a job that is not in the snapshot is finished or gone, the list will say.
                self.jobs.retain(|job| job.state.is_final());
                jobs.iter().for_each(|job| self.put(job.clone()));
            }
            Event::Job { job } => {
                self.told.insert(job.id.clone());
                self.put(job.clone());
            }
            Event::JobRemoved { id } => {
                self.told.insert(id.clone());
                self.jobs.retain(|job| job.id != *id);
            }
            _ => {}
        }
    }

    /// Takes over a list of all jobs that was asked for after the last snapshot.
    pub fn listed(&mut self, jobs: Vec<Job>) {
        let told = std::mem::take(&mut self.told);
        self.jobs.retain(|job| told.contains(&job.id));
        for job in jobs {
            if !told.contains(&job.id) {
                self.put(job);
            }
        }
        self.told = told;
    }

    /// How many jobs are not finished.
    pub fn n_active(&self) -> usize {
        self.jobs.iter().filter(|job| !job.state.is_final()).count()
    }

    fn put(&mut self, job: Job) {
        match self.jobs.iter_mut().find(|known| known.id == job.id) {
            Some(known) => *known = job,
            None => {
                // Jobs of one second have no order; a new one is on top.
                let older = |known: &Job| known.submitted_at <= job.submitted_at;
                let at = self.jobs.iter().position(older).unwrap_or(self.jobs.len());
                self.jobs.insert(at, job);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::answers;
    use crate::specification::settings::Settings;
    use crate::specification::vocabulary::Site;
    use crate::wire::event::{Column, LiveBaselines};
    use crate::wire::job::{JobPair, State};

    fn live() -> Live {
        Live {
            job: "j".into(),
            index: 1,
            experiment: "0".repeat(20),
            model: "m".into(),
            entity: "x".into(),
            site: Some(Site::MlpOut),
            answers: Some(answers("yes", "no")),
            n_layers: 2,
            sentence_start: 5,
            token_labels: vec![" a".into(), " b".into(), " c".into()],
            share: 0.0,
            left_secs: None,
            baselines: None,
            said: None,
            columns: vec![],
        }
    }

    fn job(id: &str, state: State, submitted_at: &str) -> Job {
        Job {
            id: id.into(),
            name: String::new(),
            model: "m".into(),
            settings: Settings::default(),
            state,
            n_pairs: 1,
            n_done: 0,
            n_failed: 0,
            n_ahead: None,
            submitted_at: submitted_at.into(),
            started_at: None,
            finished_at: None,
            error: None,
        }
    }

    #[test]
    fn events_fill_in_a_partial_document() {
        let mut board = Board::default();
        let column = |position, logit_diff: [Option<f32>; 2]| Column {
            position,
            logit_diff: logit_diff.to_vec(),
        };
        let columns = |index, columns| Event::Columns { job: "j".into(), index, columns };
        for event in [
            Event::Begun { live: live() },
            // Of another pair, outside of the grid, and what belongs to it.
            columns(0, vec![column(5, [Some(9.0), Some(9.0)])]),
            columns(1, vec![column(4, [Some(9.0); 2]), column(8, [Some(9.0); 2])]),
            columns(1, vec![column(7, [Some(1.0), None])]),
            Event::Progress { job: "j".into(), index: 1, share: 0.5, left_secs: Some(2.0) },
            Event::Said { job: "j".into(), index: 1, text: "QUEUED".into() },
            Event::Said { job: "j".into(), index: 0, text: "of another".into() },
            Event::Baselines {
                job: "j".into(),
                index: 1,
                baselines: LiveBaselines { source: Some(1.0), base: None },
            },
        ] {
            board.apply(&event);
        }
        let now = board.live[0].clone();
        assert_eq!((now.share, now.left_secs), (0.5, Some(2.0)));
        assert_eq!(now.said.as_deref(), Some("QUEUED"));
        assert_eq!(now.baselines.unwrap().source, Some(1.0));
        let field = now.field();
        assert_eq!(field.quantity.title_with_unit(), "log P(yes) − log P(no) (nats)");
        assert_eq!(field.quantity.references, [Reference { name: "source", value: 1.0 }]);
        let values = vec![vec![None, None, Some(1.0)], vec![None; 3]];
        assert_eq!(field.values, Grid::from(values));
        assert_eq!(field.columns.marks[2].position, Some(7));
        // The same picture by way of a snapshot.
        let mut late = Board::default();
        late.apply(&Event::Snapshot { jobs: vec![], live: vec![now] });
        assert_eq!(late.live, board.live);
        let pair = JobPair {
            index: 1,
            line: 0,
            entity: String::new(),
            source: String::new(),
            base: String::new(),
            by_hand: None,
            experiment: "e".into(),
            state: State::Done,
            error: None,
        };
        // Another pair of the job runs beside it, and goes on when this one is over.
        let other = Live { index: 2, ..live() };
        board.apply(&Event::Begun { live: other.clone() });
        board.apply(&Event::Pair { job: "j".into(), pair });
        assert_eq!(board.live, [other]);
        board.apply(&columns(2, vec![column(7, [Some(2.0), None])]));
        assert_eq!(board.live[0].columns.len(), 1);
        board.apply(&Event::JobRemoved { id: "k".into() });
        assert_eq!(board.live.len(), 1);
        board.apply(&Event::Job { job: job("j", State::Cancelled, "0") });
        assert_eq!(board.live, []);
    }

    #[test]
    fn a_list_never_undoes_what_events_told_after_it_was_asked_for() {
        let states = |board: &Board| {
            board.jobs.iter().map(|job| (job.id.clone(), job.state)).collect::<Vec<_>>()
        };
        let expect = |list: &[(&str, State)]| {
            list.iter().map(|(id, state)| (id.to_string(), *state)).collect::<Vec<_>>()
        };
        let mut board = Board::default();
        board.apply(&Event::Job { job: job("lost", State::Running, "0") });
        board.apply(&Event::Job { job: job("old", State::Done, "1") });
        let jobs = vec![job("a", State::Running, "3"), job("b", State::Queued, "4")];
        board.apply(&Event::Snapshot { jobs, live: vec![] });
        assert_eq!(board.n_active(), 2);
        board.apply(&Event::Job { job: job("a", State::Done, "3") });
        board.apply(&Event::JobRemoved { id: "c".into() });
        board.apply(&Event::Job { job: job("d", State::Queued, "6") });
        board.listed(vec![
            job("c", State::Done, "5"),
            job("b", State::Queued, "4"),
            job("a", State::Running, "3"),
            job("older", State::Failed, "2"),
        ]);
        let expected = [
            ("d", State::Queued),
            ("b", State::Queued),
            ("a", State::Done),
            ("older", State::Failed),
        ];
        assert_eq!(states(&board), expect(&expected));
    }
}
