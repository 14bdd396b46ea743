//! A study as files: the manifest, the values, a table of them, and figures.

use std::path::{Path, PathBuf};

use shared::figure::colour::Preset;
use shared::figure::{Figure, FigureOptions, Heading};
use shared::specification::vocabulary::Format;
use shared::study::values::FILE;
use shared::study::{Shown, Statistic, Study, StudyGrid};

use super::{ExportError, parquet, picture, svg, write_atomically};

/// The manifest's file name.
pub const MANIFEST: &str = "study.json";

/// The table of the single pairs' values.
pub const TABLE: &str = "pairs.csv";

/// A table that would be larger is left out: its rows say the same as the file of values.
const MAX_TABLE_BYTES: usize = 256 << 20;

/// Writes a study into `folder`, which exists: the values, their table, the map of mean effects of
/// each grid, and last the manifest, whose presence means that the study is whole.
///
/// # Errors
/// A file that cannot be written.
pub fn write(folder: &Path, study: &Study, values: &[u8]) -> Result<Vec<PathBuf>, ExportError> {
    let mut files = Vec::new();
    let mut write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        write_atomically(&path, bytes)?;
        files.push(path);
        Ok::<_, ExportError>(())
    };
    if let Some(place) = study.values.as_ref().filter(|place| place.inline.is_none()) {
        write(&place.file, values)?;
    }
    if study.csv_size() <= MAX_TABLE_BYTES {
        write(TABLE, study.csv(values).as_bytes())?;
    }
    for (grid, name) in study.grids.iter().zip(study.grid_names()) {
        for format in [Format::Svg, Format::Png, Format::Pdf] {
            let bytes = mean_map(study, grid, format)?;
            write(&format!("mean-{name}.{format}"), &bytes)?;
        }
    }
    write(MANIFEST, study.to_json().as_bytes())?;
    Ok(files)
}

/// The single pairs' values as a table of this format, or the map of each grid's mean effects as a
/// figure of it, into `folder`, which exists.
///
/// # Errors
/// A file that cannot be written.
pub fn export(
    folder: &Path,
    study: &Study,
    values: &[u8],
    format: Format,
) -> Result<Vec<PathBuf>, ExportError> {
    let path = |name: &str| folder.join(format!("{name}.{format}"));
    let files = match format {
        Format::Json => {
            let mut study = study.clone();
            let mut files = Vec::new();
            if let Some(place) = &mut study.values {
                // The name that a manifest has for it is a stranger's.
                (place.file, place.inline) = (FILE.to_string(), None);
                files.push((folder.join(FILE), values.to_vec()));
            }
            files.push((folder.join(MANIFEST), study.to_json().into_bytes()));
            files
        }
        Format::Csv => vec![(path("pairs"), study.csv(values).into_bytes())],
        Format::Parquet => {
            let rows = parquet::written::<ExportError>(|each| {
                study.rows(values, each);
                Ok(())
            });
            vec![(path("pairs"), rows?)]
        }
        Format::Svg | Format::Png | Format::Pdf => {
            let names = study.grid_names();
            let maps = study.grids.iter().zip(names).map(|(grid, name)| {
                Ok((path(&format!("mean-{name}")), mean_map(study, grid, format)?))
            });
            maps.collect::<Result<_, ExportError>>()?
        }
    };
    for (path, bytes) in &files {
        write_atomically(path, bytes)?;
    }
    Ok(files.into_iter().map(|(path, _)| path).collect())
}

/// The map of the mean effects of a grid over all pairs that count.
///
/// # Errors
/// A figure that cannot be drawn.
pub fn mean_map(study: &Study, grid: &StudyGrid, format: Format) -> Result<Vec<u8>, ExportError> {
    let options = FigureOptions { preset: Preset::RdBu, ..FigureOptions::default() };
    let field = grid.field(Shown::Summary(&grid.summaries[0], Statistic::Mean), None);
    let columns: Vec<_> = (0..field.columns.len()).collect();
    let heading = Heading {
        title: study.title.clone(),
        facts: vec![study.model.clone(), grid.site.to_string(), grid.direction.to_string()],
        lines: vec![study.counted()],
    };
    picture(format, &options, |options| {
        let figure = Figure::of(&heading, field, &columns, options)?;
        Ok((svg(&figure)?, figure.size().into()))
    })
}
