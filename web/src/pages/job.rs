//! One job and its pairs.

use leptos::prelude::*;
use leptos::task::spawn_local;
use shared::address::{Address, Page, Source};
use shared::event::Event;
use shared::job::{Job, JobDetail, JobPair, State};

use crate::app::{Problem, Viewer};
use crate::pages::live::{CancelButton, LiveGrid};
use crate::server::Server;
use crate::{api, source, words};

/// How many pairs are put on the page at a time.
const BATCH: usize = 100;

/// The page of the job `id`. A job of one pair is that pair's experiment.
#[component]
pub fn JobPage(server: Server, id: String) -> impl IntoView {
    let viewer = Viewer::get();
    let detail = RwSignal::new(None::<Result<JobDetail, String>>);
    let wanted = id.clone();
    let ask = move || {
        let id = wanted.clone();
        spawn_local(async move {
            match api::job(&id).await {
                Ok(JobDetail { job, pairs }) if job.n_pairs == 1 && pairs.len() == 1 => {
                    if detail.try_get_untracked().is_some() {
                        let page = Page::Experiment(Source::Id(pairs[0].experiment.clone()));
                        viewer.amend(|address| address.page = page);
                    }
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
    let pairs = Memo::new(move |_| {
        detail.with(|detail| match detail {
            Some(Ok(detail)) => detail.pairs.clone(),
            _ => Vec::new(),
        })
    });
    let first = detail.with_untracked(|detail| match detail {
        Some(Ok(detail)) => Some(detail.job.clone()),
        _ => None,
    })?;
    let (title, model) = (words::job_name(&first), first.model.clone());
    let site = first.settings.site;
    let running = id.clone();
    let job: Memo<Job> = Memo::new(move |_| server.job(&id).unwrap_or_else(|| first.clone()));
    let experiment = Memo::new(move |_| {
        server.board.with(|board| {
            let live = board.live.as_ref().filter(|live| live.job == running);
            live.map(|live| live.experiment.clone()).unwrap_or_default()
        })
    });
    let n_shown = RwSignal::new(BATCH);
    let rows =
        move || pairs.with(|pairs| pairs.iter().take(n_shown.get()).map(row).collect::<Vec<_>>());
    Some(view! {
        <article>
            <div class="title-row">
                <div>
                    <h1>{title}</h1>
                    <p class="facts">{format!("{model} · {site}")}</p>
                </div>
                <div class="actions"><CancelButton server job /></div>
            </div>
            <p class="note" role="status">{move || source::sentence(&words::progress(&job.get()))}</p>
            <LiveGrid server experiment />
            <section class="card" aria-label="Pairs">
                <div class="scroll">
                    <table class="numbers pairs">
                        <thead><tr>
                            <th scope="col">"Line"</th>
                            <th scope="col">"Pair"</th>
                            <th scope="col">"State"</th>
                        </tr></thead>
                        <tbody>{rows}</tbody>
                    </table>
                </div>
                <button
                    class="more"
                    class:hidden=move || pairs.with(Vec::len) <= n_shown.get()
                    on:click=move |_| n_shown.update(|n| *n += 10 * BATCH)
                >"Show more"</button>
            </section>
        </article>
    })
}

fn row(pair: &JobPair) -> impl IntoView + use<> {
    let page = Page::Experiment(Source::Id(pair.experiment.clone()));
    let href = format!("#{}", Address::of(page).fragment());
    let line = if pair.line == 0 { pair.index as u64 + 1 } else { pair.line };
    let name = if pair.entity.is_empty() { pair.source.clone() } else { pair.entity.clone() };
    let why = pair.error.as_deref().map(source::sentence);
    view! {
        <tr>
            <th scope="row">{line}</th>
            <td><a href=href>{name}</a><span class="facts pair-text">{pair.source.clone()}</span></td>
            <td>
                <span class=format!("state {}", pair.state)>{pair.state.name()}</span>
                {why.map(|why| view! { <span class="job-error">{why}</span> })}
            </td>
        </tr>
    }
}
