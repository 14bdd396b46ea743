//! An experiment of a server, from the queue to its result.

use std::sync::Arc;

use leptos::prelude::*;
use leptos::task::spawn_local;
use shared::document::Document;
use shared::wire::address::Source;
use shared::wire::event::Event;
use shared::wire::job::{Job, JobPair, State};

use crate::data::api;
use crate::data::server::Server;
use crate::data::source;
use crate::navigation::viewer::Viewer;
use crate::pages::live::{Again, Ended, Pending};
use crate::pages::result::Experiment;
use crate::platform::asking::Asking;
use crate::platform::dynamic::dynamic;
use crate::widgets::problem::Problem;

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

/// A job and which of its pairs makes an experiment.
type Made = Option<Box<(Job, JobPair)>>;

/// What is known of an experiment, and what makes it, if anything has or does.
async fn find(viewer: Viewer, id: String) -> Result<(Known, Made), shared::wire::problem::Problem> {
    let standing = api::standing(&id).await?;
    let made = standing.job.zip(standing.pair).map(Box::new);
    if standing.stored {
        // The server may have another by now; where it has not, the browser has kept it.
        viewer.library.forget_stored();
        let loaded = source::load(viewer.library, Source::Id(id)).await;
        return Ok((loaded.map_or_else(Known::Problem, Known::Document), made));
    }
    let known = match made.clone() {
        Some(both) if both.1.state.is_final() => Known::Ended(both),
        Some(both) => Known::Pending(both),
        None => Known::Problem(format!(
            "The server has no experiment with the id {id}, and nobody has asked for it. If it \
             was opened from a file before, open that file again."
        )),
    };
    Ok((known, made))
}

/// An experiment of a server, which may be waiting, be swept or be finished, and be swept again.
#[component]
pub fn Followed(server: Server, id: String) -> impl IntoView {
    let viewer = Viewer::get();
    let known = RwSignal::new(viewer.library.opened(&id).map(Known::Document));
    let made = RwSignal::new(None::<Box<(Job, JobPair)>>);
    let wanted = id.clone();
    let asking = Asking::new();
    let ask = move || {
        let id = wanted.clone();
        let number = asking.next();
        spawn_local(async move {
            let found = find(viewer, id).await;
            if !asking.take(number) {
                return;
            }
            let is_shown = known.with_untracked(|k| matches!(k, Some(Known::Document(_))));
            match found {
                // What is there stays while the server is away, and while it is computed again.
                Err(problem) if problem.status == 0 && known.with_untracked(Option::is_some) => {}
                Err(_) if is_shown => {}
                Err(problem) => known.set(Some(Known::Problem(api::told(&problem)))),
                Ok((found, by)) => {
                    made.set(by);
                    if !is_shown || matches!(found, Known::Document(_)) {
                        known.set(Some(found));
                    }
                }
            }
        });
    };
    ask();
    let own = id.clone();
    server.listen(move |event| {
        let job = made.with_untracked(|made| made.as_ref().map(|both| both.0.id.clone()));
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
    // One that has a result and is computed again, or was to be.
    let again = Memo::new(move |_| {
        let is_shown = known.with(|known| matches!(known, Some(Known::Document(_))));
        let is_told = |state: State| !state.is_final() || state == State::Failed;
        made.get().filter(|both| is_shown && is_told(both.1.state))
    });
    let page = move || match shown.get() {
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
    };
    view! {
        {dynamic(move || again.get().map(|both| {
            let (job, pair) = *both;
            view! { <Again server job pair /> }
        }))}
        {page}
    }
    .into_any()
}
