//! How an experiment is shown: every control writes the address.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use leptos::prelude::*;
use shared::colour::{Preset, Range};
use shared::document::Document;
use shared::figure::{FigureOptions, LabelStyle, Origin};
use shared::metric::Metric;

use crate::app::Viewer;
use crate::columns::ColumnMenu;

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
        let (Ok(value), Some((lo, hi))) =
            (event_target_value(&event).parse::<f32>(), ends.get_untracked())
        else {
            return;
        };
        let (lo, hi) = if is_low { (value, hi) } else { (lo, value) };
        if lo < hi {
            set(&|o| o.range = Range::Set(lo, hi));
        }
    };
    let shown = move |is_low: bool| {
        ends.get()
            .map(|(lo, hi)| format!("{:.3}", if is_low { lo } else { hi }))
            .unwrap_or_default()
    };
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
            <label class="check">
                <input
                    type="checkbox"
                    prop:checked=move || options.get().origin == Origin::Bottom
                    on:change=move |e| {
                        let bottom = event_target_checked(&e);
                        set(&|o| o.origin = if bottom { Origin::Bottom } else { Origin::Top });
                    }
                />
                "Layer 0 at the bottom"
            </label>
            <label class="check">
                <input
                    type="checkbox"
                    prop:checked=move || options.get().transpose
                    on:change=move |e| set(&|o| o.transpose = event_target_checked(&e))
                />
                "Transpose"
            </label>
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

/// A choice among words.
pub fn choice<T: FromStr + Display + Copy + PartialEq + Send + Sync + 'static>(
    name: &'static str,
    all: &'static [T],
    now: impl Fn() -> T + Copy + Send + Sync + 'static,
    choose: impl Fn(T) + 'static,
) -> impl IntoView {
    let changed = move |event: leptos::ev::Event| {
        if let Ok(value) = event_target_value(&event).parse() {
            choose(value);
        }
    };
    view! {
        <label class="field">
            <span>{name}</span>
            <select prop:value=move || now().to_string() on:change=changed>
                {all.iter().map(|value| {
                    let value = *value;
                    let text = value.to_string();
                    view! {
                        <option value=text.clone() selected=move || now() == value>{text.clone()}</option>
                    }
                }).collect_view()}
            </select>
        </label>
    }
}
