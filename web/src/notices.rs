//! What the reader is told, and may undo.

use std::sync::Arc;

use leptos::prelude::*;

use crate::app::Viewer;

/// Something to tell.
#[derive(Clone)]
pub struct Notice {
    /// A sentence.
    pub text: String,
    /// Undoes what was done.
    pub undo: Option<Arc<dyn Fn() + Send + Sync>>,
}

/// All that was told and not dismissed.
#[component]
pub fn Notices() -> impl IntoView {
    let viewer = Viewer::get();
    let notice = move |(i, notice): (usize, Notice)| {
        let close = move || viewer.notices.update(|notices| drop(notices.remove(i)));
        let undo = notice.undo.map(|undo| {
            let undo = move |_| {
                close();
                undo();
            };
            view! { <button on:click=undo>"Undo"</button> }
        });
        view! {
            <p class="notice">
                <span>{notice.text}</span>
                {undo}
                <button class="quiet" on:click=move |_| close()>"Dismiss"</button>
            </p>
        }
    };
    view! {
        <div class="notices" role="alert">
            {move || viewer.notices.get().into_iter().enumerate().map(notice).collect_view()}
        </div>
    }
}
