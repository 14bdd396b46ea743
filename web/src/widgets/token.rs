//! Asks for a server's token.

use leptos::ev;
use leptos::html;
use leptos::prelude::*;

use crate::data::rights::Rights;
use crate::platform::dom;

/// The dialog; hidden until the token is needed.
#[component]
pub fn TokenDialog(rights: Rights) -> impl IntoView {
    let dialog = NodeRef::<html::Dialog>::new();
    let input = NodeRef::<html::Input>::new();
    Effect::new(move || {
        let (Some(dialog), asking) = (dialog.get(), rights.asking.get()) else { return };
        match (asking.is_some(), dialog.open()) {
            (true, false) => drop(dialog.show_modal()),
            (false, true) => dialog.close(),
            _ => {}
        }
    });
    let give = move |event: ev::SubmitEvent| {
        event.prevent_default();
        let Some(input) = input.get_untracked() else { return };
        let token = input.value().trim().to_string();
        input.set_value("");
        // What cannot be sent in a header is no token.
        let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        if is_token {
            dom::keep_token(&token);
        }
        rights.answer(is_token);
    };
    // The dialog may have been opened again before it tells that it was closed.
    let closed = move |_| {
        if dialog.get_untracked().is_some_and(|dialog| !dialog.open()) {
            rights.answer(false);
        }
    };
    view! {
        <dialog
            class="card token-dialog"
            node_ref=dialog
            aria-labelledby="token-title"
            on:close=closed
        >
            <form on:submit=give>
                <h1 id="token-title">"The server’s token"</h1>
                <p class:hidden=move || rights.asking.get() == Some(true)>
                    "Reading needs none, changes do. Whoever runs the server has it."
                </p>
                <p class="problem" role="alert" class:hidden=move || {
                    rights.asking.get() != Some(true)
                }>
                    "That was not the server’s token. Try again."
                </p>
                <label class="stack">
                    <span>"Token"</span>
                    <input type="password" autocomplete="off" required node_ref=input />
                </label>
                <p class="hint">"It is kept until this tab is closed."</p>
                <div class="actions">
                    <button class="primary" type="submit">"Use it"</button>
                    <button type="button" on:click=move |_| rights.answer(false)>"Cancel"</button>
                </div>
            </form>
        </dialog>
    }
}
