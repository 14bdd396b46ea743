//! `patchboard import` and `patchboard export`: documents in, documents, tables and figures out.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Result, bail};
use clap::Args;
use shared::document::Document;
use shared::field::axis::Coordinate;
use shared::field::chosen::{Choice, GridName};
use shared::field::metric::Metric;
use shared::figure::colour::{Preset, Range};
use shared::figure::{FigureOptions, LabelStyle, Origin, Theme};
use shared::specification::positions::Positions;

use super::files::{Folder, read_documents};
use super::{output, study};
use crate::export::{self, Format, panels, write_atomically};

/// What to import.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Result files: documents, the notebook's `patching_results.json`, or lists of either.
    #[arg(required = true)]
    files: Vec<PathBuf>,

    /// The folder for the documents.
    #[arg(long, value_name = "DIR", default_value = "results")]
    out: PathBuf,
}

/// What to export, and how the figures look.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Result documents; the notebook's files, too.
    #[arg(required_unless_present = "study")]
    files: Vec<PathBuf>,

    /// Studies to export: their folders or their study.json. As csv or parquet they are a table of their
    /// pairs' values, a row for each pair and cell, and as a figure the map of each grid's means; each
    /// goes into a folder of its own.
    #[arg(long, value_name = "STUDY", conflicts_with = "panels")]
    study: Vec<PathBuf>,

    /// What to write: json, csv, parquet, png, svg, pdf.
    #[arg(long, value_name = "FORMATS", value_delimiter = ',', default_value = "png,svg,csv")]
    format: Vec<Format>,

    /// The folder for what is written.
    #[arg(long, value_name = "DIR", default_value = "results")]
    out: PathBuf,

    /// Which grid a figure shows: a site and a direction, as in z.denoising, or lens.base or
    /// lens.source. Default: the first.
    #[arg(long, value_name = "GRID")]
    grid: Option<GridName>,

    /// Of a grid with three axes, where on the one that is not shown: h3 for head 3, l5 for layer 5,
    /// or a position.
    #[arg(long, value_name = "AT")]
    at: Option<Coordinate>,

    /// What a figure shows: logit_diff, recovery, p_true, p_false, change, kl_base, kl_source,
    /// rank_true, rank_false, p_top.
    #[arg(long, default_value_t)]
    metric: Metric,

    /// A figure's colours: notebook, blues, rdbu, rome-purple, rome-green, rome-red, viridis.
    #[arg(long, default_value_t)]
    preset: Preset,

    /// The values at both ends of the colours, e.g. `-2,2`. Default: from the data.
    #[arg(long, value_name = "LO,HI", allow_hyphen_values = true)]
    range: Option<ValueRange>,

    /// Where layer 0 is: top or bottom.
    #[arg(long, default_value_t)]
    origin: Origin,

    /// Layers along x, tokens along y.
    #[arg(long)]
    transpose: bool,

    /// How columns are labelled: token, or token_index.
    #[arg(long, default_value_t)]
    labels: LabelStyle,

    /// Positions to leave out of figures, e.g. `3-5,9`.
    #[arg(long, value_name = "POSITIONS", default_value = "", hide_default_value = true)]
    hide: Positions,

    /// A figure's ground: light, or dark.
    #[arg(long, default_value_t)]
    theme: Theme,

    /// Enlarges everything. Default: 2 for PNG, 1 for SVG.
    #[arg(long)]
    scale: Option<f64>,

    /// One figure, `panels`, of all results with a panel for each of their grids, or for the one
    /// that `--grid` names: N panels in a row, on one scale of colours. Only pictures are written.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    panels: Option<u16>,
}

/// Both ends of a colour scale.
#[derive(Debug, Clone, Copy)]
struct ValueRange(f32, f32);

impl FromStr for ValueRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.trim().parse::<f32>().ok().filter(|n| n.is_finite());
        let ends = text.split_once(',').and_then(|(lo, hi)| Some((number(lo)?, number(hi)?)));
        match ends {
            Some((lo, hi)) if lo < hi => Ok(Self(lo, hi)),
            _ => {
                Err(format!("expected two numbers, the smaller first, e.g. `-2,2`, found `{text}`"))
            }
        }
    }
}

/// Runs `import`.
///
/// # Errors
/// A file that is no result, a folder that cannot be written to, or one with another document of
/// the same id.
pub fn import(args: ImportArgs) -> Result<()> {
    let documents = read_documents(&args.files)?;
    let folder = Folder::open(&args.out)?;
    for document in &documents {
        let before = folder.find(&document.entity, &document.id);
        if before.is_some_and(|before| !before.agrees_with(document)) {
            bail!(
                "{} is another document of the same id: remove it, or choose another folder",
                folder.path(&document.entity, &document.id, Format::Json).display()
            );
        }
    }
    write_all(&documents, &folder, &[Format::Json], &FigureOptions::default())
}

/// Runs `export`.
///
/// # Errors
/// A file that is no result, a figure of what it lacks, or a folder that cannot be written to.
pub fn export(args: ExportArgs) -> Result<()> {
    let options = FigureOptions {
        grid: Choice { grid: args.grid, at: args.at },
        metric: args.metric,
        preset: args.preset,
        range: args.range.map_or(Range::Auto, |ValueRange(lo, hi)| Range::Set(lo, hi)),
        origin: args.origin,
        transpose: args.transpose,
        labels: args.labels,
        hidden: args.hide,
        theme: args.theme,
        scale: args.scale,
    };
    // All files are read before the first is written.
    let documents = read_documents(&args.files)?;
    let studies = args.study.iter().map(|path| study::read(path));
    let studies = studies.collect::<Result<Vec<_>>>()?;
    if let Some(n_in_row) = args.panels {
        let formats: Vec<_> = args.format.into_iter().filter(|f| f.is_picture()).collect();
        return write_panels(&documents, &args.out, &formats, &options, n_in_row.into());
    }
    write_all(&documents, &Folder::open(&args.out)?, &args.format, &options)?;
    for (study, values) in &studies {
        let folder = args.out.join(format!("study-{}", study.id));
        Folder::open(&folder)?;
        for &format in &args.format {
            for path in export::study::export(&folder, study, values, format)? {
                output::line(&path.display().to_string())?;
            }
        }
    }
    Ok(())
}

/// Writes one figure of all documents in several formats, and says where.
fn write_panels(
    documents: &[Document],
    folder: &Path,
    formats: &[Format],
    options: &FigureOptions,
    n_in_row: usize,
) -> Result<()> {
    if formats.is_empty() {
        bail!("`--panels` draws a figure: expected png, svg or pdf as its `--format`");
    }
    Folder::open(folder)?;
    for &format in formats {
        let path = folder.join(format!("panels.{format}"));
        write_atomically(&path, &panels::render(documents, format, options, n_in_row)?)?;
        output::line(&path.display().to_string())?;
    }
    Ok(())
}

/// Writes all documents and says where.
fn write_all(
    documents: &[Document],
    folder: &Folder,
    formats: &[Format],
    options: &FigureOptions,
) -> Result<()> {
    for document in documents {
        for path in folder.write(document, formats, options)? {
            output::line(&path.display().to_string())?;
        }
    }
    Ok(())
}
