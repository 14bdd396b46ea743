//! The study of a job: what its finished pairs have in common, growing while it runs.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use shared::document::{Document, content_id};
use shared::specification::pairs::Pair;
use shared::statistics::Method;
use shared::study::{Builder, Keep, Options, Rule, Study};
use shared::wire::job::State as JobState;
use shared::wire::problem::Problem;
use utoipa::IntoParams;

use super::extract::{Path, Query};
use super::problem::ApiError;
use super::send::{Kind, send};
use super::{App, Waiting};
use crate::jobs::Queue;

/// How many studies are kept in memory, the last ones that were asked for.
const N_KEPT: usize = 8;

/// How pairs are pooled.
#[derive(Debug, Clone, PartialEq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct PoolQuery {
    /// Which pairs count.
    #[param(inline, required = false)]
    keep: Keep,
    /// The least contrast in nats, for `contrast`.
    #[param(required = false)]
    min_contrast: f32,
    /// The column of the table whose values make groups.
    group_by: Option<String>,
}

impl Default for PoolQuery {
    fn default() -> Self {
        let Rule { keep, min_contrast } = Rule::default();
        Self { keep, min_contrast, group_by: None }
    }
}

/// A study as it is sent.
struct Made {
    job: String,
    query: PoolQuery,
    /// How far the job was: the tags of the results that it is made of.
    tags: Vec<String>,
    id: String,
    /// Of the study and of all results in it: a result may be replaced by another of its id.
    tag: String,
    manifest: Bytes,
    values: Bytes,
}

/// The studies that were asked for last, the newest first.
#[derive(Default)]
pub struct Studies(Mutex<VecDeque<Arc<Made>>>);

impl Studies {
    fn find(&self, is_it: impl Fn(&Made) -> bool) -> Option<Arc<Made>> {
        let made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        made.iter().find(|made| is_it(made)).cloned()
    }

    fn keep(&self, new: Arc<Made>) {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        made.retain(|old| (&old.job, &old.query) != (&new.job, &new.query));
        made.push_front(new);
        made.truncate(N_KEPT);
    }
}

/// The study of a job's finished pairs. Its values are at `values.file`, relative to this address, as
/// long as no newer study was asked for.
#[utoipa::path(
    get, path = "/api/jobs/{id}/study", tag = "jobs",
    params(("id" = String, Path, description = "The job's id"), PoolQuery),
    responses((status = 200, body = Study), (status = 304),
        (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
pub async fn study(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Query(query): Query<PoolQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let made = made(&app, id, query).await?;
    Ok(send(&headers, Kind::Json, &made.tag, made.manifest.clone()))
}

/// The values of the single pairs of a job's study, a safetensors file.
#[utoipa::path(
    get, path = "/api/jobs/{id}/studies/{study}", tag = "jobs",
    params(("id" = String, Path, description = "The job's id"),
        ("study" = String, Path, description = "The study's id")),
    responses((status = 200, body = String, content_type = "application/octet-stream"),
        (status = 304), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
pub async fn study_values(
    State(app): State<Arc<App>>,
    Path((job, study)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let made = app.studies.find(|made| made.job == job && made.id == study);
    let made = made.ok_or_else(|| ApiError::not_found("study", &study))?;
    Ok(send(&headers, Kind::Bytes, &made.tag, made.values.clone()))
}

async fn made(app: &Arc<App>, job: String, query: PoolQuery) -> Result<Arc<Made>, ApiError> {
    let rule = Rule { keep: query.keep, min_contrast: query.min_contrast };
    if !rule.is_valid() {
        return Err(ApiError::bad_request("expected a `min_contrast` of 0 or more"));
    }
    let studies = app.clone();
    app.heavy(move |queue, waiting| {
        let results = Results::of(queue, &job)?;
        let is_it =
            |made: &Made| made.job == job && made.query == query && made.tags == results.tags;
        if let Some(made) = studies.studies.find(is_it) {
            return Ok(made);
        }
        let options = Options {
            title: results.name.clone(),
            text: String::new(),
            rule,
            group_by: query.group_by.clone(),
            method: Method::default(),
        };
        let (mut study, values) = results.study(queue, &options, waiting)?;
        let id = study.id.clone();
        if let Some(place) = &mut study.values {
            place.file = format!("studies/{id}");
        }
        let tag = content_id(&format!("{id} {}", results.tags.join(" ")));
        let made = Arc::new(Made {
            tag,
            tags: results.tags,
            id,
            manifest: study.to_json().into(),
            values: values.into(),
            job,
            query,
        });
        studies.studies.keep(made.clone());
        Ok(made)
    })
    .await
}

/// The finished pairs of a job, in the table's order.
struct Results {
    name: String,
    /// Each pair's row with the id of its result.
    done: Vec<(Pair, String)>,
    /// The tags of the results.
    tags: Vec<String>,
}

impl Results {
    fn of(queue: &Queue, job: &str) -> Result<Self, ApiError> {
        let detail = queue.job(job)?.ok_or_else(|| ApiError::not_found("job", job))?;
        let rows = queue.store().pairs(job)?;
        let mut results = Self { name: detail.job.name, done: Vec::new(), tags: Vec::new() };
        for (pair, row) in detail.pairs.into_iter().zip(rows) {
            if pair.state != JobState::Done {
                continue;
            }
            // One that was deleted since is not in the study.
            if let Some(tag) = queue.store().tag(&pair.experiment)? {
                results.done.push((row, pair.experiment));
                results.tags.push(tag);
            }
        }
        if results.done.is_empty() {
            return Err(ApiError::not_found("finished pair of the job", job));
        }
        Ok(results)
    }

    /// Reads one result after the other, since all of a table may be more than memory holds.
    fn study(
        &self,
        queue: &Queue,
        options: &Options,
        waiting: &Waiting,
    ) -> Result<(Study, Vec<u8>), ApiError> {
        let mut builder = Builder::new();
        for (row, id) in &self.done {
            waiting.check()?;
            if builder.has(id) {
                continue;
            }
            let Some(stored) = queue.store().document(id)? else { continue };
            let documents = Document::read(&stored.body);
            let documents = documents.map_err(|error| ApiError::internal(&error))?;
            for document in documents {
                let document = Document { row: row.cells.clone(), ..document };
                builder.push(&document).map_err(|error| ApiError::unusable(error.to_string()))?;
            }
        }
        builder.finish(options).map_err(|error| ApiError::bad_request(error.to_string()))
    }
}
