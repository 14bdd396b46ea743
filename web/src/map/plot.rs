//! Draws a figure on a canvas.

use leptos::prelude::document;
use plotters::drawing::IntoDrawingArea;
use plotters_canvas::CanvasBackend;
use shared::figure::{Figure, FigureOptions, Heading, PixelRect, TextUnit};
use wasm_bindgen::JsCast;
use web_sys::HtmlCanvasElement;

use crate::map::picture::Picture;

/// A figure fit for a screen. What its heading would say the page says already.
#[derive(Debug)]
pub struct Plot {
    /// The figure, in device pixels.
    pub figure: Figure,
    /// Device pixels in a pixel of the page.
    pub ratio: f64,
}

impl Plot {
    /// The figure of a picture, as wide as `width` pixels of the page where that leaves it between its
    /// usual size and half as large again.
    ///
    /// # Errors
    /// Why there is no such figure, for the reader.
    pub fn new(
        picture: &Picture,
        options: &FigureOptions,
        width: f64,
        ratio: f64,
    ) -> Result<Self, String> {
        let at = |scale| {
            let options = FigureOptions { scale: Some(scale), ..options.clone() };
            let Picture { field, columns } = picture;
            Figure::of(&Heading::default(), field.clone(), columns, &options)
                .map_err(|error| error.to_string())
        };
        let usual = f64::from(at(1.0)?.size().0);
        let zoom = (width / usual).clamp(1.0, 1.5);
        Ok(Self { figure: at(zoom * ratio)?, ratio })
    }

    /// Width and height in pixels of the page.
    pub fn size(&self) -> (f64, f64) {
        let (width, height) = self.figure.size();
        (f64::from(width) / self.ratio, f64::from(height) / self.ratio)
    }

    /// The cell at a point of the canvas, in pixels of the page.
    pub fn cell_at(&self, x: f64, y: f64) -> Option<(usize, usize)> {
        self.figure.layout().cell_at(x * self.ratio, y * self.ratio)
    }

    /// Left, top, width and height of a rectangle in pixels of the page, as the canvas is shown.
    pub fn on_page(&self, rect: PixelRect) -> [f64; 4] {
        let px = |n: i32| f64::from(n) / self.ratio;
        [px(rect.left), px(rect.top), px(rect.right - rect.left), px(rect.bottom - rect.top)]
    }
}

/// Draws `figure` and makes the canvas as large as it is.
///
/// # Errors
/// Why it could not be drawn.
pub fn draw(canvas: &HtmlCanvasElement, figure: &Figure) -> Result<(), String> {
    let (width, height) = figure.size();
    canvas.set_width(width);
    canvas.set_height(height);
    let backend = CanvasBackend::with_canvas_object(canvas.clone())
        .ok_or("the browser gives no canvas to draw on")?;
    figure.draw(&backend.into_drawing_area(), TextUnit::Em).map_err(|error| error.to_string())
}

/// A canvas that is not on the page.
pub fn offscreen() -> Option<HtmlCanvasElement> {
    document().create_element("canvas").ok()?.dyn_into().ok()
}
