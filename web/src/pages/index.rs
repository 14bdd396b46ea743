//! All experiments, and a welcome where there are none.

use std::iter;
use std::time::Duration;

use leptos::prelude::*;
use leptos::task::spawn_local;
use shared::address::{Address, Filter, Page, Sort, Source};
use shared::gallery::{Entry, Gallery};
use shared::listing::{Facet, Facets};

use crate::app::{OpenButton, Viewer};
use crate::card::{Card, pick};
use crate::inputs::{choice, select};
use crate::server::Server;
use crate::{api, dom, source};

/// How many experiments are put on the page at a time.
const BATCH: usize = 60;
/// How many a server is asked for at a time.
const N_PAGE: usize = 200;
/// How long to wait for the next letter before a server is asked.
const TYPING: Duration = Duration::from_millis(150);
/// How often a list is asked for again while experiments come.
const AGAIN: Duration = Duration::from_millis(500);

/// The page of all experiments.
#[component]
pub fn IndexPage() -> impl IntoView {
    match Viewer::get().server {
        Some(server) => view! { <Remote server /> }.into_any(),
        None => view! { <Local /> }.into_any(),
    }
}

/// The filter in the address.
fn filter(viewer: Viewer) -> Memo<Filter> {
    Memo::new(move |_| match viewer.address.with(|a| a.page.clone()) {
        Page::Index(filter) => filter,
        _ => Filter::default(),
    })
}

/// The experiments of a site and of opened files: all at hand.
#[component]
fn Local() -> impl IntoView {
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
    let filter = filter(viewer);
    let chosen = Memo::new(move |_| {
        let select = |gallery: &Gallery| gallery.select(&filter.get(), dom::lower_case);
        gallery.with(|gallery| gallery.as_ref().map(select)).unwrap_or_default()
    });
    let n_shown = RwSignal::new(BATCH);
    Effect::new(move || {
        filter.track();
        n_shown.set(BATCH);
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
    view! {
        <Listing
            total=Signal::derive(total)
            n_chosen=Signal::derive(move || chosen.with(Vec::len))
            shown
            facets
            filter
            on_more=move |()| n_shown.update(|n| *n += 4 * BATCH)
        />
    }
}

/// The experiments of a server, which filters and sorts, page by page.
#[component]
fn Remote(server: Server) -> impl IntoView {
    let viewer = Viewer::get();
    let filter = filter(viewer);
    let query = Memo::new(move |_| Filter { picked: Vec::new(), ..filter.get() });
    let facets = RwSignal::new(None::<Facets>);
    let n_chosen = RwSignal::new(0);
    let shown = RwSignal::new(Vec::<Entry>::new());
    // How many are wanted, and which of the lists that were asked for is the latest.
    let wanted = StoredValue::new(BATCH);
    let latest = StoredValue::new(0_u64);
    let ask = move |from: usize| {
        let Some(ticket) = latest.try_update_value(|latest| {
            *latest += 1;
            *latest
        }) else {
            return;
        };
        let filter = query.get_untracked();
        let n = wanted.get_value();
        spawn_local(async move {
            let mut entries: Vec<Entry> =
                shown.with_untracked(|shown| shown.iter().take(from).cloned().collect());
            loop {
                let offset = entries.len();
                let page = api::experiments(&filter, offset, (n - offset).min(N_PAGE)).await;
                if latest.try_get_value() != Some(ticket) {
                    return;
                }
                let page = match page {
                    Ok(page) => page,
                    Err(problem) => return viewer.tell(api::told(&problem)),
                };
                let n_before = entries.len();
                for entry in page.experiments {
                    if entries.iter().all(|other| other.id != entry.id) {
                        entries.push(entry);
                    }
                }
                let is_all = entries.len() >= n.min(page.total) || entries.len() == n_before;
                n_chosen.set(page.total);
                if is_all {
                    break shown.set(entries);
                }
            }
        });
    };
    let ask_facets = move || {
        spawn_local(async move {
            match api::facets().await {
                Ok(found) => drop(facets.try_set(Some(found))),
                Err(problem) if facets.try_get_untracked() == Some(None) => {
                    viewer.tell(api::told(&problem));
                }
                // What is there is still shown.
                Err(_) => {}
            }
        });
    };
    let typing = StoredValue::new(None::<TimeoutHandle>);
    Effect::new(move |before: Option<()>| {
        query.track();
        if before.is_none() {
            ask_facets();
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
                    ask_facets();
                    ask(0);
                }
            };
            set_timeout(again, AGAIN);
        }
    });
    let more = move |()| {
        let n = shown.with_untracked(Vec::len);
        wanted.set_value(n + N_PAGE);
        ask(n);
    };
    let opened = Memo::new(move |_| {
        let ids = viewer.files.get();
        let of = |id: &String| viewer.documents.with(|d| d.get(id).map(|d| Entry::of(d)));
        ids.iter().filter_map(of).collect::<Vec<_>>()
    });
    let picked = Memo::new(move |_| filter.get().picked);
    view! {
        {move || (!opened.with(Vec::is_empty)).then(|| view! {
            <section class="opened" aria-label="Opened files">
                <h2>"Opened files, which stay in this browser"</h2>
                <ul class="cards">
                    {opened.get().into_iter().map(|entry| {
                        view! { <Card entry picked is_stored=false /> }
                    }).collect_view()}
                </ul>
            </section>
        })}
        <Listing
            total=Signal::derive(move || facets.with(|f| f.as_ref().map(Facets::n_all)))
            n_chosen
            shown
            facets=Signal::derive(move || facets.get().unwrap_or_default())
            filter
            on_more=more
        />
    }
}

/// A list of experiments and what it can be filtered by.
#[component]
fn Listing(
    /// How many there are altogether; `None` until that is known.
    #[prop(into)]
    total: Signal<Option<usize>>,
    /// How many pass the filter.
    #[prop(into)]
    n_chosen: Signal<usize>,
    /// The first of these.
    #[prop(into)]
    shown: Signal<Vec<Entry>>,
    #[prop(into)] facets: Signal<Facets>,
    #[prop(into)] filter: Signal<Filter>,
    /// Called for more of them.
    #[prop(into)]
    on_more: Callback<()>,
) -> impl IntoView {
    let is_stored = Viewer::get().server.is_some();
    let picked = Memo::new(move |_| filter.get().picked);
    // The page stays as it is while experiments come.
    let is_empty = Memo::new(move |_| total.get().map(|total| total == 0));
    move || {
        match is_empty.get() {
        None => view! { <p class="loading" role="status">"Loading…"</p> }.into_any(),
        Some(true) => view! { <Welcome /> }.into_any(),
        Some(false) => view! {
            <article>
                <div class="title-row">
                    <h1>"Experiments"</h1>
                    <p class="count" role="status">
                        {move || format!("{} of {}", n_chosen.get(), total.get().unwrap_or(0))}
                    </p>
                </div>
                <Filters facets filter />
                <ul class="cards">
                    <For each=move || shown.get() key=|entry| entry.id.clone() children=move |entry| {
                        view! { <Card entry picked is_stored /> }
                    } />
                </ul>
                <button
                    class="more"
                    class:hidden=move || n_chosen.get() <= shown.with(Vec::len)
                    on:click=move |_| on_more.run(())
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

#[component]
fn Filters(
    #[prop(into)] facets: Signal<Facets>,
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
    let facet = move |name: &'static str,
                      of: fn(Facets) -> Vec<Facet>,
                      field: fn(&mut Filter) -> &mut String| {
        let now = Memo::new(move |_| field(&mut filter.get()).clone());
        let options = Signal::derive(move || {
            let found = of(facets.get()).into_iter().map(|facet| facet.value);
            let mut values: Vec<_> = iter::once(String::new()).chain(found).collect();
            // One that comes with a link may be rare.
            let now = now.get();
            if !values.contains(&now) {
                values.push(now);
            }
            let named = |value: String| match &*value {
                "" => (value, "All".to_string()),
                name => (name.to_string(), value),
            };
            values.into_iter().map(named).collect()
        });
        let choose = Callback::new(move |value: String| change(&|f| *field(f) = value.clone()));
        select(name, "field", options, now.into(), choose)
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
            {facet("Model", |f| f.models, |f| &mut f.model)}
            {facet("Entity", |f| f.entities, |f| &mut f.entity)}
            {facet("Site", |f| f.sites, |f| &mut f.site)}
            {choice("Order", Sort::ALL, move || filter.get().sort, move |sort| {
                change(&|f| f.sort = sort);
            })}
        </div>
    }
}

#[component]
fn Welcome() -> impl IntoView {
    let server = Viewer::get().server;
    let can_sweep = move || server.is_some_and(|server| server.can_change());
    view! {
        <section class="card welcome">
            <h1>"Activation patching, cell by cell"</h1>
            <p>
                "Open a result document, or drop one here: Patchboard’s own, or the notebook’s "
                <code>"patching_results.json"</code>
                ". It is read in this page and sent nowhere."
            </p>
            <div class="actions">
                {move || can_sweep().then(|| view! {
                    <a class="button primary" href="#/new">"New experiment"</a>
                })}
                <OpenButton />
            </div>
        </section>
    }
}
