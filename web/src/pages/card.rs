//! An experiment in a list.

use leptos::prelude::*;
use shared::document::{site_name, title};
use shared::figure::colour::{MISSING, Preset, colour_at};
use shared::wire::address::{Address, Page, Source};
use shared::wire::gallery::{Entry, Thumb};
use shared::wire::numbers;

use crate::data::server::Server;
use crate::map::pixels;
use crate::navigation::viewer::Viewer;

/// Changes what is picked.
pub fn pick(viewer: Viewer, change: impl FnOnce(&mut Vec<Source>)) {
    viewer.amend(|address| {
        if let Page::Index(filter) = &mut address.page {
            change(&mut filter.picked);
        }
    });
}

/// The card.
#[component]
pub fn Card(
    entry: Entry,
    #[prop(into)] picked: Signal<Vec<Source>>,
    /// Whether it is one of the server's.
    is_stored: bool,
) -> impl IntoView {
    let viewer = Viewer::get();
    let address = Address::of(Page::Experiment(Source::Id(entry.id.clone())));
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
    let name = title(&entry.entity);
    let (id, called) = (entry.id.clone(), name.to_string());
    let delete = move |server: Server| {
        let label = format!("Delete {called}");
        let (id, called) = (id.clone(), called.clone());
        let delete = move |_| viewer.delete(server, id.clone(), called.clone(), || {});
        view! {
            <button
                class="quiet"
                aria-label=label
                class:hidden=move || !server.rights.can_change()
                on:click=delete
            >"Delete"</button>
        }
    };
    let ends = format!(
        "source {} · base {}",
        numbers::logit_diff(entry.source),
        numbers::logit_diff(entry.base)
    );
    view! {
        <li class="card entry">
            <a href=format!("#{}", address.fragment())>
                <img src=picture(&entry.thumb) alt="" />
                <strong dir="auto">{name.to_string()}</strong>
                <span class="facts">{format!("{} · {}", entry.model, site_name(entry.site))}</span>
                <span class="sentence" dir="auto">{entry.source_sentence.clone()}</span>
                <span class="sentence" dir="auto">{entry.base_sentence.clone()}</span>
                <span class="facts">{ends}</span>
            </a>
            <div class="entry-foot">
                <label class="pick">
                    <input type="checkbox" prop:checked=is_picked on:change=tick />
                    "Compare"
                </label>
                {is_stored.then_some(viewer.server).flatten().map(delete)}
            </div>
        </li>
    }
}

/// The address of a small map.
fn picture(thumb: &Thumb) -> String {
    let colour =
        |value: Option<f32>| value.map_or(MISSING, |value| colour_at(Preset::default(), value));
    pixels::address(thumb.width, thumb.pixels().into_iter().map(colour))
}
