//! One experiment.

use std::sync::Arc;

use leptos::prelude::*;
use leptos::task::spawn_local;
use shared::address::{Address, Filter, Page, Source};
use shared::colour::Range;
use shared::document::{Document, title};
use shared::event::Event;
use shared::figure::{self, FigureOptions};
use shared::job::{Job, JobPair, Standing};
use shared::metric::Metric;
use shared::{permalink, stats};

use crate::app::{Problem, Viewer};
use crate::cells::{self, Cell};
use crate::chart::{Chart, Profile};
use crate::controls::Controls;
use crate::export::{self, Kind};
use crate::heatmap::{Heatmap, tooltip};
use crate::pages::live::{Ended, Pending};
use crate::panels::{Baselines, Provenance, Warnings};
use crate::readout::Readout;
use crate::server::Server;
use crate::strips::Strips;
use crate::table::Table;
use crate::{api, dom, source};

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
    let viewer = Viewer::get();
    if let (Some(server), Source::Id(id)) = (viewer.server, &source)
        && viewer.opened(id).is_none()
    {
        return view! { <Followed server id=id.clone() /> }.into_any();
    }
    let loaded = load(viewer, source.clone());
    let shown = move || match loaded.get() {
        None => view! { <p class="loading" role="status">"Loading…"</p> }.into_any(),
        Some(Err(text)) => view! { <Problem text /> }.into_any(),
        Some(Ok(document)) => {
            let source = source.clone();
            view! { <Experiment document source /> }.into_any()
        }
    };
    shown.into_any()
}

/// What is known of a server's experiment.
#[derive(Clone, PartialEq)]
enum Known {
    Document(Arc<Document>),
    /// It waits or is being run.
    Pending(Box<(Job, JobPair)>),
    /// It came to nothing.
    Ended(Box<(Job, JobPair)>),
    Problem(String),
}

async fn find(viewer: Viewer, id: String) -> Result<Known, shared::problem::Problem> {
    let standing = api::standing(&id).await?;
    if standing.stored {
        let loaded = source::load(viewer, &Source::Id(id)).await;
        return Ok(loaded.map_or_else(Known::Problem, Known::Document));
    }
    Ok(match standing {
        Standing { job: Some(job), pair: Some(pair), .. } => {
            let is_final = pair.state.is_final();
            let both = Box::new((job, pair));
            if is_final { Known::Ended(both) } else { Known::Pending(both) }
        }
        _ => Known::Problem(format!(
            "The server has no experiment with the id {id}, and nobody has asked for it. If it \
             was opened from a file before, open that file again."
        )),
    })
}

/// An experiment of a server, which may be waiting, be swept or be finished.
#[component]
fn Followed(server: Server, id: String) -> impl IntoView {
    let viewer = Viewer::get();
    let known = RwSignal::new(None::<Known>);
    let wanted = id.clone();
    let ask = move || {
        let id = wanted.clone();
        spawn_local(async move {
            let found = find(viewer, id).await;
            // The reader may have left the page meanwhile; and what is there stays while the
            // server is away.
            match (found, known.try_get_untracked()) {
                (_, None | Some(Some(Known::Document(_)))) => {}
                (Err(problem), Some(Some(_))) if problem.status == 0 => {}
                (Err(problem), _) => known.set(Some(Known::Problem(api::told(&problem)))),
                (Ok(found), _) => known.set(Some(found)),
            }
        });
    };
    ask();
    let own = id.clone();
    server.listen(move |event| {
        let job = known.with_untracked(|known| match known {
            Some(Known::Pending(both) | Known::Ended(both)) => Some(both.0.id.clone()),
            _ => None,
        });
        match event {
            Event::Snapshot { .. } | Event::Experiments {} => ask(),
            Event::Pair { pair, .. } if pair.experiment == own => ask(),
            Event::Begun { live } if live.experiment == own => ask(),
            Event::Job { job: told } if Some(&told.id) == job.as_ref() && told.state.is_final() => {
                ask();
            }
            Event::JobRemoved { id } if Some(id) == job.as_ref() => ask(),
            _ => {}
        }
    });
    // While it waits, its page stays as it is.
    let shown = Memo::new_with_compare(
        move |_| known.get(),
        |before, now| match (before, now) {
            (Some(Some(Known::Pending(a))), Some(Some(Known::Pending(b)))) => a.0.id != b.0.id,
            (before, now) => before != now,
        },
    );
    move || match shown.get() {
        None => view! { <p class="loading" role="status">"Loading…"</p> }.into_any(),
        Some(Known::Problem(text)) => view! { <Problem text /> }.into_any(),
        Some(Known::Pending(both)) => {
            let (job, pair) = *both;
            view! { <Pending server job pair /> }.into_any()
        }
        Some(Known::Ended(both)) => {
            let (job, pair) = *both;
            view! { <Ended job pair /> }.into_any()
        }
        Some(Known::Document(document)) => {
            let source = Source::Id(id.clone());
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
    let name = title(&document.entity).to_string();
    let facts = [
        document.model.clone(),
        document.site_name().to_string(),
        document.provenance.as_ref().map(|p| p.dtype.clone()).unwrap_or_default(),
        format!("{} layers × {} tokens", document.num_layers, document.token_labels.len()),
    ];
    let facts: Vec<_> = facts.into_iter().filter(|fact| !fact.is_empty()).collect();
    let is_link = matches!(source, Source::Link(_));
    view! {
        <article>
            <div class="title-row">
                <div>
                    <h1>{name}</h1>
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
            <Warnings warnings=document.warnings() />
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
            Metric::LogitDiff => run.logit_diff,
            Metric::PTrue => run.p_true,
            Metric::PFalse => run.p_false,
            Metric::Change => Some(run.logit_diff? - base.logit_diff?),
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
    // What was opened from a file is not the server's.
    let stored = match &source {
        Source::Id(id) if viewer.files.with_untracked(|files| !files.contains(id)) => viewer.server,
        _ => None,
    };
    let name = title(&document.entity).to_string();
    let id = document.id.clone();
    let delete = move |server: Server| {
        let (id, name) = (id.clone(), name.clone());
        let delete = move |_| {
            let home = move || viewer.go(Address::default());
            server.delete(viewer, id.clone(), name.clone(), home);
        };
        view! {
            <button class:hidden=move || !server.can_change() on:click=delete>"Delete"</button>
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
            {stored.map(delete)}
            <span class="downloads">"Download" {saves.into_iter().collect_view()}</span>
            <p class="done" role="status">{move || done.get()}</p>
        </div>
    }
}
