//! Text of a figure: made printable, measured, shortened and wrapped. Backends differ in what
//! they know of fonts, so widths come from a table here and the layout is the same everywhere.

/// The font family as CSS has it: DejaVu Sans, which the PNG is drawn with, then what is near it.
pub const FONT_FAMILY: &str = "DejaVu Sans, Verdana, sans-serif";

/// Advance widths of U+0020 to U+007E in DejaVu Sans, in 1/2048 em.
#[rustfmt::skip]
pub const ADVANCES: [u16; 95] = [
    651, 821, 942, 1716, 1303, 1946, 1597, 563, 799, 799, 1024, 1716, 651, 739, 651, 690, 1303,
    1303, 1303, 1303, 1303, 1303, 1303, 1303, 1303, 1303, 690, 690, 1716, 1716, 1716, 1087, 2048,
    1401, 1405, 1430, 1577, 1294, 1178, 1587, 1540, 604, 604, 1343, 1141, 1767, 1532, 1612, 1235,
    1612, 1423, 1300, 1251, 1499, 1401, 2025, 1403, 1251, 1403, 799, 690, 799, 1716, 1024, 1024,
    1255, 1300, 1126, 1300, 1260, 721, 1300, 1298, 569, 569, 1186, 569, 1995, 1298, 1253, 1300,
    1300, 842, 1067, 803, 1298, 1212, 1675, 1212, 1212, 1075, 1303, 690, 1303, 1716,
];

/// The width of `text` in pixels when an em is `em` pixels. Exact for ASCII in DejaVu Sans, and
/// on the wide side for the rest.
pub fn width(text: &str, em: f64) -> f64 {
    text.chars().map(|c| advance(c) * em).sum()
}

/// The advance width in em.
fn advance(c: char) -> f64 {
    match u32::from(c) {
        code @ 0x20..=0x7e => f64::from(ADVANCES[(code - 0x20) as usize]) / 2048.0,
        0xb7 => advance(' '),
        // Most of Latin, Greek and Cyrillic; arrows and signs; then dashes, East Asian scripts, emoji.
        0xa0..=0x1fff => 0.72,
        0x2190..=0x24ff => 0.9,
        _ => 1.05,
    }
}

/// A token for a label: spaces become middle dots, a line break `↵` and a tab `⇥`, quiet but
/// unmistakable. Alone, where a dot would pass for a full stop, they are `␣`; no text is `∅`.
pub fn token(text: &str) -> String {
    match text.trim_matches(' ') {
        "" if text.is_empty() => "∅".to_string(),
        "" => "␣".repeat(text.len()),
        _ => printable(text).replace(' ', "·"),
    }
}

/// The joiners of characters: Persian and the scripts of India are written with them, and so are
/// families of emoji.
const JOINERS: [char; 2] = ['\u{200c}', '\u{200d}'];

/// A sentence as people read it: [`printable`], but with the joiners that stand between characters
/// and belong to how they are written.
pub fn sentence(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(JOINERS) {
        let (before, from) = rest.split_at(at);
        out += &printable(before);
        let mut chars = from.chars();
        let joiner = chars.next().unwrap_or_default();
        // Between letters of ASCII it joins nothing, and hides in the text.
        let is_script = |c: Option<char>| c.is_some_and(|c| !c.is_ascii() && !JOINERS.contains(&c));
        if is_script(before.chars().last()) && is_script(chars.clone().next()) {
            out.push(joiner);
        } else {
            out += &printable(joiner.encode_utf8(&mut [0; 4]));
        }
        rest = chars.as_str();
    }
    out + &printable(rest)
}

/// Text without what a figure cannot show or XML cannot hold: line breaks and tabs become signs,
/// other control, invisible and direction-changing characters their code, like `<U+200B>`.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push('↵'),
            '\t' => out.push('⇥'),
            '\u{ad}'
            | '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{fffe}'..='\u{ffff}' => out.push_str(&format!("<U+{:04X}>", u32::from(c))),
            c if c.is_control() => out.push_str(&format!("<U+{:04X}>", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// `text`, or its beginning and `…`, within `max_width` pixels.
pub fn shorten(text: &str, em: f64, max_width: f64) -> String {
    if width(text, em) <= max_width {
        return text.to_string();
    }
    let room = max_width - width("…", em);
    let kept = &text[..fitting(text, em, room)];
    format!("{}…", kept.trim_end())
}

/// `text` in at most `max_lines` lines of `max_width` pixels, broken at spaces where there are
/// any; the last one is shortened.
pub fn wrap(text: &str, em: f64, max_width: f64, max_lines: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        if lines.len() + 1 >= max_lines {
            lines.push(shorten(rest, em, max_width));
            break;
        }
        let mut end = fitting(rest, em, max_width);
        if end < rest.len() && !rest[end..].starts_with(' ') {
            end = rest[..end].rfind(' ').unwrap_or(end);
        }
        // A line takes at least one character, however narrow.
        let whole = rest.char_indices().skip(1).find(|(_, c)| !continues(*c));
        let end = end.max(whole.map_or(rest.len(), |(at, _)| at));
        lines.push(rest[..end].trim_end().to_string());
        rest = rest[end..].trim_start();
    }
    lines
}

/// How many bytes of `text` fit `max_width` pixels. What is written as one sign stays whole.
fn fitting(text: &str, em: f64, max_width: f64) -> usize {
    let (mut used, mut sign) = (0.0, 0);
    let mut joined = false;
    for (at, c) in text.char_indices() {
        if !joined && !continues(c) {
            sign = at;
        }
        joined = JOINERS.contains(&c);
        used += advance(c) * em;
        if used > max_width {
            return sign;
        }
    }
    text.len()
}

/// Whether a character is part of the sign before it: combining marks of the larger scripts, joiners,
/// variants and skin tones.
pub fn continues(c: char) -> bool {
    matches!(u32::from(c),
        0x300..=0x36f | 0x483..=0x489 | 0x591..=0x5bd | 0x5bf..=0x5c7 | 0x610..=0x61a
        | 0x64b..=0x65f | 0x670 | 0x6d6..=0x6dc | 0x900..=0x903 | 0x93a..=0x93c | 0x93e..=0x94f
        | 0x981..=0x983 | 0x9bc..=0x9cd | 0xa3c..=0xa4d | 0xabc..=0xacd | 0xb3c..=0xb4d
        | 0xbbe..=0xbcd | 0xc3c..=0xc4d | 0xcbc..=0xccd | 0xd3b..=0xd4d | 0xe31 | 0xe34..=0xe3a
        | 0xe47..=0xe4e | 0x102b..=0x103e | 0x1ab0..=0x1aff | 0x1dc0..=0x1dff | 0x200c..=0x200d
        | 0x20d0..=0x20ff | 0x3099..=0x309a | 0xfe00..=0xfe0f | 0xfe20..=0xfe2f
        | 0x1f3fb..=0x1f3ff | 0xe0020..=0xe007f | 0xe0100..=0xe01ef)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_show_every_character() {
        let cases = [
            (" power", "·power"),
            ("power", "power"),
            ("\n", "↵"),
            ("a\tb  c", "a⇥b··c"),
            ("", "∅"),
            ("  ", "␣␣"),
            (".", "."),
            ("\u{1}\u{7f}", "<U+0001><U+007F>"),
            ("\u{202e}x\u{ffff}", "<U+202E>x<U+FFFF>"),
            ("<&\">", "<&\">"),
            ("é中", "é中"),
        ];
        for (text, expected) in cases {
            assert_eq!(token(text), expected, "{text:?}");
        }
    }

    #[test]
    fn sentences_keep_the_joiners_of_their_script() {
        let cases = [
            ("می\u{200c}خواهم", "می\u{200c}خواهم"),
            ("👨\u{200d}👩\u{200d}👧 came", "👨\u{200d}👩\u{200d}👧 came"),
            ("क्\u{200d}ष\n", "क्\u{200d}ष↵"),
            ("a\u{200d}b", "a<U+200D>b"),
            ("é\u{200d}", "é<U+200D>"),
            ("\u{200c}\u{200d}é", "<U+200C><U+200D>é"),
            ("x\u{202e}", "x<U+202E>"),
            ("", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(sentence(text), expected, "{text:?}");
        }
        // A token is shown for what it is.
        assert_eq!(token("\u{200d}"), "<U+200D>");
    }

    #[test]
    fn text_is_shortened_and_wrapped_within_its_width() {
        // A digit is 0.636 em wide, so ten of them at 10 pixels take 63.6.
        assert_eq!(shorten("0123456789", 10.0, 64.0), "0123456789");
        assert_eq!(shorten("0123456789", 10.0, 63.0), "01234567…");
        assert_eq!(shorten("0123456789", 10.0, 0.0), "…");
        let cases: [(&str, f64, usize, &[&str]); 10] = [
            ("aa bb cc", 100.0, 2, &["aa bb cc"]),
            ("aa bb cc", 34.0, 3, &["aa bb", "cc"]),
            ("aa bb cc dddd", 34.0, 2, &["aa bb", "cc d…"]),
            ("aaaaaa", 26.0, 3, &["aaaa", "aa"]),
            ("aaa", 1.0, 5, &["a", "a", "a"]),
            ("  ", 10.0, 2, &[]),
            ("é é", 8.0, 2, &["é", "é"]),
            // Two letters with their accents, a family, and a flag's variant stay whole.
            ("e\u{301}e\u{301}", 14.0, 3, &["e\u{301}", "e\u{301}"]),
            ("e\u{301}e\u{301}", 1.0, 3, &["e\u{301}", "e\u{301}"]),
            ("👨\u{200d}👩👧", 33.0, 3, &["👨\u{200d}👩", "👧"]),
        ];
        for (text, max_width, max_lines, expected) in cases {
            assert_eq!(wrap(text, 10.0, max_width, max_lines), expected, "{text} in {max_width}");
        }
    }
}
