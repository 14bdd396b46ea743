//! The numbers of the heatmap as a table.

use std::sync::Arc;

use leptos::prelude::*;
use shared::document::Document;
use shared::figure::FigureOptions;
use shared::figure::text;
use shared::numbers;

/// The values of the columns that are shown, a row per layer.
#[component]
pub fn Table(document: Arc<Document>, options: FigureOptions) -> impl IntoView {
    let metric = options.metric;
    let columns = options.columns(&document);
    let grid = match metric.grid(&document) {
        Ok(grid) => grid,
        Err(error) => return view! { <p class="problem">{error.to_string()}</p> }.into_any(),
    };
    let start = document.sentence_start;
    let heads = columns.iter().map(|&column| {
        view! {
            <th scope="col">
                {text::token(&document.token_labels[column])}
                <span class="position">{start.saturating_add(column)}</span>
            </th>
        }
    });
    let rows = grid.into_iter().enumerate().map(|(layer, row)| {
        let cells = columns.iter().map(|column| numbers::value(metric, row[*column]));
        let cells = cells.map(|value| view! { <td>{value}</td> });
        view! { <tr><th scope="row">{layer}</th>{cells.collect_view()}</tr> }
    });
    view! {
        <div class="scroll" tabindex="0" role="region" aria-label="Table of values">
            <table class="numbers grid-table">
                <caption>{metric.title(&document)}</caption>
                <thead><tr><th scope="col">"Layer"</th>{heads.collect_view()}</tr></thead>
                <tbody>{rows.collect_view()}</tbody>
            </table>
        </div>
    }
    .into_any()
}
