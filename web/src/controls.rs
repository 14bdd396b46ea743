//! How an experiment is shown: every control writes the address.

use std::sync::Arc;

use leptos::prelude::*;
use shared::colour::{Preset, Range};
use shared::document::Document;
use shared::figure::{FigureOptions, LabelStyle, Origin};
use shared::metric::Metric;
use web_sys::HtmlInputElement;

use crate::app::Viewer;
use crate::columns::ColumnMenu;
use crate::inputs::{check, choice};

/// The controls above a heatmap.
#[component]
pub fn Controls(
    document: Arc<Document>,
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
        .map(|metric| (*metric, metric_name(*metric, &document), metric.grid(&document).is_ok()))
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
        ends.get()
            .map(|(lo, hi)| format!("{:.3}", if is_low { lo } else { hi }))
            .unwrap_or_default()
    };
    let at_bottom = Signal::derive(move || options.get().origin == Origin::Bottom);
    let transposed = Signal::derive(move || options.get().transpose);
    view! {
        <div class="controls" role="group" aria-label="How it is shown">
            <div class="segments" role="group" aria-label="Metric">
                {metrics.into_iter().map(|(metric, name, is_there)| view! {
                    <button
                        aria-pressed=move || (options.get().metric == metric).to_string()
                        disabled=!is_there
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
            <ColumnMenu document=document.clone() options on_hide=move |hidden| set(&|o| {
                o.hidden = hidden.clone();
            }) />
            {choice("Labels", LabelStyle::ALL, move || options.get().labels, move |v| set(&|o| o.labels = v))}
            {check("Layer 0 at the bottom", at_bottom, Callback::new(move |bottom| {
                set(&|o| o.origin = if bottom { Origin::Bottom } else { Origin::Top });
            }))}
            {check("Transpose", transposed, Callback::new(move |on| set(&|o| o.transpose = on)))}
        </div>
    }
}

fn metric_name(metric: Metric, document: &Document) -> String {
    match metric {
        Metric::LogitDiff => "Logit difference".into(),
        Metric::Recovery => "Recovery".into(),
        Metric::PTrue | Metric::PFalse => metric.title(document),
        Metric::Change => "Change from base".into(),
    }
}
