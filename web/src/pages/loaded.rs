//! A document that is loaded for a page.

use std::sync::Arc;

use leptos::prelude::*;
use leptos::task::spawn_local;
use shared::document::Document;
use shared::wire::address::Source;
use shared::wire::event::Event;

use crate::data::source;
use crate::navigation::viewer::Viewer;
use crate::platform::asking::Asking;

/// What a document's loading came to; `None` while it lasts.
pub type Loaded = RwSignal<Option<Result<Arc<Document>, String>>>;

/// Begins to load a document. One that a server holds is loaded again when it may have changed.
pub fn load(viewer: Viewer, source: Source) -> Loaded {
    let loaded = Loaded::new(None);
    let asking = Asking::new();
    let server = viewer.server_of(&source);
    let ask = move || {
        let (source, number) = (source.clone(), asking.next());
        spawn_local(async move {
            let found = source::load(viewer.library, source).await;
            let is_new = loaded.try_with_untracked(|known| match known {
                // What is there stays while the server is away, and where it is still the same.
                Some(Ok(known)) => found.as_ref().is_ok_and(|found| found != known),
                _ => true,
            });
            if asking.take(number) && is_new == Some(true) {
                loaded.set(Some(found));
            }
        });
    };
    ask();
    if let Some(server) = server {
        server.listen(move |event| {
            if matches!(event, Event::Snapshot { .. } | Event::Experiments {}) {
                ask();
            }
        });
    }
    loaded
}
