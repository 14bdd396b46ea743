//! What a heatmap shows of a result: the metric itself, or a number derived from it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::document::{Baselines, Document, Grid};
use crate::stats::{self, MIN_CONTRAST_FOR_RECOVERY};
use crate::vocabulary::{UnknownWord, named};

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
                let base = baselines()?.base.logit_diff;
                Ok(map(measured, |v| v - base))
            }
            Metric::Recovery => {
                let Baselines { source, base } = baselines()?;
                let recovery = |v| stats::recovery(Some(v), base.logit_diff, source.logit_diff);
                let contrast = (source.logit_diff - base.logit_diff).abs();
                if !contrast.is_finite() || contrast < MIN_CONTRAST_FOR_RECOVERY {
                    return Err(MetricError::NoContrast);
                }
                Ok(map(measured, |v| recovery(v).unwrap_or(f32::NAN)))
            }
        }
    }

    /// The metric's value in the unpatched base run, where a diverging colour scale has its
    /// middle; 0 where the document does not tell.
    pub fn base_value(self, document: &Document) -> f32 {
        let base = document.baselines.as_ref().map(|b| &b.base);
        let value = match self {
            Metric::LogitDiff => base.map(|b| b.logit_diff),
            Metric::PTrue => base.map(|b| b.p_true),
            Metric::PFalse => base.map(|b| b.p_false),
            Metric::Recovery | Metric::Change => None,
        };
        value.filter(|v| v.is_finite()).unwrap_or(0.0)
    }

    /// The metric in a reader's words, with the answers that the document asked for, e.g.
    /// `log P(TRUE) − log P(FALSE)`.
    pub fn title(self, document: &Document) -> String {
        let (yes, no) = match &document.answers {
            Some(answers) => (&*answers.true_answer.word, &*answers.false_answer.word),
            None => ("TRUE", "FALSE"),
        };
        match self {
            Metric::LogitDiff => format!("log P({yes}) − log P({no})"),
            Metric::Recovery => "Recovery".to_string(),
            Metric::PTrue => format!("P({yes})"),
            Metric::PFalse => format!("P({no})"),
            Metric::Change => format!("Change of log P({yes}) − log P({no})"),
        }
    }

    /// The unit, where there is one.
    pub fn unit(self) -> Option<&'static str> {
        match self {
            Metric::LogitDiff | Metric::Change => Some("nats"),
            Metric::Recovery | Metric::PTrue | Metric::PFalse => None,
        }
    }
}

fn map(grid: &Grid<f32>, f: impl Fn(f32) -> f32) -> Grid<f32> {
    let row =
        |row: &Vec<Option<f32>>| row.iter().map(|v| v.map(&f).filter(|v| v.is_finite())).collect();
    grid.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{baselines, document, readout};

    #[test]
    fn a_metric_is_derived_or_says_what_is_missing() {
        let plain = document(&[&[Some(1.0), None], &[Some(f32::INFINITY), Some(4.0)]]);
        let with_baselines =
            |source, base| Document { baselines: Some(baselines(source, base)), ..plain.clone() };
        let with_readout = Document { readout: Some(readout(&plain)), ..plain.clone() };
        let grid = |a, b, c, d| Ok(vec![vec![a, b], vec![c, d]]);
        let cases: Vec<(Metric, Document, Result<Grid<f32>, MetricError>)> = vec![
            (Metric::LogitDiff, plain.clone(), grid(Some(1.0), None, None, Some(4.0))),
            (Metric::Change, with_baselines(5.0, 3.0), grid(Some(-2.0), None, None, Some(1.0))),
            (Metric::Recovery, with_baselines(5.0, 3.0), grid(Some(-1.0), None, None, Some(0.5))),
            (Metric::Recovery, with_baselines(3.0, 3.0), Err(MetricError::NoContrast)),
            (Metric::Recovery, with_baselines(f32::NAN, 3.0), Err(MetricError::NoContrast)),
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
    fn titles_use_the_answers_words() {
        let mut document = document(&[&[Some(1.0)]]);
        assert_eq!(Metric::LogitDiff.title(&document), "log P(TRUE) − log P(FALSE)");
        let answer = |word: &str| crate::document::Answer {
            word: word.into(),
            kept: vec![],
            dropped: vec![],
        };
        document.answers = Some(crate::document::Answers {
            true_answer: answer("yes"),
            false_answer: answer("no"),
        });
        assert_eq!(Metric::Change.title(&document), "Change of log P(yes) − log P(no)");
        assert_eq!(Metric::PFalse.title(&document), "P(no)");
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
