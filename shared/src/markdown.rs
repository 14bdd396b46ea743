//! A text in Markdown, taken apart: what a study's author says of it.
//!
//! This is the part of [CommonMark](https://commonmark.org) that such texts use: headings, paragraphs,
//! lists, quotations, fenced code, rules, emphasis, code, links and line breaks. Everything else stays
//! text: HTML is shown as it was written, and a picture is a link to it. A link leads to `https:`,
//! `http:`, `mailto:` or a place of the viewer (`#/…`), or it is none. So whatever a text holds, whoever
//! shows it shows text and such links.

mod blocks;
mod inline;

pub use blocks::{Block, parse};
pub use inline::Inline;

/// How deep quotations and lists, and emphasis and links, are nested within each other; what is
/// deeper stays text.
const MAX_DEPTH: usize = 8;

#[cfg(test)]
mod tests;
