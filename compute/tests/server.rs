//! The server without a socket: who may do what, what bad input gets, and what the API does.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use compute::experiment::Experiment;
use compute::jobs::{Queue, QueueSettings};
use compute::model::{Loader, Model, Placement};
use compute::server::security::{Frames, Guard, Token};
use compute::server::{App, ServerSettings, app, openapi_document};
use compute::store::Store;
use compute::sweep::{Division, Program, SweepError};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use shared::specification::pairs::Pair;
use shared::specification::settings::{AnswerPair, Settings};
use shared::study::Study;
use shared::wire::event::Event;
use tokio::sync::watch;
use tower::ServiceExt;

const TOKEN: &str = "0123456789abcdefghij";

fn model(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracle/models").join(name)
}

/// A server with a folder of its own. Its queue works if it is told to.
struct Server {
    router: Router,
    queue: Arc<Queue>,
    stop: watch::Sender<bool>,
    worker: Option<std::thread::JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

struct Answer {
    status: StatusCode,
    headers: axum::http::HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    fn problem(&self) -> String {
        assert_eq!(self.headers["content-type"], "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["status"], self.status.as_u16());
        assert!(!problem["detail"].as_str().unwrap().is_empty());
        problem["type"].as_str().unwrap().trim_start_matches("urn:patchboard:problem:").to_string()
    }
}

impl Server {
    fn new(guard: Guard, settings: QueueSettings, works: bool) -> Self {
        Self::with(Loader::new(&model("tiny-llama3")).load().unwrap(), guard, settings, works)
    }

    fn with(model: Model, guard: Guard, settings: QueueSettings, works: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(folder.path()).unwrap());
        let queue = Arc::new(Queue::new(store, vec![model], settings).unwrap());
        let (stop, stopped) = watch::channel(false);
        let settings = ServerSettings {
            guard,
            request_time: Duration::from_secs(20),
            ..ServerSettings::default()
        };
        let router = app(Arc::new(App::new(queue.clone(), settings, stopped)));
        let worker = works.then(|| {
            let queue = queue.clone();
            std::thread::spawn(move || queue.work())
        });
        Self { router, queue, stop, worker, _folder: folder }
    }

    fn open() -> Self {
        Self::new(Guard::default(), QueueSettings::default(), true)
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(request(Method::GET, path, &[], Body::empty())).await
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        let headers = [("content-type", "application/json")];
        self.send(request(Method::POST, path, &headers, Body::from(body.to_string()))).await
    }

    /// Waits for a job's end.
    async fn finished(&self, id: &str) -> Value {
        let begin = Instant::now();
        loop {
            let job = self.get(&format!("/api/jobs/{id}")).await.json();
            if !["queued", "running"].contains(&job["job"]["state"].as_str().unwrap()) {
                return job;
            }
            assert!(begin.elapsed() < Duration::from_secs(60), "{job}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.queue.stop();
        let _ = self.stop.send(true);
        if let Some(worker) = self.worker.take() {
            worker.join().unwrap();
        }
    }
}

fn request(method: Method, path: &str, headers: &[(&str, &str)], body: Body) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    if headers.iter().all(|(name, _)| *name != "host") {
        request = request.header("host", "127.0.0.1:7860");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body).unwrap()
}

fn pairs(n: usize) -> Value {
    let pair = |i: usize| {
        json!({ "entity": "The king", "source": format!("The king orders guard {i} to leave."),
            "base": format!("The king watches guard {i} at rest.") })
    };
    json!({ "pairs": (0..n).map(pair).collect::<Vec<_>>() })
}

#[tokio::test]
async fn foreign_hosts_and_origins_are_refused() {
    let guard = Guard { allowed_hosts: vec!["boards.example.org".into()], ..Guard::default() };
    let server = Server::new(guard, QueueSettings::default(), false);
    let cases: &[(&[(&str, &str)], u16)] = &[
        (&[("host", "localhost:7860")], 200),
        (&[("host", "LOCALHOST")], 200),
        (&[("host", "192.168.1.5:7860")], 200),
        (&[("host", "[::1]:7860")], 200),
        (&[("host", "boards.example.org")], 200),
        (&[("host", "Boards.Example.Org:443")], 200),
        (&[("host", "evil.example")], 421),
        (&[("host", "localhost.evil.example")], 421),
        (&[("host", "boards.example.org.evil.example")], 421),
        (&[("host", "user@localhost")], 421),
        (&[("host", "")], 421),
        (&[("host", "local host")], 421),
        (&[("host", "localhost"), ("host", "evil.example")], 421),
        (&[("host", "localhost:7860"), ("origin", "http://localhost:7860")], 200),
        (&[("host", "localhost"), ("origin", "http://localhost:80")], 200),
        (&[("host", "10.0.0.1:8000"), ("origin", "https://boards.example.org")], 200),
        (&[("host", "localhost:7860"), ("origin", "http://localhost:7861")], 403),
        (&[("host", "localhost:7860"), ("origin", "http://127.0.0.1:7860")], 403),
        (&[("host", "localhost:7860"), ("origin", "http://evil.example")], 403),
        (&[("host", "localhost:7860"), ("origin", "null")], 403),
        (&[("host", "localhost:7860"), ("origin", "file://localhost:7860")], 403),
        (&[("host", "localhost:7860"), ("origin", "")], 403),
    ];
    for (headers, expected) in cases {
        for path in ["/", "/api/server", "/api/events", "/metrics", "/data/index.json"] {
            let request = request(Method::GET, path, headers, Body::empty());
            let response = server.router.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status().as_u16(), *expected, "{path} {headers:?}");
        }
    }
    for (site, expected) in
        [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)]
    {
        let headers = [("content-type", "application/json"), ("sec-fetch-site", site)];
        let body = Body::from(pairs(1).to_string());
        let answer = server.send(request(Method::POST, "/api/preview", &headers, body)).await;
        assert_eq!(answer.status.as_u16(), expected, "{site}");
        // A link from another page may lead here.
        let answer = server.send(request(Method::GET, "/", &headers, Body::empty())).await;
        assert_eq!(answer.status, StatusCode::OK, "{site}");
    }
}

#[tokio::test]
async fn pages_that_may_show_the_server_may_read_it_from_a_sandbox() {
    let frames = Frames::new(&["https://notes.example.org".to_string()]).unwrap();
    let guard = Guard { frames, ..Guard::default() };
    let server = Server::new(guard, QueueSettings::default(), false);
    let ask = async |method: Method, origin: &str| {
        let headers = [("content-type", "application/json"), ("origin", origin)];
        let body = Body::from(pairs(1).to_string());
        let path = if method == Method::GET { "/api/server" } else { "/api/preview" };
        server.send(request(method, path, &headers, body)).await
    };
    let read = ask(Method::GET, "null").await;
    assert_eq!(read.status, StatusCode::OK);
    assert_eq!(read.headers["access-control-allow-origin"], "null");
    assert_eq!(read.headers["cross-origin-resource-policy"], "cross-origin");
    let policy = read.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.ends_with("frame-ancestors https://notes.example.org"), "{policy}");
    // Whoever shows the pages is no part of the server, and a sandbox only reads.
    for (method, origin) in [
        (Method::POST, "null"),
        (Method::GET, "https://notes.example.org"),
        (Method::POST, "https://notes.example.org"),
    ] {
        let refused = ask(method.clone(), origin).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{method} {origin}");
    }
}

/// Every operation that the document knows, so that a new one is covered.
fn operations() -> Vec<(Method, String)> {
    let document = serde_json::to_value(openapi_document()).unwrap();
    let paths = document["paths"].as_object().unwrap().clone();
    let operations = paths.into_iter().flat_map(|(path, methods)| {
        let path = path.replace("{id}", &"0".repeat(20)).replace("{format}", "csv");
        let methods = methods.as_object().unwrap().clone();
        methods.into_iter().map(move |(method, _)| {
            (method.to_uppercase().parse::<Method>().unwrap(), path.clone())
        })
    });
    operations.collect()
}

#[tokio::test]
async fn nothing_is_changed_without_the_right_to() {
    let token = |text: &str| Some(Token::new(text).unwrap());
    let read_only = Guard { read_only: true, ..Guard::default() };
    let with_token = Guard { token: token(TOKEN), ..Guard::default() };
    let bearer = format!("Bearer {TOKEN}");
    let cases: &[(&Guard, Option<&str>, Option<&str>)] = &[
        (&read_only, None, Some("read-only")),
        (&read_only, Some(&bearer), Some("read-only")),
        (&with_token, None, Some("token")),
        (&with_token, Some(""), Some("token")),
        (&with_token, Some("Bearer"), Some("token")),
        (&with_token, Some("Bearer "), Some("token")),
        (&with_token, Some(TOKEN), Some("token")),
        (&with_token, Some("Bearer 0123456789abcdefghiJ"), Some("token")),
        (&with_token, Some("Bearer 0123456789abcdefghijk"), Some("token")),
        (&with_token, Some("Basic 0123456789abcdefghij"), Some("token")),
        (&with_token, Some(&bearer), None),
        (&with_token, Some("bearer 0123456789abcdefghij"), None),
    ];
    for (guard, authorization, refused) in cases {
        let server = Server::new((*guard).clone(), QueueSettings::default(), false);
        for (method, path) in operations() {
            let mut headers = vec![("content-type", "application/json"), ("host", "10.1.2.3")];
            headers.extend(authorization.map(|value| ("authorization", value)));
            let changes = !matches!(method, Method::GET);
            let body = if changes { Body::from("{}") } else { Body::empty() };
            let what = format!("{method} {path} {authorization:?}");
            let request = request(method, &path, &headers, body);
            let response = server.router.clone().oneshot(request).await.unwrap();
            let status = response.status();
            match (refused, changes) {
                (Some(kind), true) => {
                    let body = response.into_body().collect().await.unwrap().to_bytes();
                    let problem: Value = serde_json::from_slice(&body).unwrap();
                    assert_eq!(problem["type"], format!("urn:patchboard:problem:{kind}"), "{what}");
                }
                _ => assert!(!matches!(status.as_u16(), 401 | 403), "{what}: {status}"),
            }
        }
        assert!(
            server
                .queue
                .jobs(None, compute::store::Page { offset: 0, limit: 9 })
                .unwrap()
                .is_empty()
        );
    }
    for bad in ["", "short", "0123456789 abcdefghijk", "0123456789abcdefghijé"] {
        assert!(Token::new(bad).is_err(), "{bad}");
    }
}

#[tokio::test]
async fn bad_input_is_answered_with_what_is_wrong() {
    let limits = QueueSettings::default();
    let server = Server::new(Guard::default(), limits, false);
    let json_type = ("content-type", "application/json");
    let long = "word ".repeat(3_000);
    let huge = "x".repeat(20 << 10);
    let rows = format!("name,power,no_power\n{}", "A,b c,d e\n".repeat(10_000));
    let table = |text: &str| json!({ "table": { "text": text, "format": "csv" } }).to_string();
    let pair = |source: &str| json!({ "pairs": [{ "source": source, "base": "b" }] }).to_string();
    let with = |settings: Value| {
        json!({ "pairs": [{ "source": "a", "base": "b" }], "settings": settings }).to_string()
    };
    let cases: Vec<(Vec<u8>, u16, &str)> = vec![
        (b"".to_vec(), 400, "bad-request"),
        (b"\xff\xfe\x00".to_vec(), 400, "bad-request"),
        (b"[1, 2".to_vec(), 400, "bad-request"),
        (b"{\"pears\": []}".to_vec(), 400, "bad-request"),
        (vec![b'['; 100_000], 400, "bad-request"),
        (b"{}".to_vec(), 422, "unusable"),
        (b"{\"pairs\": [], \"model\": \"../../etc/passwd\"}".to_vec(), 422, "unusable"),
        (pair("").into(), 422, "bad-rows"),
        (pair("b").into(), 422, "bad-rows"),
        (pair(&long).into(), 422, "bad-rows"),
        (pair(&huge).into(), 422, "bad-rows"),
        (with(json!({ "template": "no such" })).into(), 422, "unusable"),
        (with(json!({ "template": "{sentence" })).into(), 422, "unusable"),
        (with(json!({ "template": "{sentence} {rank}" })).into(), 422, "bad-rows"),
        (
            with(json!({ "template": "none", "answers": ["a long answer", "a long answer"] }))
                .into(),
            422,
            "bad-rows",
        ),
        (with(json!({ "site": "z", "positions": "entity" })).into(), 422, "bad-rows"),
        (with(json!({ "noise_seeds": 3 })).into(), 422, "unusable"),
        (with(json!({ "by": "position" })).into(), 422, "unusable"),
        (with(json!({ "template": "none", "verify": 1e6 as u64 })).into(), 422, "unusable"),
        (with(json!({ "site": "nowhere" })).into(), 400, "bad-request"),
        (table("").into(), 422, "bad-rows"),
        (table("\u{0}\u{1},\"\n\u{fffd}").into(), 422, "bad-rows"),
        (table(&rows).into(), 422, "unusable"),
        (vec![b' '; limits.limits.n_body_bytes + 1], 413, "too-large"),
    ];
    for (body, status, kind) in cases {
        for path in ["/api/jobs", "/api/preview"] {
            let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
            let answer = server
                .send(request(Method::POST, path, &[json_type], Body::from(body.clone())))
                .await;
            assert_eq!(
                (answer.status.as_u16(), &*answer.problem()),
                (status, kind),
                "{path} {shown}"
            );
        }
    }
    // A table as a file, of arbitrary bytes.
    for seed in 0..64u32 {
        let mut x = seed.wrapping_mul(2_654_435_761) | 1;
        let bytes: Vec<u8> = (0..seed * 40)
            .map(|_| {
                x ^= x << 13;
                x ^= x >> 17;
                x ^= x << 5;
                if x & 0x700 == 0 { b"\n\",\t"[(x & 3) as usize] } else { x as u8 }
            })
            .collect();
        let format = ["tsv", "csv", "jsonl"][seed as usize % 3];
        let path = format!("/api/jobs/table?format={format}");
        let answer = server.send(request(Method::POST, &path, &[], Body::from(bytes))).await;
        assert_eq!((answer.status.as_u16(), &*answer.problem()), (422, "bad-rows"), "{seed}");
    }
    let answer = server
        .send(request(
            Method::POST,
            "/api/jobs/table",
            &[],
            Body::from(&b"power\tno_power\n\xff\tb"[..]),
        ))
        .await;
    assert_eq!(answer.json()["rows"][0]["line"], 2);

    let others: &[(&str, &str, &str, u16, &str)] = &[
        ("POST", "/api/jobs", "text/plain", 415, "not-json"),
        ("POST", "/api/import", "application/json", 422, "unusable"),
        ("GET", "/api/jobs?limit=x", "", 400, "bad-request"),
        ("GET", "/api/jobs?lim=1", "", 400, "bad-request"),
        ("GET", "/api/experiments?sort=up", "", 400, "bad-request"),
        ("GET", "/api/experiments/%ff", "", 400, "bad-request"),
        ("GET", "/api/experiments/..%2f..%2fetc", "", 404, "not-found"),
        ("GET", "/api/experiments/x", "", 404, "not-found"),
        ("GET", "/api/experiments/x/export/exe", "", 404, "format"),
        ("GET", "/data/../patchboard.db", "", 404, "not-found"),
        ("GET", "/data/x.json", "", 404, "not-found"),
        ("GET", "/%3Cscript%3E", "", 404, "not-found"),
        ("DELETE", "/api/jobs/x", "", 404, "not-found"),
        ("POST", "/api/jobs/x/cancel", "", 404, "not-found"),
        ("PUT", "/api/jobs", "", 405, "method"),
        ("POST", "/", "", 405, "method"),
    ];
    for (method, path, kind, status, word) in others {
        let answer = server
            .send(request(method.parse().unwrap(), path, &[("content-type", kind)], Body::empty()))
            .await;
        assert_eq!(
            (answer.status.as_u16(), &*answer.problem()),
            (*status, *word),
            "{method} {path}"
        );
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    }
    let long = format!("/api/experiments?q={}", "x".repeat(9_000));
    assert_eq!(server.get(&long).await.problem(), "long-address");
}

#[tokio::test]
async fn what_is_refused_beyond_is_what_the_server_says() {
    let mut settings = QueueSettings::default();
    settings.limits.n_body_bytes = 300;
    settings.limits.n_import_bytes = 900;
    let server = Server::new(Guard::default(), settings, false);
    let limits = server.get("/api/server").await.json()["limits"].clone();
    assert_eq!((&limits["n_body_bytes"], &limits["n_import_bytes"]), (&json!(300), &json!(900)));
    let cases = [
        ("/api/preview", 300, 400),
        ("/api/preview", 301, 413),
        ("/api/jobs", 300, 400),
        ("/api/jobs", 301, 413),
        ("/api/jobs/table", 300, 422),
        ("/api/jobs/table", 301, 413),
        ("/api/import", 900, 422),
        ("/api/import", 901, 413),
    ];
    for (path, n_bytes, status) in cases {
        // By the length that it says it has, and by the one that it turns out to have.
        for says in [true, false] {
            let stream = futures_util::stream::iter([Ok::<_, std::io::Error>(vec![b' '; n_bytes])]);
            let body = if says { vec![b' '; n_bytes].into() } else { Body::from_stream(stream) };
            let headers = [("content-type", "application/json")];
            let answer = server.send(request(Method::POST, path, &headers, body)).await;
            assert_eq!(answer.status.as_u16(), status, "{path} {n_bytes} {says}");
        }
    }
}

#[tokio::test]
async fn a_result_can_be_computed_again() {
    let server = Server::open();
    let submitted = server.post("/api/jobs", &pairs(1)).await.json();
    let job = server.finished(submitted["job"]["id"].as_str().unwrap()).await;
    let id = job["pairs"][0]["experiment"].as_str().unwrap().to_string();
    let path = format!("/api/experiments/{id}");
    let grid = async || server.get(&path).await.json()["patching_results"].clone();
    let right = grid().await;
    let mut wrong = server.get(&path).await.json();
    wrong["patching_results"][0][0] = json!(7.0);
    let wrong_grid = wrong["patching_results"].clone();
    let spoil = async || {
        let imported = server.post("/api/import?replace=true", &wrong).await.json();
        assert_eq!(imported["ids"], json!([id]));
        assert_eq!(grid().await, wrong_grid);
    };
    // An import keeps what is there, unless it is told to replace it; other numbers under the same
    // id are refused, with what was sent beside them.
    let mut new = wrong.clone();
    new["id"] = json!("0123456789abcdef0123");
    let answer = server.post("/api/import", &json!([new, wrong])).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert_eq!(answer.problem(), "other-result");
    let said = answer.json()["detail"].as_str().unwrap().to_string();
    assert!(said.contains(&id) && said.contains("?replace=true"), "{said}");
    assert_eq!(server.get("/api/experiments/0123456789abcdef0123").await.problem(), "not-found");
    assert_eq!(grid().await, right);
    let same = server.get(&path).await.json();
    assert_eq!(server.post("/api/import", &same).await.json()["n_new"], 0);

    // Submitted as before, what is there is shown; submitted again, it is computed and replaced.
    spoil().await;
    let submitted = server.post("/api/jobs", &pairs(1)).await.json();
    assert_eq!((&submitted["job"]["state"], grid().await), (&json!("done"), wrong_grid.clone()));
    let mut again = pairs(1);
    again["again"] = json!(true);
    let preview = server.post("/api/preview", &again).await.json();
    assert_eq!((&preview["n_known"], &preview["pairs"][0]["known"]), (&json!(0), &json!(true)));
    assert!(preview["estimated_secs"].as_f64().unwrap() > 0.0);
    let submitted = server.post("/api/jobs", &again).await.json();
    assert_eq!(submitted["pairs"][0]["experiment"], json!(id));
    server.finished(submitted["job"]["id"].as_str().unwrap()).await;
    assert_eq!(grid().await, right);

    // So does a table.
    spoil().await;
    let pair = &pairs(1)["pairs"][0];
    let text = |name: &str| pair[name].as_str().unwrap();
    let table = format!(
        "name\tpower\tno_power\n{}\t{}\t{}\n",
        text("entity"),
        text("source"),
        text("base")
    );
    for (query, expected) in [("", &wrong_grid), ("?again=true", &right)] {
        let table = Body::from(table.clone());
        let path = format!("/api/jobs/table{query}");
        let submitted = server.send(request(Method::POST, &path, &[], table)).await.json();
        server.finished(submitted["job"]["id"].as_str().unwrap()).await;
        assert_eq!(grid().await, *expected, "{query:?}");
    }

    // What was deleted is not brought back as it was.
    spoil().await;
    let deleted = server.send(request(Method::DELETE, &path, &[], Body::empty())).await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT);
    assert_eq!(server.post("/api/preview", &pairs(1)).await.json()["n_known"], 0);
    let submitted = server.post("/api/jobs", &pairs(1)).await.json();
    server.finished(submitted["job"]["id"].as_str().unwrap()).await;
    assert_eq!(grid().await, right);
}

#[tokio::test]
async fn what_was_deleted_is_forgotten_while_the_server_runs() {
    let settings = QueueSettings { purge_every: Duration::ZERO, ..QueueSettings::default() };
    let server = Server::new(Guard::default(), settings, true);
    let submitted = server.post("/api/jobs", &pairs(2)).await.json();
    let job = server.finished(submitted["job"]["id"].as_str().unwrap()).await;
    let [old, new] = [0, 1]
        .map(|i| format!("/api/experiments/{}", job["pairs"][i]["experiment"].as_str().unwrap()));
    for path in [&old, &new] {
        let deleted = server.send(request(Method::DELETE, path, &[], Body::empty())).await;
        assert_eq!(deleted.status, StatusCode::NO_CONTENT);
    }
    // A week goes by.
    let database = rusqlite::Connection::open(server.queue.store().path()).unwrap();
    database.busy_timeout(Duration::from_secs(20)).unwrap();
    let old_id = old.rsplit('/').next().unwrap();
    let sql = "UPDATE experiments SET deleted_at = deleted_at - 7 * 86400 WHERE id = ?1";
    assert_eq!(database.execute(sql, [old_id]).unwrap(), 1);
    let sql = "SELECT count(*) FROM experiments WHERE id = ?1";
    let begin = Instant::now();
    while database.query_row(sql, [old_id], |row| row.get::<_, usize>(0)).unwrap() > 0 {
        assert!(begin.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let restored = server.post(&format!("{old}/restore"), &json!({})).await;
    assert_eq!(restored.problem(), "not-found");
    let restored = server.post(&format!("{new}/restore"), &json!({})).await;
    assert_eq!(restored.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_model_that_is_read_from_disk_is_not_run_for_a_preview() {
    let streamed =
        Loader { path: &model("tiny-llama3"), placement: Placement::default(), budget: 0 }
            .load()
            .unwrap();
    assert!(streamed.network.is_streamed());
    let server = Server::with(streamed, Guard::default(), QueueSettings::default(), true);
    let preview = server.post("/api/preview", &pairs(2)).await.json();
    let shown = &preview["pairs"][1];
    assert!(shown["baselines"].is_null() && !shown["source_tokens"].as_array().unwrap().is_empty());
    assert!(preview["estimated_secs"].as_f64().unwrap() > 0.0);
    let submitted = server.post("/api/jobs", &pairs(2)).await.json();
    let job = server.finished(submitted["job"]["id"].as_str().unwrap()).await;
    assert_eq!(job["job"]["state"], "done");
}

#[tokio::test]
async fn a_pair_goes_from_preview_to_exports() {
    let server = Server::open();
    let preview = server.post("/api/preview", &pairs(1)).await.json();
    let shown = &preview["pairs"][0];
    let standing = format!("/api/experiments/{}/standing", shown["experiment"].as_str().unwrap());
    let nowhere = json!({ "stored": false, "job": null, "pair": null });
    assert_eq!(server.get(&standing).await.json(), nowhere);
    assert_eq!((&preview["n_pairs"], &preview["n_known"]), (&json!(1), &json!(0)));
    assert!(shown["baselines"]["source"]["logit_diff"].is_number());
    assert!(preview["estimated_secs"].as_f64().unwrap() > 0.0);

    let submitted = server.post("/api/jobs", &pairs(1)).await;
    assert_eq!(submitted.status, StatusCode::CREATED);
    let id = submitted.json()["job"]["id"].as_str().unwrap().to_string();
    assert_eq!(submitted.headers["location"], format!("/api/jobs/{id}"));
    let job = server.finished(&id).await;
    assert_eq!(job["job"]["state"], "done");
    let experiment = job["pairs"][0]["experiment"].as_str().unwrap();
    assert_eq!(experiment, shown["experiment"]);

    let stands = server.get(&standing).await.json();
    assert_eq!((&stands["stored"], &stands["job"]["id"]), (&json!(true), &json!(id)));
    assert_eq!(stands["pair"], job["pairs"][0]);

    // Submitted once more, it is shown.
    let again = server.post("/api/jobs", &pairs(1)).await.json();
    assert_eq!(again["job"]["state"], "done");
    assert_eq!(server.post("/api/preview", &pairs(1)).await.json()["n_known"], 1);

    let path = format!("/api/experiments/{experiment}");
    let document = server.get(&path).await;
    let tag = document.headers["etag"].to_str().unwrap().to_string();
    let unchanged = [("if-none-match", &*tag)];
    let unchanged = server.send(request(Method::GET, &path, &unchanged, Body::empty())).await;
    assert_eq!((unchanged.status, unchanged.body.len()), (StatusCode::NOT_MODIFIED, 0));
    assert_eq!(server.get(&format!("/data/{experiment}.json")).await.body, document.body);
    for (format, begin) in [
        ("json", &b"{\"schema\":\"patchboard/1\""[..]),
        ("csv", b"site,direction,layer,"),
        ("png", b"\x89PNG"),
        ("svg", b"<?xml"),
    ] {
        let answer = server.get(&format!("{path}/export/{format}?metric=recovery")).await;
        assert!(answer.body.starts_with(begin), "{format}");
        let name = answer.headers["content-disposition"].to_str().unwrap();
        assert!(name.ends_with(&format!("patchboard-{experiment}.{format}\"")), "{name}");
    }
    let odd = server.get(&format!("{path}/export/png?lo=2&hi=1")).await;
    assert_eq!(odd.problem(), "unusable");

    // Deleted, restored, deleted and imported.
    let delete = || server.send(request(Method::DELETE, &path, &[], Body::empty()));
    assert_eq!(delete().await.status, StatusCode::NO_CONTENT);
    assert_eq!(server.get(&path).await.problem(), "not-found");
    assert_eq!(server.get("/api/experiments").await.json()["total"], 0);
    assert_eq!(server.get(&standing).await.json()["stored"], false);
    let restored = server.post(&format!("{path}/restore"), &json!({})).await;
    assert_eq!(restored.status, StatusCode::NO_CONTENT);
    assert_eq!(delete().await.status, StatusCode::NO_CONTENT);
    let imported = server
        .send(request(Method::POST, "/api/import", &[], Body::from(document.body.clone())))
        .await;
    assert_eq!(imported.json(), json!({ "ids": [experiment], "n_new": 1 }));
    assert_eq!(server.get(&path).await.body, document.body);
    let mut odd: Value = document.json();
    odd["id"] = json!("<script>");
    let odd = server.post("/api/import", &odd).await;
    assert_eq!(odd.problem(), "unusable");
    let facets = server.get("/api/experiments/facets").await.json();
    assert_eq!(facets["models"], json!([{ "value": "tiny-llama3", "n": 1 }]));
    let gallery = server.get("/data/index.json").await.json();
    assert_eq!(gallery["experiments"][0]["id"], experiment);
}

#[tokio::test]
async fn a_failed_pair_leaves_the_others_and_a_cancelled_job_stops() {
    // As much memory as the short pair needs.
    let long = "the guards and ".repeat(6);
    let texts = [("A rules.", "A waits."), (&format!("{long} rule"), &format!("{long} wait"))];
    let models = [Loader::new(&model("tiny-llama3")).load().unwrap()];
    let needed = texts.map(|(source, base)| {
        let (entity, source, base) = ("A".into(), source.into(), base.into());
        let pair = Pair { line: 0, entity, source, base, cells: Default::default() };
        let settings = Settings {
            template: "none".into(),
            answers: Some(AnswerPair([" the".into(), " a".into()])),
            exact_answers: true,
            ..Settings::default()
        };
        let settings = settings.check().unwrap();
        let experiment = Experiment::prepare(&models[0], &pair, &settings, None).unwrap();
        let specifications = [&experiment.specification];
        match Program::new(&models[0].network.config, &specifications, &Division::within(0)) {
            Err(SweepError::Memory { needed, .. }) => needed,
            other => panic!("{other:?}"),
        }
    });
    assert!(needed[0] < needed[1]);
    let settings = QueueSettings { n_memory_bytes: needed[0], ..QueueSettings::default() };
    let server = Server::new(Guard::default(), settings, true);
    let pairs_of = |(source, base): (&str, &str)| json!({ "source": source, "base": base });
    let body = json!({ "pairs": [pairs_of(texts[1]), pairs_of(texts[0])],
        "settings": { "template": "none", "answers": [" the", " a"], "exact_answers": true } });
    let submitted = server.post("/api/jobs", &body).await.json();
    let id = submitted["job"]["id"].as_str().unwrap_or_else(|| panic!("{submitted}"));
    let job = server.finished(id).await;
    let states: Vec<_> = job["pairs"].as_array().unwrap().iter().map(|p| &p["state"]).collect();
    assert_eq!(states, ["failed", "done"], "{job}");
    assert!(job["pairs"][0]["error"].as_str().unwrap().contains("the sweep needs at least"));

    let many = server.post("/api/jobs", &pairs(300)).await.json();
    let id = many["job"]["id"].as_str().unwrap();
    let cancelled = server.post(&format!("/api/jobs/{id}/cancel"), &json!({})).await.json();
    assert_eq!(cancelled["job"]["state"], "cancelled");
    let job = server.finished(id).await;
    assert!(job["pairs"].as_array().unwrap().iter().all(|p| p["state"] != "queued"));
    let path = format!("/api/jobs/{id}");
    let removed = server.send(request(Method::DELETE, &path, &[], Body::empty())).await;
    assert_eq!(removed.status, StatusCode::NO_CONTENT);
    assert_eq!(server.get(&path).await.problem(), "not-found");
}

/// Reads events until one is of the kind `last`.
async fn listen(
    server: &Server,
    headers: &[(&str, &str)],
    path: &str,
    last: &str,
) -> Vec<(String, Value)> {
    let request = request(Method::GET, path, headers, Body::empty());
    let response = server.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let (mut body, mut text, mut events) = (response.into_body(), String::new(), Vec::new());
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        let frame = tokio::time::timeout(Duration::from_secs(60), body.frame()).await.unwrap();
        let Some(frame) = frame else { return events };
        text.push_str(std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap());
        while let Some((event, rest)) = text.split_once("\n\n") {
            let field = |name: &str| {
                let line = event.lines().find_map(|line| line.strip_prefix(name));
                line.unwrap_or_default().to_string()
            };
            let (id, data) = (field("id: "), field("data: "));
            let value: Value = serde_json::from_str(&data).unwrap();
            assert_eq!(value["type"], field("event: "));
            let is_last = value["type"] == last;
            events.push((id, value));
            if is_last {
                return events;
            }
            text = rest.to_string();
        }
    }
    panic!("no `{last}` came");
}

#[tokio::test]
async fn events_tell_everything_and_can_be_resumed() {
    let server = Server::open();
    let kinds = |events: &[(String, Value)]| -> Vec<String> {
        events.iter().map(|(_, event)| event["type"].as_str().unwrap().to_string()).collect()
    };
    let first = listen(&server, &[], "/api/events", "snapshot").await;
    assert_eq!(kinds(&first), ["snapshot"]);
    let id = server.post("/api/jobs", &pairs(2)).await.json()["job"]["id"].clone();
    let id = id.as_str().unwrap();
    server.finished(id).await;
    let resumed = [("last-event-id", &*first[0].0)];
    let events = listen(&server, &resumed, "/api/events", "experiments").await;
    let told = kinds(&events);
    assert_eq!(told[0], "job");
    for kind in ["begun", "baselines", "columns", "pair"] {
        assert!(told.contains(&kind.to_string()), "{kind} in {told:?}");
    }
    // The columns are the document's.
    let experiment = events.iter().find(|(_, e)| e["type"] == "begun").unwrap().1["live"].clone();
    let path = format!("/api/experiments/{}", experiment["experiment"].as_str().unwrap());
    let document = server.get(&path).await.json();
    let columns: Vec<_> = events
        .iter()
        .filter(|(_, e)| e["type"] == "columns")
        .flat_map(|(_, e)| e["columns"].as_array().unwrap().clone())
        .collect();
    assert_eq!(columns.len(), document["token_labels"].as_array().unwrap().len());
    for column in columns {
        let at =
            column["position"].as_u64().unwrap() - document["sentence_start"].as_u64().unwrap();
        let cells = document["patching_results"].as_array().unwrap();
        let expected: Vec<_> = cells.iter().map(|row| row[at as usize].clone()).collect();
        assert_eq!(column["logit_diff"], json!(expected));
    }
    // Resumed in the middle, it goes on from there; one job alone is heard alone.
    let middle = [("last-event-id", &*events[2].0)];
    let path = format!("/api/events?job={id}");
    let rest = listen(&server, &middle, &path, "pair").await;
    assert_eq!(rest[0].0, events[3].0);
    for unknown in ["x", "1-1", ""] {
        let again = listen(&server, &[("last-event-id", unknown)], "/api/events", "snapshot").await;
        assert_eq!(again.len(), 1);
    }
    // When the server stops, streams end.
    server.stop.send(true).unwrap();
    let events = listen(&server, &[], "/api/events", "never").await;
    assert!(events.is_empty());
}

/// Listeners take a few events at a time. Wherever one goes on, and whether it hears everything or one
/// job alone, each event comes once and in order.
#[tokio::test]
async fn a_listener_far_behind_hears_every_event_once_and_in_order() {
    let server = Server::new(Guard::default(), QueueSettings::default(), false);
    let first = listen(&server, &[], "/api/events", "snapshot").await;
    let events = server.queue.events();
    let n = 300;
    for index in 0..n {
        let job = if index % 3 == 0 { "a" } else { "b" }.to_string();
        events.send(Event::Progress { job, index, share: 0.5, left_secs: None });
    }
    events.send(Event::JobRemoved { id: "a".into() });
    let begin = events.seq(&first[0].0).unwrap();
    for after in [0, 1, 62, 63, 64, 65, 127, 128, 250, 299] {
        let id = events.id(begin + after);
        for (path, is_heard) in [
            ("/api/events", (|_| true) as fn(&u64) -> bool),
            ("/api/events?job=a", |index| index % 3 == 0),
        ] {
            let told = listen(&server, &[("last-event-id", &id)], path, "job_removed").await;
            let (last, told) = told.split_last().unwrap();
            assert_eq!(last.0, events.id(begin + n as u64 + 1));
            let indices: Vec<_> = told.iter().map(|(_, e)| e["index"].as_u64().unwrap()).collect();
            let expected: Vec<_> = (after..n as u64).filter(is_heard).collect();
            assert_eq!(indices, expected, "{path} after {after}");
            for ((id, _), index) in told.iter().zip(expected) {
                assert_eq!(*id, events.id(begin + index + 1));
            }
        }
    }
}

#[tokio::test]
async fn what_is_described_is_what_there_is() {
    let server = Server::new(Guard::default(), QueueSettings::default(), false);
    let document = server.get("/api/openapi.json").await.json();
    for (method, path) in operations() {
        let response = server
            .router
            .clone()
            .oneshot(request(method.clone(), &path, &[], Body::empty()))
            .await
            .unwrap();
        assert_ne!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
    }
    // Every type that is named is described.
    let text = document.to_string();
    for part in text.split("#/components/schemas/").skip(1) {
        let name = part.split('"').next().unwrap();
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
    let page = server.get("/api/docs").await;
    assert!(String::from_utf8_lossy(&page.body).contains("POST /api/jobs"));
    for path in ["/", "/api/docs"] {
        let page = server.get(path).await;
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        assert!(!policy.contains("script-src 'self' 'unsafe-inline'"), "{policy}");
        assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    }
    assert_eq!(server.get("/healthz").await.body, b"ok\n");
    let metrics = server.get("/metrics").await;
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    assert!(metrics.contains("patchboard_http_requests_total{method=\"GET\",route=\"/healthz\""));
    assert!(metrics.ends_with("# EOF\n"));
}

#[tokio::test]
async fn a_jobs_study_is_that_of_its_results_as_they_are_by_now() {
    let server = Server::open();
    assert_eq!(server.get("/api/jobs/nobody/study").await.problem(), "not-found");
    // The second row is the first once more.
    let mut table = pairs(2);
    let first = table["pairs"][0].clone();
    table["pairs"].as_array_mut().unwrap().push(first);
    let job = server.post("/api/jobs", &table).await.json();
    let id = job["job"]["id"].as_str().unwrap();
    server.finished(id).await;
    let path = format!("/api/jobs/{id}/study?keep=all");
    let answer = server.get(&path).await;
    let study = Study::read(&answer.body).unwrap();
    assert_eq!((study.pairs.len(), study.n_kept()), (2, 2));
    let place = study.values.as_ref().unwrap();
    let values = server.get(&format!("/api/jobs/{id}/{}", place.file)).await;
    let array = &place.arrays["grids.0.logit_diff"];
    assert!(array.end <= values.body.len() && array.begin < array.end);
    assert_eq!(server.get(&format!("/api/jobs/{id}/studies/other")).await.problem(), "not-found");

    let known = answer.headers["etag"].to_str().unwrap().to_string();
    let again = async || {
        let known = [("if-none-match", &*known)];
        server.send(request(Method::GET, &path, &known, Body::empty())).await
    };
    assert_eq!(again().await.status, StatusCode::NOT_MODIFIED);
    // A result that is replaced by another of its id makes another study of the same pairs.
    let result = format!("/api/experiments/{}", study.pairs[0].id);
    let mut document = server.get(&result).await.json();
    document["patching_results"][0][0] = json!(17.0);
    document["grids"][0]["logit_diff"][0] = json!(17.0);
    let replaced = server.post("/api/import?replace=true", &document).await;
    assert_eq!(replaced.status, StatusCode::OK, "{}", replaced.json());
    let changed = again().await;
    assert_eq!(changed.status, StatusCode::OK);
    assert_ne!(Study::read(&changed.body).unwrap().grids, study.grids);
    // One that is deleted leaves, and the last one leaves no study.
    for pair in &study.pairs {
        assert!(again().await.status.is_success());
        let result = format!("/api/experiments/{}", pair.id);
        server.send(request(Method::DELETE, &result, &[], Body::empty())).await;
    }
    assert_eq!(again().await.problem(), "not-found");
    for (query, expected) in [("min_contrast=-1", 400), ("keep=best", 400), ("group_by=kind", 404)]
    {
        let answer = server.get(&format!("/api/jobs/{id}/study?{query}")).await;
        assert_eq!(answer.status.as_u16(), expected, "{query}");
    }
}
