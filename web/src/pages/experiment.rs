//! One experiment.

use std::sync::Arc;

use leptos::prelude::*;
use leptos::task::spawn_local;
use shared::address::{Address, Filter, Page, Source};
use shared::colour::Range;
use shared::document::Document;
use shared::figure::{self, FigureOptions};
use shared::metric::Metric;
use shared::{permalink, stats};

use crate::app::{Problem, Viewer};
use crate::cells::{self, Cell};
use crate::chart::{Chart, Profile};
use crate::controls::Controls;
use crate::export::{self, Kind};
use crate::heatmap::{Heatmap, tooltip};
use crate::panels::{Baselines, Provenance, Warnings};
use crate::readout::Readout;
use crate::strips::Strips;
use crate::table::Table;
use crate::{dom, source};

/// What a document's loading came to; `None` while it lasts.
pub type Loaded = RwSignal<Option<Result<Arc<Document>, String>>>;

/// Begins to load a document.
pub fn load(viewer: Viewer, source: Source) -> Loaded {
    let loaded = Loaded::new(None);
    spawn_local(async move {
        let result = source::load(viewer, &source).await;
        // The reader may have left the page meanwhile.
        loaded.try_set(Some(result));
    });
    loaded
}

/// The page of the experiment that comes from `source`.
#[component]
pub fn ExperimentPage(source: Source) -> impl IntoView {
    let loaded = load(Viewer::get(), source.clone());
    move || match loaded.get() {
        None => view! { <p class="loading" role="status">"Loading…"</p> }.into_any(),
        Some(Err(text)) => view! { <Problem text /> }.into_any(),
        Some(Ok(document)) => {
            let source = source.clone();
            view! { <Experiment document source /> }.into_any()
        }
    }
}

#[component]
fn Experiment(document: Arc<Document>, source: Source) -> impl IntoView {
    let viewer = Viewer::get();
    let options = Memo::new(move |_| viewer.address.with(|a| a.view.figure.clone()));
    let ranged = document.clone();
    let ends = Memo::new(move |_| {
        match options.with(|options| figure::common_range([&*ranged], options)) {
            Range::Set(lo, hi) => Some((lo, hi)),
            Range::Auto => None,
        }
    });
    let hover = RwSignal::new(None::<Cell>);
    let held = document.clone();
    let pin = Memo::new(move |_| viewer.address.with(|a| cells::pinned(&held, &a.view)));
    let active = Memo::new(move |_| hover.get().or(pin.get()));
    let pinned = document.clone();
    let on_pin = move |cell: Option<Cell>| {
        let pin = cell.map(|cell| cells::pin_of(&pinned, cell));
        viewer.amend(|address| address.view.pin = pin);
    };
    let (layers, tokens) = (document.clone(), document.clone());
    let over_layers = Memo::new(move |_| profile(&layers, &options.get(), active.get()?, true));
    let over_tokens = Memo::new(move |_| profile(&tokens, &options.get(), active.get()?, false));
    let read = document.clone();
    let readout = move || match active.get() {
        Some(cell) => tooltip(&Readout::of(&read, cell)).into_any(),
        None => view! {
            <p class="hint">
                "Point at a cell, or focus the map and use the arrow keys. Click or Enter pins."
            </p>
        }
        .into_any(),
    };
    let is_table = Memo::new(move |_| viewer.address.with(|a| a.view.table));
    let tabled = document.clone();
    let title = match document.entity.trim() {
        "" => "Activation patching".to_string(),
        entity => entity.to_string(),
    };
    let facts = [
        document.model.clone(),
        document.site.to_string(),
        document.provenance.as_ref().map(|p| p.dtype.clone()).unwrap_or_default(),
        format!("{} layers × {} tokens", document.num_layers, document.token_labels.len()),
    ];
    let facts: Vec<_> = facts.into_iter().filter(|fact| !fact.is_empty()).collect();
    let is_link = matches!(source, Source::Link(_));
    view! {
        <article>
            <div class="title-row">
                <div>
                    <h1>{title}</h1>
                    <p class="facts">{facts.join(" · ")}</p>
                </div>
                <Actions document=document.clone() options source=source.clone() />
            </div>
            {is_link.then(|| view! {
                <p class="note">
                    "Opened from a self-contained link: logit differences are exact, \
                     probabilities are rounded to four decimals."
                </p>
            })}
            <Warnings document=document.clone() />
            <Controls document=document.clone() options ends />
            <div class="columns">
                <section class="card map-card" aria-label="Heatmap">
                    <Heatmap
                        document=document.clone()
                        options
                        hover
                        on_hover=move |cell| hover.set(cell)
                        pin
                        on_pin
                    />
                </section>
                <aside>
                    <section class="card cell-card" aria-label="Cell">
                        <h2>{move || if hover.get().is_none() && pin.get().is_some() {
                            "Pinned cell"
                        } else {
                            "Cell"
                        }}</h2>
                        {readout}
                    </section>
                    <section class="card" aria-label="Profiles" class:hidden=move || {
                        active.get().is_none()
                    }>
                        <h2>"Over layers, at this token"</h2>
                        <Chart profile=over_layers />
                        <h2>"Over tokens, at this layer"</h2>
                        <Chart profile=over_tokens />
                    </section>
                    <Baselines document=document.clone() />
                </aside>
            </div>
            <Strips document=document.clone() active />
            <section class="card">
                <button
                    aria-expanded=move || is_table.get().to_string()
                    on:click=move |_| viewer.show(|view| view.table = !view.table)
                >
                    {move || if is_table.get() { "Hide the table" } else { "Show as a table" }}
                </button>
                {move || is_table.get().then(|| {
                    view! { <Table document=tabled.clone() options=options.get() /> }
                })}
            </section>
            <Provenance document />
        </article>
    }
}

/// The row or column of the grid through a cell; `None` where the document lacks the metric.
fn profile(
    document: &Document,
    options: &FigureOptions,
    cell: Cell,
    over_layers: bool,
) -> Option<Profile> {
    let metric = options.metric;
    let columns = options.columns(document);
    let shown = columns.binary_search(&cell.column).ok()?;
    let grid = metric.grid(document).ok()?;
    let values = grid.iter().flat_map(|row| columns.iter().map(|column| row[*column]));
    let range = stats::range(values)?;
    let baselines = document.baselines.as_ref();
    let references = [baselines.map(|b| &b.source), baselines.map(|b| &b.base)].map(|run| {
        let (run, base) = (run?, &baselines?.base);
        match metric {
            Metric::LogitDiff => Some(run.logit_diff),
            Metric::PTrue => Some(run.p_true),
            Metric::PFalse => Some(run.p_false),
            Metric::Change => Some(run.logit_diff - base.logit_diff),
            Metric::Recovery => Some(if std::ptr::eq(run, base) { 0.0 } else { 1.0 }),
        }
    });
    let (values, at, ends) = if over_layers {
        let values = grid.iter().map(|row| row[cell.column]).collect();
        (values, cell.layer, ("0".into(), (document.num_layers - 1).to_string()))
    } else {
        let label = |column: &usize| figure::text::token(&document.token_labels[*column]);
        let values = columns.iter().map(|column| grid[cell.layer][*column]).collect();
        (values, shown, (label(columns.first()?), label(columns.last()?)))
    };
    Some(Profile { values, at, ends, references, range, metric })
}

/// What can be done with an experiment.
#[component]
fn Actions(
    document: Arc<Document>,
    #[prop(into)] options: Signal<FigureOptions>,
    source: Source,
) -> impl IntoView {
    let viewer = Viewer::get();
    let done = RwSignal::new(String::new());
    let copy = move |link: String, what: &'static str| {
        spawn_local(async move {
            let n = link.len();
            done.set(match dom::copy(&link).await {
                Ok(()) => format!("{what} copied, {n} characters."),
                Err(error) => format!("{error}. The link: {link}"),
            });
        });
    };
    let text = permalink::encode(&document);
    let size = format!("Copy self-contained link ({:.1} KB)", text.len() as f64 / 1000.0);
    let whole = move |_| {
        let view = viewer.address.with_untracked(|a| a.view.clone());
        let page = Page::Experiment(Source::Link(text.clone()));
        copy(dom::link_to(&Address { page, view }.fragment()), "Self-contained link");
    };
    let here = move |_| {
        copy(dom::link_to(&viewer.address.get_untracked().fragment()), "Link");
    };
    let compare = move |_| {
        let filter = Filter { picked: vec![source.clone()], ..Filter::default() };
        viewer.go(Address::of(Page::Index(filter)));
    };
    let saves = Kind::ALL.map(|(kind, name)| {
        let document = document.clone();
        let save = move |_| {
            if let Err(error) = export::save(&document, &options.get_untracked(), kind) {
                viewer.tell(source::sentence(&error));
            }
        };
        view! { <button class="quiet" on:click=save aria-label=format!("Download {name}")>{name}</button> }
    });
    view! {
        <div class="actions">
            <button on:click=here>"Copy link"</button>
            <button on:click=whole id="copy-whole">{size}</button>
            <button on:click=compare>"Compare with…"</button>
            <span class="downloads">"Download" {saves.into_iter().collect_view()}</span>
            <p class="done" role="status">{move || done.get()}</p>
        </div>
    }
}
