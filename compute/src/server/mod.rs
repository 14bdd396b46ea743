//! `patchboard serve`: the viewer, the HTTP API and live progress on one port.
//!
//! [`app`] is the whole server without a socket; [`listen`] gives it one.

#![allow(unused_qualifications, reason = "what utoipa makes of a handler's description has them")]

mod events;
mod experiments;
mod extract;
mod info;
mod jobs;
pub mod listen;
mod observe;
mod openapi;
mod problem;
pub mod security;
mod send;
mod studies;
mod viewer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;

pub use self::observe::Metrics;
pub use self::openapi::document as openapi_document;
pub use self::problem::ApiError;
use self::security::Guard;
use self::studies::Studies;
use self::viewer::Viewer;
use crate::jobs::Queue;
use crate::site;

/// How many requests may compute something at a time: previews, figures, tables.
const N_HEAVY: usize = 2;
/// How many requests may wait to write at a time. Those and the ones that compute leave threads to
/// the ones that only read, however slow the disk is.
const N_WRITING: usize = 4;
/// How many threads wait for the disk or compute for requests.
pub const N_THREADS: usize = 16;

/// How the server behaves.
#[derive(Clone)]
pub struct ServerSettings {
    /// Who may do what.
    pub guard: Guard,
    /// How long a request may take, its body included. Event streams may stay.
    pub request_time: Duration,
    /// How often a quiet event stream says that it is there.
    pub keep_alive: Duration,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            guard: Guard::default(),
            request_time: Duration::from_secs(60),
            keep_alive: Duration::from_secs(15),
        }
    }
}

/// What all requests share.
pub struct App {
    queue: Arc<Queue>,
    guard: Guard,
    viewer: Viewer,
    studies: Studies,
    metrics: Metrics,
    heavy: Arc<Semaphore>,
    writing: Arc<Semaphore>,
    request_time: Duration,
    keep_alive: Duration,
    /// Turns true when the server stops: event streams end then.
    stop: watch::Receiver<bool>,
}

impl App {
    /// Everything but the socket.
    pub fn new(queue: Arc<Queue>, settings: ServerSettings, stop: watch::Receiver<bool>) -> Self {
        Self {
            metrics: Metrics::default(),
            studies: Studies::default(),
            queue,
            viewer: Viewer::new(site::viewer(), &settings.guard.frames),
            guard: settings.guard,
            heavy: Arc::new(Semaphore::new(N_HEAVY)),
            writing: Arc::new(Semaphore::new(N_WRITING)),
            request_time: settings.request_time,
            keep_alive: settings.keep_alive,
            stop,
        }
    }

    /// Runs `work`, which reads from the disk, beside the threads that answer.
    async fn reading<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Queue) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let queue = self.queue.clone();
        tokio::task::spawn_blocking(move || work(&queue)).await?
    }

    /// The same for work that writes: only so much of it at once.
    async fn writing<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Queue) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        // Whoever goes away does not make room for another before the work is done.
        let permit = permit(&self.writing).await?;
        self.reading(move |queue| {
            let _permit = permit;
            work(queue)
        })
        .await
    }

    /// The same for work that takes a processor's time. It is told when nobody waits for it any
    /// more.
    async fn heavy<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Queue, &Waiting) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let permit = permit(&self.heavy).await?;
        let (waiting, _gone) = Waiting::new();
        self.reading(move |queue| {
            let _permit = permit;
            waiting.check()?;
            work(queue, &waiting)
        })
        .await
    }
}

async fn permit(of: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, ApiError> {
    of.clone().acquire_owned().await.map_err(|error| ApiError::internal(&error))
}

/// Tells whether somebody still waits for what is being computed.
#[derive(Clone)]
struct Waiting(Arc<AtomicBool>);

/// Dropped with the request that waits: when it is answered, took too long, or its client went
/// away.
struct Gone(Arc<AtomicBool>);

impl Waiting {
    fn new() -> (Self, Gone) {
        let flag = Arc::new(AtomicBool::new(true));
        (Self(flag.clone()), Gone(flag))
    }

    fn is_over(&self) -> bool {
        !self.0.load(Ordering::Relaxed)
    }

    /// Ends work that nobody waits for.
    fn check(&self) -> Result<(), ApiError> {
        if self.is_over() { Err(ApiError::nobody_waits()) } else { Ok(()) }
    }
}

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// The server without a socket.
pub fn app(app: Arc<App>) -> Router {
    let (api, document) = openapi::router().split_for_parts();
    let document = Arc::new(openapi::Pages::new(document));
    let pages = document.clone();
    api.route(
        "/api/openapi.json",
        get(move |headers: HeaderMap| {
            let document = document.clone();
            async move { document.json(&headers) }
        }),
    )
    .route(
        "/api/docs",
        get(move |headers: HeaderMap| {
            let pages = pages.clone();
            async move { pages.html(&headers) }
        }),
    )
    .route("/data/index.json", get(experiments::gallery))
    .route("/data/{file}", get(experiments::data))
    .route("/favicon.ico", get(viewer::favicon))
    .fallback(viewer::file)
    .method_not_allowed_fallback(viewer::wrong_method)
    .layer(CompressionLayer::new())
    .layer(CatchPanicLayer::custom(|panic: Box<dyn std::any::Any + Send>| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
        ApiError::internal(&text).into_response()
    }))
    .layer(from_fn_with_state(app.clone(), in_time))
    .layer(from_fn_with_state(app.clone(), security::guard))
    .layer(from_fn_with_state(app.clone(), security::headers))
    .layer(from_fn(short_address))
    .layer(from_fn_with_state(app.clone(), observe::observe))
    .with_state(app)
}

/// A request, its body included, has its time. The answer may take longer: event streams do.
async fn in_time(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(app.request_time, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "timeout",
            "That took too long",
            format!(
                "the request was not done after {} seconds: send less at once, or try again when \
                 the server has less to do",
                app.request_time.as_secs()
            ),
        )
        .into_response(),
    }
}

/// Refuses addresses that nothing here has.
async fn short_address(request: Request, next: Next) -> Response {
    /// Longer addresses are answered by nothing here.
    const MAX_URI_BYTES: usize = 8 << 10;
    if request.uri().to_string().len() > MAX_URI_BYTES {
        let error = ApiError::new(
            StatusCode::URI_TOO_LONG,
            "long-address",
            "The address is too long",
            format!("the address is longer than {MAX_URI_BYTES} bytes: shorten the query"),
        );
        return error.into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests;
