//! Experiments side by side, with what is under the pointer marked in all of them.

use std::sync::Arc;

use leptos::prelude::*;
use shared::document::{Document, title};
use shared::field::axis;
use shared::field::chosen::{Choice, Chosen};
use shared::figure::colour::{Preset, Range};
use shared::figure::{self, FigureOptions};
use shared::wire::address::{Address, Filter, Page, Source};

use crate::controls::Controls;
use crate::cursor::Cursor;
use crate::heading::heading;
use crate::heatmap::Heatmap;
use crate::pages::experiment::load;
use crate::picture::Picture;
use crate::readout::Readout;
use crate::tooltip::tooltip;
use crate::viewer::Viewer;

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
    let n_base = move || reference.with(|document| document.as_deref().map(axis::n_base));
    let cursor = Cursor::new(Signal::derive(n_base));
    let chosen = Memo::new(move |_| viewer.address.with(|a| a.view.figure.clone()));
    // Hidden columns are those of the reference; colours mean the same in all panes.
    let show = move |document: &Document| -> Result<(Chosen, Picture), String> {
        let (grid, metric, hidden) = chosen.with(|o| (o.grid, o.metric, o.hidden.clone()));
        let n_base = n_base().unwrap_or_else(|| axis::n_base(document));
        // So is the position that a slice is at.
        let grid = Choice { at: grid.at.map(|at| at.from_end(n_base)), ..grid };
        let grid = Chosen::of(document, grid).map_err(|error| error.to_string())?;
        let field = grid.field(document, metric).map_err(|error| error.to_string())?;
        let options = FigureOptions { hidden, ..FigureOptions::default() };
        let columns = options.columns(n_base, &field);
        Ok((grid, Picture { field, columns }))
    };
    let range = Memo::new(move |_| {
        let pictures: Vec<_> =
            documents.get().iter().filter_map(|document| Some(show(document).ok()?.1)).collect();
        let fields = pictures.iter().map(|picture| (&picture.field, picture.columns.clone()));
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
        let documents = documents.get();
        let [first, second] = &*documents else { return None };
        let both = [second.clone(), first.clone()];
        let fields = Memo::new(move |_| {
            let [second, first] = both.each_ref().map(|document| show(document));
            Some((second.ok()?.1, first.ok()?.1))
        });
        let picture = Memo::new(move |_| {
            let Some((second, first)) = fields.get() else {
                return Err("one of them does not have this grid".to_string());
            };
            let field = second.field.difference(&first.field).map_err(|error| error.to_string())?;
            Ok(Arc::new(Picture { field, columns: second.columns }))
        });
        let read = Callback::new(move |key| {
            fields.with(|fields| {
                let (second, first) = fields.as_ref()?;
                Readout::difference(&second.field, &first.field, key)
            })
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
                let own = document.clone();
                let shown = Memo::new(move |_| show(&own));
                let picture = Memo::new(move |_| shown.get().map(|(_, picture)| Arc::new(picture)));
                let own = document.clone();
                let read = Callback::new(move |key| {
                    shown.with(|shown| Readout::of(&own, &shown.as_ref().ok()?.0, key))
                });
                let own = document.clone();
                let facts = move || {
                    let mut facts = vec![own.model.clone()];
                    shown.with(|shown| match shown {
                        Ok((grid, _)) => facts.extend(grid.what(&own)),
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
