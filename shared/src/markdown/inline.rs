//! What paragraphs are made of.

use super::MAX_DEPTH;

/// A piece of a paragraph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inline {
    /// Text.
    Text(String),
    /// Code.
    Code(String),
    /// Emphasised.
    Emphasis(Vec<Inline>),
    /// Emphasised strongly.
    Strong(Vec<Inline>),
    /// A link to an address that is safe to follow, and the words that stand for it.
    Link(String, Vec<Inline>),
    /// The line ends here.
    Break,
}

/// The pieces of a paragraph's text.
pub(super) fn parse(text: &str) -> Vec<Inline> {
    parse_within(text, 0)
}

fn parse_within(text: &str, depth: usize) -> Vec<Inline> {
    let mut reader = Reader { text, plain: String::new(), found: Vec::new(), closed: [true; 5] };
    let mut at = 0;
    while at < text.len() {
        match reader.piece(at, depth) {
            Some((pieces, end)) => {
                reader.flush();
                reader.found.extend(pieces);
                at = end;
            }
            None => at = reader.plain(at),
        }
    }
    reader.flush();
    reader.found
}

/// What closes a piece, by its place in [`Reader::closed`].
const CLOSERS: [&str; 4] = ["**", "__", "*", "_"];
/// The place of a bracket's.
const BRACKET: usize = 4;

struct Reader<'a> {
    text: &'a str,
    /// The text since the last piece.
    plain: String,
    found: Vec<Inline>,
    /// Whether something may still be closed: what the rest was searched for in vain is not searched
    /// for again, so that the time grows with the length alone.
    closed: [bool; 5],
}

impl Reader<'_> {
    fn flush(&mut self) {
        if !self.plain.is_empty() {
            self.found.push(Inline::Text(std::mem::take(&mut self.plain)));
        }
    }

    /// Takes what stands at `at` as text; where it ends.
    fn plain(&mut self, at: usize) -> usize {
        let rest = &self.text[at..];
        if let Some(escaped) = escaped(rest) {
            self.plain.push(escaped);
            return at + 1 + escaped.len_utf8();
        }
        // A run of the same sign is one piece of text, of which no part begins anything.
        let first = rest.chars().next().unwrap_or_default();
        let n = match first {
            '*' | '_' | '`' | ' ' => rest.len() - rest.trim_start_matches(first).len(),
            '\n' => {
                self.plain.push(' ');
                return at + 1;
            }
            c => c.len_utf8(),
        };
        self.plain.push_str(&rest[..n]);
        at + n
    }

    /// The pieces that begin at `at`, one but for the words of a link that leads nowhere, and where
    /// they end.
    fn piece(&mut self, at: usize, depth: usize) -> Option<(Vec<Inline>, usize)> {
        let rest = &self.text[at..];
        match rest.as_bytes()[0] {
            b'`' => {
                let (code, n) = code(rest)?;
                Some((vec![Inline::Code(code)], at + n))
            }
            b' ' | b'\\' => {
                let spaces = rest.trim_start_matches(' ');
                let n = rest.len() - spaces.len();
                let line = if n >= 2 { spaces } else { rest.strip_prefix('\\')? };
                let line = line.strip_prefix('\n')?;
                Some((vec![Inline::Break], self.text.len() - line.len()))
            }
            b'<' => {
                let to = &rest[1..1 + address(&rest[1..])];
                let is_closed = rest[1 + to.len()..].starts_with('>');
                let address = safe(to).filter(|_| is_closed && !to.starts_with('#'))?;
                let words = vec![Inline::Text(to.to_string())];
                Some((vec![Inline::Link(address, words)], at + to.len() + 2))
            }
            _ if depth >= MAX_DEPTH => None,
            b'!' if rest[1..].starts_with('[') => self.link(at + 1, depth),
            b'[' => self.link(at, depth),
            b'*' | b'_' => self.emphasis(at, depth),
            _ => None,
        }
    }

    fn emphasis(&mut self, at: usize, depth: usize) -> Option<(Vec<Inline>, usize)> {
        let rest = &self.text[at..];
        let which = CLOSERS.iter().position(|closer| rest.starts_with(closer))?;
        let closer = CLOSERS[which];
        let before = self.text[..at].chars().next_back();
        // Within a word an underscore is a letter.
        if closer.starts_with('_') && before.is_some_and(char::is_alphanumeric) {
            return None;
        }
        let begin = at + closer.len();
        if !self.closed[which] || self.text[begin..].starts_with(|c: char| c.is_whitespace()) {
            return None;
        }
        let Some(end) = self.closing(begin, closer) else {
            self.closed[which] = false;
            return None;
        };
        let words = parse_within(&self.text[begin..end], depth + 1);
        let piece = match closer.len() {
            1 => Inline::Emphasis(words),
            _ => Inline::Strong(words),
        };
        Some((vec![piece], end + closer.len()))
    }

    /// Where `closer` stands from `begin` on, outside of code.
    fn closing(&self, begin: usize, closer: &str) -> Option<usize> {
        let sign = closer.chars().next()?;
        let mut at = begin;
        while at < self.text.len() {
            let rest = &self.text[at..];
            if let Some((_, n)) = code(rest) {
                at += n;
                continue;
            }
            let n_signs = rest.len() - rest.trim_start_matches(sign).len();
            let is_after_word = !self.text[..at].ends_with(|c: char| c.is_whitespace());
            let is_before_word = rest[n_signs..].starts_with(|c: char| c.is_alphanumeric());
            if n_signs >= closer.len() && (n_signs == closer.len() || n_signs > 2) {
                let is_letter = sign == '_' && is_before_word;
                if at > begin && is_after_word && !is_letter {
                    return Some(at + n_signs - closer.len());
                }
            }
            at += match n_signs {
                0 => step(rest),
                n => n,
            };
        }
        None
    }

    /// `[words](address "title")` whose bracket is at `at`. Where the address leads nowhere that is
    /// safe, the words remain.
    fn link(&mut self, at: usize, depth: usize) -> Option<(Vec<Inline>, usize)> {
        if !self.closed[BRACKET] {
            return None;
        }
        let Some(close) = self.bracket(at + 1) else {
            self.closed[BRACKET] = false;
            return None;
        };
        let inside = self.text[close + 1..].strip_prefix('(')?;
        let to = &inside[..address(inside)];
        // A title may follow, and is left out.
        let title = inside[to.len()..].char_indices().take(MAX_TITLE).find(|(_, c)| *c == ')');
        let end = close + 2 + to.len() + title?.0 + 1;
        let words = parse_within(&self.text[at + 1..close], depth + 1);
        let pieces = match safe(to) {
            Some(address) => vec![Inline::Link(address, words)],
            None => words,
        };
        Some((pieces, end))
    }

    /// Where the bracket closes that was opened before `begin`.
    fn bracket(&self, begin: usize) -> Option<usize> {
        let (mut at, mut n_open) = (begin, 1);
        while at < self.text.len() {
            let rest = &self.text[at..];
            if let Some((_, n)) = code(rest) {
                at += n;
                continue;
            }
            match rest.as_bytes()[0] {
                b'[' => n_open += 1,
                b']' => n_open -= 1,
                _ => {}
            }
            if n_open == 0 {
                return Some(at);
            }
            at += step(rest);
        }
        None
    }
}

/// More characters than these are no title of a link.
const MAX_TITLE: usize = 200;
/// More characters than these are no code within a line.
const MAX_CODE: usize = 2_000;

/// How many bytes of `text` may be an address: all up to what none has.
fn address(text: &str) -> usize {
    let is_end = |c: char| c.is_whitespace() || "()[]<>".contains(c);
    text.find(is_end).unwrap_or(text.len())
}

/// How many bytes the next character has, with a backslash that escapes it.
fn step(rest: &str) -> usize {
    match escaped(rest) {
        Some(c) => 1 + c.len_utf8(),
        None => rest.chars().next().map_or(1, char::len_utf8),
    }
}

/// The character that a backslash makes text of.
fn escaped(rest: &str) -> Option<char> {
    rest.strip_prefix('\\')?.chars().next().filter(char::is_ascii_punctuation)
}

/// The code at the beginning of `rest`, and how many bytes it takes with its signs.
fn code(rest: &str) -> Option<(String, usize)> {
    let n = rest.len() - rest.trim_start_matches('`').len();
    // More signs than anybody sets are text, and are not searched for over and over.
    if n == 0 || n > 3 {
        return None;
    }
    let inside = &rest[n..];
    let mut from = 0;
    let inside = &inside[..inside.char_indices().nth(MAX_CODE).map_or(inside.len(), |(at, _)| at)];
    while let Some(found) = inside[from..].find('`') {
        let at = from + found;
        let signs = inside[at..].len() - inside[at..].trim_start_matches('`').len();
        if signs == n {
            let code = inside[..at].replace('\n', " ");
            let plain = code.strip_prefix(' ').and_then(|code| code.strip_suffix(' '));
            let plain = plain.filter(|plain| !plain.trim().is_empty()).unwrap_or(&code);
            return Some((plain.to_string(), at + 2 * n));
        }
        from = at + signs;
    }
    None
}

/// An address that is safe to follow: of the web, of mail, or within the viewer.
fn safe(to: &str) -> Option<String> {
    let scheme = to.split([':', '/', '?', '#']).next().unwrap_or_default().to_ascii_lowercase();
    let has_scheme = to[scheme.len()..].starts_with(':');
    let is_known = has_scheme && matches!(&*scheme, "https" | "http" | "mailto");
    let is_odd = to.chars().any(|c| c.is_whitespace() || c.is_control() || "<>\"\\".contains(c));
    ((is_known || to.starts_with("#/")) && !is_odd).then(|| to.to_string())
}
