//! The form for a new experiment, with what it would do beside it while it is filled in.

mod editing;
mod fields;
mod preview;
mod strips;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use leptos::ev;
use leptos::prelude::*;
use leptos::task::spawn_local;
use shared::wire::address::{Address, Page, Source};
use shared::wire::draft::Draft;
use shared::wire::job::{Preview, Submission};
use shared::wire::problem::Problem;

use self::editing::{Asked, Editing};
use self::fields::Fields;
use self::preview::Outcome;
use crate::data::api;
use crate::data::pasted::Table;
use crate::data::server::Server;
use crate::data::words;
use crate::navigation::viewer::Viewer;
use crate::platform::asking::Asking;
use crate::platform::dynamic::dynamic;
use crate::widgets::heading::heading;

/// How long to wait for the next letter before a preview is asked for.
const TYPING: Duration = Duration::from_millis(350);

/// What the form's state would come to; `None` while there is too little of it.
type Seen = RwSignal<Option<Result<Preview, Problem>>>;

/// The page.
#[component]
pub fn NewPage(server: Server) -> impl IntoView {
    let viewer = Viewer::get();
    let draft = Memo::new(move |_| match viewer.address.with(|a| a.page.clone()) {
        Page::New(draft) => draft,
        _ => Draft::default(),
    });
    let submission = Memo::new(move |_| {
        let draft = draft.get();
        let table = draft.is_table.then(|| viewer.table.with(Table::input));
        draft.submission(table)
    });
    let seen = Seen::new(None);
    // What is asked for a preview, and of which draft.
    let asked = Memo::new(move |_| {
        let draft = draft.get().previewed();
        let table = draft.is_table.then(|| viewer.table.with(Table::input));
        Some((draft.submission(table)?, draft))
    });
    let is_asking = RwSignal::new(false);
    let asking = Asking::new();
    let tokens = RwSignal::new(None::<Arc<Asked>>);
    // What is wrong with the alignment leaves the tokens there, and what was typed meanwhile does.
    let shown = Memo::new(move |_| {
        let is_wrong = seen.with(|seen| matches!(seen, Some(Err(_))));
        let fits = |asked: &Arc<Asked>| draft.with(|draft| asked.fits(draft));
        let is_pair = draft.with(|draft| !draft.is_table);
        tokens.get().filter(|asked| is_pair && (!is_wrong || fits(asked)))
    });
    let editing = Editing::new(draft, shown);
    let ask = move |submission: Submission, of: Draft, number: u64| {
        spawn_local(async move {
            let found = api::preview(server.rights, &submission).await;
            // Whatever was typed meanwhile asks anew.
            if asking.is_last(number) {
                if let (false, Ok(Preview { pairs, .. })) = (of.is_table, &found) {
                    tokens.set(pairs.first().map(|pair| Arc::new(Asked::new(&of, pair))));
                    if draft.with_untracked(Draft::begins_by_hand) {
                        editing.begin_by_hand();
                    }
                }
                seen.set(Some(found));
                is_asking.set(false);
            }
        });
    };
    let typing = StoredValue::new(None::<TimeoutHandle>);
    let again = RwSignal::new(());
    Effect::new(move |before: Option<()>| {
        again.track();
        // With the server's word on tokens there is something to ask with.
        let is_known = server.info.with(Option::is_some);
        let number = asking.next();
        if let Some(timer) = typing.get_value() {
            timer.clear();
        }
        let asked = asked.get();
        is_asking.set(asked.is_some());
        let Some((submission, of)) = asked.filter(|_| is_known) else { return seen.set(None) };
        let wait = if before.is_some() { TYPING } else { Duration::ZERO };
        let ask = move || ask(submission, of, number);
        typing.set_value(set_timeout_with_handle(ask, wait).ok());
    });
    on_cleanup(move || {
        if let Some(Some(timer)) = typing.try_get_value() {
            timer.clear();
        }
    });
    let is_sending = RwSignal::new(false);
    let submit = move |event: ev::SubmitEvent| {
        event.prevent_default();
        let Some(submission) = submission.get_untracked() else { return };
        if is_sending.get_untracked() {
            return;
        }
        is_sending.set(true);
        spawn_local(async move {
            let submitted = api::submit(server.rights, &submission).await;
            // The reader may have left the page meanwhile.
            if is_sending.try_set(false).is_some() {
                return;
            }
            match submitted {
                Ok(detail) => viewer.go(Address::of(match &*detail.pairs {
                    [pair] => Page::Experiment(Source::Id(pair.experiment.clone())),
                    _ => Page::Job(detail.job.id),
                })),
                Err(problem) => {
                    asking.next();
                    is_asking.set(false);
                    seen.set(Some(Err(problem)));
                }
            }
        });
    };
    let give_token = move |()| {
        spawn_local(async move {
            if server.rights.ask_token(crate::platform::dom::token().is_some()).await {
                again.try_set(());
            }
        });
    };
    let label = move || match seen.with(|seen| {
        let preview = seen.as_ref().and_then(|seen| seen.as_ref().ok())?;
        Some((preview.n_pairs, preview.n_known))
    }) {
        Some((1, 1)) => "Open the result".to_string(),
        Some((n, _)) if n > 1 => format!("Run {}", words::count(n, "pair", "pairs")),
        _ => "Run".to_string(),
    };
    let corresponds = move |()| {
        let fits = |asked: &Arc<Asked>| draft.with_untracked(|draft| asked.fits(draft));
        let asked = shown.get_untracked().filter(|asked| fits(asked) && !is_asking.get_untracked());
        asked.map(|asked| asked.corresponds.clone())
    };
    let refused = move || server.info.with(|info| info.is_some()) && !server.rights.can_change();
    view! {
        <article>
            {heading("New experiment")}
            {dynamic(move || refused().then(|| view! {
                <p class="problem" role="alert">
                    "This server only shows results: nothing can be computed here."
                </p>
            }))}
            <div class="halves">
                <form class="card form" on:submit=submit aria-label="Experiment">
                    {dynamic(move || match server.info.get() {
                        Some(info) => view! { <Fields draft info corresponds /> }.into_any(),
                        None => view! { <p class="loading" role="status">"Loading…"</p> }.into_any(),
                    })}
                    <div class="actions">
                        <button
                            class="primary"
                            type="submit"
                            disabled=move || {
                                submission.with(Option::is_none) || is_sending.get() || refused()
                            }
                        >{label}</button>
                        <span class="hint" role="status">
                            {dynamic(move || if is_sending.get() { "Submitting…" } else { "" })}
                        </span>
                    </div>
                </form>
                <Outcome seen is_asking editing on_token=give_token />
            </div>
        </article>
    }
}
