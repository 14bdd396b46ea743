//! The study of a job: what its finished pairs have in common, growing while it runs.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use shared::document::Document;
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
    manifest: String,
    values: Vec<u8>,
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
    Ok(send(&headers, Kind::Json, &made.id, made.manifest.clone().into()))
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
    Ok(send(&headers, Kind::Bytes, &made.id, made.values.clone().into()))
}

async fn made(app: &Arc<App>, job: String, query: PoolQuery) -> Result<Arc<Made>, ApiError> {
    if !(query.min_contrast >= 0.0 && query.min_contrast.is_finite()) {
        return Err(ApiError::bad_request("expected a `min_contrast` of 0 or more"));
    }
    let studies = app.clone();
    app.heavy(move |queue, waiting| {
        let results = Results::of(queue, &job)?;
        let tags = || results.done.iter().map(|(_, stored)| stored.etag.clone());
        let is_it = |made: &Made| {
            made.job == job && made.query == query && tags().eq(made.tags.iter().cloned())
        };
        if let Some(made) = studies.studies.find(is_it) {
            return Ok(made);
        }
        let (mut study, values) = results.study(&query, waiting)?;
        let id = study.id.clone();
        if let Some(place) = &mut study.values {
            place.file = format!("studies/{id}");
        }
        let (manifest, tags) = (study.to_json(), tags().collect());
        let made =
            Arc::new(Made { job: job.clone(), query: query.clone(), tags, id, manifest, values });
        studies.studies.keep(made.clone());
        Ok(made)
    })
    .await
}

/// The finished pairs of a job, in the table's order.
struct Results {
    name: String,
    done: Vec<(shared::specification::pairs::Pair, crate::store::StoredDocument)>,
}

impl Results {
    fn of(queue: &Queue, job: &str) -> Result<Self, ApiError> {
        let detail = queue.job(job)?.ok_or_else(|| ApiError::not_found("job", job))?;
        let rows = queue.store().pairs(job)?;
        let mut done = Vec::new();
        let mut seen = BTreeSet::new();
        for (pair, row) in detail.pairs.iter().zip(rows) {
            // Two rows may be the same experiment.
            if pair.state != JobState::Done || !seen.insert(pair.experiment.clone()) {
                continue;
            }
            // One that was deleted since is not in the study.
            if let Some(stored) = queue.store().document(&pair.experiment)? {
                done.push((row, stored));
            }
        }
        if done.is_empty() {
            return Err(ApiError::not_found("finished pair of the job", job));
        }
        Ok(Self { name: detail.job.name, done })
    }

    fn study(&self, query: &PoolQuery, waiting: &Waiting) -> Result<(Study, Vec<u8>), ApiError> {
        let mut builder = Builder::new();
        for (row, stored) in &self.done {
            waiting.check()?;
            let documents = Document::read(&stored.body);
            let documents = documents.map_err(|error| ApiError::internal(&error))?;
            for document in documents {
                let document = Document { row: row.cells.clone(), ..document };
                builder.push(&document).map_err(|error| ApiError::unusable(error.to_string()))?;
            }
        }
        let options = Options {
            title: self.name.clone(),
            text: String::new(),
            rule: Rule { keep: query.keep, min_contrast: query.min_contrast },
            group_by: query.group_by.clone(),
            method: Method::default(),
        };
        builder.finish(&options).map_err(|error| ApiError::bad_request(error.to_string()))
    }
}
