//! Whether settings fit together.

use super::Settings;
use crate::specification::template::{Template, TemplateError};
use crate::specification::vocabulary::{Directions, Span, Written};

/// Settings that fit together, with their templates parsed.
#[derive(Debug, Clone)]
pub struct Checked {
    /// As they were asked for.
    pub settings: Settings,
    /// Makes prompts of sentences; `None` if the table holds full prompts.
    pub template: Option<Template>,
    /// The true and the false answer; `None` as for [`Settings::answers`].
    pub answers: Option<[Template; 2]>,
}

/// Settings that cannot be followed.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum SettingsError {
    /// The template or an answer.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// An answer without a word.
    #[error("an answer is empty")]
    EmptyAnswer,
    /// A number beyond its range.
    #[error("`{name}` is {found}: expected {expected}")]
    Range {
        /// The setting.
        name: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        expected: &'static str,
    },
    /// Two settings that contradict each other.
    #[error("`{0}` and `{1}` contradict each other: {2}")]
    Contradiction(String, String, &'static str),
}

/// The most draws of noise.
const MAX_SEEDS: usize = 100;
/// The most top tokens of a cell.
const MAX_TOP: usize = 50;

impl Settings {
    /// Parses the templates and refuses what contradicts itself.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn check(self) -> Result<Checked, SettingsError> {
        self.check_ranges()?;
        if let Some((one, other, why)) = self.contradiction() {
            return Err(SettingsError::Contradiction(one, other, why));
        }
        let template = Template::named(&self.template)?;
        let answers = match &self.answers {
            None => None,
            Some(pair) if pair.0.iter().any(|answer| answer.trim().is_empty()) => {
                return Err(SettingsError::EmptyAnswer);
            }
            Some(pair) => Some([Template::parse(&pair.0[0])?, Template::parse(&pair.0[1])?]),
        };
        Ok(Checked { settings: self, template, answers })
    }

    fn check_ranges(&self) -> Result<(), SettingsError> {
        let ranges = [
            ("window", self.window >= 1, self.window.to_string(), "1 or more layers"),
            ("top", (1..=MAX_TOP).contains(&self.top), self.top.to_string(), "1 to 50 tokens"),
            (
                "noise_seeds",
                (1..=MAX_SEEDS).contains(&self.noise_seeds),
                self.noise_seeds.to_string(),
                "1 to 100 draws",
            ),
            (
                "noise_scale",
                self.noise_scale > 0.0 && self.noise_scale <= f64::from(f32::MAX),
                self.noise_scale.to_string(),
                "a finite number above 0",
            ),
        ];
        match ranges.into_iter().find(|(_, fits, ..)| !fits) {
            Some((name, _, found, expected)) => Err(SettingsError::Range { name, found, expected }),
            None => Ok(()),
        }
    }

    /// Two settings that contradict each other, and why.
    fn contradiction(&self) -> Option<(String, String, &'static str)> {
        let plain = Self::default();
        let named = |name: &str, value: &dyn std::fmt::Display| format!("{name} {value}");
        let has_heads = self.sites.items().iter().any(|site| site.has_heads());
        let spans = self.positions.items();
        let is_each = self.positions.only() == Some(Span::Each);
        let cases = [
            (
                !is_each && spans.contains(&Span::Each),
                named("positions", &Span::Each),
                named("positions", &self.positions),
                "a cell is one position or a named set of them",
            ),
            (
                self.by != plain.by && has_heads && !is_each,
                named("by", &self.by),
                named("positions", &self.positions),
                "a head's cells are single positions or named sets of them",
            ),
            (
                self.by != plain.by && !has_heads,
                named("by", &self.by),
                named("site", &self.sites),
                "only q, k, v and z divide into heads",
            ),
            (
                !self.readout && self.top != plain.top,
                named("top", &self.top),
                named("readout", &self.readout),
                "top tokens are read off the whole vocabulary",
            ),
            (
                self.noise == Some(Span::Each),
                named("noise", &Span::Each),
                named("noise", &"SPAN"),
                "noise falls on all positions of entity, differing, sentence or all",
            ),
            (
                self.noise.is_some() && self.direction != Directions::Denoising,
                "noise".to_string(),
                named("direction", &self.direction),
                "causal tracing puts the clean run's activations into the noised one",
            ),
            (
                self.noise.is_some() && self.write != Written::Source,
                "noise".to_string(),
                named("write", &self.write),
                "causal tracing writes the clean run's activations",
            ),
            (
                self.noise.is_none() && self.noise_scale != plain.noise_scale,
                named("noise_scale", &self.noise_scale),
                "no noise".to_string(),
                "say with `noise` what it falls on",
            ),
            (
                self.noise.is_none() && self.noise_seeds != plain.noise_seeds,
                named("noise_seeds", &self.noise_seeds),
                "no noise".to_string(),
                "say with `noise` what it falls on",
            ),
        ];
        let found = cases.into_iter().find(|(contradicts, ..)| *contradicts)?;
        Some((found.1, found.2, found.3))
    }
}
