//! The whole page: what it knows, how it moves between its parts, and what stands around them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use leptos::ev;
use leptos::prelude::*;
use leptos::task::spawn_local;
use shared::address::{Address, Page, Source, View};
use shared::document::Document;
use shared::draft::Draft;
use shared::figure::Theme;
use shared::pairs::TableFormat;
use web_sys::FileList;

use crate::notices::{Notice, Notices};
use crate::pages::compare::ComparePage;
use crate::pages::experiment::ExperimentPage;
use crate::pages::index::IndexPage;
use crate::pages::job::JobPage;
use crate::pages::new::{NewPage, Table};
use crate::pages::queue::QueuePage;
use crate::server::Server;
use crate::token::TokenDialog;
use crate::{dom, inputs, source};

/// How long the address bar may lag behind a pin that moves: browsers refuse to be written to at
/// the rate of a key held down.
const LAG: Duration = Duration::from_millis(200);

/// What the whole page shares.
#[derive(Clone, Copy)]
pub struct Viewer {
    /// Where the page is.
    pub address: RwSignal<Address>,
    /// Documents read so far, by id.
    pub documents: RwSignal<BTreeMap<String, Arc<Document>>>,
    /// The ids of those that the reader has opened from files.
    pub files: RwSignal<Vec<String>>,
    /// The table that the reader has pasted or dropped.
    pub table: RwSignal<Table>,
    /// The server behind the page.
    pub server: Option<Server>,
    /// What the reader should be told.
    pub notices: RwSignal<Vec<Notice>>,
    /// The colours of page and figures.
    pub theme: RwSignal<Theme>,
    /// Whether all there is came with the page.
    complete: StoredValue<bool>,
    pending: StoredValue<Option<TimeoutHandle>>,
}

impl Viewer {
    fn new() -> Self {
        let viewer = Self {
            address: RwSignal::new(Address::parse(&dom::fragment())),
            documents: RwSignal::default(),
            files: RwSignal::default(),
            table: RwSignal::default(),
            server: Server::find(),
            notices: RwSignal::default(),
            theme: RwSignal::new(dom::preferred_theme()),
            complete: StoredValue::new(false),
            pending: StoredValue::new(None),
        };
        match source::embedded() {
            None => {}
            Some(Err(error)) => viewer.tell(error),
            Some(Ok(documents)) => {
                viewer.complete.set_value(true);
                if let [document] = &*documents
                    && dom::fragment().len() < 3
                {
                    let page = Page::Experiment(Source::Id(document.id.clone()));
                    viewer.address.set(Address::of(page));
                }
                documents.into_iter().for_each(|document| viewer.keep(Arc::new(document)));
            }
        }
        viewer
    }

    /// The viewer of the page.
    pub fn get() -> Self {
        expect_context()
    }

    /// A document read before.
    pub fn opened(self, id: &str) -> Option<Arc<Document>> {
        self.documents.with_untracked(|documents| documents.get(id).cloned())
    }

    /// Keeps a document for later.
    pub fn keep(self, document: Arc<Document>) {
        self.documents.update(|documents| {
            documents.insert(document.id.clone(), document);
        });
    }

    /// Whether the page came with its documents and has nowhere to fetch others.
    pub fn is_complete(self) -> bool {
        self.complete.get_value()
    }

    /// Tells the reader something.
    pub fn tell(self, message: String) {
        self.notices.update(|notices| notices.push(Notice { text: message, undo: None }));
    }

    /// Tells the reader what was done, and offers to undo it.
    pub fn offer(self, text: String, undo: impl Fn() + Send + Sync + 'static) {
        let undo = Some(Arc::new(undo) as Arc<dyn Fn() + Send + Sync>);
        self.notices.update(|notices| notices.push(Notice { text, undo }));
    }

    /// Forgets a document.
    pub fn forget(self, id: &str) {
        self.documents.update(|documents| drop(documents.remove(id)));
    }

    /// Goes to an address, one step on in the history.
    pub fn go(self, address: Address) {
        self.settle();
        dom::write_fragment(&address.fragment(), true);
        self.address.set(address);
    }

    /// Changes the address in place.
    pub fn amend(self, change: impl FnOnce(&mut Address)) {
        self.address.update(change);
        if let Some(Some(timer)) = self.pending.try_update_value(Option::take) {
            timer.clear();
        }
        let timer = set_timeout_with_handle(move || self.settle(), LAG);
        self.pending.set_value(timer.ok());
    }

    /// Changes how experiments are shown, one step on in the history.
    pub fn show(self, change: impl FnOnce(&mut View)) {
        let mut address = self.address.get_untracked();
        change(&mut address.view);
        self.go(address);
    }

    /// Writes what the address bar lags behind.
    fn settle(self) {
        if let Some(Some(timer)) = self.pending.try_update_value(Option::take) {
            timer.clear();
            dom::write_fragment(&self.address.get_untracked().fragment(), false);
        }
    }

    /// Reads files and shows what is in them.
    pub fn open(self, files: Option<FileList>) {
        let files: Vec<_> =
            files.iter().flat_map(|list| (0..list.length()).filter_map(|i| list.get(i))).collect();
        spawn_local(async move {
            let mut opened = Vec::new();
            for file in files {
                let read = dom::read(&file).await;
                if let (Some(_), Some(format)) = (self.server, TableFormat::from_name(&file.name()))
                {
                    match read.and_then(|bytes| Table::of_file(file.name(), format, &bytes)) {
                        Ok(table) => self.table.set(table),
                        Err(error) => {
                            self.tell(format!("{}: {}", file.name(), source::sentence(&error)));
                            continue;
                        }
                    }
                    // What the form holds already stays.
                    let mut draft = match self.address.get_untracked().page {
                        Page::New(draft) => draft,
                        _ => Draft::default(),
                    };
                    draft.is_table = true;
                    return self.go(Address::of(Page::New(draft)));
                }
                let documents = read
                    .and_then(|bytes| Document::read(&bytes).map_err(|error| error.to_string()));
                match documents {
                    Ok(documents) => opened.extend(documents),
                    Err(error) => {
                        self.tell(format!("{}: {}", file.name(), source::sentence(&error)))
                    }
                }
            }
            let sources: Vec<_> = opened.iter().map(|d| Source::Id(d.id.clone())).collect();
            for document in opened {
                self.files.update(|files| files.push(document.id.clone()));
                self.keep(Arc::new(document));
            }
            match &*sources {
                [] => {}
                [one] => self.go(Address::of(Page::Experiment(one.clone()))),
                _ => self.go(Address::default()),
            }
        });
    }
}

/// The page.
#[component]
pub fn App() -> impl IntoView {
    let viewer = Viewer::new();
    provide_context(viewer);
    if let Some(server) = viewer.server {
        server.start();
    }
    Effect::new(move || dom::set_theme(viewer.theme.get()));
    let moved = move || {
        let address = Address::parse(&dom::fragment());
        if address != viewer.address.get_untracked() {
            viewer.address.set(address);
        }
    };
    let _ = window_event_listener(ev::popstate, move |_| moved());
    let _ = window_event_listener(ev::hashchange, move |_| moved());
    let dragging = RwSignal::new(false);
    let _ = window_event_listener(ev::dragover, move |event| {
        event.prevent_default();
        dragging.set(true);
    });
    let _ = window_event_listener(ev::dragleave, move |event| {
        if event.related_target().is_none() {
            dragging.set(false);
        }
    });
    let _ = window_event_listener(ev::drop, move |event| {
        event.prevent_default();
        dragging.set(false);
        viewer.open(event.data_transfer().and_then(|data| data.files()));
    });
    // How a page shows its experiment is its own business; here it only matters which page it is.
    let page = Memo::new(move |_| match viewer.address.with(|a| a.page.clone()) {
        Page::Index(_) => Page::default(),
        Page::New(_) => Page::New(Draft::default()),
        page => page,
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
        <header class="bar">
            <a class="brand" href="#/" on:click=home>
                <span class="brand-mark" aria-hidden="true"></span>
                "Patchboard"
            </a>
            {viewer.server.map(|server| view! { <Nav server /> })}
            <OpenButton />
            <button class="quiet" on:click=theme>
                {move || match other(viewer.theme.get()) {
                    Theme::Light => "Light theme",
                    Theme::Dark => "Dark theme",
                }}
            </button>
        </header>
        {viewer.server.map(|server| view! {
            <TokenDialog server />
            <Connection server />
        })}
        <Notices />
        <main>
            {move || match page.get() {
                Page::Index(_) => view! { <IndexPage /> }.into_any(),
                Page::Experiment(source) => view! { <ExperimentPage source /> }.into_any(),
                Page::Compare(sources) => view! { <ComparePage sources /> }.into_any(),
                Page::New(_) => with_server(viewer, |server| view! { <NewPage server /> }.into_any()),
                Page::Queue => with_server(viewer, |server| {
                    view! { <QueuePage server /> }.into_any()
                }),
                Page::Job(id) => with_server(viewer, |server| {
                    view! { <JobPage server id /> }.into_any()
                }),
                Page::Unknown(path) => view! {
                    <Problem text=format!("There is no page at “{path}”.") />
                }.into_any(),
            }}
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
            {move || server.can_change().then(|| link(Page::New(Draft::default()), "New"))}
            <span>
                {link(Page::Queue, "Queue")}
                {move || (n.get() > 0).then(|| view! {
                    <span class="badge" aria-label=move || format!("{} not finished", n.get())>
                        {move || n.get()}
                    </span>
                })}
            </span>
        </nav>
    }
}

/// Says when nothing is heard of the server.
#[component]
fn Connection(server: Server) -> impl IntoView {
    view! {
        <div class="notices" role="status">
            {move || (server.is_connected.get() == Some(false)).then(|| view! {
                <p class="notice offline">
                    "The server does not answer. The page goes on as soon as it does."
                </p>
            })}
        </div>
    }
}

fn other(theme: Theme) -> Theme {
    match theme {
        Theme::Light => Theme::Dark,
        Theme::Dark => Theme::Light,
    }
}

/// Lets the reader choose files of results, or a table where there is a server to sweep it.
#[component]
pub fn OpenButton() -> impl IntoView {
    let viewer = Viewer::get();
    let accept = match viewer.server {
        Some(_) => ".json,application/json,.tsv,.tab,.txt,.csv,.jsonl,.ndjson",
        None => ".json,application/json",
    };
    inputs::files("Open files…", accept, true, move |files| viewer.open(files))
}

/// Something that cannot be shown, and why.
#[component]
pub fn Problem(text: String) -> impl IntoView {
    view! {
        <section class="card page-problem" role="alert">
            <h1>"This cannot be shown"</h1>
            <p>{text}</p>
            <p><a href="#/">"All experiments"</a></p>
        </section>
    }
}
