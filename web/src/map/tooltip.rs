//! What is said of a cell, and where the tooltip that says it goes.

use leptos::prelude::*;

use crate::map::readout::Readout;

/// The width that a tooltip takes at most, in pixels.
const WIDTH: f64 = 250.0;
/// The height that one takes at least, in pixels: before the first it is not known.
const MIN_HEIGHT: f64 = 190.0;
/// Between it and its cell.
const GAP: f64 = 10.0;
/// Between it and the window's edge.
const MARGIN: f64 = 8.0;

/// The style of a tooltip that is not seen. It still has a size.
pub const HIDDEN: &str = "visibility:hidden;left:0;top:0";

/// What decides where a tooltip goes, in pixels of the window.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The cell: left, top, width and height.
    pub cell: [f64; 4],
    /// From where to where its map is shown.
    pub shown: (f64, f64),
    /// The window's width and height.
    pub window: (f64, f64),
    /// The tooltip's height.
    pub height: f64,
}

/// The style that puts a tooltip at its cell: below it and to the right where there is room, and
/// over it or to the left otherwise. A cell that is scrolled out of sight has none.
pub fn style(place: Place) -> String {
    let Place { cell: [left, top, width, height], shown, window, height: own } = place;
    let (right, bottom) = (left + width, top + height);
    let is_seen =
        bottom > 0.0 && top < window.1 && right > shown.0.max(0.0) && left < shown.1.min(window.0);
    if !is_seen {
        return HIDDEN.to_string();
    }
    let x = if right + GAP + WIDTH + MARGIN <= window.0 {
        right + GAP
    } else if left - GAP - WIDTH >= MARGIN {
        left - GAP - WIDTH
    } else {
        (window.0 - MARGIN - WIDTH).max(MARGIN)
    };
    let (above, below) = (top - GAP, window.1 - bottom - GAP);
    if below >= own.max(MIN_HEIGHT) + MARGIN || below >= above {
        format!("left:{x}px;top:{}px", bottom + GAP)
    } else {
        format!("left:{x}px;bottom:{}px", window.1 - top + GAP)
    }
}

/// What the tooltip and the panel beside the map say of a cell.
pub fn tooltip(readout: Readout) -> AnyView {
    let rows = readout.values.into_iter().map(|(name, value)| {
        view! { <dt>{name}</dt><dd><bdi>{value}</bdi></dd> }
    });
    view! {
        <p class="tip-head">
            <bdi class="tip-token">{readout.name}</bdi>
            {readout.from.map(|token| view! {
                <span class="tip-from">"from "<bdi class="tip-token source">{token}</bdi></span>
            })}
        </p>
        {readout.note.map(|note| view! { <p class="tip-note"><bdi>{note}</bdi></p> })}
        <p class="tip-place">{readout.place.join(" · ")}</p>
        <dl class="tip-values">{rows.collect_view()}</dl>
    }
    .into_any()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tooltip_is_where_there_is_room() {
        let wide = (1280.0, 900.0);
        let phone = (360.0, 640.0);
        // (left and top of a cell of 20 by 10, window, style)
        let cases = [
            ((100.0, 100.0), wide, "left:130px;top:120px"),
            ((1100.0, 100.0), wide, "left:840px;top:120px"),
            ((100.0, 800.0), wide, "left:130px;bottom:110px"),
            // No room on either side: over the map, below or above the cell.
            ((150.0, 100.0), phone, "left:102px;top:120px"),
            ((150.0, 500.0), phone, "left:102px;bottom:150px"),
            // Scrolled away.
            ((100.0, -11.0), wide, HIDDEN),
            ((100.0, 901.0), wide, HIDDEN),
            ((-21.0, 100.0), wide, HIDDEN),
        ];
        for ((left, top), window, expected) in cases {
            let place = Place {
                cell: [left, top, 20.0, 10.0],
                shown: (0.0, window.0),
                window,
                height: 160.0,
            };
            assert_eq!(style(place), expected, "{left}, {top}");
        }
        let place = Place { cell: [20.0; 4], shown: (60.0, 300.0), window: wide, height: 0.0 };
        assert_eq!(style(place), HIDDEN, "scrolled out of its box");
        let high = Place { cell: [20.0; 4], shown: (0.0, 300.0), window: wide, height: 2000.0 };
        assert_eq!(style(high), "left:50px;top:50px", "as high as neither side has room for");
    }
}
