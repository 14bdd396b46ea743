//! Experiments made of settings: grids of single patches, windows of layers, heads, spans,
//! ablations, causal tracing, both directions, several sites. All are trials; what differs is what
//! their edits name.

use std::ops::Range;
use std::sync::Arc;

use super::{
    Axis, Continuation, Edit, Grid, Key, MeanOver, Metrics, Run, Specification, Trial, Write,
};
use crate::specification::alignment::Alignment;
use crate::specification::settings::Settings;
use crate::specification::vocabulary::{By, Direction, Directions, Site, Span, Written};

/// What settings are applied to: one pair's prompts, aligned, and the model's dimensions.
#[derive(Debug, Clone, PartialEq)]
pub struct Subject {
    /// The two runs and the positions to sweep. For causal tracing, the source prompt twice.
    pub alignment: Alignment,
    /// The named sets of positions that the settings ask for, in their order.
    pub spans: Vec<SpanPositions>,
    /// Where the noise of causal tracing falls; empty without.
    pub noised: Vec<usize>,
    /// The tokens that are compared.
    pub answers: AnswerIds,
    /// Over what the mean of an ablation is taken; only for [`Written::Mean`].
    pub mean: Option<Arc<MeanOver>>,
    /// How large the model is.
    pub dimensions: Dimensions,
}

/// A named set of positions in both prompts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpanPositions {
    /// Its name.
    pub span: Span,
    /// The base run's positions, for patches into it.
    pub base: Vec<usize>,
    /// The source run's, for patches into that.
    pub source: Vec<usize>,
}

/// The tokens of the answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnswerIds {
    /// Each answer is any of these tokens.
    Single {
        /// Those of the true answer.
        true_ids: Vec<u32>,
        /// Those of the false answer.
        false_ids: Vec<u32>,
    },
    /// Each answer is all of these tokens, one after the other.
    Continued {
        /// Those of the true answer.
        true_ids: Vec<u32>,
        /// Those of the false answer.
        false_ids: Vec<u32>,
    },
}

/// The dimensions of a model that its grids have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dimensions {
    /// Layers.
    pub n_layers: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key heads.
    pub n_kv_heads: usize,
}

impl Dimensions {
    /// How many heads `site` divides into; `None` for a site of the residual stream.
    pub fn n_heads_of(&self, site: Site) -> Option<usize> {
        match site {
            Site::Query | Site::Z => Some(self.n_heads),
            Site::Key | Site::Value => Some(self.n_kv_heads),
            _ => None,
        }
    }
}

/// The layers that a cell of layer `layer` patches: ROME's window (arXiv 2202.05262, its
/// `causal_trace.py`), cut off at the ends of the model.
pub fn window(layer: usize, width: usize, n_layers: usize) -> Range<usize> {
    layer.saturating_sub(width / 2)..layer.saturating_add(width.div_ceil(2)).min(n_layers)
}

/// One direction of an experiment.
struct Way<'a> {
    direction: Direction,
    /// Whether the base receives; else the source does.
    into_base: bool,
    /// The runs that are patched; a cell is made of a trial on each.
    receivers: &'a [usize],
    /// The run that supplies activations.
    supplier: usize,
    /// The receiver's swept positions.
    swept: Range<usize>,
    alignment: &'a Alignment,
}

impl Way<'_> {
    /// The supplier's position that corresponds to one of the receiver's.
    fn supplier_position(&self, position: usize) -> Option<usize> {
        match self.into_base {
            true => self.alignment.source_position(position),
            false => self.alignment.base_position(position),
        }
    }

    /// What writes the supplier's activations at those of `positions` to which one of it corresponds:
    /// positions of one distance together. None where there are none.
    fn copies(&self, positions: &[usize]) -> Vec<(Vec<usize>, Write)> {
        let mut copies: Vec<(Vec<usize>, isize)> = Vec::new();
        for &position in positions {
            let Some(at) = self.supplier_position(position) else { continue };
            let shift = at as isize - position as isize;
            match copies.last_mut() {
                Some((together, of)) if *of == shift => together.push(position),
                _ => copies.push((vec![position], shift)),
            }
        }
        let write = |shift| Write::From { run: self.supplier, shift };
        copies.into_iter().map(|(positions, shift)| (positions, write(shift))).collect()
    }
}

impl Specification {
    /// The experiment that `settings`, which fit together, ask for.
    pub fn new(settings: &Settings, subject: &Subject) -> Self {
        let (base, source) = (&subject.alignment.base, &subject.alignment.source);
        let (continuations, metrics) = reading(settings, &subject.answers);
        let with_continuations = |tokens: &[u32], edits: &[Edit]| -> Vec<Run> {
            let run = |continuation: &Option<Continuation>| Run {
                tokens: tokens.to_vec(),
                continuation: continuation.clone(),
                edits: edits.to_vec(),
            };
            continuations.iter().map(run).collect()
        };
        let corruptions = noise(settings, &subject.noised);
        let mut bases: Vec<_> =
            corruptions.iter().flat_map(|edits| with_continuations(base, edits)).collect();
        let mut sources = with_continuations(source, &[]);
        let n_bases = bases.len();
        let base_runs: Vec<_> = [Self::BASE].into_iter().chain(2..n_bases + 1).collect();
        let n_runs = n_bases + sources.len();
        let source_runs: Vec<_> = [Self::SOURCE].into_iter().chain(n_bases + 1..n_runs).collect();
        let rest = bases.split_off(1);
        let more_sources = sources.split_off(1);
        let runs = bases.into_iter().chain(sources).chain(rest).chain(more_sources).collect();

        let mut made = Self { runs, trials: Vec::new(), grids: Vec::new(), metrics };
        for &direction in settings.direction.each() {
            // Of both directions, denoising says which prompt is the base; a single one has what it
            // patches as its base.
            let into_base =
                settings.direction != Directions::Both || direction == Direction::Denoising;
            let way = if into_base {
                Way {
                    direction,
                    into_base,
                    receivers: &base_runs,
                    supplier: Self::SOURCE,
                    swept: subject.alignment.swept_in_base(),
                    alignment: &subject.alignment,
                }
            } else {
                Way {
                    direction,
                    into_base,
                    receivers: &source_runs,
                    supplier: Self::BASE,
                    swept: subject.alignment.swept_in_source(),
                    alignment: &subject.alignment,
                }
            };
            for &site in settings.sites.items() {
                made.add_grid(settings, subject, &way, site);
            }
        }
        made
    }

    /// Adds the trials of one site and direction.
    fn add_grid(&mut self, settings: &Settings, subject: &Subject, way: &Way, site: Site) {
        let grid = self.grids.len();
        let n_layers = subject.dimensions.n_layers;
        let (columns, column_axis) = columns(settings, subject, way, site);
        let n_heads = subject.dimensions.n_heads_of(site);
        let heads: Vec<_> = match n_heads {
            Some(n) => (0..n).map(Some).collect(),
            None => vec![None],
        };
        let axes = [Some(Axis::Layer(n_layers)), n_heads.map(Axis::Head), column_axis];
        let axes = axes.into_iter().flatten().collect();
        self.grids.push(Grid { site, direction: way.direction, axes });
        let cells = (0..n_layers).flat_map(|layer| heads.iter().map(move |&head| (layer, head)));
        let cells = cells.flat_map(|(layer, head)| columns.iter().map(move |c| (layer, head, c)));
        for (cell, (layer, head, positions)) in cells.enumerate() {
            let writes = match (settings.write, &subject.mean) {
                (Written::Zero, _) => vec![(positions.clone(), Write::Zero)],
                (Written::Mean, Some(mean)) => vec![(positions.clone(), Write::Mean(mean.clone()))],
                _ => way.copies(positions),
            };
            let edit = |(positions, write): (Vec<usize>, Write)| Edit {
                site,
                head,
                layers: window(layer, settings.window, n_layers),
                positions,
                write,
            };
            let edits: Vec<_> = writes.into_iter().map(edit).collect();
            // A cell to which nothing of the other prompt corresponds is not tried.
            if edits.is_empty() {
                continue;
            }
            let key = Key { grid, cell };
            let trial = |&base: &usize| Trial { base, edits: edits.clone(), key };
            self.trials.extend(way.receivers.iter().map(trial));
        }
    }
}

/// The sets of positions that cells patch, and the axis that they are along; a single head is
/// patched at all positions together unless they are asked for one by one.
fn columns(
    settings: &Settings,
    subject: &Subject,
    way: &Way,
    site: Site,
) -> (Vec<Vec<usize>>, Option<Axis>) {
    let is_each = settings.positions.only() == Some(Span::Each);
    if !is_each {
        let positions = subject.spans.iter().map(|span| match way.into_base {
            true => span.base.clone(),
            false => span.source.clone(),
        });
        let names = subject.spans.iter().map(|span| span.span.to_string()).collect();
        (positions.collect(), Some(Axis::Span(names)))
    } else if site.has_heads() && settings.by == By::Head {
        (vec![way.swept.clone().collect()], None)
    } else {
        let single = way.swept.clone().map(|position| vec![position]).collect();
        (single, Some(Axis::Position(way.swept.clone())))
    }
}

/// The answers that runs are made to read, and what is read of them.
fn reading(settings: &Settings, answers: &AnswerIds) -> (Vec<Option<Continuation>>, Metrics) {
    let (true_ids, false_ids, continuations) = match answers {
        AnswerIds::Single { true_ids, false_ids } => {
            (true_ids.clone(), false_ids.clone(), vec![None])
        }
        AnswerIds::Continued { true_ids, false_ids } => {
            let both = [(true, true_ids), (false, false_ids)];
            let continued = both.map(|(is_true, ids)| Continuation { is_true, ids: ids.clone() });
            (Vec::new(), Vec::new(), continued.into_iter().map(Some).collect())
        }
    };
    let (vocabulary, n_top, lens) = (settings.readout, settings.top, settings.lens);
    (continuations, Metrics { true_ids, false_ids, vocabulary, n_top, lens })
}

/// The edits of each corrupted run; of one run without any where there is no noise.
fn noise(settings: &Settings, positions: &[usize]) -> Vec<Vec<Edit>> {
    if settings.noise.is_none() {
        return vec![Vec::new()];
    }
    let edit = |seed| Edit {
        site: Site::ResidPre,
        head: None,
        layers: 0..1,
        positions: positions.to_vec(),
        write: Write::Noise { seed, scale: settings.noise_scale as f32 },
    };
    (0..settings.noise_seeds as u64).map(|seed| vec![edit(seed)]).collect()
}

#[cfg(test)]
mod tests;
