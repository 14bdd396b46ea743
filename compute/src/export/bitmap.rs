//! A plotters backend that draws into RGB pixels, with the font shipped in `static/fonts`.
//!
//! plotters has one of its own, but it sets glyphs at whole pixels without their side bearings,
//! and counts a rectangle's right and bottom edge in, unlike its SVG and canvas backends.

use std::convert::Infallible;
use std::sync::LazyLock;

use ab_glyph::{Font, FontRef, Glyph, PxScale, ScaleFont, point};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind,
    FontTransform, rasterizer,
    text_anchor::{HPos, VPos},
};

/// DejaVu Sans, the face of matplotlib's figures and the first of
/// [`shared::figure::text::FONT_FAMILY`].
static FONT: LazyLock<FontRef<'static>> = LazyLock::new(|| {
    FontRef::try_from_slice(include_bytes!("../../../static/fonts/DejaVuSans.ttf"))
        .expect("the font shipped is a font")
});

/// Pixels to draw on, three bytes each, row by row.
pub(super) struct Bitmap<'a> {
    pixels: &'a mut [u8],
    size: (u32, u32),
}

impl<'a> Bitmap<'a> {
    /// Draws on `pixels`, which are `3 * width * height` bytes.
    pub fn new(pixels: &'a mut [u8], size: (u32, u32)) -> Self {
        assert_eq!(pixels.len(), 3 * size.0 as usize * size.1 as usize);
        Self { pixels, size }
    }

    /// Lays `colour` over a pixel; outside of the image there is nothing to do.
    fn blend(&mut self, (x, y): BackendCoord, colour: BackendColor) {
        let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else { return };
        let (width, height) = (self.size.0 as usize, self.size.1 as usize);
        if x >= width || y >= height {
            return;
        }
        let pixel = &mut self.pixels[3 * (y * width + x)..][..3];
        let (r, g, b) = colour.rgb;
        for (below, above) in pixel.iter_mut().zip([r, g, b]) {
            let (from, to) = (f64::from(*below), f64::from(above));
            *below = (from + (to - from) * colour.alpha.clamp(0.0, 1.0)).round() as u8;
        }
    }
}

type Drawn = Result<(), DrawingErrorKind<Infallible>>;

impl DrawingBackend for Bitmap<'_> {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        self.size
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        Ok(())
    }

    fn draw_pixel(&mut self, at: BackendCoord, colour: BackendColor) -> Drawn {
        self.blend(at, colour);
        Ok(())
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        (left, top): BackendCoord,
        (right, bottom): BackendCoord,
        style: &S,
        fill: bool,
    ) -> Drawn {
        if !fill {
            return rasterizer::draw_rect(self, (left, top), (right, bottom), style, fill);
        }
        let (width, height) = (self.size.0 as i32, self.size.1 as i32);
        for y in top.max(0)..bottom.min(height) {
            for x in left.max(0)..right.min(width) {
                self.blend((x, y), style.color());
            }
        }
        Ok(())
    }

    fn draw_text<S: BackendTextStyle>(
        &mut self,
        text: &str,
        style: &S,
        (x, y): BackendCoord,
    ) -> Drawn {
        let em = style.size() as f32;
        let (glyphs, width) = set(text, em);
        let shift = match style.anchor().h_pos {
            HPos::Left => 0.0,
            HPos::Center => -width / 2.0,
            HPos::Right => -width,
        };
        // As in the SVG backend.
        let baseline = match style.anchor().v_pos {
            VPos::Top => 0.76 * em,
            VPos::Center => 0.27 * em,
            VPos::Bottom => -0.27 * em,
        };
        let transform = style.transform();
        for mut glyph in glyphs {
            glyph.position.x += shift;
            glyph.position.y = baseline.round();
            let Some(outline) = FONT.outline_glyph(glyph) else { continue };
            let corner = outline.px_bounds().min;
            outline.draw(|i, j, coverage| {
                let (i, j) = (corner.x as i32 + i as i32, corner.y as i32 + j as i32);
                // The pixel from i to i + 1 and j to j + 1, turned about the anchor.
                let (i, j) = match transform {
                    FontTransform::None => (i, j),
                    FontTransform::Rotate90 => (-j - 1, i),
                    FontTransform::Rotate180 => (-i - 1, -j - 1),
                    FontTransform::Rotate270 => (j, -i - 1),
                };
                self.blend((x + i, y + j), style.color().mix(f64::from(coverage)));
            });
        }
        Ok(())
    }
}

/// The glyphs of a line from 0 on the baseline, and the width, with an em of `em` pixels.
fn set(text: &str, em: f32) -> (Vec<Glyph>, f32) {
    let units_per_em = FONT.units_per_em().unwrap_or(2048.0);
    let scale = PxScale::from(em * FONT.height_unscaled() / units_per_em);
    let font = FONT.as_scaled(scale);
    let (mut glyphs, mut at, mut previous) = (Vec::new(), 0.0, None);
    for c in text.chars() {
        let id = font.glyph_id(c);
        at += previous.map_or(0.0, |previous| font.kern(previous, id));
        glyphs.push(id.with_scale_and_position(scale, point(at, 0.0)));
        at += font.h_advance(id);
        previous = Some(id);
    }
    (glyphs, at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::figure::text::{ADVANCES, width};

    #[test]
    fn the_layouts_widths_are_the_fonts() {
        for (c, advance) in (' '..='~').zip(ADVANCES) {
            assert_eq!(FONT.h_advance_unscaled(FONT.glyph_id(c)), f32::from(advance), "{c:?}");
        }
        // The others are estimates, but no line is wider than the layout takes it for.
        for text in ["·power", "log P(TRUE) − log P(FALSE)", "↵", "⇥", "∅", "…", "Größe", "Ωμέγα"]
        {
            let (_, exact) = set(text, 10.0);
            assert!(f64::from(exact) <= width(text, 10.0) + 0.1, "{text}: {exact}");
        }
    }
}
