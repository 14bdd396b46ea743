//! A result as a file: the document itself, its cells as CSV, or its figure.

mod drawing;
pub mod fonts;
pub mod panels;
mod parquet;
pub mod study;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use plotters::backend::SVGBackend;
use plotters::drawing::IntoDrawingArea;
use shared::document::Document;
use shared::field::cells::{self, TableError};
use shared::figure::{Figure, FigureError, FigureOptions, TextUnit};
pub use shared::specification::vocabulary::Format;

/// The scale of a PNG where none is asked for: fit for print at the size of the SVG.
pub const PNG_SCALE: f64 = 2.0;

/// Pixels per metre at scale 1: 100 per inch, so [`PNG_SCALE`] makes 200.
const PIXELS_PER_METRE: f64 = 100.0 / 0.0254;

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The document does not hold what the figure should show.
    #[error(transparent)]
    Figure(#[from] FigureError),
    /// A table that would be too large.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The Parquet could not be written.
    #[error("the Parquet could not be written: {0}")]
    Parquet(#[from] ::parquet::errors::ParquetError),
    /// The pixels could not be encoded.
    #[error("the PNG could not be encoded: {0}")]
    Png(#[from] png::EncodingError),
    /// The figure could not be drawn.
    #[error("the figure could not be drawn: {0}")]
    Drawing(String),
    /// The file could not be written.
    #[error("the file could not be written: {error}; {advice} ({})", path.display())]
    Write {
        /// The file that was to be.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
        /// What to do.
        advice: &'static str,
    },
}

/// The bytes of `document` as a file of the given format. `options` only matter to figures.
///
/// # Errors
/// [`ExportError::Figure`] where the document lacks what `options` ask for, [`ExportError::Table`] of
/// a table that would be too large.
pub fn render(
    document: &Document,
    format: Format,
    options: &FigureOptions,
) -> Result<Vec<u8>, ExportError> {
    match format {
        Format::Json => Ok(document.to_json().into_bytes()),
        Format::Csv => Ok(cells::csv(document)?.into_bytes()),
        Format::Parquet => parquet::written(|each| cells::rows(document, each)),
        Format::Png | Format::Svg | Format::Pdf => picture(format, options, |options| {
            let figure = Figure::new(document, options)?;
            Ok((svg(&figure)?, figure.size().into()))
        }),
    }
}

/// A file of vectors or pixels of the SVG, with its width and height, that `drawn` makes at the scale
/// that the format wants.
///
/// # Errors
/// What `drawn` or the encoder says.
fn picture(
    format: Format,
    options: &FigureOptions,
    drawn: impl FnOnce(&FigureOptions) -> Result<(String, [u32; 2]), ExportError>,
) -> Result<Vec<u8>, ExportError> {
    // Paper has no pixels: the scale is that of the page.
    let scale = match format {
        Format::Pdf => None,
        Format::Png => options.scale.or(Some(PNG_SCALE)),
        _ => options.scale,
    };
    let scaled = FigureOptions { scale, ..options.clone() };
    let (svg, size) = drawn(&scaled)?;
    match format {
        Format::Png => png(&svg, size, scaled.scale()),
        Format::Pdf => drawing::pdf(&svg, options.scale()),
        _ => Ok(svg.into_bytes()),
    }
}

fn svg(figure: &Figure) -> Result<String, ExportError> {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let root = SVGBackend::with_string(&mut text, figure.size()).into_drawing_area();
    figure.draw(&root, TextUnit::LineHeight)?;
    drop(root);
    Ok(text)
}

/// An SVG of so many pixels as PNG.
fn png(svg: &str, [width, height]: [u32; 2], scale: f64) -> Result<Vec<u8>, ExportError> {
    let pixels = drawing::pixels(svg, [width, height])?;
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let density = (PIXELS_PER_METRE * scale).round() as u32;
    encoder.set_pixel_dims(Some(png::PixelDimensions {
        xppu: density,
        yppu: density,
        unit: png::Unit::Meter,
    }));
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&pixels)?;
    writer.finish()?;
    Ok(bytes)
}

/// Writes a file so that it is there whole or not at all: into a temporary file of the same
/// folder, which then takes the name. What was there before is replaced.
///
/// # Errors
/// [`ExportError::Write`], which says what to do.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), ExportError> {
    let write = || -> io::Result<()> {
        // A bare file name has the parent "".
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
        let mut builder = tempfile::Builder::new();
        // The default is readable by the owner alone; this leaves it to the umask.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let mut file = builder.tempfile_in(folder.unwrap_or(Path::new(".")))?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|error| ExportError::Write {
        path: path.to_path_buf(),
        advice: match error.kind() {
            io::ErrorKind::NotFound => "create its folder, or choose another one",
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                "allow writing to its folder, or choose another one"
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "make room, or choose a folder on another disk"
            }
            io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory => {
                "a folder and a file have the same name: choose another one"
            }
            _ => "check that its folder can be written to, or choose another one",
        },
        error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::figure::Origin;
    use shared::figure::colour::{Preset, Rgb, colour_at};

    /// Three layers and two columns, from 0 to 5, one of them missing.
    fn document() -> Document {
        let json = br#"{"model": "tiny", "entity": "the council", "source_prompt": "",
            "base_prompt": "", "source_sentence": "a", "base_sentence": "b", "sentence_start": 3,
            "token_labels": [" a", " <b>"], "num_layers": 3,
            "patching_results": [[0, 1], [2, null], [4, 5]]}"#;
        Document::read(json).unwrap().remove(0)
    }

    #[test]
    fn json_and_csv_are_the_document() {
        let document = document();
        let render = |format| {
            String::from_utf8(render(&document, format, &FigureOptions::default()).unwrap())
                .unwrap()
        };
        assert_eq!(render(Format::Json), document.to_json());
        assert_eq!(render(Format::Csv), cells::csv(&document).unwrap());
        let svg = render(Format::Svg);
        assert!(svg.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg "), "{svg}");
        assert!(svg.ends_with("</svg>\n"), "{svg}");
        assert!(svg.contains("\n·&lt;b&gt;\n"), "{svg}");
    }

    #[test]
    fn a_png_has_the_figures_size_colours_and_density() {
        let document = document();
        let plain = FigureOptions::default();
        let cases = [
            (plain.clone(), 2.0, 7874),
            (
                FigureOptions { scale: Some(1.0), origin: Origin::Bottom, ..plain.clone() },
                1.0,
                3937,
            ),
            (FigureOptions { scale: Some(3.3), transpose: true, ..plain.clone() }, 3.3, 12992),
            (FigureOptions { preset: Preset::Viridis, ..plain.clone() }, 2.0, 7874),
        ];
        for (options, scale, density) in cases {
            let bytes = render(&document, Format::Png, &options).unwrap();
            let mut reader = png::Decoder::new(io::Cursor::new(bytes)).read_info().unwrap();
            let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
            reader.next_frame(&mut pixels).unwrap();
            let info = reader.info();

            let options = FigureOptions { scale: Some(scale), ..options.clone() };
            let figure = Figure::new(&document, &options).unwrap();
            assert_eq!((info.width, info.height), figure.size(), "{options:?}");
            assert_eq!(info.pixel_dims.unwrap().xppu, density, "{options:?}");
            let at = |x: i32, y: i32| {
                let pixel = &pixels[3 * (y as usize * info.width as usize + x as usize)..][..3];
                Rgb(pixel[0], pixel[1], pixel[2])
            };
            for (layer, row) in document.patching_results.rows().enumerate() {
                for (column, value) in row.iter().enumerate() {
                    let Some(value) = value else { continue };
                    let cell = figure.layout().cell(layer, column).unwrap();
                    let expected = colour_at(options.preset, value / 5.0);
                    for (x, y) in [
                        ((cell.left + cell.right) / 2, (cell.top + cell.bottom) / 2),
                        (cell.left, cell.top),
                        (cell.right - 1, cell.bottom - 1),
                    ] {
                        assert_eq!(at(x, y), expected, "{layer}, {column} of {options:?}");
                    }
                }
            }
            // The title is written at the top, between the margins and nowhere else.
            let inked = |rows: std::ops::Range<f64>| {
                let rows = (rows.start * scale) as i32..(rows.end * scale) as i32;
                rows.flat_map(|y| (0..info.width as i32).map(move |x| (x, y)))
                    .filter(|&(x, y)| at(x, y) != Rgb::WHITE)
                    .count() as f64
            };
            assert_eq!(inked(0.0..13.0), 0.0, "{options:?}");
            let title = inked(14.0..28.0) / (scale * scale);
            assert!((150.0..900.0).contains(&title), "{title} square pixels of {options:?}");
        }
    }

    #[test]
    fn a_figure_of_what_is_missing_says_so() {
        let options = FigureOptions {
            metric: shared::field::metric::Metric::PTrue,
            ..FigureOptions::default()
        };
        let error = render(&document(), Format::Svg, &options).unwrap_err().to_string();
        assert!(error.starts_with("the result has no probabilities per cell"), "{error}");
    }

    #[test]
    fn a_file_is_written_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        for text in ["first", "second"] {
            write_atomically(&path, text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        std::fs::create_dir(folder.path().join("b")).unwrap();
        for (name, expected) in [
            ("none/a.json", "create its folder, or choose another one"),
            ("b", "a folder and a file have the same name: choose another one"),
            ("a.json/c", "a folder and a file have the same name: choose another one"),
        ] {
            let path = folder.path().join(name);
            let error = write_atomically(&path, b"x").unwrap_err().to_string();
            assert!(error.starts_with("the file could not be written: "), "{error}");
            assert!(error.ends_with(&format!("; {expected} ({})", path.display())), "{error}");
        }
        let mut left: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["a.json", "b"]);
        #[cfg(unix)]
        {
            // As open as the umask lets files be, not private like a temporary file.
            let plain = folder.path().join("plain");
            std::fs::write(&plain, "x").unwrap();
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions();
            assert_eq!(mode(&path), mode(&plain));
        }
    }
}
