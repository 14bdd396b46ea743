//! What the server says of itself.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use shared::specification::template::SHIPPED;
use shared::wire::listing::{ModelList, NamedTemplate, ServerInfo};
use shared::wire::problem::Problem;

use super::App;
use super::problem::ApiError;
use crate::model::VERSION;

/// What the server is, what it has, and what it accepts.
#[utoipa::path(
    get, path = "/api/server", tag = "server",
    responses((status = 200, body = ServerInfo),
        (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
pub async fn server(State(app): State<Arc<App>>) -> Json<ServerInfo> {
    let template =
        |&(name, text): &(&str, &str)| NamedTemplate { name: name.into(), text: text.into() };
    Json(ServerInfo {
        version: VERSION.to_string(),
        access: app.guard.access(),
        writable: app.queue.store().why_read_only().is_none(),
        models: app.queue.models(),
        templates: SHIPPED.iter().map(template).collect(),
        limits: *app.queue.limits(),
    })
}

/// The models to choose from, the default first.
#[utoipa::path(
    get, path = "/api/models", tag = "server",
    responses((status = 200, body = ModelList),
        (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
pub async fn models(State(app): State<Arc<App>>) -> Json<ModelList> {
    Json(ModelList { models: app.queue.models() })
}

/// Whether the server works: `ok`, or why its queue stands still.
#[utoipa::path(
    get, path = "/healthz", tag = "operation",
    responses((status = 200, body = String, content_type = "text/plain"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json"))
)]
pub async fn health(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    if let Some(why) = app.queue.stalled() {
        return Err(ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "stalled",
            "The queue stands still",
            format!("{why}; what is there is still shown"),
        ));
    }
    app.reading(|queue| Ok(queue.store().check()?)).await?;
    Ok(([(header::CACHE_CONTROL, "no-store")], "ok\n").into_response())
}

/// Numbers for Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "operation",
    responses((status = 200, body = String, content_type = "text/plain"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
pub async fn metrics(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let text = app.metrics.text(&app.queue)?;
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-store")], text).into_response())
}
