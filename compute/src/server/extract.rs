//! Bodies, queries and path segments whose rejections are problems like any other.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError};
use serde::de::DeserializeOwned;

use super::problem::ApiError;

/// A query.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(ApiError))]
pub struct Query<T>(pub T);

/// A segment of the path.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(ApiError))]
pub struct Path<T>(pub T);

/// A whole body of at most `LIMIT` bytes.
pub struct Limited<const LIMIT: usize>(pub Bytes);

impl<S: Send + Sync, const LIMIT: usize> FromRequest<S> for Limited<LIMIT> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let n_bytes = request.headers().get(header::CONTENT_LENGTH);
        let n_bytes = n_bytes.and_then(|n| n.to_str().ok()?.parse::<u64>().ok());
        // What says that it is too large is not read at all.
        if n_bytes.is_some_and(|n| n > LIMIT as u64) {
            return Err(ApiError::too_large(LIMIT));
        }
        let body = http_body_util::Limited::new(request.into_body(), LIMIT);
        match body.collect().await {
            Ok(body) => Ok(Self(body.to_bytes())),
            Err(error) if error.is::<LengthLimitError>() => Err(ApiError::too_large(LIMIT)),
            Err(error) => {
                Err(ApiError::bad_request(format!("the body could not be read: {error}")))
            }
        }
    }
}

/// A JSON body of at most `LIMIT` bytes.
pub struct Json<T, const LIMIT: usize>(pub T);

impl<S: Send + Sync, T: DeserializeOwned, const LIMIT: usize> FromRequest<S> for Json<T, LIMIT> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "not-json",
                "The body is no JSON",
                "expected a body with `Content-Type: application/json`",
            ));
        }
        let Limited(bytes) = Limited::<LIMIT>::from_request(request, state).await?;
        match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Self(value)),
            Err(error) => {
                Err(ApiError::bad_request(format!("the body is not as expected: {error}")))
            }
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.map(|kind| kind.split(';').next().unwrap_or_default().trim());
    kind.is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"))
}
