//! Logs and numbers: every request has an id, a line in the log, and counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tracing::Instrument;

use super::App;
use super::problem::ApiError;
use crate::jobs::Queue;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    method: &'static str,
    route: String,
    status: u16,
}

/// What is counted.
pub struct Metrics {
    registry: Registry,
    requests: Family<Labels, Counter>,
    seconds: Histogram,
    listeners: Gauge<i64, AtomicI64>,
    /// Tells this process's request ids from another's.
    epoch: u64,
    n_requests: AtomicU64,
}

/// Counts one listener until it is dropped.
pub struct CountedListener(Gauge<i64, AtomicI64>);

impl Drop for CountedListener {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Default for Metrics {
    /// Nothing counted yet.
    fn default() -> Self {
        let mut registry = Registry::with_prefix("patchboard");
        let requests = Family::<Labels, Counter>::default();
        let seconds = Histogram::new([0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0]);
        let listeners = Gauge::default();
        registry.register("http_requests", "Requests answered", requests.clone());
        registry.register("http_request_seconds", "Time to an answer's head", seconds.clone());
        registry.register("event_streams", "Open event streams", listeners.clone());
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let epoch = since.map_or(0, |since| since.as_secs());
        Self { registry, requests, seconds, listeners, epoch, n_requests: AtomicU64::new(0) }
    }
}

impl Metrics {
    /// Counts a listener.
    pub fn listener(&self) -> CountedListener {
        self.listeners.inc();
        CountedListener(self.listeners.clone())
    }

    /// Everything in Prometheus' text format.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub fn text(&self, queue: &Queue) -> Result<String, ApiError> {
        let mut text = String::new();
        encode(&mut text, &self.registry).map_err(|error| ApiError::internal(&error))?;
        // `encode` ends the text; what the queue counts itself goes before the end.
        let end = text.rfind("# EOF").unwrap_or(text.len());
        text.truncate(end);
        let mut own = Registry::with_prefix("patchboard");
        let counters = queue.counters();
        let count = |counter: &AtomicU64| ConstCounter::new(counter.load(Ordering::Relaxed));
        own.register("pairs_swept", "Pairs with a new result", count(&counters.n_done));
        own.register("pairs_reused", "Pairs whose result was there", count(&counters.n_reused));
        own.register("pairs_failed", "Pairs without a result", count(&counters.n_failed));
        let millis = counters.sweep_millis.load(Ordering::Relaxed);
        let secs = ConstCounter::new(millis as f64 / 1e3);
        own.register("sweep_seconds", "Time spent sweeping", secs);
        let n_queued = i64::try_from(queue.n_queued()).unwrap_or(i64::MAX);
        own.register("pairs_queued", "Pairs that wait", ConstGauge::new(n_queued));
        let stalled = i64::from(queue.stalled().is_some());
        own.register("queue_stalled", "Whether the queue stands still", ConstGauge::new(stalled));
        encode(&mut text, &own).map_err(|error| ApiError::internal(&error))?;
        Ok(text)
    }
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Gives a request its id, and counts and logs how it was answered.
pub async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let metrics = &app.metrics;
    let n = metrics.n_requests.fetch_add(1, Ordering::Relaxed);
    let id = format!("{:x}-{n:x}", metrics.epoch);
    // A route, not a path: paths are without number, and queries hold people's texts.
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("other", MatchedPath::as_str).to_string();
    let method = method(&request);
    let begin = Instant::now();
    let span = tracing::info_span!("request", id);
    let mut response = next.run(request).instrument(span).await;
    let (status, secs) = (response.status().as_u16(), begin.elapsed().as_secs_f64());
    tracing::debug!(id, method, route, status, secs, "answered");
    metrics.seconds.observe(secs);
    metrics.requests.get_or_create(&Labels { method, route, status }).inc();
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// A method that is counted by name; others are without number.
fn method(request: &Request) -> &'static str {
    match request.method().as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "DELETE" => "DELETE",
        _ => "other",
    }
}
