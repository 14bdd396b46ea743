//! Something that cannot be shown.

use leptos::prelude::*;

use crate::widgets::heading::heading;

/// Something that cannot be shown, and why.
#[component]
pub fn Problem(text: String) -> impl IntoView {
    view! {
        <section class="card page-problem" role="alert">
            {heading("This cannot be shown")}
            <p>{text}</p>
            <p><a href="#/">"All experiments"</a></p>
        </section>
    }
}
