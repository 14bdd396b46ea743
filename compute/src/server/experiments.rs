//! Results: lists, documents, files, imports.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Deserialize;
use shared::document::{Document, content_id};
use shared::field::axis::Coordinate;
use shared::field::chosen::{Choice, GridName};
use shared::field::metric::Metric;
use shared::figure::colour::{Preset, Range};
use shared::figure::{FigureOptions, LabelStyle, Origin, Theme};
use shared::specification::positions::Positions;
use shared::wire::address::{Filter, Sort};
use shared::wire::event::Event;
use shared::wire::gallery::{Gallery, SCHEMA};
use shared::wire::job::Standing;
use shared::wire::listing::{ExperimentPage, Facets, Imported};
use shared::wire::problem::Problem;
use utoipa::IntoParams;

use super::App;
use super::extract::{ImportBody, Path, Query};
use super::problem::ApiError;
use super::send::{Kind, send, unchanged};
use crate::export::{Format, render};
use crate::jobs::Queue;
use crate::site;
use crate::store::{Page, Present, StoredDocument};

/// The most experiments of a page.
const N_PAGE: usize = 200;
/// How many a page has where nobody says.
const N_DEFAULT_PAGE: usize = 50;
/// The most experiments in the list that a viewer without paging reads, the newest.
const N_GALLERY: usize = 1_000;

/// Which experiments to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Words that must all occur somewhere.
    q: Option<String>,
    /// The model.
    model: Option<String>,
    /// What the sentences are about.
    entity: Option<String>,
    /// The site.
    site: Option<String>,
    /// The order.
    #[serde(default)]
    #[param(inline, required = false)]
    sort: Sort,
    /// The most experiments, up to 200; 50 by default.
    #[param(minimum = 0)]
    limit: Option<u32>,
    /// How many experiments come before.
    #[param(minimum = 0)]
    offset: Option<u32>,
}

/// A page of the experiments that pass a filter.
#[utoipa::path(
    get, path = "/api/experiments", tag = "experiments", params(ListQuery),
    responses((status = 200, body = ExperimentPage),
        (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
pub async fn list(
    State(app): State<Arc<App>>,
    Query(query): Query<ListQuery>,
) -> Result<Json<ExperimentPage>, ApiError> {
    let filter = Filter {
        text: query.q.unwrap_or_default(),
        model: query.model.unwrap_or_default(),
        entity: query.entity.unwrap_or_default(),
        site: query.site.unwrap_or_default(),
        sort: query.sort,
        picked: Vec::new(),
    };
    let limit = query.limit.map_or(N_DEFAULT_PAGE, |limit| (limit as usize).min(N_PAGE));
    let page = Page { offset: query.offset.unwrap_or(0) as usize, limit };
    app.reading(move |queue| Ok(queue.store().experiments(&filter, page)?)).await.map(Json)
}

/// What experiments can be filtered by.
#[utoipa::path(
    get, path = "/api/experiments/facets", tag = "experiments",
    responses((status = 200, body = Facets),
        (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
pub async fn facets(State(app): State<Arc<App>>) -> Result<Json<Facets>, ApiError> {
    app.reading(|queue| Ok(queue.store().facets()?)).await.map(Json)
}

/// The list of the newest experiments, as a static site has it.
pub async fn gallery(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let list = app
        .reading(|queue| {
            let page = Page { offset: 0, limit: N_GALLERY };
            let page = queue.store().experiments(&Filter::default(), page)?;
            let list = Gallery {
                schema: SCHEMA.into(),
                experiments: page.experiments,
                studies: Vec::new(),
            };
            serde_json::to_string(&list).map_err(|error| ApiError::internal(&error))
        })
        .await?;
    let tag = content_id(&list);
    Ok(send(&headers, Kind::Json, &tag, list.into()))
}

/// A document, as a static site has it.
pub async fn data(
    State(app): State<Arc<App>>,
    Path(file): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let missing = || ApiError::not_found("file", &file);
    let id = file.strip_suffix(".json").ok_or_else(missing)?;
    document(&app, id, &headers).await
}

/// The result document of an experiment.
#[utoipa::path(
    get, path = "/api/experiments/{id}", tag = "experiments",
    params(("id" = String, Path, description = "The experiment's id")),
    responses((status = 200, body = Document), (status = 304),
        (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
pub async fn get(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    document(&app, &id, &headers).await
}

async fn document(app: &Arc<App>, id: &str, headers: &HeaderMap) -> Result<Response, ApiError> {
    let id = id.to_string();
    let stored = app.reading(move |queue| stored(queue, &id)).await?;
    Ok(send(headers, Kind::Json, &stored.etag, stored.body.into()))
}

fn stored(queue: &Queue, id: &str) -> Result<StoredDocument, ApiError> {
    queue.store().document(id)?.ok_or_else(|| ApiError::not_found("experiment", id))
}

/// Whether an experiment has a result, and who makes it otherwise. What nobody has asked for has
/// neither.
#[utoipa::path(
    get, path = "/api/experiments/{id}/standing", tag = "experiments",
    params(("id" = String, Path, description = "The experiment's id")),
    responses((status = 200, body = Standing),
        (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
pub async fn standing(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<Standing>, ApiError> {
    app.reading(move |queue| Ok(queue.standing(&id)?)).await.map(Json)
}

/// How a figure is drawn.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FigureQuery {
    /// Which grid: a site and a direction, as in `z.denoising`, or `lens.base` or `lens.source`; the
    /// first by default.
    grid: Option<String>,
    /// Of a grid with three axes, where on the one that is not shown: `h3`, `l5`, or a position.
    at: Option<String>,
    /// What a cell shows: `logit_diff` (default), `recovery`, `p_true`, `p_false` and others.
    metric: Option<String>,
    /// The colours: `notebook` (default), `rdbu`, `blues` and others.
    preset: Option<String>,
    /// The smallest value of the scale; goes with `hi`.
    lo: Option<f32>,
    /// The largest value of the scale.
    hi: Option<f32>,
    /// Where layer 0 is.
    #[serde(default)]
    #[param(inline, required = false)]
    origin: Origin,
    /// Layers along x and tokens along y.
    #[serde(default)]
    #[param(required = false)]
    transpose: bool,
    /// What stands at a column.
    #[serde(default)]
    #[param(inline, required = false)]
    labels: LabelStyle,
    /// Positions that are left out, as in `3-5,9`.
    hide: Option<String>,
    /// The ground.
    #[serde(default)]
    #[param(inline, required = false)]
    theme: Theme,
    /// Enlarges everything.
    scale: Option<f64>,
}

impl FigureQuery {
    fn options(&self) -> Result<FigureOptions, ApiError> {
        let range = match (self.lo, self.hi) {
            (None, None) => Range::Auto,
            (Some(lo), Some(hi)) => Range::Set(lo, hi),
            _ => return Err(ApiError::unusable("`lo` and `hi` go together, found one of them")),
        };
        let unusable = |error: shared::specification::vocabulary::UnknownWord| {
            ApiError::unusable(error.to_string())
        };
        let told = |error: &dyn std::fmt::Display| ApiError::unusable(error.to_string());
        let grid =
            self.grid.as_deref().map(str::parse::<GridName>).transpose().map_err(|e| told(&e))?;
        let at =
            self.at.as_deref().map(str::parse::<Coordinate>).transpose().map_err(|e| told(&e))?;
        let metric = self.metric.as_deref().map(str::parse::<Metric>);
        let preset = self.preset.as_deref().map(str::parse::<Preset>);
        Ok(FigureOptions {
            grid: Choice { grid, at },
            metric: metric.transpose().map_err(unusable)?.unwrap_or_default(),
            preset: preset.transpose().map_err(unusable)?.unwrap_or_default(),
            range,
            origin: self.origin,
            transpose: self.transpose,
            labels: self.labels,
            hidden: self
                .hide
                .as_deref()
                .unwrap_or_default()
                .parse::<Positions>()
                .map_err(|error| ApiError::unusable(error.to_string()))?,
            theme: self.theme,
            scale: self.scale,
        })
    }
}

/// An experiment as a file: `json`, `csv`, `png`, `svg`, `pdf`, or `html`, a report with the viewer inside.
#[utoipa::path(
    get, path = "/api/experiments/{id}/export/{format}", tag = "experiments",
    params(("id" = String, Path, description = "The experiment's id"),
        ("format" = String, Path, description = "json, csv, parquet, png, svg, pdf or html"), FigureQuery),
    responses(
        (status = 200, content((Document = "application/json"), (String = "text/csv"),
            (String = "application/vnd.apache.parquet"), (String = "image/png"),
            (String = "image/svg+xml"), (String = "application/pdf"), (String = "text/html"))),
        (status = 304),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = 501, body = Problem, content_type = "application/problem+json"))
)]
pub async fn export(
    State(app): State<Arc<App>>,
    Path((id, word)): Path<(String, String)>,
    Query(query): Query<FigureQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let format = match &*word {
        "html" => None,
        word => Some(word.parse::<Format>().map_err(|_| {
            let found: String = word.chars().take(16).collect();
            ApiError::new(
                StatusCode::NOT_FOUND,
                "format",
                "No such format",
                format!(
                    "{found:?} is no format: expected json, csv, parquet, png, svg, pdf or html"
                ),
            )
        })?),
    };
    let options = query.options()?;
    let wanted = id.clone();
    let stored = app.reading(move |queue| stored(queue, &wanted)).await?;
    let tag = content_id(&format!("{} {word} {options:?} {}", stored.etag, crate::model::VERSION));
    if let Some(unchanged) = unchanged(&headers, &tag) {
        return Ok(unchanged);
    }
    let (kind, bytes) = app
        .heavy(move |_, waiting| {
            let mut documents =
                Document::read(&stored.body).map_err(|error| ApiError::internal(&error))?;
            waiting.check()?;
            let Some(format) = format else {
                return Ok((Kind::Html, site::report(&documents, &[])?.into_bytes()));
            };
            let kind = match format {
                Format::Json => Kind::Json,
                Format::Csv => Kind::Csv,
                Format::Parquet => Kind::Parquet,
                Format::Png => Kind::Png,
                Format::Svg => Kind::Svg,
                Format::Pdf => Kind::Pdf,
            };
            Ok((kind, render(&documents.remove(0), format, &options)?))
        })
        .await?;
    let mut response = send(&headers, kind, &tag, bytes.into());
    // Only figures are shown in place: a report has scripts, which run nowhere here.
    let place =
        if matches!(kind, Kind::Png | Kind::Svg | Kind::Pdf) { "inline" } else { "attachment" };
    let name = format!("{place}; filename=\"patchboard-{id}.{word}\"");
    if let Ok(name) = HeaderValue::from_str(&name) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

/// Deletes an experiment. For a week it can be restored.
#[utoipa::path(
    delete, path = "/api/experiments/{id}", tag = "experiments",
    params(("id" = String, Path, description = "The experiment's id")),
    responses((status = 204),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = 507, body = Problem, content_type = "application/problem+json"))
)]
pub async fn remove(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    change(&app, id, |queue, id| Ok(queue.store().delete_experiment(id)?)).await
}

/// Brings a deleted experiment back.
#[utoipa::path(
    post, path = "/api/experiments/{id}/restore", tag = "experiments",
    params(("id" = String, Path, description = "The experiment's id")),
    responses((status = 204),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = 507, body = Problem, content_type = "application/problem+json"))
)]
pub async fn restore(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    change(&app, id, |queue, id| Ok(queue.store().restore_experiment(id)?)).await
}

async fn change(
    app: &Arc<App>,
    id: String,
    work: impl FnOnce(&Queue, &str) -> Result<bool, ApiError> + Send + 'static,
) -> Result<StatusCode, ApiError> {
    app.writing(move |queue| match work(queue, &id)? {
        true => {
            queue.events().send(Event::Experiments {});
            Ok(StatusCode::NO_CONTENT)
        }
        false => Err(ApiError::not_found("experiment", &id)),
    })
    .await
}

/// What to do with documents that are there already.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ImportQuery {
    /// Whether a document replaces the one of its id that is there. Otherwise it does so only where
    /// it says more, and one that contradicts what is there is refused with all others.
    #[serde(default)]
    #[param(required = false)]
    replace: bool,
}

/// Stores result documents: one, a JSON array of them, or the notebook's `patching_results.json`.
#[utoipa::path(
    post, path = "/api/import", tag = "experiments", params(ImportQuery),
    request_body(content = Document, content_type = "application/json"),
    responses((status = 200, body = Imported),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = 507, body = Problem, content_type = "application/problem+json"))
)]
pub async fn import(
    State(app): State<Arc<App>>,
    Query(query): Query<ImportQuery>,
    ImportBody(bytes): ImportBody,
) -> Result<Json<Imported>, ApiError> {
    let present = if query.replace { Present::Replace } else { Present::Keep };
    let imported = app
        .heavy(move |queue, waiting| {
            let documents =
                Document::read(&bytes).map_err(|error| ApiError::unusable(error.to_string()))?;
            waiting.check()?;
            let n_new = queue.store().put(&documents, present)?;
            queue.events().send(Event::Experiments {});
            Ok(Imported { ids: documents.into_iter().map(|document| document.id).collect(), n_new })
        })
        .await?;
    Ok(Json(imported))
}
