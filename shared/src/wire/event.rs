//! What a server tells while it works, as server-sent events.
//!
//! Every event is one JSON object whose `type` is also the event's name on the wire. A stream
//! begins with a [`Event::Snapshot`], unless the client said which event it heard last and the
//! server still has all that came after it. A client that was too slow gets a snapshot again and
//! replaces what it knows.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::document::Answers;
use crate::json;
use crate::specification::vocabulary::Site;
use crate::wire::job::{Job, JobPair};

/// One event.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// All there is to know now: replaces what was known.
    Snapshot {
        /// Every job that is not finished, first come first.
        jobs: Vec<Job>,
        /// The sweeps that are being run.
        live: Vec<Live>,
    },
    /// A job was submitted or changed.
    Job {
        /// The job as it is now.
        job: Job,
    },
    /// A job was removed from the list.
    JobRemoved {
        /// Its id.
        id: String,
    },
    /// A pair changed its state.
    Pair {
        /// The job's id.
        job: String,
        /// The pair as it is now.
        pair: JobPair,
    },
    /// A sweep begins.
    Begun {
        /// The sweep, without a column yet.
        live: Live,
    },
    /// How far the running sweep is.
    Progress {
        /// The job's id.
        job: String,
        /// Which of its pairs, from 0.
        index: usize,
        /// The share that is done, 0 to 1.
        share: f64,
        /// Seconds left of this sweep; `null` while nobody can tell.
        left_secs: Option<f64>,
    },
    /// Both unpatched runs of the running sweep are known.
    Baselines {
        /// The job's id.
        job: String,
        /// Which of its pairs, from 0.
        index: usize,
        /// The runs.
        baselines: LiveBaselines,
    },
    /// The server that computes the running sweep has said something, e.g. of a place in its queue.
    Said {
        /// The job's id.
        job: String,
        /// Which of its pairs, from 0.
        index: usize,
        /// Its words.
        text: String,
    },
    /// Columns of the running sweep are finished.
    Columns {
        /// The job's id.
        job: String,
        /// Which of its pairs, from 0.
        index: usize,
        /// The columns, in no particular order.
        columns: Vec<Column>,
    },
    /// Experiments came, went or came back: a list of them is to be fetched again.
    Experiments {},
}

/// The names of all events on the wire.
pub const NAMES: [&str; 10] = [
    "snapshot",
    "job",
    "job_removed",
    "pair",
    "begun",
    "progress",
    "baselines",
    "said",
    "columns",
    "experiments",
];

impl Event {
    /// Reads an event as it comes over the wire; `None` for what is none, or none that this version
    /// knows. A derived reader would do the same with several times the code, which a page that is
    /// loaded over a network would have to bring.
    pub fn read(json: &str) -> Option<Self> {
        fn take<T: DeserializeOwned>(value: &mut Value, name: &str) -> Option<T> {
            json::read(value.get_mut(name).map(Value::take).unwrap_or_default()).ok()
        }
        let value = &mut json::parse(json).ok()?;
        let name: String = take(value, "type")?;
        match &*name {
            "snapshot" => {
                let live: Vec<Live> = take(value, "live")?;
                if !live.iter().all(Live::fits) {
                    return None;
                }
                return Some(Self::Snapshot { jobs: take(value, "jobs")?, live });
            }
            "begun" => {
                let live: Live = take(value, "live")?;
                return live.fits().then_some(Self::Begun { live });
            }
            "experiments" => return Some(Self::Experiments {}),
            "job" => return Some(Self::Job { job: take(value, "job")? }),
            "job_removed" => return Some(Self::JobRemoved { id: take(value, "id")? }),
            _ => {}
        }
        // All others are of a job's pair.
        let job = take(value, "job")?;
        if name == "pair" {
            return Some(Self::Pair { job, pair: take(value, "pair")? });
        }
        let index = take(value, "index")?;
        Some(match &*name {
            "progress" => Self::Progress {
                job,
                index,
                share: take(value, "share")?,
                left_secs: take(value, "left_secs")?,
            },
            "baselines" => Self::Baselines { job, index, baselines: take(value, "baselines")? },
            "said" => Self::Said { job, index, text: take(value, "text")? },
            "columns" => Self::Columns { job, index, columns: take(value, "columns")? },
            _ => return None,
        })
    }

    /// The value of `type`, which is the event's name on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Snapshot { .. } => "snapshot",
            Self::Job { .. } => "job",
            Self::JobRemoved { .. } => "job_removed",
            Self::Pair { .. } => "pair",
            Self::Begun { .. } => "begun",
            Self::Progress { .. } => "progress",
            Self::Baselines { .. } => "baselines",
            Self::Said { .. } => "said",
            Self::Columns { .. } => "columns",
            Self::Experiments {} => "experiments",
        }
    }

    /// The job that it is about, if it is about one.
    pub fn job(&self) -> Option<&str> {
        match self {
            Self::Job { job } => Some(&job.id),
            Self::JobRemoved { id } => Some(id),
            Self::Begun { live } => Some(&live.job),
            Self::Pair { job, .. }
            | Self::Progress { job, .. }
            | Self::Baselines { job, .. }
            | Self::Said { job, .. }
            | Self::Columns { job, .. } => Some(job),
            Self::Snapshot { .. } | Self::Experiments {} => None,
        }
    }
}

/// A sweep that is being run, as far as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Live {
    /// The job's id.
    pub job: String,
    /// Which of its pairs, from 0.
    pub index: usize,
    /// The id that the result will have.
    pub experiment: String,
    /// The model's name.
    pub model: String,
    /// What both sentences are about.
    pub entity: String,
    /// The activation that is replaced; `null` where unknown.
    pub site: Option<Site>,
    /// The answers that the metric compares; `null` where unknown.
    pub answers: Option<Answers>,
    /// The layers of the grid.
    pub n_layers: usize,
    /// The base position of the grid's first column.
    pub sentence_start: usize,
    /// The base's token at each column.
    pub token_labels: Vec<String>,
    /// The share that is done, 0 to 1.
    pub share: f64,
    /// Seconds left; `null` while nobody can tell.
    pub left_secs: Option<f64>,
    /// Both unpatched runs, once they are known.
    pub baselines: Option<LiveBaselines>,
    /// What the server that computes it said last; `null` where this server computes it.
    #[serde(default)]
    pub said: Option<String>,
    /// The columns that are finished.
    pub columns: Vec<Column>,
}

impl Live {
    /// The most cells of a grid, far beyond any model and prompt.
    const MAX_CELLS: usize = 1 << 22;

    /// Whether its grid would not fill the memory of whoever draws it.
    fn fits(&self) -> bool {
        let n_cells = self.n_layers.checked_mul(self.token_labels.len().max(1));
        n_cells.is_some_and(|n| n <= Self::MAX_CELLS)
    }
}

/// The metric on both unpatched runs, in nats.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LiveBaselines {
    /// The source run.
    pub source: Option<f32>,
    /// The base run.
    pub base: Option<f32>,
}

/// A finished column of a grid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Column {
    /// The base position.
    pub position: usize,
    /// The logit difference at every layer, in nats, layer 0 first.
    pub logit_diff: Vec<Option<f32>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::answers;
    use crate::specification::settings::Settings;

    #[test]
    fn the_name_is_the_type_on_the_wire() {
        let baselines = LiveBaselines { source: Some(1.0), base: None };
        let live = Live {
            job: "j".into(),
            index: 0,
            experiment: "e".into(),
            model: "m".into(),
            entity: String::new(),
            site: Some(Site::ResidPost),
            answers: Some(answers("yes", "no")),
            n_layers: 1,
            sentence_start: 3,
            token_labels: vec![],
            share: 0.0,
            left_secs: None,
            baselines: Some(baselines),
            said: Some("QUEUED".into()),
            columns: vec![],
        };
        let (job, index) = (String::from("j"), 0);
        let pair: JobPair = serde_json::from_str(
            r#"{"index":1,"line":2,"entity":"","source":"a","base":"b","experiment":"e",
            "state":"done","error":null}"#,
        )
        .unwrap();
        let full_job: Job = serde_json::from_value(serde_json::json!({
            "id": "j", "name": "", "model": "m", "settings": Settings::default(),
            "state": "queued", "n_pairs": 1, "n_done": 0, "n_failed": 0, "n_ahead": 2,
            "submitted_at": "", "started_at": null, "finished_at": null, "error": null,
        }))
        .unwrap();
        let huge = Live { n_layers: usize::MAX, ..live.clone() };
        let events = [
            Event::Pair { job: job.clone(), pair },
            Event::Snapshot { jobs: vec![full_job.clone()], live: vec![live.clone()] },
            Event::Job { job: full_job },
            Event::JobRemoved { id: job.clone() },
            Event::Begun { live },
            Event::Progress { job: job.clone(), index, share: 0.5, left_secs: None },
            Event::Baselines { job: job.clone(), index, baselines },
            Event::Said { job: job.clone(), index, text: "RUNNING".into() },
            Event::Columns { job, index, columns: vec![] },
            Event::Experiments {},
        ];
        let mut names: Vec<_> = events.iter().map(Event::name).collect();
        for event in events {
            let value = serde_json::to_value(&event).unwrap();
            assert_eq!(value["type"], event.name());
            assert_eq!(Event::read(&value.to_string()), Some(event));
        }
        // One of each kind.
        names.sort();
        let mut all = NAMES;
        all.sort();
        assert_eq!(names, all);
        for huge in [
            Event::Begun { live: huge.clone() },
            Event::Snapshot { jobs: vec![], live: vec![huge] },
        ] {
            assert_eq!(Event::read(&serde_json::to_string(&huge).unwrap()), None);
        }
        for odd in ["", "{}", r#"{"type":"later"}"#, r#"{"type":"columns","job":"j"}"#] {
            assert_eq!(Event::read(odd), None, "{odd}");
        }
    }
}
