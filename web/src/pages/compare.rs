//! Experiments side by side, with what is under the pointer marked in all of them.

use std::sync::Arc;

use leptos::prelude::*;
use shared::document::title;
use shared::field::axis;
use shared::figure::colour::{Preset, Range};
use shared::figure::{self, FigureOptions};
use shared::wire::address::{Address, Filter, Page, Source};

use crate::map::controls::Controls;
use crate::map::cursor::Cursor;
use crate::map::heatmap::Heatmap;
use crate::map::picture::{self, Picture};
use crate::map::readout::Readout;
use crate::map::tooltip::tooltip;
use crate::navigation::viewer::Viewer;
use crate::pages::loaded::load;
use crate::widgets::heading::heading;

/// The page that compares the experiments of `sources`.
///
/// The pin and the hidden columns of its address are positions of the reference: the document with
/// the most columns, of several the first. All others take part in them as far as they
/// are from the end.
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
    let n_base =
        Signal::derive(move || reference.with(|document| document.as_deref().map(axis::n_base)));
    let cursor = Cursor::new(n_base);
    let chosen = Memo::new(move |_| viewer.address.with(|a| a.view.figure.clone()));
    let pictured = loaded.iter().map(|&loaded| {
        let document = Signal::derive(move || loaded.get()?.ok());
        let (grid, picture) = picture::pictured(document, chosen.into(), n_base);
        (document, grid, picture)
    });
    let pictured: Vec<_> = pictured.collect();
    // Colours mean the same in all panes.
    let pictures: Vec<_> = pictured.iter().map(|(.., picture)| *picture).collect();
    let all = pictures.clone();
    let range = Memo::new(move |_| {
        let there: Vec<_> = all.iter().filter_map(|picture| picture.get().ok()).collect();
        let fields = there.iter().map(|picture| (&picture.field, picture.columns.clone()));
        chosen.with(|options| figure::common_range(fields, options))
    });
    let options = Memo::new(move |_| {
        let range = range.get().map_or(Range::Auto, |(range, _)| range);
        FigureOptions { range, ..chosen.get() }
    });
    let ends = Signal::derive(move || range.get().map(|(_, ends)| ends));
    let controls = move || {
        let reference = reference.get()?;
        let mut documents = documents.get();
        documents.retain(|document| !Arc::ptr_eq(document, &reference));
        documents.insert(0, reference);
        Some(view! { <Controls documents options=chosen ends /> })
    };
    let difference = move || {
        let [first, second] = pictures[..] else { return None };
        if documents.with(|documents| documents.len() < 2) {
            return None;
        }
        let picture = Memo::new_with_compare(
            move |_| {
                let (second, first) = (second.get()?, first.get()?);
                let field = second.field.difference(&first.field).map_err(|e| e.to_string())?;
                Ok(Arc::new(Picture { field, columns: second.columns.clone() }))
            },
            |_, _| true,
        );
        let read = Callback::new(move |key| {
            let (second, first) = (second.get().ok()?, first.get().ok()?);
            Readout::difference(&second.field, &first.field, key)
        });
        let options = Memo::new(move |_| FigureOptions {
            preset: Preset::RdBu,
            range: Range::Auto,
            ..chosen.get()
        });
        Some(view! {
            <section class="card pane">
                <h2>"Difference"</h2>
                <p class="facts">"The second less the first, in the metric that is shown"</p>
                <Heatmap picture options read cursor />
            </section>
        })
    };
    let picked = sources.clone();
    let add = move |_| {
        let filter = Filter { picked: picked.clone(), ..Filter::default() };
        viewer.go(Address::of(Page::Index(filter)));
    };
    let panes = loaded.into_iter().zip(pictured).zip(sources);
    let panes = panes.map(|((loaded, (own, grid, picture)), source)| {
        let read = picture::reader(own, grid);
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
                let own = document.clone();
                let facts = move || {
                    let mut facts = vec![own.model.clone()];
                    grid.with(|grid| match grid {
                        Ok(grid) => facts.extend(grid.what(&own)),
                        Err(_) => facts.push(own.site_name().to_string()),
                    });
                    facts.join(" · ")
                };
                let cell = move || cursor.active().and_then(|key| read.run(key)).map(tooltip);
                view! {
                    <section class="card pane">
                        <h2 dir="auto"><a href=href>{title(&document.entity).to_string()}</a></h2>
                        <p class="facts">{facts}</p>
                        <p class="facts" dir="auto">{document.source_sentence.clone()}</p>
                        <Heatmap picture options read cursor />
                        <div class="pane-cell">{cell}</div>
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
