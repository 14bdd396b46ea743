//! A server that answers as the Hugging Face hub does.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::{StreamExt, stream};
use sha2::{Digest, Sha256};

/// The only commit.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What is wrong with the server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Files are only for who has this token.
    Gated(&'static str),
    /// It lacks this file.
    Lacks(&'static str),
    /// The connection breaks in the middle of the weights.
    Breaks,
    /// The weights are others than it says.
    Lies,
}

/// The model `patchboard/tiny` on a hub of its own.
pub struct FakeHub {
    /// `http://127.0.0.1:PORT`
    pub address: String,
    state: Arc<Files>,
    _runtime: tokio::runtime::Runtime,
}

struct Files {
    files: BTreeMap<String, Bytes>,
    fault: Mutex<Fault>,
    n_requests: AtomicUsize,
    n_weight_bytes: AtomicUsize,
}

impl FakeHub {
    /// Serves the files of `folder` and some that nobody should ask for.
    pub fn start(folder: &Path, fault: Fault) -> Self {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
        let mut files: BTreeMap<_, _> = entries
            .map(|e| {
                (e.file_name().into_string().unwrap(), Bytes::from(fs::read(e.path()).unwrap()))
            })
            .collect();
        for name in ["README.md", "generation_config.json", "pytorch_model.bin"] {
            files.insert(name.to_string(), Bytes::from_static(b"{}"));
        }
        let state = Arc::new(Files {
            files,
            fault: Mutex::new(fault),
            n_requests: AtomicUsize::new(0),
            n_weight_bytes: AtomicUsize::new(0),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let app = Router::new()
            .route("/api/models/patchboard/tiny/revision/{revision}", get(info))
            .route("/patchboard/tiny/resolve/{revision}/{file}", get(file))
            .with_state(state.clone());
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self { address, state, _runtime: runtime }
    }

    pub fn set_fault(&self, fault: Fault) {
        *self.state.fault.lock().unwrap() = fault;
    }

    pub fn n_requests(&self) -> usize {
        self.state.n_requests.load(Ordering::Relaxed)
    }

    /// Bytes of weights that were sent.
    pub fn n_weight_bytes(&self) -> u64 {
        self.state.n_weight_bytes.load(Ordering::Relaxed) as u64
    }
}

fn is_weights(name: &str) -> bool {
    name.ends_with(".safetensors")
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn info(State(hub): State<Arc<Files>>, UrlPath(revision): UrlPath<String>) -> Response {
    hub.n_requests.fetch_add(1, Ordering::Relaxed);
    if revision != "main" && revision != COMMIT {
        return StatusCode::NOT_FOUND.into_response();
    }
    let fault = *hub.fault.lock().unwrap();
    let there = hub.files.iter().filter(|(name, _)| fault != Fault::Lacks(name_of(name)));
    let siblings: Vec<_> = there
        .map(|(name, bytes)| {
            let mut sibling = serde_json::json!({"rfilename": name, "size": bytes.len()});
            if is_weights(name) {
                sibling["lfs"] = serde_json::json!({"sha256": sha256(bytes)});
            }
            sibling
        })
        .collect();
    axum::Json(serde_json::json!({"sha": COMMIT, "siblings": siblings})).into_response()
}

/// The names that a fault may have.
fn name_of(name: &str) -> &'static str {
    if name == "model.safetensors" { "model.safetensors" } else { "" }
}

async fn file(
    State(hub): State<Arc<Files>>,
    UrlPath((revision, name)): UrlPath<(String, String)>,
    headers: HeaderMap,
) -> Response {
    hub.n_requests.fetch_add(1, Ordering::Relaxed);
    let fault = *hub.fault.lock().unwrap();
    let sent = headers.get("authorization").map(|value| value.to_str().unwrap().to_string());
    match (fault, sent) {
        (Fault::Gated(_), None) => return StatusCode::UNAUTHORIZED.into_response(),
        (Fault::Gated(token), Some(sent)) if sent != format!("Bearer {token}") => {
            return StatusCode::FORBIDDEN.into_response();
        }
        _ => {}
    }
    let Some(bytes) = hub.files.get(&name).filter(|_| revision == COMMIT) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let range = headers["range"].to_str().unwrap().strip_prefix("bytes=").unwrap();
    let (begin, end) = range.split_once('-').unwrap();
    let begin: usize = begin.parse().unwrap();
    let end = end.parse().map_or(bytes.len(), |last: usize| last + 1);
    let mut part = bytes.slice(begin..end);
    let etag = match is_weights(&name) {
        true => format!("\"{}\"", sha256(bytes)),
        false => format!("\"{}\"", &sha256(bytes)[..40]),
    };
    let is_probe = end - begin == 1;
    if is_weights(&name) && !is_probe {
        if fault == Fault::Lies {
            part = Bytes::from(vec![0; part.len()]);
        }
        let n_sent = if fault == Fault::Breaks { part.len() / 2 } else { part.len() };
        hub.n_weight_bytes.fetch_add(n_sent, Ordering::Relaxed);
    }
    let response = Response::builder()
        .status(StatusCode::PARTIAL_CONTENT)
        .header("x-repo-commit", COMMIT)
        .header("etag", etag)
        .header("content-length", part.len())
        .header("content-range", format!("bytes {begin}-{}/{}", end - 1, bytes.len()));
    let breaks = fault == Fault::Breaks && is_weights(&name) && !is_probe;
    let body = match breaks {
        false => Body::from(part),
        true => {
            let sent = part.slice(..part.len() / 2);
            let cut = async {
                // What was sent before leaves the server first.
                tokio::time::sleep(Duration::from_millis(100)).await;
                Err(std::io::Error::other("the line is cut"))
            };
            Body::from_stream(stream::iter([Ok(sent)]).chain(stream::once(cut)))
        }
    };
    response.body(body).unwrap()
}
