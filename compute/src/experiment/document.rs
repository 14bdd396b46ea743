//! From readings to a result document.

use std::collections::BTreeSet;
use std::time::SystemTime;

use serde_json::Map;
use shared::document::{
    AxisKeys, Baseline, Baselines, CellGrid, Document, DocumentSpan, Grid, LensGrid, Prompt,
    Provenance, Readout, SCHEMA, Token, TopToken, Verification,
};
use shared::specification::vocabulary::{Align, Span};
use shared::specification::{self, Axis, Key, Specification, Trial};

use super::Experiment;
use crate::model::{Description, ModelError};
use crate::sweep::{CellReading, Certificate, Reading, Readings, SweepError, cell_readings};

/// What a result cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Seconds, of several pairs together the pair's share.
    pub wall_secs: f64,
    /// Floating-point operations, a multiply-add counting two.
    pub operations: f64,
}

impl Experiment {
    /// Writes down what came of the experiment, and what was checked of it.
    ///
    /// # Errors
    /// The model's files cannot be read, or were changed since it was opened.
    pub fn document(
        &self,
        model: &Description,
        readings: &Readings,
        cost: Cost,
        verification: Option<Verification>,
    ) -> Result<Document, SweepError> {
        let config = &model.config;
        let tokens = |ids: &[u32]| ids.iter().map(|&id| model.tokenizer.token(id)).collect();
        let base_tokens: Vec<Token> = tokens(&self.alignment.base);
        let start = self.alignment.start;
        let cells = cell_readings(&self.specification, readings);
        let grids: Vec<_> = self
            .specification
            .grids
            .iter()
            .zip(&cells)
            .map(|(grid, cells)| self.cell_grid(grid, cells))
            .collect();
        // The flat fields hold the first grid that the notebook would know.
        let swept: Vec<_> = (start..base_tokens.len()).collect();
        let is_flat = |grid: &CellGrid| {
            grid.is_layer_by_position()
                && grid.axes.last() == Some(&AxisKeys::Position(swept.clone()))
        };
        let flat = grids.iter().position(is_flat);
        let (n_layers, n_columns) = (config.n_layers, swept.len());
        let lens = self.lens(readings);
        let said: BTreeSet<_> = grids
            .iter()
            .filter_map(|grid| grid.top.as_ref())
            .chain(lens.iter().map(|grid| &grid.top))
            .flatten()
            .flatten()
            .flatten()
            .map(|top| top.id)
            .collect();
        // What cannot be told from another model's numbers is no result.
        let unknown = |error: ModelError| SweepError::from(candle_core::Error::wrap(error));
        Ok(Document {
            schema: SCHEMA.to_string(),
            id: self.id(model).map_err(unknown)?,
            model: model.name.clone(),
            entity: self.entity.clone(),
            source_prompt: self.source_prompt.clone(),
            base_prompt: self.base_prompt.clone(),
            source_sentence: self.source_sentence.clone(),
            base_sentence: self.base_sentence.clone(),
            sentence_start: start,
            token_labels: base_tokens[start..].iter().map(|token| token.text.clone()).collect(),
            num_layers: n_layers,
            patching_results: match flat {
                Some(flat) => Grid::of_cells(&grids[flat].logit_diff, n_columns),
                None => Grid::blank(n_layers, n_columns),
            },
            template: self.template.clone(),
            site: grids.get(flat.unwrap_or(0)).map(|grid| grid.site),
            align: Some(self.settings.align),
            direction: Some(self.direction),
            source_tokens: tokens(&self.alignment.source),
            base_tokens,
            source_padding: self.alignment.source_padding,
            base_padding: self.alignment.base_padding,
            answers: Some(self.answers.clone()),
            baselines: self.baselines_of(model, &readings.runs),
            readout: flat.and_then(|flat| readout(model, &cells[flat], n_columns)),
            token_texts: said.into_iter().map(|id| (id, model.tokenizer.token(id).text)).collect(),
            spans: self.spans.iter().map(span).collect(),
            roles: Some(self.roles.clone()),
            row: self.row.clone(),
            source_positions: match self.settings.align {
                Align::Pad | Align::Right => Vec::new(),
                Align::Diff | Align::Role | Align::Hand => self.alignment.source_positions.clone(),
            },
            grids,
            lens,
            settings: Some(self.settings.clone()),
            verification,
            provenance: Some(Provenance {
                engine: model.engine.clone(),
                model_fingerprint: model.fingerprint.get().map_err(unknown)?.to_string(),
                architecture: config.architecture.to_string(),
                model_revision: model.revision.clone(),
                weights_dtype: model.weights_dtype.clone(),
                dtype: model.dtype.clone(),
                device: model.device.clone(),
                wall_secs: cost.wall_secs,
                operations: cost.operations,
                finished_at: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            }),
            extra: Map::new(),
        })
    }

    /// The unpatched runs by their readings, in the order of the specification's runs; `None` if
    /// the whole vocabulary was not read.
    pub(super) fn baselines_of(&self, model: &Description, runs: &[Reading]) -> Option<Baselines> {
        let [base, source] = base_and_source(&self.specification, runs)?;
        Some(Baselines { source: baseline(model, &source)?, base: baseline(model, &base)? })
    }

    fn cell_grid(&self, grid: &specification::Grid, cells: &[Option<CellReading>]) -> CellGrid {
        let vocabulary = |cell: &Option<CellReading>| cell.as_ref()?.vocabulary.clone();
        let vocabularies: Vec<_> = cells.iter().map(vocabulary).collect();
        let is_read = vocabularies.iter().any(Option::is_some);
        let list = |value: &dyn Fn(&crate::sweep::VocabularyReading) -> Option<f32>| {
            let values = vocabularies.iter().map(|v| value(v.as_ref()?).and_then(finite));
            is_read.then(|| values.collect())
        };
        let tops = vocabularies.iter().map(|v| v.as_ref().and_then(|v| top(&v.top)));
        CellGrid {
            site: grid.site,
            direction: grid.direction,
            window: self.settings.window,
            write: self.settings.write,
            axes: grid.axes.iter().map(|axis| self.keys(axis)).collect(),
            logit_diff: cells.iter().map(|cell| finite(cell.as_ref()?.logit_diff)).collect(),
            p_true: list(&|v| Some(v.p_true)),
            p_false: list(&|v| Some(v.p_false)),
            kl_base: list(&|v| v.kl_base),
            kl_source: list(&|v| v.kl_source),
            rank_true: list(&|v| v.rank_true),
            rank_false: list(&|v| v.rank_false),
            top: is_read.then(|| tops.collect()),
        }
    }

    fn keys(&self, axis: &Axis) -> AxisKeys {
        match axis {
            Axis::Layer(n) => AxisKeys::Layer((0..*n).collect()),
            Axis::Head(n) => AxisKeys::Head((0..*n).collect()),
            Axis::Position(positions) => AxisKeys::Position(positions.clone().collect()),
            Axis::Span(_) => AxisKeys::Span(self.spans.iter().map(|span| span.span).collect()),
        }
    }

    /// What the logit lens shows, of the base and then of the source.
    fn lens(&self, readings: &Readings) -> Vec<LensGrid> {
        let lens = |(run, layers): (Prompt, &Vec<Vec<Reading>>)| {
            let n_positions = layers.first().map_or(0, Vec::len);
            let cells: Vec<_> = layers.iter().flatten().collect();
            let vocabulary = |value: &dyn Fn(&crate::sweep::VocabularyReading) -> Option<f32>| {
                cells.iter().map(|r| value(r.vocabulary.as_ref()?).and_then(finite)).collect()
            };
            LensGrid {
                run,
                axes: vec![
                    AxisKeys::Layer((0..layers.len()).collect()),
                    AxisKeys::Position((0..n_positions).collect()),
                ],
                logit_diff: cells.iter().map(|reading| finite(reading.logit_diff)).collect(),
                p_true: vocabulary(&|v| Some(v.p_true)),
                p_false: vocabulary(&|v| Some(v.p_false)),
                top: cells
                    .iter()
                    .map(|r| r.vocabulary.as_ref().and_then(|v| top(&v.top)))
                    .collect(),
            }
        };
        [Prompt::Base, Prompt::Source].into_iter().zip(&readings.lens).map(lens).collect()
    }
}

/// What the base and the source say: each the mean over its runs, of which there are several where
/// noise has seeds or answers have several tokens.
pub fn base_and_source(specification: &Specification, runs: &[Reading]) -> Option<[Reading; 2]> {
    // As if each run were a trial that changes nothing.
    let is_source = |run| specification.counterpart(run) == Some(Specification::BASE);
    let trials = (0..specification.runs.len()).map(|base| Trial {
        base,
        edits: Vec::new(),
        key: Key { grid: 0, cell: usize::from(is_source(base)) },
    });
    let both = Specification {
        trials: trials.collect(),
        grids: vec![specification::Grid {
            axes: vec![Axis::Layer(2)],
            ..specification.grids.first()?.clone()
        }],
        ..specification.clone()
    };
    let readings = Readings { trials: runs.to_vec(), ..Readings::default() };
    let mut cells = cell_readings(&both, &readings).into_iter().flatten();
    Some([cells.next()??, cells.next()??])
}

fn finite(value: f32) -> Option<f32> {
    value.is_finite().then_some(value)
}

/// The most probable tokens; `None` where the probabilities are no numbers.
fn top(tokens: &[(u32, f32)]) -> Option<Vec<TopToken>> {
    finite(tokens.first()?.1)?;
    Some(tokens.iter().map(|&(id, p)| TopToken { id, p: finite(p) }).collect())
}

fn span(span: &specification::SpanPositions) -> DocumentSpan {
    let specification::SpanPositions { span, base, source } = span.clone();
    debug_assert_ne!(span, Span::Each);
    DocumentSpan { span, base, source }
}

/// A reading of an unpatched run as the document has it.
fn baseline(model: &Description, reading: &Reading) -> Option<Baseline> {
    let vocabulary = reading.vocabulary.as_ref()?;
    let first = top(&vocabulary.top).and_then(|top| top.first().copied());
    Some(Baseline {
        logit_diff: finite(reading.logit_diff),
        p_true: finite(vocabulary.p_true),
        p_false: finite(vocabulary.p_false),
        top_token: first.map(|top| model.tokenizer.token(top.id)),
        p_top: first.and_then(|top| top.p),
    })
}

/// The readout of the notebook's grid.
fn readout(
    model: &Description,
    cells: &[Option<CellReading>],
    n_columns: usize,
) -> Option<Readout> {
    let vocabulary = |cell: &Option<CellReading>| cell.as_ref()?.vocabulary.clone();
    let vocabularies = cells.iter().map(vocabulary).collect::<Option<Vec<_>>>()?;
    let tops: Vec<_> =
        vocabularies.iter().map(|v| top(&v.top).and_then(|top| Some(top.first()?.id))).collect();
    let list = |value: &dyn Fn(&crate::sweep::VocabularyReading) -> f32| {
        let values: Vec<_> = vocabularies.iter().map(|v| finite(value(v))).collect();
        Grid::of_cells(&values, n_columns)
    };
    let label = |id: u32| (id, model.tokenizer.token(id).text);
    Some(Readout {
        p_true: list(&|v| v.p_true),
        p_false: list(&|v| v.p_false),
        top_token_labels: tops.iter().flatten().map(|&id| label(id)).collect(),
        top_token: Grid::of_cells(&tops, n_columns),
    })
}

/// What a certificate comes to in a document.
pub(super) fn verification(certificate: &Certificate) -> Verification {
    Verification {
        n_cells: certificate.n_trials,
        max_abs_diff: finite(certificate.max_abs_diff),
        self_patch: finite(certificate.self_patch),
        n_unreachable: Some(certificate.n_unreachable),
        unreachable_equal: Some(certificate.unreachable_equal),
        alone: finite(certificate.alone),
        controls: None,
        recheck: None,
    }
}
