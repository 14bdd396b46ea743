//! A map alone, as a part of another page.

use leptos::prelude::*;

use crate::navigation::viewer::Viewer;
use crate::platform::dom;
use crate::platform::dynamic::dynamic;

/// The map, and a link to the whole of what it is a map of.
pub fn embedded(title: Signal<String>, facts: Signal<String>, map: AnyView) -> AnyView {
    let viewer = Viewer::get();
    let href = move || {
        let mut address = viewer.address.get();
        address.view.is_embedded = false;
        dom::link_to(&address.fragment())
    };
    Effect::new(move || title.with(|title| dom::set_title(title)));
    view! {
        <figure class="embedded">
            {map}
            <figcaption class="facts">
                <a href=href target="_blank" rel="noopener" dir="auto">{dynamic(move || title.get())}</a>
                " · "
                {dynamic(move || facts.get())}
            </figcaption>
        </figure>
    }
    .into_any()
}
