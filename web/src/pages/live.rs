//! An experiment that is not finished: its grid as far as it is.

use std::sync::Arc;

use leptos::prelude::*;
use shared::document::title;
use shared::field::chosen::Choice;
use shared::field::metric::Metric;
use shared::figure::FigureOptions;
use shared::wire::address::{Address, Page};
use shared::wire::draft::Draft;
use shared::wire::event::Live;
use shared::wire::job::{Job, JobPair, State};
use shared::wire::numbers;

use crate::data::api;
use crate::data::server::Server;
use crate::data::words;
use crate::map::cursor::Cursor;
use crate::map::heatmap::Heatmap;
use crate::map::picture::{Picture, Pictured};
use crate::map::readout::Readout;
use crate::navigation::viewer::Viewer;
use crate::platform::dynamic::dynamic;
use crate::widgets::heading::heading;

/// The page of an experiment that waits or is being swept.
#[component]
pub fn Pending(server: Server, job: Job, pair: JobPair) -> impl IntoView {
    let title = title(&pair.entity).to_string();
    let (id, known) = (job.id.clone(), job.clone());
    let job_now = Memo::new(move |_| server.job(&id).unwrap_or_else(|| known.clone()));
    let experiment = pair.experiment.clone();
    let is_running =
        Memo::new(move |_| server.board.with(|board| board.live_of(&experiment).is_some()));
    let state = move || match is_running.get() {
        true => "It is being swept. Columns appear as they are finished.".to_string(),
        false => format!("It waits: {}.", words::place(&job_now.get())),
    };
    let href = format!("#{}", Address::of(Page::Job(job.id.clone())).fragment());
    let experiment = pair.experiment.clone();
    view! {
        <article>
            <div class="title-row">
                <div>
                    {heading(title)}
                    <p class="facts">{format!("{} · {}", job.model, job.settings.sites)}</p>
                </div>
                <div class="actions">
                    <a class="button" href=href>"The whole job"</a>
                    <CancelButton server job=job_now />
                </div>
            </div>
            <p class="note" role="status">{state}</p>
            <LiveGrid server experiment />
            <section class="card" aria-label="Sentences">
                <h2>"Sentences"</h2>
                <dl class="provenance">
                    <dt>"source"</dt><dd dir="auto">{pair.source.clone()}</dd>
                    <dt>"base"</dt><dd dir="auto">{pair.base.clone()}</dd>
                </dl>
            </section>
        </article>
    }
}

/// What is said of an experiment that has a result and is computed again.
#[component]
pub fn Again(server: Server, job: Job, pair: JobPair) -> impl IntoView {
    let href = format!("#{}", Address::of(Page::Job(job.id.clone())).fragment());
    let (id, known) = (job.id.clone(), job);
    let job = Memo::new(move |_| server.job(&id).unwrap_or_else(|| known.clone()));
    let experiment = pair.experiment;
    let share = Memo::new(move |_| {
        server.board.with(|board| board.live_of(&experiment).map(|live| live.share))
    });
    let failed = pair.error.map(|why| words::sentence(&why));
    let state = move || match share.get() {
        _ if failed.is_some() => format!(
            "It was to be computed again, which failed; this is the earlier result. {}",
            failed.clone().unwrap_or_default()
        ),
        Some(share) => format!("It is being computed again: {:.0} %.", 100.0 * share),
        None => format!("It will be computed again: {}.", words::place(&job.get())),
    };
    view! {
        <p class="note again" role="status">
            {state}" "<a href=href>"The whole job"</a>
        </p>
    }
}

/// The running sweep of an experiment; nothing while it does not run.
#[component]
pub fn LiveGrid(server: Server, #[prop(into)] experiment: Signal<String>) -> impl IntoView {
    let viewer = Viewer::get();
    let live = move |f: &dyn Fn(&Live) -> Option<f64>| {
        server.board.with(|board| f(experiment.with(|id| board.live_of(id))?))
    };
    let is_here = Memo::new(move |_| live(&|_| Some(0.0)).is_some());
    let picture = Memo::new_with_compare(
        move |before: Option<&Pictured>| {
            let now =
                server.board.with(|board| experiment.with(|id| board.live_of(id)).map(Live::field));
            match (now, before) {
                (Some(now), _) => Ok(Arc::new(Picture::whole(now))),
                // Just before it goes away.
                (None, Some(before)) => before.clone(),
                (None, None) => Err(String::new()),
            }
        },
        |_, _| true,
    );
    // Only this is known while a sweep runs.
    let options = Memo::new(move |_| FigureOptions {
        grid: Choice::default(),
        metric: Metric::LogitDiff,
        ..viewer.address.with(|a| a.view.figure.clone())
    });
    let n_base = move || {
        server.board.with(|board| {
            let live = experiment.with(|id| board.live_of(id))?;
            Some(live.sentence_start.saturating_add(live.token_labels.len()))
        })
    };
    let cursor = Cursor::new(Signal::derive(n_base));
    let read = Callback::new(move |key| {
        picture.with(|picture| Readout::of_field(&picture.as_ref().ok()?.field, key))
    });
    // The pointer rests while one sweep follows another, and points at nothing of the next.
    Effect::new(move |before: Option<()>| {
        experiment.track();
        if before.is_some() {
            cursor.point_at(None);
        }
    });
    let share = move || live(&|live| Some(live.share));
    let left = move || match live(&|live| live.left_secs) {
        Some(secs) => format!(" · {} left", words::duration(secs)),
        None => String::new(),
    };
    // In the words of the server that computes it, which may have a queue of its own.
    let said =
        move || server.board.with(|board| experiment.with(|id| board.live_of(id))?.said.clone());
    let n_columns = move || live(&|live| Some(live.columns.len() as f64)).unwrap_or(0.0);
    let n_all = move || live(&|live| Some(live.token_labels.len() as f64)).unwrap_or(0.0);
    let baseline = move |name: &'static str, of: fn(&Live) -> Option<f32>| {
        let value = move || live(&|live| of(live).map(f64::from)).map(|value| value as f32);
        view! { <span>{name}" "{dynamic(move || numbers::logit_diff(value()))}</span> }
    };
    move || {
        is_here.get().then(|| view! {
            <section class="card map-card" aria-label="Heatmap">
                <div class="progress">
                    <progress max="1" prop:value=share aria-label="Progress of the sweep"></progress>
                    <span class="facts">
                        {dynamic(move || format!("{:.0} %", 100.0 * share().unwrap_or(0.0)))}
                        {left}
                        {dynamic(move || format!(" · {} of {} columns", n_columns(), n_all()))}
                    </span>
                    <span class="facts pair-of-values">
                        {baseline("source", |live| live.baselines?.source)}
                        {baseline("base", |live| live.baselines?.base)}
                    </span>
                    {move || said().map(|text| view! { <span class="facts said">{text}</span> })}
                </div>
                <Heatmap picture options read cursor />
            </section>
        })
    }
}

/// Cancels a job that is not finished.
#[component]
pub fn CancelButton(server: Server, #[prop(into)] job: Signal<Job>) -> impl IntoView {
    let viewer = Viewer::get();
    let cancel = move |_| {
        let id = job.with_untracked(|job| job.id.clone());
        leptos::task::spawn_local(async move {
            if let Err(problem) = api::cancel(server.rights, &id).await {
                viewer.tell(api::told(&problem));
            }
        });
    };
    let label = move || format!("Cancel {}", words::job_name(&job.get()));
    view! {
        <button
            class:hidden=move || job.with(|job| job.state.is_final()) || !server.rights.can_change()
            aria-label=label
            on:click=cancel
        >"Cancel"</button>
    }
}

/// The page of an experiment that came to nothing.
#[component]
pub fn Ended(job: Job, pair: JobPair) -> impl IntoView {
    let why = match (pair.state, &pair.error) {
        (State::Cancelled, _) => "It was cancelled before it was finished.".to_string(),
        (State::Done, _) => "Its result has been deleted.".to_string(),
        (_, Some(error)) => words::sentence(error),
        (_, None) => "It failed.".to_string(),
    };
    let draft = Draft::of(&job, &pair);
    let again = format!("#{}", Address::of(Page::New(draft)).fragment());
    view! {
        <section class="card page-problem" role="alert">
            {heading("There is no result")}
            <p>{why}</p>
            <div class="actions">
                <a class="button primary" href=again>"Change and submit again"</a>
                <a class="button" href="#/queue">"Queue"</a>
            </div>
        </section>
    }
}
