//! Colours of a heatmap: presets, the range a value is placed in, and what is readable on top.

use std::fmt;

use crate::specification::vocabulary::named;
use crate::statistics;

/// A colour in sRGB. Shown as `#rrggbb`, which HTML, SVG and a canvas read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rgb(pub u8, pub u8, pub u8);

/// The ground of a cell without a value; no preset comes near it, and the figure hatches it too.
pub const MISSING: Rgb = Rgb(0xec, 0xec, 0xec);

/// The hatching over [`MISSING`].
pub const MISSING_HATCH: Rgb = Rgb(0x9e, 0x9e, 0x9e);

impl Rgb {
    /// White.
    pub const WHITE: Rgb = Rgb(255, 255, 255);
    /// Black.
    pub const BLACK: Rgb = Rgb(0, 0, 0);

    /// The relative luminance of WCAG 2: 0 for black to 1 for white.
    pub fn luminance(self) -> f32 {
        let linear = |channel: u8| {
            let c = f32::from(channel) / 255.0;
            if c <= 0.040_45 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * linear(self.0) + 0.7152 * linear(self.1) + 0.0722 * linear(self.2)
    }

    /// Black or white, whichever contrasts more with this colour as the background.
    pub fn ink(self) -> Rgb {
        // Equal contrast, (1 + 0.05) / (l + 0.05) = (l + 0.05) / 0.05, is at l = 0.179.
        if self.luminance() > 0.179 { Rgb::BLACK } else { Rgb::WHITE }
    }

    fn from_hex(hex: u32) -> Rgb {
        let [_, r, g, b] = hex.to_be_bytes();
        Rgb(r, g, b)
    }
}

impl fmt::Display for Rgb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{:02x}{:02x}{:02x}", self.0, self.1, self.2)
    }
}

named! {
    /// A colour scale, named after the figure it is known from or the published scale it is.
    /// `notebook`, `blues`, `rdbu`, `viridis` and the `rome` ones stay readable with the common
    /// colour vision deficiencies: all but `rdbu` vary in lightness alone or foremost, and `rdbu`
    /// contrasts red with blue, never with green.
    Preset, "colour preset" {
        /// White to #156082: the notebook's.
        #[default]
        Notebook = "notebook",
        /// ColorBrewer's Blues: *The Geometry of Truth*.
        Blues = "blues",
        /// ColorBrewer's RdBu, diverging, low is red: TransformerLens.
        RdBu = "rdbu",
        /// ColorBrewer's Purples: ROME's residual stream.
        RomePurple = "rome-purple",
        /// ColorBrewer's Greens: ROME's MLP.
        RomeGreen = "rome-green",
        /// ColorBrewer's Reds: ROME's attention.
        RomeRed = "rome-red",
        /// Matplotlib's viridis, even in lightness and safe for colour-blind readers.
        Viridis = "viridis",
    }
}

impl Preset {
    /// Whether the scale has a neutral middle, to be laid on the base baseline.
    pub fn is_diverging(self) -> bool {
        self == Preset::RdBu
    }

    /// The anchors as 0xRRGGBB, evenly spaced from 0 to 1.
    fn anchors(self) -> &'static [u32] {
        match self {
            Preset::Notebook => &[0xffffff, 0x156082],
            Preset::Blues => &[
                0xf7fbff, 0xdeebf7, 0xc6dbef, 0x9ecae1, 0x6baed6, 0x4292c6, 0x2171b5, 0x08519c,
                0x08306b,
            ],
            Preset::RdBu => &[
                0x67001f, 0xb2182b, 0xd6604d, 0xf4a582, 0xfddbc7, 0xf7f7f7, 0xd1e5f0, 0x92c5de,
                0x4393c3, 0x2166ac, 0x053061,
            ],
            Preset::RomePurple => &[
                0xfcfbfd, 0xefedf5, 0xdadaeb, 0xbcbddc, 0x9e9ac8, 0x807dba, 0x6a51a3, 0x54278f,
                0x3f007d,
            ],
            Preset::RomeGreen => &[
                0xf7fcf5, 0xe5f5e0, 0xc7e9c0, 0xa1d99b, 0x74c476, 0x41ab5d, 0x238b45, 0x006d2c,
                0x00441b,
            ],
            Preset::RomeRed => &[
                0xfff5f0, 0xfee0d2, 0xfcbba1, 0xfc9272, 0xfb6a4a, 0xef3b2c, 0xcb181d, 0xa50f15,
                0x67000d,
            ],
            Preset::Viridis => &[
                0x440154, 0x472d7b, 0x3b528b, 0x2c728e, 0x21918c, 0x28ae80, 0x5ec962, 0xaddc30,
                0xfde725,
            ],
        }
    }
}

/// The colour at `t` of a preset, 0 to 1; what lies outside takes the end's colour, and NaN that
/// of 0.
pub fn colour_at(preset: Preset, t: f32) -> Rgb {
    let anchors = preset.anchors();
    let t = if t.is_nan() { 0.0 } else { t.clamp(0.0, 1.0) };
    let at = t * (anchors.len() - 1) as f32;
    let low = (at as usize).min(anchors.len() - 2);
    let (a, b) = (Rgb::from_hex(anchors[low]), Rgb::from_hex(anchors[low + 1]));
    let mix = |a: u8, b: u8| {
        (f32::from(a) + (at - low as f32) * (f32::from(b) - f32::from(a))).round() as u8
    };
    Rgb(mix(a.0, b.0), mix(a.1, b.1), mix(a.2, b.2))
}

/// How a figure gets its colour range.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Range {
    /// From the smallest to the largest value; for a diverging preset symmetric about the base
    /// baseline.
    #[default]
    Auto,
    /// From the first to the second number, in the metric's unit, e.g. to compare figures.
    Set(f32, f32),
    /// This far to both sides of the base baseline: figures of runs with different baselines then
    /// show the same distance from them in the same colour.
    Around(f32),
}

/// A range that does not go up.
#[derive(Debug, thiserror::Error)]
#[error("the colour range goes from {lo} to {hi}: expected two finite numbers, the smaller first")]
pub struct BadRange {
    lo: f64,
    hi: f64,
}

/// A preset laid over a range of values. A diverging preset keeps its middle on the base baseline,
/// wherever the range ends: of its two halves the range then shows as much as it reaches into, so
/// that the same distance to either side is the same strength of colour.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ColourScale {
    /// The colours.
    pub preset: Preset,
    /// The lowest value of the range; finite.
    pub lo: f64,
    /// The highest value of the range; finite and above [`Self::lo`].
    pub hi: f64,
    /// The values of the preset's first and last colour, at or beyond the ends of the range.
    first: f64,
    last: f64,
    /// Whether the values are ranks: the lowest has the last colour, and it is their logarithm that
    /// is laid along the scale.
    is_rank: bool,
}

impl ColourScale {
    /// The scale of `range` over `values`; `centre` is where a diverging preset has its middle.
    /// `None` where there is no value to take a range from.
    ///
    /// # Errors
    /// [`BadRange`] where the range set by the user does not go up.
    pub fn new(
        preset: Preset,
        range: Range,
        values: impl IntoIterator<Item = Option<f32>>,
        centre: f32,
    ) -> Result<Option<Self>, BadRange> {
        let centre = f64::from(centre);
        let (lo, hi) = match range {
            Range::Set(lo, hi) => (lo.into(), hi.into()),
            Range::Around(half) => {
                let middle = if centre.is_finite() { centre } else { 0.0 };
                (middle - f64::from(half), middle + f64::from(half))
            }
            Range::Auto => {
                let finite = values.into_iter().map(|v| v.filter(|v| v.is_finite()));
                let Some((lo, hi)) = statistics::range(finite) else { return Ok(None) };
                Self::auto(preset, lo.into(), hi.into(), centre)
            }
        };
        if !(lo < hi && (hi - lo).is_finite()) {
            return Err(BadRange { lo, hi });
        }
        let (first, last) = if preset.is_diverging() && centre.is_finite() {
            let half = (hi - centre).abs().max((centre - lo).abs());
            (centre - half, centre + half)
        } else {
            (lo, hi)
        };
        Ok(Some(Self { preset, lo, hi, first, last, is_rank: false }))
    }

    /// The scale of `range` over ranks, of which 1 is the best and gets the last colour. It is
    /// logarithmic: from the first place to the tenth is as far as from the 1,000th to the 10,000th.
    ///
    /// # Errors
    /// [`BadRange`] where the range set by the user does not go up.
    pub fn of_ranks(
        preset: Preset,
        range: Range,
        ranks: impl IntoIterator<Item = Option<f32>>,
    ) -> Result<Option<Self>, BadRange> {
        let scale = Self::new(preset, range, ranks, f32::NAN)?;
        // A range that the user sets may go down to where there is no logarithm.
        Ok(scale.map(|scale| Self { is_rank: scale.lo > 0.0, ..scale }))
    }

    fn auto(preset: Preset, lo: f64, hi: f64, centre: f64) -> (f64, f64) {
        let is_centred = preset.is_diverging() && centre.is_finite();
        let (middle, half) = if is_centred {
            (centre, (hi - centre).abs().max((lo - centre).abs()))
        } else {
            ((lo + hi) / 2.0, (hi - lo) / 2.0)
        };
        // A range below the resolution of the values has no ticks to write and no colours to
        // tell apart: all values take the middle colour.
        let smallest = middle.abs().max(f64::from(f32::MIN_POSITIVE)) * f64::from(f32::EPSILON);
        if half > smallest {
            return if is_centred { (middle - half, middle + half) } else { (lo, hi) };
        }
        let half = if middle == 0.0 { 0.5 } else { 0.1 * middle.abs() };
        (middle - half, middle + half)
    }

    /// Whether it is a scale of ranks.
    pub fn is_rank(&self) -> bool {
        self.is_rank
    }

    /// Where `value` lies along the colour bar, 0 at its lower end to 1. Values beyond the range lie at
    /// its end.
    pub fn part(&self, value: f64) -> f64 {
        let value = value.clamp(self.lo, self.hi);
        match self.is_rank {
            true => (self.hi / value).ln() / (self.hi / self.lo).ln(),
            false => (value - self.lo) / (self.hi - self.lo),
        }
    }

    /// The value at a place along the colour bar, 0 to 1.
    pub fn at_part(&self, part: f64) -> f64 {
        match self.is_rank {
            true => self.hi * (self.lo / self.hi).powf(part),
            false => self.lo + part * (self.hi - self.lo),
        }
    }

    /// Where `value` lies between the preset's first colour, 0, and its last, 1. Values beyond the
    /// range lie at its end.
    pub fn fraction(&self, value: f64) -> f32 {
        if self.is_rank {
            return self.part(value) as f32;
        }
        ((value.clamp(self.lo, self.hi) - self.first) / (self.last - self.first)) as f32
    }

    /// The colour of a cell; [`MISSING`] without a finite value. Values beyond the range take the
    /// colour of its end.
    pub fn colour(&self, value: Option<f32>) -> Rgb {
        match value {
            Some(value) if value.is_finite() => colour_at(self.preset, self.fraction(value.into())),
            _ => MISSING,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_have_their_published_ends_and_middles() {
        let cases = [
            (Preset::Notebook, 0.0, "#ffffff"),
            (Preset::Notebook, 0.5, "#8ab0c1"),
            (Preset::Notebook, 1.0, "#156082"),
            (Preset::Notebook, 1.7, "#156082"),
            (Preset::Notebook, -3.0, "#ffffff"),
            (Preset::Notebook, f32::NAN, "#ffffff"),
            (Preset::Blues, 0.5, "#6baed6"),
            (Preset::RdBu, 0.0, "#67001f"),
            (Preset::RdBu, 0.5, "#f7f7f7"),
            (Preset::RdBu, 1.0, "#053061"),
            (Preset::RomePurple, 1.0, "#3f007d"),
            (Preset::RomeGreen, 1.0, "#00441b"),
            (Preset::RomeRed, 1.0, "#67000d"),
            (Preset::Viridis, 0.5, "#21918c"),
            (Preset::Viridis, 0.0625, "#461768"),
        ];
        for (preset, t, expected) in cases {
            assert_eq!(colour_at(preset, t).to_string(), expected, "{preset} at {t}");
        }
    }

    #[test]
    fn a_range_comes_from_the_values_the_baseline_or_the_user() {
        const INF: f32 = f32::INFINITY;
        type Case<'a> = (Preset, Range, &'a [f32], f32, Option<(f64, f64)>);
        let cases: &[Case] = &[
            (Preset::Notebook, Range::Auto, &[-1.0, 3.0, 2.0], 0.0, Some((-1.0, 3.0))),
            (Preset::Notebook, Range::Auto, &[-1.0, INF, 2.0, f32::NAN], 0.0, Some((-1.0, 2.0))),
            (Preset::Notebook, Range::Auto, &[], 0.0, None),
            (Preset::Notebook, Range::Auto, &[0.0, 0.0], 0.0, Some((-0.5, 0.5))),
            (Preset::Notebook, Range::Auto, &[-10.0], 0.0, Some((-11.0, -9.0))),
            (Preset::Notebook, Range::Set(0.0, 1.0), &[5.0], 0.0, Some((0.0, 1.0))),
            (Preset::Notebook, Range::Set(0.0, 1.0), &[], 0.0, Some((0.0, 1.0))),
            (Preset::RdBu, Range::Auto, &[-1.0, 3.0], 0.5, Some((-2.0, 3.0))),
            (Preset::RdBu, Range::Auto, &[2.0, 3.0], 0.5, Some((-2.0, 3.0))),
            (Preset::RdBu, Range::Auto, &[10.0], 10.0, Some((9.0, 11.0))),
            (Preset::RdBu, Range::Auto, &[-1.0, 3.0], f32::NAN, Some((-1.0, 3.0))),
            (Preset::RdBu, Range::Set(-1.0, 3.0), &[], 9.0, Some((-1.0, 3.0))),
            (Preset::RdBu, Range::Around(2.0), &[], 0.5, Some((-1.5, 2.5))),
            (Preset::RdBu, Range::Around(2.0), &[], f32::NAN, Some((-2.0, 2.0))),
        ];
        for &(preset, range, values, centre, expected) in cases {
            let scale =
                ColourScale::new(preset, range, values.iter().copied().map(Some), centre).unwrap();
            assert_eq!(scale.map(|s| (s.lo, s.hi)), expected, "{preset} {range:?} {values:?}");
        }
        let bad =
            [(1.0, 1.0), (2.0, 1.0), (f32::NAN, 1.0), (0.0, INF)].map(|(a, b)| Range::Set(a, b));
        for range in bad.into_iter().chain([0.0, -1.0, INF, f32::NAN].map(Range::Around)) {
            let error = ColourScale::new(Preset::Blues, range, [], 0.0).unwrap_err();
            assert!(error.to_string().starts_with("the colour range goes from"), "{error}");
        }
    }

    #[test]
    fn a_diverging_scale_has_its_middle_on_the_baseline_wherever_it_ends() {
        let colour = |range, centre, value| {
            let scale = ColourScale::new(Preset::RdBu, range, [], centre).unwrap().unwrap();
            scale.colour(Some(value)).to_string()
        };
        let (white, red, blue) = ("#f7f7f7", "#67001f", "#053061");
        let cases = [
            (Range::Set(-1.0, 3.0), 0.0, 0.0, white),
            (Range::Set(-1.0, 3.0), 0.0, 3.0, blue),
            // A third of the way to the red end, and no further than the range goes.
            (Range::Set(-1.0, 3.0), 0.0, -1.0, "#f7b799"),
            (Range::Set(-1.0, 3.0), 0.0, -3.0, "#f7b799"),
            // The range may lie on one side altogether.
            (Range::Set(-9.0, -5.0), 1.0, -9.0, red),
            (Range::Set(-9.0, -5.0), 1.0, 1.0, "#d6604d"),
            (Range::Around(2.0), 7.0, 7.0, white),
            (Range::Around(2.0), 7.0, 9.0, blue),
            (Range::Around(2.0), -7.0, -9.0, red),
        ];
        for (range, centre, value, expected) in cases {
            assert_eq!(colour(range, centre, value), expected, "{range:?} {centre} {value}");
        }
    }

    #[test]
    fn the_extremes_of_f32_have_a_colour() {
        let values = [f32::MIN, f32::MAX];
        let scale = ColourScale::new(Preset::Notebook, Range::Auto, values.map(Some), 0.0)
            .unwrap()
            .unwrap();
        assert_eq!(scale.colour(Some(f32::MIN)), Rgb::WHITE);
        assert_eq!(scale.colour(Some(f32::MAX)), Rgb(0x15, 0x60, 0x82));
        assert_eq!(scale.colour(Some(f32::NAN)), MISSING);
        assert_eq!(scale.colour(None), MISSING);
    }

    #[test]
    fn ranks_are_laid_over_their_logarithms_the_first_in_the_last_colour() {
        let ranks = [1.0, 10.0, 10_000.0].map(Some);
        let scale = |preset, range| ColourScale::of_ranks(preset, range, ranks).unwrap().unwrap();
        for preset in [Preset::Notebook, Preset::RdBu] {
            let scale = scale(preset, Range::Auto);
            for (rank, t) in [(1.0, 1.0), (10.0, 0.75), (100.0, 0.5), (1e4, 0.0), (1e6, 0.0)] {
                assert_eq!(scale.colour(Some(rank)), colour_at(preset, t), "{rank}");
                let back = scale.at_part(scale.part(rank.into()));
                assert!((back - f64::from(rank).min(1e4)).abs() < 1e-9 * back, "{back}");
            }
        }
        // There is no logarithm of what a range set by hand may begin with.
        let linear = scale(Preset::Notebook, Range::Set(0.0, 10.0));
        assert_eq!(linear.colour(Some(0.0)), Rgb::WHITE);
        assert!(!linear.is_rank());
    }

    #[test]
    fn equal_values_take_the_middle_colour() {
        let scale = ColourScale::new(Preset::RdBu, Range::Auto, [Some(4.0)], 4.0).unwrap().unwrap();
        assert_eq!(scale.colour(Some(4.0)).to_string(), "#f7f7f7");
    }

    #[test]
    fn ink_contrasts_with_its_ground() {
        for (ground, ink) in [
            (Rgb::WHITE, Rgb::BLACK),
            (Rgb::BLACK, Rgb::WHITE),
            (Rgb(0x15, 0x60, 0x82), Rgb::WHITE),
            (Rgb(0x8a, 0xb0, 0xc1), Rgb::BLACK),
        ] {
            assert_eq!(ground.ink(), ink, "{ground}");
        }
    }
}
