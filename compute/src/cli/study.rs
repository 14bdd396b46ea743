//! `patchboard study`: one study of the results of many pairs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use shared::document::Document;
use shared::statistics::Method;
use shared::study::{Builder, Keep, Options, Rule, Study};

use super::output;
use super::report::counted;
use crate::export;

/// The folder of a table's study, within that of its results.
pub const FOLDER: &str = "study";

/// How pairs are pooled.
#[derive(Debug, Clone, Args)]
pub struct PoolArgs {
    /// Which pairs count in the study: contrast (the model tells the two prompts apart by
    /// `--min-contrast` at least), right (it gets both right), or all.
    #[arg(long, value_name = "RULE", default_value_t)]
    keep: Keep,

    /// The least contrast between the unpatched runs, in nats, for `--keep contrast`.
    #[arg(long, value_name = "NATS", default_value_t = shared::statistics::WEAK_CONTRAST)]
    min_contrast: f32,

    /// Make groups by this column of the table, with statistics of each and their differences.
    #[arg(long, value_name = "COLUMN")]
    group_by: Option<String>,

    /// What the study is called. Default: the table's or the folder's name.
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,

    /// A file in Markdown that says what the study is about.
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
}

/// What to make a study of.
#[derive(Debug, Args)]
pub struct StudyArgs {
    /// Result documents, or folders of them, in the order of the table.
    #[arg(required = true)]
    files: Vec<PathBuf>,

    #[command(flatten)]
    pool: PoolArgs,

    /// Compare with this study: its folder or its study.json.
    #[arg(long, value_name = "STUDY")]
    compare: Option<PathBuf>,

    /// Put the values into study.json, so that the study is one file.
    #[arg(long)]
    inline: bool,

    /// The folder for the study.
    #[arg(long, value_name = "DIR", default_value = FOLDER)]
    out: PathBuf,
}

impl PoolArgs {
    /// The options that these are, for a table called `name`.
    ///
    /// # Errors
    /// A text that cannot be read, or a contrast that is none.
    pub fn options(&self, name: &str) -> Result<Options> {
        let rule = Rule { keep: self.keep, min_contrast: self.min_contrast };
        if !rule.is_valid() {
            bail!(
                "expected a contrast of 0 or more for `--min-contrast`, found {}",
                self.min_contrast
            );
        }
        let text = match &self.text {
            Some(path) => std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the text {}", path.display()))?,
            None => String::new(),
        };
        Ok(Options {
            title: self.title.clone().unwrap_or_else(|| name.to_string()),
            text,
            rule,
            group_by: self.group_by.clone(),
            method: Method::default(),
        })
    }
}

/// Runs the command.
///
/// # Errors
/// Files that are no results, results that make no study, or a folder that cannot be written to.
pub fn run(args: &StudyArgs) -> Result<()> {
    let files = result_files(&args.files)?;
    let mut builder = Builder::new();
    for file in &files {
        let bytes =
            std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        for document in Document::read(&bytes).with_context(|| file.display().to_string())? {
            builder.push(&document).with_context(|| file.display().to_string())?;
        }
    }
    let name = args.files[0].file_stem().map_or("Study".into(), |name| name.to_string_lossy());
    let (mut study, values) = builder.finish(&args.pool.options(&name)?)?;
    if let Some(other) = &args.compare {
        let (other, other_values) = read(other)?;
        study.compare(&values, &other, &other_values)?;
    }
    if let Some(place) = study.values.as_mut().filter(|_| args.inline) {
        place.put_inline(&values);
    }
    let manifest = write(&args.out, &study, &values)?;
    output::line(&report(&study))?;
    output::line(&manifest.display().to_string())
}

/// Writes a study and whatever belongs to it. Returns its manifest's path.
///
/// # Errors
/// A folder that cannot be made, or a file that cannot be written.
pub fn write(folder: &Path, study: &Study, values: &[u8]) -> Result<PathBuf> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    export::study::write(folder, study, values)?;
    Ok(folder.join(export::study::MANIFEST))
}

/// The result documents that these files and folders are. What is no result in a folder is left
/// alone there; a file that is named has to be one.
fn result_files(named: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in named {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path)
            .with_context(|| format!("cannot read the folder {}", path.display()))?;
        let mut within: Vec<_> = entries
            .collect::<std::io::Result<Vec<_>>>()?
            .into_iter()
            .map(|entry| entry.path())
            .filter(|path| path.is_file() && path.extension().is_some_and(|e| e == "json"))
            .collect();
        within.sort();
        if within.is_empty() {
            bail!("the folder {} has no result documents (.json)", path.display());
        }
        files.extend(within);
    }
    Ok(files)
}

/// A study that was written before, by its folder or its manifest, with its values.
///
/// # Errors
/// Files that cannot be read or are no study.
pub fn read(path: &Path) -> Result<(Study, Vec<u8>)> {
    let manifest =
        if path.is_dir() { path.join(export::study::MANIFEST) } else { path.to_path_buf() };
    let name = || manifest.display().to_string();
    let bytes = std::fs::read(&manifest).with_context(|| format!("cannot read {}", name()))?;
    let study = Study::read(&bytes).with_context(name)?;
    let place = study.values.as_ref();
    let place = place.with_context(|| format!("{} has no values of single pairs", name()))?;
    let values = match place.inline() {
        Some(values) => values,
        None => {
            // The name is a stranger's: a file beside the manifest and nowhere else.
            let file = Path::new(&place.file).file_name().unwrap_or_default();
            let file = manifest.with_file_name(file);
            std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?
        }
    };
    Ok((study, values))
}

/// What a study found, in lines.
pub fn report(study: &Study) -> String {
    let mut lines = vec![format!("study    {}", study.counted())];
    let left_out = study.pairs.iter().filter_map(|pair| Some((pair, pair.left_out.as_ref()?)));
    const SHOWN: usize = 5;
    let left_out: Vec<_> = left_out.collect();
    for (pair, why) in left_out.iter().take(SHOWN) {
        let name = if pair.entity.is_empty() { &pair.id } else { &pair.entity };
        lines.push(format!("left out {name}: {why}"));
    }
    if left_out.len() > SHOWN {
        lines.push(format!("left out {} more", counted(left_out.len() - SHOWN, "pair")));
    }
    for (grid, name) in study.grids.iter().zip(study.grid_names()) {
        for summary in &grid.summaries {
            let Some(handover) = summary.handover else { continue };
            let group = summary.group.as_ref();
            let group = group.map_or(String::new(), |g| format!(", {} {}", g.column, g.value));
            let interval =
                handover.interval.map_or(String::new(), |[low, high]| format!(" [{low}, {high}]"));
            lines.push(format!(
                "handover {name}{group}: from `{}` to the last position at layer {}{interval}, {}",
                handover.from,
                handover.layer,
                counted(summary.n_pairs, "pair")
            ));
        }
    }
    lines.join("\n")
}
