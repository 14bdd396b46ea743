//! How an experiment is shown: every control writes the address.

use std::sync::Arc;

use leptos::prelude::*;
use shared::document::{Document, Prompt};
use shared::field::axis::{self, AxisKind};
use shared::field::chosen::Chosen;
use shared::field::metric::Metric;
use shared::figure::colour::{Preset, Range};
use shared::figure::{FigureOptions, LabelStyle, Origin};
use shared::wire::numbers;
use web_sys::HtmlInputElement;

use crate::map::columns::ColumnMenu;
use crate::map::grids::GridChoice;
use crate::navigation::viewer::Viewer;
use crate::platform::dynamic::dynamic;
use crate::widgets::inputs::{check, choice};

/// What every result is asked for, whether it holds it or not.
const USUAL: [Metric; 5] =
    [Metric::LogitDiff, Metric::Recovery, Metric::PTrue, Metric::PFalse, Metric::Change];

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
    let choice_of = Memo::new(move |_| options.with(|options| options.grid));
    let own = documents.clone();
    let grids = Memo::new_with_compare(
        move |_| {
            // Positions in an address are those of the first result's base.
            let n_base = own.first().map_or(0, |first| axis::n_base(first));
            let choice = choice_of.get().from_end(n_base);
            let grids = own.iter().map(|document| Chosen::of(document, choice).ok().map(Arc::new));
            grids.collect::<Vec<_>>()
        },
        |_, _| true,
    );
    let measured = documents.clone();
    let metrics = move || {
        let grids = grids.get();
        let both: Vec<_> = measured.iter().zip(&grids).collect();
        let metric = |&metric: &Metric| {
            // What only some of them hold can be shown of these.
            let holds = |(document, grid): &&(&Arc<Document>, &Option<Arc<Chosen>>)| {
                grid.as_ref().is_some_and(|grid| grid.holds(document, metric).is_ok())
            };
            let n = both.iter().filter(holds).count();
            let note = match n {
                0 if USUAL.contains(&metric) => "None of the results holds this.".to_string(),
                0 => return None,
                n if n == both.len() => String::new(),
                n => format!("{n} of the {} results hold this.", both.len()),
            };
            Some((metric, metric_name(metric, &both), n > 0, note))
        };
        let buttons = Metric::ALL.iter().filter_map(metric);
        let button = |(metric, name, is_there, note): (Metric, String, bool, String)| {
            view! {
                <button
                    aria-pressed=move || (options.get().metric == metric).to_string()
                    disabled=!is_there
                    title=note
                    on:click=move |_| set(&|o| {
                        o.metric = metric;
                        o.range = Range::Auto;
                    })
                >{name}</button>
            }
        };
        buttons.map(button).collect_view()
    };
    let has_tokens = Memo::new(move |_| {
        let of_tokens = |grid: &Arc<Chosen>| {
            [grid.rows(), grid.columns()].iter().any(|axis| axis.kind == AxisKind::Token)
        };
        grids.with(|grids| grids.iter().flatten().any(of_tokens))
    });
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
            <GridChoice documents=documents.clone() grids options />
            <div class="segments" role="group" aria-label="Metric">{metrics}</div>
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
            {dynamic(move || {
                let document = documents.first()?.clone();
                let grid = grids.get().into_iter().next()??;
                let axis = grid.columns().clone();
                (axis.kind == AxisKind::Token).then(|| view! {
                    <ColumnMenu document axis options on_hide=move |hidden| set(&|o| {
                        o.hidden = hidden.clone();
                    }) />
                })
            })}
            {dynamic(move || has_tokens.get().then(|| {
                choice("Labels", LabelStyle::ALL, move || options.get().labels, move |v| {
                    set(&|o| o.labels = v);
                })
            }))}
            {check("Layer 0 at the bottom", at_bottom, Callback::new(move |bottom| {
                set(&|o| o.origin = if bottom { Origin::Bottom } else { Origin::Top });
            }))}
            {check("Transpose", transposed, Callback::new(move |on| set(&|o| o.transpose = on)))}
        </div>
    }
}

type Both<'a> = (&'a Arc<Document>, &'a Option<Arc<Chosen>>);

fn metric_name(metric: Metric, both: &[Both]) -> String {
    let name = match metric {
        Metric::LogitDiff if both.iter().all(|(document, _)| document.answers.is_none()) => {
            "Metric (unknown)"
        }
        Metric::LogitDiff => "Logit difference",
        Metric::Recovery => "Recovery",
        Metric::Change => {
            let is_source = |(document, grid): &Both| {
                grid.as_ref().is_some_and(|grid| grid.prompt(document) == Prompt::Source)
            };
            if both.iter().all(is_source) { "Change from source" } else { "Change from base" }
        }
        metric => {
            let mut titles = both.iter().map(|(document, grid)| {
                let prompt = grid.as_ref().map_or(Prompt::Base, |grid| grid.prompt(document));
                metric.title(document.answers.as_ref(), prompt)
            });
            let first = titles.next().unwrap_or_default();
            // Other answers have other names.
            match (titles.all(|title| title == first), metric) {
                (true, _) => return first,
                (false, Metric::PTrue) => "P(answer for)",
                (false, Metric::PFalse) => "P(answer against)",
                (false, Metric::RankTrue) => "Rank of the answer for",
                (false, Metric::RankFalse) => "Rank of the answer against",
                (false, _) => return first,
            }
        }
    };
    name.to_string()
}
