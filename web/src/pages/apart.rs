//! The pages that are not needed to show a result. They are a part of the viewer in a file of its own, which
//! the browser loads when the first of them is opened.

use leptos::prelude::*;
use leptos::task::spawn_local;
use shared::wire::address::Page;

use crate::data::server::Server;
use crate::navigation::viewer::Viewer;
use crate::pages::compare::ComparePage;
use crate::pages::job::JobPage;
use crate::pages::new::NewPage;
use crate::pages::queue::QueuePage;
use crate::pages::study::StudyPage;
use crate::platform::dynamic::dynamic;
use crate::widgets::heading::heading;
use crate::widgets::problem::Problem;

/// What shows one of the pages. Only the part names it, so that nothing of them is elsewhere.
type Show = fn(Viewer, Page) -> AnyView;

/// The part that holds the pages.
#[derive(Clone, Copy)]
pub struct Apart(RwSignal<State>);

/// How far it is.
#[derive(Clone, Copy)]
enum State {
    /// Nobody has needed it.
    Unasked,
    Loading,
    Failed,
    There(Show),
}

impl Apart {
    /// It is not there yet.
    pub fn new() -> Self {
        Self(RwSignal::new(State::Unasked))
    }

    /// Loads it, unless it is there or on its way.
    fn load(self) {
        if matches!(self.0.get_untracked(), State::Loading | State::There(_)) {
            return;
        }
        self.0.set(State::Loading);
        spawn_local(async move {
            self.0.set(part::show().await.map_or(State::Failed, State::There));
        });
    }

    /// The page, as soon as it can be shown.
    pub fn view(self, viewer: Viewer, page: Page) -> AnyView {
        self.load();
        dynamic(move || match self.0.get() {
            State::There(show) => show(viewer, page.clone()),
            State::Failed => self.failed(viewer),
            State::Unasked | State::Loading => {
                view! { <p class="loading" role="status">"Loading…"</p> }.into_any()
            }
        })
    }

    fn failed(self, viewer: Viewer) -> AnyView {
        let again = move |_| {
            // The button goes, and its reader begins at the heading of what comes.
            viewer.has_arrived.set_value(true);
            self.load();
        };
        view! {
            <section class="card page-problem" role="alert">
                {heading("This page could not be loaded")}
                <p>
                    "It is a part of the viewer that is fetched when it is first opened, and that did \
                     not arrive. The network may be away, or there may be a newer viewer by now: if it \
                     does not come, load the whole page again in the browser."
                </p>
                <p><button type="button" class="primary" on:click=again>"Try again"</button></p>
                <p><a href="#/">"All experiments"</a></p>
            </section>
        }
        .into_any()
    }
}

/// Where the part begins: what is only reached from here is in its file.
#[cfg(all(feature = "parts", target_family = "wasm"))]
mod part {
    use wasm_split_helpers::{SplitLoaderError, wasm_split};

    use super::Show;

    #[wasm_split(pages, fallible)]
    pub fn show() -> Result<Show, SplitLoaderError> {
        Ok(super::show)
    }
}

/// Without parts all of the viewer is there.
#[cfg(not(all(feature = "parts", target_family = "wasm")))]
mod part {
    use std::convert::Infallible;

    use super::Show;

    pub async fn show() -> Result<Show, Infallible> {
        Ok(super::show)
    }
}

fn show(viewer: Viewer, page: Page) -> AnyView {
    match page {
        Page::Compare(sources) => view! { <ComparePage sources /> }.into_any(),
        Page::New(_) => with_server(viewer, |server| view! { <NewPage server /> }.into_any()),
        Page::Queue => with_server(viewer, |server| view! { <QueuePage server /> }.into_any()),
        Page::Job(id) => with_server(viewer, |server| view! { <JobPage server id /> }.into_any()),
        Page::Study(source) => view! { <StudyPage source /> }.into_any(),
        // These are shown without the part.
        Page::Index(_) | Page::Experiment(_) | Page::Unknown(_) => ().into_any(),
    }
}

/// A page that only a server has.
fn with_server(viewer: Viewer, page: impl FnOnce(Server) -> AnyView) -> AnyView {
    match viewer.server {
        Some(server) => page(server),
        None => view! {
            <Problem text="This page has no server that could sweep something: \
                `patchboard serve` starts one.".to_string() />
        }
        .into_any(),
    }
}

#[cfg(test)]
mod tests {
    use shared::wire::address::{Address, Source};
    use shared::wire::draft::Draft;
    use shared::wire::studies::StudySource;

    use super::*;

    #[test]
    fn the_shell_fetches_the_part_for_its_pages_alone() {
        let script = include_str!("../../../static/web/start.js");
        let routes = script.split_once(r"/^#\/(").unwrap().1.split_once(")/").unwrap().0;
        let (id, source) = ("0a".to_string(), Source::Id("0a".into()));
        let pages = [
            Page::default(),
            Page::Experiment(source.clone()),
            Page::Unknown("nowhere".into()),
            Page::Compare(vec![source.clone(), source]),
            Page::New(Draft::default()),
            Page::Queue,
            Page::Job(id.clone()),
            Page::Study(StudySource::Job(id.clone())),
            Page::Study(StudySource::Id(id)),
        ];
        for page in pages {
            let is_shown_without = match page {
                Page::Index(_) | Page::Experiment(_) | Page::Unknown(_) => true,
                Page::Compare(_) | Page::New(_) | Page::Queue | Page::Job(_) | Page::Study(_) => {
                    false
                }
            };
            let path = Address::of(page).fragment();
            let path = path.trim_start_matches('/');
            let mut routes = routes.split('|').map(|route| route.replace(r"\/", "/"));
            let is_fetched = routes.any(|route| path.starts_with(&route));
            assert_ne!(is_fetched, is_shown_without, "{path}");
        }
    }
}
