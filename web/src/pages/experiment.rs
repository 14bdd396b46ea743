//! One experiment.

use std::sync::Arc;

use leptos::prelude::*;
use leptos::task::spawn_local;
use shared::document::{Document, title};
use shared::figure;
use shared::wire::address::Source;

use crate::app::Problem;
use crate::chart::Chart;
use crate::controls::Controls;
use crate::cursor::Cursor;
use crate::heading::heading;
use crate::heatmap::Heatmap;
use crate::pages::actions::Actions;
use crate::pages::followed::Followed;
use crate::panels::{Baselines, Provenance, Warnings};
use crate::profile::Lines;
use crate::readout::Readout;
use crate::source;
use crate::strips::Strips;
use crate::table::Table;
use crate::tooltip::tooltip;
use crate::viewer::Viewer;

/// What a document's loading came to; `None` while it lasts.
pub type Loaded = RwSignal<Option<Result<Arc<Document>, String>>>;

/// Begins to load a document.
pub fn load(viewer: Viewer, source: Source) -> Loaded {
    let loaded = Loaded::new(None);
    spawn_local(async move {
        let result = source::load(viewer, &source).await;
        // The reader may have left the page meanwhile.
        loaded.try_set(Some(result));
    });
    loaded
}

/// The page of the experiment that comes from `source`.
#[component]
pub fn ExperimentPage(source: Source) -> impl IntoView {
    let viewer = Viewer::get();
    if let (Some(server), Source::Id(id)) = (viewer.server, &source)
        && viewer.files.with_untracked(|files| !files.contains(id))
    {
        return view! { <Followed server id=id.clone() /> }.into_any();
    }
    let loaded = load(viewer, source.clone());
    let shown = move || match loaded.get() {
        None => view! { <p class="loading" role="status">"Loading…"</p> }.into_any(),
        Some(Err(text)) => view! { <Problem text /> }.into_any(),
        Some(Ok(document)) => {
            let source = source.clone();
            view! { <Experiment document source /> }.into_any()
        }
    };
    shown.into_any()
}

/// A result.
#[component]
pub fn Experiment(document: Arc<Document>, source: Source) -> impl IntoView {
    let viewer = Viewer::get();
    let options = Memo::new(move |_| viewer.address.with(|a| a.view.figure.clone()));
    let ranged = document.clone();
    let ends = Memo::new(move |_| Some(figure::common_range([(&*ranged, options.get())])?.1));
    let shown = document.clone();
    let cursor = Cursor::new(Signal::derive(move || Some(shown.clone())));
    let found = document.clone();
    let active = Memo::new(move |_| cursor.active_in(&found));
    // Once for all cells that are pointed at.
    let chosen = Memo::new(move |_| options.with(|o| (o.metric, o.hidden.clone())));
    let profiled = document.clone();
    let lines = Memo::new_with_compare(
        move |_| {
            chosen.track();
            Lines::of(&profiled, &options.get_untracked()).map(Arc::new)
        },
        |_, _| true,
    );
    let along = move |document: Arc<Document>, over_layers: bool| {
        Memo::new(move |_| lines.get()?.profile(&document, active.get()?, over_layers))
    };
    let over_layers = along(document.clone(), true);
    let over_tokens = along(document.clone(), false);
    let read = document.clone();
    let readout = move || match cursor.active().and_then(|key| Readout::of(&read, key)) {
        Some(readout) => tooltip(readout),
        None => view! {
            <p class="hint">
                "Point at a cell, or focus the map and use the arrow keys. Click or Enter pins."
            </p>
        }
        .into_any(),
    };
    let held = document.clone();
    let is_pinned = move || {
        cursor.hovered().is_none() && cursor.held().is_some_and(|key| key.find(&held).is_some())
    };
    let is_table = Memo::new(move |_| viewer.address.with(|a| a.view.table));
    let tabled = document.clone();
    let table = move || {
        let columns = options.with_untracked(|options| options.columns(&tabled));
        let (metric, _) = chosen.get();
        view! { <Table document=tabled.clone() metric columns /> }
    };
    let name = title(&document.entity).to_string();
    let facts = [
        document.model.clone(),
        document.site_name().to_string(),
        document.provenance.as_ref().map(|p| p.dtype.clone()).unwrap_or_default(),
        format!("{} layers × {} tokens", document.num_layers, document.token_labels.len()),
    ];
    let facts: Vec<_> = facts.into_iter().filter(|fact| !fact.is_empty()).collect();
    let is_link = matches!(source, Source::Link(_));
    view! {
        <article>
            <div class="title-row">
                <div>
                    {heading(name)}
                    <p class="facts">{facts.join(" · ")}</p>
                </div>
                <Actions document=document.clone() options source=source.clone() />
            </div>
            {is_link.then(|| view! {
                <p class="note">
                    "Opened from a self-contained link: logit differences are exact, \
                     probabilities are rounded to four decimals."
                </p>
            })}
            <Warnings warnings=document.warnings() />
            <Controls documents=vec![document.clone()] options ends />
            <div class="columns">
                <section class="card map-card" aria-label="Heatmap">
                    <Heatmap document=document.clone() options cursor />
                </section>
                <aside>
                    <section class="card cell-card" aria-label="Cell">
                        <h2>{move || if is_pinned() { "Pinned cell" } else { "Cell" }}</h2>
                        {readout}
                    </section>
                    <section class="card" aria-label="Profiles" class:hidden=move || {
                        active.get().is_none()
                    }>
                        <h2>"Over layers, at this token"</h2>
                        <Chart profile=over_layers />
                        <h2>"Over tokens, at this layer"</h2>
                        <Chart profile=over_tokens />
                    </section>
                    <Baselines document=document.clone() />
                </aside>
            </div>
            <Strips
                document=document.clone()
                active=Signal::derive(move || active.get().map(|cell| cell.column))
            />
            <section class="card">
                <button
                    aria-expanded=move || is_table.get().to_string()
                    on:click=move |_| viewer.show(|view| view.table = !view.table)
                >
                    {move || if is_table.get() { "Hide the table" } else { "Show as a table" }}
                </button>
                {move || is_table.get().then(|| table.clone())}
            </section>
            <Provenance document />
        </article>
    }
}
