//! What the page asks of a server. Whatever goes wrong comes back as a problem to be read.

use std::pin::Pin;

use gloo_net::http::{Method, RequestBuilder};
use serde::de::DeserializeOwned;
use shared::json;
use shared::wire::address::Filter;
use shared::wire::job::{JobDetail, JobList, Preview, Standing, Submission};
use shared::wire::listing::{ExperimentPage, Facets, ServerInfo};
use shared::wire::problem::Problem;

use crate::data::rights::Rights;
use crate::data::words::sentence;
use crate::platform::dom;

/// The kind of problem where a server wants a token.
const TOKEN: &str = "urn:patchboard:problem:token";

/// What a server is.
///
/// # Errors
/// See [`Problem`]; likewise for all of these.
pub async fn server() -> Result<ServerInfo, Problem> {
    read("api/server").await
}

/// Some of the experiments that pass a filter.
pub async fn experiments(
    filter: &Filter,
    offset: usize,
    limit: usize,
) -> Result<ExperimentPage, Problem> {
    let query = filter.query();
    read(&format!("api/experiments?{query}&offset={offset}&limit={limit}")).await
}

/// What experiments can be filtered by.
pub async fn facets() -> Result<Facets, Problem> {
    read("api/experiments/facets").await
}

/// Where an experiment is.
pub async fn standing(id: &str) -> Result<Standing, Problem> {
    read(&format!("api/experiments/{id}/standing")).await
}

/// All jobs, the newest first.
pub async fn jobs() -> Result<JobList, Problem> {
    read("api/jobs").await
}

/// A job and its pairs.
pub async fn job(id: &str) -> Result<JobDetail, Problem> {
    read(&format!("api/jobs/{id}")).await
}

/// The manifest of a job's study, its pairs pooled as a query says.
pub async fn study(id: &str, pooling: &str) -> Result<Vec<u8>, Problem> {
    ask(Method::GET, &format!("api/jobs/{id}/study?{pooling}"), None).await
}

/// What a submission would do. Asked for while the reader types, so that a missing token is a
/// problem and no question.
pub async fn preview(rights: Rights, submission: &Submission) -> Result<Preview, Problem> {
    if rights.needs_token() && dom::token().is_none() {
        return Err(no_token());
    }
    let body = serde_json::to_string(submission).unwrap_or_default();
    parse(&ask(Method::POST, "api/preview", Some(body)).await?)
}

/// Puts a submission into the queue.
pub async fn submit(rights: Rights, submission: &Submission) -> Result<JobDetail, Problem> {
    let body = serde_json::to_string(submission).unwrap_or_default();
    parse(&change(rights, Method::POST, "api/jobs", Some(body)).await?)
}

/// Cancels a job.
pub async fn cancel(rights: Rights, id: &str) -> Result<(), Problem> {
    change(rights, Method::POST, &format!("api/jobs/{id}/cancel"), None).await.map(drop)
}

/// Removes a job from the list.
pub async fn remove_job(rights: Rights, id: &str) -> Result<(), Problem> {
    change(rights, Method::DELETE, &format!("api/jobs/{id}"), None).await.map(drop)
}

/// Deletes an experiment.
pub async fn delete(rights: Rights, id: &str) -> Result<(), Problem> {
    change(rights, Method::DELETE, &format!("api/experiments/{id}"), None).await.map(drop)
}

/// Brings a deleted experiment back.
pub async fn restore(rights: Rights, id: &str) -> Result<(), Problem> {
    change(rights, Method::POST, &format!("api/experiments/{id}/restore"), None).await.map(drop)
}

/// Whether the server wants a token that it was not given.
pub fn is_token(problem: &Problem) -> bool {
    problem.kind == TOKEN
}

/// A problem as a sentence.
pub fn told(problem: &Problem) -> String {
    sentence(if problem.detail.is_empty() { &problem.title } else { &problem.detail })
}

async fn read<T: DeserializeOwned>(path: &str) -> Result<T, Problem> {
    parse(&ask(Method::GET, path, None).await?)
}

/// What a request comes to. It is boxed, so that it is there once and not in each that waits for it.
type Answer = Pin<Box<dyn Future<Output = Result<Vec<u8>, Problem>>>>;

/// Asks for the token where one is needed, and again where it was a wrong one.
fn change(rights: Rights, method: Method, path: &str, body: Option<String>) -> Answer {
    let path = path.to_string();
    Box::pin(async move { change_now(rights, method, &path, body).await })
}

async fn change_now(
    rights: Rights,
    method: Method,
    path: &str,
    body: Option<String>,
) -> Result<Vec<u8>, Problem> {
    if rights.needs_token() && dom::token().is_none() && !rights.ask_token(false).await {
        return Err(no_token());
    }
    loop {
        match ask(method.clone(), path, body.clone()).await {
            Err(problem) if is_token(&problem) => {
                if !rights.ask_token(dom::token().is_some()).await {
                    return Err(problem);
                }
            }
            other => return other,
        }
    }
}

fn ask(method: Method, path: &str, body: Option<String>) -> Answer {
    let path = path.to_string();
    Box::pin(async move { ask_now(method, &path, body).await })
}

async fn ask_now(method: Method, path: &str, body: Option<String>) -> Result<Vec<u8>, Problem> {
    let failed = |_: gloo_net::Error| Problem {
        title: "The server cannot be reached".into(),
        detail: "the server cannot be reached: it may be stopped, or the network is interrupted"
            .into(),
        ..Problem::default()
    };
    let mut request = RequestBuilder::new(path).method(method.clone());
    if let Some(token) = dom::token().filter(|_| method != Method::GET) {
        request = request.header("Authorization", &format!("Bearer {token}"));
    }
    let request = match body {
        Some(body) => request.header("Content-Type", "application/json").body(body),
        None => request.build(),
    };
    let response = request.map_err(failed)?.send().await.map_err(failed)?;
    let bytes = response.binary().await.map_err(failed)?;
    if response.ok() {
        return Ok(bytes);
    }
    // A proxy in between may answer with a page of its own.
    Err(parse(&bytes).unwrap_or_else(|_| Problem {
        status: response.status(),
        detail: format!("the server answered {}", response.status()),
        ..Problem::default()
    }))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // By way of a value, as documents are read: every type then needs one reader only.
    json::parse(bytes).and_then(json::read).map_err(|error| Problem {
        detail: format!(
            "the server's answer is none that this page can read, load the page again: {error}"
        ),
        ..Problem::default()
    })
}

fn no_token() -> Problem {
    Problem {
        kind: TOKEN.into(),
        status: 401,
        title: "A token is needed".into(),
        detail: "this needs the server's token: ask whoever runs the server for it".into(),
        rows: Vec::new(),
    }
}
