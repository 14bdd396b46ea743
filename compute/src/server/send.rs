//! Answers with a content: its type, its tag, and whether the client has it already.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// What a content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// HTML.
    Html,
    /// JavaScript.
    Script,
    /// A style sheet.
    Style,
    /// WebAssembly.
    Wasm,
    /// A vector figure.
    Svg,
    /// A figure in pixels.
    Png,
    /// A figure on a page.
    Pdf,
    /// JSON.
    Json,
    /// A table.
    Csv,
    /// A table in columns.
    Parquet,
    /// Anything else.
    Bytes,
}

impl Kind {
    /// The kind that a file's name tells.
    pub fn of_name(name: &str) -> Self {
        match name.rsplit_once('.').map_or("", |(_, ending)| ending) {
            "html" => Self::Html,
            "js" => Self::Script,
            "css" => Self::Style,
            "wasm" => Self::Wasm,
            "svg" => Self::Svg,
            "png" => Self::Png,
            "pdf" => Self::Pdf,
            "json" => Self::Json,
            "csv" => Self::Csv,
            "parquet" => Self::Parquet,
            _ => Self::Bytes,
        }
    }

    /// The media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Html => "text/html; charset=utf-8",
            Self::Script => "text/javascript; charset=utf-8",
            Self::Style => "text/css; charset=utf-8",
            Self::Wasm => "application/wasm",
            Self::Svg => "image/svg+xml",
            Self::Png => "image/png",
            Self::Pdf => "application/pdf",
            Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Parquet => "application/vnd.apache.parquet",
            Self::Bytes => "application/octet-stream",
        }
    }
}

/// Sends a content whose tag is `tag`, or that it has not changed. The client keeps it and asks
/// each time, which costs no more than a few bytes.
pub fn send(asked: &HeaderMap, kind: Kind, tag: &str, content: Bytes) -> Response {
    if let Some(unchanged) = unchanged(asked, tag) {
        return unchanged;
    }
    let mut response = Body::from(content).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind.media_type()));
    put_tag(headers, tag);
    response
}

/// The answer to a client that has the content with this tag already.
pub fn unchanged(asked: &HeaderMap, tag: &str) -> Option<Response> {
    let known = asked.get(header::IF_NONE_MATCH)?.to_str().ok()?;
    let is = |known: &str| known.trim().trim_start_matches("W/").trim_matches('"') == tag;
    (known.trim() == "*" || known.split(',').any(is)).then(|| {
        let mut response = StatusCode::NOT_MODIFIED.into_response();
        put_tag(response.headers_mut(), tag);
        response
    })
}

/// The tag is weak, since the content may be compressed on the way.
fn put_tag(headers: &mut HeaderMap, tag: &str) {
    if let Ok(tag) = HeaderValue::from_str(&format!("W/\"{tag}\"")) {
        headers.insert(header::ETAG, tag);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
}
