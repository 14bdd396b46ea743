//! What can be filled in. Every field writes the address, and a pasted table stays on the page.

use std::iter;

use leptos::ev;
use leptos::prelude::*;
use shared::specification::correspondence::Correspondence;
use shared::specification::pairs::TableColumns;
use shared::specification::pairs::{self, TableFormat};
use shared::specification::settings::Settings;
use shared::specification::template::NO_TEMPLATE;
use shared::specification::vocabulary::{Align, By, Directions, Site, Span, Written};
use shared::wire::address::Page;
use shared::wire::draft::Draft;
use shared::wire::listing::{ModelInfo, ServerInfo};

use crate::navigation::viewer::Viewer;
use crate::platform::dynamic::dynamic;
use crate::widgets::inputs::{self, choice, select};

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

/// What computes a model, where it is not this server's processor.
fn place(model: &ModelInfo) -> Option<String> {
    let ModelInfo { dtype, device, engine, .. } = model;
    (device != "cpu").then(|| format!("Computed in {dtype} on {device} by {engine}."))
}

/// The fields.
#[component]
pub fn Fields(
    draft: Memo<Draft>,
    info: ServerInfo,
    /// What corresponds now, base to source, with which an alignment by hand begins; `None` where that
    /// is not known.
    #[prop(into)]
    corresponds: Callback<(), Option<Correspondence>>,
) -> impl IntoView {
    let viewer = Viewer::get();
    let is_table = Memo::new(move |_| draft.with(|draft| draft.is_table));
    let mode = move |table: bool, name: &'static str| {
        let is_on = Signal::derive(move || is_table.get() == table);
        let choose = move |()| set(viewer, |draft| draft.is_table = table);
        inputs::toggle(name, is_on, Callback::new(choose))
    };
    let places: Vec<_> = info.models.iter().map(|m| (m.name.clone(), place(m))).collect();
    let models = info.models.iter().map(|model| model.name.clone()).collect::<Vec<_>>();
    let first = models.first().cloned().unwrap_or_default();
    let chosen = Memo::new(move |_| {
        let model = draft.with(|draft| draft.model.clone());
        if model.is_empty() { first.clone() } else { model }
    });
    let align = move |align: Align| {
        let now = corresponds.run(());
        set(viewer, |draft| match (align, now) {
            (Align::Hand, Some(now)) => draft.align_by_hand(now),
            (align, _) => (draft.settings.align, draft.by_hand) = (align, None),
        });
    };
    let options = models.into_iter().map(|name| (name.clone(), name)).collect::<Vec<_>>();
    let choose = Callback::new(move |name| set(viewer, |d| d.model = name));
    view! {
            <div class="segments" role="group" aria-label="What to sweep">
                {mode(false, "One pair")}
                {mode(true, "A table")}
            </div>
            {select("Model", "stack", Signal::stored(options), chosen.into(), choose)}
    {dynamic(move || {
                let name = chosen.get();
                let place = places.iter().find(|(known, _)| *known == name)?.1.clone()?;
                Some(view! { <p class="hint">{place}</p> })
            })}
            {dynamic(move || if is_table.get() {
                view! { <TableFields /> }.into_any()
            } else {
                view! { <PairFields draft /> }.into_any()
            })}
            <TemplateField draft info />
            <fieldset>
                <legend>"Answers"</legend>
                <div class="row">
                    {answer(draft, "For", "TRUE", 0)}
                    {answer(draft, "Against", "FALSE", 1)}
                </div>
                {check(draft, "Only as written, not in other case or without the space", |d| {
                    &mut d.settings.exact_answers
                })}
            </fieldset>
            <fieldset>
                <legend>"Sweep"</legend>
                <div class="row" role="group" aria-label="Sites">
                    <span class="hint">"Sites"</span>
                    {Site::ALL.iter().map(|&site| site_box(draft, site)).collect_view()}
                </div>
                <div class="row">
                    {choice("Alignment", Align::ALL, move || draft.get().settings.align, align)}
                    {choice("Direction", Directions::ALL, move || draft.get().settings.direction, move |v| {
                        set(viewer, |d| d.settings.direction = v);
                    })}
                </div>
                <div class="row">
                    {choice("Heads by", By::ALL, move || draft.get().settings.by, move |v| {
                        set(viewer, |d| d.settings.by = v);
                    })}
                    {choice("What is written", Written::ALL, move || draft.get().settings.write, move |v| {
                        set(viewer, |d| d.settings.write = v);
                    })}
                    {number(draft, "Layers at a time", "window", |s| s.window.to_string())}
                </div>
                <div class="row" role="group" aria-label="Positions">
                    <span class="hint">"Positions"</span>
                    {Span::ALL.iter().map(|&span| span_box(draft, span)).collect_view()}
                </div>
                <div class="row">
                    {noise(draft)}
                    {dynamic(move || draft.with(|draft| draft.settings.noise.is_some()).then(|| view! {
                        {number(draft, "Noise scale", "noise_scale", |s| s.noise_scale.to_string())}
                        {number(draft, "Noise seeds", "noise_seeds", |s| s.noise_seeds.to_string())}
                    }))}
                </div>
                <div class="row">
                    {number(draft, "Top tokens", "top", |s| s.top.to_string())}
                    {number(draft, "Cells to verify", "verify", |s| s.verify.to_string())}
                </div>
                {check(draft, "Read probabilities and the top tokens at every cell", |d| {
                    &mut d.settings.readout
                })}
                {check(draft, "Logit lens of both unpatched runs", |d| &mut d.settings.lens)}
            </fieldset>
        }
}

#[component]
fn PairFields(draft: Memo<Draft>) -> impl IntoView {
    view! {
        {text(draft, "Entity", "may be empty", false, |d| &mut d.entity)}
        {text(draft, "Source sentence", "The sentence whose activations are patched in", true, |d| {
            &mut d.source
        })}
        {text(draft, "Base sentence", "The sentence that receives them", true, |d| &mut d.base)}
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
        draft.with(|draft| match &*draft.settings.template {
            NO_TEMPLATE => NO_TEMPLATE.to_string(),
            name if text_of(name).is_some() => name.to_string(),
            _ => OWN.to_string(),
        })
    });
    let choose = Callback::new(move |value: String| {
        set(viewer, |draft| {
            draft.settings.template = match &*value {
                // One's own begins with what was there.
                OWN => {
                    text_of(&draft.settings.template).unwrap_or_else(|| "{sentence}".to_string())
                }
                name => name.to_string(),
            };
        });
    });
    let mut words: Vec<(String, String)> = shipped.with_value(|all| {
        all.iter().map(|template| (template.name.clone(), template.name.clone())).collect()
    });
    words.push((NO_TEMPLATE.into(), "none: the sentences are full prompts".into()));
    words.push((OWN.into(), "your own…".into()));
    let is_own = Memo::new(move |_| word.get() == OWN);
    view! {
        {select("Template", "stack", Signal::stored(words), word.into(), choose)}
        {dynamic(move || if is_own.get() {
            let hint = "with {sentence}, and {entity} or any column";
            text(draft, "Template’s text", hint, true, |d| &mut d.settings.template)
        } else {
            view! { <p class="hint template">{text_of(&word.get())}</p> }.into_any()
        })}
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
    let accept = ".tsv,.tab,.txt,.csv,.jsonl,.ndjson";
    let formats = [
        (TableFormat::Tsv, "tsv", "TSV: tabs"),
        (TableFormat::Csv, "csv", "CSV: commas"),
        (TableFormat::JsonLines, "jsonl", "JSON Lines"),
    ];
    let format = Signal::derive(move || {
        let now = table.with(|table| table.format);
        let found = formats.iter().find(|(format, ..)| *format == now);
        found.map(|(_, word, _)| word.to_string()).unwrap_or_default()
    });
    let choose_format = Callback::new(move |value: String| {
        if let Some((format, ..)) = formats.iter().find(|(_, word, _)| *word == value) {
            table.update(|table| table.format = *format);
        }
    });
    let format_options: Vec<_> =
        formats.iter().map(|(_, word, label)| (word.to_string(), label.to_string())).collect();
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
        let options = Signal::derive(move || {
            let named = names.get().into_iter().map(|name| (name.clone(), name));
            iter::once((String::new(), "as named".to_string())).chain(named).collect()
        });
        let choose = Callback::new(move |value: String| {
            let value = Some(value).filter(|value| !value.is_empty());
            table.update(|table| *of(&mut table.columns) = value);
        });
        select(label, "field", options, now.into(), choose)
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
            {inputs::files("Choose a table…", accept, false, move |files| viewer.open(files))}
            <span class="hint">{dynamic(move || table.with(|table| table.name.clone()))}</span>
        </div>
        <fieldset>
            <legend>"How it is read"</legend>
            <div class="row">
                {select("Format", "field", Signal::stored(format_options), format, choose_format)}
                {column("Entity", |columns| &mut columns.entity)}
                {column("Source", |columns| &mut columns.source)}
                {column("Base", |columns| &mut columns.base)}
            </div>
        </fieldset>
    }
}

/// A text of the draft, of one line or of several.
fn text(
    draft: Memo<Draft>,
    name: &'static str,
    placeholder: &'static str,
    is_long: bool,
    field: fn(&mut Draft) -> &mut String,
) -> AnyView {
    let viewer = Viewer::get();
    let now = Signal::derive(move || field(&mut draft.get()).clone());
    let typed = Callback::new(move |text| set(viewer, |d| *field(d) = text));
    inputs::text(name, placeholder, is_long, now, typed)
}

/// Whether a site is patched.
fn site_box(draft: Memo<Draft>, site: Site) -> AnyView {
    let viewer = Viewer::get();
    let now = Signal::derive(move || draft.with(|d| d.settings.sites.items().contains(&site)));
    let choose = move |is_in| set(viewer, |d| d.settings.sites.set(site, is_in));
    inputs::check(site.name(), now, Callback::new(choose))
}

/// Whether a set of positions is patched. Each by itself goes with no set.
fn span_box(draft: Memo<Draft>, span: Span) -> AnyView {
    let viewer = Viewer::get();
    let now = Signal::derive(move || draft.with(|d| d.settings.positions.items().contains(&span)));
    let choose = move |is_in| {
        set(viewer, |draft| {
            let positions = &mut draft.settings.positions;
            let is_other = span == Span::Each || positions.only() == Some(Span::Each);
            match is_in && is_other {
                true => *positions = span.into(),
                false => positions.set(span, is_in),
            }
        });
    };
    inputs::check(span.name(), now, Callback::new(choose))
}

/// A setting that is a number; what is none is left out.
fn number(
    draft: Memo<Draft>,
    label: &'static str,
    name: &'static str,
    now: fn(&Settings) -> String,
) -> AnyView {
    let viewer = Viewer::get();
    let now = Signal::derive(move || draft.with(|draft| now(&draft.settings)));
    let typed = move |text: String| set(viewer, |draft| drop(draft.settings.set(name, &text)));
    inputs::text(label, "", false, now, Callback::new(typed))
}

/// What noise falls on, for causal tracing.
fn noise(draft: Memo<Draft>) -> AnyView {
    let viewer = Viewer::get();
    let word = |span: Option<Span>| span.map_or("none", Span::name).to_string();
    let spans = Span::ALL.iter().filter(|span| **span != Span::Each).map(|span| Some(*span));
    let options: Vec<_> =
        iter::once(None).chain(spans).map(word).map(|word| (word.clone(), word)).collect();
    let now = Signal::derive(move || word(draft.with(|draft| draft.settings.noise)));
    let choose = move |word: String| {
        set(viewer, |draft| {
            let plain = Settings::default();
            let settings = &mut draft.settings;
            settings.noise = word.parse().ok();
            if settings.noise.is_none() {
                settings.noise_scale = plain.noise_scale;
                settings.noise_seeds = plain.noise_seeds;
            }
        });
    };
    select("Noise on", "field", Signal::stored(options), now, Callback::new(choose))
}

/// One of the two answers.
fn answer(
    draft: Memo<Draft>,
    name: &'static str,
    placeholder: &'static str,
    which: usize,
) -> AnyView {
    let viewer = Viewer::get();
    let now = Signal::derive(move || draft.get().answers().0[which].clone());
    let typed = Callback::new(move |text| {
        set(viewer, |draft| {
            let mut answers = draft.answers();
            answers.0[which] = text;
            draft.set_answers(answers);
        });
    });
    inputs::text(name, placeholder, false, now, typed)
}

fn check(draft: Memo<Draft>, name: &'static str, field: fn(&mut Draft) -> &mut bool) -> AnyView {
    let viewer = Viewer::get();
    let now = Signal::derive(move || *field(&mut draft.get()));
    inputs::check(name, now, Callback::new(move |on| set(viewer, |d| *field(d) = on)))
}
