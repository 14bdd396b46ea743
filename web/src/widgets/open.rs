//! The button that opens files.

use leptos::prelude::*;

use crate::navigation::viewer::Viewer;
use crate::widgets::inputs;

/// Lets the reader choose files of results, or a table where there is a server to sweep it.
#[component]
pub fn OpenButton() -> impl IntoView {
    let viewer = Viewer::get();
    let accept = match viewer.server {
        Some(_) => ".json,application/json,.tsv,.tab,.txt,.csv,.jsonl,.ndjson",
        None => ".json,application/json",
    };
    inputs::files("Open files…", accept, true, move |files| viewer.open(files))
}
