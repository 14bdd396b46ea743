//! A list of experiments: what it is filtered by, what is picked, and a welcome where it is empty.

use std::iter;

use leptos::prelude::*;
use shared::wire::address::{Address, Filter, Page, Sort, Source};
use shared::wire::gallery::{Entry, StudyEntry};
use shared::wire::listing::{Facet, Facets};
use shared::wire::studies::StudySource;

use crate::navigation::viewer::Viewer;
use crate::pages::card::{Card, pick};
use crate::platform::dynamic::{dynamic, listed};
use crate::widgets::heading::heading;
use crate::widgets::inputs::{choice, select};
use crate::widgets::open::OpenButton;

/// A list of experiments and what it can be filtered by.
#[component]
pub fn Listing(
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
    /// Studies to choose from.
    #[prop(optional, into)]
    studies: Signal<Vec<StudyEntry>>,
    /// Called for more of them.
    #[prop(into)]
    on_more: Callback<()>,
) -> impl IntoView {
    let is_stored = Viewer::get().server.is_some();
    let picked = Memo::new(move |_| filter.get().picked);
    // The page stays as it is while experiments come.
    let is_empty =
        Memo::new(move |_| total.get().map(|total| total == 0 && studies.with(Vec::is_empty)));
    let cards = move || shown.get().into_iter().map(|e: Entry| (e.id.clone(), e)).collect();
    move || {
        match is_empty.get() {
        None => view! { <p class="loading" role="status">"Loading…"</p> }.into_any(),
        Some(true) => view! { <Welcome /> }.into_any(),
        Some(false) => view! {
            <article>
                <div class="title-row">
                    {heading("Experiments")}
                    <p class="count" role="status">
                        {dynamic(move || format!("{} of {}", n_chosen.get(), total.get().unwrap_or(0)))}
                    </p>
                </div>
                {dynamic(move || study_links(&studies.get()))}
                <Filters facets filter />
                <ul class="cards">
                    {listed(cards, move |entry| view! { <Card entry picked is_stored /> })}
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
            <span role="status">{dynamic(move || match n() {
                1 => "1 picked: pick another to compare".to_string(),
                n => format!("{n} picked"),
            })}</span>
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
    let can_sweep = move || server.is_some_and(|server| server.rights.can_change());
    view! {
        <section class="card welcome">
            {heading("Activation patching, cell by cell")}
            <p>
                "Open a result document, or drop one here: Patchboard’s own, or the notebook’s "
                <code>"patching_results.json"</code>
                ". It is read in this page and sent nowhere."
            </p>
            <div class="actions">
                {dynamic(move || can_sweep().then(|| view! {
                    <a class="button primary" href="#/new">"New experiment"</a>
                }))}
                <OpenButton />
            </div>
        </section>
    }
}

/// Where to find studies, above the experiments that they are made of.
fn study_links(studies: &[StudyEntry]) -> Option<AnyView> {
    let link = |study: &StudyEntry| {
        let address = Address::of(Page::Study(StudySource::Id(study.id.clone())));
        let facts = format!(" {} · {} of {} pairs count", study.model, study.n_kept, study.n_pairs);
        view! {
            <li dir="auto">
                <a href=format!("#{}", address.fragment())>{study.title.clone()}</a>
                <span class="facts">{facts}</span>
            </li>
        }
    };
    let links: Vec<_> = studies.iter().map(link).collect();
    (!links.is_empty())
        .then(|| view! { <nav class="studies"><h2>"Studies"</h2><ul>{links}</ul></nav> }.into_any())
}
