//! One job and its pairs.

use leptos::prelude::*;
use leptos::task::spawn_local;
use shared::wire::address::{Address, Page, Source};
use shared::wire::event::Event;
use shared::wire::job::{Job, JobDetail, JobPair, State};
use shared::wire::studies::StudySource;

use crate::data::api;
use crate::data::server::Server;
use crate::data::words;
use crate::navigation::viewer::Viewer;
use crate::pages::live::{CancelButton, LiveGrid};
use crate::platform::asking::Asking;
use crate::platform::dynamic::{dynamic, listed};
use crate::widgets::heading::heading;
use crate::widgets::problem::Problem;

/// How many pairs are put on the page at a time.
const BATCH: usize = 100;

/// The page of the job `id`. A job of one pair is that pair's experiment.
#[component]
pub fn JobPage(server: Server, id: String) -> impl IntoView {
    let viewer = Viewer::get();
    let detail = RwSignal::new(None::<Result<JobDetail, String>>);
    let wanted = id.clone();
    let asking = Asking::new();
    let ask = move || {
        let id = wanted.clone();
        let number = asking.next();
        spawn_local(async move {
            let found = api::job(&id).await;
            if !asking.take(number) {
                return;
            }
            match found {
                Ok(JobDetail { job, pairs }) if job.n_pairs == 1 && pairs.len() == 1 => {
                    let experiment = pairs.into_iter().next().map(|pair| pair.experiment);
                    let page = Page::Experiment(Source::Id(experiment.unwrap_or_default()));
                    viewer.amend(|address| address.page = page);
                }
                Ok(found) => drop(detail.try_set(Some(Ok(found)))),
                Err(problem) => {
                    // A server that is away for a moment leaves the page as it is.
                    if problem.status != 0 || detail.try_get_untracked() == Some(None) {
                        detail.try_set(Some(Err(api::told(&problem))));
                    }
                }
            }
        });
    };
    ask();
    let own = id.clone();
    server.listen(move |event| match event {
        Event::Snapshot { .. } => ask(),
        Event::Pair { job, pair } if *job == own => detail.update(|detail| {
            let pairs = detail.as_mut().and_then(|detail| detail.as_mut().ok());
            if let Some(known) = pairs.and_then(|detail| detail.pairs.get_mut(pair.index)) {
                *known = pair.clone();
            }
        }),
        // Pairs are cancelled all at once, and not told of one by one.
        Event::Job { job } if job.id == own && job.state == State::Cancelled => ask(),
        Event::JobRemoved { id } if *id == own => {
            detail.set(Some(Err("The job was removed from the list.".into())));
        }
        _ => {}
    });
    let problem = Memo::new(move |_| {
        detail.with(|detail| match detail {
            None => None,
            Some(Ok(_)) => Some(None),
            Some(Err(text)) => Some(Some(text.clone())),
        })
    });
    move || match problem.get() {
        None => view! { <p class="loading" role="status">"Loading…"</p> }.into_any(),
        Some(Some(text)) => view! { <Problem text /> }.into_any(),
        Some(None) => view! { <Pairs server id=id.clone() detail /> }.into_any(),
    }
}

#[component]
fn Pairs(
    server: Server,
    id: String,
    detail: RwSignal<Option<Result<JobDetail, String>>>,
) -> impl IntoView {
    let count = move |detail: &Option<Result<JobDetail, String>>| match detail {
        Some(Ok(detail)) => detail.pairs.len(),
        _ => 0,
    };
    let n_pairs = Memo::new(move |_| detail.with(count));
    let first = detail.with_untracked(|detail| match detail {
        Some(Ok(detail)) => Some(detail.job.clone()),
        _ => None,
    })?;
    let (title, model) = (words::job_name(&first), first.model.clone());
    let site = first.settings.sites.clone();
    let running = id.clone();
    let study = Page::Study(StudySource::Job(id.clone()));
    let study_href = format!("#{}", Address::of(study).fragment());
    let job: Memo<Job> = Memo::new(move |_| server.job(&id).unwrap_or_else(|| first.clone()));
    let has_study = Memo::new(move |_| job.with(|job| job.n_pairs > 1 && job.n_done > 0));
    let experiment = Memo::new(move |_| {
        server.board.with(|board| {
            // Of those that run at once the one that began last.
            let live = board.live.iter().rfind(|live| live.job == running);
            live.map(|live| live.experiment.clone()).unwrap_or_default()
        })
    });
    let n_shown = RwSignal::new(BATCH);
    // A row stays where it is, with the focus in it, while its pair changes.
    let shown = move || (0..n_pairs.get().min(n_shown.get())).map(|i| (i.to_string(), i)).collect();
    let row = move |i: usize| {
        let pair = Memo::new(move |_| {
            detail.with(|detail| detail.as_ref()?.as_ref().ok()?.pairs.get(i).cloned())
        });
        view! { <Row pair /> }
    };
    Some(view! {
        <article>
            <div class="title-row">
                <div>
                    {heading(title)}
                    <p class="facts">{format!("{model} · {site}")}</p>
                </div>
                <div class="actions">
                    {dynamic(move || has_study.get().then(|| view! {
                        <a class="button primary" href=study_href.clone()>"Study of its pairs"</a>
                    }))}
                    <CancelButton server job />
                </div>
            </div>
            <p class="note" role="status">{dynamic(move || words::sentence(&words::progress(&job.get())))}</p>
            <LiveGrid server experiment />
            <section class="card" aria-label="Pairs">
                <div class="scroll">
                    <table class="numbers pairs">
                        <thead><tr>
                            <th scope="col">"Line"</th>
                            <th scope="col">"Pair"</th>
                            <th scope="col">"State"</th>
                        </tr></thead>
                        <tbody>{listed(shown, row)}</tbody>
                    </table>
                </div>
                <button
                    class="more"
                    class:hidden=move || n_pairs.get() <= n_shown.get()
                    on:click=move |_| n_shown.update(|n| *n += 10 * BATCH)
                >"Show more"</button>
            </section>
        </article>
    })
}

#[component]
fn Row(pair: Memo<Option<JobPair>>) -> impl IntoView {
    let read = move |f: fn(&JobPair) -> String| {
        move || pair.with(|pair| pair.as_ref().map(f).unwrap_or_default())
    };
    let href = read(|pair| {
        let page = Page::Experiment(Source::Id(pair.experiment.clone()));
        format!("#{}", Address::of(page).fragment())
    });
    let line = read(|pair| match pair.line {
        0 => (pair.index + 1).to_string(),
        line => line.to_string(),
    });
    let name = read(|pair| match &*pair.entity {
        "" => pair.source.clone(),
        entity => entity.to_string(),
    });
    let source = read(|pair| pair.source.clone());
    let state = read(|pair| pair.state.to_string());
    let class = move || format!("state {}", state());
    let why = read(|pair| pair.error.as_deref().map(words::sentence).unwrap_or_default());
    view! {
        <tr>
            <th scope="row">{line}</th>
            <td>
                <a href=href dir="auto">{name}</a>
                <span class="facts pair-text" dir="auto">{source}</span>
            </td>
            <td>
                <span class=class>{state}</span>
                <span class="job-error">{why}</span>
            </td>
        </tr>
    }
}
