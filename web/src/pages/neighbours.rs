//! From a pair's result back to its study, and to the pairs before and after it.

use std::sync::Arc;

use leptos::prelude::*;
use leptos::task::spawn_local;
use shared::wire::address::{Address, Page, Source, View};
use shared::wire::studies::{StudySource, StudyView};

use crate::data::opened::Opened;
use crate::data::studies;
use crate::navigation::viewer::Viewer;

/// The way back and on; nothing where the reader does not come from a study.
#[component]
pub fn Neighbours(
    /// The id of the result.
    id: String,
) -> impl IntoView {
    let viewer = Viewer::get();
    let from = Memo::new(move |_| viewer.address.with(|address| address.view.from.clone()));
    let opened = RwSignal::new(None::<Arc<Opened>>);
    Effect::new(move || {
        let Some(from) = from.get() else { return opened.set(None) };
        spawn_local(async move {
            let known = viewer.library.study(&from);
            let found = match known {
                Some(known) => Some(known),
                None => studies::load(viewer.library, from, StudyView::default(), false).await.ok(),
            };
            opened.try_set(found);
        });
    });
    let link = move |page: Page, from: Option<StudySource>| {
        let view = View { from, ..Address::of(page.clone()).view };
        format!("#{}", Address { page, view }.fragment())
    };
    move || {
        let (from, opened) = (from.get()?, opened.get()?);
        let pairs = &opened.study.pairs;
        let at = pairs.iter().position(|pair| pair.id == id)?;
        let step = |to: Option<usize>, name: &'static str| {
            let pair = pairs.get(to?)?;
            let page = Page::Experiment(Source::Id(pair.id.clone()));
            let href = link(page, Some(from.clone()));
            let title = pair.entity.clone();
            Some(view! { <a class="button" href=href title=title>{name}</a> })
        };
        let title = match &*opened.study.title {
            "" => "Study".to_string(),
            title => title.to_string(),
        };
        Some(view! {
            <nav class="neighbours" aria-label="Study">
                <a class="button" href=link(Page::Study(from.clone()), None) dir="auto">
                    {format!("← {title}")}
                </a>
                <span class="facts">{format!("pair {} of {}", at + 1, pairs.len())}</span>
                {step(at.checked_sub(1), "Previous pair")}
                {step(Some(at + 1), "Next pair")}
            </nav>
        })
    }
}
