//! A text in Markdown as a part of the page: text and links, and nothing else that could act.

use leptos::prelude::*;
use shared::markdown::{Block, Inline, parse};

/// The text.
pub fn markdown(text: &str) -> AnyView {
    blocks(&parse(text))
}

fn blocks(all: &[Block]) -> AnyView {
    all.iter().map(block).collect_view().into_any()
}

fn block(block: &Block) -> AnyView {
    match block {
        // The page's own heading is above all of them.
        Block::Heading(1, words) => view! { <h2 dir="auto">{inlines(words)}</h2> }.into_any(),
        Block::Heading(2, words) => view! { <h3 dir="auto">{inlines(words)}</h3> }.into_any(),
        Block::Heading(_, words) => view! { <h4 dir="auto">{inlines(words)}</h4> }.into_any(),
        Block::Paragraph(words) => view! { <p dir="auto">{inlines(words)}</p> }.into_any(),
        Block::Code(code) => view! { <pre><code>{code.clone()}</code></pre> }.into_any(),
        Block::Quote(inside) => view! { <blockquote>{blocks(inside)}</blockquote> }.into_any(),
        Block::List(first, items) => {
            let items = items.iter().map(|item| view! { <li>{blocks(item)}</li> }).collect_view();
            match first {
                Some(first) => view! { <ol start=first.to_string()>{items}</ol> }.into_any(),
                None => view! { <ul>{items}</ul> }.into_any(),
            }
        }
        Block::Rule => view! { <hr /> }.into_any(),
    }
}

fn inlines(all: &[Inline]) -> AnyView {
    all.iter().map(inline).collect_view().into_any()
}

fn inline(piece: &Inline) -> AnyView {
    match piece {
        Inline::Text(text) => text.clone().into_any(),
        Inline::Code(code) => view! { <code>{code.clone()}</code> }.into_any(),
        Inline::Emphasis(words) => view! { <em>{inlines(words)}</em> }.into_any(),
        Inline::Strong(words) => view! { <strong>{inlines(words)}</strong> }.into_any(),
        Inline::Link(to, words) => {
            // Places of the viewer open in it.
            let is_away = !to.starts_with('#');
            let target = is_away.then_some("_blank");
            let rel = is_away.then_some("noopener noreferrer");
            view! { <a href=to.clone() target=target rel=rel>{inlines(words)}</a> }.into_any()
        }
        Inline::Break => view! { <br /> }.into_any(),
    }
}
