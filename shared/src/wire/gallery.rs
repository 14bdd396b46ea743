//! The list of a site's experiments, `data/index.json`: what the viewer shows, sorts and filters
//! before it has read any document.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::document::Document;
use crate::field::Field;
use crate::field::chosen::Choice;
use crate::field::metric::Metric;
use crate::specification::vocabulary::Site;
use crate::statistics;
use crate::study::Study;
use crate::wire::address::{Filter, Sort};

/// The schema this version writes.
pub const SCHEMA: &str = "patchboard-index/1";

/// The list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Gallery {
    /// [`SCHEMA`].
    pub schema: String,
    /// The experiments, in any order.
    pub experiments: Vec<Entry>,
    /// The studies, in the order in which they are listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub studies: Vec<StudyEntry>,
}

/// One study of the list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StudyEntry {
    /// The study's id; its manifest is `data/studies/ID/study.json`.
    pub id: String,
    /// What it is called.
    pub title: String,
    /// The model's name.
    pub model: String,
    /// How many pairs it has.
    pub n_pairs: usize,
    /// How many of them count.
    pub n_kept: usize,
}

impl StudyEntry {
    /// What the list says of a study.
    pub fn of(study: &Study) -> Self {
        Self {
            id: study.id.clone(),
            title: shortened(&study.title, Entry::MAX_NAME),
            model: shortened(&study.model, Entry::MAX_NAME),
            n_pairs: study.pairs.len(),
            n_kept: study.n_kept(),
        }
    }
}

/// One experiment of the list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Entry {
    /// The document's id; the document is `data/ID.json`.
    pub id: String,
    /// What the sentences are about; may be empty.
    pub entity: String,
    /// The model's name.
    pub model: String,
    /// The site; `null` where unknown.
    #[serde(default)]
    pub site: Option<Site>,
    /// The source's sentence.
    pub source_sentence: String,
    /// The base's sentence.
    pub base_sentence: String,
    /// The layers of the grid.
    pub n_layers: usize,
    /// The tokens of the grid.
    pub n_columns: usize,
    /// The unpatched source's logit difference in nats; `null` where unknown.
    pub source: Option<f32>,
    /// The unpatched base's.
    pub base: Option<f32>,
    /// When the sweep ended, in UTC, `2026-01-31T12:00:00Z`; empty where unknown.
    #[serde(default)]
    pub finished_at: String,
    /// A small picture.
    pub thumb: Thumb,
}

/// A grid as a small picture, layer 0 on top.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Thumb {
    /// Pixels in a row, at most [`Thumb::MAX_WIDTH`].
    pub width: usize,
    /// Rows, at most [`Thumb::MAX_HEIGHT`].
    pub height: usize,
    /// A byte per pixel, row by row, in base64: 0 is the smallest value of the grid, 254 the
    /// largest, and 255 no value.
    pub cells: String,
}

impl Gallery {
    /// The list of these documents, without studies.
    pub fn of<'a>(documents: impl IntoIterator<Item = &'a Document>) -> Self {
        let experiments = documents.into_iter().map(Entry::of).collect();
        Self { schema: SCHEMA.into(), experiments, studies: Vec::new() }
    }

    /// The entries that pass `filter`, in its order, as indices.
    ///
    /// `lower` puts a text into lower case: `str::to_lowercase`, or what the browser has, so that
    /// the viewer need not bring the tables of Unicode.
    pub fn select(&self, filter: &Filter, lower: impl Fn(&str) -> String) -> Vec<usize> {
        let text = lower(&filter.text);
        let words: Vec<_> = text.split_whitespace().collect();
        let passes = |entry: &Entry| {
            let is = |wanted: &str, found: &str| wanted.is_empty() || wanted == found;
            is(&filter.model, &entry.model)
                && is(&filter.entity, &entry.entity)
                && is(&filter.site, entry.site.map_or("", Site::name))
                && (words.is_empty() || {
                    let text = lower(&entry.text());
                    words.iter().all(|word| text.contains(word))
                })
        };
        let name = |entry: &Entry| match filter.sort {
            Sort::Entity => lower(&entry.entity),
            Sort::Model => lower(&entry.model),
            Sort::Newest | Sort::Contrast => String::new(),
        };
        let all = &self.experiments;
        let chosen = (0..all.len()).filter(|&i| passes(&all[i]));
        let mut chosen: Vec<_> = chosen.map(|i| (i, name(&all[i]))).collect();
        chosen.sort_by(|(a, a_name), (b, b_name)| match filter.sort {
            Sort::Newest => all[*b].finished_at.cmp(&all[*a].finished_at),
            Sort::Entity | Sort::Model => a_name.cmp(b_name),
            Sort::Contrast => {
                let contrast = |i: usize| all[i].contrast().unwrap_or(-1.0);
                contrast(*b).total_cmp(&contrast(*a))
            }
        });
        chosen.into_iter().map(|(i, _)| i).collect()
    }
}

/// As much of a text as a list holds, which is read as a whole.
fn shortened(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_string(),
    }
}

impl Entry {
    /// The most characters of an entity or a model's name; of longer ones the list has the beginning.
    pub const MAX_NAME: usize = 200;
    /// The most characters of a sentence.
    pub const MAX_SENTENCE: usize = 2_000;

    /// What the list says of a document.
    pub fn of(document: &Document) -> Self {
        let baselines = document.baselines.as_ref();
        Self {
            id: document.id.clone(),
            entity: shortened(&document.entity, Self::MAX_NAME),
            model: shortened(&document.model, Self::MAX_NAME),
            site: document.site,
            source_sentence: shortened(&document.source_sentence, Self::MAX_SENTENCE),
            base_sentence: shortened(&document.base_sentence, Self::MAX_SENTENCE),
            n_layers: document.num_layers,
            n_columns: document.token_labels.len(),
            source: baselines.and_then(|b| b.source.logit_diff),
            base: baselines.and_then(|b| b.base.logit_diff),
            finished_at: document
                .provenance
                .as_ref()
                .map_or_else(String::new, |made| shortened(&made.finished_at, Self::MAX_NAME)),
            thumb: Thumb::of(document),
        }
    }

    /// The distance of the unpatched runs in nats.
    pub fn contrast(&self) -> Option<f32> {
        Some((self.source? - self.base?).abs())
    }

    /// What is searched for words, which have no spaces.
    fn text(&self) -> String {
        let texts: [&str; 6] = [
            &self.entity,
            &self.model,
            &self.source_sentence,
            &self.base_sentence,
            &self.id,
            self.site.map_or("", Site::name),
        ];
        texts.join(" ")
    }
}

impl Thumb {
    /// The most pixels in a row.
    pub const MAX_WIDTH: usize = 32;
    /// The most rows.
    pub const MAX_HEIGHT: usize = 24;

    /// The picture of the logit differences of a document's first grid. Where cells outnumber pixels,
    /// a pixel is the mean of its cells.
    pub fn of(document: &Document) -> Self {
        let first = Field::of(document, Choice::default(), Metric::LogitDiff);
        let grid = &first.map_or_else(|_| document.patching_results.clone(), |field| field.values);
        let (n_layers, n_columns) = (grid.n_rows(), grid.rows().next().map_or(0, <[_]>::len));
        let (width, height) = (n_columns.min(Self::MAX_WIDTH), n_layers.min(Self::MAX_HEIGHT));
        let part = |i: usize, n: usize, of: usize| i * of / n..(i + 1) * of / n;
        let mean = |x: usize, y: usize| {
            let columns = part(x, width, n_columns);
            let cells = part(y, height, n_layers)
                .flat_map(|layer| columns.clone().map(move |column| grid.get(layer, column)));
            let values: Vec<f32> = cells.flatten().filter(|v| v.is_finite()).collect();
            (!values.is_empty()).then(|| values.iter().sum::<f32>() / values.len() as f32)
        };
        let pixels: Vec<_> = (0..height)
            .flat_map(|y| (0..width).map(move |x| (x, y)))
            .map(|(x, y)| mean(x, y))
            .collect();
        let (lo, hi) = statistics::range(pixels.iter().copied()).unwrap_or_default();
        let byte = |value: Option<f32>| match value {
            Some(_) if hi <= lo => 127,
            Some(value) => (254.0 * (value - lo) / (hi - lo)).round() as u8,
            None => u8::MAX,
        };
        let bytes: Vec<u8> = pixels.into_iter().map(byte).collect();
        Self { width, height, cells: STANDARD.encode(bytes) }
    }

    /// The pixels, row by row, from 0 to 1; `None` where there is no value. Nothing at all where
    /// the picture is damaged.
    pub fn pixels(&self) -> Vec<Option<f32>> {
        let bytes = STANDARD.decode(&self.cells).unwrap_or_default();
        if Some(bytes.len()) != self.width.checked_mul(self.height) {
            return vec![];
        }
        bytes.into_iter().map(|b| (b != u8::MAX).then(|| f32::from(b) / 254.0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{baselines, document, ramp};

    #[test]
    fn a_picture_spans_the_values_and_shrinks_large_grids() {
        let small = Thumb::of(&document(&[&[Some(1.0), None], &[Some(3.0), Some(2.0)]]));
        assert_eq!((small.width, small.height), (2, 2));
        assert_eq!(small.pixels(), [Some(0.0), None, Some(1.0), Some(0.5)]);
        let large = Thumb::of(&ramp(80, 200));
        assert_eq!((large.width, large.height), (Thumb::MAX_WIDTH, Thumb::MAX_HEIGHT));
        let pixels = large.pixels();
        assert_eq!((pixels[0], pixels[pixels.len() - 1]), (Some(0.0), Some(1.0)));
        let flat = Thumb::of(&document(&[&[Some(2.0)]]));
        assert_eq!(flat.pixels(), [Some(0.5)]);
        assert!(Thumb { width: 3, ..small }.pixels().is_empty());
    }

    #[test]
    fn a_list_holds_the_beginning_of_long_texts() {
        let mut document = document(&[&[Some(1.0)]]);
        document.entity = "é".repeat(10 << 20);
        document.model = "m".repeat(Entry::MAX_NAME);
        document.base_sentence = "b".repeat(Entry::MAX_SENTENCE + 1);
        let entry = Entry::of(&document);
        assert_eq!(entry.entity, "é".repeat(Entry::MAX_NAME) + "…");
        assert_eq!(entry.model, document.model);
        assert_eq!(entry.base_sentence, "b".repeat(Entry::MAX_SENTENCE) + "…");
    }

    #[test]
    fn experiments_are_chosen_and_sorted() {
        let mut documents: Vec<_> = ["Queen", "mayor", "King"]
            .map(|entity| {
                let mut document = document(&[&[Some(1.0)]]);
                document.entity = entity.into();
                document.id = entity.to_lowercase();
                document.site = Some(Site::ResidPost);
                document
            })
            .into();
        documents[0].model = "Other".into();
        documents[1].baselines = Some(baselines(1.0, 4.0));
        documents[2].baselines = Some(baselines(1.0, 0.5));
        let gallery = Gallery::of(&documents);
        let filter = Filter::default();
        let cases: [(Filter, &[usize]); 6] = [
            (Filter { sort: Sort::Entity, ..filter.clone() }, &[2, 1, 0]),
            (Filter { sort: Sort::Contrast, ..filter.clone() }, &[1, 2, 0]),
            (Filter { text: "COUNCIL  kin".into(), ..filter.clone() }, &[2]),
            (Filter { model: "tiny".into(), ..filter.clone() }, &[1, 2]),
            (Filter { site: "mlp_out".into(), ..filter.clone() }, &[]),
            (Filter { entity: "mayor".into(), text: "resid".into(), ..filter }, &[1]),
        ];
        for (filter, expected) in cases {
            assert_eq!(gallery.select(&filter, str::to_lowercase), expected, "{filter:?}");
        }
        let text = serde_json::to_string(&gallery).unwrap();
        assert_eq!(serde_json::from_str::<Gallery>(&text).unwrap(), gallery);
    }
}
