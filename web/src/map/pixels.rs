//! Small pictures: a pixel a cell, which the style makes large.

use leptos::prelude::window;
use shared::figure::colour::Rgb;

/// The bytes of a bitmap before its pixels.
const HEAD: usize = 54;

/// The address of a picture that is its own content: colours row by row, as wide as `width`. Of these a
/// page can have a thousand; a canvas each would be a layer of its own in every frame that is drawn.
pub fn address(width: usize, colours: impl IntoIterator<Item = Rgb>) -> String {
    let colours: Vec<_> = colours.into_iter().collect();
    // In a file each letter is a byte.
    let text: String = bitmap(width.max(1), &colours).into_iter().map(char::from).collect();
    format!("data:image/bmp;base64,{}", window().btoa(&text).unwrap_or_default())
}

/// A bitmap, whose rows are filled up to whole words.
fn bitmap(width: usize, colours: &[Rgb]) -> Vec<u8> {
    let n_row = (3 * width).next_multiple_of(4);
    let height = colours.len() / width;
    let mut bytes = b"BM".to_vec();
    let size = (HEAD + n_row * height) as i32;
    // The second part of the head has 40 bytes. A height below 0 has the first row on top. One plane of
    // 24 bits a pixel, nothing of it compressed.
    let head = [size, 0, HEAD as i32, 40, width as i32, -(height as i32), 1 | 24 << 16];
    bytes.extend(head.into_iter().flat_map(i32::to_le_bytes));
    bytes.resize(HEAD, 0);
    for row in colours.chunks_exact(width) {
        bytes.extend(row.iter().flat_map(|c| [c.2, c.1, c.0]));
        bytes.resize(bytes.len() + n_row - 3 * width, 0);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bitmap_has_its_rows_from_the_top_and_filled_up() {
        let colours = [Rgb(1, 2, 3), Rgb(4, 5, 6), Rgb(7, 8, 9), Rgb(10, 11, 12)];
        let bytes = bitmap(2, &colours);
        let number = |at: usize| i32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!((number(2), number(10), number(14)), (bytes.len() as i32, 54, 40));
        assert_eq!((number(18), number(22), number(26)), (2, -2, 24 << 16 | 1));
        assert_eq!(bytes[54..], [3, 2, 1, 6, 5, 4, 0, 0, 9, 8, 7, 12, 11, 10, 0, 0]);
        assert_eq!(bitmap(1, &[]).len(), 54);
    }
}
