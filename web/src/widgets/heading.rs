//! The heading of a page: it names the tab, and whoever comes from another page begins at it.

use leptos::html;
use leptos::prelude::*;

use crate::navigation::viewer::Viewer;
use crate::platform::dom;
use crate::platform::dynamic::dynamic;

/// The heading. A plain function, of which the page has one, and not one for each place.
pub fn heading(text: impl Into<Signal<String>>) -> AnyView {
    shown(text.into())
}

fn shown(text: Signal<String>) -> AnyView {
    let viewer = Viewer::get();
    let heading = NodeRef::<html::H1>::new();
    Effect::new(move || text.with(|text| dom::set_title(text)));
    Effect::new(move || {
        let Some(heading) = heading.get() else { return };
        // Whoever has gone on meanwhile is left alone.
        if viewer.has_arrived.try_update_value(std::mem::take) == Some(true) && dom::is_focus_free()
        {
            dom::focus(&heading);
        }
    });
    view! { <h1 tabindex="-1" node_ref=heading dir="auto">{dynamic(move || text.get())}</h1> }
        .into_any()
}
