//! All experiments, and a welcome where there are none.

use std::collections::BTreeSet;

use leptos::html;
use leptos::prelude::*;
use leptos::task::spawn_local;
use shared::address::{Address, Filter, Page, Sort, Source};
use shared::colour::{MISSING, Preset, colour_at};
use shared::gallery::{Entry, Gallery, Thumb};
use shared::metric::Metric;
use shared::numbers;
use wasm_bindgen::{Clamped, JsCast};
use web_sys::{CanvasRenderingContext2d, ImageData};

use crate::app::{OpenButton, Viewer};
use crate::source;

/// How many experiments are put on the page at a time.
const BATCH: usize = 60;

/// The page of all experiments.
#[component]
pub fn IndexPage() -> impl IntoView {
    let viewer = Viewer::get();
    let listed = RwSignal::new(None::<Gallery>);
    spawn_local(async move {
        let gallery = if viewer.is_complete() { Ok(None) } else { source::gallery().await };
        let gallery = gallery.unwrap_or_else(|error| {
            viewer.tell(source::sentence(&error));
            None
        });
        listed.try_set(Some(gallery.unwrap_or_else(|| Gallery::of([]))));
    });
    let gallery = Memo::new(move |_| {
        let mut gallery = listed.get()?;
        viewer.documents.with(|documents| {
            for document in documents.values() {
                if gallery.experiments.iter().all(|entry| entry.id != document.id) {
                    gallery.experiments.push(Entry::of(document));
                }
            }
        });
        Some(gallery)
    });
    let filter = Memo::new(move |_| match viewer.address.with(|a| a.page.clone()) {
        Page::Index(filter) => filter,
        _ => Filter::default(),
    });
    let chosen = Memo::new(move |_| {
        gallery.with(|g| g.as_ref().map(|g| g.select(&filter.get()))).unwrap_or_default()
    });
    let n_shown = RwSignal::new(BATCH);
    Effect::new(move || {
        filter.track();
        n_shown.set(BATCH);
    });
    let picked = Memo::new(move |_| filter.get().picked);
    let shown = Memo::new(move |_| {
        chosen.with(|chosen| chosen.iter().copied().take(n_shown.get()).collect::<Vec<_>>())
    });
    move || {
        match gallery.with(|g| g.as_ref().map(|g| g.experiments.len())) {
        None => view! { <p class="loading" role="status">"Loading…"</p> }.into_any(),
        Some(0) => view! { <Welcome /> }.into_any(),
        Some(total) => view! {
            <article>
                <div class="title-row">
                    <h1>"Experiments"</h1>
                    <p class="count" role="status">
                        {move || format!("{} of {total}", chosen.with(Vec::len))}
                    </p>
                </div>
                <Filters gallery filter />
                <ul class="cards">
                    <For each=move || shown.get() key=|i| *i children=move |i| {
                        let entry = gallery.with_untracked(|g| g.as_ref()?.experiments.get(i).cloned());
                        entry.map(|entry| view! { <Card entry picked=picked /> })
                    } />
                </ul>
                <button
                    class="more"
                    class:hidden=move || chosen.with(Vec::len) <= n_shown.get()
                    on:click=move |_| n_shown.update(|n| *n += 4 * BATCH)
                >"Show more"</button>
                <PickedBar picked />
            </article>
        }
        .into_any(),
    }
    }
}

/// What becomes of the experiments that were picked.
#[component]
fn PickedBar(#[prop(into)] picked: Signal<Vec<Source>>) -> impl IntoView {
    let viewer = Viewer::get();
    let n = move || picked.with(Vec::len);
    let compare = move |_| viewer.go(Address::of(Page::Compare(picked.get_untracked())));
    let clear = move |_| pick(viewer, Vec::clear);
    view! {
        <div class="picked-bar card" class:hidden=move || n() == 0>
            <span role="status">{move || match n() {
                1 => "1 picked: pick another to compare".to_string(),
                n => format!("{n} picked"),
            }}</span>
            <button class="primary" disabled=move || n() < 2 on:click=compare>"Compare"</button>
            <button class="quiet" on:click=clear>"Clear"</button>
        </div>
    }
}

/// Changes what is picked.
fn pick(viewer: Viewer, change: impl FnOnce(&mut Vec<Source>)) {
    viewer.amend(|address| {
        if let Page::Index(filter) = &mut address.page {
            change(&mut filter.picked);
        }
    });
}

#[component]
fn Filters(
    #[prop(into)] gallery: Signal<Option<Gallery>>,
    #[prop(into)] filter: Signal<Filter>,
) -> impl IntoView {
    let viewer = Viewer::get();
    let change = move |change: &dyn Fn(&mut Filter)| {
        viewer.amend(|address| {
            if let Page::Index(filter) = &mut address.page {
                change(filter);
            }
        });
    };
    let values = move |of: fn(&Entry) -> String| {
        let entries = gallery.get().map(|g| g.experiments).unwrap_or_default();
        entries.iter().map(of).filter(|v| !v.is_empty()).collect::<BTreeSet<_>>()
    };
    let select = move |name: &'static str,
                       of: fn(&Entry) -> String,
                       field: fn(&mut Filter) -> &mut String| {
        let now = move || field(&mut filter.get()).clone();
        view! {
            <label class="field">
                <span>{name}</span>
                <select
                    prop:value=now
                    on:change=move |e| change(&|f| *field(f) = event_target_value(&e))
                >
                    <option value="">"All"</option>
                    {move || values(of).into_iter().map(|value| {
                        let selected = value == now();
                        view! { <option value=value.clone() selected=selected>{value.clone()}</option> }
                    }).collect_view()}
                </select>
            </label>
        }
    };
    let sorted = move |event: leptos::ev::Event| {
        if let Ok(sort) = event_target_value(&event).parse::<Sort>() {
            change(&|filter| filter.sort = sort);
        }
    };
    view! {
        <div class="controls" role="search">
            <label class="field wide">
                <span>"Search"</span>
                <input
                    type="search"
                    id="search"
                    prop:value=move || filter.get().text
                    on:input=move |e| change(&|f| f.text = event_target_value(&e))
                />
            </label>
            {select("Model", |e| e.model.clone(), |f| &mut f.model)}
            {select("Entity", |e| e.entity.clone(), |f| &mut f.entity)}
            {select("Site", |e| e.site.to_string(), |f| &mut f.site)}
            <label class="field">
                <span>"Order"</span>
                <select prop:value=move || filter.get().sort.name() on:change=sorted>
                    {Sort::ALL.iter().map(|s| view! {
                        <option value=s.name() selected=filter.get_untracked().sort == *s>{s.name()}</option>
                    }).collect_view()}
                </select>
            </label>
        </div>
    }
}

#[component]
fn Card(entry: Entry, #[prop(into)] picked: Signal<Vec<Source>>) -> impl IntoView {
    let viewer = Viewer::get();
    let address = Address::of(Page::Experiment(Source::Id(entry.id.clone())));
    let canvas = NodeRef::<html::Canvas>::new();
    let thumb = entry.thumb.clone();
    Effect::new(move || {
        if let Some(canvas) = canvas.get() {
            draw(&canvas, &thumb);
        }
    });
    let source = Source::Id(entry.id.clone());
    let ticked = source.clone();
    let is_picked = move || picked.with(|picked| picked.contains(&ticked));
    let tick = move |event: leptos::ev::Event| {
        let is_picked = event_target_checked(&event);
        pick(viewer, |picked| {
            picked.retain(|other| *other != source);
            if is_picked {
                picked.push(source.clone());
            }
        });
    };
    let name = if entry.entity.is_empty() { "Activation patching" } else { &*entry.entity };
    let ends = format!(
        "source {} · base {}",
        numbers::value(Metric::LogitDiff, entry.source),
        numbers::value(Metric::LogitDiff, entry.base)
    );
    view! {
        <li class="card entry">
            <a href=format!("#{}", address.fragment())>
                <canvas node_ref=canvas aria-hidden="true"></canvas>
                <strong>{name.to_string()}</strong>
                <span class="facts">{format!("{} · {}", entry.model, entry.site)}</span>
                <span class="sentence">{entry.source_sentence.clone()}</span>
                <span class="sentence">{entry.base_sentence.clone()}</span>
                <span class="facts">{ends}</span>
            </a>
            <label class="pick">
                <input type="checkbox" prop:checked=is_picked on:change=tick />
                "Compare"
            </label>
        </li>
    }
}

/// A pixel of the canvas per pixel of the picture; the style makes them large.
fn draw(canvas: &web_sys::HtmlCanvasElement, thumb: &Thumb) {
    let pixels = thumb.pixels();
    let bytes: Vec<u8> = pixels
        .into_iter()
        .flat_map(|value| {
            let colour = value.map_or(MISSING, |value| colour_at(Preset::default(), value));
            [colour.0, colour.1, colour.2, 255]
        })
        .collect();
    canvas.set_width(thumb.width as u32);
    canvas.set_height(thumb.height as u32);
    let context = canvas.get_context("2d").ok().flatten();
    let context = context.and_then(|c| c.dyn_into::<CanvasRenderingContext2d>().ok());
    let image = ImageData::new_with_u8_clamped_array(Clamped(&bytes), thumb.width as u32);
    if let (Some(context), Ok(image)) = (context, image) {
        context.put_image_data(&image, 0.0, 0.0).ok();
    }
}

#[component]
fn Welcome() -> impl IntoView {
    view! {
        <section class="card welcome">
            <h1>"Activation patching, cell by cell"</h1>
            <p>
                "Open a result document, or drop one here: Patchboard’s own, or the notebook’s "
                <code>"patching_results.json"</code>
                ". It is read in this page and sent nowhere."
            </p>
            <OpenButton />
        </section>
    }
}
