//! What a heatmap shows of a result: the metric itself, or a number derived from it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::document::{Baselines, Document, Grid};
use crate::specification::vocabulary::{UnknownWord, named};
use crate::statistics::{self, MIN_CONTRAST_FOR_RECOVERY};

named! {
    /// The number that a cell shows.
    Metric, "metric" {
        /// `log P(TRUE) - log P(FALSE)` of the patched run, in nats: what was measured.
        #[default]
        LogitDiff = "logit_diff",
        /// The share of the gap between the baselines that the patch restores.
        Recovery = "recovery",
        /// The probability of the true answer, 0 to 1.
        PTrue = "p_true",
        /// The probability of the false answer, 0 to 1.
        PFalse = "p_false",
        /// `logit_diff` minus that of the unpatched base run, in nats.
        Change = "change",
    }
}

/// A metric that a result does not hold. Says what is missing and what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MetricError {
    /// No per-cell probabilities.
    #[error(
        "the result has no probabilities per cell, because the readout was switched off: sweep \
         again with it, or show logit_diff"
    )]
    NoReadout,
    /// No unpatched runs.
    #[error(
        "the result has no baselines to compare with: sweep again with this version, or show \
         logit_diff"
    )]
    NoBaselines,
    /// Unpatched runs that came out as NaN or infinity.
    #[error(
        "there is nothing to compare with, because the unpatched runs came out as NaN or infinity: \
         show logit_diff"
    )]
    NotFinite,
    /// Baselines too close to divide by their difference.
    #[error(
        "the recovery is undefined, because source and base almost agree: show logit_diff or change"
    )]
    NoContrast,
}

impl Metric {
    /// The values of every cell, `[layer][position]`, finite or `None`.
    ///
    /// # Errors
    /// [`MetricError`] where the document lacks what the metric is made of.
    pub fn grid(self, document: &Document) -> Result<Grid<f32>, MetricError> {
        let baselines = || document.baselines.as_ref().ok_or(MetricError::NoBaselines);
        let readout = || document.readout.as_ref().ok_or(MetricError::NoReadout);
        let measured = &document.patching_results;
        match self {
            Metric::LogitDiff => Ok(map(measured, |v| v)),
            Metric::PTrue => Ok(map(&readout()?.p_true, |v| v)),
            Metric::PFalse => Ok(map(&readout()?.p_false, |v| v)),
            Metric::Change => {
                let base = baselines()?.base.logit_diff.ok_or(MetricError::NotFinite)?;
                Ok(map(measured, |v| v - base))
            }
            Metric::Recovery => {
                let Baselines { source, base } = baselines()?;
                let ends = base.logit_diff.zip(source.logit_diff);
                let (base, source) = ends.ok_or(MetricError::NotFinite)?;
                let contrast = (source - base).abs();
                if !contrast.is_finite() || contrast < MIN_CONTRAST_FOR_RECOVERY {
                    return Err(MetricError::NoContrast);
                }
                let recovery = |v| statistics::recovery(Some(v), Some(base), Some(source));
                Ok(map(measured, |v| recovery(v).unwrap_or(f32::NAN)))
            }
        }
    }

    /// The metric's value in the unpatched base run, where a diverging colour scale has its
    /// middle; 0 where the document does not tell.
    pub fn base_value(self, document: &Document) -> f32 {
        let base = document.baselines.as_ref().map(|b| &b.base);
        let value = match self {
            Metric::LogitDiff => base.and_then(|b| b.logit_diff),
            Metric::PTrue => base.and_then(|b| b.p_true),
            Metric::PFalse => base.and_then(|b| b.p_false),
            Metric::Recovery | Metric::Change => None,
        };
        value.filter(|v| v.is_finite()).unwrap_or(0.0)
    }

    /// The metric in a reader's words, with the answers that the document asked for, e.g.
    /// `log P(TRUE) − log P(FALSE)`. Without answers nobody knows what was measured.
    pub fn title(self, document: &Document) -> String {
        let words = document.answers.as_ref().map(|a| (&a.true_answer.word, &a.false_answer.word));
        match (self, words) {
            (Metric::LogitDiff, Some((yes, no))) => format!("log P({yes}) − log P({no})"),
            (Metric::Change, Some((yes, no))) => format!("Change of log P({yes}) − log P({no})"),
            (Metric::PTrue, Some((yes, _))) => format!("P({yes})"),
            (Metric::PFalse, Some((_, no))) => format!("P({no})"),
            (Metric::LogitDiff, None) => "metric (unknown)".to_string(),
            (Metric::Change, None) => "Change of metric (unknown)".to_string(),
            (Metric::PTrue, None) => "P(true answer)".to_string(),
            (Metric::PFalse, None) => "P(false answer)".to_string(),
            (Metric::Recovery, _) => "Recovery".to_string(),
        }
    }

    /// The unit, where there is one and the document tells what was measured.
    pub fn unit(self, document: &Document) -> Option<&'static str> {
        match self {
            Metric::LogitDiff | Metric::Change => document.answers.as_ref().map(|_| "nats"),
            Metric::Recovery | Metric::PTrue | Metric::PFalse => None,
        }
    }
}

fn map(grid: &Grid<f32>, f: impl Fn(f32) -> f32) -> Grid<f32> {
    grid.map(|value| Some(f(value)).filter(|value| value.is_finite()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{answers, baselines, document, readout};

    #[test]
    fn a_metric_is_derived_or_says_what_is_missing() {
        let plain = document(&[&[Some(1.0), None], &[Some(f32::INFINITY), Some(4.0)]]);
        let with_baselines =
            |source, base| Document { baselines: Some(baselines(source, base)), ..plain.clone() };
        let mut without_source = with_baselines(5.0, 3.0);
        without_source.baselines.as_mut().unwrap().source.logit_diff = None;
        let with_readout = Document { readout: Some(readout(&plain)), ..plain.clone() };
        let grid = |a, b, c, d| Ok(Grid::from(vec![vec![a, b], vec![c, d]]));
        let cases: Vec<(Metric, Document, Result<Grid<f32>, MetricError>)> = vec![
            (Metric::LogitDiff, plain.clone(), grid(Some(1.0), None, None, Some(4.0))),
            (Metric::Change, with_baselines(5.0, 3.0), grid(Some(-2.0), None, None, Some(1.0))),
            (Metric::Recovery, with_baselines(5.0, 3.0), grid(Some(-1.0), None, None, Some(0.5))),
            (Metric::Recovery, with_baselines(3.0, 3.0), Err(MetricError::NoContrast)),
            (Metric::Recovery, without_source.clone(), Err(MetricError::NotFinite)),
            (Metric::Change, without_source, grid(Some(-2.0), None, None, Some(1.0))),
            (Metric::Recovery, plain.clone(), Err(MetricError::NoBaselines)),
            (Metric::Change, plain.clone(), Err(MetricError::NoBaselines)),
            (Metric::PTrue, plain.clone(), Err(MetricError::NoReadout)),
            (Metric::PTrue, with_readout.clone(), grid(Some(0.0), Some(0.1), Some(0.2), Some(0.3))),
            (Metric::PFalse, with_readout, grid(Some(1.0), Some(0.9), Some(0.8), Some(0.7))),
        ];
        for (metric, document, expected) in cases {
            assert_eq!(metric.grid(&document), expected, "{metric}");
        }
    }

    #[test]
    fn titles_and_units_say_what_the_document_says_and_no_more() {
        let unknown = document(&[&[Some(1.0)]]);
        let answered = Document { answers: Some(answers("yes", "no")), ..unknown.clone() };
        let cases = [
            (Metric::LogitDiff, "log P(yes) − log P(no)", Some("nats"), "metric (unknown)"),
            (
                Metric::Change,
                "Change of log P(yes) − log P(no)",
                Some("nats"),
                "Change of metric (unknown)",
            ),
            (Metric::PTrue, "P(yes)", None, "P(true answer)"),
            (Metric::PFalse, "P(no)", None, "P(false answer)"),
            (Metric::Recovery, "Recovery", None, "Recovery"),
        ];
        for (metric, title, unit, title_of_unknown) in cases {
            assert_eq!((&*metric.title(&answered), metric.unit(&answered)), (title, unit));
            assert_eq!((&*metric.title(&unknown), metric.unit(&unknown)), (title_of_unknown, None));
        }
    }

    #[test]
    fn the_middle_is_the_base_runs_value() {
        let mut document = document(&[&[Some(1.0)]]);
        assert_eq!(Metric::LogitDiff.base_value(&document), 0.0);
        document.baselines = Some(baselines(5.0, 3.0));
        let cases = [
            (Metric::LogitDiff, 3.0),
            (Metric::PTrue, 0.25),
            (Metric::PFalse, 0.5),
            (Metric::Recovery, 0.0),
            (Metric::Change, 0.0),
        ];
        for (metric, expected) in cases {
            assert_eq!(metric.base_value(&document), expected, "{metric}");
        }
    }
}
