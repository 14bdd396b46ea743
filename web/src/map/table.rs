//! The numbers of a map as a table.

use std::sync::Arc;

use leptos::prelude::*;
use shared::field::axis::AxisKind;
use shared::figure::text;
use shared::wire::numbers;

use crate::map::picture::Picture;

/// The values of the columns that are shown, as spreadsheets and programs read them.
#[component]
pub fn Table(picture: Arc<Picture>) -> impl IntoView {
    let Picture { field, columns } = &*picture;
    let heads = columns.iter().filter_map(|column| field.columns.marks.get(*column)).map(|mark| {
        let label = match field.columns.kind {
            AxisKind::Token => text::token(&mark.text),
            _ => mark.text.clone(),
        };
        view! {
            <th scope="col">
                <bdi>{label}</bdi>
                {mark.position.map(|position| view! { <span class="position">{position}</span> })}
            </th>
        }
    });
    let rows = field.rows.marks.iter().enumerate().map(|(row, mark)| {
        let value = |column: &usize| {
            numbers::plain(field.quantity.decimals, field.values.get(row, *column))
        };
        let cells = columns.iter().map(value).map(|value| view! { <td>{value}</td> });
        view! { <tr><th scope="row">{mark.text.clone()}</th>{cells.collect_view()}</tr> }
    });
    view! {
        <div class="scroll" tabindex="0" role="region" aria-label="Table of values">
            <table class="numbers grid-table">
                <caption>{field.quantity.title.clone()}</caption>
                <thead><tr>
                    <th scope="col">{field.rows.kind.title()}</th>{heads.collect_view()}
                </tr></thead>
                <tbody>{rows.collect_view()}</tbody>
            </table>
        </div>
    }
}
