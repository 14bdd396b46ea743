//! The numbers of the heatmap as a table.

use std::sync::Arc;

use leptos::prelude::*;
use shared::document::Document;
use shared::field::metric::Metric;
use shared::figure::text;
use shared::wire::numbers;

/// The values of some columns, a row per layer, as spreadsheets and programs read them.
#[component]
pub fn Table(document: Arc<Document>, metric: Metric, columns: Vec<usize>) -> impl IntoView {
    let grid = match metric.grid(&document) {
        Ok(grid) => grid,
        Err(error) => return view! { <p class="problem">{error.to_string()}</p> }.into_any(),
    };
    let start = document.sentence_start;
    let heads = columns.iter().map(|&column| {
        let label = document.token_labels.get(column).map(|label| text::token(label));
        view! {
            <th scope="col">
                <bdi>{label}</bdi>
                <span class="position">{start.saturating_add(column)}</span>
            </th>
        }
    });
    let rows = (0..grid.n_rows()).map(|layer| {
        let cells = columns.iter().map(|column| numbers::plain(metric, grid.get(layer, *column)));
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
