//! Inputs with their labels.

use std::fmt::Display;
use std::str::FromStr;

use leptos::prelude::*;
use web_sys::{FileList, HtmlInputElement};

/// A choice among texts, each with what is said of it.
pub fn select(
    name: &'static str,
    class: &'static str,
    options: Signal<Vec<(String, String)>>,
    now: Signal<String>,
    choose: Callback<String>,
) -> AnyView {
    let options = move || {
        let option = |(value, label): (String, String)| {
            let own = value.clone();
            view! { <option value=value selected=move || now.with(|now| *now == own)>{label}</option> }
        };
        options.get().into_iter().map(option).collect_view()
    };
    view! {
        <label class=class>
            <span>{name}</span>
            <select
                prop:value=move || now.get()
                on:change=move |event| choose.run(event_target_value(&event))
            >{options}</select>
        </label>
    }
    .into_any()
}

/// A choice among words of the program.
pub fn choice<T: FromStr + Display + Copy + Send + Sync + 'static>(
    name: &'static str,
    all: &'static [T],
    now: impl Fn() -> T + Send + Sync + 'static,
    choose: impl Fn(T) + Send + Sync + 'static,
) -> AnyView {
    let options: Vec<_> = all.iter().map(|value| (value.to_string(), value.to_string())).collect();
    let choose = Callback::new(move |word: String| {
        if let Ok(value) = word.parse() {
            choose(value);
        }
    });
    select(
        name,
        "field",
        Signal::stored(options),
        Signal::derive(move || now().to_string()),
        choose,
    )
}

/// A text of one line, or of several.
pub fn text(
    name: &'static str,
    placeholder: &'static str,
    is_long: bool,
    now: Signal<String>,
    typed: Callback<String>,
) -> AnyView {
    let on_input = move |event| typed.run(event_target_value(&event));
    let input = if is_long {
        view! {
            <textarea
                rows="3"
                placeholder=placeholder
                prop:value=move || now.get()
                on:input=on_input
            ></textarea>
        }
        .into_any()
    } else {
        view! {
            <input
                type="text"
                autocomplete="off"
                placeholder=placeholder
                prop:value=move || now.get()
                on:input=on_input
            />
        }
        .into_any()
    };
    view! { <label class="stack"><span>{name}</span>{input}</label> }.into_any()
}

/// A button that stays pressed, one of a group of which one is.
pub fn toggle(name: &'static str, is_on: Signal<bool>, choose: Callback<()>) -> AnyView {
    view! {
        <button
            type="button"
            aria-pressed=move || is_on.get().to_string()
            on:click=move |_| choose.run(())
        >{name}</button>
    }
    .into_any()
}

/// Yes or no.
pub fn check(name: &'static str, now: Signal<bool>, choose: Callback<bool>) -> AnyView {
    view! {
        <label class="check">
            <input
                type="checkbox"
                prop:checked=move || now.get()
                on:change=move |event| {
                    choose.run(event_target_checked(&event));
                    // What may not be changed stays as it was.
                    event_target::<HtmlInputElement>(&event).set_checked(now.get_untracked());
                }
            />
            {name}
        </label>
    }
    .into_any()
}

/// A button that lets the reader choose files.
pub fn files(
    name: &'static str,
    accept: &'static str,
    multiple: bool,
    chosen: impl Fn(Option<FileList>) + 'static,
) -> AnyView {
    let on_change = move |event| {
        let input = event_target::<HtmlInputElement>(&event);
        chosen(input.files());
        // So that the same file can be chosen again.
        input.set_value("");
    };
    view! {
        <label class="button">
            {name}
            <input type="file" multiple=multiple accept=accept on:change=on_change />
        </label>
    }
    .into_any()
}
