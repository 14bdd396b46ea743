//! The one error of the server, which becomes problem details (RFC 9457).

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use shared::wire::problem::{MEDIA_TYPE, Problem, RowProblem};

use crate::export::ExportError;
use crate::jobs::IntakeError;
use crate::site::SiteError;
use crate::store::StoreError;
use crate::sweep::SweepError;

/// The most characters of what is said of one thing.
const MAX_CHARS: usize = 1_000;

/// What a client is told instead of what it asked for.
#[derive(Debug)]
pub struct ApiError(Box<Problem>);

impl ApiError {
    /// A problem of the kind `word`; `detail` says what was found, what was expected, what to do.
    pub fn new(status: StatusCode, word: &str, title: &str, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem {
            kind: format!("urn:patchboard:problem:{word}"),
            title: title.to_string(),
            status: status.as_u16(),
            detail: Self::shortened(detail.into()),
            rows: Vec::new(),
        }))
    }

    /// As much of what is said as anybody reads: it may quote what was sent, which may be long.
    fn shortened(mut text: String) -> String {
        if let Some((at, _)) = text.char_indices().nth(MAX_CHARS) {
            text.truncate(at);
            text.push('…');
        }
        text
    }

    /// A request that cannot be understood.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", "The request is not understood", detail)
    }

    /// Something that is not there.
    pub fn not_found(what: &str, id: &str) -> Self {
        // What was asked for comes from outside, and may be anything.
        let id: String = id.chars().take(64).collect();
        let detail = format!("there is no {what} {id:?}: it may have been deleted");
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    /// Input that is understood and cannot be used.
    pub fn unusable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "unusable", "The input cannot be used", detail)
    }

    /// A body that is larger than allowed.
    pub fn too_large(limit: usize) -> Self {
        let detail =
            format!("the body is larger than the {limit} bytes allowed: send less at once");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Too large", detail)
    }

    /// A failure that is not the client's: it is told that, and the log the rest.
    pub fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "a request failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "The server failed",
            "the server could not do this, and its log says why: try again, or tell whoever runs it",
        )
    }

    /// What comes of work that was broken off because its client went away: nobody reads it.
    pub fn nobody_waits() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "timeout",
            "Nobody waited for the answer",
            "the client went away before the answer was there: ask again",
        )
    }

    fn rows(mut self, mut rows: Vec<RowProblem>) -> Self {
        for row in &mut rows {
            row.message = Self::shortened(std::mem::take(&mut row.message));
            row.column = row.column.take().map(Self::shortened);
        }
        self.0.rows = rows;
        self
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_string(&self.0).expect("a problem is plain");
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match status {
            StatusCode::UNAUTHORIZED => {
                let challenge = HeaderValue::from_static("Bearer realm=\"patchboard\"");
                headers.insert(header::WWW_AUTHENTICATE, challenge);
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::INSUFFICIENT_STORAGE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
            }
            _ => {}
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::ReadOnly(_) => Self::new(
                StatusCode::FORBIDDEN,
                "not-writable",
                "Results cannot be stored",
                format!("{error}: what is there can be read, and nothing new be stored"),
            ),
            StoreError::Full => Self::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "disk-full",
                "The disk is full",
                "the disk with the results is full: whoever runs the server must make room",
            ),
            StoreError::OtherResult(_) => Self::new(
                StatusCode::CONFLICT,
                "other-result",
                "Another result has the same id",
                format!("{error}, by `?replace=true`"),
            ),
            error => Self::internal(&error),
        }
    }
}

impl From<IntakeError> for ApiError {
    fn from(error: IntakeError) -> Self {
        match error {
            IntakeError::Store(error) => error.into(),
            IntakeError::Sweep(SweepError::Cancelled) => Self::nobody_waits(),
            IntakeError::Rows { rows, .. } if rows.is_empty() => Self::unusable("the table is bad"),
            IntakeError::Rows { n, rows } => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "bad-rows",
                "Rows that cannot be run",
                match n {
                    1 => "one problem, and none of the rows was accepted: correct it".to_string(),
                    n => format!("{n} problems, and none of the rows was accepted: correct them"),
                },
            )
            .rows(rows),
            IntakeError::QueueFull { .. } => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "queue-full",
                "The queue is full",
                error.to_string(),
            ),
            IntakeError::Away { .. } => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "model-away",
                "The model cannot be reached",
                error.to_string(),
            ),
            error => Self::unusable(error.to_string()),
        }
    }
}

impl From<ExportError> for ApiError {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Figure(error) => Self::unusable(error.to_string()),
            ExportError::Table(error) => Self::unusable(error.to_string()),
            error => Self::internal(&error),
        }
    }
}

impl From<SiteError> for ApiError {
    fn from(error: SiteError) -> Self {
        match error {
            SiteError::NoViewer => {
                Self::new(StatusCode::NOT_IMPLEMENTED, "no-viewer", "No viewer", error.to_string())
            }
            error => Self::internal(&error),
        }
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

impl From<tokio::task::JoinError> for ApiError {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::internal(&error)
    }
}
