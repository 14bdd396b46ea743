//! Experiments of any size, of tokens that mean nothing, for measuring.

use compute::model::Config;
use shared::specification::alignment::{Alignment, Side};
use shared::specification::correspondence::Correspondence;
use shared::specification::settings::Settings;
use shared::specification::{AnswerIds, Dimensions, Specification, Subject};

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
    let start = n_tokens - n_columns;
    let (source, base) = (prompt(2 * seed), prompt(2 * seed + 1));
    let [source, base] = [&source, &base].map(|ids| Side { ids, start, roles: &[] });
    let by_hand = Correspondence::default();
    let subject = Subject {
        alignment: Alignment::new(source, base, settings.align, 0, &by_hand),
        spans: Vec::new(),
        noised: Vec::new(),
        answers: AnswerIds::Single { true_ids: vec![100, 101], false_ids: vec![200, 201] },
        mean: None,
        dimensions: Dimensions {
            n_layers: config.n_layers,
            n_heads: config.n_heads,
            n_kv_heads: config.n_kv_heads,
        },
    };
    Specification::new(settings, &subject)
}
