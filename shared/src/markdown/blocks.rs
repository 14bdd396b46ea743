//! What a text is made of: paragraphs, lists and the like.

use super::MAX_DEPTH;
use super::inline::{self, Inline};

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block {
    /// A heading of this level, from 1.
    Heading(usize, Vec<Inline>),
    /// A paragraph.
    Paragraph(Vec<Inline>),
    /// Code, line by line as it was written.
    Code(String),
    /// A quotation.
    Quote(Vec<Block>),
    /// A list: its first number, if it is numbered, and what its items are made of.
    List(Option<u32>, Vec<Vec<Block>>),
    /// A rule.
    Rule,
}

/// The parts of a text.
pub fn parse(text: &str) -> Vec<Block> {
    parse_lines(&text.lines().collect::<Vec<_>>(), 0)
}

fn parse_lines(lines: &[&str], depth: usize) -> Vec<Block> {
    let (mut blocks, mut at) = (Vec::new(), 0);
    while let Some(&line) = lines.get(at) {
        let rest = &lines[at..];
        let (block, n) = match begin(line, depth) {
            Begin::Blank => {
                at += 1;
                continue;
            }
            Begin::Fence(fence) => code(rest, fence),
            Begin::Heading(level) => (Block::Heading(level, inline::parse(heading(line))), 1),
            Begin::Rule => (Block::Rule, 1),
            Begin::Quote => quote(rest, depth),
            Begin::Item(_) => list(rest, depth),
            Begin::Text => paragraph(rest, depth),
        };
        blocks.push(block);
        at += n;
    }
    blocks
}

/// The text of a heading, which may be closed by signs like those that it begins with.
fn heading(line: &str) -> &str {
    let text = line.trim().trim_start_matches('#').trim();
    let open = text.trim_end_matches('#');
    if open.is_empty() || open.ends_with(' ') { open.trim() } else { text }
}

/// What a line begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begin<'a> {
    Blank,
    Fence(&'a str),
    Heading(usize),
    Rule,
    Quote,
    Item(Item),
    Text,
}

/// What stands before a list's item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Item {
    /// The number, of a numbered list.
    number: Option<u32>,
    /// The sign that marks it.
    sign: char,
    /// How many bytes of its first line are not its text.
    indent: usize,
}

fn begin(line: &str, depth: usize) -> Begin<'_> {
    let text = line.trim_start();
    if text.is_empty() {
        return Begin::Blank;
    }
    for sign in ['`', '~'] {
        let n = text.len() - text.trim_start_matches(sign).len();
        if n >= 3 && !text[n..].contains('`') {
            return Begin::Fence(&text[..n]);
        }
    }
    let level = text.len() - text.trim_start_matches('#').len();
    if (1..=6).contains(&level) && (text.len() == level || text[level..].starts_with(' ')) {
        return Begin::Heading(level);
    }
    let mut signs = text.chars().filter(|c| !c.is_whitespace());
    let sign = signs.next().unwrap_or_default();
    if "-*_".contains(sign) && signs.clone().count() >= 2 && signs.all(|c| c == sign) {
        return Begin::Rule;
    }
    match item(line) {
        _ if depth >= MAX_DEPTH => Begin::Text,
        _ if text.starts_with('>') => Begin::Quote,
        Some(item) => Begin::Item(item),
        None => Begin::Text,
    }
}

fn item(line: &str) -> Option<Item> {
    let text = line.trim_start();
    let n_digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, mark) = match n_digits {
        0 => (None, text.strip_prefix(['-', '*', '+'])?),
        n if n < 9 => (text[..n].parse().ok(), text[n..].strip_prefix(['.', ')'])?),
        _ => return None,
    };
    let words = mark.strip_prefix(' ').or(mark.is_empty().then_some(mark))?;
    let sign = text[..text.len() - mark.len()].chars().next_back()?;
    Some(Item { number, sign, indent: line.len() - words.len() })
}

/// The code between a fence and its like.
fn code(lines: &[&str], fence: &str) -> (Block, usize) {
    let is_end = |line: &&str| {
        let line = line.trim();
        line.starts_with(fence) && line.trim_start_matches(&fence[..1]).is_empty()
    };
    let inside: Vec<_> = lines[1..].iter().take_while(|line| !is_end(line)).copied().collect();
    let n = (inside.len() + 2).min(lines.len());
    (Block::Code(inside.join("\n")), n)
}

fn quote(lines: &[&str], depth: usize) -> (Block, usize) {
    let mut inside = Vec::new();
    for (n, line) in lines.iter().enumerate() {
        let text = line.trim_start();
        match text.strip_prefix('>') {
            Some(text) => inside.push(text.strip_prefix(' ').unwrap_or(text)),
            // A paragraph goes on where nothing else begins.
            None if n > 0 && begin(line, depth) == Begin::Text && !is_blank(inside.last()) => {
                inside.push(text);
            }
            None => break,
        }
    }
    let n = inside.len();
    (Block::Quote(parse_lines(&inside, depth + 1)), n)
}

fn is_blank(line: Option<&&str>) -> bool {
    line.is_none_or(|line| line.trim().is_empty())
}

/// After more blank lines than these nothing belongs to an item.
const MAX_BLANK: usize = 10;

fn list(lines: &[&str], depth: usize) -> (Block, usize) {
    let first = item(lines[0]);
    let (mut items, mut at) = (Vec::new(), 0);
    while let Some(&line) = lines.get(at) {
        let Begin::Item(found) = begin(line, depth) else { break };
        if first.map(|first| first.sign) != Some(found.sign) {
            break;
        }
        let mut inside = vec![&line[found.indent..]];
        at += 1;
        while let Some(&line) = lines.get(at) {
            let is_within = line.len() - line.trim_start().len() >= found.indent.min(line.len());
            let goes_on = match begin(line, depth) {
                Begin::Blank => {
                    // What follows a blank line belongs to the item where it is indented.
                    let next = lines[at..].iter().take(MAX_BLANK).find(|l| !l.trim().is_empty());
                    next.is_some_and(|next| next.len() - next.trim_start().len() >= found.indent)
                }
                Begin::Text => is_within || !is_blank(inside.last()),
                _ => is_within,
            };
            if !goes_on {
                break;
            }
            let n_cut = if is_within { found.indent.min(line.len()) } else { 0 };
            inside.push(line.get(n_cut..).unwrap_or_else(|| line.trim_start()));
            at += 1;
        }
        items.push(parse_lines(&inside, depth + 1));
        // Blank lines between items.
        let n_blank = lines[at..].iter().take_while(|line| line.trim().is_empty()).count();
        if lines.get(at + n_blank).is_some_and(|next| item(next).is_some()) {
            at += n_blank;
        }
    }
    (Block::List(first.and_then(|first| first.number), items), at)
}

fn paragraph(lines: &[&str], depth: usize) -> (Block, usize) {
    let goes_on = |line: &&&str| begin(line, depth) == Begin::Text;
    let n = 1 + lines[1..].iter().take_while(goes_on).count();
    // A line of `=` or `-` below makes a heading of it.
    let below = lines.get(n).map_or("", |line| line.trim());
    let of = |sign| !below.is_empty() && below.chars().all(|c| c == sign);
    let own = lines[..n].iter().position(|line| {
        let line = line.trim();
        !line.is_empty() && line.chars().all(|c| c == '=')
    });
    let (n_text, level) = match own {
        Some(at) if at > 0 => (at, Some(1)),
        _ if of('-') => (n, Some(2)),
        _ => (n, None),
    };
    // Two spaces at the end of a line break it.
    let text = lines[..n_text].iter().map(|line| line.trim_start());
    let text = text.collect::<Vec<_>>().join("\n");
    let words = inline::parse(text.trim_end());
    match level {
        Some(level) => (Block::Heading(level, words), n_text + 1),
        None => (Block::Paragraph(words), n_text),
    }
}
