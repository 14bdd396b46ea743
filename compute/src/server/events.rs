//! Live progress as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, header};
use axum::response::IntoResponse;
use axum::response::sse::{Event as Line, KeepAlive, Sse};
use futures_util::Stream;
use serde::Deserialize;
use shared::wire::event::Event;
use shared::wire::problem::Problem;
use tokio::sync::watch;
use utoipa::IntoParams;

use super::App;
use super::extract::Query;
use super::problem::ApiError;
use crate::jobs::{Resumed, Sent};

/// How long a client waits before it connects again.
const RETRY: Duration = Duration::from_secs(2);

/// Which events to hear.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// Only those of this job.
    job: Option<String>,
}

/// What happens, as it happens: server-sent events, each of them one [`Event`] as JSON. Goes on
/// after the event that `Last-Event-ID` names, or begins with a snapshot.
#[utoipa::path(
    get, path = "/api/events", tag = "jobs",
    params(EventsQuery, ("Last-Event-ID" = Option<String>, Header, description = "The last event heard")),
    responses((status = 200, body = Event, content_type = "text/event-stream"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
pub async fn events(
    State(app): State<Arc<App>>,
    Query(query): Query<EventsQuery>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, ApiError> {
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let cursor = last.and_then(|id| app.queue.events().seq(id));
    let keep_alive = KeepAlive::new().interval(app.keep_alive);
    let listener = Listener {
        news: app.queue.events().listen(),
        stop: app.stop.clone(),
        cursor,
        job: query.job,
        waiting: VecDeque::new(),
        counted: app.metrics.listener(),
        app,
    };
    // A proxy that collects answers would hold the events back.
    let unbuffered = (HeaderName::from_static("x-accel-buffering"), "no");
    let headers = [(header::CACHE_CONTROL, "no-store"), unbuffered];
    Ok((headers, Sse::new(listener.stream()).keep_alive(keep_alive)))
}

/// One who listens.
struct Listener<Counted> {
    app: Arc<App>,
    news: watch::Receiver<u64>,
    stop: watch::Receiver<bool>,
    /// The last event that was told; `None` where a snapshot is due.
    cursor: Option<u64>,
    job: Option<String>,
    waiting: VecDeque<Arc<Sent>>,
    /// Counts it among those who listen for as long as it is there.
    #[expect(dead_code, reason = "it is there to be dropped")]
    counted: Counted,
}

impl<Counted: Send + 'static> Listener<Counted> {
    fn stream(self) -> impl Stream<Item = Result<Line, Infallible>> {
        futures_util::stream::unfold(self, |mut listener| async move {
            let line = listener.next().await?;
            Some((Ok(line), listener))
        })
    }

    /// The next line; `None` when the server stops.
    async fn next(&mut self) -> Option<Line> {
        loop {
            if *self.stop.borrow() {
                return None;
            }
            if let Some(sent) = self.waiting.pop_front() {
                self.cursor = Some(sent.seq);
                if self.is_wanted(&sent) {
                    return Some(self.line(sent.seq, sent.name, &sent.json));
                }
                continue;
            }
            // Whatever comes after this is heard in the next round.
            self.news.borrow_and_update();
            let Some(cursor) = self.cursor else { return self.snapshot().await };
            match self.app.queue.events().since(cursor) {
                Resumed::Lost => self.cursor = None,
                Resumed::Events(events) if events.is_empty() => {
                    tokio::select! {
                        news = self.news.changed() => news.ok()?,
                        _ = self.stop.changed() => return None,
                    }
                }
                Resumed::Events(events) => self.waiting = events.into(),
            }
        }
    }

    fn is_wanted(&self, sent: &Sent) -> bool {
        self.job.is_none() || self.job == sent.job
    }

    async fn snapshot(&mut self) -> Option<Line> {
        // What changes while it is being read is told once more afterwards.
        let (seq, mut live) = self.app.queue.events().now();
        let job = self.job.clone();
        let read = self.app.reading(move |queue| match job {
            None => Ok(queue.active_jobs()?),
            Some(id) => Ok(queue.job_row(&id)?.into_iter().collect()),
        });
        // A store that cannot be read ends the stream; the client comes back.
        let jobs = read.await.ok()?;
        live.retain(|live| self.job.as_ref().is_none_or(|job| *job == live.job));
        let event = Event::Snapshot { jobs, live };
        let json = serde_json::to_string(&event).expect("an event is plain");
        self.cursor = Some(seq);
        Some(self.line(seq, event.name(), &json).retry(RETRY))
    }

    fn line(&self, seq: u64, name: &str, json: &str) -> Line {
        Line::default().id(self.app.queue.events().id(seq)).event(name).data(json)
    }
}
