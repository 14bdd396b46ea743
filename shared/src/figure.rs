//! The figure: one heatmap drawn over any plotters backend, so that PNG, SVG and canvas agree.
//!
//! Backends get nothing but filled rectangles, thin paths and text, all at whole pixels.

mod axis;
pub mod colour;
mod labels;
mod layout;
#[cfg(test)]
mod tests;
pub mod text;
mod theme;

use std::collections::BTreeMap;
use std::fmt;

use plotters::backend::DrawingBackend;
use plotters::coord::Shift;
use plotters::drawing::DrawingArea;
use plotters::element::{PathElement, Rectangle};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontDesc, FontFamily, FontStyle, FontTransform, RGBColor};

use self::layout::{Anchor, Text};
pub use self::layout::{Layout, PixelRect};
pub use self::theme::Theme;
use crate::document::{Document, title};
use crate::field::axis::n_base;
use crate::field::chosen::{Choice, Chosen};
use crate::field::key;
use crate::field::metric::Metric;
use crate::field::{Field, FieldError};
use crate::figure::colour::{
    BadRange, ColourScale, MISSING, MISSING_HATCH, Preset, Range, Rgb, colour_at,
};
use crate::specification::positions::Positions;
use crate::specification::vocabulary::named;

named! {
    /// Where the first row is: layer 0, or the first token where the figure is transposed.
    Origin, "origin" {
        /// On top, as in all figures of the field.
        #[default]
        Top = "top",
        /// At the bottom, so that the data flow upwards.
        Bottom = "bottom",
    }
}

named! {
    /// What stands at a column.
    LabelStyle, "label style" {
        /// The base's token.
        #[default]
        Token = "token",
        /// The base's token and its position, `token (12)`: no two columns read the same.
        TokenIndex = "token_index",
    }
}

/// What a figure shows, and how. The default is the notebook's figure.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FigureOptions {
    /// Which of the result's grids.
    pub grid: Choice,
    /// What a cell shows.
    pub metric: Metric,
    /// The colours.
    pub preset: Preset,
    /// The values of the first and last colour.
    pub range: Range,
    /// Where the first row is.
    pub origin: Origin,
    /// Rows along x and columns along y.
    pub transpose: bool,
    /// What stands at a token's column or row.
    pub labels: LabelStyle,
    /// Positions of the base that are left out of an axis of tokens. The range of colours is that of
    /// what remains.
    pub hidden: Positions,
    /// The colours around the data.
    pub theme: Theme,
    /// Multiplies everything, fonts and strokes included; kept within 0.25 to 8. At 1 a pixel is
    /// that of a page on a screen. `None` is 1, or what a format prefers.
    pub scale: Option<f64>,
}

impl FigureOptions {
    /// The scale within its limits, 1 where none is set.
    pub fn scale(&self) -> f64 {
        self.scale.filter(|s| !s.is_nan()).unwrap_or(1.0).clamp(0.25, 8.0)
    }

    /// The columns of a field that are shown, in order, where the base has `n_base` tokens.
    pub fn columns(&self, n_base: usize, field: &Field) -> Vec<usize> {
        let hidden: Vec<_> = key::among(&self.hidden, n_base, &field.columns).collect();
        (0..field.columns.len()).filter(|at| hidden.binary_search(at).is_err()).collect()
    }
}

/// What stands above a figure.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Heading {
    /// What it is about; empty for no heading at all.
    pub title: String,
    /// What was run.
    pub facts: Vec<String>,
    /// Lines in small print.
    pub lines: Vec<String>,
}

impl Heading {
    /// The heading of a grid of `document`.
    pub fn of(document: &Document, chosen: &Chosen) -> Self {
        let mut facts = vec![document.model.clone()];
        facts.extend(chosen.what(document));
        facts.extend(document.provenance.iter().map(|provenance| provenance.dtype.clone()));
        facts.retain(|fact| !fact.is_empty());
        let lines = [("Source", &document.source_sentence), ("Base", &document.base_sentence)];
        Self {
            title: title(&document.entity).to_string(),
            facts,
            lines: lines.map(|(name, sentence)| format!("{name}: {sentence}")).into(),
        }
    }
}

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
pub enum FigureError {
    /// The document has no such grid, or does not hold the metric.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// The range set by the user does not go up.
    #[error(transparent)]
    Range(#[from] BadRange),
    /// Nothing is left to show.
    #[error("all {0} columns are hidden: show at least one of them")]
    AllHidden(usize),
    /// The backend failed.
    #[error("the figure could not be drawn: {0}")]
    Backend(String),
}

/// What a backend makes of a font's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextUnit {
    /// The em in pixels: the canvas.
    Em,
    /// The em times 1.24: plotters' SVG backend.
    LineHeight,
}

/// A figure before it is drawn: its values, colours and layout.
#[derive(Debug, Clone)]
pub struct Figure {
    field: Field,
    colours: Option<ColourScale>,
    layout: Layout,
}

impl Figure {
    /// Takes the values of `document` that `options` ask for and lays them out.
    ///
    /// # Errors
    /// [`FigureError`] where the document has no such grid or does not hold the metric, the range
    /// does not go up or every column is hidden.
    pub fn new(document: &Document, options: &FigureOptions) -> Result<Self, FigureError> {
        let chosen = Chosen::of(document, options.grid).map_err(FieldError::from)?;
        let field = chosen.field(document, options.metric).map_err(FieldError::from)?;
        let columns = options.columns(n_base(document), &field);
        Self::of(&Heading::of(document, &chosen), field, &columns, options)
    }

    /// Lays out the `columns` of a field, whatever grid, metric and hidden positions the options
    /// name.
    ///
    /// # Errors
    /// [`FigureError`] where the range does not go up or there is no column.
    pub fn of(
        heading: &Heading,
        field: Field,
        columns: &[usize],
        options: &FigureOptions,
    ) -> Result<Self, FigureError> {
        if columns.is_empty() {
            return Err(FigureError::AllHidden(field.columns.len()));
        }
        let colours = scale(&field, columns, options)?;
        let layout = Layout::new(heading, options, columns.to_vec(), &field, colours.as_ref());
        Ok(Self { field, colours, layout })
    }

    /// Width and height in pixels.
    pub fn size(&self) -> (u32, u32) {
        self.layout.size()
    }

    /// The colour behind everything.
    pub fn ground(&self) -> Rgb {
        self.layout.palette.ground
    }

    /// Where its parts are, to find the cell at a pointer.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The values drawn.
    pub fn field(&self) -> &Field {
        &self.field
    }

    /// The colours of the values; `None` where there is no value.
    pub fn colours(&self) -> Option<&ColourScale> {
        self.colours.as_ref()
    }

    /// Draws at the top left of `root`, which should be as large as [`Self::size`] says.
    ///
    /// # Errors
    /// [`FigureError::Backend`] with the backend's words.
    pub fn draw<DB: DrawingBackend>(
        &self,
        root: &DrawingArea<DB, Shift>,
        unit: TextUnit,
    ) -> Result<(), FigureError> {
        let pen = Pen { root, layout: &self.layout, unit };
        root.fill(&plotters_colour(self.layout.palette.ground)).map_err(backend_error)?;
        self.draw_cells(&pen)?;
        self.draw_bar(&pen)?;
        for &line in &self.layout.lines {
            pen.stroke(line)?;
        }
        for text in &self.layout.texts {
            pen.text(text)?;
        }
        root.present().map_err(backend_error)
    }

    fn draw_cells<DB: DrawingBackend>(&self, pen: &Pen<'_, DB>) -> Result<(), FigureError> {
        let plot = self.layout.plot();
        // A vector image is often shown at a scale where edges are no whole pixels and their
        // smoothing lets the ground shine through; so each cell reaches one pixel under those
        // drawn after it.
        for (row, column, cell) in self.layout.cells() {
            let colour = match &self.colours {
                Some(colours) => colours.colour(self.field.values.get(row, column)),
                None => MISSING,
            };
            let right = (cell.right + 1).min(plot.right);
            let bottom = (cell.bottom + 1).min(plot.bottom);
            pen.fill(PixelRect { right, bottom, ..cell }, colour)?;
        }
        for missing in self.missing() {
            pen.hatch(missing)?;
        }
        pen.frame(plot)
    }

    /// The cells without a value, as few rectangles: runs along a row, joined downwards.
    fn missing(&self) -> Vec<PixelRect> {
        let mut runs: Vec<PixelRect> = Vec::new();
        for (row, column, cell) in self.layout.cells() {
            if self.field.values.get(row, column).is_some() {
                continue;
            }
            match runs.last_mut() {
                Some(run) if run.top == cell.top && run.right == cell.left => {
                    run.right = cell.right
                }
                _ => runs.push(cell),
            }
        }
        // Runs are in reading order, so what ends above a run is already joined.
        let mut joined: BTreeMap<(i32, i32, i32), PixelRect> = BTreeMap::new();
        for run in runs {
            let above = joined.remove(&(run.left, run.right, run.top));
            let top = above.map_or(run.top, |above| above.top);
            joined.insert((run.left, run.right, run.bottom), PixelRect { top, ..run });
        }
        joined.into_values().collect()
    }

    fn draw_bar<DB: DrawingBackend>(&self, pen: &Pen<'_, DB>) -> Result<(), FigureError> {
        let (Some(colours), Some(bar)) = (&self.colours, self.layout.bar) else { return Ok(()) };
        let bar = self.layout.pixels(bar);
        let height = bar.bottom - bar.top;
        let n_steps = height.clamp(1, 256);
        for step in 0..n_steps {
            let part = 1.0 - (f64::from(step) + 0.5) / f64::from(n_steps);
            let t = colours.fraction(colours.at_part(part));
            // Down to the end, for the same reason as with the cells.
            let top = bar.top + height * step / n_steps;
            pen.fill(PixelRect { top, ..bar }, colour_at(colours.preset, t))?;
        }
        pen.frame(bar)
    }
}

/// The colours of the columns of a field; `None` where none of them has a value.
fn scale(
    field: &Field,
    columns: &[usize],
    options: &FigureOptions,
) -> Result<Option<ColourScale>, BadRange> {
    let shown = field.values.of_columns(columns);
    let (preset, range) = (options.preset, options.range);
    match field.quantity.is_rank {
        true => ColourScale::of_ranks(preset, range, shown),
        false => ColourScale::new(preset, range, shown, field.quantity.centre),
    }
}

/// The range of colours in which all of these fields, of each the columns that are shown, can be
/// compared, and the lowest and highest value of their scales; `None` where none of them has one.
///
/// Of a diverging preset each keeps its own middle, and all reach as far from it.
pub fn common_range<'a>(
    fields: impl IntoIterator<Item = (&'a Field, Vec<usize>)>,
    options: &FigureOptions,
) -> Option<(Range, (f32, f32))> {
    let scales =
        fields.into_iter().filter_map(|(field, columns)| scale(field, &columns, options).ok()?);
    let scales: Vec<_> = scales.collect();
    let ends = scales.iter().map(|scale| (scale.lo as f32, scale.hi as f32));
    let ends =
        ends.reduce(|(lo, hi), (other_lo, other_hi)| (lo.min(other_lo), hi.max(other_hi)))?;
    let range = match options.range {
        Range::Auto if options.preset.is_diverging() && scales.iter().all(|s| !s.is_rank()) => {
            let half = scales.iter().map(|scale| (scale.hi - scale.lo) / 2.0).fold(0.0, f64::max);
            // No value may come to lie beyond it by rounding.
            let rounded = half as f32;
            Range::Around(if f64::from(rounded) < half { rounded.next_up() } else { rounded })
        }
        Range::Auto => Range::Set(ends.0, ends.1),
        set => set,
    };
    Some((range, ends))
}

/// What baselines are below the top of a text in every backend, in em.
const TOP_TO_BASELINE: f64 = 0.76;

struct Pen<'a, DB: DrawingBackend> {
    root: &'a DrawingArea<DB, Shift>,
    layout: &'a Layout,
    unit: TextUnit,
}

impl<DB: DrawingBackend> Pen<'_, DB> {
    fn fill(&self, rect: PixelRect, colour: Rgb) -> Result<(), FigureError> {
        let points = [(rect.left, rect.top), (rect.right, rect.bottom)];
        self.root
            .draw(&Rectangle::new(points, plotters_colour(colour).filled()))
            .map_err(backend_error)
    }

    /// The thickness of thin lines in pixels.
    fn hairline(&self) -> i32 {
        self.layout.px(1.0).max(1)
    }

    /// A thin line along an axis, no thinner than a pixel at small scales.
    fn stroke(&self, line: layout::Area) -> Result<(), FigureError> {
        let mut rect = self.layout.pixels(line);
        rect.right = rect.right.max(rect.left + 1);
        rect.bottom = rect.bottom.max(rect.top + 1);
        self.fill(rect, self.layout.palette.axis)
    }

    /// A thin line around `inner`, which stays uncovered.
    fn frame(&self, inner: PixelRect) -> Result<(), FigureError> {
        let PixelRect { left, top, right, bottom } = inner;
        let thin = self.hairline();
        for rect in [
            PixelRect { left: left - thin, top: top - thin, right: right + thin, bottom: top },
            PixelRect {
                left: left - thin,
                top: bottom,
                right: right + thin,
                bottom: bottom + thin,
            },
            PixelRect { left: left - thin, top, right: left, bottom },
            PixelRect { left: right, top, right: right + thin, bottom },
        ] {
            self.fill(rect, self.layout.palette.axis)?;
        }
        Ok(())
    }

    /// Rising diagonals, in one grid for the whole figure so that neighbours continue each other.
    fn hatch(&self, rect: PixelRect) -> Result<(), FigureError> {
        let distance = self.layout.px(5.0).max(3);
        let thin = self.layout.px(0.7).max(1);
        let style = plotters_colour(MISSING_HATCH).stroke_width(thin as u32);
        // Lines have their thickness around them, which is kept off the neighbours.
        let (left, top) = (rect.left + thin, rect.top + thin);
        let (right, bottom) = (rect.right - 1 - thin, rect.bottom - 1 - thin);
        // The diagonals are the points with x + y = sum.
        let first = (left + top) / distance * distance + distance;
        for sum in (first..right + bottom).step_by(distance as usize) {
            let (from, to) = (left.max(sum - bottom), right.min(sum - top));
            if from < to {
                let line = PathElement::new([(from, sum - from), (to, sum - to)], style);
                self.root.draw(&line).map_err(backend_error)?;
            }
        }
        Ok(())
    }

    fn text(&self, text: &Text) -> Result<(), FigureError> {
        let em = text.em * self.layout.scale;
        let size = match self.unit {
            TextUnit::Em => em,
            TextUnit::LineHeight => em * 1.24,
        };
        let rise = TOP_TO_BASELINE * text.em;
        let (at, turn) = if text.upright {
            ((self.layout.px(text.x - rise), self.layout.px(text.y)), FontTransform::Rotate270)
        } else {
            ((self.layout.px(text.x), self.layout.px(text.y - rise)), FontTransform::None)
        };
        let h_pos = match text.anchor {
            Anchor::Start => HPos::Left,
            Anchor::Middle => HPos::Center,
            Anchor::End => HPos::Right,
        };
        let font = FontDesc::new(FontFamily::Name(text::FONT_FAMILY), size, FontStyle::Normal);
        let mut style = font.transform(turn).color(&plotters_colour(text.colour));
        style.pos = Pos::new(h_pos, VPos::Top);
        self.root.draw_text(&text.text, &style, at).map_err(backend_error)
    }
}

fn plotters_colour(Rgb(r, g, b): Rgb) -> RGBColor {
    RGBColor(r, g, b)
}

fn backend_error(error: impl fmt::Display) -> FigureError {
    FigureError::Backend(error.to_string())
}
