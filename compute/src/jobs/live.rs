//! The picture of the running sweep, for listeners who come in the middle of it.

use shared::event::{Event, Live};

/// Brings the picture up to date with an event.
pub fn apply(live: &mut Option<Live>, event: &Event) {
    match event {
        Event::Begun { live: begun } => *live = Some(begun.clone()),
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
        Event::Columns { job, index, columns } => {
            if let Some(live) = of(live, job, *index) {
                live.columns.extend(columns.iter().cloned());
            }
        }
        Event::Pair { job, pair } => {
            if of(live, job, pair.index).is_some() {
                *live = None;
            }
        }
        Event::Job { job } => {
            if job.state.is_final() && live.as_ref().is_some_and(|live| live.job == job.id) {
                *live = None;
            }
        }
        Event::JobRemoved { id } => {
            if live.as_ref().is_some_and(|live| live.job == *id) {
                *live = None;
            }
        }
        Event::Snapshot { .. } | Event::Experiments {} => {}
    }
}

fn of<'a>(live: &'a mut Option<Live>, job: &str, index: usize) -> Option<&'a mut Live> {
    live.as_mut().filter(|live| live.job == job && live.index == index)
}
