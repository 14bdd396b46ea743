//! What the reader is told, and may undo.

use leptos::prelude::*;

use crate::navigation::notice::Notice;
use crate::navigation::viewer::Viewer;
use crate::platform::dynamic::listed;

/// All that was told and not dismissed. Each is announced by itself.
#[component]
pub fn Notices(
    /// Called when one was closed, with what had the focus in it.
    #[prop(into)]
    on_close: Callback<()>,
) -> impl IntoView {
    let viewer = Viewer::get();
    let notice = move |Notice { key, text, undo }: Notice| {
        let close = move || {
            viewer.notices.update(|notices| notices.retain(|notice| notice.key != key));
            on_close.run(());
        };
        let undo = undo.map(|undo| {
            let undo = move |_| {
                close();
                undo();
            };
            view! { <button on:click=undo>"Undo"</button> }
        });
        view! {
            <p class="notice" role="alert">
                <span dir="auto">{text}</span>
                {undo}
                <button class="quiet" on:click=move |_| close()>"Dismiss"</button>
            </p>
        }
    };
    let shown = move || {
        let named = |notice: Notice| (notice.key.to_string(), notice);
        viewer.notices.get().into_iter().map(named).collect()
    };
    view! {
        <div class="notices">
            {listed(shown, notice)}
        </div>
    }
}
