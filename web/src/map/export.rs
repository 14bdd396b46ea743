//! Downloads: the figure as PNG and SVG, the numbers as CSV and JSON.

use plotters::backend::SVGBackend;
use plotters::drawing::IntoDrawingArea;
use shared::document::Document;
use shared::field::cells::csv_of;
use shared::figure::{Figure, FigureOptions, TextUnit};
use wasm_bindgen::prelude::*;

use crate::map::plot;
use crate::platform::dom;

/// Device pixels per pixel of a PNG, enough for print.
const PNG_SCALE: f64 = 2.0;

/// A kind of file.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Png,
    Svg,
    Csv,
    Json,
}

impl Kind {
    /// All of them, with their names.
    pub const ALL: [(Kind, &str); 4] =
        [(Kind::Png, "PNG"), (Kind::Svg, "SVG"), (Kind::Csv, "CSV"), (Kind::Json, "JSON")];
}

/// Hands the reader a file of this kind.
///
/// # Errors
/// Why there is no such file.
pub fn save(document: &Document, options: &FigureOptions, kind: Kind) -> Result<(), String> {
    let id: String = document.id.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
    // A document holds all grids; everything else is of the one that is shown.
    let id = match (kind, options.grid.grid) {
        (Kind::Json, _) | (_, None) => id,
        (_, Some(name)) => format!("{id}-{name}"),
    };
    let figure = |scale| {
        let options = FigureOptions { scale: Some(scale), ..options.clone() };
        Figure::new(document, &options).map_err(|error| error.to_string())
    };
    match kind {
        Kind::Csv => {
            let csv = csv_of(document, options.grid.grid).map_err(|error| error.to_string())?;
            dom::download(&format!("{id}.csv"), "text/csv", csv.as_bytes());
        }
        Kind::Json => {
            dom::download(&format!("{id}.json"), "application/json", document.to_json().as_bytes())
        }
        Kind::Svg => {
            let svg = svg(&figure(1.0)?)?;
            dom::download(&format!("{id}.svg"), "image/svg+xml", svg.as_bytes());
        }
        Kind::Png => {
            let canvas = plot::offscreen().ok_or("the browser gives no canvas to draw on")?;
            plot::draw(&canvas, &figure(PNG_SCALE)?)?;
            let name = format!("{id}.png");
            let done = Closure::once_into_js(move |blob: Option<web_sys::Blob>| {
                if let Some(blob) = blob {
                    dom::download_blob(&name, &blob);
                }
            });
            canvas
                .to_blob(done.unchecked_ref())
                .map_err(|_| "the browser could not write a PNG".to_string())?;
        }
    }
    Ok(())
}

fn svg(figure: &Figure) -> Result<String, String> {
    let mut text = String::new();
    let backend = SVGBackend::with_string(&mut text, figure.size());
    figure.draw(&backend.into_drawing_area(), TextUnit::LineHeight).map_err(|e| e.to_string())?;
    Ok(text)
}
