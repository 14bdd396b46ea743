//! Both prompts, token above token, as the model read them.

use leptos::prelude::*;
use shared::document::{Document, Token};
use shared::figure::text;

/// One place of the two prompts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    /// The source's token; `None` before the beginning of the shorter prompt.
    pub source: Option<String>,
    /// The base's token.
    pub base: Option<String>,
    /// Whether they are different tokens.
    pub differs: bool,
    /// How far it is from the end; 1 is the last.
    pub from_end: usize,
    /// Whether it is swept.
    pub is_swept: bool,
}

/// Both prompts of a pair.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Prompts {
    /// The source's tokens; none where they are unknown.
    pub source: Vec<Token>,
    /// The base's.
    pub base: Vec<Token>,
    /// The tokens that are swept, with which both end.
    pub swept: Vec<String>,
}

impl Prompts {
    /// Those of a result.
    pub fn of(document: &Document) -> Self {
        Self {
            source: document.source_tokens.clone(),
            base: document.base_tokens.clone(),
            swept: document.token_labels.clone(),
        }
    }
}

/// The places of both prompts, which end together; where tokens are unknown, those that are swept.
fn places(prompts: &Prompts) -> Vec<Place> {
    let Prompts { source, base, swept } = prompts;
    let n_swept = swept.len();
    if base.is_empty() {
        let label = |(column, label): (usize, &String)| Place {
            source: None,
            base: Some(text::token(label)),
            differs: false,
            from_end: n_swept - column,
            is_swept: true,
        };
        return swept.iter().enumerate().map(label).collect();
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
                from_end: n,
                is_swept: n <= n_swept,
            }
        })
        .collect()
}

/// The strips, with what is under the pointer marked.
#[component]
pub fn Strips(
    prompts: Prompts,
    /// The places to mark, by how far they are from the end.
    #[prop(into)]
    active: Signal<Vec<usize>>,
) -> impl IntoView {
    let places = places(&prompts);
    let has_source = places.iter().any(|place| place.source.is_some());
    let cells = places.into_iter().map(|place| {
        let from_end = place.from_end;
        let is_marked = move || active.with(|active| active.contains(&from_end));
        view! {
            <span
                class="place"
                class:differs=place.differs && has_source
                class:swept=place.is_swept
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
        let places = places(&Prompts::of(&Document::read(text.as_bytes()).unwrap()[0]));
        let differs: Vec<_> = places.iter().map(|place| place.differs).collect();
        assert_eq!(differs, [true, false, true]);
        assert_eq!(places[0].base, None);
        assert_eq!(places[2].source.as_deref(), Some("·c"));
        assert_eq!((places[2].from_end, places[2].is_swept), (1, true));
        assert_eq!((places[1].from_end, places[1].is_swept), (2, false));
    }
}
