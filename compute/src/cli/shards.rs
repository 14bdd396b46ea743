//! A table divided among machines: each sweeps a shard of its pairs, and what they found is put
//! together again.
//!
//! A shard's results are files named by their content, like those of any sweep, so that it can be run
//! twice without harm. Beside them lies its manifest, which names the ids of all pairs of the table:
//! an id is a hash of the model, the engine's numerics, the type that is computed in and the
//! experiment, so shards with the same ids belong together.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use shared::document::{Document, is_id};
use shared::specification::settings::Settings;

use super::files::result_path;
use crate::export::{ExportError, Format, write_atomically};

/// The schema of manifests.
pub const SCHEMA: &str = "patchboard-shard/1";

/// The folder of manifests, within that of the results.
pub const FOLDER: &str = "shards";

/// Which part of a table: of `of` shards the one with the number `number`, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shard {
    /// Its number, from 1.
    pub number: usize,
    /// How many there are.
    pub of: usize,
}

/// A text that names no shard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no shard: expected its number and how many there are, as in `3/40`")]
pub struct BadShard(String);

impl FromStr for Shard {
    type Err = BadShard;

    fn from_str(text: &str) -> Result<Self, BadShard> {
        let parts = text.split_once('/').and_then(|(number, of)| {
            Some(Self { number: number.trim().parse().ok()?, of: of.trim().parse().ok()? })
        });
        let fits = |shard: &Self| (1..=shard.of).contains(&shard.number) && shard.of <= 100_000;
        parts.filter(fits).ok_or_else(|| BadShard(text.chars().take(40).collect()))
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl Shard {
    /// Its pairs of a table of `n_pairs`: neighbours, and as many as the others have, or one more.
    pub fn pairs(self, n_pairs: usize) -> Range<usize> {
        let before = |number: usize| (n_pairs as u128 * number as u128 / self.of as u128) as usize;
        before(self.number - 1)..before(self.number)
    }

    /// Its manifest in the folder of results.
    pub fn manifest(self, results: &Path) -> PathBuf {
        results.join(FOLDER).join(format!("{:05}-of-{:05}.json", self.number, self.of))
    }
}

/// What a shard is part of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: String,
    /// Which shard.
    pub shard: Shard,
    /// What the table is called.
    pub table: String,
    /// What was asked of every pair.
    pub settings: Settings,
    /// The model's name.
    pub model: String,
    /// Tells it from others.
    pub model_fingerprint: String,
    /// The type that is computed in.
    pub dtype: String,
    /// `cpu`, or the accelerator.
    pub device: String,
    /// `patchboard` and its version.
    pub engine: String,
    /// All pairs of the table, in its order.
    pub pairs: Vec<ManifestPair>,
}

/// A pair of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestPair {
    /// The id of its result.
    pub id: String,
    /// What both sentences are about.
    pub entity: String,
    /// Its row of the table, by column.
    pub row: BTreeMap<String, String>,
}

impl Manifest {
    /// How many pairs of a shard of this table have a result in the folder.
    pub fn n_done(&self, shard: Shard, results: &Path) -> usize {
        let own = shard.pairs(self.pairs.len());
        self.pairs[own].iter().filter(|pair| pair.result(results).is_some()).count()
    }

    /// Writes it into the folder of results, whole or not at all.
    ///
    /// # Errors
    /// A folder or a file that cannot be written.
    pub fn write(&self, results: &Path) -> Result<(), ExportError> {
        let path = self.shard.manifest(results);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| ExportError::Write {
                path: path.clone(),
                error,
                advice: "choose a folder that can be written to",
            })?;
        }
        let text = serde_json::to_vec(self).expect("a manifest has no map with odd keys");
        write_atomically(&path, &text)
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`MergeError::Damaged`].
    pub fn read(path: &Path) -> Result<Self, MergeError> {
        let damaged = |why: String| MergeError::Damaged { path: path.to_path_buf(), why };
        let bytes = std::fs::read(path).map_err(|error| damaged(error.to_string()))?;
        let manifest: Self =
            serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if manifest.schema != SCHEMA {
            let found: String = manifest.schema.chars().take(40).collect();
            return Err(damaged(format!("expected the schema `{SCHEMA}`, found `{found}`")));
        }
        // A stranger's id becomes the name of a file.
        if let Some(pair) = manifest.pairs.iter().find(|pair| !is_id(&pair.id)) {
            return Err(damaged(format!("{:?} is no id of a result", pair.id)));
        }
        let shard = manifest.shard.to_string().parse::<Shard>();
        shard.map_err(|error| damaged(error.to_string()))?;
        Ok(manifest)
    }

    /// What makes the shards of two manifests different things; `None` where they belong together.
    fn differs(&self, other: &Self) -> Option<String> {
        let said = |what: &str, a: &dyn fmt::Display, b: &dyn fmt::Display| {
            Some(format!("another {what}: {a} and {b}"))
        };
        if self.model_fingerprint != other.model_fingerprint {
            return said("model", &self.described_model(), &other.described_model());
        }
        for (what, a, b) in [
            ("type", &self.dtype, &other.dtype),
            ("device", &self.device, &other.device),
            ("engine", &self.engine, &other.engine),
        ] {
            if a != b {
                return said(what, a, b);
            }
        }
        if self.settings != other.settings {
            return Some("other settings".into());
        }
        let ids = |manifest: &Self| manifest.pairs.iter().map(|p| p.id.clone()).collect::<Vec<_>>();
        if self.pairs.len() != other.pairs.len() {
            return said("number of pairs", &self.pairs.len(), &other.pairs.len());
        }
        (ids(self) != ids(other)).then(|| "another table, or another version of it".into())
    }

    fn described_model(&self) -> String {
        format!("{} ({:.12})", self.model, self.model_fingerprint)
    }

    /// Whether the difference is one that a user may accept: the same experiments, computed by another
    /// engine, on another device or in another type.
    fn may_be_mixed(&self, other: &Self) -> bool {
        let rows = |manifest: &Self| {
            let rows = manifest.pairs.iter().map(|pair| (pair.entity.clone(), pair.row.clone()));
            rows.collect::<Vec<_>>()
        };
        self.model_fingerprint == other.model_fingerprint
            && self.settings == other.settings
            && rows(self) == rows(other)
    }
}

impl ManifestPair {
    /// The file of its result in a folder; `None` where there is none.
    fn result(&self, results: &Path) -> Option<PathBuf> {
        let path = result_path(results, &self.entity, &self.id, Format::Json);
        path.is_file().then_some(path)
    }
}

/// Shards that cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// No manifest.
    #[error("found no shard below {}: expected the folders that `sweep --shard` wrote to", .0.display())]
    Nothing(PathBuf),
    /// A manifest that is none.
    #[error("the shard's manifest {} is damaged: {why}; run the shard again", path.display())]
    Damaged {
        /// The manifest.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A shard of something else.
    #[error(
        "{} belongs to something else than {}: {why}{}",
        other.display(), first.display(),
        if *.may_be_mixed { "; `--mixed` puts them together all the same, and says so" } else { "" }
    )]
    Foreign {
        /// The first manifest.
        first: PathBuf,
        /// The one that does not belong.
        other: PathBuf,
        /// What differs.
        why: String,
        /// Whether the user may have it so.
        may_be_mixed: bool,
    },
    /// A result that is none.
    #[error("the result {} is damaged: {why}; run shard {shard} again", path.display())]
    BadResult {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
        /// The shard that it is of.
        shard: Shard,
    },
}

/// What shards have found.
#[derive(Debug)]
pub struct Gathered {
    /// The manifest of the first shard, which all others agree with.
    pub manifest: Manifest,
    /// For each pair of the table the file of its result, where there is one.
    pub results: Vec<Option<PathBuf>>,
    /// What was put together although it differs, a sentence each.
    pub mixed: Vec<String>,
    /// The shards of which pairs are missing, by how the first manifest divides the table.
    pub missing: Vec<(Shard, Range<usize>)>,
}

/// Finds the shards in `folders` and the results of their pairs.
///
/// # Errors
/// [`MergeError`], unless `mixed` accepts it.
pub fn gather(folders: &[PathBuf], mixed: bool) -> Result<Gathered, MergeError> {
    let mut manifests = Vec::new();
    for folder in folders {
        let entries = std::fs::read_dir(folder.join(FOLDER)).into_iter().flatten().flatten();
        let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|ending| ending == "json"));
        paths.sort();
        if paths.is_empty() {
            return Err(MergeError::Nothing(folder.clone()));
        }
        for path in paths {
            let manifest = Manifest::read(&path)?;
            manifests.push((folder, path, manifest));
        }
    }
    let Some((_, first_path, first)) = manifests.first() else {
        return Err(MergeError::Nothing(PathBuf::from(".")));
    };
    let mut said = Vec::new();
    for (_, path, manifest) in &manifests {
        let Some(why) = first.differs(manifest) else { continue };
        let may_be_mixed = first.may_be_mixed(manifest);
        if !(mixed && may_be_mixed) {
            return Err(MergeError::Foreign {
                first: first_path.clone(),
                other: path.clone(),
                why,
                may_be_mixed,
            });
        }
        said.push(format!("shard {} was computed by {why}", manifest.shard));
    }
    let mut results: Vec<Option<PathBuf>> = vec![None; first.pairs.len()];
    for (folder, _, manifest) in &manifests {
        // A shard may have found more than its own pairs: what another one left in the same folder.
        for (pair, result) in manifest.pairs.iter().zip(&mut results) {
            if result.is_none() {
                *result = pair.result(folder);
            }
        }
    }
    let division = Shard { number: 1, of: first.shard.of };
    let missing = (1..=division.of).filter_map(|number| {
        let shard = Shard { number, ..division };
        let own = shard.pairs(results.len());
        let first = own.clone().find(|&pair| results[pair].is_none())?;
        let last = own.rev().find(|&pair| results[pair].is_none())?;
        Some((shard, first..last + 1))
    });
    Ok(Gathered { missing: missing.collect(), manifest: first.clone(), results, mixed: said })
}

impl Gathered {
    /// The result of a pair, with its row; `None` where it is missing.
    ///
    /// # Errors
    /// [`MergeError::BadResult`].
    pub fn document(&self, pair: usize) -> Result<Option<Document>, MergeError> {
        let (Some(Some(path)), Some(of)) = (self.results.get(pair), self.manifest.pairs.get(pair))
        else {
            return Ok(None);
        };
        let bad = |why: String| {
            let of = self.manifest.shard.of;
            let shard = (1..=of).map(|number| Shard { number, of });
            let mut shard = shard.filter(|s| s.pairs(self.manifest.pairs.len()).contains(&pair));
            let shard = shard.next().unwrap_or(self.manifest.shard);
            MergeError::BadResult { path: path.clone(), why, shard }
        };
        let bytes = std::fs::read(path).map_err(|error| bad(error.to_string()))?;
        let read = Document::read(&bytes).map_err(|error| bad(error.to_string()))?;
        let document = read.into_iter().next().ok_or_else(|| bad("it is empty".into()))?;
        let is_named = path.to_string_lossy().contains(&document.id);
        if !is_named {
            return Err(bad(format!("it holds the result {}", document.id)));
        }
        Ok(Some(Document { row: of.row.clone(), ..document }))
    }
}

#[cfg(test)]
mod tests;
