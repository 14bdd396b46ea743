//! The whole page: its parts, and what stands around them.

use leptos::ev;
use leptos::html;
use leptos::prelude::*;
use shared::figure::Theme;
use shared::wire::address::{Address, Page};
use shared::wire::draft::Draft;
use shared::wire::event::Event;

use crate::data::server::Server;
use crate::navigation::viewer::Viewer;
use crate::pages::apart::Apart;
use crate::pages::experiment::ExperimentPage;
use crate::pages::index::IndexPage;
use crate::platform::dom;
use crate::platform::dynamic::dynamic;
use crate::platform::history;
use crate::widgets::notices::Notices;
use crate::widgets::open::OpenButton;
use crate::widgets::problem::Problem;
use crate::widgets::token::TokenDialog;

/// The page.
#[component]
pub fn App() -> impl IntoView {
    let viewer = Viewer::new();
    provide_context(viewer);
    if let Some(server) = viewer.server {
        server.start();
        server.listen(move |event| {
            if matches!(event, Event::Snapshot { .. } | Event::Experiments {}) {
                viewer.library.forget_stored();
            }
        });
    }
    Effect::new(move || dom::set_theme(viewer.theme.get()));
    let is_embedded = Memo::new(move |_| viewer.is_embedded());
    Effect::new(move |before: Option<bool>| {
        let now = is_embedded.get();
        dom::set_embedded(now);
        let is_telling = before.unwrap_or_default();
        if now && !is_telling {
            dom::tell_height();
        }
        is_telling || now
    });
    history::watch(move || {
        viewer.history.moved();
        let address = Address::parse(&dom::fragment());
        if address != viewer.address.get_untracked() {
            viewer.address.set(address);
        }
    });
    let dragging = RwSignal::new(false);
    // A text that is dragged goes into a field, as it does on any page.
    let _ = window_event_listener(ev::dragover, move |event| {
        if dom::has_files(&event) {
            event.prevent_default();
            dragging.set(true);
        }
    });
    let _ = window_event_listener(ev::dragleave, move |event| {
        if event.related_target().is_none() {
            dragging.set(false);
        }
    });
    let _ = window_event_listener(ev::drop, move |event| {
        dragging.set(false);
        if dom::has_files(&event) {
            event.prevent_default();
            viewer.open(event.data_transfer().and_then(|data| data.files()));
        }
    });
    // How a page shows its experiment is its own business; here it only matters which page it is.
    let page = Memo::new(move |_| match viewer.address.with(|a| a.page.clone()) {
        Page::Index(_) => Page::default(),
        Page::New(_) => Page::New(Draft::default()),
        page => page,
    });
    let apart = Apart::new();
    let main = NodeRef::<html::Main>::new();
    let to_main = move || {
        if let Some(main) = main.get_untracked() {
            dom::focus(&main);
        }
    };
    Effect::new(move |before: Option<()>| {
        page.track();
        if before.is_some() {
            // The page takes the focus until its heading is there.
            viewer.has_arrived.set_value(true);
            to_main();
            viewer.history.restore();
        }
    });
    let home = move |event: ev::MouseEvent| {
        event.prevent_default();
        viewer.go(Address::default());
    };
    let theme = move |_| {
        viewer.theme.update(|theme| *theme = other(*theme));
        dom::remember_theme(viewer.theme.get_untracked());
    };
    view! {
        <button class="skip" on:click=move |_| to_main()>"Skip to the content"</button>
        <header class="bar">
            <a class="brand" href="#/" on:click=home>
                <span class="brand-mark" aria-hidden="true"></span>
                "Patchboard"
            </a>
            {viewer.server.map(|server| view! { <Nav server /> })}
            <OpenButton />
            <button class="quiet" on:click=theme>
                {dynamic(move || match other(viewer.theme.get()) {
                    Theme::Light => "Light theme",
                    Theme::Dark => "Dark theme",
                })}
            </button>
        </header>
        {viewer.server.map(|server| view! {
            <TokenDialog rights=server.rights />
            <Connection server />
        })}
        <Notices on_close=move |()| to_main() />
        <main node_ref=main tabindex="-1">
            {dynamic(move || match page.get() {
                Page::Index(_) => view! { <IndexPage /> }.into_any(),
                Page::Experiment(source) => view! { <ExperimentPage source /> }.into_any(),
                Page::Unknown(path) => view! {
                    <Problem text=format!("There is no page at “{path}”.") />
                }.into_any(),
                page => apart.view(viewer, page),
            })}
        </main>
        <div class="drop" class:shown=move || dragging.get() aria-hidden="true">
            <p>{if viewer.server.is_some() {
                "Drop result documents to open them, or a table to sweep it"
            } else {
                "Drop result documents to open them"
            }}</p>
        </div>
    }
}

/// The parts that only a server has.
#[component]
fn Nav(server: Server) -> impl IntoView {
    let viewer = Viewer::get();
    let link = move |page: Page, name: &'static str| {
        let href = format!("#{}", Address::of(page.clone()).fragment());
        let here = move || {
            let is_here = viewer.address.with(|address| {
                std::mem::discriminant(&address.page) == std::mem::discriminant(&page)
            });
            is_here.then_some("page")
        };
        view! { <a href=href aria-current=here>{name}</a> }
    };
    let n = Memo::new(move |_| server.board.with(|board| board.n_active()));
    view! {
        <nav aria-label="Pages">
            {dynamic(move || server.rights.can_change().then(|| link(Page::New(Draft::default()), "New")))}
            <span>
                {link(Page::Queue, "Queue")}
                {dynamic(move || (n.get() > 0).then(|| view! {
                    <span class="badge" aria-label=move || format!("{} not finished", n.get())>
                        {dynamic(move || n.get())}
                    </span>
                }))}
            </span>
        </nav>
    }
}

/// Says when nothing is heard of the server.
#[component]
fn Connection(server: Server) -> impl IntoView {
    view! {
        <div class="notices" role="status">
            {dynamic(move || (server.is_connected.get() == Some(false)).then(|| view! {
                <p class="notice offline">
                    "The server does not answer. The page goes on as soon as it does."
                </p>
            }))}
        </div>
    }
}

fn other(theme: Theme) -> Theme {
    match theme {
        Theme::Light => Theme::Dark,
        Theme::Dark => Theme::Light,
    }
}
