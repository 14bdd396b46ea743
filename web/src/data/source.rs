//! Where documents come from: the page itself, files beside it, files of the reader, links.

use std::pin::Pin;
use std::sync::Arc;

use gloo_net::http::Request;
use leptos::prelude::document;
use shared::document::Document;
use shared::json;
use shared::study::Study;
use shared::wire::address::Source;
use shared::wire::gallery::{self, Gallery};
use shared::wire::permalink;

use crate::data::library::Library;
use crate::data::words::sentence;

/// The element that holds documents within the page.
const EMBEDDED: &str = "patchboard-data";
/// What the elements are called that hold studies within the page, before their numbers from 0.
const EMBEDDED_STUDY: &str = "patchboard-study-";

/// The documents within the page; `None` where there is no place for them.
///
/// # Errors
/// What is wrong with them.
pub fn embedded() -> Option<Result<Vec<Document>, String>> {
    let text = document().get_element_by_id(EMBEDDED)?.text_content().unwrap_or_default();
    Some(Document::read(text.as_bytes()).map_err(|error| error.to_string()))
}

/// The study number `n`, from 0, within the page; `None` where there are no more.
///
/// # Errors
/// What is wrong with it.
pub fn embedded_study(n: usize) -> Option<Result<Study, String>> {
    let element = document().get_element_by_id(&format!("{EMBEDDED_STUDY}{n}"))?;
    let text = element.text_content().unwrap_or_default();
    Some(Study::read(text.as_bytes()).map_err(|error| error.to_string()))
}

/// A document that is being loaded. It is boxed, so that this is there once.
type Loading = Pin<Box<dyn Future<Output = Result<Arc<Document>, String>>>>;

/// The document of `source`.
///
/// # Errors
/// What was found instead, for the reader.
pub fn load(library: Library, source: Source) -> Loading {
    Box::pin(async move { load_now(library, &source).await })
}

async fn load_now(library: Library, source: &Source) -> Result<Arc<Document>, String> {
    match source {
        Source::Id(id) => {
            if let Some(document) = library.opened(id) {
                return Ok(document);
            }
            if library.is_complete() {
                return Err(format!("The page holds no result with the id {id}."));
            }
            let document = Arc::new(fetch(&format!("data/{id}.json")).await.map_err(|error| {
                format!(
                    "{error} If the result was opened from a file before, open that file again; \
                     to send a result to others, use its self-contained link."
                )
            })?);
            library.keep(document.clone());
            Ok(document)
        }
        Source::File(path) => Ok(Arc::new(fetch(path).await?)),
        Source::Link(text) => {
            let opened = permalink::decode(text).map_err(|error| sentence(&error.to_string()))?;
            Ok(Arc::new(opened.document))
        }
    }
}

/// The list of the site's experiments; `None` where there is none.
///
/// # Errors
/// A host that does not answer as one should, or a list that this viewer cannot read.
pub async fn gallery() -> Result<Option<Gallery>, String> {
    let failed = |why: String| format!("data/index.json could not be loaded: {why}.");
    let sent = Request::get("data/index.json").send().await;
    let response = sent.map_err(|error| failed(error.to_string()))?;
    // A host may answer any address with a page of its own.
    let is_json = response.headers().get("content-type").is_none_or(|kind| !kind.contains("html"));
    match response.status() {
        404 | 410 => return Ok(None),
        200 if !is_json => return Ok(None),
        200 => {}
        status => return Err(failed(format!("the host answered {status}"))),
    }
    let bytes = response.binary().await.map_err(|error| error.to_string())?;
    let list = json::parse(&bytes)
        .and_then(json::read::<Gallery>)
        .map_err(|error| format!("data/index.json is no list of experiments: {error}"))?;
    if list.schema != gallery::SCHEMA {
        return Err(format!(
            "data/index.json has the schema `{}`, and this viewer reads `{}`.",
            list.schema,
            gallery::SCHEMA
        ));
    }
    Ok(Some(list))
}

async fn fetch(path: &str) -> Result<Document, String> {
    let failed = |why: String| format!("{path} could not be loaded: {why}.");
    let response = Request::get(path).send().await.map_err(|error| failed(error.to_string()))?;
    if !response.ok() {
        return Err(failed(format!("the host answered {}", response.status())));
    }
    let bytes = response.binary().await.map_err(|error| failed(error.to_string()))?;
    let documents = Document::read(&bytes).map_err(|error| format!("{path}: {error}."))?;
    documents.into_iter().next().ok_or_else(|| failed("it is empty".into()))
}
