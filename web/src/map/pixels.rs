//! Small pictures: a pixel a cell, which the style makes large.

use shared::figure::colour::Rgb;
use wasm_bindgen::{Clamped, JsCast};
use web_sys::{CanvasRenderingContext2d, HtmlCanvasElement, ImageData};

/// Draws colours row by row, as wide as `width`.
pub fn draw(canvas: &HtmlCanvasElement, width: u32, colours: impl IntoIterator<Item = Rgb>) {
    let bytes: Vec<u8> = colours.into_iter().flat_map(|c| [c.0, c.1, c.2, 255]).collect();
    canvas.set_width(width);
    canvas.set_height(bytes.len() as u32 / 4 / width.max(1));
    let context = canvas.get_context("2d").ok().flatten();
    let context = context.and_then(|c| c.dyn_into::<CanvasRenderingContext2d>().ok());
    let image = ImageData::new_with_u8_clamped_array(Clamped(&bytes), width);
    if let (Some(context), Ok(image)) = (context, image) {
        context.put_image_data(&image, 0.0, 0.0).ok();
    }
}
