//! The heatmap: a canvas that is drawn once, and what follows the pointer above it.

use std::sync::Arc;

use leptos::ev;
use leptos::html;
use leptos::prelude::*;
use shared::field::key::{Cell, Key};
use shared::figure::FigureOptions;
use wasm_bindgen::JsCast;
use web_sys::{HtmlElement, Node};

use crate::data::words::sentence;
use crate::map::cursor::Cursor;
use crate::map::picture::{Picture, Pictured};
use crate::map::plot::{self, Plot};
use crate::map::readout::Readout;
use crate::map::steps::{self, Step};
use crate::map::tooltip::{HIDDEN, Place, style, tooltip};
use crate::navigation::viewer::Viewer;
use crate::platform::dom;
use crate::platform::dynamic::dynamic;

/// Left, top, width and height in pixels of the page.
type Rect = [f64; 4];

/// A heatmap to point at.
#[component]
pub fn Heatmap(
    /// What is shown; may be filled in while it is, or be replaced by another.
    #[prop(into)]
    picture: Signal<Pictured>,
    /// How it is shown.
    #[prop(into)]
    options: Signal<FigureOptions>,
    /// What there is to say of a cell.
    #[prop(into)]
    read: Callback<Key, Option<Readout>>,
    /// What is pointed at and held.
    cursor: Cursor,
    /// Cells with a dot in them.
    #[prop(optional, into)]
    dotted: Signal<Vec<Cell>>,
) -> impl IntoView {
    let outer = NodeRef::<html::Div>::new();
    let scroll = NodeRef::<html::Div>::new();
    let stage = NodeRef::<html::Div>::new();
    let canvas = NodeRef::<html::Canvas>::new();
    let tip = NodeRef::<html::Div>::new();
    let width = dom::width_of(outer);
    // Another screen may have other pixels, and tells of it as a resized window.
    let ratio = RwSignal::new(dom::pixel_ratio());
    // Counts up whenever what is on the page may be elsewhere in the window.
    let moved = RwSignal::new(0_u32);
    let shifted = move || moved.update(|n| *n = n.wrapping_add(1));
    let resized = window_event_listener(ev::resize, move |_| {
        if ratio.get_untracked() != dom::pixel_ratio() {
            ratio.set(dom::pixel_ratio());
        }
        shifted();
    });
    let scrolled = window_event_listener(ev::scroll, move |_| shifted());
    // A finger leaves nothing under it, so what it pointed at stays until it taps elsewhere.
    let is_touch = StoredValue::new(false);
    let pressed = window_event_listener(ev::pointerdown, move |event| {
        is_touch.set_value(event.pointer_type() == "touch");
        let on = event.target().and_then(|target| target.dyn_into::<Node>().ok());
        let is_here = stage.get_untracked().is_some_and(|stage| stage.contains(on.as_ref()));
        if is_touch.get_value() && !is_here {
            cursor.point_at(None);
        }
    });
    on_cleanup(move || [resized, scrolled, pressed].into_iter().for_each(|l| l.remove()));

    let viewer = Viewer::get();
    let plot: Memo<Option<Arc<Result<Plot, String>>>> = Memo::new_with_compare(
        move |_| {
            let width = width.get()?;
            let options = FigureOptions { theme: viewer.theme.get(), ..options.get() };
            let plot =
                picture.get().and_then(|picture| Plot::new(&picture, &options, width, ratio.get()));
            Some(Arc::new(plot))
        },
        |_, _| true,
    );
    let with_plot = move |f: &dyn Fn(&Plot) -> Option<Rect>| {
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

    // Keys become cells of this field, where it has them, and cells of it keys.
    let cell_of =
        move |key: Option<Key>| picture.with(|picture| picture.as_ref().ok()?.field.find(key?));
    let key_of =
        move |cell: Cell| picture.with_untracked(|picture| picture.as_ref().ok()?.field.key(cell));
    let key_at = move |x: i32, y: i32| {
        let rect = canvas.get_untracked()?.get_bounding_client_rect();
        let (x, y) = (f64::from(x) - rect.left(), f64::from(y) - rect.top());
        let plot = plot.get_untracked()?;
        let (row, column) = plot.as_ref().as_ref().ok()?.cell_at(x, y)?;
        key_of(Cell { row, column })
    };
    let pointed = move |event: ev::PointerEvent| {
        if event.pointer_type() != "touch" {
            cursor.point_at(key_at(event.client_x(), event.client_y()));
        }
    };
    let left = move |event: ev::PointerEvent| {
        if event.pointer_type() != "touch" {
            cursor.point_at(None);
        }
    };
    let clicked = move |event: ev::MouseEvent| {
        let key = key_at(event.client_x(), event.client_y());
        if is_touch.get_value() {
            let is_held = untrack(|| cursor.held()) == key;
            cursor.point_at(key.filter(|_| !is_held));
        }
        cursor.toggle(key);
    };

    // Everything above the canvas is placed by these; the canvas stays as it is.
    let area = move |cell: Option<Cell>| {
        let Cell { row, column } = cell?;
        with_plot(&|plot| Some(plot.on_page(plot.figure.layout().cell(row, column)?)))
    };
    let hovered = Memo::new(move |_| cell_of(cursor.hovered()));
    let held = Memo::new(move |_| cell_of(cursor.held()));
    let active = Memo::new(move |_| cell_of(cursor.active()));
    let size = move || {
        let size = with_plot(&|plot| Some([plot.size().0, plot.size().1, 0.0, 0.0]));
        size.unwrap_or_default()
    };
    // Where a cell is in the window.
    let in_window = move |cell: Option<Cell>| {
        let ([x, y, w, h], canvas) = (area(cell)?, canvas.get()?);
        let rect = canvas.get_bounding_client_rect();
        Some([rect.left() + x, rect.top() + size()[2] + y, w, h])
    };
    let key = move |event: ev::KeyboardEvent| {
        if event.alt_key() || event.ctrl_key() || event.meta_key() {
            return;
        }
        match (event.key().as_str(), Step::of_key(&event.key())) {
            ("Enter" | " ", _) => cursor.toggle(untrack(|| cursor.active())),
            ("Escape", _) => {
                cursor.point_at(None);
                cursor.hold(None);
            }
            (_, Some(step)) => {
                let options = options.get_untracked();
                let Ok(picture) = picture.get_untracked() else { return };
                let Picture { field, columns } = &*picture;
                let (from, is_held) = untrack(|| (active.get(), held.get().is_some()));
                let to = steps::step(from, step, field.rows.len(), columns, &options);
                let key = to.and_then(key_of);
                cursor.point_at(key);
                if is_held {
                    cursor.hold(key);
                }
                if let (Some(scroll), Some(cell)) =
                    (scroll.get_untracked(), untrack(|| in_window(to)))
                {
                    dom::reveal(&scroll, cell);
                }
            }
            _ => return,
        }
        event.prevent_default();
    };

    let whole = move || with_plot(&|plot| Some(plot.on_page(plot.figure.layout().plot())));
    let place = move |rect: Option<Rect>| match rect {
        Some([x, y, w, h]) => {
            format!("transform:translate({x}px,{y}px);width:{w}px;height:{h}px")
        }
        None => "display:none".to_string(),
    };
    let row = move || {
        let ([_, y, _, h], [x, _, w, _]) = (area(active.get())?, whole()?);
        Some([x, y, w, h])
    };
    let column = move || {
        let ([x, _, w, _], [_, y, _, h]) = (area(active.get())?, whole()?);
        Some([x, y, w, h])
    };
    let sized = move || {
        let [width, height, ..] = size();
        format!("width:{width}px;height:{height}px")
    };
    let readout = Memo::new(move |_| {
        // Filled in, a cell has another value.
        picture.track();
        read.run(cursor.active()?)
    });
    let tip_style = move || {
        moved.track();
        let cell = in_window(hovered.get());
        let (Some(cell), Some(scroll), Some(tip)) = (cell, scroll.get(), tip.get()) else {
            return HIDDEN.to_string();
        };
        let box_ = scroll.get_bounding_client_rect();
        let tip: &HtmlElement = &tip;
        let height = f64::from(tip.offset_height());
        style(Place {
            cell,
            shown: (box_.left(), box_.right()),
            window: dom::window_size(),
            height,
        })
    };
    let tip_readout = Signal::derive(move || hovered.get().and_then(|_| readout.get()));
    let spoken = move || readout.get().map(|readout| readout.sentence());
    let label = move || {
        let size = picture.with(|picture| {
            let field = &picture.as_ref().ok()?.field;
            Some(format!(" of {} by {}", field.rows.count(), field.columns.count()))
        });
        let size = size.unwrap_or_default();
        format!("Heatmap{size}. Arrow keys move, Enter pins, Escape clears.")
    };
    view! {
        <div class="heatmap" node_ref=outer>
            {dynamic(move || problem.get().map(|text| view! { <p class="problem" role="alert">{sentence(&text)}</p> }))}
            <div
                class="heatmap-scroll"
                class:hidden=move || problem.get().is_some()
                node_ref=scroll
                on:scroll=move |_| shifted()
            >
                <div
                    class="stage"
                    style=sized
                    tabindex="0"
                    role="application"
                    aria-label=label
                    node_ref=stage
                    on:pointermove=pointed
                    on:pointerleave=left
                    on:click=clicked
                    on:keydown=key
                >
                    <canvas node_ref=canvas style=sized></canvas>
                    {dynamic(move || dotted.get().into_iter().map(|cell| view! {
                        <i class="cell-dot" style=move || place(area(Some(cell)))></i>
                    }).collect_view())}
                    <div class="band" style=move || place(row())></div>
                    <div class="band" style=move || place(column())></div>
                    <div class="cell-pin" style=move || place(area(held.get()))></div>
                    <div class="cell-hover" style=move || place(area(hovered.get()))></div>
                </div>
            </div>
            <div class="tooltip" node_ref=tip style=tip_style>
                {dynamic(move || tip_readout.get().map(tooltip))}
            </div>
            <p class="spoken" aria-live="polite">{spoken}</p>
        </div>
    }
}
