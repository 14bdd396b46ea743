//! A whole result in a link: compressed, versioned, checked, and small enough for an address bar.
//!
//! The text is `1.` (the version) and, in base64url without padding, a zlib stream, whose checksum
//! finds damage. Inflated it is the length of a header (`u32`, little endian), the header, which is
//! the document in JSON without its grids, and the grids as planes of bytes:
//!
//! - the logit differences as `f32`, bit for bit, each less that of the layer above;
//! - where there is a readout, P(TRUE) and P(FALSE) rounded to [`DECIMALS`] decimals, the larger
//!   as it is and the smaller less what the logit difference makes of the larger;
//! - the top tokens as numbers into the sorted table of their texts.
//!
//! The logit differences thus survive exactly, and so does everything derived from them; the
//! probabilities survive to four decimals. Fields that this version does not know stay behind.
//!
//! Version 2, which only results with several grids have, goes on with those, each list as above,
//! divergences to four decimals and ranks to one (`grids`). What would make the link too long
//! stays behind, and the header names it.

mod grids;

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use miniz_oxide::deflate::compress_to_vec_zlib;
use miniz_oxide::inflate::{TINFLStatus, decompress_to_vec_zlib_with_limit};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::grids::More;
use crate::document::{Document, Grid, Readout, SCHEMA, Token, TokenTexts};
use crate::field::chosen::GridName;
use crate::json;
use crate::wire::numbers::PROBABILITY_DECIMALS as DECIMALS;

/// The version of a result that has the notebook's grid alone, as every older viewer reads it.
const PLAIN: u32 = 1;

/// The latest version; this program reads this one and every older one.
pub const VERSION: u32 = 2;

/// A link that inflates to more is refused: 16 MiB, which no real result comes near.
pub const MAX_INFLATED: usize = 16 << 20;

/// A link longer than this is refused before anything is done with it.
pub const MAX_TEXT: usize = 8 << 20;

/// A link that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum PermalinkError {
    /// The text does not begin with a version.
    #[error("this link holds no result: expected it to begin with `{PLAIN}.`, found `{0}`")]
    NoVersion(String),
    /// Made by a later version.
    #[error(
        "this link has version {0}, and this viewer reads up to version {VERSION}: open it with a \
         newer one"
    )]
    Newer(u32),
    /// Too large.
    #[error("this link is refused because it holds more than {} MiB", MAX_INFLATED >> 20)]
    TooLarge,
    /// Cut short or altered.
    #[error(
        "this link is damaged, perhaps cut short on its way ({0}): copy it again from the page it \
         came from"
    )]
    Damaged(String),
}

/// What stands before the grids.
#[derive(Serialize, Deserialize)]
struct Header {
    /// The document without grids, tokens and what is left out when it is the default.
    document: Map<String, Value>,
    source: Tokens,
    base: Tokens,
    /// The texts of the top tokens in the order of their ids; `null` without a readout.
    top: Option<Vec<(u32, String)>>,
    /// The grids of version 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    more: Option<More>,
}

/// The tokens of a prompt, for which the prompt's text need not be said twice.
#[derive(Serialize, Deserialize)]
struct Tokens {
    ids: Vec<u32>,
    texts: Vec<Piece>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Piece {
    /// So many bytes of the prompt, from where the last such piece ended.
    Next(usize),
    /// A text that does not come next in the prompt.
    Text(String),
}

/// A result in a link.
#[derive(Debug, Clone, PartialEq)]
pub struct Packed {
    /// The link's text: what [`decode`] reads.
    pub text: String,
    /// The grids that there was no room for.
    pub left_out: Vec<GridName>,
}

/// What a link's text holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Opened {
    /// The result.
    pub document: Document,
    /// The grids that the result has beside those, by their names.
    pub left_out: Vec<String>,
}

/// The link's text for `document`, with as many of its grids as there is room for: first the one that
/// is `shown`.
pub fn encode(document: &Document, shown: Option<GridName>) -> Packed {
    let logit_diff = flat(&document.patching_results);
    let mut numbers = vec![above_subtracted(&logit_diff, document.token_labels.len())];
    let top = document.readout.as_ref().map(|readout| {
        let (p_true, p_false) = (flat(&readout.p_true), flat(&readout.p_false));
        numbers.extend(pack_probabilities(&p_true, &p_false, &logit_diff));
        let labels: Vec<_> = readout.top_token_labels.clone().into_iter().collect();
        let index = |id| labels.iter().position(|label| label.0 == id);
        let top = flat(&readout.top_token).into_iter();
        numbers.push(top.map(|id| id.and_then(index).map_or(0, |at| at as u32 + 1)).collect());
        labels
    });
    let (more, left_out) = More::pack(document, shown, &mut numbers);
    let version = if more.is_some() { VERSION } else { PLAIN };
    let header = Header {
        document: stripped(document),
        source: Tokens::pack(&document.source_tokens, &document.source_prompt),
        base: Tokens::pack(&document.base_tokens, &document.base_prompt),
        top,
        more,
    };
    let header = serde_json::to_vec(&header).expect("a header has no map with odd keys");
    let mut body = (header.len() as u32).to_le_bytes().to_vec();
    body.extend(header);
    for numbers in numbers {
        body.extend(
            [24, 16, 8, 0].iter().flat_map(|s| numbers.iter().map(move |n| (n >> s) as u8)),
        );
    }
    let text = format!("{version}.{}", URL_SAFE_NO_PAD.encode(compress_to_vec_zlib(&body, 10)));
    Packed { text, left_out }
}

/// What a link's text holds. What it says beyond [`encode`]'s losses is what went in.
///
/// # Errors
/// [`PermalinkError`] on anything that [`encode`] did not write.
pub fn decode(text: &str) -> Result<Opened, PermalinkError> {
    if text.len() > MAX_TEXT {
        return Err(PermalinkError::TooLarge);
    }
    let text: String = text.split_ascii_whitespace().collect();
    let begins_with = || text.chars().take(12).collect();
    let (version, payload) =
        text.split_once('.').ok_or_else(|| PermalinkError::NoVersion(begins_with()))?;
    match version.parse() {
        Ok(PLAIN | VERSION) => {}
        Ok(newer) if newer > VERSION => return Err(PermalinkError::Newer(newer)),
        _ => return Err(PermalinkError::NoVersion(begins_with())),
    }
    let packed = URL_SAFE_NO_PAD.decode(payload).map_err(damaged)?;
    let body =
        decompress_to_vec_zlib_with_limit(&packed, MAX_INFLATED).map_err(|error| {
            match error.status {
                TINFLStatus::HasMoreOutput => PermalinkError::TooLarge,
                _ => damaged(error),
            }
        })?;
    unpack(&body)
}

fn damaged(reason: impl ToString) -> PermalinkError {
    PermalinkError::Damaged(reason.to_string())
}

fn unpack(body: &[u8]) -> Result<Opened, PermalinkError> {
    let cut = || damaged("it ends too early");
    let (n_header, rest) = body.split_first_chunk().ok_or_else(cut)?;
    let n_header = u32::from_le_bytes(*n_header) as usize;
    let (header, planes) = rest.split_at_checked(n_header).ok_or_else(cut)?;
    // By way of a value, as files are read: the viewer then has one reader of grids.
    let header = json::parse(header).map_err(damaged)?;
    let Header { document, source, base, top, more } = json::read(header).map_err(damaged)?;
    let mut document = restored(document).map_err(damaged)?;
    document.source_tokens = source.unpack(&document.source_prompt)?;
    document.base_tokens = base.unpack(&document.base_prompt)?;
    if document.token_labels.is_empty() {
        let swept = document.base_tokens.iter().skip(document.sentence_start);
        document.token_labels = swept.map(|token| token.text.clone()).collect();
    }

    let n_columns = document.token_labels.len();
    let n_cells = document.num_layers.checked_mul(n_columns).unwrap_or(0);
    let n_lists = if top.is_some() { 4 } else { 1 };
    let n_more = more.as_ref().map_or(Some(0), More::n_values).ok_or_else(cut)?;
    let n_values = n_cells.checked_mul(n_lists).and_then(|n| n.checked_add(n_more));
    if n_cells == 0 || n_values.and_then(|n| n.checked_mul(4)) != Some(planes.len()) {
        return Err(damaged("its grids have another size than it says"));
    }
    let mut planes = Planes { rest: planes };
    let mut next = || planes.next(n_cells).ok_or_else(cut);
    let logit_diff = above_added(next()?, n_columns);
    if let Some(labels) = top {
        let (p_true, p_false) = unpack_probabilities(&next()?, &next()?, &logit_diff);
        let top_token = next()?.into_iter().map(|at| match at.checked_sub(1) {
            None => Ok(None),
            Some(at) => labels.get(at as usize).map(|label| Some(label.0)).ok_or_else(cut),
        });
        document.readout = Some(Readout {
            p_true: Grid::of_cells(&p_true, n_columns),
            p_false: Grid::of_cells(&p_false, n_columns),
            top_token: Grid::of_cells(&top_token.collect::<Result<Vec<_>, _>>()?, n_columns),
            top_token_labels: by_id(labels.into_iter()),
        });
    }
    document.patching_results = Grid::of_cells(&logit_diff, n_columns);
    let mut left_out = Vec::new();
    if let Some(more) = more {
        left_out = more.unpack(&mut document, &mut planes).ok_or_else(cut)?;
    }
    document.check().map_err(damaged)?;
    Ok(Opened { document, left_out })
}

/// Texts by their tokens. `collect` sorts them first, with a sort that the viewer has for nothing else.
fn by_id(texts: impl Iterator<Item = (u32, String)>) -> TokenTexts {
    let mut by_id = TokenTexts::new();
    texts.for_each(|(id, text)| drop(by_id.insert(id, text)));
    by_id
}

/// Lists of numbers, each as four planes of bytes, the highest first.
struct Planes<'a> {
    rest: &'a [u8],
}

impl Planes<'_> {
    /// The next list.
    fn next(&mut self, n: usize) -> Option<Vec<u32>> {
        let (planes, rest) = self.rest.split_at_checked(n.checked_mul(4)?)?;
        self.rest = rest;
        let byte = |cell: usize, plane: usize| u32::from(planes[plane * n + cell]);
        Some((0..n).map(|cell| (0..4).fold(0, |n, plane| n << 8 | byte(cell, plane))).collect())
    }
}

/// The document's fields but those that are packed elsewhere, empty or `null`.
fn stripped(document: &Document) -> Map<String, Value> {
    let swept = document.base_tokens.iter().skip(document.sentence_start).map(|t| &t.text);
    let labels_are_known = swept.eq(&document.token_labels);
    let bare = Document {
        schema: String::new(),
        patching_results: Grid::default(),
        source_tokens: vec![],
        base_tokens: vec![],
        readout: None,
        // What of these there is room for stands with version 2.
        grids: vec![],
        lens: vec![],
        token_texts: TokenTexts::new(),
        // What studies need of a result, which are not made of links.
        roles: None,
        row: BTreeMap::new(),
        token_labels: if labels_are_known { vec![] } else { document.token_labels.clone() },
        ..document.clone()
    };
    let mut fields = json::fields(&bare);
    fields.retain(|_, value| match value {
        Value::Null => false,
        Value::Array(values) => !values.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::String(text) => !text.is_empty(),
        _ => true,
    });
    fields
}

fn restored(mut fields: Map<String, Value>) -> Result<Document, serde_json::Error> {
    fields.insert("schema".into(), SCHEMA.into());
    let texts = ["id", "model", "entity", "source_prompt", "base_prompt"];
    for name in texts.iter().chain(&["source_sentence", "base_sentence"]) {
        fields.entry(*name).or_insert_with(|| "".into());
    }
    for name in ["token_labels", "patching_results"] {
        fields.entry(name).or_insert_with(|| Value::Array(vec![]));
    }
    json::read(Value::Object(fields))
}

impl Tokens {
    fn pack(tokens: &[Token], prompt: &str) -> Self {
        let mut rest = prompt;
        let texts = tokens.iter().map(|Token { text, .. }| match rest.strip_prefix(&**text) {
            Some(after) => {
                rest = after;
                Piece::Next(text.len())
            }
            None => Piece::Text(text.clone()),
        });
        Self { texts: texts.collect(), ids: tokens.iter().map(|token| token.id).collect() }
    }

    fn unpack(self, prompt: &str) -> Result<Vec<Token>, PermalinkError> {
        let mut rest = prompt;
        let pairs = self.ids.into_iter().zip(self.texts);
        pairs
            .map(|(id, piece)| match piece {
                Piece::Text(text) => Ok(Token { id, text }),
                Piece::Next(n_bytes) => {
                    let (text, after) = rest
                        .split_at_checked(n_bytes)
                        .ok_or_else(|| damaged("its tokens do not fit its prompt"))?;
                    rest = after;
                    Ok(Token { id, text: text.to_string() })
                }
            })
            .collect()
    }
}

fn flat<T: Copy>(grid: &Grid<T>) -> Vec<Option<T>> {
    grid.cells().collect()
}

/// Near values have near numbers, so that most bytes of their differences are 0.
fn above_subtracted(values: &[Option<f32>], n_columns: usize) -> Vec<u32> {
    let ordered: Vec<u32> = values.iter().map(|v| to_ordered(*v)).collect();
    let above = std::iter::repeat_n(&0, n_columns).chain(&ordered);
    ordered.iter().zip(above).map(|(n, above)| zigzag(n.wrapping_sub(*above))).collect()
}

fn above_added(mut numbers: Vec<u32>, n_columns: usize) -> Vec<Option<f32>> {
    for cell in 0..numbers.len() {
        let above = cell.checked_sub(n_columns).map_or(0, |above| numbers[above]);
        numbers[cell] = unzigzag(numbers[cell]).wrapping_add(above);
    }
    numbers.into_iter().map(from_ordered).collect()
}

/// The bits of a float, turned so that the numbers are in the floats' order.
fn to_ordered(value: Option<f32>) -> u32 {
    let bits = value.filter(|v| v.is_finite()).unwrap_or(f32::NAN).to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

fn from_ordered(number: u32) -> Option<f32> {
    let bits = if number >> 31 == 1 { number & !(1 << 31) } else { !number };
    Some(f32::from_bits(bits)).filter(|v| v.is_finite())
}

/// A difference as a number that is small where the difference is, whatever its sign.
fn zigzag(difference: u32) -> u32 {
    difference << 1 ^ (difference as i32 >> 31) as u32
}

fn unzigzag(number: u32) -> u32 {
    number >> 1 ^ (number & 1).wrapping_neg()
}

/// What stands for no value.
const NONE: u32 = u32::MAX;

/// A value that is not negative, in steps of `1 / scale`.
fn rounded(value: Option<f32>, scale: f64) -> u32 {
    let value = value.filter(|v| v.is_finite()).map(|v| f64::from(v.max(0.0)) * scale);
    value.map_or(NONE, |v| v.round_ties_even().min(f64::from(NONE - 1)) as u32)
}

fn unrounded(number: u32, scale: f64) -> Option<f32> {
    (number != NONE).then_some((f64::from(number) / scale) as f32)
}

fn pack_probabilities(
    p_true: &[Option<f32>],
    p_false: &[Option<f32>],
    logit_diff: &[Option<f32>],
) -> [Vec<u32>; 2] {
    let number = |p: &Option<f32>| rounded(p.filter(|p| p.is_finite()).map(|p| p.min(1.0)), SCALE);
    let packed =
        p_true.iter().zip(p_false).zip(logit_diff).map(|((p_true, p_false), &logit_diff)| {
            let (p_true, p_false) = (number(p_true), number(p_false));
            let (larger, smaller) =
                if true_is_larger(logit_diff) { (p_true, p_false) } else { (p_false, p_true) };
            (larger, zigzag(smaller.wrapping_sub(expected_smaller(larger, logit_diff))))
        });
    let (larger, smaller) = packed.unzip();
    [larger, smaller]
}

type Probabilities = (Vec<Option<f32>>, Vec<Option<f32>>);

fn unpack_probabilities(
    larger: &[u32],
    smaller: &[u32],
    logit_diff: &[Option<f32>],
) -> Probabilities {
    let value = |n: u32| unrounded(n, SCALE);
    let pairs = larger.iter().zip(smaller).zip(logit_diff);
    pairs
        .map(|((&larger, &smaller), &logit_diff)| {
            let expected = expected_smaller(larger, logit_diff);
            let (larger, smaller) =
                (value(larger), value(unzigzag(smaller).wrapping_add(expected)));
            if true_is_larger(logit_diff) { (larger, smaller) } else { (smaller, larger) }
        })
        .unzip()
}

const SCALE: f64 = 10u32.pow(DECIMALS) as f64;

fn true_is_larger(logit_diff: Option<f32>) -> bool {
    logit_diff.is_none_or(|v| v >= 0.0)
}

/// The smaller of two probabilities, which differ by the factor that the logit difference says.
fn expected_smaller(larger: u32, logit_diff: Option<f32>) -> u32 {
    let ratio = logit_diff.map_or(1.0, |v| (-f64::from(v).abs()).exp());
    if larger == NONE { NONE } else { (f64::from(larger) * ratio).round() as u32 }
}

#[cfg(test)]
mod tests;
