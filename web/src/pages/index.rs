//! All experiments: of a site and of opened files, or of a server.

use std::collections::BTreeSet;
use std::time::Duration;

use leptos::prelude::*;
use leptos::task::spawn_local;
use shared::wire::address::{Filter, Page};
use shared::wire::gallery::{Entry, Gallery};
use shared::wire::listing::Facets;

use crate::data::api;
use crate::data::listed::Listed;
use crate::data::server::Server;
use crate::data::source;
use crate::data::words;
use crate::navigation::viewer::Viewer;
use crate::pages::card::Card;
use crate::pages::listing::Listing;
use crate::platform::asking::Asking;
use crate::platform::dom;
use crate::platform::dynamic::dynamic;
use crate::widgets::problem::Problem;

/// How many experiments are put on the page at a time.
const BATCH: usize = 60;
/// How many a server is asked for at a time.
const N_PAGE: usize = 200;
/// How long to wait for the next letter before a server is asked.
const TYPING: Duration = Duration::from_millis(150);
/// How often a list is asked for again while experiments come.
const AGAIN: Duration = Duration::from_millis(500);

/// What decides which experiments are listed.
fn without_picked(filter: Filter) -> Filter {
    Filter { picked: Vec::new(), ..filter }
}

/// The page of all experiments.
#[component]
pub fn IndexPage() -> impl IntoView {
    match Viewer::get().server {
        Some(server) => view! { <Remote server /> }.into_any(),
        None => view! { <Local /> }.into_any(),
    }
}

/// The filter in the address; where the reader leaves the list it stays as it was.
fn filter(viewer: Viewer) -> Memo<Filter> {
    Memo::new(move |before: Option<&Filter>| match viewer.address.with(|a| a.page.clone()) {
        Page::Index(filter) => filter,
        _ => before.cloned().unwrap_or_default(),
    })
}

/// The experiments of a site and of opened files: all at hand.
#[component]
fn Local() -> impl IntoView {
    let viewer = Viewer::get();
    let failed = RwSignal::new(None::<String>);
    spawn_local(async move {
        let gallery = if viewer.library.is_complete() { Ok(None) } else { source::gallery().await };
        let gallery = gallery.map(|found| found.unwrap_or_else(|| Gallery::of([])));
        match gallery {
            Ok(gallery) => viewer.gallery.set(Some(gallery)),
            // What was there before is still shown.
            Err(error) => drop(failed.try_set(Some(words::sentence(&error)))),
        }
    });
    let gallery = Memo::new(move |_| {
        let mut gallery = viewer.gallery.get()?;
        viewer.library.documents.with(|documents| {
            let mut listed = BTreeSet::new();
            listed.extend(gallery.experiments.iter().map(|entry| entry.id.clone()));
            let others = documents.values().filter(|document| !listed.contains(&document.id));
            let others: Vec<_> = others.map(|document| Entry::of(document)).collect();
            gallery.experiments.extend(others);
        });
        Some(gallery)
    });
    let filter = filter(viewer);
    let chosen = Memo::new(move |_| {
        let select = |gallery: &Gallery| gallery.select(&filter.get(), dom::lower_case);
        gallery.with(|gallery| gallery.as_ref().map(select)).unwrap_or_default()
    });
    let query = Memo::new(move |_| without_picked(filter.get()));
    let left = viewer.listed.get_value();
    let is_same = left.filter == query.get_untracked();
    let n_shown = RwSignal::new(if is_same { left.n_shown.max(BATCH) } else { BATCH });
    Effect::new(move |before: Option<()>| {
        query.track();
        if before.is_some() {
            n_shown.set(BATCH);
        }
    });
    on_cleanup(move || {
        let (filter, n_shown) = (query.get_untracked(), n_shown.get_untracked());
        viewer.listed.set_value(Listed { filter, n_shown, ..Listed::default() });
    });
    let shown = Memo::new(move |_| {
        gallery.with(|gallery| {
            let entries = gallery.as_ref().map(|g| &*g.experiments).unwrap_or_default();
            let shown = |chosen: &Vec<usize>| {
                let shown = chosen.iter().take(n_shown.get());
                shown.filter_map(|i| entries.get(*i).cloned()).collect::<Vec<_>>()
            };
            chosen.with(shown)
        })
    });
    let facets = Memo::new(move |_| {
        gallery.with(|g| g.as_ref().map(|g| Facets::of(&g.experiments))).unwrap_or_default()
    });
    let total = move || gallery.with(|g| g.as_ref().map(|g| g.experiments.len()));
    let studies = move || {
        let mut listed = gallery.get().map(|gallery| gallery.studies).unwrap_or_default();
        for study in viewer.library.opened_studies() {
            if listed.iter().all(|known| known.id != study.id) {
                listed.push(study);
            }
        }
        listed
    };
    let problem = Memo::new(move |_| failed.get().filter(|_| gallery.with(Option::is_none)));
    move || match problem.get() {
        Some(text) => view! { <Problem text /> }.into_any(),
        None => view! {
            <Listing
                total=Signal::derive(total)
                n_chosen=Signal::derive(move || chosen.with(Vec::len))
                shown
                facets
                filter
                studies=Signal::derive(studies)
                on_more=move |()| n_shown.update(|n| *n += 4 * BATCH)
            />
        }
        .into_any(),
    }
}

/// The experiments of a server, which filters and sorts, page by page.
#[component]
fn Remote(server: Server) -> impl IntoView {
    let viewer = Viewer::get();
    let filter = filter(viewer);
    let query = Memo::new(move |_| without_picked(filter.get()));
    let left = viewer.listed.get_value();
    let left = if left.filter == query.get_untracked() { left } else { Listed::default() };
    let facets = RwSignal::new(left.facets);
    let total = RwSignal::new(left.total);
    let n_chosen = RwSignal::new(left.n_chosen);
    // How many are wanted.
    let wanted = StoredValue::new(left.entries.len().max(BATCH));
    let shown = RwSignal::new(left.entries);
    let asking = Asking::new();
    on_cleanup(move || {
        viewer.listed.set_value(Listed {
            filter: query.get_untracked(),
            n_shown: 0,
            entries: shown.get_untracked(),
            n_chosen: n_chosen.get_untracked(),
            total: total.get_untracked(),
            facets: facets.get_untracked(),
        });
    });
    let ask = move |from: usize| {
        let number = asking.next();
        let filter = query.get_untracked();
        let n = wanted.get_value();
        spawn_local(async move {
            let mut entries: Vec<Entry> =
                shown.with_untracked(|shown| shown.iter().take(from).cloned().collect());
            let mut ids = BTreeSet::new();
            ids.extend(entries.iter().map(|entry| entry.id.clone()));
            loop {
                let offset = entries.len();
                let page = api::experiments(&filter, offset, (n - offset).min(N_PAGE)).await;
                if !asking.is_last(number) {
                    return;
                }
                let page = match page {
                    Ok(page) => page,
                    Err(problem) => return viewer.tell(api::told(&problem)),
                };
                let new = page.experiments.into_iter().filter(|e| ids.insert(e.id.clone()));
                entries.extend(new);
                let is_all = entries.len() >= n.min(page.total) || entries.len() == offset;
                n_chosen.set(page.total);
                if is_all {
                    break shown.set(entries);
                }
            }
        });
    };
    // What there is altogether, which the filter does not tell.
    let ask_all = move || {
        spawn_local(async move {
            let is_first = total.try_get_untracked() == Some(None);
            let everything = Filter::default();
            match (api::facets().await, api::experiments(&everything, 0, 1).await) {
                (Ok(found), Ok(page)) => {
                    facets.try_set(Some(found));
                    total.try_set(Some(page.total));
                }
                (Err(problem), _) | (_, Err(problem)) if is_first => {
                    viewer.tell(api::told(&problem));
                }
                // What is there is still shown.
                _ => {}
            }
        });
    };
    let typing = StoredValue::new(None::<TimeoutHandle>);
    Effect::new(move |before: Option<()>| {
        query.track();
        if before.is_none() {
            ask_all();
            return ask(0);
        }
        wanted.set_value(BATCH);
        if let Some(timer) = typing.get_value() {
            timer.clear();
        }
        typing.set_value(set_timeout_with_handle(move || ask(0), TYPING).ok());
    });
    let is_due = StoredValue::new(false);
    Effect::new(move |before: Option<()>| {
        server.changes.track();
        if before.is_some() && !is_due.get_value() {
            is_due.set_value(true);
            let again = move || {
                // The reader may have left the page meanwhile.
                if is_due.try_set_value(false).is_none() {
                    ask_all();
                    ask(0);
                }
            };
            // A long list takes many requests, and is asked for the less often.
            let n_pages = wanted.get_value().div_ceil(N_PAGE).max(1);
            set_timeout(again, AGAIN * n_pages as u32);
        }
    });
    let more = move |()| {
        let n = shown.with_untracked(Vec::len);
        wanted.set_value(n + N_PAGE);
        ask(n);
    };
    let opened = Memo::new(move |_| {
        let ids = viewer.library.files.get();
        let of = |id: &String| viewer.library.documents.with(|d| d.get(id).map(|d| Entry::of(d)));
        ids.iter().filter_map(of).collect::<Vec<_>>()
    });
    let picked = Memo::new(move |_| filter.get().picked);
    view! {
        {dynamic(move || (!opened.with(Vec::is_empty)).then(|| view! {
            <section class="opened" aria-label="Opened files">
                <h2>"Opened files, which stay in this browser"</h2>
                <ul class="cards">
                    {opened.get().into_iter().map(|entry| {
                        view! { <Card entry picked is_stored=false /> }
                    }).collect_view()}
                </ul>
            </section>
        }))}
        <Listing
            total
            n_chosen
            shown
            facets=Signal::derive(move || facets.get().unwrap_or_default())
            filter
            on_more=more
        />
    }
}
