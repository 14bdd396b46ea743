//! What a heatmap shows of a result: what was measured, or a number derived from it.

use super::chosen::{Chosen, Lists};
use super::{Quantity, Reference};
use crate::document::{Answers, Baseline, Document, Prompt};
use crate::field::key::Cell;
use crate::grid::Grid;
use crate::specification::vocabulary::named;
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
        /// `logit_diff` minus that of the unpatched run, in nats.
        Change = "change",
        /// The divergence from the unpatched run that is patched, in nats.
        KlBase = "kl_base",
        /// The divergence from the unpatched run that supplies, in nats.
        KlSource = "kl_source",
        /// The place of the true answer's most probable token among all tokens: 1 is the first.
        RankTrue = "rank_true",
        /// The same of the false answer.
        RankFalse = "rank_false",
        /// The probability of the most probable token, 0 to 1.
        PTop = "p_top",
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
    /// A file of a version that did not measure this.
    #[error("the result does not hold {0}: sweep again with this version, or show logit_diff")]
    NotHeld(Metric),
    /// Nothing is patched.
    #[error("the logit lens has no {0}, since it shows an unpatched run: show logit_diff")]
    Unpatched(Metric),
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
    /// The metric in a reader's words, with the answers that were asked for, e.g.
    /// `log P(TRUE) − log P(FALSE)`, of runs of which `patched` is the one that is patched. Without
    /// answers nobody knows what was measured.
    pub fn title(self, answers: Option<&Answers>, patched: Prompt) -> String {
        let words = answers.map(|a| (&a.true_answer.word, &a.false_answer.word));
        match (self, words) {
            (Metric::LogitDiff, Some((yes, no))) => format!("log P({yes}) − log P({no})"),
            (Metric::Change, Some((yes, no))) => format!("Change of log P({yes}) − log P({no})"),
            (Metric::PTrue, Some((yes, _))) => format!("P({yes})"),
            (Metric::PFalse, Some((_, no))) => format!("P({no})"),
            (Metric::RankTrue, Some((yes, _))) => format!("Rank of {yes}"),
            (Metric::RankFalse, Some((_, no))) => format!("Rank of {no}"),
            (Metric::LogitDiff, None) => "metric (unknown)".to_string(),
            (Metric::Change, None) => "Change of metric (unknown)".to_string(),
            (Metric::PTrue, None) => "P(true answer)".to_string(),
            (Metric::PFalse, None) => "P(false answer)".to_string(),
            (Metric::RankTrue, None) => "Rank of the true answer".to_string(),
            (Metric::RankFalse, None) => "Rank of the false answer".to_string(),
            (Metric::Recovery, _) => "Recovery".to_string(),
            (Metric::KlBase, _) => format!("KL from the {}", patched.name()),
            (Metric::KlSource, _) => format!("KL from the {}", patched.other().name()),
            (Metric::PTop, _) => "P(top token)".to_string(),
        }
    }

    /// The unit, where there is one and it is known what was measured.
    pub fn unit(self, answers: Option<&Answers>) -> Option<&'static str> {
        match self {
            Metric::LogitDiff | Metric::Change => answers.map(|_| "nats"),
            Metric::KlBase | Metric::KlSource => Some("nats"),
            _ => None,
        }
    }

    /// How many decimals are written.
    pub fn decimals(self) -> usize {
        match self {
            Metric::PTrue | Metric::PFalse | Metric::PTop => 4,
            Metric::RankTrue | Metric::RankFalse => 0,
            _ => 3,
        }
    }
}

impl Chosen {
    /// The values of every cell, finite or `None`.
    ///
    /// # Errors
    /// [`MetricError`] where the document lacks what the metric is made of.
    pub fn values(&self, document: &Document, metric: Metric) -> Result<Grid<f32>, MetricError> {
        let value = self.reader(document, metric)?;
        let (n_rows, n_columns) = (self.rows().len(), self.columns().len());
        let cell = |row, column| value(Cell { row, column }).filter(|value| value.is_finite());
        Ok((0..n_rows).map(|row| (0..n_columns).map(|c| cell(row, c)).collect()).collect())
    }

    /// The value of one cell; `None` where it has none or the document lacks the metric.
    pub fn value(&self, document: &Document, metric: Metric, cell: Cell) -> Option<f32> {
        self.reader(document, metric).ok()?(cell).filter(|value| value.is_finite())
    }

    /// Whether the document holds what the metric is made of.
    ///
    /// # Errors
    /// [`MetricError`] where it does not.
    pub fn holds(&self, document: &Document, metric: Metric) -> Result<(), MetricError> {
        self.reader(document, metric).map(|_| ())
    }

    fn reader<'a>(
        &'a self,
        document: &'a Document,
        metric: Metric,
    ) -> Result<Box<dyn Fn(Cell) -> Option<f32> + 'a>, MetricError> {
        let lists = self.lists(document);
        if self.is_lens() {
            match metric {
                Metric::LogitDiff | Metric::PTrue | Metric::PFalse | Metric::PTop => {}
                other => return Err(MetricError::Unpatched(other)),
            }
        }
        let ends = || self.ends(document).ok_or(MetricError::NoBaselines);
        match metric {
            Metric::Change => {
                let base = ends()?[0].logit_diff.ok_or(MetricError::NotFinite)?;
                let measured = self.reader(document, Metric::LogitDiff)?;
                return Ok(Box::new(move |cell| Some(measured(cell)? - base)));
            }
            Metric::Recovery => {
                let [base, source] = ends()?.map(|end| end.logit_diff);
                let (base, source) = base.zip(source).ok_or(MetricError::NotFinite)?;
                let contrast = (source - base).abs();
                if !contrast.is_finite() || contrast < MIN_CONTRAST_FOR_RECOVERY {
                    return Err(MetricError::NoContrast);
                }
                let measured = self.reader(document, Metric::LogitDiff)?;
                let recovery = move |v| statistics::recovery(v, Some(base), Some(source));
                return Ok(Box::new(move |cell| recovery(measured(cell))));
            }
            Metric::PTop => {
                let has_it = match lists {
                    Lists::Flat(_) => false,
                    Lists::Grid(grid) => grid.top.is_some(),
                    Lists::Lens(_) => true,
                };
                if !has_it {
                    return Err(MetricError::NotHeld(metric));
                }
                return Ok(Box::new(move |cell| self.top(document, cell).first()?.p));
            }
            _ => {}
        }
        let list: &'a Vec<Option<f32>> = match lists {
            Lists::Flat(document) => {
                let readout = document.readout.as_ref().ok_or(MetricError::NoReadout);
                let grid = match metric {
                    Metric::LogitDiff => &document.patching_results,
                    Metric::PTrue => &readout?.p_true,
                    Metric::PFalse => &readout?.p_false,
                    other => return Err(MetricError::NotHeld(other)),
                };
                return Ok(Box::new(|cell| grid.get(cell.row, cell.column)));
            }
            Lists::Grid(grid) => {
                let list = match metric {
                    Metric::LogitDiff => Some(&grid.logit_diff),
                    Metric::PTrue => grid.p_true.as_ref(),
                    Metric::PFalse => grid.p_false.as_ref(),
                    Metric::KlBase => grid.kl_base.as_ref(),
                    Metric::KlSource => grid.kl_source.as_ref(),
                    Metric::RankTrue => grid.rank_true.as_ref(),
                    _ => grid.rank_false.as_ref(),
                };
                list.ok_or(MetricError::NoReadout)?
            }
            Lists::Lens(lens) => match metric {
                Metric::PTrue => &lens.p_true,
                Metric::PFalse => &lens.p_false,
                _ => &lens.logit_diff,
            },
        };
        Ok(Box::new(|cell| *list.get(self.index(cell)?)?))
    }

    /// What the metric's values are in this grid.
    pub fn quantity(&self, document: &Document, metric: Metric) -> Quantity {
        let patched = self.prompt(document);
        let of = |run: &Baseline, base: Option<&Baseline>| match metric {
            Metric::LogitDiff => run.logit_diff,
            Metric::PTrue => run.p_true,
            Metric::PFalse => run.p_false,
            Metric::PTop => run.p_top,
            Metric::Change => Some(run.logit_diff? - base?.logit_diff?),
            Metric::Recovery if self.holds(document, metric).is_ok() => {
                Some(if base.is_some_and(|base| std::ptr::eq(run, base)) { 0.0 } else { 1.0 })
            }
            _ => None,
        };
        let ends = self.ends(document);
        let lens_run =
            document.baselines.as_ref().filter(|_| self.is_lens()).map(|b| b.of(patched));
        let runs = match (ends, lens_run) {
            (Some([base, source]), _) => {
                vec![(patched.other(), of(source, Some(base))), (patched, of(base, Some(base)))]
            }
            (None, Some(run)) => vec![(patched, of(run, None))],
            (None, None) => Vec::new(),
        };
        let references = runs.into_iter().filter_map(|(prompt, value)| {
            let value = value.filter(|value| value.is_finite())?;
            Some(Reference { name: prompt.name(), value })
        });
        let references: Vec<_> = references.collect();
        let base = references.iter().find(|reference| reference.name == patched.name());
        Quantity {
            title: metric.title(document.answers.as_ref(), patched),
            unit: metric.unit(document.answers.as_ref()),
            // The lens begins where nothing is known.
            centre: base.filter(|_| !self.is_lens()).map_or(0.0, |base| base.value),
            is_rank: matches!(metric, Metric::RankTrue | Metric::RankFalse),
            decimals: metric.decimals(),
            references,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::chosen::Choice;
    use crate::fixture::{answers, baselines, document, readout};

    fn grid_of(document: &Document, metric: Metric) -> Result<Grid<f32>, MetricError> {
        Chosen::of(document, Choice::default()).unwrap().values(document, metric)
    }

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
            (Metric::KlBase, plain.clone(), Err(MetricError::NotHeld(Metric::KlBase))),
            (Metric::PTop, with_readout.clone(), Err(MetricError::NotHeld(Metric::PTop))),
            (Metric::PTrue, with_readout.clone(), grid(Some(0.0), Some(0.1), Some(0.2), Some(0.3))),
            (Metric::PFalse, with_readout, grid(Some(1.0), Some(0.9), Some(0.8), Some(0.7))),
        ];
        for (metric, document, expected) in cases {
            assert_eq!(grid_of(&document, metric), expected, "{metric}");
        }
    }

    #[test]
    fn titles_and_units_say_what_the_document_says_and_no_more() {
        let answered = answers("yes", "no");
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
            (Metric::RankTrue, "Rank of yes", None, "Rank of the true answer"),
            (Metric::Recovery, "Recovery", None, "Recovery"),
        ];
        for (metric, title, unit, title_of_unknown) in cases {
            let of = |answers| (metric.title(answers, Prompt::Base), metric.unit(answers));
            assert_eq!(of(Some(&answered)), (title.to_string(), unit));
            assert_eq!(of(None), (title_of_unknown.to_string(), None));
        }
        assert_eq!(Metric::KlSource.title(None, Prompt::Source), "KL from the base");
    }

    #[test]
    fn the_middle_is_the_value_of_the_run_that_is_patched() {
        let mut document = document(&[&[Some(1.0)]]);
        let centre = |document: &Document, metric| {
            Chosen::of(document, Choice::default()).unwrap().quantity(document, metric).centre
        };
        assert_eq!(centre(&document, Metric::LogitDiff), 0.0);
        document.baselines = Some(baselines(5.0, 3.0));
        let cases = [
            (Metric::LogitDiff, 3.0),
            (Metric::PTrue, 0.25),
            (Metric::PFalse, 0.5),
            (Metric::Recovery, 0.0),
            (Metric::Change, 0.0),
            (Metric::KlBase, 0.0),
        ];
        for (metric, expected) in cases {
            assert_eq!(centre(&document, metric), expected, "{metric}");
        }
    }
}
