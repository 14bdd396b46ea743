//! How an experiment is shown: every control writes the address.

use std::sync::Arc;

use leptos::prelude::*;
use shared::document::Document;
use shared::field::metric::Metric;
use shared::figure::colour::{Preset, Range};
use shared::figure::{FigureOptions, LabelStyle, Origin};
use shared::wire::numbers;
use web_sys::HtmlInputElement;

use crate::columns::ColumnMenu;
use crate::inputs::{check, choice};
use crate::viewer::Viewer;

/// The controls above one heatmap or several.
#[component]
pub fn Controls(
    /// The documents that are shown; the first is the one that names the columns.
    documents: Vec<Arc<Document>>,
    #[prop(into)] options: Signal<FigureOptions>,
    /// The values of the first and last colour.
    #[prop(into)]
    ends: Signal<Option<(f32, f32)>>,
) -> impl IntoView {
    let viewer = Viewer::get();
    let set = move |change: &dyn Fn(&mut FigureOptions)| {
        viewer.show(|view| change(&mut view.figure));
    };
    let metrics: Vec<_> = Metric::ALL
        .iter()
        .map(|metric| {
            // What only some of them hold can be shown of these.
            let n = documents.iter().filter(|document| metric.grid(document).is_ok()).count();
            let note = match n {
                0 => "None of the results holds this.".to_string(),
                n if n == documents.len() => String::new(),
                n => format!("{n} of the {} results hold this.", documents.len()),
            };
            (*metric, metric_name(*metric, &documents), n > 0, note)
        })
        .collect();
    let is_set = move || options.get().range != Range::Auto;
    let toggle_range = move |_| {
        let range = match (is_set(), ends.get_untracked()) {
            (false, Some((lo, hi))) => Range::Set(lo, hi),
            _ => Range::Auto,
        };
        set(&|o| o.range = range);
    };
    let end = move |event: leptos::ev::Event, is_low: bool| {
        let value = event_target::<HtmlInputElement>(&event).value_as_number() as f32;
        let Some((lo, hi)) = ends.get_untracked() else { return };
        let (lo, hi) = if is_low { (value, hi) } else { (lo, value) };
        // An input without a number is not a number, and less than none.
        if lo < hi && (hi - lo).is_finite() {
            set(&|o| o.range = Range::Set(lo, hi));
        }
    };
    let shown = move |is_low: bool| {
        let end = ends.get().map(|(lo, hi)| if is_low { lo } else { hi });
        end.map(numbers::end).unwrap_or_default()
    };
    let at_bottom = Signal::derive(move || options.get().origin == Origin::Bottom);
    let transposed = Signal::derive(move || options.get().transpose);
    view! {
        <div class="controls" role="group" aria-label="How it is shown">
            <div class="segments" role="group" aria-label="Metric">
                {metrics.into_iter().map(|(metric, name, is_there, note)| view! {
                    <button
                        aria-pressed=move || (options.get().metric == metric).to_string()
                        disabled=!is_there
                        title=note
                        on:click=move |_| set(&|o| {
                            o.metric = metric;
                            o.range = Range::Auto;
                        })
                    >{name}</button>
                }).collect_view()}
            </div>
            {choice("Colours", Preset::ALL, move || options.get().preset, move |v| set(&|o| o.preset = v))}
            <div class="field">
                <label>
                    <input type="checkbox" prop:checked=is_set on:change=toggle_range />
                    "Set range"
                </label>
                <span class="range" class:hidden=move || !is_set()>
                    <input type="number" step="any" aria-label="Lowest value"
                        prop:value=move || shown(true) on:change=move |e| end(e, true) />
                    <input type="number" step="any" aria-label="Highest value"
                        prop:value=move || shown(false) on:change=move |e| end(e, false) />
                </span>
            </div>
            {documents.first().cloned().map(|document| view! {
                <ColumnMenu document options on_hide=move |hidden| set(&|o| {
                    o.hidden = hidden.clone();
                }) />
            })}
            {choice("Labels", LabelStyle::ALL, move || options.get().labels, move |v| set(&|o| o.labels = v))}
            {check("Layer 0 at the bottom", at_bottom, Callback::new(move |bottom| {
                set(&|o| o.origin = if bottom { Origin::Bottom } else { Origin::Top });
            }))}
            {check("Transpose", transposed, Callback::new(move |on| set(&|o| o.transpose = on)))}
        </div>
    }
}

fn metric_name(metric: Metric, documents: &[Arc<Document>]) -> String {
    let name = match metric {
        Metric::LogitDiff if documents.iter().all(|document| document.answers.is_none()) => {
            "Metric (unknown)"
        }
        Metric::LogitDiff => "Logit difference",
        Metric::Recovery => "Recovery",
        Metric::Change => "Change from base",
        Metric::PTrue | Metric::PFalse => {
            let mut titles = documents.iter().map(|document| metric.title(document));
            let first = titles.next().unwrap_or_default();
            // Other answers have other names.
            match (titles.all(|title| title == first), metric) {
                (true, _) => return first,
                (false, Metric::PTrue) => "P(answer for)",
                (false, _) => "P(answer against)",
            }
        }
    };
    name.to_string()
}
