//! Where results are written, and what is already there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use shared::document::Document;
use shared::figure::FigureOptions;

use crate::experiment::Experiment;
use crate::export::{Format, render, write_atomically};
use crate::model::Description;

/// The extension of what is finished of a result.
const PARTIAL: &str = "partial";

/// A folder for results.
pub struct Folder(PathBuf);

impl Folder {
    /// Makes the folder if need be, and makes sure that it can be written to.
    ///
    /// # Errors
    /// A folder that cannot be made or written to.
    pub fn open(path: &Path) -> Result<Self> {
        std::fs::create_dir_all(path)
            .and_then(|()| tempfile::tempfile_in(path).map(drop))
            .with_context(|| format!("cannot write to the output folder {}", path.display()))?;
        Ok(Self(path.to_path_buf()))
    }

    /// The file of a result: a readable name and the result's id.
    pub fn path(&self, entity: &str, id: &str, format: Format) -> PathBuf {
        result_path(&self.0, entity, id, format)
    }

    /// The file of what is finished of a result.
    pub fn partial(&self, entity: &str, id: &str) -> PathBuf {
        self.0.join(format!("{}-{id}.{PARTIAL}", slug(entity)))
    }

    /// The folder for the study of all results of a table.
    pub fn study(&self) -> PathBuf {
        self.0.join(super::study::FOLDER)
    }

    /// Whether there is any result about `entity`, whatever its id.
    pub fn has_any(&self, entity: &str) -> bool {
        self.has_any_with(entity, Format::Json.name())
    }

    /// Whether anything about `entity` is finished in part, whatever its id.
    pub fn has_any_partial(&self, entity: &str) -> bool {
        self.has_any_with(entity, PARTIAL)
    }

    fn has_any_with(&self, entity: &str, extension: &str) -> bool {
        let (begin, end) = (format!("{}-", slug(entity)), format!(".{extension}"));
        let names = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        names.map(|entry| entry.file_name()).any(|name| {
            let name = name.to_string_lossy();
            name.starts_with(&begin) && name.ends_with(&end)
        })
    }

    /// The result `id`, if it is there and can be read.
    pub fn find(&self, entity: &str, id: &str) -> Option<Document> {
        let bytes = std::fs::read(self.path(entity, id, Format::Json)).ok()?;
        Document::read(&bytes).ok()?.into_iter().find(|document| document.id == id)
    }

    /// The result of `experiment` with `model`, which was written before.
    ///
    /// # Errors
    /// A file that is gone or damaged, or a model that cannot be told from others.
    pub fn document(&self, experiment: &Experiment, model: &Description) -> Result<Document> {
        let id = experiment.id(model)?;
        self.find(&experiment.entity, &id).with_context(|| {
            let path = self.path(&experiment.entity, &id, Format::Json);
            format!("{} is gone or damaged: run the same command again", path.display())
        })
    }

    /// Writes a result in every format, the document last: it says that the others are there.
    ///
    /// # Errors
    /// A figure that cannot be drawn or a file that cannot be written.
    pub fn write(
        &self,
        document: &Document,
        formats: &[Format],
        options: &FigureOptions,
    ) -> Result<Vec<PathBuf>> {
        let mut formats = formats.to_vec();
        formats.sort_by_key(|&format| format == Format::Json);
        formats.dedup();
        let mut paths = Vec::with_capacity(formats.len());
        for format in formats {
            let path = self.path(&document.entity, &document.id, format);
            write_atomically(&path, &render(document, format, options)?)?;
            paths.push(path);
        }
        Ok(paths)
    }
}

/// The file of a result in a folder: a readable name and the result's id.
pub fn result_path(folder: &Path, entity: &str, id: &str, format: Format) -> PathBuf {
    folder.join(format!("{}-{id}.{format}", slug(entity)))
}

/// Reads all documents in `files`. What is there twice is read once.
///
/// # Errors
/// A file that cannot be read or is no result, or two different results of one id.
pub fn read_documents(files: &[PathBuf]) -> Result<Vec<Document>> {
    let mut documents: Vec<Document> = Vec::with_capacity(files.len());
    let mut places = BTreeMap::new();
    for file in files {
        let bytes =
            std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        for document in Document::read(&bytes).with_context(|| file.display().to_string())? {
            match places.get(&document.id) {
                None => {
                    places.insert(document.id.clone(), (documents.len(), file));
                    documents.push(document);
                }
                Some((place, _)) if documents[*place].agrees_with(&document) => {}
                Some((_, first)) => bail!(
                    "{} and {} hold different documents of the id {}: leave one of them out",
                    first.display(),
                    file.display(),
                    document.id
                ),
            }
        }
    }
    Ok(documents)
}

/// A short name for files: letters and digits in lower case, anything else a hyphen.
fn slug(text: &str) -> String {
    const MAX_CHARS: usize = 40;
    let mut slug = String::new();
    for c in text.to_lowercase().chars() {
        if c.is_alphanumeric() {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug: String = slug.chars().take(MAX_CHARS).collect();
    match slug.trim_end_matches('-') {
        "" => "pair".into(),
        slug => slug.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::slug;

    #[test]
    fn slugs_are_short_and_safe() {
        let cases = [
            ("Erin O'Neill", "erin-o-neill"),
            ("../etc/passwd", "etc-passwd"),
            ("  ", "pair"),
            ("中央银行", "中央银行"),
            (&"x".repeat(90), &"x".repeat(40)),
        ];
        for (text, expected) in cases {
            assert_eq!(slug(text), expected);
        }
    }
}
