//! What a reader should know before trusting the picture.

use super::{Answers, Baselines, CellGrid, Document, Grid, Verification};
use crate::specification::vocabulary::Align;
use crate::statistics::{LOW_ANSWER_MASS, WEAK_CONTRAST};

impl Document {
    /// What a reader should know before trusting the picture, a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        warnings.extend(self.missing_warning());
        warnings.extend(self.verification.iter().flat_map(Verification::warnings));
        warnings.extend(Self::warnings_of(self.baselines.as_ref(), self.answers.as_ref()));
        let n_source = self.source_tokens.len().saturating_sub(self.source_padding);
        let n_base = self.base_tokens.len().saturating_sub(self.base_padding);
        warnings.extend(Self::length_warning(n_source, n_base, self.align));
        warnings
    }

    /// Cells without a number, which are rarely so for a good reason.
    fn missing_warning(&self) -> Option<String> {
        let n_missing = |grid: &Grid<f32>| grid.cells().filter(Option::is_none).count();
        let (n, n_all) = if self.grids.is_empty() {
            let readout = self.readout.iter().flat_map(|r| [&r.p_true, &r.p_false]);
            let n = readout.chain([&self.patching_results]).map(n_missing).max().unwrap_or(0);
            (n, self.num_layers * self.token_labels.len())
        } else {
            // An experiment of heads or spans alone has nothing to put into the notebook's fields.
            let n: usize = self.grids.iter().map(CellGrid::n_missing).sum();
            let n_all: usize = self.grids.iter().map(|grid| grid.logit_diff.len()).sum();
            (n, n_all)
        };
        (n > 0).then(|| {
            format!(
                "missing numbers: {n} of {n_all} cells have none, because they were not run or \
                 came out as NaN or infinity; if the model computes such numbers, the others \
                 deserve little trust either: check its weights, or compute in f32"
            )
        })
    }

    /// What becomes of prompts of these lengths in tokens, padding left out; `None` where they have
    /// the same.
    pub fn length_warning(n_source: usize, n_base: usize, align: Option<Align>) -> Option<String> {
        let how = match align {
            Some(Align::Pad) => {
                "the shorter prompt is padded on the left, and the padding is attended to, as in \
                 the notebook (alignment `right` does without)"
            }
            Some(Align::Right) => "positions correspond by their distance from the end",
            Some(Align::Diff) => {
                "the tokens that both have correspond, and of what one has in place of the other, as \
                 many from the right as both have"
            }
            Some(Align::Role) => "the tokens of each role correspond, from the right",
            Some(Align::Hand) => "what corresponds was said by hand",
            None => "the file does not say how they were aligned",
        };
        (n_source != n_base).then(|| {
            format!(
                "unequal lengths: the source has {n_source} tokens and the base {n_base}; {how}"
            )
        })
    }

    /// The same, of baselines and answers that may not be in a document yet.
    pub fn warnings_of(baselines: Option<&Baselines>, answers: Option<&Answers>) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(Baselines { source, base }) = baselines {
            for (name, run) in [("source", source), ("base", base)] {
                if [run.logit_diff, run.p_true, run.p_false, run.p_top].contains(&None) {
                    warnings.push(format!(
                        "missing numbers: the unpatched {name} run lacks some, because they were \
                         left out or came out as NaN or infinity; if the model computes such \
                         numbers, the grid deserves little trust: check its weights, or compute in \
                         f32"
                    ));
                }
            }
            let contrast = source.logit_diff.zip(base.logit_diff).map(|(s, b)| (s - b).abs());
            if let Some(contrast) = contrast.filter(|contrast| *contrast < WEAK_CONTRAST) {
                warnings.push(format!(
                    "weak contrast: source and base differ by only {contrast:.2}, so the model \
                     hardly tells them apart and the grid shows little but noise"
                ));
            }
            let masses =
                [source, base].into_iter().filter_map(|run| Some(run.p_true? + run.p_false?));
            let mass = masses.reduce(f32::min);
            if let Some(mass) = mass.filter(|mass| *mass < LOW_ANSWER_MASS) {
                warnings.push(format!(
                    "low answer mass: the answers get {:.1} % of the probability, so the model is \
                     mostly saying something else",
                    100.0 * mass
                ));
            }
        }
        for answer in answers.iter().flat_map(|a| [&a.true_answer, &a.false_answer]) {
            // Other variants are bound to be dropped; this is the one that a model would write.
            if answer.dropped.contains(&format!(" {}", answer.word)) {
                warnings.push(format!(
                    "the answer {:?} is more than one token as it is written: only other variants \
                     of it count",
                    answer.word
                ));
            }
        }
        warnings
    }
}

impl Verification {
    /// Says so where two numbers of a cell could not be compared.
    fn warnings(&self) -> Vec<String> {
        let recheck = self.recheck.map(|recheck| (recheck.n_cells(), recheck.max_abs_diff));
        [
            ("not verified", "run again by the naive engine", (self.n_cells, self.max_abs_diff)),
            ("not rechecked", "computed again in f32 on the CPU", recheck.unwrap_or_default()),
        ]
        .into_iter()
        .filter(|(_, _, (n, difference))| *n > 0 && difference.is_none())
        .map(|(what, how, (n, _))| {
            format!(
                "{what}: {n} cells were {how}, and at least one came out as NaN or infinity, so that \
                 nothing can be compared"
            )
        })
        .collect()
    }
}
