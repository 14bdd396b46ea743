//! The API's routes, the document that describes them, and a page that shows it. Routes and
//! document are made from the same list.

use std::fmt::Write;
use std::sync::Arc;

use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::Value;
use shared::document::content_id;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::send::{Kind, send};
use super::{App, events, experiments, info, jobs};
use crate::model::VERSION;
use crate::site::escaped;

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
        let html = page(&value);
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
fn page(document: &Value) -> String {
    let mut out = String::from(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\" /><title>Patchboard's \
         API</title><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\" />\
         </head><body><h1>Patchboard's API</h1>\n",
    );
    let text = |value: &Value| escaped(value.as_str().unwrap_or_default());
    let _ = writeln!(out, "<p>{}</p>", text(&document["info"]["description"]));
    out.push_str("<p>For programs: <a href=\"openapi.json\">the OpenAPI document</a>.</p>\n");
    for (path, methods) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            let method = escaped(&method.to_uppercase());
            let _ = writeln!(out, "<h2><code>{method} {}</code></h2>", escaped(path));
            let _ = writeln!(
                out,
                "<p>{} {}</p><ul>",
                text(&operation["summary"]),
                text(&operation["description"])
            );
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let _ = writeln!(
                    out,
                    "<li><code>{}</code> ({}): {}</li>",
                    text(&parameter["name"]),
                    text(&parameter["in"]),
                    text(&parameter["description"])
                );
            }
            for (kind, content) in contents(&operation["requestBody"]) {
                let _ = writeln!(
                    out,
                    "<li>body {}: {}</li>",
                    escaped(kind),
                    reference(&content["schema"])
                );
            }
            for (status, answer) in operation["responses"].as_object().into_iter().flatten() {
                let kinds: Vec<_> = contents(answer)
                    .map(|(kind, content)| {
                        format!("{} {}", escaped(kind), reference(&content["schema"]))
                    })
                    .collect();
                let _ = writeln!(out, "<li>{}: {}</li>", escaped(status), kinds.join(", "));
            }
            out.push_str("</ul>\n");
        }
    }
    out.push_str("<h1>Types</h1>\n");
    for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
        let pretty = serde_json::to_string_pretty(schema).unwrap_or_default();
        let name = escaped(name);
        let _ = writeln!(
            out,
            "<h2 id=\"{name}\"><code>{name}</code></h2><p>{}</p><details><summary>Schema</summary>\
             <pre>{}</pre></details>",
            text(&schema["description"]),
            escaped(&pretty)
        );
    }
    out.push_str("</body></html>\n");
    out
}

fn contents(of: &Value) -> impl Iterator<Item = (&String, &Value)> {
    of["content"].as_object().into_iter().flatten()
}

/// A link to the type that a schema names.
fn reference(schema: &Value) -> String {
    let name = schema["$ref"].as_str().and_then(|name| name.rsplit('/').next());
    name.map_or_else(String::new, |name| {
        let name = escaped(name);
        format!("<a href=\"#{name}\">{name}</a>")
    })
}
