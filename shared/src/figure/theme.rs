//! The colours around the data, and the sizes of what is written there.

use crate::figure::colour::Rgb;
use crate::specification::vocabulary::named;

/// The em of the title, of labels, and of small print, in pixels at scale 1.
pub(super) const TITLE_EM: f64 = 13.0;
pub(super) const EM: f64 = 10.0;
pub(super) const SMALL_EM: f64 = 9.0;

named! {
    /// The ground of a figure and what is written on it. The colours of values are the same in
    /// both, so that figures can be compared.
    Theme, "theme" {
        /// Dark on white, for paper.
        #[default]
        Light = "light",
        /// Light on dark.
        Dark = "dark",
    }
}

/// The colours of a theme. Every one of them but `axis` has a contrast of 4.5 or more to `ground`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Palette {
    pub ground: Rgb,
    pub ink: Rgb,
    /// Small print.
    pub quiet: Rgb,
    /// Labels of columns where source and base read the same token.
    pub same: Rgb,
    /// Axes, frames and ticks.
    pub axis: Rgb,
}

impl Theme {
    pub(super) fn palette(self) -> Palette {
        match self {
            Theme::Light => Palette {
                ground: Rgb::WHITE,
                ink: Rgb(0x1a, 0x1a, 0x1a),
                quiet: Rgb(0x5c, 0x5c, 0x5c),
                same: Rgb(0x76, 0x76, 0x76),
                axis: Rgb(0x44, 0x44, 0x44),
            },
            // The page's dark ground, so that the figure is part of it.
            Theme::Dark => Palette {
                ground: Rgb(0x1a, 0x21, 0x25),
                ink: Rgb(0xe6, 0xea, 0xec),
                quiet: Rgb(0xa3, 0xaf, 0xb5),
                same: Rgb(0x8d, 0x99, 0x9f),
                axis: Rgb(0x7d, 0x89, 0x8f),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        for &theme in Theme::ALL {
            let Palette { ground, ink, quiet, same, axis } = theme.palette();
            let contrast = |colour: Rgb| {
                let (a, b) = (colour.luminance() + 0.05, ground.luminance() + 0.05);
                a.max(b) / a.min(b)
            };
            for (colour, least) in [(ink, 7.0), (quiet, 4.5), (same, 4.5), (axis, 3.0)] {
                assert!(contrast(colour) >= least, "{theme} {colour}: {}", contrast(colour));
            }
        }
    }
}
