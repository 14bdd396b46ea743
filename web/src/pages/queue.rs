//! What a server is at, and what it has been at.

use leptos::prelude::*;
use leptos::task::spawn_local;
use shared::wire::address::{Address, Page};
use shared::wire::job::{Job, State};

use crate::data::api;
use crate::data::server::Server;
use crate::data::words;
use crate::navigation::viewer::Viewer;
use crate::pages::live::CancelButton;
use crate::platform::dynamic::{dynamic, listed};
use crate::widgets::heading::heading;

/// The page of all jobs.
#[component]
pub fn QueuePage(server: Server) -> impl IntoView {
    let jobs = Memo::new(move |_| server.board.with(|board| board.jobs.clone()));
    let ids = move || {
        let id = |job: &Job| (job.id.clone(), job.id.clone());
        jobs.with(|jobs| jobs.iter().map(id).collect())
    };
    let row = move |id: String| {
        let job = Memo::new(move |before: Option<&Option<Job>>| {
            server.job(&id).or_else(|| before.cloned().flatten())
        });
        // What is in the list is known.
        let first = job.get_untracked()?;
        let job = Signal::derive(move || job.get().unwrap_or_else(|| first.clone()));
        Some(view! { <JobRow server job /> })
    };
    let summary = move || match server.board.with(|board| board.n_active()) {
        0 => "Nothing waits".to_string(),
        n => words::count(n, "job is not finished", "jobs are not finished"),
    };
    view! {
        <article>
            <div class="title-row">
                {heading("Queue")}
                <p class="count" role="status">{summary}</p>
            </div>
            <p class="hint" class:hidden=move || !jobs.with(Vec::is_empty)>
                "Nothing has been submitted. What you run is shown here, with how far it is."
            </p>
            <ul class="jobs">
                {listed(ids, row)}
            </ul>
        </article>
    }
}

#[component]
fn JobRow(server: Server, job: Signal<Job>) -> impl IntoView {
    let viewer = Viewer::get();
    let id = job.with_untracked(|job| job.id.clone());
    let href = format!("#{}", Address::of(Page::Job(id.clone())).fragment());
    let facts = move || {
        let job = job.get();
        let pairs = words::count(job.n_pairs, "pair", "pairs");
        let at = job.submitted_at.replace('T', " ");
        format!("{} · {} · {pairs} · {}", job.model, job.settings.sites, at.trim_end_matches('Z'))
    };
    let is = move |state: State| job.with(|job| job.state == state);
    let running = id.clone();
    // The share of all of its pairs that run at once, and the seconds left of one.
    let live = Memo::new(move |_| {
        server.board.with(|board| {
            let mut of_job = (0.0, None);
            for live in board.live.iter().filter(|live| live.job == running) {
                of_job = (of_job.0 + live.share, live.left_secs);
            }
            of_job
        })
    });
    // The share of the whole job: its finished pairs, and of the running ones what is done.
    let share = move || {
        let job = job.get();
        let n = (job.n_done + job.n_failed) as f64 + live.get().0;
        n / job.n_pairs.max(1) as f64
    };
    let left = move || match live.get().1 {
        Some(secs) if job.with(|job| job.n_pairs == 1) => {
            format!("{} left", words::duration(secs))
        }
        _ => String::new(),
    };
    let remove = move |_| {
        let id = id.clone();
        spawn_local(async move {
            if let Err(problem) = api::remove_job(server.rights, &id).await {
                viewer.tell(api::told(&problem));
            }
        });
    };
    let label = move || format!("Remove {} from the list", words::job_name(&job.get()));
    view! {
        <li class="card job">
            <div class="job-head">
                <a href=href><strong>{dynamic(move || words::job_name(&job.get()))}</strong></a>
                <span class=move || format!("state {}", job.with(|job| job.state))>
                    {dynamic(move || words::progress(&job.get()))}
                </span>
            </div>
            <p class="facts">{facts}</p>
            {dynamic(move || is(State::Running).then(|| view! {
                <div class="progress">
                    <progress max="1" prop:value=share aria-label="Progress of the job"></progress>
                    <span class="facts">{left}</span>
                </div>
            }))}
            {dynamic(move || job.get().error.map(|why| view! {
                <p class="job-error">{words::sentence(&why)}</p>
            }))}
            <div class="actions">
                <CancelButton server job />
                <button
                    class="quiet"
                    class:hidden=move || {
                        !job.with(|job| job.state.is_final()) || !server.rights.can_change()
                    }
                    aria-label=label
                    on:click=remove
                >"Remove from the list"</button>
            </div>
        </li>
    }
}
