//! The viewer's files, or a page in their place that says how to build them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::App;
use super::problem::ApiError;
use super::security::{Frames, policy};
use super::send::{Kind, send};

/// Tells the page that a server stands behind it. Without it the page asks for files only, so that
/// a file host is not asked for what it cannot have.
const META: &str = "<meta name=\"patchboard-server\" content=\"api\" />";

/// The files and what pages may do.
pub struct Viewer {
    files: BTreeMap<&'static str, (Bytes, String)>,
    /// The content security policy.
    pub policy: HeaderValue,
}

/// What is shown without a viewer.
const MISSING: &str = include_str!("missing.html");

impl Viewer {
    /// The viewer of these files, by name, which `frames` may show within their own pages.
    pub fn new(files: &[(&'static str, &'static [u8])], frames: &Frames) -> Self {
        let hash = |bytes: &[u8]| STANDARD.encode(Sha256::digest(bytes));
        let mut all: BTreeMap<_, _> = files
            .iter()
            .map(|&(name, bytes)| match (name, std::str::from_utf8(bytes)) {
                ("index.html", Ok(page)) => {
                    let page = page.replacen("<head>", &format!("<head>{META}"), 1);
                    (name, (hash(page.as_bytes()), page.into_bytes().into()))
                }
                _ => (name, (hash(bytes), Bytes::from_static(bytes))),
            })
            .map(|(name, (hash, bytes))| (name, (bytes, hash)))
            .collect();
        all.entry("index.html")
            .or_insert((Bytes::from_static(MISSING.as_bytes()), hash(MISSING.as_bytes())));
        let page = std::str::from_utf8(&all["index.html"].0).unwrap_or_default();
        let hashes: Vec<_> = inline_scripts(page).map(|text| hash(text.as_bytes())).collect();
        let policy =
            HeaderValue::from_str(&policy(&hashes, frames)).expect("a policy is plain ASCII");
        Self { files: all, policy }
    }
}

/// The scripts within a page. Our own build has none; Trunk's start of the page is one.
fn inline_scripts(page: &str) -> impl Iterator<Item = &str> {
    page.split("<script").skip(1).filter_map(|rest| {
        let (attributes, rest) = rest.split_once('>')?;
        let (text, _) = rest.split_once("</script>")?;
        (!attributes.contains("src=")).then_some(text)
    })
}

/// Answers whatever is no route: the viewer's files, and a problem for anything else.
pub async fn file(State(app): State<Arc<App>>, request: Request) -> Response {
    let name = request.uri().path().trim_start_matches('/');
    let name = if name.is_empty() { "index.html" } else { name };
    let Some((bytes, hash)) = app.viewer.files.get(name) else {
        return ApiError::not_found("page", request.uri().path()).into_response();
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return wrong_method().await.into_response();
    }
    let kind = Kind::of_name(name);
    send(request.headers(), kind, hash, bytes.clone())
}

/// A method that a path does not have.
pub async fn wrong_method() -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method",
        "Not that way",
        "this address does not take this method: `Allow` and /api/docs say which it takes",
    )
}

/// Icons are asked for by every browser.
pub async fn favicon() -> Response {
    (StatusCode::NO_CONTENT, [(header::CACHE_CONTROL, "max-age=86400")]).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_scripts_within_the_page_are_hashed() {
        let page = "<script src=\"a.js\"></script><script type=\"module\">x = 1;</script><p>";
        assert_eq!(inline_scripts(page).collect::<Vec<_>>(), ["x = 1;"]);
        let bytes: &'static [u8] = b"<head></head><script>x = 1;</script>";
        let viewer = Viewer::new(&[("index.html", bytes)], &Frames::default());
        let page = String::from_utf8_lossy(&viewer.files["index.html"].0);
        assert!(page.starts_with("<head><meta name=\"patchboard-server\""), "{page}");
        let policy = viewer.policy.to_str().unwrap();
        assert!(policy.contains("'wasm-unsafe-eval' 'sha256-"), "{policy}");
        assert!(policy.ends_with("frame-ancestors 'none'"), "{policy}");
        let frames = ["https://a.example", "http://b.example:8080"].map(String::from);
        let viewer = Viewer::new(&[], &Frames::new(&frames).unwrap());
        let policy = viewer.policy.to_str().unwrap();
        assert!(!policy.contains("sha256"), "{policy}");
        let expected = "frame-ancestors https://a.example http://b.example:8080";
        assert!(policy.ends_with(expected), "{policy}");
        for odd in
            ["a.example", "https://a;script-src *", "https://a/b", "https://*.a", "", "'self'"]
        {
            let error = Frames::new(&[odd.to_string()]).unwrap_err().to_string();
            assert!(error.contains("expected the origin of a page"), "{odd}: {error}");
        }
        assert!(Frames::new(&["*".to_string()]).is_ok());
    }
}
