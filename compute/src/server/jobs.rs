//! Previews, submissions, jobs.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Json;
use axum::extract::{ConnectInfo, FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use shared::specification::pairs::{self, Columns, TableColumns, TableFormat};
use shared::specification::settings::Settings;
use shared::wire::job::{JobDetail, JobList, Preview, State as JobState, Submission, TableInput};
use shared::wire::problem::Problem;
use utoipa::IntoParams;

use super::App;
use super::extract::{Body, Json as JsonBody, Path, Query};
use super::problem::ApiError;
use crate::jobs::N_LISTED_JOBS;
use crate::store::Page;

/// Who submits, for taking turns: the address of the client. Behind a proxy on this machine it is
/// the address that the proxy names, or what the client calls itself in `X-Client-Id`.
pub struct Client(String);

impl<S: Sync> FromRequestParts<S> for Client {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
        Ok(Self(client(peer, &parts.headers)))
    }
}

fn client(peer: Option<IpAddr>, headers: &HeaderMap) -> String {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let address = match peer.map(|peer| peer.to_canonical()) {
        Some(peer) if !peer.is_loopback() => peer,
        _ => {
            // The last address is the one that the proxy itself has seen.
            let named = text("x-forwarded-for").and_then(|list| list.rsplit(',').next());
            match named.and_then(|address| address.trim().parse::<IpAddr>().ok()) {
                Some(address) => address.to_canonical(),
                None => {
                    let id = text("x-client-id").unwrap_or("here");
                    return id.chars().filter(char::is_ascii_graphic).take(64).collect();
                }
            }
        }
    };
    match address {
        IpAddr::V4(address) => address.to_string(),
        // One subscriber has a whole network of these.
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

/// What a submission would do: tokens, alignment, answers, the unpatched runs and the time, before
/// any sweep. Shows the first three pairs and checks all.
#[utoipa::path(
    post, path = "/api/preview", tag = "jobs", request_body = Submission,
    responses((status = 200, body = Preview),
        (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
pub async fn preview(
    State(app): State<Arc<App>>,
    JsonBody(submission): JsonBody<Submission>,
) -> Result<Json<Preview>, ApiError> {
    Ok(Json(
        app.heavy(move |queue, waiting| Ok(queue.preview(&submission, &|| waiting.is_over())?))
            .await?,
    ))
}

/// Submits pairs or a table. All pairs are accepted, or none and every bad row is named. A pair that
/// has a result is done at once, unless `again` asks for it to be computed once more.
#[utoipa::path(
    post, path = "/api/jobs", tag = "jobs", request_body = Submission,
    responses((status = 201, body = JobDetail),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = 507, body = Problem, content_type = "application/problem+json"))
)]
pub async fn submit(
    State(app): State<Arc<App>>,
    Client(client): Client,
    JsonBody(submission): JsonBody<Submission>,
) -> Result<Submitted, ApiError> {
    submitted(&app, submission, client).await
}

/// Where the job is, and what it is.
type Submitted = (StatusCode, [(header::HeaderName, String); 1], Json<JobDetail>);

async fn submitted(
    app: &Arc<App>,
    submission: Submission,
    client: String,
) -> Result<Submitted, ApiError> {
    let detail = app
        .heavy(move |queue, waiting| Ok(queue.submit(submission, &client, &|| waiting.is_over())?))
        .await?;
    let location = format!("/api/jobs/{}", detail.job.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(detail)))
}

/// How to read a table. The rest of the query are [`Settings`].
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct TableQuery {
    /// How the table is written: `tsv` (default), `csv` or `jsonl`.
    #[param(inline, required = false)]
    format: TableFormat,
    /// One of the server's models.
    model: Option<String>,
    /// A name for people.
    name: Option<String>,
    /// The entity's column.
    entity: Option<String>,
    /// The source sentence's column.
    source: Option<String>,
    /// The base sentence's column.
    base: Option<String>,
    /// Compute pairs that have a result once more; what comes of it takes the result's place.
    #[serde(default)]
    #[param(required = false)]
    again: bool,
}

/// Takes a query apart.
fn table_query(texts: Vec<(String, String)>) -> Result<(TableQuery, Settings), ApiError> {
    const TABLE: [&str; 7] = ["format", "model", "name", "entity", "source", "base", "again"];
    let (mut table, mut asked) = (serde_json::Map::new(), BTreeMap::<_, String>::new());
    for (name, text) in texts {
        match TABLE.contains(&&*name) {
            true => {
                // All are texts but for this one.
                let value = match (&*name, text.parse::<bool>()) {
                    ("again", Ok(again)) => again.into(),
                    _ => serde_json::Value::from(text),
                };
                table.insert(name, value);
            }
            // A list may be given as one text or item by item.
            false => {
                let list = asked.entry(name).and_modify(|list| list.push(','));
                list.or_default().push_str(&text);
            }
        }
    }
    let bad = |error: &dyn std::fmt::Display| ApiError::bad_request(error.to_string());
    let table = serde_json::from_value(table.into()).map_err(|error| bad(&error))?;
    let mut settings = Settings::default();
    for (name, text) in asked {
        settings.set(&name, &text).map_err(|error| bad(&error))?;
    }
    Ok((table, settings))
}

/// Submits a table as it is in its file.
#[utoipa::path(
    post, path = "/api/jobs/table", tag = "jobs", params(TableQuery, Settings),
    request_body(content = String, content_type = "text/plain"),
    responses((status = 201, body = JobDetail),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = 507, body = Problem, content_type = "application/problem+json"))
)]
pub async fn submit_table(
    State(app): State<Arc<App>>,
    Client(client): Client,
    Query(query): Query<Vec<(String, String)>>,
    Body(bytes): Body,
) -> Result<Submitted, ApiError> {
    let (query, settings) = table_query(query)?;
    let text = match std::str::from_utf8(&bytes) {
        Ok(text) => text.trim_start_matches('\u{feff}').to_string(),
        Err(_) => {
            // The table's reader says on which line.
            let name = query.name.as_deref().unwrap_or("the table");
            let error = pairs::read(name, &bytes, query.format, &Columns::default()).err();
            return Err(error.map_or_else(
                || ApiError::unusable("the table is not UTF-8"),
                |error| crate::jobs::bad_rows(error).into(),
            ));
        }
    };
    let submission = Submission {
        model: query.model,
        name: query.name,
        pairs: Vec::new(),
        table: Some(TableInput {
            text,
            format: query.format,
            columns: TableColumns { entity: query.entity, source: query.source, base: query.base },
        }),
        settings,
        again: query.again,
    };
    submitted(&app, submission, client).await
}

/// Which jobs to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct JobsQuery {
    /// Only jobs of this state.
    #[param(inline)]
    state: Option<JobState>,
    /// The most jobs, up to 100.
    #[param(minimum = 0)]
    limit: Option<u32>,
    /// How many jobs come before.
    #[param(minimum = 0)]
    offset: Option<u32>,
}

/// Jobs, the newest first.
#[utoipa::path(
    get, path = "/api/jobs", tag = "jobs", params(JobsQuery),
    responses((status = 200, body = JobList),
        (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
pub async fn list(
    State(app): State<Arc<App>>,
    Query(query): Query<JobsQuery>,
) -> Result<Json<JobList>, ApiError> {
    let limit = query.limit.map_or(N_LISTED_JOBS, |limit| (limit as usize).min(N_LISTED_JOBS));
    let page = Page { offset: query.offset.unwrap_or(0) as usize, limit };
    let jobs = app.reading(move |queue| Ok(queue.jobs(query.state, page)?)).await?;
    Ok(Json(JobList { jobs }))
}

/// A job and its pairs.
#[utoipa::path(
    get, path = "/api/jobs/{id}", tag = "jobs", params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, body = JobDetail),
        (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
pub async fn get(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<JobDetail>, ApiError> {
    app.reading(move |queue| queue.job(&id)?.ok_or_else(|| ApiError::not_found("job", &id)))
        .await
        .map(Json)
}

/// Cancels what is not finished of a job. Its finished results stay.
#[utoipa::path(
    post, path = "/api/jobs/{id}/cancel", tag = "jobs", params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, body = JobDetail),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = 507, body = Problem, content_type = "application/problem+json"))
)]
pub async fn cancel(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<JobDetail>, ApiError> {
    app.writing(move |queue| queue.cancel(&id)?.ok_or_else(|| ApiError::not_found("job", &id)))
        .await
        .map(Json)
}

/// Cancels a job and removes it from the list. Its finished results stay.
#[utoipa::path(
    delete, path = "/api/jobs/{id}", tag = "jobs", params(("id" = String, Path, description = "The job's id")),
    responses((status = 204),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = 507, body = Problem, content_type = "application/problem+json"))
)]
pub async fn remove(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    app.writing(move |queue| match queue.remove_job(&id)? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(ApiError::not_found("job", &id)),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_apart_by_what_they_cannot_choose() {
        /// The peer, the headers, and who that is.
        type Case = (&'static str, &'static [(&'static str, &'static str)], &'static str);
        let cases: [Case; 7] = [
            ("127.0.0.1", &[], "here"),
            ("127.0.0.1", &[("x-client-id", "tab 1")], "tab1"),
            ("127.0.0.1", &[("x-forwarded-for", "1.2.3.4, 5.6.7.8")], "5.6.7.8"),
            ("::1", &[("x-forwarded-for", "nobody"), ("x-client-id", "b")], "b"),
            ("9.9.9.9", &[("x-forwarded-for", "1.2.3.4"), ("x-client-id", "b")], "9.9.9.9"),
            ("::ffff:9.9.9.9", &[], "9.9.9.9"),
            ("2001:db8:1:2:3:4:5:6", &[], "2001:db8:1:2::/64"),
        ];
        for (peer, given, expected) in cases {
            let mut headers = HeaderMap::new();
            for (name, value) in given {
                headers.insert(*name, value.parse().unwrap());
            }
            assert_eq!(client(peer.parse().ok(), &headers), expected, "{peer}");
        }
    }
}
