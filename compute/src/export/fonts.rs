//! The fonts of figures in pixels and on pages, and which of them has which letters.
//!
//! usvg can look for another font where one lacks a letter, but takes the first that has it, bold or
//! with serifs, and shows boxes where two fonts make another number of glyphs of a text. Beyond that it
//! takes a sign of several glyphs, as syllables of Hindi or Tamil are, to be as wide as the widest of
//! them. So a text that needs other fonts is taken apart here, and its parts are put where they belong.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use resvg::usvg::fontdb::{Database, Family, ID, Query};
use resvg::usvg::{Node, Options, Tree};
use rustybuzz::{Direction, Face, UnicodeBuffer};
use shared::figure::text::{self, continues};

/// DejaVu Sans, the face of matplotlib's figures and the first of
/// [`shared::figure::text::FONT_FAMILY`].
pub(super) const FONT: &[u8] = include_bytes!("../../../static/fonts/DejaVuSans.ttf");

/// The name of [`FONT`].
const NAME: &str = "DejaVu Sans";

/// The most signs whose faces are remembered: a server draws what anybody writes.
const MAX_KNOWN: usize = 10_000;

/// How many letters without a font are named.
const MAX_NAMED: usize = 5;

/// The font shipped and, for the scripts that it lacks, those of the system.
static FONTS: LazyLock<Fonts> = LazyLock::new(Fonts::load);

/// What no font had so far.
static MISSING: Mutex<BTreeSet<char>> = Mutex::new(BTreeSet::new());

struct Fonts {
    database: Arc<Database>,
    /// The upright face of each family, the one shipped first and those without serifs next.
    faces: Vec<(ID, String)>,
    /// The faces of signs that were looked for: their places in the list.
    known: Mutex<HashMap<String, Option<usize>>>,
}

/// All fonts.
pub(super) fn database() -> Arc<Database> {
    FONTS.database.clone()
}

/// What there is to say of letters in the figures drawn so far, as PNG or PDF, that no font had.
pub fn missing() -> Option<String> {
    let missing = MISSING.lock().unwrap_or_else(PoisonError::into_inner);
    let named = |c: &char| format!("{c} (U+{:04X})", u32::from(*c));
    let mut names: Vec<_> = missing.iter().take(MAX_NAMED).map(named).collect();
    if missing.len() > MAX_NAMED {
        names.push(format!("{} others", missing.len() - MAX_NAMED));
    }
    let last = names.pop()?;
    let names = match &*names {
        [] => last,
        names => format!("{} and {last}", names.join(", ")),
    };
    Some(format!(
        "no font of this machine has {names}: PNG and PDF show boxes in their place. Install one that \
         does, e.g. Noto (fonts-noto-core, fonts-noto-cjk, fonts-noto-color-emoji on Debian and \
         Ubuntu), and write the figures again; SVG shows with the fonts of whoever opens it"
    ))
}

impl Fonts {
    fn load() -> Self {
        let mut database = Database::new();
        // The first of a name is taken: the system's DejaVu Sans may be another version.
        database.load_font_data(FONT.to_vec());
        database.load_system_fonts();
        database.set_sans_serif_family(NAME);
        let face_of = |name: &str| {
            database.query(&Query { families: &[Family::Name(name)], ..Query::default() })
        };
        let named = |face: &resvg::usvg::fontdb::FaceInfo| {
            let (name, _) = face.families.first()?;
            // A face is asked for by the name of its family, within quotes.
            let is_it = !name.contains(['\'', '"', '<', '&']) && face_of(name) == Some(face.id);
            is_it.then(|| (face.id, name.clone(), face.monospaced))
        };
        let mut faces: Vec<_> = database.faces().filter_map(named).collect();
        faces.sort_by_key(|(_, name, is_mono)| {
            (name != NAME, !name.contains("Sans"), *is_mono || name.contains("Mono"))
        });
        let faces = faces.into_iter().map(|(id, name, _)| (id, name)).collect();
        Self { database: Arc::new(database), faces, known: Mutex::default() }
    }

    /// What `f` says of a face; `None` of one that cannot be read.
    fn with<T>(&self, face: usize, f: impl FnOnce(&Face<'_>) -> T) -> Option<T> {
        let id = self.faces[face].0;
        self.database.with_face_data(id, |data, at| Some(f(&Face::from_slice(data, at)?)))?
    }

    /// The first face that has all letters of a sign, if there is one: of emoji one that shows them in
    /// colours.
    fn face(&self, sign: &str) -> Option<usize> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(sign) {
            return *known;
        }
        let has = |face: &usize| {
            self.with(*face, |font| {
                sign.chars().all(|c| is_invisible(c) || font.glyph_index(c).is_some())
            }) == Some(true)
        };
        let is_emoji = sign.chars().any(|c| c >= '\u{1f000}' || c == '\u{fe0f}');
        let mut all = 0..self.faces.len();
        let found = all.clone().find(|face| is_emoji && self.is_emoji(*face) && has(face));
        let found = found.or_else(|| all.find(has));
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(sign.to_string(), found);
        found
    }

    fn is_emoji(&self, face: usize) -> bool {
        self.faces[face].1.contains("Emoji")
    }

    /// A text as parts that have one face each.
    fn parts(&self, text: &str) -> Vec<(usize, String)> {
        let mut parts: Vec<(usize, String)> = Vec::new();
        for sign in signs(text) {
            let last = parts.last_mut();
            let face = match &last {
                // A space has no look of its own, but among emoji it is as wide as they are.
                Some((face, _)) if sign == " " && !self.is_emoji(*face) => Some(*face),
                _ => self.face(sign),
            };
            let face = face.unwrap_or_else(|| {
                let mut missing = MISSING.lock().unwrap_or_else(PoisonError::into_inner);
                for c in sign.chars().filter(|c| self.face(&c.to_string()).is_none()) {
                    if missing.insert(c) {
                        tracing::warn!(letter = %c, "no font has it: figures show a box");
                    }
                }
                last.as_ref().map_or(0, |(face, _)| *face)
            });
            match last {
                Some((last, part)) if *last == face => part.push_str(sign),
                _ => parts.push((face, sign.to_string())),
            }
        }
        parts
    }

    /// How far each letter of a part is to be moved on, and what comes after it, in ems: by what usvg leaves
    /// out after signs of several glyphs. The last number is that of the part's end.
    fn moved(&self, face: usize, part: &str) -> Vec<f64> {
        let mut moved = vec![0.0; part.chars().count() + 1];
        self.with(face, |font| {
            let mut buffer = UnicodeBuffer::new();
            buffer.push_str(part);
            buffer.guess_segment_properties();
            if buffer.direction() != Direction::LeftToRight {
                return;
            }
            let em = f64::from(font.units_per_em());
            let glyphs = rustybuzz::shape(font, &[], buffer);
            let places = glyphs.glyph_infos().iter().map(|glyph| glyph.cluster as usize);
            let widths = glyphs.glyph_positions().iter().map(|at| f64::from(at.x_advance) / em);
            let all: Vec<_> = places.zip(widths).collect();
            let mut signs = all.chunk_by(|a, b| a.0 == b.0).peekable();
            while let Some(sign) = signs.next() {
                let widths = sign.iter().map(|(_, width)| *width);
                let (sum, most) = widths.fold((0.0, 0.0_f64), |(s, m), w| (s + w, m.max(w)));
                let next = signs.peek().map_or(part.len(), |next| next[0].0);
                let at = part.get(..next).map_or(0, |before| before.chars().count());
                moved[at] += sum - most;
            }
        });
        moved
    }
}

/// Whether a character has no look of its own: joiners and variants.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}')
}

/// The signs of a text: letters with what belongs to them.
fn signs(text: &str) -> Vec<&str> {
    let (mut signs, mut from, mut is_joined) = (Vec::new(), 0, true);
    for (at, c) in text.char_indices() {
        if !is_joined && !continues(c) {
            signs.push(&text[from..at]);
            from = at;
        }
        is_joined = c == '\u{200d}';
    }
    signs.push(&text[from..]);
    signs
}

/// How plotters sets a text below its place, in ems.
const SHIFT: f64 = 0.76;

/// The same drawing with texts that are set at their own place, and in fonts that have their letters.
/// usvg shifts the first letter alone where a text runs from right to left.
pub(super) fn placed(svg: &str) -> String {
    // What people wrote has no `<` of its own.
    let mut texts = svg.split("<text ");
    let mut drawing = texts.next().unwrap_or_default().to_string();
    for text in texts {
        let whole = placed_text(text).unwrap_or_else(|| format!("<text {text}"));
        drawing.push_str(&whole);
    }
    drawing
}

fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let (_, value) = tag.split_once(&format!("{name}=\""))?;
    Some(value.split_once('"')?.0)
}

/// A text of plotters' from its attributes on, with all that comes after it.
fn placed_text(text: &str) -> Option<String> {
    let (tag, rest) = text.split_once('>')?;
    let (content, rest) = rest.split_once("</text>")?;
    let (before, after) = tag.split_once(&format!(" dy=\"{SHIFT}em\""))?;
    let number = |name: &str| attribute(tag, name)?.parse::<f64>().ok();
    let (x, y, size) = (number("x")?, number("y")?, number("font-size")?);
    let y = y + SHIFT * size;
    let plain = content.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
    let plain = plain.replace("&apos;", "'").replace("&#39;", "'").replace("&amp;", "&");
    let parts = FONTS.parts(plain.trim());
    if parts.iter().all(|(face, _)| *face == 0) {
        let (start, _) = before.rsplit_once("y=\"")?;
        return Some(format!("<text {start}y=\"{y}\"{after}>{content}</text>{rest}"));
    }
    let mut widths = Vec::new();
    let mut elements = Vec::new();
    for (face, part) in &parts {
        let moved = FONTS.moved(*face, part);
        let (last, inside) = moved.split_last()?;
        let inside: Vec<_> = inside.iter().map(|ems| (ems * size).to_string()).collect();
        let escaped = part.replace('&', "&amp;").replace('<', "&lt;");
        let element = format!(
            "font-family=\"'{}'\" font-size=\"{size}\" xml:space=\"preserve\" dx=\"{}\"\
             >{escaped}</text>",
            FONTS.faces[*face].1,
            inside.join(" ")
        );
        // Of a part of spaces usvg leaves nothing.
        widths.push(match part.trim().is_empty() {
            true => text::width(part, size),
            false => width(&element)? + last * size,
        });
        elements.push(element);
    }
    let all: f64 = widths.iter().sum();
    let mut at = x - match attribute(tag, "text-anchor") {
        Some("middle") => all / 2.0,
        Some("end") => all,
        _ => 0.0,
    };
    let kept = ["opacity", "fill", "transform"].map(|name| {
        attribute(tag, name).map_or(String::new(), |value| format!("{name}=\"{value}\" "))
    });
    let mut drawn = String::new();
    for (element, width) in elements.iter().zip(widths) {
        let _ = writeln!(drawn, "<text x=\"{at}\" y=\"{y}\" {}{element}", kept.concat());
        at += width;
    }
    Some(drawn + rest)
}

/// How wide usvg makes a text, in pixels.
fn width(element: &str) -> Option<f64> {
    let svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"1\" height=\"1\"><text {element}</svg>"
    );
    let options = Options { fontdb: database(), ..Options::default() };
    let tree = Tree::from_str(&svg, &options).ok()?;
    match tree.root().children().first() {
        Some(Node::Text(text)) => Some(f64::from(text.bounding_box().width())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_keep_what_belongs_to_them() {
        let cases: [(&str, &[&str]); 4] = [
            ("ab", &["a", "b"]),
            ("e\u{301}x", &["e\u{301}", "x"]),
            ("👩🏽\u{200d}🌾!", &["👩🏽\u{200d}🌾", "!"]),
            ("1\u{fe0f}\u{20e3}", &["1\u{fe0f}\u{20e3}"]),
        ];
        for (text, expected) in cases {
            assert_eq!(signs(text), expected, "{text}");
        }
    }

    /// A text as plotters writes it.
    fn text(content: &str, anchor: &str) -> String {
        format!(
            "<svg><text x=\"100\" y=\"10\" dy=\"0.76em\" text-anchor=\"{anchor}\" \
             font-family=\"DejaVu Sans\" font-size=\"10\" opacity=\"1\" fill=\"#112233\">\n{content}\n\
             </text>\n</svg>"
        )
    }

    #[test]
    fn texts_are_shifted_and_those_of_the_shipped_font_stay_otherwise() {
        for content in ["The a &amp; b", "Größe سلام Ωμέγα"] {
            let before = text(content, "middle");
            let expected = before.replace("y=\"10\" dy=\"0.76em\"", "y=\"17.6\"");
            assert_eq!(placed(&before), expected);
        }
    }

    #[test]
    fn what_no_font_has_is_told() {
        // A private letter, which is in no font that draws anything.
        placed(&text("a\u{10fffd}b", "start"));
        let told = missing().unwrap();
        assert!(told.contains("(U+10FFFD)"), "{told}");
    }

    #[test]
    fn syllables_of_several_glyphs_have_their_room() {
        // Where the system has no such font there is nothing to shape.
        let Some(face) = FONTS.face("रा") else { return };
        let moved = FONTS.moved(face, "रारा");
        assert_eq!((moved[0], moved[1], moved[3]), (0.0, 0.0, 0.0));
        assert!(moved[2] > 0.1 && moved[4] > 0.1, "{moved:?}");
    }

    #[test]
    fn parts_follow_each_other_and_keep_their_anchor() {
        // The system's fonts are whatever they are: the letter is written or told to be missing.
        for (anchor, end) in [("start", 100.0), ("end", 100.0)] {
            let drawn = placed(&text("ab 公 &lt;cd", anchor));
            if drawn.matches("<text ").count() < 2 {
                continue;
            }
            let mut places = Vec::new();
            for element in drawn.split("<text ").skip(1) {
                let x: f64 = attribute(element, "x").unwrap().parse().unwrap();
                let from = element.find("font-family").unwrap();
                let element = element.split_once("</text>").unwrap().0;
                places.push((x, width(&format!("{}</text>", &element[from..])).unwrap()));
            }
            for pair in places.windows(2) {
                assert!((pair[0].0 + pair[0].1 - pair[1].0).abs() < 1e-3, "{places:?}");
            }
            let found = match anchor {
                "start" => places[0].0,
                _ => places.last().map(|(x, width)| x + width).unwrap(),
            };
            assert!((found - end).abs() < 1e-3, "{anchor}: {places:?}");
        }
    }
}
