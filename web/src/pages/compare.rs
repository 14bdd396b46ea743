//! Experiments side by side, with what is under the pointer marked in all of them.

use std::sync::Arc;

use leptos::prelude::*;
use shared::address::{Address, Page, Source};
use shared::colour::{Preset, Range};
use shared::document::Document;
use shared::figure::FigureOptions;
use shared::metric::Metric;

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
    let options = Memo::new(move |_| viewer.address.with(|a| a.view.figure));
    let first = loaded.first().copied();
    let controls = move || {
        let document = first?.get()?.ok()?;
        Some(view! { <Controls document options /> })
    };
    let pair = loaded.clone();
    let difference_pane = move || {
        let [a, b] = &*pair else { return None };
        let document = Arc::new(difference(&*a.get()?.ok()?, &*b.get()?.ok()?)?);
        let (own, of_hover) = (document.clone(), document.clone());
        let options = move || FigureOptions {
            metric: Metric::LogitDiff,
            preset: Preset::RdBu,
            range: Range::Auto,
            ..options.get()
        };
        let ignore = |_: Option<Cell>| {};
        let cell = Memo::new(move |_| {
            let (cell, of) = hover.get()?;
            cells::counterpart(cell, &of, &own)
        });
        let on_hover = move |cell: Option<Cell>| hover.set(cell.map(|c| (c, of_hover.clone())));
        Some(view! {
            <section class="card pane">
                <h2>"Difference"</h2>
                <p class="facts">"Logit difference of the second less that of the first"</p>
                <Heatmap
                    document
                    options=Signal::derive(options)
                    hover=cell
                    on_hover
                    pin=Signal::derive(|| None)
                    on_pin=ignore
                />
            </section>
        })
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
                        <p class="facts">{format!("{} · {}", document.model, document.site)}</p>
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
            <h1>"Compare"</h1>
            {controls}
            <div class="panes">{panes.collect_view()}{difference_pane}</div>
        </article>
    }
}

/// The second less the first, as a result of its own; `None` where the grids do not match.
fn difference(first: &Document, second: &Document) -> Option<Document> {
    let is_same = first.num_layers == second.num_layers
        && first.token_labels.len() == second.token_labels.len();
    let rows = first.patching_results.iter().zip(&second.patching_results);
    let cells = rows.map(|(first, second)| {
        let cells = first.iter().zip(second);
        cells.map(|(first, second)| Some((*second)? - (*first)?)).collect()
    });
    is_same.then(|| Document {
        patching_results: cells.collect(),
        baselines: None,
        readout: None,
        ..second.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_are_subtracted_where_they_match() {
        let document = |cells: &str| {
            let text = format!(
                r#"{{"model":"m","entity":"","source_prompt":"","base_prompt":"",
                "source_sentence":"","base_sentence":"","sentence_start":0,
                "token_labels":["a","b"],"num_layers":1,"patching_results":[{cells}]}}"#
            );
            Document::read(text.as_bytes()).unwrap().remove(0)
        };
        let (first, second) = (document("[1.0,2.0]"), document("[3.0,null]"));
        let found = difference(&first, &second).unwrap();
        assert_eq!(found.patching_results, [[Some(2.0), None]]);
        let mut longer = second;
        longer.token_labels.push("c".into());
        assert!(difference(&first, &longer).is_none());
    }
}
