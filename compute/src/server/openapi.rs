//! The API's routes, the document that describes them, and a page that shows it. Routes and
//! document are made from the same list.

use std::sync::Arc;

use axum::http::HeaderMap;
use axum::response::Response;
use maud::{DOCTYPE, Markup, html};
use serde_json::Value;
use shared::document::content_id;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::send::{Kind, send};
use super::{App, events, experiments, info, jobs, studies};
use crate::model::VERSION;

#[derive(OpenApi)]
#[openapi(info(
    title = "Patchboard",
    description = "Activation-patching sweeps of language models: submit pairs of sentences, follow them live, and read the results. Errors are problem details (RFC 9457). What changes something needs `Authorization: Bearer TOKEN` where the server has a token.",
    license(name = "MIT OR Apache-2.0")
))]
struct Api;

/// The routes of the API, with their description.
pub fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(Api::openapi())
        .routes(routes!(info::server))
        .routes(routes!(info::models))
        .routes(routes!(jobs::preview))
        .routes(routes!(jobs::submit, jobs::list))
        .routes(routes!(jobs::submit_table))
        .routes(routes!(jobs::get, jobs::remove))
        .routes(routes!(jobs::cancel))
        .routes(routes!(studies::study))
        .routes(routes!(studies::study_values))
        .routes(routes!(events::events))
        .routes(routes!(experiments::list))
        .routes(routes!(experiments::facets))
        .routes(routes!(experiments::get, experiments::remove))
        .routes(routes!(experiments::standing))
        .routes(routes!(experiments::restore))
        .routes(routes!(experiments::export))
        .routes(routes!(experiments::import))
        .routes(routes!(info::health))
        .routes(routes!(info::metrics))
}

/// The OpenAPI document.
pub fn document() -> utoipa::openapi::OpenApi {
    router().split_for_parts().1
}

/// The document as JSON and as a page.
pub struct Pages {
    json: String,
    html: String,
    tags: [String; 2],
}

impl Pages {
    /// Renders the document.
    pub fn new(mut document: utoipa::openapi::OpenApi) -> Self {
        document.info.version = VERSION.to_string();
        let json = document.to_json().expect("the document is plain");
        let value: Value = serde_json::from_str(&json).expect("it was just written");
        let html = page(&value).into_string();
        Self { tags: [content_id(&json), content_id(&html)], json, html }
    }

    /// The document.
    pub fn json(&self, headers: &HeaderMap) -> Response {
        send(headers, Kind::Json, &self.tags[0], self.json.clone().into())
    }

    /// The page.
    pub fn html(&self, headers: &HeaderMap) -> Response {
        send(headers, Kind::Html, &self.tags[1], self.html.clone().into())
    }
}

/// A page of all paths and types, without a script.
fn page(document: &Value) -> Markup {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { "Patchboard's API" }
                meta name="viewport" content="width=device-width, initial-scale=1";
            }
            body {
                h1 { "Patchboard's API" }
                p { (text(&document["info"]["description"])) }
                p { "For programs: " a href="openapi.json" { "the OpenAPI document" } "." }
                @for (path, methods) in fields(&document["paths"]) {
                    @for (method, operation) in fields(methods) {
                        h2 { code { (method.to_uppercase()) " " (path) } }
                        p { (text(&operation["summary"])) " " (text(&operation["description"])) }
                        ul {
                            @for parameter in operation["parameters"].as_array().into_iter().flatten() {
                                li {
                                    code { (text(&parameter["name"])) }
                                    " (" (text(&parameter["in"])) "): "
                                    (text(&parameter["description"]))
                                }
                            }
                            @for (kind, content) in fields(&operation["requestBody"]["content"]) {
                                li { "body " (kind) ": " (reference(&content["schema"])) }
                            }
                            @for (status, answer) in fields(&operation["responses"]) {
                                li {
                                    (status) ":"
                                    @for (i, (kind, content)) in fields(&answer["content"]).enumerate() {
                                        @if i > 0 { "," }
                                        " " (kind) " " (reference(&content["schema"]))
                                    }
                                }
                            }
                        }
                    }
                }
                h1 { "Types" }
                @for (name, schema) in fields(&document["components"]["schemas"]) {
                    h2 id=(name) { code { (name) } }
                    p { (text(&schema["description"])) }
                    details {
                        summary { "Schema" }
                        pre { (serde_json::to_string_pretty(schema).unwrap_or_default()) }
                    }
                }
            }
        }
    }
}

/// The fields of an object; none of anything else.
fn fields(of: &Value) -> impl Iterator<Item = (&String, &Value)> {
    of.as_object().into_iter().flatten()
}

/// A link to the type that a schema names.
fn reference(schema: &Value) -> Markup {
    let name = schema["$ref"].as_str().and_then(|name| name.rsplit('/').next());
    html! { @if let Some(name) = name { a href={ "#" (name) } { (name) } } }
}
