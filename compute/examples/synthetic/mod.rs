//! Experiments of any size, of tokens that mean nothing, for measuring.

use compute::model::Config;
use shared::specification::Specification;
use shared::specification::settings::Settings;

#[path = "../../tests/support/mod.rs"]
#[allow(clippy::unwrap_used, reason = "random numbers fit")]
pub mod support;

/// How large an experiment is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Tokens of each prompt.
    pub n_tokens: usize,
    /// How many of them all prompts of a table begin with.
    pub n_shared: usize,
    /// How many of the last positions are swept.
    pub n_columns: usize,
}

/// The experiment number `seed` of a table.
pub fn specification(
    config: &Config,
    settings: &Settings,
    Size { n_tokens, n_shared, n_columns }: Size,
    seed: usize,
) -> Specification {
    let prompt = |own: usize| -> Vec<u32> {
        let token = |i: usize| match i < n_shared {
            true => i,
            false => n_shared + (i * 7919 + own * 104_729) % (config.d_vocab - n_shared),
        };
        (0..n_tokens).map(|i| token(i) as u32).collect()
    };
    let (source, base) = (prompt(2 * seed), prompt(2 * seed + 1));
    support::grids(config, settings, [&source, &base], n_tokens - n_columns)
}
