//! The heatmap: a canvas that is drawn once, and what follows the pointer above it.

use std::sync::Arc;

use leptos::ev;
use leptos::html;
use leptos::prelude::*;
use shared::document::Document;
use shared::figure::FigureOptions;

use crate::app::Viewer;
use crate::cells::{self, Cell, Step};
use crate::dom;
use crate::plot::{self, Plot};
use crate::readout::Readout;

/// The width of the tooltip with its distance from the cell, in pixels.
const TOOLTIP_WIDTH: f64 = 270.0;

/// A heatmap to point at.
#[component]
pub fn Heatmap(
    /// What is shown; may be filled in while it is.
    #[prop(into)]
    document: Signal<Arc<Document>>,
    /// What is subtracted from it.
    #[prop(optional)]
    less: Option<Arc<Document>>,
    /// How it is shown.
    #[prop(into)]
    options: Signal<FigureOptions>,
    /// The cell under the pointer.
    #[prop(into)]
    hover: Signal<Option<Cell>>,
    /// Called with the cell under the pointer.
    #[prop(into)]
    on_hover: Callback<Option<Cell>>,
    /// The cell that is held.
    #[prop(into)]
    pin: Signal<Option<Cell>>,
    /// Called with the cell to hold.
    #[prop(into)]
    on_pin: Callback<Option<Cell>>,
) -> impl IntoView {
    let outer = NodeRef::<html::Div>::new();
    let canvas = NodeRef::<html::Canvas>::new();
    let width = dom::width_of(outer);
    // Another screen may have other pixels, and tells of it as a resized window.
    let ratio = RwSignal::new(dom::pixel_ratio());
    let listener = window_event_listener(ev::resize, move |_| {
        if ratio.get_untracked() != dom::pixel_ratio() {
            ratio.set(dom::pixel_ratio());
        }
    });
    on_cleanup(move || listener.remove());

    let viewer = Viewer::get();
    let drawn_less = less.clone();
    let plot: Memo<Option<Arc<Result<Plot, String>>>> = Memo::new_with_compare(
        move |_| {
            let width = width.get()?;
            let options = FigureOptions { theme: viewer.theme.get(), ..options.get() };
            let less = drawn_less.as_deref();
            Some(Arc::new(Plot::new(&document.get(), less, &options, width, ratio.get())))
        },
        |_, _| true,
    );
    let with_plot = move |f: &dyn Fn(&Plot) -> Option<[f64; 4]>| {
        plot.with(|plot| match plot.as_deref() {
            Some(Ok(plot)) => f(plot),
            _ => None,
        })
    };
    let problem = RwSignal::new(None::<String>);
    Effect::new(move || {
        let (Some(canvas), Some(plot)) = (canvas.get(), plot.get()) else { return };
        let result = match &*plot {
            Ok(plot) => plot::draw(&canvas, &plot.figure).inspect(|()| dom::mark_heatmap()),
            Err(error) => Err(error.clone()),
        };
        problem.set(result.err());
    });

    let cell_at = move |x: i32, y: i32| {
        let rect = canvas.get_untracked()?.get_bounding_client_rect();
        let (x, y) = (f64::from(x) - rect.left(), f64::from(y) - rect.top());
        let plot = plot.get_untracked()?;
        let (layer, column) = plot.as_ref().as_ref().ok()?.cell_at(x, y)?;
        Some(Cell { layer, column })
    };
    let pointed = move |event: ev::PointerEvent| {
        let cell = cell_at(event.client_x(), event.client_y());
        if cell != hover.get_untracked() {
            on_hover.run(cell);
        }
    };
    let toggle = move |cell: Option<Cell>| {
        on_pin.run(if cell == pin.get_untracked() { None } else { cell });
    };
    let key = move |event: ev::KeyboardEvent| {
        if event.alt_key() || event.ctrl_key() || event.meta_key() {
            return;
        }
        match (event.key().as_str(), Step::of_key(&event.key())) {
            ("Enter" | " ", _) => toggle(hover.get_untracked().or(pin.get_untracked())),
            ("Escape", _) => {
                on_hover.run(None);
                on_pin.run(None);
            }
            (_, Some(step)) => {
                let options = options.get_untracked();
                let document = document.get_untracked();
                let columns = options.columns(&document);
                let held = pin.get_untracked();
                let from = hover.get_untracked().or(held);
                let to = cells::step(from, step, document.num_layers, &columns, &options);
                on_hover.run(to);
                if held.is_some() {
                    on_pin.run(to);
                }
            }
            _ => return,
        }
        event.prevent_default();
    };

    // Everything above the canvas is placed by these; the canvas stays as it is.
    let area = move |cell: Option<Cell>| {
        let cell = cell?;
        with_plot(&|plot| Some(plot.on_page(plot.figure.layout().cell(cell.layer, cell.column)?)))
    };
    let whole = move || with_plot(&|plot| Some(plot.on_page(plot.figure.layout().plot())));
    let place = move |rect: Option<[f64; 4]>| match rect {
        Some([x, y, w, h]) => {
            format!("transform:translate({x}px,{y}px);width:{w}px;height:{h}px")
        }
        None => "display:none".to_string(),
    };
    let active = Memo::new(move |_| hover.get().or(pin.get()));
    let row = move || {
        let ([_, y, _, h], [x, _, w, _]) = (area(active.get())?, whole()?);
        Some([x, y, w, h])
    };
    let column = move || {
        let ([x, _, w, _], [_, y, _, h]) = (area(active.get())?, whole()?);
        Some([x, y, w, h])
    };
    let size = move || {
        let size = with_plot(&|plot| Some([plot.size().0, plot.size().1, plot.crop, 0.0]));
        size.unwrap_or_default()
    };
    let stage_style = move || {
        let [width, height, crop, _] = size();
        format!("width:{width}px;height:{}px", height - crop)
    };
    let canvas_style = move || {
        let [width, height, crop, _] = size();
        format!("width:{width}px;height:{height}px;margin-top:-{crop}px")
    };
    let tip_style = move || {
        let (Some([x, y, w, h]), Some(canvas)) = (area(hover.get()), canvas.get()) else {
            return "display:none".to_string();
        };
        let rect = canvas.get_bounding_client_rect();
        let crop = size()[2];
        let (left, top) = (rect.left() + x, rect.top() + crop + y + h + 10.0);
        let inner = window().inner_width().ok().and_then(|w| w.as_f64()).unwrap_or(1000.0);
        let left = if left + w + TOOLTIP_WIDTH < inner {
            left + w + 12.0
        } else {
            (left - TOOLTIP_WIDTH).max(8.0)
        };
        format!("transform:translate({left}px,{top}px)")
    };
    let readout = Memo::new(move |_| {
        let cell = active.get()?;
        Some(match &less {
            Some(less) => Readout::difference(&document.get(), less, options.get().metric, cell),
            None => Readout::of(&document.get(), cell),
        })
    });
    let tip = move || hover.get().and_then(|_| readout.get()).as_ref().map(tooltip);
    let spoken = move || readout.get().map(|readout| readout.sentence());
    let label = move || {
        document.with(|document| {
            format!(
                "Heatmap of {} layers by {} tokens. Arrow keys move, Enter pins, Escape clears.",
                document.num_layers,
                document.token_labels.len()
            )
        })
    };
    view! {
        <div class="heatmap" node_ref=outer>
            {move || problem.get().map(|text| view! { <p class="problem" role="alert">{text}</p> })}
            <div class="heatmap-scroll" class:hidden=move || problem.get().is_some()>
                <div
                    class="stage"
                    style=stage_style
                    tabindex="0"
                    role="application"
                    aria-label=label
                    on:pointermove=pointed
                    on:pointerleave=move |_| on_hover.run(None)
                    on:click=move |event| toggle(cell_at(event.client_x(), event.client_y()))
                    on:keydown=key
                >
                    <canvas node_ref=canvas style=canvas_style></canvas>
                    <div class="band" style=move || place(row())></div>
                    <div class="band" style=move || place(column())></div>
                    <div class="cell-pin" style=move || place(area(pin.get()))></div>
                    <div class="cell-hover" style=move || place(area(hover.get()))></div>
                </div>
            </div>
            <div class="tooltip" style=tip_style>{tip}</div>
            <p class="spoken" aria-live="polite">{spoken}</p>
        </div>
    }
}

/// What the tooltip and the panel beside the map say of a cell.
pub fn tooltip(readout: &Readout) -> impl IntoView + use<> {
    let rows = readout.values.iter().map(|(name, value)| {
        view! { <dt>{name.clone()}</dt><dd>{value.clone()}</dd> }
    });
    view! {
        <p class="tip-head">
            <span class="tip-token">{readout.token.clone()}</span>
            {readout.source_token.clone().map(|token| view! {
                <span class="tip-from">"from "<span class="tip-token source">{token}</span></span>
            })}
        </p>
        <p class="tip-place">{format!("layer {} · position {}", readout.layer, readout.position)}</p>
        <dl class="tip-values">{rows.collect_view()}</dl>
    }
}
