//! An experiment as data: which token sequences are run, and with which interventions.
//!
//! [`Run`]s are unpatched, or corrupted by edits of their own. A [`Trial`] is a base run with
//! edits; each fills a cell of one of the experiment's [`Grid`]s. The engine knows trials alone:
//! the notebook's experiment, windows of layers, head patching, ablations and causal tracing
//! differ in nothing but their edits.

pub mod alignment;
mod construct;
pub mod correspondence;
mod digest;
pub mod marks;
pub mod pairs;
pub mod positions;
pub mod roles;
pub mod settings;
pub mod template;
pub mod vocabulary;

use std::ops::Range;
use std::sync::Arc;

pub use construct::{AnswerIds, Dimensions, SpanPositions, Subject, window};

use crate::specification::vocabulary::{Direction, Site};

/// One pair's experiment.
#[derive(Debug, Clone, PartialEq)]
pub struct Specification {
    /// The runs that trials start from and copy from. Those of [`Self::BASE`] and
    /// [`Self::SOURCE`] come first.
    pub runs: Vec<Run>,
    /// What is tried, in any order.
    pub trials: Vec<Trial>,
    /// What the trials' cells make up.
    pub grids: Vec<Grid>,
    /// What is read of every run and trial.
    pub metrics: Metrics,
}

impl Specification {
    /// The index of the run that receives activations.
    pub const BASE: usize = 0;
    /// The index of the run that supplies them.
    pub const SOURCE: usize = 1;

    /// The run on the other side of a patch into run `base`: the source of the base and of what is
    /// like it but for noise and answer, the base of the source; `None` where there is one run.
    pub fn counterpart(&self, base: usize) -> Option<usize> {
        let source = self.runs.get(Self::SOURCE)?;
        let is_source = self.runs.get(base).is_some_and(|run| {
            run.tokens == source.tokens && run.edits.is_empty() == source.edits.is_empty()
        });
        Some(if is_source { Self::BASE } else { Self::SOURCE })
    }
}

/// A token sequence through the model.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Run {
    /// The prompt, padding included; not empty.
    pub tokens: Vec<u32>,
    /// An answer of several tokens that the model is made to read after the prompt (teacher
    /// forcing): what is read of this run is the log-probability of all of it, instead of the
    /// next token's.
    pub continuation: Option<Continuation>,
    /// What is changed on the way: noise, for a corrupted run.
    pub edits: Vec<Edit>,
}

/// An answer that follows a prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Continuation {
    /// Whether it is the answer that counts for, and not the one that counts against.
    pub is_true: bool,
    /// Its tokens; not empty.
    pub ids: Vec<u32>,
}

/// A base run with interventions.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// An index into [`Specification::runs`].
    pub base: usize,
    /// What is changed. Edits of one activation apply in this order.
    pub edits: Vec<Edit>,
    /// The cell whose value it is. Where several trials have one key (seeds of noise), the cell
    /// is their mean; where their bases have continuations, it is the mean log-probability of the
    /// true answer less that of the false one.
    pub key: Key,
}

/// A cell of one of the experiment's grids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// An index into [`Specification::grids`].
    pub grid: usize,
    /// The cell in row-major order of the grid's axes.
    pub cell: usize,
}

/// One intervention.
#[derive(Debug, Clone, PartialEq)]
pub struct Edit {
    /// The activation that is changed.
    pub site: Site,
    /// Which head of `q`, `z` (of `n_heads`) or of `k`, `v` (of `n_kv_heads`); `None` for the whole
    /// width.
    pub head: Option<usize>,
    /// In which layers.
    pub layers: Range<usize>,
    /// At which positions of the run, in any order; naming one twice changes nothing.
    pub positions: Vec<usize>,
    /// What is written there.
    pub write: Write,
}

/// What an edit writes.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// The same activation of another run.
    From {
        /// An index into [`Specification::runs`].
        run: usize,
        /// What is added to the position to find the one in that run.
        shift: isize,
    },
    /// Zeros.
    Zero,
    /// The mean of the same activation over rows of other runs.
    Mean(Arc<MeanOver>),
    /// What is there plus Gaussian noise.
    Noise {
        /// Seeds the noise, with the position.
        seed: u64,
        /// The standard deviation, in units of the standard deviation of the model's token
        /// embeddings as they enter the first block (ROME takes 3; arXiv 2202.05262).
        scale: f32,
    },
}

/// Rows over which an activation is averaged.
#[derive(Debug, Clone, PartialEq)]
pub struct MeanOver {
    /// Token sequences and the positions of each that count.
    pub runs: Vec<(Vec<u32>, Range<usize>)>,
}

/// What is read at the last position of every run and trial.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metrics {
    /// The tokens that count as the true answer; not empty, unless every run has a continuation.
    pub true_ids: Vec<u32>,
    /// The tokens that count as the false answer, likewise.
    pub false_ids: Vec<u32>,
    /// Whether the whole vocabulary is read: probabilities, top tokens, ranks, divergences.
    pub vocabulary: bool,
    /// How many of the most probable tokens are kept of a reading of the whole vocabulary; at
    /// least the first is.
    pub n_top: usize,
    /// Whether the residual stream of base and source is read after every layer and at every
    /// position (logit lens).
    pub lens: bool,
}

/// The values of trials over axes, in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub struct Grid {
    /// The activation that is changed.
    pub site: Site,
    /// Which of the pair's prompts supplies activations.
    pub direction: Direction,
    /// The axes, the slowest first; the first is [`Axis::Layer`].
    pub axes: Vec<Axis>,
}

impl Grid {
    /// How many cells it has.
    pub fn n_cells(&self) -> usize {
        self.axes.iter().map(Axis::len).product()
    }
}

/// What varies along a grid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Axis {
    /// Layers from 0; of a window, its middle.
    Layer(usize),
    /// Heads from 0.
    Head(usize),
    /// Positions of the base run.
    Position(Range<usize>),
    /// Named sets of positions.
    Span(Vec<String>),
}

impl Axis {
    /// How many cells lie along it.
    pub fn len(&self) -> usize {
        match self {
            Self::Layer(n) | Self::Head(n) => *n,
            Self::Position(positions) => positions.len(),
            Self::Span(names) => names.len(),
        }
    }

    /// Whether nothing lies along it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
