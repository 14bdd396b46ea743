//! Where everything of a figure is: pure geometry, shared by drawing and pointing.
//!
//! Lengths are in pixels at scale 1 until the last step, where edges are multiplied by the scale
//! and rounded, so cells meet without a gap and a figure at scale 2 is the double of scale 1.

use super::axis::{cell_extent, label_step};
use super::labels::{Bar, Labels, note};
use super::text::{printable, sentence, wrap};
use super::theme::{EM, Palette, SMALL_EM, TITLE_EM};
use super::{FigureOptions, Heading, Origin};
use crate::field::Field;
use crate::field::axis::AxisKind;
use crate::figure::colour::{ColourScale, Rgb};

/// The distance of two baselines, in em.
const LEADING: f64 = 1.35;
/// The height of capitals and figures, and half the height of small letters with some ascenders,
/// in em: what to centre a text by.
const CAP_HEIGHT: f64 = 0.73;
const MID_HEIGHT: f64 = 0.3;

const MARGIN: f64 = 14.0;
const TICK: f64 = 3.0;
/// Between tick and label.
const PAD: f64 = 3.0;
/// Between parts of the figure.
const GAP: f64 = 12.0;
const BAR_WIDTH: f64 = 12.0;
/// Titles and notes need this much, whatever the grid's width.
const MIN_WIDTH: f64 = 360.0;
/// A colour bar less high has no room for its title.
const MIN_PLOT_HEIGHT: f64 = 90.0;
const MAX_PLOT_WIDTH: f64 = 1600.0;
const MAX_PLOT_HEIGHT: f64 = 1000.0;

/// A rectangle in pixels of the drawing area; right and bottom are excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PixelRect {
    /// The first pixel column.
    pub left: i32,
    /// The first pixel row.
    pub top: i32,
    /// One past the last pixel column.
    pub right: i32,
    /// One past the last pixel row.
    pub bottom: i32,
}

/// Which end of a text is at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A line of text, placed by its baseline.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Text {
    pub text: String,
    /// At scale 1.
    pub em: f64,
    pub colour: Rgb,
    pub anchor: Anchor,
    /// Turned by 90 degrees, to be read from below.
    pub upright: bool,
    /// The anchor's place on the baseline.
    pub x: f64,
    pub y: f64,
}

/// A rectangle at scale 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Area {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

/// The places of a figure's parts.
#[derive(Debug, Clone)]
pub struct Layout {
    pub(super) scale: f64,
    pub(super) plot: Area,
    pub(super) bar: Option<Area>,
    pub(super) texts: Vec<Text>,
    /// Thin lines, as rectangles of one pixel at scale 1 in one of their extents.
    pub(super) lines: Vec<Area>,
    /// Width and height at scale 1.
    full: (f64, f64),
    pub(super) palette: Palette,
    /// The field's columns that are shown.
    columns: Vec<usize>,
    n_rows: usize,
    n_cols: usize,
    first_row_on_top: bool,
    transpose: bool,
}

impl Layout {
    /// Lays out the figure of the `columns` of a field.
    pub(super) fn new(
        heading: &Heading,
        options: &FigureOptions,
        columns: Vec<usize>,
        field: &Field,
        colours: Option<&ColourScale>,
    ) -> Self {
        let palette = options.theme.palette();
        let all: Vec<_> = (0..field.rows.len()).collect();
        let along_rows = Labels::of(&field.rows, &all, options.labels, &palette);
        let along_columns = Labels::of(&field.columns, &columns, options.labels, &palette);
        let note = note(field, &columns, colours);
        let (mut rows, mut cols) = if options.transpose {
            (along_columns, along_rows)
        } else {
            (along_rows, along_columns)
        };
        let (n_rows, n_cols) = (rows.texts.len(), cols.texts.len());
        let cell_height = cell_extent(n_rows, 14.0, 48.0, 260.0, MAX_PLOT_HEIGHT)
            .max((MIN_PLOT_HEIGHT / n_rows as f64).ceil());
        let cell_width = cell_extent(n_cols, 18.0, 56.0, 320.0, MAX_PLOT_WIDTH);
        rows.step = label_step(rows.em * 1.1, cell_height, rows.are_numbers);
        // Names of few columns need not be turned; tokens always are.
        let is_named =
            matches!(field.columns.kind, AxisKind::Span | AxisKind::Role) && !options.transpose;
        cols.are_level |= is_named && cols.widest() + 2.0 * PAD <= cell_width;
        // Upright labels take their height along the axis, level ones their width.
        let needed = if cols.are_level { cols.widest() + 5.0 } else { cols.em * 1.1 };
        cols.step = label_step(needed, cell_width, cols.are_numbers);
        let (plot_width, plot_height) = (cell_width * n_cols as f64, cell_height * n_rows as f64);

        // Widths, from left to right.
        let row_labels = EM * LEADING + PAD + rows.widest() + PAD + TICK;
        let bar = colours
            .map(|colours| Bar::new(&field.quantity.title_with_unit(), colours, plot_height));
        let group = row_labels + plot_width + bar.as_ref().map_or(0.0, bar_width);
        let content = group.max(MIN_WIDTH).ceil();
        let left = MARGIN + ((content - group) / 2.0).floor();

        let mut layout = Layout {
            scale: options.scale(),
            plot: Area { x: 0.0, y: 0.0, width: plot_width, height: plot_height },
            bar: None,
            texts: Vec::new(),
            lines: Vec::new(),
            full: (content + 2.0 * MARGIN, 0.0),
            palette,
            columns,
            n_rows,
            n_cols,
            first_row_on_top: options.origin == Origin::Top,
            transpose: options.transpose,
        };
        let bottom = layout.header(heading, content);
        layout.plot.x = (left + row_labels).round();
        layout.plot.y = (bottom + GAP).round();
        layout.row_axis(&rows, cell_height, left);
        let mut bottom = layout.col_axis(&cols, cell_width);
        if let Some(bar) = bar {
            layout.place_bar(&bar);
        }
        for (i, line) in wrap(&note, SMALL_EM, content, 3).into_iter().enumerate() {
            bottom += SMALL_EM * LEADING + if i == 0 { PAD } else { 0.0 };
            layout.text(line, SMALL_EM, palette.quiet, Anchor::Start, (MARGIN, bottom));
        }
        layout.full.1 = (bottom + MARGIN).ceil();
        layout
    }

    /// Width and height in pixels.
    pub fn size(&self) -> (u32, u32) {
        (self.px(self.full.0) as u32, self.px(self.full.1) as u32)
    }

    /// Every cell as (row, column, pixels), in reading order on the page. Neighbours share their
    /// edges, so nothing shows between them.
    pub fn cells(&self) -> impl Iterator<Item = (usize, usize, PixelRect)> + '_ {
        let all = (0..self.n_rows).flat_map(|row| (0..self.n_cols).map(move |col| (row, col)));
        all.map(|(row, col)| {
            let (own, column) = self.shown_at(row, col);
            (own, column, self.pixels_at(row, col))
        })
    }

    /// The pixels of one cell; `None` where its column is hidden or there is no such cell.
    pub fn cell(&self, row: usize, column: usize) -> Option<PixelRect> {
        let shown = self.columns.binary_search(&column).ok()?;
        let (row, col) = if self.transpose { (shown, row) } else { (row, shown) };
        let row = if self.first_row_on_top { row } else { self.n_rows.checked_sub(row + 1)? };
        (row < self.n_rows && col < self.n_cols).then(|| self.pixels_at(row, col))
    }

    /// The field's (row, column) of the cell at a point of the drawing area, in pixels; `None` beside
    /// the grid.
    pub fn cell_at(&self, x: f64, y: f64) -> Option<(usize, usize)> {
        let index = |at: f64, start: f64, extent: f64, n: usize| {
            let part = (at / self.scale - start) / extent;
            (0.0..1.0).contains(&part).then(|| ((part * n as f64) as usize).min(n - 1))
        };
        let col = index(x, self.plot.x, self.plot.width, self.n_cols)?;
        let row = index(y, self.plot.y, self.plot.height, self.n_rows)?;
        Some(self.shown_at(row, col))
    }

    /// The field's (row, column) shown in a row from the top and a column from the left.
    fn shown_at(&self, row: usize, col: usize) -> (usize, usize) {
        let row = if self.first_row_on_top { row } else { self.n_rows - 1 - row };
        if self.transpose { (col, self.columns[row]) } else { (row, self.columns[col]) }
    }

    fn pixels_at(&self, row: usize, col: usize) -> PixelRect {
        let edge = |start: f64, extent: f64, i: usize, n: usize| {
            self.px(start + extent * i as f64 / n as f64)
        };
        let Area { x, y, width, height } = self.plot;
        PixelRect {
            left: edge(x, width, col, self.n_cols),
            top: edge(y, height, row, self.n_rows),
            right: edge(x, width, col + 1, self.n_cols),
            bottom: edge(y, height, row + 1, self.n_rows),
        }
    }

    /// All cells together.
    pub fn plot(&self) -> PixelRect {
        self.pixels(self.plot)
    }

    pub(super) fn px(&self, length: f64) -> i32 {
        (length * self.scale).round() as i32
    }

    pub(super) fn pixels(&self, area: Area) -> PixelRect {
        PixelRect {
            left: self.px(area.x),
            top: self.px(area.y),
            right: self.px(area.x + area.width),
            bottom: self.px(area.y + area.height),
        }
    }

    fn text(&mut self, text: String, em: f64, colour: Rgb, anchor: Anchor, (x, y): (f64, f64)) {
        self.texts.push(Text { text, em, colour, anchor, upright: false, x, y });
    }

    fn upright(&mut self, text: String, em: f64, colour: Rgb, anchor: Anchor, (x, y): (f64, f64)) {
        self.texts.push(Text { text, em, colour, anchor, upright: true, x, y });
    }

    fn line(&mut self, x: f64, y: f64, width: f64, height: f64) {
        self.lines.push(Area { x, y, width, height });
    }

    /// Title and what was run, to the given width. Returns where they end.
    fn header(&mut self, heading: &Heading, width: f64) -> f64 {
        if heading.title.is_empty() {
            return MARGIN - GAP;
        }
        let Palette { ink, quiet, .. } = self.palette;
        let mut parts = vec![
            (sentence(&heading.title), TITLE_EM, ink),
            (printable(&heading.facts.join(" · ")), EM, quiet),
        ];
        parts.extend(heading.lines.iter().map(|line| (sentence(line), SMALL_EM, quiet)));
        // The capitals of the title begin at the margin.
        let mut baseline = MARGIN + TITLE_EM * (CAP_HEIGHT - LEADING);
        for (i, (text, em, colour)) in parts.into_iter().enumerate() {
            baseline += if i == 2 { 3.0 } else { 0.0 };
            for line in wrap(&text, em, width, 2) {
                baseline += em * LEADING;
                self.text(line, em, colour, Anchor::Start, (MARGIN, baseline.round()));
            }
        }
        baseline
    }

    fn row_axis(&mut self, rows: &Labels, cell: f64, left: f64) {
        let Area { x, y, height, .. } = self.plot;
        let middle = rows.em * if rows.are_numbers { CAP_HEIGHT / 2.0 } else { MID_HEIGHT };
        for (i, (text, colour)) in rows.shown() {
            let row = if self.first_row_on_top { i } else { self.n_rows - 1 - i };
            let centre = y + (row as f64 + 0.5) * cell;
            self.line(x - 1.0 - TICK, (centre - 0.5).floor(), TICK, 1.0);
            let at = (x - 1.0 - TICK - PAD, centre + middle);
            self.text(text.clone(), rows.em, *colour, Anchor::End, at);
        }
        let at = (left + EM * CAP_HEIGHT, y + height / 2.0);
        self.upright(rows.title.to_string(), EM, self.palette.ink, Anchor::Middle, at);
    }

    /// Returns where the axis ends below.
    fn col_axis(&mut self, cols: &Labels, cell: f64) -> f64 {
        let Area { x, y, width: plot_width, height } = self.plot;
        let below = y + height + 1.0;
        for (i, (text, colour)) in cols.shown() {
            let centre = x + (i as f64 + 0.5) * cell;
            self.line((centre - 0.5).floor(), below, 1.0, TICK);
            let start = below + TICK + PAD;
            if cols.are_level {
                let at = (centre, start + cols.em * CAP_HEIGHT);
                self.text(text.clone(), cols.em, *colour, Anchor::Middle, at);
            } else {
                let at = (centre + cols.em * MID_HEIGHT, start);
                self.upright(text.clone(), cols.em, *colour, Anchor::End, at);
            }
        }
        let labels = if cols.are_level { cols.em * CAP_HEIGHT } else { cols.widest() };
        let title = (below + TICK + PAD + labels + 6.0 + EM * CAP_HEIGHT).round();
        let at = (x + plot_width / 2.0, title);
        self.text(cols.title.to_string(), EM, self.palette.ink, Anchor::Middle, at);
        title + 3.0
    }

    fn place_bar(&mut self, bar: &Bar) {
        let Area { x, y, width, height } = self.plot;
        let left = x + width + 1.0 + GAP;
        self.bar = Some(Area { x: left, y, width: BAR_WIDTH, height });
        let right = left + BAR_WIDTH + 1.0;
        for (part, text) in &bar.ticks {
            let at = y + height * (1.0 - part);
            self.line(right, (at - 0.5).floor().clamp(y, y + height - 1.0), TICK, 1.0);
            let at = (right + TICK + PAD, at + SMALL_EM * CAP_HEIGHT / 2.0);
            self.text(text.clone(), SMALL_EM, self.palette.ink, Anchor::Start, at);
        }
        let mut baseline = right + TICK + PAD + bar.label_width + 2.0 * PAD;
        for line in &bar.title {
            baseline += EM * LEADING;
            let at = ((baseline - EM * (LEADING - CAP_HEIGHT) / 2.0).round(), y + height / 2.0);
            self.upright(line.clone(), EM, self.palette.ink, Anchor::Middle, at);
        }
    }
}

/// From the plot's right edge to the end of the colour bar's title.
fn bar_width(bar: &Bar) -> f64 {
    let title = 2.0 * PAD + EM * LEADING * bar.title.len() as f64;
    1.0 + GAP + BAR_WIDTH + 1.0 + TICK + PAD + bar.label_width + title
}
