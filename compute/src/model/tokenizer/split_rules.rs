//! The rules by which byte-level BPE tokenizers split text before their merges, under the names
//! that GGUF files have for them (llama.cpp's `get_vocab_base_pre` and `llama_vocab::impl::load`).
//!
//! The patterns are those of the models' own `tokenizer.json`, and so are normalisation and what
//! is done about words that are tokens already.

use tokenizers::SplitDelimiterBehavior;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};

/// One row of the table of rules.
#[derive(Debug, Clone, Copy)]
pub struct SplitRule {
    /// GGUF's names for it.
    names: &'static [&'static str],
    kind: Kind,
    /// Whether a word that is a token is taken whole, whatever the merges say.
    pub ignores_merges: bool,
    /// Whether a beginning-of-text token is added where the file does not say.
    pub adds_bos: bool,
    /// Whether text is put into Unicode's composed form first.
    pub composes: bool,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// GPT-2's own.
    Gpt2,
    /// Digits one by one, the rest as GPT-2.
    DigitsThenGpt2,
    /// By a pattern.
    Pattern(&'static str),
}

/// Llama 3's: letters with one leading mark, digits by threes. OLMo 2 and Phi-4 split so, too.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The same with digits one by one.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Words end where small letters are followed by capitals, digits one by one.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The same with English endings and digits by threes.
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const PLAIN: SplitRule = SplitRule {
    names: &["gpt-2", "gpt2", "phi-2"],
    kind: Kind::Gpt2,
    ignores_merges: false,
    adds_bos: false,
    composes: false,
};

const RULES: &[SplitRule] = &[
    PLAIN,
    SplitRule { names: &["smollm"], kind: Kind::DigitsThenGpt2, ..PLAIN },
    SplitRule {
        names: &["llama-bpe", "llama3", "llama-v3", "smaug-bpe"],
        kind: Kind::Pattern(LLAMA3),
        ignores_merges: true,
        adds_bos: true,
        ..PLAIN
    },
    SplitRule { names: &["dbrx"], kind: Kind::Pattern(LLAMA3), ..PLAIN },
    SplitRule {
        names: &["qwen2", "deepseek-r1-qwen"],
        kind: Kind::Pattern(QWEN2),
        composes: true,
        ..PLAIN
    },
    SplitRule {
        names: &["tekken"],
        kind: Kind::Pattern(TEKKEN),
        ignores_merges: true,
        adds_bos: true,
        ..PLAIN
    },
    SplitRule { names: &["gpt-4o"], kind: Kind::Pattern(GPT4O), ..PLAIN },
];

impl SplitRule {
    /// The rule of that name.
    ///
    /// # Errors
    /// A sentence that lists the known ones.
    pub fn named(name: Option<&str>) -> Result<Self, String> {
        let rule = RULES.iter().find(|rule| name.is_some_and(|name| rule.names.contains(&name)));
        rule.copied().ok_or_else(|| {
            let known: Vec<_> = RULES.iter().map(|rule| rule.names[0]).collect();
            format!(
                "the tokenizer splits text by the rule `{}`: only {} are supported from GGUF; use \
                 the model's Hugging Face folder",
                name.unwrap_or("default"),
                known.join(", ")
            )
        })
    }

    /// The splitter, which also turns bytes into the alphabet of the vocabulary.
    ///
    /// # Errors
    /// What the tokenizers library reports.
    pub fn splitter(&self) -> Result<PreTokenizerWrapper, String> {
        let gpt2 = ByteLevel::new(false, true, true);
        let bytes_only = ByteLevel::new(false, true, false);
        Ok(match self.kind {
            Kind::Gpt2 => gpt2.into(),
            Kind::DigitsThenGpt2 => {
                Sequence::new(vec![Digits::new(true).into(), gpt2.into()]).into()
            }
            Kind::Pattern(pattern) => {
                let pattern = SplitPattern::Regex(pattern.to_string());
                let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
                    .map_err(|e| e.to_string())?;
                Sequence::new(vec![split.into(), bytes_only.into()]).into()
            }
        })
    }
}
