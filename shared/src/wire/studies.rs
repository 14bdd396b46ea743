//! What an address says of a study: where it comes from, and what of it is shown.

use form_urlencoded::Serializer;

use crate::document::is_id;
use crate::json;
use crate::study::{Keep, Statistic};

/// Where a study comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StudySource {
    /// The finished pairs of a server's job.
    Job(String),
    /// The study of this id: opened before, part of the page, or `data/studies/ID/study.json` beside
    /// it.
    Id(String),
}

/// Whose statistics are shown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Selected {
    /// Those of all pairs that count.
    #[default]
    All,
    /// Those of the group with this value.
    Group(String),
    /// The difference at this place of the grid's list.
    Difference(usize),
}

/// What is shown of a study.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StudyView {
    /// The name of the grid; empty for the first.
    pub grid: String,
    /// The statistic.
    pub statistic: Statistic,
    /// Whose.
    pub selected: Selected,
    /// Which pairs a server is to count, where it is not its own rule.
    pub keep: Option<Keep>,
    /// The least contrast in nats that counts, where it is not the server's.
    pub min_contrast: Option<f32>,
    /// The column of the table that makes groups; empty for none.
    pub group_by: String,
}

impl StudySource {
    /// Reads what [`Self::path`] writes.
    pub fn parse(path: &str) -> Option<Self> {
        match path.split_once('/') {
            None if is_id(path) => Some(Self::Id(path.into())),
            Some(("job", id)) if is_id(id) => Some(Self::Job(id.into())),
            _ => None,
        }
    }

    /// As addresses have it.
    pub fn path(&self) -> String {
        match self {
            Self::Job(id) => format!("job/{id}"),
            Self::Id(id) => id.clone(),
        }
    }
}

impl StudyView {
    /// Takes in a word of an address's query. `false` where it is none of a study's.
    pub(super) fn take(&mut self, key: &str, value: &str) -> bool {
        match key {
            "of" => self.grid = value.into(),
            "show" => self.statistic = value.parse().unwrap_or(self.statistic),
            "group" => self.selected = Selected::Group(value.into()),
            "difference" => {
                if let Ok(at) = json::parse(value).and_then(json::read) {
                    self.selected = Selected::Difference(at);
                }
            }
            "keep" => self.keep = value.parse().ok(),
            "min_contrast" => {
                let number = json::number(value);
                self.min_contrast = number.filter(|n| n.is_finite() && *n >= 0.0);
            }
            "group_by" => self.group_by = value.into(),
            _ => return false,
        }
        true
    }

    pub(super) fn write(&self, query: &mut Serializer<'_, String>) {
        if !self.grid.is_empty() {
            query.append_pair("of", &self.grid);
        }
        if self.statistic != Statistic::default() {
            query.append_pair("show", self.statistic.name());
        }
        match &self.selected {
            Selected::All => {}
            Selected::Group(value) => drop(query.append_pair("group", value)),
            Selected::Difference(at) => drop(query.append_pair("difference", &at.to_string())),
        }
        self.write_pooling(query);
    }

    /// How pairs are pooled, as a server is asked for it.
    pub fn pooling(&self) -> String {
        let mut query = Serializer::new(String::new());
        self.write_pooling(&mut query);
        query.finish()
    }

    fn write_pooling(&self, query: &mut Serializer<'_, String>) {
        if let Some(keep) = self.keep {
            query.append_pair("keep", keep.name());
        }
        if let Some(min_contrast) = self.min_contrast {
            query.append_pair("min_contrast", &min_contrast.to_string());
        }
        if !self.group_by.is_empty() {
            query.append_pair("group_by", &self.group_by);
        }
    }
}
