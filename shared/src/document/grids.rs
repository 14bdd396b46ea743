//! What an experiment measured, a grid each site and direction.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Baseline, Document, Token};
use crate::specification::vocabulary::{Direction, Site, Span, Written};
use crate::statistics;

/// The cells of one site and one direction. Every list of values has one for each cell, in row-major
/// order of the axes: the last axis varies fastest. A list is `null` where that was not read, and a
/// value where it is no finite number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CellGrid {
    /// The activation that is patched.
    pub site: Site,
    /// Which of the pair's prompts supplies activations. Where it is not [`Document::direction`],
    /// the document's source receives and its base supplies.
    pub direction: Direction,
    /// How many layers a cell patches at a time, its own in the middle.
    pub window: usize,
    /// What is written.
    pub write: Written,
    /// What varies, the slowest first. The first axis is that of layers.
    pub axes: Vec<AxisKeys>,
    /// `log P(TRUE) - log P(FALSE)` in nats at the last position.
    pub logit_diff: Vec<Option<f32>>,
    /// The probability of the true answer, 0 to 1.
    #[serde(default)]
    pub p_true: Option<Vec<Option<f32>>>,
    /// The probability of the false answer, 0 to 1.
    #[serde(default)]
    pub p_false: Option<Vec<Option<f32>>>,
    /// How far the patched run is from the unpatched run that receives: the Kullback-Leibler
    /// divergence of the patched distribution from that one over the whole vocabulary, in nats.
    #[serde(default)]
    pub kl_base: Option<Vec<Option<f32>>>,
    /// The same from the run that supplies.
    #[serde(default)]
    pub kl_source: Option<Vec<Option<f32>>>,
    /// The place of the true answer's most probable token among all tokens: 1 where it is what the
    /// model says. Where a cell is a mean over several runs, the mean of theirs.
    #[serde(default)]
    pub rank_true: Option<Vec<Option<f32>>>,
    /// The same of the false answer.
    #[serde(default)]
    pub rank_false: Option<Vec<Option<f32>>>,
    /// The most probable tokens, the first first.
    #[serde(default)]
    pub top: Option<Vec<Option<Vec<TopToken>>>>,
}

/// The logit lens: what the unembedding says of an unpatched run's residual stream after every layer
/// and at every position. Lists are as in [`CellGrid`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LensGrid {
    /// Whose unpatched run.
    pub run: Prompt,
    /// Layers, then positions of that run, padding included.
    pub axes: Vec<AxisKeys>,
    /// `log P(TRUE) - log P(FALSE)` in nats.
    pub logit_diff: Vec<Option<f32>>,
    /// The probability of the true answer, 0 to 1.
    pub p_true: Vec<Option<f32>>,
    /// The probability of the false answer, 0 to 1.
    pub p_false: Vec<Option<f32>>,
    /// The most probable tokens, the first first.
    pub top: Vec<Option<Vec<TopToken>>>,
}

/// Which of a pair's two prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Prompt {
    /// The base's, which receives.
    Base,
    /// The source's, which supplies.
    Source,
}

impl Prompt {
    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::Base => Self::Source,
            Self::Source => Self::Base,
        }
    }

    /// In a sentence.
    pub fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Source => "source",
        }
    }

    /// Its tokens; none where they are unknown.
    pub fn tokens(self, document: &Document) -> &[Token] {
        match self {
            Self::Base => &document.base_tokens,
            Self::Source => &document.source_tokens,
        }
    }
}

/// A token and its probability.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TopToken {
    /// The index into the vocabulary; its text is in [`Document::token_texts`].
    pub id: u32,
    /// Its probability, 0 to 1.
    pub p: Option<f32>,
}

/// The keys along an axis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "axis", content = "keys", rename_all = "snake_case")]
pub enum AxisKeys {
    /// Layers from 0; of a window, its middle.
    Layer(Vec<usize>),
    /// Heads from 0: query heads of `q` and `z`, key heads of `k` and `v`.
    Head(Vec<usize>),
    /// Positions of the run that receives.
    Position(Vec<usize>),
    /// Named sets of positions, which are in [`Document::spans`].
    Span(Vec<Span>),
}

impl AxisKeys {
    /// How many keys it has.
    pub fn len(&self) -> usize {
        match self {
            Self::Layer(keys) | Self::Head(keys) | Self::Position(keys) => keys.len(),
            Self::Span(keys) => keys.len(),
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A named set of positions of both runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DocumentSpan {
    /// Its name.
    pub span: Span,
    /// Positions of the base run.
    pub base: Vec<usize>,
    /// Positions of the source run.
    pub source: Vec<usize>,
}

/// The place of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// The layer.
    pub layer: usize,
    /// The head, where there is one.
    pub head: Option<usize>,
    /// The position, where there is one.
    pub position: Option<usize>,
    /// The named set of positions, where there is one.
    pub span: Option<Span>,
}

impl CellGrid {
    /// A grid of single layers into which the source is written, and of which there is nothing but the
    /// difference of the answers, cell by cell.
    pub fn of_logit_diffs(
        site: Site,
        direction: Direction,
        axes: Vec<AxisKeys>,
        logit_diff: Vec<Option<f32>>,
    ) -> Self {
        Self {
            site,
            direction,
            window: 1,
            write: Written::Source,
            axes,
            logit_diff,
            p_true: None,
            p_false: None,
            kl_base: None,
            kl_source: None,
            rank_true: None,
            rank_false: None,
            top: None,
        }
    }

    /// The grid without what was read of the whole vocabulary.
    pub(super) fn without_readout(&self) -> Self {
        let Self { site, direction, window, write, .. } = *self;
        let (axes, values) = (self.axes.clone(), self.logit_diff.clone());
        Self { window, write, ..Self::of_logit_diffs(site, direction, axes, values) }
    }

    /// The places of the cells, in the order of the values.
    pub fn places(&self) -> Vec<Place> {
        places(&self.axes)
    }

    /// How many cells lack a number that the others have.
    pub(super) fn n_missing(&self) -> usize {
        let lists = self.p_true.iter().chain(&self.p_false).chain([&self.logit_diff]);
        let n_missing = |list: &Vec<Option<f32>>| list.iter().filter(|v| v.is_none()).count();
        lists.map(n_missing).max().unwrap_or(0)
    }

    /// Whether a cell is a layer and a position, as in the notebook's grid.
    pub fn is_layer_by_position(&self) -> bool {
        matches!(self.axes[..], [AxisKeys::Layer(_), AxisKeys::Position(_)])
    }

    /// The unpatched runs of this direction: the one that receives, then the one that supplies.
    pub fn ends<'a>(&self, document: &'a Document) -> Option<[&'a Baseline; 2]> {
        let baselines = document.baselines.as_ref()?;
        let receiver = self.receiver(document);
        Some([receiver, receiver.other()].map(|prompt| baselines.of(prompt)))
    }

    /// Which of the document's prompts receives: its base, or, in the other direction, its source.
    pub fn receiver(&self, document: &Document) -> Prompt {
        match document.direction.is_none_or(|direction| direction == self.direction) {
            true => Prompt::Base,
            false => Prompt::Source,
        }
    }

    /// The share of the gap between the unpatched runs that each cell restores.
    pub fn recovery(&self, document: &Document) -> Vec<Option<f32>> {
        let ends = self.ends(document).map(|ends| ends.map(|end| end.logit_diff));
        let [base, source] = ends.unwrap_or_default();
        self.logit_diff.iter().map(|&value| statistics::recovery(value, base, source)).collect()
    }

    /// Whether every list is as long as the axes say.
    pub(super) fn check(&self, n_layers: usize) -> Result<(), String> {
        let n = n_cells(&self.axes, n_layers)?;
        let lists = [
            ("logit_diff", Some(self.logit_diff.len())),
            ("p_true", self.p_true.as_ref().map(Vec::len)),
            ("p_false", self.p_false.as_ref().map(Vec::len)),
            ("kl_base", self.kl_base.as_ref().map(Vec::len)),
            ("kl_source", self.kl_source.as_ref().map(Vec::len)),
            ("rank_true", self.rank_true.as_ref().map(Vec::len)),
            ("rank_false", self.rank_false.as_ref().map(Vec::len)),
            ("top", self.top.as_ref().map(Vec::len)),
        ];
        check_lists(&lists, n)
    }

    /// A number too large for `f32` is read as infinity; it is no value.
    pub(super) fn drop_non_finite(&mut self) {
        let lists = [
            &mut self.p_true,
            &mut self.p_false,
            &mut self.kl_base,
            &mut self.kl_source,
            &mut self.rank_true,
            &mut self.rank_false,
        ];
        let values = lists.into_iter().flatten().chain([&mut self.logit_diff]).flatten();
        for value in values {
            *value = value.filter(|v| v.is_finite());
        }
        for top in self.top.iter_mut().flatten().flatten().flatten() {
            top.p = top.p.filter(|v| v.is_finite());
        }
    }
}

impl LensGrid {
    /// The places of the cells, in the order of the values.
    pub fn places(&self) -> Vec<Place> {
        places(&self.axes)
    }

    /// Whether every list is as long as the axes say.
    pub(super) fn check(&self, n_layers: usize) -> Result<(), String> {
        let lists = [
            ("logit_diff", Some(self.logit_diff.len())),
            ("p_true", Some(self.p_true.len())),
            ("p_false", Some(self.p_false.len())),
            ("top", Some(self.top.len())),
        ];
        check_lists(&lists, n_cells(&self.axes, n_layers)?)
    }

    /// As for [`CellGrid::drop_non_finite`].
    pub(super) fn drop_non_finite(&mut self) {
        let lists = [&mut self.logit_diff, &mut self.p_true, &mut self.p_false];
        let tops = self.top.iter_mut().flatten().flatten().map(|top| &mut top.p);
        for value in lists.into_iter().flatten().chain(tops) {
            *value = value.filter(|v| v.is_finite());
        }
    }
}

/// The places of the cells of these axes, in the order of the values.
fn places(axes: &[AxisKeys]) -> Vec<Place> {
    let mut places = vec![Place::default()];
    for axis in axes {
        let along = |place: Place, key: usize| match axis {
            AxisKeys::Layer(keys) => Place { layer: keys[key], ..place },
            AxisKeys::Head(keys) => Place { head: Some(keys[key]), ..place },
            AxisKeys::Position(keys) => Place { position: Some(keys[key]), ..place },
            AxisKeys::Span(keys) => Place { span: Some(keys[key]), ..place },
        };
        let n = axis.len();
        places = places.iter().flat_map(|&p| (0..n).map(move |key| along(p, key))).collect();
    }
    places
}

/// How many cells these axes have.
fn n_cells(axes: &[AxisKeys], n_layers: usize) -> Result<usize, String> {
    match axes {
        [AxisKeys::Layer(keys), ..] if keys.iter().all(|&layer| layer < n_layers) => {}
        _ => return Err(format!("the first axis is not of layers below {n_layers}")),
    }
    let n = axes.iter().try_fold(1usize, |n, axis| n.checked_mul(axis.len()));
    n.filter(|&n| n > 0).ok_or_else(|| "an axis is empty or too long".to_string())
}

fn check_lists(lists: &[(&str, Option<usize>)], n: usize) -> Result<(), String> {
    match lists.iter().find(|(_, len)| len.is_some_and(|len| len != n)) {
        Some((name, len)) => {
            let found = len.unwrap_or_default();
            Err(format!("`{name}` has {found} values for {n} cells"))
        }
        None => Ok(()),
    }
}

impl Document {
    /// Whether the whole vocabulary was read at every cell that was measured. A run without it knows
    /// some probabilities all the same: of cells that are as the unpatched run.
    pub fn has_readout(&self) -> bool {
        let is_read = |grid: &CellGrid| {
            grid.p_true.as_ref().is_some_and(|cells| {
                let mut both = cells.iter().zip(&grid.logit_diff);
                both.all(|(p, measured)| p.is_some() || measured.is_none())
            })
        };
        self.readout.is_some() || (!self.grids.is_empty() && self.grids.iter().all(is_read))
    }

    /// The text of a token that some cell says.
    pub fn token_text(&self, id: u32) -> Option<&str> {
        let flat = || self.readout.as_ref().and_then(|readout| readout.top_token_labels.get(&id));
        self.token_texts.get(&id).or_else(flat).map(String::as_str)
    }
}

/// The texts of tokens by id.
pub type TokenTexts = BTreeMap<u32, String>;
