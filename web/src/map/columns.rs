//! Which columns of the grid are shown.

use std::sync::Arc;

use leptos::ev;
use leptos::html;
use leptos::prelude::*;
use shared::document::Document;
use shared::field::axis::{Axis, Coordinate, Mark, n_base};
use shared::figure::{FigureOptions, text};
use shared::specification::positions::Positions;
use wasm_bindgen::JsCast;
use web_sys::Node;

/// A menu of all columns.
#[component]
pub fn ColumnMenu(
    /// The document whose positions are hidden.
    document: Arc<Document>,
    /// Its columns: tokens.
    axis: Axis,
    #[prop(into)] options: Signal<FigureOptions>,
    /// Called with the positions to hide.
    on_hide: impl Fn(Positions) + Copy + Send + Sync + 'static,
) -> impl IntoView {
    let (n_all, n_base) = (axis.len(), n_base(&document));
    let hidden = move || options.with(|options| options.hidden.clone());
    let positions: Vec<_> = axis.marks.iter().map(|mark| position(mark.key, n_base)).collect();
    let known = positions.clone();
    let summary = move || {
        let hidden = hidden();
        let is_hidden = |at: &&Option<usize>| at.is_some_and(|at| hidden.contains(at));
        match known.iter().filter(is_hidden).count() {
            0 => format!("All {n_all} columns"),
            n => format!("{} of {n_all} columns", n_all - n),
        }
    };
    let choices = choices(&document, &axis).into_iter().map(|(name, hidden)| {
        view! { <button on:click=move |_| on_hide(hidden.clone())>{name}</button> }
    });
    let boxes = axis.marks.iter().zip(positions).filter_map(|(mark, position)| {
        let position = position?;
        let label = mark.text.clone();
        let changed = move |event: ev::Event| {
            let mut hidden = hidden();
            hidden.set(position, !event_target_checked(&event));
            on_hide(hidden);
        };
        Some(view! {
            <label class="check">
                <input
                    type="checkbox"
                    prop:checked=move || !hidden().contains(position)
                    on:change=changed
                />
                <span class="position">{position}</span>
                <bdi class="tip-token">{text::token(&label)}</bdi>
            </label>
        })
    });
    let menu = NodeRef::<html::Details>::new();
    let close = move || {
        if let Some(menu) = menu.get_untracked() {
            menu.set_open(false);
        }
    };
    let left = move |event: ev::FocusEvent| {
        let to = event.related_target().and_then(|target| target.dyn_into::<Node>().ok());
        if to.is_some_and(|to| menu.get_untracked().is_some_and(|m| !m.contains(Some(&to)))) {
            close();
        }
    };
    let key = move |event: ev::KeyboardEvent| {
        if event.key() == "Escape" {
            close();
        }
    };
    // A press anywhere else closes the menu, as with the menus of the system.
    let pressed = window_event_listener(ev::pointerdown, move |event| {
        let on = event.target().and_then(|target| target.dyn_into::<Node>().ok());
        if menu.get_untracked().is_some_and(|menu| !menu.contains(on.as_ref())) {
            close();
        }
    });
    on_cleanup(move || pressed.remove());
    view! {
        <details class="menu" node_ref=menu on:focusout=left on:keydown=key>
            <summary class="button">{summary}</summary>
            <div class="menu-panel" role="group" aria-label="Columns">
                <div class="menu-choices">{choices.collect_view()}</div>
                <div class="menu-list">{boxes.collect_view()}</div>
            </div>
        </details>
    }
}

/// The position of the base that a column is, where it is one.
fn position(key: Coordinate, n_base: usize) -> Option<usize> {
    match key.from_start(n_base) {
        Coordinate::Position(at) => Some(at),
        _ => None,
    }
}

/// What can be chosen at once, as the positions that it hides.
fn choices(document: &Document, axis: &Axis) -> Vec<(&'static str, Positions)> {
    let mut choices = vec![("All", Positions::default())];
    let differs = |mark: &Mark| mark.other.is_some() && !mark.is_same;
    let hide = |keep: &dyn Fn(usize, &Mark) -> bool| {
        let hidden = axis.marks.iter().enumerate().filter(|(at, mark)| !keep(*at, mark));
        hidden.filter_map(|(_, mark)| position(mark.key, n_base(document))).collect()
    };
    if axis.len() > document.token_labels.len() {
        let swept = |mark: &Mark| {
            position(mark.key, n_base(document)).is_some_and(|at| at >= document.sentence_start)
        };
        choices.push(("Swept", hide(&|_, mark| swept(mark))));
    }
    if let Some(first) = axis.marks.iter().position(differs) {
        choices.push(("From the first difference", hide(&|at, _| at >= first)));
        choices.push(("Differing tokens", hide(&|_, mark| differs(mark))));
    }
    choices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_keep_what_they_say() {
        let text = r#"{"model":"m","entity":"","source_prompt":"","base_prompt":"",
            "source_sentence":"","base_sentence":"","sentence_start":1,
            "token_labels":[" a"," b"," c"," d"],
            "num_layers":1,"patching_results":[[1.0,1.0,1.0,1.0]],
            "source_tokens":[{"id":0,"text":"x"},{"id":1,"text":"a"},{"id":9,"text":"b"},
                {"id":3,"text":"c"},{"id":8,"text":"d"}],
            "base_tokens":[{"id":0,"text":"x"},{"id":1,"text":"a"},{"id":2,"text":"b"},
                {"id":3,"text":"c"},{"id":4,"text":"d"}]}"#;
        let mut document = Document::read(text.as_bytes()).unwrap().remove(0);
        let written = |document: &Document| {
            let written = choices(document, &Axis::swept(document)).into_iter();
            written.map(|(_, hidden)| hidden.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(written(&document), ["", "1", "1,3"]);
        document.source_tokens.clear();
        assert_eq!(written(&document), [""]);
    }
}
