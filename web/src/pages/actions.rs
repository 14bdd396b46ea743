//! What can be done with an experiment.

use std::sync::Arc;

use leptos::prelude::*;
use leptos::task::spawn_local;
use shared::document::{Document, title};
use shared::figure::FigureOptions;
use shared::wire::address::{Address, Filter, Page, Source};
use shared::wire::draft::Draft;
use shared::wire::listing::ServerInfo;
use shared::wire::permalink;

use crate::data::api;
use crate::data::server::Server;
use crate::data::words;
use crate::map::export::{self, Kind};
use crate::navigation::viewer::Viewer;
use crate::platform::dom;
use crate::platform::dynamic::dynamic;

/// What can be done with an experiment.
#[component]
pub fn Actions(
    document: Arc<Document>,
    #[prop(into)] options: Signal<FigureOptions>,
    source: Source,
) -> impl IntoView {
    let viewer = Viewer::get();
    let done = RwSignal::new(String::new());
    let copy = move |link: String, what: &'static str, without: String| {
        spawn_local(async move {
            let n = words::count(link.len(), "character", "characters");
            done.set(match dom::copy(&link).await {
                Ok(()) => format!("{what} copied, {n}{without}."),
                Err(error) => format!("{error}. The link: {link}"),
            });
        });
    };
    let packed = document.clone();
    let whole = move |_| {
        let view = viewer.address.with_untracked(|a| a.view.clone());
        let permalink::Packed { text, left_out } =
            permalink::encode(&packed, view.figure.grid.grid);
        let page = Page::Experiment(Source::Link(text));
        let names: Vec<_> = left_out.iter().map(ToString::to_string).collect();
        let without = match &*names {
            [] => String::new(),
            names => format!(", without {}, for which there is no room", names.join(", ")),
        };
        copy(dom::link_to(&Address { page, view }.fragment()), "Self-contained link", without);
    };
    let here = move |_| {
        copy(dom::link_to(&viewer.address.get_untracked().fragment()), "Link", String::new());
    };
    let stored = viewer.server_of(&source);
    let name = title(&document.entity).to_string();
    let id = document.id.clone();
    let delete = move |server: Server| {
        let (id, name) = (id.clone(), name.clone());
        let delete = move |_| {
            let home = move || viewer.go(Address::default());
            viewer.delete(server, id.clone(), name.clone(), home);
        };
        view! {
            <button class:hidden=move || !server.rights.can_change() on:click=delete>"Delete"</button>
        }
    };
    // What it was asked for with; a foreign file may not say.
    let draft = stored.and_then(|server| Some((server, Draft::of_result(&document)?)));
    let (own, model) = (document.id.clone(), document.model.clone());
    let n_verified = document.verification.as_ref().map_or(0, |v| v.n_cells);
    let again = move |(server, draft): (Server, Draft)| {
        let href = format!("#{}", Address::of(Page::New(draft.clone())).fragment());
        let has_model = move || {
            let is_it = |info: &ServerInfo| info.models.iter().any(|known| known.name == model);
            server.rights.can_change() && server.info.with(|info| info.as_ref().is_some_and(is_it))
        };
        let run = move |_| {
            let Some(mut submission) = draft.submission(None) else { return };
            submission.again = true;
            submission.settings.verify = n_verified;
            let own = own.clone();
            spawn_local(async move {
                match api::submit(server.rights, &submission).await {
                    Err(problem) => viewer.tell(api::told(&problem)),
                    // A model of the same name may be another by now.
                    Ok(detail) => match detail.pairs.into_iter().next() {
                        Some(pair) if pair.experiment != own => {
                            viewer.go(Address::of(Page::Experiment(Source::Id(pair.experiment))));
                        }
                        _ => drop(done.try_set("It will be computed again.".to_string())),
                    },
                }
            });
        };
        view! {
            <span class="actions" class:hidden=move || !has_model()>
                <button on:click=run>"Compute again"</button>
                <a class="button" href=href>"Change and run…"</a>
            </span>
        }
    };
    let compare = move |_| {
        let filter = Filter { picked: vec![source.clone()], ..Filter::default() };
        viewer.go(Address::of(Page::Index(filter)));
    };
    let saves = Kind::ALL.map(|(kind, name)| {
        let document = document.clone();
        let save = move |_| {
            if let Err(error) = export::save(&document, &options.get_untracked(), kind) {
                viewer.tell(words::sentence(&error));
            }
        };
        view! { <button class="quiet" on:click=save aria-label=format!("Download {name}")>{name}</button> }
    });
    view! {
        <div class="actions">
            <button on:click=here>"Copy link"</button>
            <button on:click=whole id="copy-whole">"Copy self-contained link"</button>
            <button on:click=compare>"Compare with…"</button>
            {draft.map(again)}
            {stored.map(delete)}
            <span class="downloads">"Download" {saves.into_iter().collect_view()}</span>
            <p class="done" role="status">{dynamic(move || done.get())}</p>
        </div>
    }
}
