//! A result: its map, its cells, what it was measured with.

use std::sync::Arc;

use leptos::prelude::*;
use shared::document::{Document, title};
use shared::field::axis::{self, AxisKind, Coordinate};
use shared::figure;
use shared::wire::address::Source;
use shared::wire::permalink;

use crate::map::chart::Chart;
use crate::map::controls::Controls;
use crate::map::cursor::Cursor;
use crate::map::heatmap::Heatmap;
use crate::map::picture;
use crate::map::profile::Lines;
use crate::map::strips::{Prompts, Strips};
use crate::map::table::Table;
use crate::map::tooltip::tooltip;
use crate::navigation::viewer::Viewer;
use crate::pages::actions::Actions;
use crate::pages::embedded::embedded;
use crate::pages::panels::{Baselines, Certificate, Provenance, Warnings};
use crate::platform::dynamic::dynamic;
use crate::widgets::heading::heading;

/// A result.
#[component]
pub fn Experiment(document: Arc<Document>, source: Source) -> AnyView {
    let viewer = Viewer::get();
    let options = Memo::new(move |_| viewer.address.with(|a| a.view.figure.clone()));
    let own = Signal::stored(Some(document.clone()));
    let n_base = Signal::stored(Some(axis::n_base(&document)));
    let (grid, picture) = picture::pictured(own, options.into(), n_base);
    let ends = Memo::new(move |_| {
        let picture = picture.get().ok()?;
        let fields = [(&picture.field, picture.columns.clone())];
        options.with(|options| Some(figure::common_range(fields, options)?.1))
    });
    let cursor = Cursor::new(n_base);
    let active = Memo::new(move |_| {
        let key = cursor.active()?;
        grid.with(|grid| grid.as_ref().ok()?.find(key))
    });
    // Once for all cells that are pointed at.
    let lines = Memo::new_with_compare(
        move |_| picture.get().ok().and_then(Lines::of).map(Arc::new),
        |_, _| true,
    );
    let along =
        move |over_rows: bool| Memo::new(move |_| lines.get()?.profile(active.get()?, over_rows));
    let (over_rows, over_columns) = (along(true), along(false));
    let over = move |of: usize, at: usize| {
        grid.with(|grid| {
            let kinds = match grid {
                Ok(grid) => [grid.rows().kind, grid.columns().kind],
                Err(_) => [AxisKind::Layer, AxisKind::Token],
            };
            format!("Over {}, at this {}", kinds[of].many(), kinds[at].one())
        })
    };
    let read = picture::reader(own, grid);
    let readout = move || match cursor.active().and_then(|key| read.run(key)) {
        Some(readout) => tooltip(readout),
        None => view! {
            <p class="hint">
                "Point at a cell, or focus the map and use the arrow keys. Click or Enter pins."
            </p>
        }
        .into_any(),
    };
    let is_pinned = move || {
        let held = cursor.held().filter(|_| cursor.hovered().is_none());
        held.is_some_and(|key| grid.with(|g| g.as_ref().is_ok_and(|g| g.find(key).is_some())))
    };
    let marked = document.clone();
    let marked = Memo::new(move |_| {
        let key = active.get().and(cursor.active());
        let found = grid.with(|grid| match (key?.column, grid.as_ref().ok()?) {
            (Coordinate::FromEnd(n), _) => Some(vec![n]),
            (Coordinate::Span(span), grid) => {
                let positions = grid.positions_of(&marked, span).iter();
                let prompt = grid.prompt(&marked);
                Some(positions.filter_map(|at| axis::from_end(&marked, prompt, *at)).collect())
            }
            _ => None,
        });
        found.unwrap_or_default()
    });
    let is_table = Memo::new(move |_| viewer.address.with(|a| a.view.table));
    let table = move || picture.get().ok().map(|picture| view! { <Table picture /> });
    let name = title(&document.entity).to_string();
    let of = document.clone();
    let facts = move || {
        let mut facts = vec![of.model.clone()];
        grid.with(|grid| match grid {
            Ok(grid) => {
                facts.extend(grid.what(&of));
                facts.push(format!("{} × {}", grid.rows().count(), grid.columns().count()));
            }
            Err(_) => facts.push(of.site_name().to_string()),
        });
        facts.extend(of.provenance.iter().map(|provenance| provenance.dtype.clone()));
        facts.retain(|fact| !fact.is_empty());
        facts.join(" · ")
    };
    if untrack(|| viewer.is_embedded()) {
        let map = view! { <Heatmap picture options read cursor /> }.into_any();
        return embedded(Signal::stored(name), Signal::derive(facts), map);
    }
    let link_note = match &source {
        Source::Link(text) => Some(link_note(&document, text)),
        _ => None,
    };
    view! {
        <article>
            <div class="title-row">
                <div>
                    {heading(name)}
                    <p class="facts">{facts}</p>
                </div>
                <Actions document=document.clone() options source=source.clone() />
            </div>
            {link_note.map(|note| view! { <p class="note">{note}</p> })}
            <Warnings warnings=document.warnings() />
            <Certificate verification=document.verification.clone() />
            <Controls documents=vec![document.clone()] options ends />
            <div class="columns">
                <section class="card map-card" aria-label="Heatmap">
                    <Heatmap picture options read cursor />
                </section>
                <aside>
                    <section class="card cell-card" aria-label="Cell">
                        <h2>{dynamic(move || if is_pinned() { "Pinned cell" } else { "Cell" })}</h2>
                        {readout}
                    </section>
                    <section class="card" aria-label="Profiles" class:hidden=move || {
                        over_rows.with(Option::is_none)
                    }>
                        <h2>{dynamic(move || over(0, 1))}</h2>
                        <Chart profile=over_rows />
                        <h2>{dynamic(move || over(1, 0))}</h2>
                        <Chart profile=over_columns />
                    </section>
                    <Baselines baselines=document.baselines.clone() answers=document.answers.clone() />
                </aside>
            </div>
            <Strips
                prompts=Prompts::of(&document)
                active=marked
            />
            <section class="card">
                <button
                    aria-expanded=move || is_table.get().to_string()
                    on:click=move |_| viewer.show(|view| view.table = !view.table)
                >
                    {dynamic(move || if is_table.get() { "Hide the table" } else { "Show as a table" })}
                </button>
                {dynamic(move || is_table.get().then_some(table))}
            </section>
            <Provenance document />
        </article>
    }
    .into_any()
}

/// What a self-contained link does not hold.
fn link_note(document: &Document, text: &str) -> String {
    let mut note = "Opened from a self-contained link: logit differences are exact, probabilities \
                    are rounded to four decimals"
        .to_string();
    if !document.grids.is_empty() {
        note += ", divergences to four and ranks to one";
    }
    let left_out = permalink::decode(text).map(|opened| opened.left_out).unwrap_or_default();
    if !left_out.is_empty() {
        note +=
            &format!(". The result has more, for which there was no room: {}", left_out.join(", "));
    }
    note + "."
}
