//! What a submission would do, or what is wrong with it.

use leptos::prelude::*;
use shared::document::Token;
use shared::figure::text;
use shared::wire::address::{Address, Page, Source};
use shared::wire::job::{PairPreview, Preview, Said};
use shared::wire::problem::{Problem, RowProblem};

use super::editing::Editing;
use super::{Seen, strips};
use crate::data::api;
use crate::data::words;
use crate::data::words::sentence;
use crate::pages::panels::{Baselines, Warnings};

/// What the form's state would come to.
#[component]
pub fn Outcome(
    seen: Seen,
    /// Whether it is being found out.
    is_asking: RwSignal<bool>,
    /// The tokens of a pair, which can be edited.
    editing: Editing,
    /// Called when the reader wants to give the server's token.
    #[prop(into)]
    on_token: Callback<()>,
) -> impl IntoView {
    let summary = move || {
        seen.with(|seen| match seen {
            Some(Ok(preview)) => summary(preview),
            Some(Err(problem)) => api::told(problem),
            None if is_asking.get() => "Looking at it…".to_string(),
            None => "Tokens, answers and the time it takes appear here while you type.".to_string(),
        })
    };
    let class = move || match seen.with(|seen| matches!(seen, Some(Err(_)))) {
        true => "problem",
        false => "note",
    };
    let rest = move || {
        seen.with(|seen| match seen {
            Some(Ok(preview)) => {
                let is_table = editing.is_table();
                let pairs = preview.pairs.iter().map(|pair| shown(preview, pair, is_table));
                let pairs = pairs.collect_view();
                view! { {is_table.then(of_table)}{pairs} }.into_any()
            }
            Some(Err(problem)) => refused(problem, on_token).into_any(),
            None => ().into_any(),
        })
    };
    view! {
        <section
            class="preview"
            class:stale=move || is_asking.get()
            aria-label="Preview"
            aria-busy=move || is_asking.get().to_string()
        >
            <p class=class role="status">{summary}</p>
            {strips::edited(editing)}
            {rest}
        </section>
    }
}

fn summary(preview: &Preview) -> String {
    let time = match preview.estimated_secs {
        Some(secs) => words::duration(secs),
        None => "how long it takes the first sweep will show".to_string(),
    };
    match (&*preview.pairs, preview.n_known) {
        ([_], 1) if preview.n_pairs == 1 => "This experiment exists already.".to_string(),
        ([pair], _) if preview.n_pairs == 1 => {
            let n_columns = pair.base_tokens.len().saturating_sub(pair.sentence_start);
            format!(
                "{} of {} layers × {n_columns} tokens to compute, {time}.",
                words::count(pair.n_cells, "cell", "cells"),
                pair.n_layers
            )
        }
        (_, n_known) => {
            let known = match n_known {
                0 => String::new(),
                n => format!(", {n} of which have a result already"),
            };
            format!("{}{known}; {time}.", words::count(preview.n_pairs, "pair", "pairs"))
        }
    }
}

/// Where the roles and the alignment of a table's pairs are edited.
fn of_table() -> AnyView {
    view! {
        <p class="hint">
            "The first pairs. Of a table, roles and alignment stand in the table itself: mark words in \
             a sentence, "<code>"[the queen](#subject) rules"</code>", or name them in a column "
            <code>"span:subject"</code>"; under the alignment hand, a column "<code>"align"</code>
            " says which tokens of the base take which of the source, counted from 0: "
            <code>"5-7:6-8,10:12"</code>"."
        </p>
    }
    .into_any()
}

fn shown(preview: &Preview, pair: &PairPreview, is_table: bool) -> AnyView {
    let page = Page::Experiment(Source::Id(pair.experiment.clone()));
    let href = format!("#{}", Address::of(page).fragment());
    let name = (preview.n_pairs > 1).then(|| match &*pair.entity {
        "" => pair.base_prompt.clone(),
        entity => entity.to_string(),
    });
    view! {
        {name.map(|name| view! { <h2 class="pair-name">{name}</h2> })}
        {pair.known.then(|| view! {
            <p class="note"><a href=href>"Open the result that is there"</a></p>
        })}
        {pair.baselines.is_none().then(|| view! {
            <p class="hint">
                "The model’s weights are not in this server’s memory, or there is little of it, so the unpatched runs come with the result."
            </p>
        })}
        <Warnings warnings=pair.warnings.clone() />
        <Baselines baselines=pair.baselines.clone() answers=Some(pair.answers.clone()) />
        {pair.said.as_ref().map(goes_on)}
        {is_table.then(|| strips::read(pair))}
    }
    .into_any()
}

/// What the model itself says after each prompt.
fn goes_on(said: &Said) -> impl IntoView + use<> {
    let run = |name: &'static str, tokens: &[Token]| {
        let texts: String = tokens.iter().map(|token| &*token.text).collect();
        view! { <dt>{name}</dt><dd><bdi class="tip-token">{text::token(&texts)}</bdi></dd> }
    };
    view! {
        <section class="card" aria-label="What the model says">
            <h2>"What the model says next"</h2>
            <dl class="provenance">
                {run("after the source", &said.source)}
                {run("after the base", &said.base)}
            </dl>
        </section>
    }
}

fn refused(problem: &Problem, on_token: Callback<()>) -> impl IntoView + use<> {
    let row = |row: &RowProblem| {
        view! {
            <tr>
                <th scope="row">{row.line}</th>
                <td>{row.column.clone()}</td>
                <td>{sentence(&row.message)}</td>
            </tr>
        }
    };
    let rows = (!problem.rows.is_empty()).then(|| {
        view! {
            <section class="card" aria-label="Rows that cannot be run">
                <div class="scroll">
                    <table class="numbers bad-rows">
                        <thead><tr>
                            <th scope="col">"Line"</th>
                            <th scope="col">"Column"</th>
                            <th scope="col">"What is wrong"</th>
                        </tr></thead>
                        <tbody>{problem.rows.iter().map(row).collect_view()}</tbody>
                    </table>
                </div>
            </section>
        }
    });
    let token = api::is_token(problem).then(|| view! {
        <div><button type="button" on:click=move |_| on_token.run(())>"Enter the token…"</button></div>
    });
    view! { {rows}{token} }
}
