//! Reads and checks studies.

use serde_json::Value;

use super::{Cells, Effect, Ratio, SCHEMA, Study, StudyAxis, StudyGrid, values};
use crate::document::is_id;
use crate::document::read::{take_unknown, written};
use crate::json;

/// A file that holds no study, or one that this version cannot read.
#[derive(Debug, thiserror::Error)]
pub enum StudyError {
    /// The bytes are no JSON.
    #[error("expected a study in JSON, found something else: {0}")]
    NotJson(serde_json::Error),
    /// JSON, but no study.
    #[error("expected a study ({SCHEMA}), found {0}")]
    NotAStudy(String),
    /// A schema of a later version.
    #[error(
        "the study has the schema `{0}`, and this version reads up to `{SCHEMA}` and what only adds \
         to it: update Patchboard"
    )]
    Newer(String),
    /// A field is missing or has the wrong type.
    #[error("the study is damaged: {0}")]
    Damaged(serde_json::Error),
    /// The fields contradict each other.
    #[error("the study contradicts itself: {0}")]
    Inconsistent(String),
}

/// The major version of a schema of ours.
fn major(schema: &str) -> Option<u32> {
    schema.strip_prefix("patchboard/")?.split('.').next()?.parse().ok()
}

/// The fields of a study, of which every one is written always.
const FIELDS: [&str; 15] = [
    "schema",
    "id",
    "title",
    "text",
    "model",
    "num_layers",
    "answers",
    "settings",
    "rule",
    "method",
    "group_by",
    "pairs",
    "grids",
    "values",
    "provenance",
];

impl Study {
    /// Reads a study's manifest.
    ///
    /// # Errors
    /// [`StudyError`], which says what was found and what was expected.
    pub fn read(bytes: &[u8]) -> Result<Self, StudyError> {
        let mut value = json::parse(bytes).map_err(StudyError::NotJson)?;
        let schema = value.get("schema").and_then(Value::as_str).map(str::to_string);
        let object = value.as_object_mut();
        let (Some(schema), Some(object)) = (schema, object) else {
            return Err(StudyError::NotAStudy("no schema".into()));
        };
        match major(&schema) {
            Some(2) => {}
            Some(1) => return Err(StudyError::NotAStudy("the result of a single pair".into())),
            Some(_) => return Err(StudyError::Newer(schema.chars().take(40).collect())),
            None => {
                let found: String = schema.chars().take(40).collect();
                return Err(StudyError::NotAStudy(format!("the schema `{found}`")));
            }
        }
        let extra = take_unknown(object, &|name| FIELDS.contains(&name));
        let mut study: Self = json::read(value).map_err(StudyError::Damaged)?;
        study.extra = extra;
        study.grids.iter_mut().for_each(StudyGrid::drop_non_finite);
        study.check().map_err(StudyError::Inconsistent)?;
        Ok(study)
    }

    /// The manifest as JSON text, one line and a line break.
    pub fn to_json(&self) -> String {
        written(self, &self.extra)
    }

    /// An id must be fit for names of files and pages, and every list as long as its axes say.
    fn check(&self) -> Result<(), String> {
        for id in self.pairs.iter().map(|pair| &pair.id).chain([&self.id]) {
            if !is_id(id) {
                let id: String = id.chars().take(32).collect();
                return Err(format!("the id {id:?}: expected 20 hexadecimal digits in lower case"));
            }
        }
        for (i, pair) in self.pairs.iter().enumerate() {
            for (name, prompt) in [("base", &pair.base), ("source", &pair.source)] {
                let (n, n_roles) = (prompt.tokens.len(), prompt.roles.len());
                if n != n_roles || n == 0 {
                    return Err(format!("`pairs[{i}].{name}` has {n_roles} roles for {n} tokens"));
                }
            }
        }
        for (i, grid) in self.grids.iter().enumerate() {
            grid.check(self.num_layers).map_err(|why| format!("`grids[{i}]`: {why}"))?;
        }
        match &self.values {
            Some(place) => values::check(place, self),
            None => Ok(()),
        }
    }
}

impl StudyGrid {
    /// How many cells it has; `None` for more than can be counted.
    pub fn n_cells(&self) -> Option<usize> {
        self.axes.iter().try_fold(1usize, |n, axis| n.checked_mul(axis.len()))
    }

    fn check(&self, n_layers: usize) -> Result<(), String> {
        match &self.axes[..] {
            [StudyAxis::Layer(keys), rest @ ..]
                if keys.iter().all(|&layer| layer < n_layers) && rest.len() <= 2 => {}
            _ => return Err(format!("the first axis is not of layers below {n_layers}")),
        }
        let n = self.n_cells().filter(|&n| n > 0).ok_or("an axis is empty or too long")?;
        if self.summaries.is_empty() {
            return Err("it has no summary".into());
        }
        for summary in &self.summaries {
            let Effect { n: counts, mean, median, sd, low, high, p, p_family, q } = &summary.effect;
            let lists = [mean, median, sd, low, high, p, p_family, q];
            check_lists(n, lists.into_iter().chain(ratio(&summary.recovery)))?;
            if counts.len() != n {
                return Err(format!("a list has {} numbers for {n} cells", counts.len()));
            }
        }
        for difference in &self.differences {
            check_lists(n, ratio(&difference.effect).chain(ratio(&difference.recovery)))?;
        }
        Ok(())
    }

    /// A number too large for `f32` is read as infinity; it is no value.
    fn drop_non_finite(&mut self) {
        let of_ratio = |ratio: &'_ mut Ratio| {
            let Ratio { value, low, high } = ratio;
            for number in [value, low, high].into_iter().flatten() {
                *number = number.filter(|number| number.is_finite());
            }
        };
        for summary in &mut self.summaries {
            let Effect { n: _, mean, median, sd, low, high, p, p_family, q } = &mut summary.effect;
            for number in [mean, median, sd, low, high, p, p_family, q].into_iter().flatten() {
                *number = number.filter(|number| number.is_finite());
            }
            of_ratio(&mut summary.recovery);
        }
        for difference in &mut self.differences {
            of_ratio(&mut difference.effect);
            of_ratio(&mut difference.recovery);
        }
    }
}

fn ratio(ratio: &Ratio) -> impl Iterator<Item = &Cells> {
    [&ratio.value, &ratio.low, &ratio.high].into_iter()
}

fn check_lists<'a>(n: usize, lists: impl Iterator<Item = &'a Cells>) -> Result<(), String> {
    match lists.map(Vec::len).find(|len| *len != n) {
        Some(len) => Err(format!("a list has {len} numbers for {n} cells")),
        None => Ok(()),
    }
}
