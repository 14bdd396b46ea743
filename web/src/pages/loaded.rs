//! A document that is loaded for a page.

use std::sync::Arc;

use leptos::prelude::*;
use leptos::task::spawn_local;
use shared::document::Document;
use shared::wire::address::Source;

use crate::data::source;
use crate::navigation::viewer::Viewer;

/// What a document's loading came to; `None` while it lasts.
pub type Loaded = RwSignal<Option<Result<Arc<Document>, String>>>;

/// Begins to load a document.
pub fn load(viewer: Viewer, source: Source) -> Loaded {
    let loaded = Loaded::new(None);
    spawn_local(async move {
        let result = source::load(viewer.library, source).await;
        // The reader may have left the page meanwhile.
        loaded.try_set(Some(result));
    });
    loaded
}
