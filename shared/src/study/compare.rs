//! What two groups of a study, or two studies, differ by.

use std::collections::BTreeMap;

use super::{
    Group, OtherStudy, Pooled, Ratio, Study, StudyAxis, StudyDifference, StudyGrid, StudyPair,
    Whose, values,
};
use crate::statistics::{self, MIN_PAIRS, Method, Pairing};

/// Studies that cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompareError {
    /// Models of different depth.
    #[error(
        "{0} and {1} layers do not correspond: compare studies of models with as many layers as \
         each other"
    )]
    Layers(usize, usize),
    /// No grid that both have.
    #[error("the studies have no grid in common: found {0} and {1}")]
    NoGrid(String, String),
}

/// A study's manifest with the array of logit differences of one of its grids.
#[derive(Clone, Copy)]
struct Measured<'a> {
    study: &'a Study,
    grid: &'a StudyGrid,
    logit_diff: &'a [f32],
    group: Option<&'a Group>,
}

impl Measured<'_> {
    fn whose(&self, is_other: bool) -> Whose {
        let Study { id, title, model, .. } = self.study;
        let study = is_other.then(|| OtherStudy {
            id: id.clone(),
            title: title.clone(),
            model: model.clone(),
        });
        Whose { study, group: self.group.cloned() }
    }
}

/// The differences of each two groups that this grid has summaries of, if they are not more than
/// four.
pub(super) fn groups(
    study: &Study,
    grid: &StudyGrid,
    logit_diff: &[f32],
    groups: &[Group],
) -> Vec<StudyDifference> {
    const MAX_GROUPS: usize = 4;
    let mut differences = Vec::new();
    if groups.len() > MAX_GROUPS {
        return differences;
    }
    for (at, first) in groups.iter().enumerate() {
        for second in &groups[at + 1..] {
            let of = |group| Measured { study, grid, logit_diff, group: Some(group) };
            differences.push(difference([of(first), of(second)], false, &study.method));
        }
    }
    differences
}

/// What the first has more than the second, which is of another study if `is_other`.
fn difference(sides: [Measured; 2], is_other: bool, method: &Method) -> StudyDifference {
    let [first, second] = sides;
    let mut pairs = sides.map(|side| side.study.kept(side.group).collect::<Vec<_>>());
    let common = if is_other { common(sides, &pairs) } else { Vec::new() };
    let is_paired = common.len() >= MIN_PAIRS;
    if is_paired {
        pairs = [0, 1].map(|side| common.iter().map(|pair: &[usize; 2]| pair[side]).collect());
    }
    let n_pairs = [pairs[0].len(), pairs[1].len()];
    let [of_first, of_second] = pairs;
    let pooled = [
        first.study.pooled(first.grid, first.logit_diff, of_first),
        in_order(
            first.grid,
            second,
            second.study.pooled(second.grid, second.logit_diff, of_second),
        ),
    ];
    let pairing = if is_paired { Pairing::Paired } else { Pairing::Unpaired };
    let of = |has_contrast: bool| {
        let [one, other] = [&pooled[0], &pooled[1]].map(|pooled| statistics::Group {
            samples: &pooled.samples,
            contrast: has_contrast.then_some(&*pooled.contrast),
        });
        Ratio::of_differences(statistics::difference([one, other], pairing, method))
    };
    StudyDifference {
        of: first.whose(false),
        less: second.whose(is_other),
        is_paired,
        n_pairs,
        effect: of(false),
        recovery: of(true),
    }
}

/// The pairs that both have: about the same entity, with the same two sentences.
fn common(sides: [Measured; 2], pairs: &[Vec<usize>; 2]) -> Vec<[usize; 2]> {
    let [first, second] = sides.map(|side| &side.study.pairs);
    let key = |pair: &StudyPair| {
        [&pair.entity, &pair.base.sentence, &pair.source.sentence].map(String::clone)
    };
    let of_second: BTreeMap<_, _> = pairs[1].iter().map(|&at| (key(&second[at]), at)).collect();
    let found = pairs[0].iter().map(|&at| Some([at, *of_second.get(&key(&first[at]))?]));
    found.flatten().collect()
}

/// The effects of `other` in the order of the cells of `grid`; where it has no such cell, none.
fn in_order(grid: &StudyGrid, other: Measured, pooled: Pooled) -> Pooled {
    if grid.axes == other.grid.axes {
        return pooled;
    }
    let of_other: BTreeMap<_, _> = keys(&other.grid.axes).into_iter().zip(0..).collect();
    let places: Vec<Option<usize>> =
        keys(&grid.axes).iter().map(|key| of_other.get(key).copied()).collect();
    let mut samples = statistics::Samples::new(places.len());
    for pair in 0..pooled.samples.n_pairs() {
        samples.push(places.iter().map(|at| pooled.samples.get(pair, (*at)?)));
    }
    Pooled { samples, ..pooled }
}

/// The keys of all cells, in their order, in words.
fn keys(axes: &[StudyAxis]) -> Vec<String> {
    let words = |axis: &StudyAxis| -> Vec<String> {
        match axis {
            StudyAxis::Layer(keys) | StudyAxis::Head(keys) => {
                keys.iter().map(usize::to_string).collect()
            }
            StudyAxis::Role(keys) => keys.iter().map(ToString::to_string).collect(),
            StudyAxis::Span(keys) => keys.iter().map(ToString::to_string).collect(),
        }
    };
    axes.iter().fold(vec![String::new()], |keys, axis| {
        let words = words(axis);
        let with =
            |key: &String| words.iter().map(|word| format!("{key}/{word}")).collect::<Vec<_>>();
        keys.iter().flat_map(with).collect()
    })
}

impl Study {
    /// Adds what this study has more than `other`, grid by grid; each comes with its file of values.
    ///
    /// # Errors
    /// [`CompareError`] where nothing corresponds.
    pub fn compare(
        &mut self,
        file: &[u8],
        other: &Self,
        other_file: &[u8],
    ) -> Result<(), CompareError> {
        if self.num_layers != other.num_layers {
            return Err(CompareError::Layers(self.num_layers, other.num_layers));
        }
        let logit_diff = |study: &Self, file: &[u8], at: usize| {
            let place = study.values.as_ref()?;
            Some(values::numbers(place.of(&values::name(at, values::METRICS[0]), file)?))
        };
        let mut found = Vec::new();
        for (at, grid) in self.grids.iter().enumerate() {
            let is_like = |other: &&StudyGrid| {
                (other.site, other.direction, other.window, other.write)
                    == (grid.site, grid.direction, grid.window, grid.write)
                    && other.axes.len() == grid.axes.len()
            };
            let Some(of_other) = other.grids.iter().position(|grid| is_like(&grid)) else {
                continue;
            };
            let arrays = logit_diff(self, file, at).zip(logit_diff(other, other_file, of_other));
            let Some((own, others)) = arrays else { continue };
            let first = Measured { study: self, grid, logit_diff: &own, group: None };
            let second = Measured {
                study: other,
                grid: &other.grids[of_other],
                logit_diff: &others,
                group: None,
            };
            found.push((at, difference([first, second], true, &self.method)));
        }
        if found.is_empty() {
            let names = |study: &Self| {
                let names = study.grids.iter().map(|g| format!("{}.{}", g.site, g.direction));
                names.collect::<Vec<_>>().join(", ")
            };
            return Err(CompareError::NoGrid(names(self), names(other)));
        }
        for (at, difference) in found {
            self.grids[at].differences.push(difference);
        }
        Ok(())
    }
}
