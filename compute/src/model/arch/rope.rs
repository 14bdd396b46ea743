//! Rotary position embedding: frequencies and the order of a head's coordinates.

/// Rotary position embedding of one kind of layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// The base of the wavelengths.
    pub theta: f64,
    /// How many of a head's coordinates are rotated; even, at most `d_head`.
    pub n_rotated: usize,
    /// How the frequencies are changed for long contexts.
    pub scaling: RopeScaling,
    /// Multiplies cosines and sines of the rotated coordinates; 1 except with longrope.
    pub magnitude: f32,
}

/// How rotary frequencies are changed for long contexts.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All divided by one factor.
    Linear(f64),
    /// Llama 3's: long wavelengths divided by `factor`, short ones kept, a ramp between
    /// (transformers `_compute_llama3_parameters`).
    Llama3 {
        /// The divisor of the long wavelengths.
        factor: f64,
        /// Wavelengths above `original_context / low_freq_factor` are long.
        low_freq_factor: f64,
        /// Wavelengths below `original_context / high_freq_factor` are short.
        high_freq_factor: f64,
        /// The context length before the extension.
        original_context: f64,
    },
    /// One divisor a frequency, `[n_rotated / 2]` (GGUF's `rope_freqs.weight`, longrope's factors).
    Divisors(Vec<f32>),
}

impl Rope {
    /// All coordinates of a head, unscaled.
    pub fn plain(theta: f64, d_head: usize) -> Self {
        Self { theta, n_rotated: d_head, scaling: RopeScaling::None, magnitude: 1.0 }
    }

    /// Radians a position for each pair of coordinates, `[n_rotated / 2]`.
    pub fn frequencies(&self) -> Vec<f32> {
        (0..self.n_rotated / 2)
            .map(|i| {
                let frequency = self.theta.powf(-2.0 * i as f64 / self.n_rotated as f64);
                let scaled = match &self.scaling {
                    RopeScaling::None => frequency,
                    RopeScaling::Linear(factor) => frequency / factor,
                    RopeScaling::Divisors(divisors) => frequency / f64::from(divisors[i]),
                    &RopeScaling::Llama3 {
                        factor,
                        low_freq_factor,
                        high_freq_factor,
                        original_context,
                    } => {
                        let wavelength = 2.0 * std::f64::consts::PI / frequency;
                        let kept = (original_context / wavelength - low_freq_factor)
                            / (high_freq_factor - low_freq_factor);
                        let kept = kept.clamp(0.0, 1.0);
                        (1.0 - kept) * frequency / factor + kept * frequency
                    }
                };
                scaled as f32
            })
            .collect()
    }
}

/// Which coordinates of a head a checkpoint rotates together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairs {
    /// The first half of the rotated coordinates with the second (GPT-NeoX, llama).
    Halves,
    /// Neighbours: 0 with 1, 2 with 3, ... (GPT-J, llama in GGUF).
    Neighbours,
}

/// The order in which a head's stored coordinates are taken, `[d_head]`, so that coordinate `i` is
/// rotated with coordinate `i + d_head / 2`, and those that are not rotated stand at the end of
/// each half. Queries and keys are reordered alike, which leaves their products as they are; so
/// partial and interleaved embeddings run through the one rotation of whole halves, in which the
/// remaining pairs have the frequency 0.
pub fn head_order(pairs: Pairs, n_rotated: usize, d_head: usize) -> Vec<usize> {
    let n_pairs = n_rotated / 2;
    let half = d_head / 2;
    (0..d_head)
        .map(|to| match (to % half, to / half, pairs) {
            (i, side, Pairs::Halves) if i < n_pairs => i + side * n_pairs,
            (i, side, Pairs::Neighbours) if i < n_pairs => 2 * i + side,
            (i, side, _) => n_rotated + (i - n_pairs) + side * (half - n_pairs),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama3_scaling_divides_long_wavelengths_and_keeps_short_ones() {
        let plain = Rope::plain(500_000.0, 128);
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: 8192.0,
        };
        let scaled = Rope { scaling, ..plain.clone() }.frequencies();
        let plain = plain.frequencies();
        assert_eq!((plain[0], scaled[0]), (1.0, 1.0));
        assert!((plain[63] / scaled[63] - 8.0).abs() < 1e-5);
        let between = plain[32] / scaled[32];
        assert!((1.0..8.0).contains(&between), "{between}");
    }

    #[test]
    fn a_head_is_reordered_into_halves() {
        let cases: [(Pairs, usize, usize, &[usize]); 4] = [
            (Pairs::Halves, 6, 6, &[0, 1, 2, 3, 4, 5]),
            (Pairs::Neighbours, 6, 6, &[0, 2, 4, 1, 3, 5]),
            (Pairs::Halves, 4, 8, &[0, 1, 4, 5, 2, 3, 6, 7]),
            (Pairs::Neighbours, 4, 8, &[0, 2, 4, 5, 1, 3, 6, 7]),
        ];
        for (pairs, n_rotated, d_head, expected) in cases {
            assert_eq!(head_order(pairs, n_rotated, d_head), expected);
        }
    }
}
