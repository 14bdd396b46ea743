//! One experiment, wherever it comes from.

use leptos::prelude::*;
use shared::wire::address::Source;

use crate::navigation::viewer::Viewer;
use crate::pages::followed::Followed;
use crate::pages::loaded::load;
use crate::pages::neighbours::Neighbours;
use crate::pages::result::Experiment;
use crate::widgets::problem::Problem;

/// The page of the experiment that comes from `source`.
#[component]
pub fn ExperimentPage(source: Source) -> impl IntoView {
    let viewer = Viewer::get();
    if let (Some(server), Source::Id(id)) = (viewer.server_of(&source), &source) {
        return view! { <Neighbours id=id.clone() /><Followed server id=id.clone() /> }.into_any();
    }
    let own = source.clone();
    let loaded = load(viewer, source.clone());
    let shown = move || match loaded.get() {
        None => view! { <p class="loading" role="status">"Loading…"</p> }.into_any(),
        Some(Err(text)) => view! { <Problem text /> }.into_any(),
        Some(Ok(document)) => {
            let source = source.clone();
            view! { <Experiment document source /> }.into_any()
        }
    };
    let id = match &own {
        Source::Id(id) => id.clone(),
        _ => String::new(),
    };
    view! { <Neighbours id />{shown} }.into_any()
}
