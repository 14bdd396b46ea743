//! What is written beside the grid: axis labels, the colour bar's ticks and title, the note.

use super::LabelStyle;
use super::axis::{rank_ticks, ticks};
use super::text::{printable, shorten, token, width, wrap};
use super::theme::{EM, Palette, SMALL_EM};
use crate::field::Field;
use crate::field::axis::Axis;
use crate::figure::colour::{ColourScale, Rgb};

/// The longest label in pixels at scale 1.
const MAX_LABEL: f64 = 120.0;

/// The labels along one axis, and how they stand.
pub(super) struct Labels {
    pub title: &'static str,
    /// Text and colour of every cell's label.
    pub texts: Vec<(String, Rgb)>,
    pub em: f64,
    /// Where they are left out, so that they count in tens.
    pub are_numbers: bool,
    /// Below the grid: from left to right and not turned.
    pub are_level: bool,
    /// Every how many cells one is written.
    pub step: usize,
}

impl Labels {
    /// The labels of some of an axis.
    pub fn of(axis: &Axis, shown: &[usize], style: LabelStyle, palette: &Palette) -> Self {
        let texts = shown.iter().filter_map(|at| axis.marks.get(*at)).map(|mark| {
            let Some(position) = mark.position else {
                return (shorten(&mark.text, SMALL_EM, MAX_LABEL), palette.ink);
            };
            let index = match style {
                LabelStyle::Token => String::new(),
                LabelStyle::TokenIndex => format!(" ({position})"),
            };
            let room = MAX_LABEL - width(&index, SMALL_EM);
            let text = shorten(&token(&mark.text), SMALL_EM, room) + &index;
            (text, if mark.is_same { palette.same } else { palette.ink })
        });
        let texts = texts.collect();
        let are_numbers = axis.kind.is_numbered();
        Self {
            title: axis.kind.title(),
            texts,
            em: SMALL_EM,
            are_numbers,
            are_level: are_numbers,
            step: 1,
        }
    }

    pub fn shown(&self) -> impl Iterator<Item = (usize, &(String, Rgb))> {
        self.texts.iter().enumerate().step_by(self.step)
    }

    pub fn widest(&self) -> f64 {
        self.shown().map(|(_, (text, _))| width(text, self.em)).fold(0.0, f64::max)
    }
}

/// What is written at the colour bar.
pub(super) struct Bar {
    pub title: Vec<String>,
    /// The part of the bar's height, 0 at its low end, and the label.
    pub ticks: Vec<(f64, String)>,
    pub label_width: f64,
}

impl Bar {
    pub fn new(title: &str, colours: &ColourScale, height: f64) -> Self {
        let n = (height / 30.0).clamp(3.0, 8.0) as usize;
        let ticks = match colours.is_rank() {
            true => rank_ticks(colours.lo, colours.hi, n),
            false => ticks(colours.lo, colours.hi, n),
        };
        let ticks: Vec<_> =
            ticks.into_iter().map(|(value, text)| (colours.part(value), text)).collect();
        let label_width = ticks.iter().map(|(_, t)| width(t, SMALL_EM)).fold(0.0, f64::max);
        // Where it takes several lines, they do not begin with the P.
        let title = printable(title).replace("log P", "log\u{a0}P");
        Self { title: wrap(&title, EM, height, 3), ticks, label_width }
    }
}

/// What a reader of the picture alone must be told; empty where there is nothing.
pub(super) fn note(field: &Field, columns: &[usize], colours: Option<&ColourScale>) -> String {
    let mut notes = Vec::new();
    let mut marks = columns.iter().filter_map(|column| field.columns.marks.get(*column));
    if marks.any(|mark| mark.is_same) {
        notes.push("Grey tokens are the same in source and base.".to_string());
    }
    let values = || field.values.of_columns(columns);
    if values().any(|value| value.is_none()) {
        notes.push("Hatched cells have no value.".into());
    }
    let beyond = |v: f32| colours.is_some_and(|c| f64::from(v) < c.lo || f64::from(v) > c.hi);
    if values().flatten().any(beyond) {
        notes.push("Values beyond the colour bar take the colour of its end.".into());
    }
    let n_all = field.columns.len();
    if columns.len() < n_all {
        let n = n_all - columns.len();
        notes.push(format!("{n} of {n_all} {} are hidden.", field.columns.kind.many()));
    }
    notes.join(" ")
}
