//! A figure of several panels, which share a scale of colours: results beside one another, and the
//! grids of each.

use std::fmt::Write;

use shared::document::Document;
use shared::field::FieldError;
use shared::field::axis::n_base;
use shared::field::chosen::{Choice, Chosen, GridName};
use shared::figure::{Figure, FigureError, FigureOptions, Heading, common_range};

use super::{ExportError, Format, picture, svg};

/// The most panels of a figure.
pub const MOST_PANELS: usize = 60;

/// What is between panels, in pixels at scale 1.
const GAP: f64 = 12.0;

/// A figure of several panels.
#[derive(Debug)]
pub struct Panels {
    figures: Vec<Figure>,
    n_in_row: usize,
    gap: u32,
}

impl Panels {
    /// Lays out a panel for each grid of each of `documents`, or for the one that `options` name,
    /// `n_in_row` beside one another. Grids without the metric that is asked for have none.
    ///
    /// # Errors
    /// [`ExportError::Figure`] where no grid has the metric or the range does not go up,
    /// [`ExportError::Drawing`] of too many panels.
    pub fn new(
        documents: &[Document],
        options: &FigureOptions,
        n_in_row: usize,
    ) -> Result<Self, ExportError> {
        let mut panels = Vec::new();
        let mut lacking = None;
        for document in documents {
            for choice in choices(document, options) {
                let chosen = Chosen::of(document, choice).map_err(FieldError::from);
                let chosen = chosen.map_err(FigureError::from)?;
                match chosen.field(document, options.metric).map_err(FieldError::from) {
                    Ok(field) => {
                        let columns = options.columns(n_base(document), &field);
                        panels.push((Heading::of(document, &chosen), field, columns));
                    }
                    Err(error) => lacking = Some(error),
                }
            }
        }
        if let (true, Some(error)) = (panels.is_empty(), lacking) {
            return Err(FigureError::from(error).into());
        }
        if panels.len() > MOST_PANELS {
            let n = panels.len();
            let problem = format!("found {n} panels, expected at most {MOST_PANELS}");
            return Err(ExportError::Drawing(format!("{problem}: choose fewer results or a grid")));
        }
        let shown = panels.iter().map(|(_, field, columns)| (field, columns.clone()));
        let range = common_range(shown, options).map_or(options.range, |(range, _)| range);
        let options = FigureOptions { range, ..options.clone() };
        let is_one = panels.len() == 1;
        let figures = panels.into_iter().enumerate().map(|(i, (heading, field, columns))| {
            let title = match is_one {
                true => heading.title,
                false => format!("({}) {}", letters(i), heading.title),
            };
            Figure::of(&Heading { title, ..heading }, field, &columns, &options)
        });
        Ok(Self {
            figures: figures.collect::<Result<_, _>>()?,
            n_in_row: n_in_row.max(1),
            gap: (GAP * options.scale()).round() as u32,
        })
    }

    /// The panels, row by row.
    pub fn figures(&self) -> &[Figure] {
        &self.figures
    }

    /// Width and height in pixels.
    pub fn size(&self) -> [u32; 2] {
        let [widths, heights] = self.sizes();
        [self.extent(&widths), self.extent(&heights)]
    }

    /// The panels as one SVG.
    ///
    /// # Errors
    /// What the backend reports.
    pub fn svg(&self) -> Result<String, ExportError> {
        let ([widths, heights], [width, height]) = (self.sizes(), self.size());
        let mut all = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let ground = self.figures.first().map_or("#ffffff".into(), |figure| {
            let colour = figure.ground();
            format!("#{:02x}{:02x}{:02x}", colour.0, colour.1, colour.2)
        });
        // Writing to a text cannot fail.
        let _ = writeln!(
            all,
            "<svg width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
             xmlns=\"http://www.w3.org/2000/svg\">\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"{ground}\"/>"
        );
        for (i, figure) in self.figures.iter().enumerate() {
            let (row, column) = (i / self.n_in_row, i % self.n_in_row);
            let x = self.extent(&widths[..column]) + if column > 0 { self.gap } else { 0 };
            let y = self.extent(&heights[..row]) + if row > 0 { self.gap } else { 0 };
            let one = svg(figure)?;
            let body = one.split_once("<svg ").map_or("", |(_, body)| body);
            let _ = writeln!(all, "<svg x=\"{x}\" y=\"{y}\" {body}");
        }
        all.push_str("</svg>\n");
        Ok(all)
    }

    /// The widths of the columns and the heights of the rows.
    fn sizes(&self) -> [Vec<u32>; 2] {
        let n_columns = self.n_in_row.min(self.figures.len());
        let mut widths = vec![0; n_columns];
        let mut heights = vec![0; self.figures.len().div_ceil(self.n_in_row)];
        for (i, figure) in self.figures.iter().enumerate() {
            let (width, height) = figure.size();
            let (row, column) = (i / self.n_in_row, i % self.n_in_row);
            widths[column] = width.max(widths[column]);
            heights[row] = height.max(heights[row]);
        }
        [widths, heights]
    }

    fn extent(&self, sizes: &[u32]) -> u32 {
        sizes.iter().sum::<u32>() + self.gap * sizes.len().saturating_sub(1) as u32
    }
}

/// The panels of `documents` as a picture; see [`Panels::new`].
///
/// # Errors
/// Likewise, and a format that is no picture.
pub fn render(
    documents: &[Document],
    format: Format,
    options: &FigureOptions,
    n_in_row: usize,
) -> Result<Vec<u8>, ExportError> {
    if !format.is_picture() {
        return Err(ExportError::Drawing(format!("`{format}` is no picture")));
    }
    picture(format, options, |options| {
        let panels = Panels::new(documents, options, n_in_row)?;
        Ok((panels.svg()?, panels.size()))
    })
}

/// The grids of a document that have panels.
fn choices(document: &Document, options: &FigureOptions) -> Vec<Choice> {
    let names = match options.grid.grid {
        Some(_) => Vec::new(),
        None => GridName::all(document),
    };
    match names.is_empty() {
        true => vec![options.grid],
        false => {
            names.into_iter().map(|name| Choice { grid: Some(name), ..options.grid }).collect()
        }
    }
}

/// a to z, and then aa, ab and so on.
fn letters(i: usize) -> String {
    let letter = char::from(b'a' + (i % 26) as u8);
    match i / 26 {
        0 => letter.to_string(),
        n => format!("{}{letter}", letters(n - 1)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::export::PNG_SCALE;

    fn examples() -> Vec<Document> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../static/examples/results");
        let mut paths: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
            .iter()
            .flat_map(|path| Document::read(&std::fs::read(path).unwrap()).unwrap())
            .collect()
    }

    #[test]
    fn panels_share_their_colours_and_cover_nothing_of_each_other() {
        let documents = examples();
        for n_in_row in [1, 2, 4, 100] {
            for theme in [shared::figure::Theme::Light, shared::figure::Theme::Dark] {
                let options = FigureOptions { theme, ..FigureOptions::default() };
                let panels = Panels::new(&documents, &options, n_in_row).unwrap();
                assert_eq!(panels.figures().len(), documents.len());
                // Each keeps its own middle, and all reach as far from it.
                let reach = |figure: &Figure| {
                    figure.colours().map(|scale| ((scale.hi - scale.lo) * 1e4).round())
                };
                let reaches: Vec<_> = panels.figures().iter().map(reach).collect();
                assert!(reaches.windows(2).all(|two| two[0] == two[1]), "{reaches:?}");
                let svg = panels.svg().unwrap();
                let number = |tag: &str, name: &str| -> u32 {
                    let (_, rest) = tag.split_once(&format!(" {name}=\"")).unwrap();
                    rest.split_once('"').unwrap().0.parse().unwrap()
                };
                let places: Vec<_> = svg
                    .split("<svg")
                    .skip(2)
                    .map(|tag| ["x", "y", "width", "height"].map(|name| number(tag, name)))
                    .collect();
                assert_eq!(places.len(), documents.len());
                let [width, height] = panels.size();
                for (i, [x, y, w, h]) in places.iter().enumerate() {
                    assert!(x + w <= width && y + h <= height, "panel {i}");
                    let apart = |[other_x, other_y, other_w, other_h]: &[u32; 4]| {
                        x + w <= *other_x
                            || other_x + other_w <= *x
                            || y + h <= *other_y
                            || other_y + other_h <= *y
                    };
                    assert!(places[..i].iter().all(apart), "panel {i} covers another");
                }
            }
        }
        let png = render(&documents, Format::Png, &FigureOptions::default(), 3).unwrap();
        let scale = Some(PNG_SCALE);
        let options = FigureOptions { scale, ..FigureOptions::default() };
        let [width, height] = Panels::new(&documents, &options, 3).unwrap().size();
        assert_eq!(png[16..24], [width.to_be_bytes(), height.to_be_bytes()].concat());
        let pdf = render(&documents, Format::Pdf, &FigureOptions::default(), 3).unwrap();
        assert!(pdf.starts_with(b"%PDF-"));
    }

    #[test]
    fn what_cannot_be_shown_is_said() {
        let documents = examples();
        let many: Vec<_> = documents.iter().cycle().take(MOST_PANELS + 1).cloned().collect();
        let error = Panels::new(&many, &FigureOptions::default(), 5).unwrap_err().to_string();
        assert!(error.contains("found 61 panels, expected at most 60"), "{error}");
        let ranks = FigureOptions {
            metric: shared::field::metric::Metric::RankTrue,
            ..FigureOptions::default()
        };
        assert!(matches!(Panels::new(&documents, &ranks, 2), Err(ExportError::Figure(_))));
        assert!(render(&documents, Format::Csv, &FigureOptions::default(), 2).is_err());
        assert_eq!([0, 25, 26, 27, 52].map(letters), ["a", "z", "aa", "ab", "ba"]);
    }
}
