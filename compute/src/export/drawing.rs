//! The SVG of a figure in pixels and as PDF: there is one drawing, and what these show is that.

use krilla::geom::Size;
use krilla::page::PageSettings;
use krilla_svg::{SurfaceExt, SvgSettings};
use resvg::tiny_skia::{Color, Pixmap, Transform};
use resvg::usvg::{Options, Tree};

use super::{ExportError, fonts};

/// Points per pixel of a figure at scale 1, of which 100 are an inch.
const POINTS_PER_PIXEL: f32 = 72.0 / 100.0;

fn read(svg: &str) -> Result<Tree, ExportError> {
    let options = Options { fontdb: fonts::database(), ..Options::default() };
    Tree::from_str(&fonts::placed(svg), &options)
        .map_err(|error| ExportError::Drawing(error.to_string()))
}

/// An SVG of `width` times `height` pixels on white, three bytes a pixel, row by row.
///
/// # Errors
/// [`ExportError::Drawing`] of an image that is too large.
pub fn pixels(svg: &str, [width, height]: [u32; 2]) -> Result<Vec<u8>, ExportError> {
    let Some(mut pixels) = Pixmap::new(width, height) else {
        return Err(ExportError::Drawing(format!("{width} x {height} pixels are too many")));
    };
    pixels.fill(Color::WHITE);
    resvg::render(&read(svg)?, Transform::identity(), &mut pixels.as_mut());
    // On an opaque ground every pixel is opaque.
    Ok(pixels.data().chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect())
}

/// An SVG as a PDF of one page, at `scale` times its size on paper. Its text can be selected, and
/// the fonts that it needs are inside.
///
/// # Errors
/// [`ExportError::Drawing`] of what cannot be drawn.
pub fn pdf(svg: &str, scale: f64) -> Result<Vec<u8>, ExportError> {
    let tree = read(svg)?;
    let points = |pixels: f32| pixels * POINTS_PER_PIXEL * scale as f32;
    let size = tree.size();
    let (width, height) = (points(size.width()), points(size.height()));
    let (Some(size), Some(settings)) =
        (Size::from_wh(width, height), PageSettings::from_wh(width, height))
    else {
        return Err(ExportError::Drawing(format!("{width} x {height} points are no page")));
    };
    let mut document = krilla::Document::new();
    let mut page = document.start_page_with(settings);
    let mut surface = page.surface();
    surface.draw_svg(&tree, size, SvgSettings::default());
    surface.finish();
    page.finish();
    document.finish().map_err(|error| ExportError::Drawing(format!("{error:?}")))
}

#[cfg(test)]
mod tests {
    use shared::figure::text::{ADVANCES, width};
    use ttf_parser::Face;

    use super::fonts::FONT;
    use super::*;

    #[test]
    fn the_layouts_widths_are_the_fonts() {
        let face = Face::parse(FONT, 0).unwrap();
        let advance = |c: char| face.glyph_hor_advance(face.glyph_index(c).unwrap()).unwrap();
        for (c, expected) in (' '..='~').zip(ADVANCES) {
            assert_eq!(advance(c), expected, "{c:?}");
        }
        // The others are estimates, but no line is wider than the layout takes it for.
        for text in ["·power", "log P(TRUE) − log P(FALSE)", "↵", "⇥", "∅", "…", "Größe", "Ωμέγα"]
        {
            let exact: u32 = text.chars().map(|c| u32::from(advance(c))).sum();
            let exact = f64::from(exact) * 10.0 / f64::from(face.units_per_em());
            assert!(exact <= width(text, 10.0) + 0.1, "{text}: {exact}");
        }
    }

    /// How many pixels of a picture are not white.
    fn inked(text: &str) -> usize {
        let svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"60\" height=\"30\">\
             <text x=\"5\" y=\"22\" font-family=\"DejaVu Sans\" font-size=\"20\">{text}</text></svg>"
        );
        let pixels = pixels(&svg, [60, 30]).unwrap();
        pixels.chunks_exact(3).filter(|pixel| *pixel != [255; 3]).count()
    }

    #[test]
    fn letters_are_joined_and_run_as_their_script_does() {
        // Arabic letters that are joined take another room than the same ones apart.
        assert_ne!(inked("سلام"), inked("س ل ا م"));
        assert!(inked("سلام") > 50 && inked("שלום") > 50);
    }

    #[test]
    fn texts_of_every_direction_are_shifted_whole() {
        let text = |shift: &str| {
            let svg = format!(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"120\" height=\"40\">\
                 <text x=\"5\" {shift} text-anchor=\"start\" font-family=\"DejaVu Sans\" \
                 font-size=\"20\">سلام / a</text></svg>"
            );
            pixels(&svg, [120, 40]).unwrap()
        };
        assert!(text("y=\"10\" dy=\"0.76em\"") == text("y=\"25.2\""));
    }

    #[test]
    fn a_pdf_has_the_size_on_paper() {
        let svg = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"200\" height=\"100\">\
                   <text y=\"20\" font-family=\"DejaVu Sans\">Paris</text></svg>";
        for (scale, width, height) in [(1.0, "144", "72"), (0.5, "72", "36")] {
            let bytes = pdf(svg, scale).unwrap();
            assert!(bytes.starts_with(b"%PDF-"));
            let text = String::from_utf8_lossy(&bytes);
            assert!(text.contains(&format!("/MediaBox[0 0 {width} {height}]")), "{text}");
        }
    }
}
