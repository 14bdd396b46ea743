//! What can be filled in. Every field writes the address, and a pasted table stays on the page.

use leptos::ev;
use leptos::prelude::*;
use shared::address::Page;
use shared::draft::Draft;
use shared::job::TableColumns;
use shared::listing::ServerInfo;
use shared::pairs::{self, TableFormat};
use shared::template::NO_TEMPLATE;
use shared::vocabulary::{Align, Direction, Site};
use wasm_bindgen::JsCast;
use web_sys::HtmlInputElement;

use crate::app::Viewer;
use crate::controls::choice;

/// The word of the select that stands for a template of the reader's own.
const OWN: &str = "own";

/// Changes the draft in the address.
fn set(viewer: Viewer, change: impl FnOnce(&mut Draft)) {
    viewer.amend(|address| {
        if let Page::New(draft) = &mut address.page {
            change(draft);
        }
    });
}

/// The fields.
#[component]
pub fn Fields(draft: Memo<Draft>, info: ServerInfo) -> impl IntoView {
    let viewer = Viewer::get();
    let is_table = Memo::new(move |_| draft.with(|draft| draft.is_table));
    let mode = move |table: bool, name: &'static str| {
        view! {
            <button
                type="button"
                aria-pressed=move || (is_table.get() == table).to_string()
                on:click=move |_| set(viewer, |draft| draft.is_table = table)
            >{name}</button>
        }
    };
    let models = info.models.iter().map(|model| model.name.clone()).collect::<Vec<_>>();
    let first = models.first().cloned().unwrap_or_default();
    let chosen = Memo::new(move |_| {
        let model = draft.with(|draft| draft.model.clone());
        if model.is_empty() { first.clone() } else { model }
    });
    let options = models.into_iter().map(|name| {
        let own = name.clone();
        view! {
            <option value=name.clone() selected=move || chosen.get() == own>{name.clone()}</option>
        }
    });
    view! {
        <div class="segments" role="group" aria-label="What to sweep">
            {mode(false, "One pair")}
            {mode(true, "A table")}
        </div>
        <label class="stack">
            <span>"Model"</span>
            <select
                prop:value=move || chosen.get()
                on:change=move |e| set(viewer, |d| d.model = event_target_value(&e))
            >{options.collect_view()}</select>
        </label>
        {move || if is_table.get() {
            view! { <TableFields /> }.into_any()
        } else {
            view! { <PairFields draft /> }.into_any()
        }}
        <TemplateField draft info />
        <fieldset>
            <legend>"Answers"</legend>
            <div class="row">
                {text(draft, "For", "TRUE", |d| &mut d.answers[0])}
                {text(draft, "Against", "FALSE", |d| &mut d.answers[1])}
            </div>
            {check(draft, "Only as written, not in other case or without the space", |d| {
                &mut d.exact_answers
            })}
        </fieldset>
        <fieldset>
            <legend>"Sweep"</legend>
            <div class="row">
                {choice("Site", Site::ALL, move || draft.get().site, move |v| {
                    set(viewer, |d| d.site = v);
                })}
                {choice("Alignment", Align::ALL, move || draft.get().align, move |v| {
                    set(viewer, |d| d.align = v);
                })}
                {choice("Direction", Direction::ALL, move || draft.get().direction, move |v| {
                    set(viewer, |d| d.direction = v);
                })}
            </div>
            {check(draft, "Read probabilities and the top token at every cell", |d| &mut d.readout)}
        </fieldset>
    }
}

#[component]
fn PairFields(draft: Memo<Draft>) -> impl IntoView {
    view! {
        {text(draft, "Entity", "may be empty", |d| &mut d.entity)}
        {long(draft, "Source sentence", "The sentence whose activations are patched in", |d| {
            &mut d.source
        })}
        {long(draft, "Base sentence", "The sentence that receives them", |d| &mut d.base)}
    }
}

#[component]
fn TemplateField(draft: Memo<Draft>, info: ServerInfo) -> impl IntoView {
    let viewer = Viewer::get();
    let shipped = StoredValue::new(info.templates);
    let text_of = move |name: &str| {
        shipped.with_value(|all| all.iter().find(|t| t.name == name).map(|t| t.text.clone()))
    };
    let word = Memo::new(move |_| {
        draft.with(|draft| match &*draft.template {
            NO_TEMPLATE => NO_TEMPLATE.to_string(),
            name if text_of(name).is_some() => name.to_string(),
            _ => OWN.to_string(),
        })
    });
    let chosen = move |event: ev::Event| {
        let value = event_target_value(&event);
        set(viewer, |draft| {
            draft.template = match &*value {
                // One's own begins with what was there.
                OWN => text_of(&draft.template).unwrap_or_else(|| "{sentence}".to_string()),
                name => name.to_string(),
            };
        });
    };
    let mut words: Vec<(String, String)> = shipped.with_value(|all| {
        all.iter().map(|template| (template.name.clone(), template.name.clone())).collect()
    });
    words.push((NO_TEMPLATE.into(), "none: the sentences are full prompts".into()));
    words.push((OWN.into(), "your own…".into()));
    let options = words.into_iter().map(|(name, label)| {
        let own = name.clone();
        view! { <option value=name selected=move || word.get() == own>{label}</option> }
    });
    let is_own = Memo::new(move |_| word.get() == OWN);
    view! {
        <label class="stack">
            <span>"Template"</span>
            <select prop:value=move || word.get() on:change=chosen>{options.collect_view()}</select>
        </label>
        {move || if is_own.get() {
            long(draft, "Template’s text", "with {sentence}, and {entity} or any column", |d| {
                &mut d.template
            })
            .into_any()
        } else {
            view! { <p class="hint template">{text_of(&word.get())}</p> }.into_any()
        }}
    }
}

#[component]
fn TableFields() -> impl IntoView {
    let viewer = Viewer::get();
    let table = viewer.table;
    let typed = move |event: ev::Event| {
        let text = event_target_value(&event);
        table.update(|table| {
            // A table that is pasted in place of another tells anew how it is written.
            if table.text.is_empty() || text.lines().next() != table.text.lines().next() {
                table.format = pairs::glance(&text).0;
            }
            table.text = text;
        });
    };
    let picked = move |event: ev::Event| {
        let input = event.target().and_then(|t| t.dyn_into::<HtmlInputElement>().ok());
        if let Some(input) = input {
            viewer.open(input.files());
            input.set_value("");
        }
    };
    let formats = [
        (TableFormat::Tsv, "tsv", "TSV: tabs"),
        (TableFormat::Csv, "csv", "CSV: commas"),
        (TableFormat::JsonLines, "jsonl", "JSON Lines"),
    ];
    let format_chosen = move |event: ev::Event| {
        let value = event_target_value(&event);
        if let Some((format, ..)) = formats.iter().find(|(_, word, _)| *word == value) {
            table.update(|table| table.format = *format);
        }
    };
    let format = Memo::new(move |_| table.with(|table| table.format));
    let names = Memo::new(move |_| {
        table.with(|table| {
            let head = table.text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
            pairs::names(head, table.format)
        })
    });
    let column = move |label: &'static str, of: fn(&mut TableColumns) -> &mut Option<String>| {
        let now = Memo::new(move |_| {
            of(&mut table.with(|table| table.columns.clone())).clone().unwrap_or_default()
        });
        let chosen = move |event: ev::Event| {
            let value = Some(event_target_value(&event)).filter(|value| !value.is_empty());
            table.update(|table| *of(&mut table.columns) = value);
        };
        view! {
            <label class="field">
                <span>{label}</span>
                <select prop:value=move || now.get() on:change=chosen>
                    <option value="">"as named"</option>
                    {move || names.get().into_iter().map(|name| {
                        let selected = name == now.get();
                        view! { <option value=name.clone() selected=selected>{name.clone()}</option> }
                    }).collect_view()}
                </select>
            </label>
        }
    };
    view! {
        <label class="stack">
            <span>"Table: a header, and a pair a row"</span>
            <textarea
                class="table-text"
                rows="8"
                spellcheck="false"
                placeholder="name\tpower\tno_power"
                prop:value=move || table.with(|table| table.text.clone())
                on:input=typed
            ></textarea>
        </label>
        <div class="row">
            <label class="button">
                "Choose a table…"
                <input type="file" accept=".tsv,.tab,.txt,.csv,.jsonl,.ndjson" on:change=picked />
            </label>
            <span class="hint">{move || table.with(|table| table.name.clone())}</span>
        </div>
        <fieldset>
            <legend>"How it is read"</legend>
            <div class="row">
                <label class="field">
                    <span>"Format"</span>
                    <select on:change=format_chosen>
                        {formats.map(|(value, word, label)| view! {
                            <option value=word selected=move || format.get() == value>{label}</option>
                        }).collect_view()}
                    </select>
                </label>
                {column("Entity", |columns| &mut columns.entity)}
                {column("Source", |columns| &mut columns.source)}
                {column("Base", |columns| &mut columns.base)}
            </div>
        </fieldset>
    }
}

fn text(
    draft: Memo<Draft>,
    label: &'static str,
    placeholder: &'static str,
    field: fn(&mut Draft) -> &mut String,
) -> impl IntoView {
    let viewer = Viewer::get();
    view! {
        <label class="stack">
            <span>{label}</span>
            <input
                type="text"
                autocomplete="off"
                placeholder=placeholder
                prop:value=move || field(&mut draft.get()).clone()
                on:input=move |e| set(viewer, |d| *field(d) = event_target_value(&e))
            />
        </label>
    }
}

fn long(
    draft: Memo<Draft>,
    label: &'static str,
    placeholder: &'static str,
    field: fn(&mut Draft) -> &mut String,
) -> impl IntoView {
    let viewer = Viewer::get();
    view! {
        <label class="stack">
            <span>{label}</span>
            <textarea
                rows="3"
                placeholder=placeholder
                prop:value=move || field(&mut draft.get()).clone()
                on:input=move |e| set(viewer, |d| *field(d) = event_target_value(&e))
            ></textarea>
        </label>
    }
}

fn check(
    draft: Memo<Draft>,
    label: &'static str,
    field: fn(&mut Draft) -> &mut bool,
) -> impl IntoView {
    let viewer = Viewer::get();
    view! {
        <label class="check">
            <input
                type="checkbox"
                prop:checked=move || *field(&mut draft.get())
                on:change=move |e| set(viewer, |d| *field(d) = event_target_checked(&e))
            />
            {label}
        </label>
    }
}
