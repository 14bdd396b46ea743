//! Both prompts, token above token, as the model read them.

use std::sync::Arc;

use leptos::prelude::*;
use shared::document::{Document, Token};
use shared::figure::text;

/// One place of the two prompts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The source's token; `None` before the beginning of the shorter prompt.
    pub source: Option<String>,
    /// The base's token.
    pub base: Option<String>,
    /// Whether they are different tokens.
    pub differs: bool,
    /// The column of the grid, where the place is swept.
    pub column: Option<usize>,
}

/// The places of both prompts, which end together; where tokens are unknown, the grid's labels.
pub fn places(document: &Document) -> Vec<Place> {
    let (source, base) = (&document.source_tokens, &document.base_tokens);
    let n_columns = document.token_labels.len();
    if base.is_empty() {
        let label = |(column, label): (usize, &String)| Place {
            source: None,
            base: Some(text::token(label)),
            differs: false,
            column: Some(column),
        };
        return document.token_labels.iter().enumerate().map(label).collect();
    }
    let from_end = |tokens: &[Token], n: usize| {
        tokens.len().checked_sub(n).and_then(|at| tokens.get(at)).cloned()
    };
    (1..=source.len().max(base.len()))
        .rev()
        .map(|n| {
            let (source, base) = (from_end(source, n), from_end(base, n));
            Place {
                differs: source.as_ref().map(|t| t.id) != base.as_ref().map(|t| t.id),
                source: source.map(|t| text::token(&t.text)),
                base: base.map(|t| text::token(&t.text)),
                column: n_columns.checked_sub(n),
            }
        })
        .collect()
}

/// The strips, with the column under the pointer marked.
#[component]
pub fn Strips(
    document: Arc<Document>,
    /// The column to mark.
    #[prop(into)]
    active: Signal<Option<usize>>,
) -> impl IntoView {
    let places = places(&document);
    let marked = Selector::new(move || active.get());
    let has_source = places.iter().any(|place| place.source.is_some());
    let cells = places.into_iter().map(|place| {
        let marked = marked.clone();
        let column = place.column;
        let is_marked = move || column.is_some() && marked.selected(&column);
        view! {
            <span
                class="place"
                class:differs=place.differs && has_source
                class:swept=column.is_some()
                class:marked=is_marked
            >
                {has_source.then(|| view! {
                    <bdi class="token source">{place.source.unwrap_or_default()}</bdi>
                })}
                <bdi class="token base">{place.base.unwrap_or_default()}</bdi>
            </span>
        }
    });
    view! {
        <section class="card strips-card" aria-label="Prompts">
            <h2>"Prompts"</h2>
            <p class="legend">
                {has_source.then(|| view! {
                    <span class="key source">"source, above"</span>
                    <span class="key base">"base, below"</span>
                    <span class="key differs">"differing tokens"</span>
                })}
                <span class="key">"bright: swept positions"</span>
            </p>
            <div class="strips">{cells.collect_view()}</div>
        </section>
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_end_together() {
        let text = r#"{"model":"m","entity":"","source_prompt":"","base_prompt":"",
            "source_sentence":"","base_sentence":"","sentence_start":1,"token_labels":[" b"],
            "num_layers":1,"patching_results":[[1.0]],
            "source_tokens":[{"id":1,"text":"x"},{"id":2,"text":" a"},{"id":3,"text":" c"}],
            "base_tokens":[{"id":2,"text":" a"},{"id":4,"text":" b"}]}"#;
        let places = places(&Document::read(text.as_bytes()).unwrap()[0]);
        let differs: Vec<_> = places.iter().map(|place| place.differs).collect();
        assert_eq!(differs, [true, false, true]);
        assert_eq!(places[0].base, None);
        assert_eq!(places[2].source.as_deref(), Some("·c"));
        assert_eq!(places[2].column, Some(0));
        assert_eq!(places[1].column, None);
    }
}
