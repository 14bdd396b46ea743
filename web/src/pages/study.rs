//! What a table of pairs showed: the map of all pairs, and from its cells to the pairs behind them.

mod cell;
mod controls;
mod handover;
mod look;
mod multiples;
mod pairs;
mod spread;

use std::sync::Arc;
use std::time::Duration;

use leptos::prelude::*;
use leptos::task::spawn_local;
use shared::figure::FigureOptions;
use shared::study::{Pooled, Study};
use shared::wire::address::{Address, Page, Source, View};
use shared::wire::event::Event;
use shared::wire::studies::StudySource;

use self::controls::{Rule, StudyControls};
use self::handover::HandoverCard;
use self::look::{Look, Looked};
use self::multiples::Multiples;
use self::pairs::Pairs;
use self::spread::Spread;
use crate::data::opened::Opened;
use crate::data::studies::{self, Missing};
use crate::data::words;
use crate::map::cursor::Cursor;
use crate::map::heatmap::Heatmap;
use crate::map::tooltip::tooltip;
use crate::navigation::viewer::Viewer;
use crate::pages::embedded::embedded;
use crate::platform::asking::Asking;
use crate::platform::dynamic::dynamic;
use crate::widgets::heading::heading;
use crate::widgets::markdown::markdown;
use crate::widgets::problem::Problem;

/// How often a study is asked for again while its pairs are swept.
const AGAIN: Duration = Duration::from_secs(2);

/// The study, or why there is none; `None` until that is known.
type Loaded = RwSignal<Option<Result<Arc<Opened>, Missing>>>;

/// The address of a pair's result, from which the way leads back to the study.
fn href_of(study: &StudySource, id: &str) -> String {
    let view = View { from: Some(study.clone()), ..View::default() };
    let address = Address { page: Page::Experiment(Source::Id(id.to_string())), view };
    format!("#{}", address.fragment())
}

/// What a pair is called.
fn name_of(study: &Study, pair: usize) -> String {
    study.pairs.get(pair).map_or(String::new(), |pair| match &*pair.entity {
        "" => pair.source.sentence.clone(),
        entity => entity.to_string(),
    })
}

/// The page of the study that comes from `source`.
#[component]
pub fn StudyPage(source: StudySource) -> impl IntoView {
    let viewer = Viewer::get();
    let loaded = Loaded::new(None);
    let asking = Asking::new();
    let view = Memo::new(move |_| viewer.address.with(|address| address.view.study.clone()));
    let own = source.clone();
    let ask = move |anew: bool| {
        let (source, asked, number) = (own.clone(), view.get_untracked(), asking.next());
        spawn_local(async move {
            let found = studies::load(viewer.library, source, asked.clone(), anew).await;
            let is_wanted = view.try_with_untracked(|now| now.pooling() == asked.pooling());
            if !asking.take(number) || is_wanted != Some(true) {
                return;
            }
            let known = loaded.with_untracked(|known| match known {
                Some(Ok(known)) => Some(known.clone()),
                _ => None,
            });
            match (known, found) {
                (Some(known), Ok(found)) if *known == *found => {}
                // What is there stays while the server is away.
                (Some(_), Err(Missing::Problem(text))) => viewer.tell(text),
                (_, found) => loaded.set(Some(found)),
            }
        });
    };
    let pooling = Memo::new(move |_| view.with(|view| view.pooling()));
    let asked = ask.clone();
    Effect::new(move || {
        // Read and not only tracked: what was never read knows nothing of what it depends on.
        pooling.with(|_| asked(false));
    });
    if let (Some(server), StudySource::Job(id)) = (viewer.server, source.clone()) {
        let is_due = StoredValue::new(false);
        server.listen(move |event| {
            let is_news = match event {
                Event::Snapshot { .. } => true,
                Event::Pair { job, pair } => *job == id && pair.state.is_final(),
                _ => false,
            };
            if is_news && !is_due.get_value() {
                is_due.set_value(true);
                let ask = ask.clone();
                let again = move || {
                    // The reader may have left the page meanwhile.
                    if is_due.try_set_value(false).is_none() {
                        ask(true);
                    }
                };
                set_timeout(again, AGAIN);
            }
        });
    }
    let missing = Memo::new(move |_| {
        loaded.with(|loaded| match loaded {
            None => Some(None),
            Some(Err(missing)) => Some(Some(missing.clone())),
            Some(Ok(_)) => None,
        })
    });
    let opened = Signal::derive(move || loaded.get()?.ok());
    let job = match &source {
        StudySource::Job(id) => Some(id.clone()),
        StudySource::Id(_) => None,
    };
    move || match missing.get() {
        Some(None) => view! { <p class="loading" role="status">"Loading…"</p> }.into_any(),
        Some(Some(Missing::NotYet)) => {
            let href = job.clone().map(|id| format!("#{}", Address::of(Page::Job(id)).fragment()));
            view! {
                <article>
                    {heading("Study")}
                    <p class="note" role="status">
                        "No pair is finished yet. The study begins with the first. "
                        <a href=href>"The job"</a>
                    </p>
                </article>
            }
            .into_any()
        }
        Some(Some(Missing::Problem(text))) => view! { <Problem text /> }.into_any(),
        None => {
            let source = source.clone();
            view! { <Body source opened view /> }.into_any()
        }
    }
}

/// The study.
#[component]
fn Body(
    source: StudySource,
    opened: Signal<Option<Arc<Opened>>>,
    view: Memo<shared::wire::studies::StudyView>,
) -> AnyView {
    let viewer = Viewer::get();
    // Known once it is compared: a cell that is held is part of the address, and draws no map again.
    let options = Memo::new(move |_| FigureOptions {
        hidden: Default::default(),
        ..viewer.address.with(|address| address.view.figure.clone())
    });
    let slice = move || options.with(|options| options.grid.at);
    let looked = move || Looked::of(opened.get()?, view.get(), slice());
    let picture = Memo::new_with_compare(move |_| look::pictured(looked()), |_, _| true);
    // A study has no positions that would have to be counted from an end.
    let cursor = Cursor::new(Signal::stored(Some(0)));
    let cell = Memo::new(move |_| {
        let held = cursor.held().filter(|key| {
            picture.with(|picture| picture.as_ref().is_ok_and(|p| p.field.find(*key).is_some()))
        });
        held.or_else(|| looked()?.strongest())
    });
    let pooled = RwSignal::new(None::<Result<Arc<Pooled>, String>>);
    let effects = Memo::new(move |_| {
        let Some(at) = cell.get().and_then(|key| looked()?.index(key)) else { return Vec::new() };
        pooled.with(|pooled| match pooled {
            Some(Ok(pooled)) => {
                (0..pooled.samples.n_pairs()).map(|pair| pooled.samples.get(pair, at)).collect()
            }
            _ => Vec::new(),
        })
    });
    let source = StoredValue::new(source);
    let look = Look { source, opened, view, options, picture, pooled, cell, effects };
    let grid = Memo::new(move |_| looked().map(|looked| looked.at));
    let asking = Asking::new();
    Effect::new(move || {
        let (Some(opened), Some(at)) = (opened.get(), grid.get()) else { return };
        let number = asking.next();
        spawn_local(async move {
            let Some(grid) = opened.study.grids.get(at) else { return };
            let found = studies::pooled(&opened, at, grid).await;
            if asking.is_last(number) {
                pooled.set(Some(found.map(Arc::new)));
            }
        });
    });
    let read = Callback::new(move |key| cell::readout(look, key));
    let dotted = Signal::derive(move || cell::dotted(look).unwrap_or_default());
    let study = move |f: fn(&Study) -> String| {
        move || opened.with(|opened| opened.as_ref().map(|o| f(&o.study)).unwrap_or_default())
    };
    let title = Signal::derive(study(|study| match &*study.title {
        "" => "Study".to_string(),
        title => title.to_string(),
    }));
    let facts = study(|study| {
        let mut facts = vec![study.model.clone()];
        if let Some([yes, no]) = &study.answers {
            facts.push(format!("{yes} against {no}"));
        }
        facts.push(words::count(study.pairs.len(), "pair", "pairs"));
        facts.join(" · ")
    });
    if untrack(|| viewer.is_embedded()) {
        let map = view! { <Heatmap picture options read cursor dotted /> }.into_any();
        return embedded(title, Signal::derive(facts), map);
    }
    let job = source.with_value(|source| match source {
        StudySource::Job(id) => Some(id.clone()),
        StudySource::Id(_) => None,
    });
    let progress = {
        let (job, server) = (job.clone(), viewer.server);
        move || {
            let job = server?.job(job.as_ref()?)?;
            (!job.state.is_final()).then(|| {
                let href = format!("#{}", Address::of(Page::Job(job.id.clone())).fragment());
                let text = words::sentence(&words::progress(&job));
                view! {
                    <p class="note" role="status">
                        {text}" The numbers grow with it. "<a href=href>"The job"</a>
                    </p>
                }
            })
        }
    };
    let problem = move || {
        pooled.with(|pooled| match pooled {
            Some(Err(text)) => Some(view! { <p class="note">{text.clone()}</p> }),
            _ => None,
        })
    };
    let active = move || cursor.hovered().or_else(|| cell.get());
    let what = move || {
        let is_held = cursor.held().is_some();
        match (cursor.hovered().is_some(), is_held) {
            (true, _) => "Cell",
            (false, true) => "Pinned cell",
            (false, false) => "Cell with the largest mean, but for the last position",
        }
    };
    view! {
        <article class="study">
            <div>
                {heading(title)}
                <p class="facts">{facts}</p>
            </div>
            {dynamic(move || {
                let text = study(|study| study.text.clone())();
                (!text.is_empty()).then(|| view! { <div class="study-text">{markdown(&text)}</div> })
            })}
            {progress}
            <Rule look is_server=job.is_some() />
            <StudyControls look />
            <div class="columns">
                <section class="card map-card" aria-label="Heatmap">
                    <Heatmap picture options read cursor dotted />
                    <p class="hint">{dynamic(move || cell::legend(look))}</p>
                </section>
                <aside>
                    <section class="card cell-card" aria-label="Cell">
                        <h2>{what}</h2>
                        {dynamic(move || active().and_then(|key| cell::readout(look, key)).map(tooltip))}
                    </section>
                    <HandoverCard look />
                </aside>
            </div>
            {problem}
            <Spread look />
            <Multiples look />
            <Pairs look />
        </article>
    }
    .into_any()
}
