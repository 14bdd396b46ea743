//! Experiments side by side, with what is under the pointer marked in all of them.

use std::sync::Arc;

use leptos::prelude::*;
use shared::address::{Address, Filter, Page, Source};
use shared::colour::{Preset, Range};
use shared::document::Document;
use shared::figure::{self, FigureOptions};

use crate::app::{Problem, Viewer};
use crate::cells::{self, Cell};
use crate::controls::Controls;
use crate::heatmap::{Heatmap, tooltip};
use crate::pages::experiment::load;
use crate::readout::Readout;

/// The page that compares the experiments of `sources`.
#[component]
pub fn ComparePage(sources: Vec<Source>) -> impl IntoView {
    let viewer = Viewer::get();
    let loaded: Vec<_> = sources.iter().map(|s| load(viewer, s.clone())).collect();
    // The cell under the pointer, and whose it is.
    let hover = RwSignal::new(None::<(Cell, Arc<Document>)>);
    let ready = loaded.clone();
    let documents = Memo::new(move |_| {
        ready.iter().filter_map(|loaded| loaded.get()?.ok()).collect::<Vec<_>>()
    });
    // Colours mean the same in all panes.
    let options = Memo::new(move |_| {
        let mut options = viewer.address.with(|a| a.view.figure.clone());
        if options.range == Range::Auto {
            options.range = documents.with(|documents| {
                figure::common_range(documents.iter().map(Arc::as_ref), &options)
            });
        }
        options
    });
    let chosen = Memo::new(move |_| viewer.address.with(|a| a.view.figure.clone()));
    let ends = move || match options.get().range {
        Range::Set(lo, hi) => Some((lo, hi)),
        Range::Auto => None,
    };
    let controls = move || {
        let document = documents.with(|documents| documents.first().cloned())?;
        Some(view! { <Controls document options=chosen ends=Signal::derive(ends) /> })
    };
    let difference = move || {
        let documents = documents.get();
        let [first, second] = &*documents else { return None };
        let (document, less) = (second.clone(), first.clone());
        let options =
            move || FigureOptions { preset: Preset::RdBu, range: Range::Auto, ..options.get() };
        let (own, of_hover) = (document.clone(), document.clone());
        let cell = Memo::new(move |_| {
            let (cell, of) = hover.get()?;
            cells::counterpart(cell, &of, &own)
        });
        let on_hover = move |cell: Option<Cell>| hover.set(cell.map(|c| (c, of_hover.clone())));
        let ignore = |_: Option<Cell>| {};
        Some(view! {
            <section class="card pane">
                <h2>"Difference"</h2>
                <p class="facts">"The second less the first, in the metric that is shown"</p>
                <Heatmap
                    document
                    less
                    options=Signal::derive(options)
                    hover=cell
                    on_hover
                    pin=Signal::derive(|| None)
                    on_pin=ignore
                />
            </section>
        })
    };
    let picked = sources.clone();
    let add = move |_| {
        let filter = Filter { picked: picked.clone(), ..Filter::default() };
        viewer.go(Address::of(Page::Index(filter)));
    };
    let panes = loaded.into_iter().zip(sources).map(|(loaded, source)| {
        move || match loaded.get() {
            None => view! { <p class="loading" role="status">"Loading…"</p> }.into_any(),
            Some(Err(text)) => view! { <Problem text /> }.into_any(),
            Some(Ok(document)) => {
                let page = Address::of(Page::Experiment(source.clone()));
                let href = format!("#{}", page.fragment());
                let (own, of_hover, of_pin, read) =
                    (document.clone(), document.clone(), document.clone(), document.clone());
                let cell = Memo::new(move |_| {
                    let (cell, of) = hover.get()?;
                    cells::counterpart(cell, &of, &own)
                });
                let on_hover =
                    move |cell: Option<Cell>| hover.set(cell.map(|c| (c, of_hover.clone())));
                let pinned = document.clone();
                let pin =
                    Memo::new(move |_| viewer.address.with(|a| cells::pinned(&pinned, &a.view)));
                let on_pin = move |cell: Option<Cell>| {
                    let pin = cell.map(|cell| cells::pin_of(&of_pin, cell));
                    viewer.amend(|address| address.view.pin = pin);
                };
                let shown = move || {
                    let cell = cell.get().or(pin.get())?;
                    Some(tooltip(&Readout::of(&read, cell)))
                };
                view! {
                    <section class="card pane">
                        <h2><a href=href>{document.entity.clone()}</a></h2>
                        <p class="facts">{format!("{} · {}", document.model, document.site_name())}</p>
                        <p class="facts">{document.source_sentence.clone()}</p>
                        <Heatmap document options hover=cell on_hover pin on_pin />
                        <div class="pane-cell">{shown}</div>
                    </section>
                }
                .into_any()
            }
        }
    });
    view! {
        <article>
            <div class="title-row">
                <h1>"Compare"</h1>
                <button on:click=add>"Add or remove…"</button>
            </div>
            {controls}
            <div class="panes">{panes.collect_view()}{difference}</div>
        </article>
    }
}
