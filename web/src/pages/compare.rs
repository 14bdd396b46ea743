//! Experiments side by side, with what is under the pointer marked in all of them.

use std::sync::Arc;

use leptos::prelude::*;
use shared::document::{Document, title};
use shared::field::key;
use shared::figure::colour::{Preset, Range};
use shared::figure::{self, FigureOptions};
use shared::wire::address::{Address, Filter, Page, Source};

use crate::controls::Controls;
use crate::cursor::Cursor;
use crate::heading::heading;
use crate::heatmap::Heatmap;
use crate::pages::experiment::load;
use crate::readout::Readout;
use crate::tooltip::tooltip;
use crate::viewer::Viewer;

/// The page that compares the experiments of `sources`.
///
/// The pin and the hidden columns of its address are positions of the reference: the document with
/// the most columns, of several the first. All others take part in them by [`key::Key`].
#[component]
pub fn ComparePage(sources: Vec<Source>) -> impl IntoView {
    let viewer = Viewer::get();
    let loaded: Vec<_> = sources.iter().map(|s| load(viewer, s.clone())).collect();
    let ready = loaded.clone();
    let documents = Memo::new(move |_| {
        ready.iter().filter_map(|loaded| loaded.get()?.ok()).collect::<Vec<_>>()
    });
    let reference = Memo::new(move |_| {
        documents.with(|documents| {
            let longest = documents.iter().rev().max_by_key(|d| d.token_labels.len());
            longest.cloned()
        })
    });
    let cursor = Cursor::new(reference.into());
    let chosen = Memo::new(move |_| viewer.address.with(|a| a.view.figure.clone()));
    let own_options = move |document: &Document| {
        let mut options = chosen.get();
        if let Some(reference) = reference.get() {
            options.hidden = key::corresponding(&options.hidden, &reference, document);
        }
        options
    };
    // Colours mean the same in all panes.
    let range = Memo::new(move |_| {
        let documents = documents.get();
        figure::common_range(documents.iter().map(|d| (&**d, own_options(d))))
    });
    let options = move |document: &Document| {
        let mut options = own_options(document);
        if let Some((range, _)) = range.get() {
            options.range = range;
        }
        options
    };
    let ends = Signal::derive(move || range.get().map(|(_, ends)| ends));
    let controls = move || {
        let reference = reference.get()?;
        let mut documents = documents.get();
        documents.retain(|document| !Arc::ptr_eq(document, &reference));
        documents.insert(0, reference);
        Some(view! { <Controls documents options=chosen ends /> })
    };
    let difference = move || {
        let documents = documents.get();
        let [first, second] = &*documents else { return None };
        let (document, less) = (second.clone(), first.clone());
        let own = document.clone();
        let options =
            move || FigureOptions { preset: Preset::RdBu, range: Range::Auto, ..own_options(&own) };
        Some(view! {
            <section class="card pane">
                <h2>"Difference"</h2>
                <p class="facts">"The second less the first, in the metric that is shown"</p>
                <Heatmap document less options=Signal::derive(options) cursor />
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
            Some(Err(text)) => view! {
                <section class="card pane">
                    <h2>"This cannot be shown"</h2>
                    <p class="problem" role="alert">{text}</p>
                </section>
            }
            .into_any(),
            Some(Ok(document)) => {
                let page = Address::of(Page::Experiment(source.clone()));
                let href = format!("#{}", page.fragment());
                let (own, read) = (document.clone(), document.clone());
                let shown = move || {
                    let readout = Readout::of(&read, cursor.active()?)?;
                    Some(tooltip(readout))
                };
                view! {
                    <section class="card pane">
                        <h2 dir="auto"><a href=href>{title(&document.entity).to_string()}</a></h2>
                        <p class="facts">{format!("{} · {}", document.model, document.site_name())}</p>
                        <p class="facts" dir="auto">{document.source_sentence.clone()}</p>
                        <Heatmap document options=Signal::derive(move || options(&own)) cursor />
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
                {heading("Compare")}
                <button on:click=add>"Add or remove…"</button>
            </div>
            {controls}
            <div class="panes">{panes.collect_view()}{difference}</div>
        </article>
    }
}
