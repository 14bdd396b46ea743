//! Why a pair cannot be run.

use shared::specification::correspondence::{COLUMN, CorrespondenceError};
use shared::specification::marks::MarkError;
use shared::specification::template::TemplateError;
use shared::specification::vocabulary::{Align, Span};

use crate::sweep::SweepError;

/// A pair that cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The template does not fit the table.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A mark in a sentence or a column of marks.
    #[error(transparent)]
    Mark(#[from] MarkError),
    /// The tokenizer failed.
    #[error("the tokenizer failed: {0}")]
    Tokenizer(#[from] tokenizers::Error),
    /// Both prompts are the same tokens.
    #[error("source and base are the same {0} tokens: there is nothing to patch")]
    EqualPrompts(usize),
    /// A site that the model lacks.
    #[error(transparent)]
    Site(SweepError),
    /// A prompt without a token.
    #[error("the {0} prompt has no tokens")]
    EmptyPrompt(&'static str),
    /// A prompt that the model cannot read.
    #[error(
        "the {prompt} prompt has {found} tokens{}{}, and the model reads at most {limit}: shorten it",
        if *.padded { " with padding" } else { "" }, if *.answered { " with its answer" } else { "" }
    )]
    TooLong {
        /// Which prompt.
        prompt: &'static str,
        /// Its tokens.
        found: usize,
        /// Whether they include padding.
        padded: bool,
        /// Whether they include an answer of several tokens.
        answered: bool,
        /// The model's context.
        limit: usize,
    },
    /// A token that the tokenizer knows and the model does not.
    #[error(
        "the token `{token}` ({id}) of {part} is beyond the model's vocabulary of {d_vocab} tokens: \
         {}take the tokenizer that belongs to the weights, or resize them once in transformers: \
         `model.resize_token_embeddings(len(tokenizer))`, and save both",
        if *.is_padding { "use `--align right`, which needs no padding, or " } else { "" }
    )]
    BeyondVocabulary {
        /// The token's text.
        token: String,
        /// Its number.
        id: u32,
        /// Where it comes from.
        part: &'static str,
        /// The rows of the model's embedding.
        d_vocab: usize,
        /// Whether it only pads.
        is_padding: bool,
    },
    /// An answer without a token.
    #[error("the answer {0:?} has no tokens: choose another word")]
    NoAnswer(String),
    /// A token that would count for and against.
    #[error("the answers {0:?} and {1:?} share the token {2:?}: they must differ")]
    SharedToken(String, String, String),
    /// Answers that are the same tokens.
    #[error("the answers {0:?} and {1:?} are the same tokens: they must differ")]
    SameAnswers(String, String),
    /// Padding is needed and the model has no token for it.
    #[error(
        "the prompts have {0} and {1} tokens, and the tokenizer has neither a pad token nor an \
         end-of-text token to pad with: use `--align right`"
    )]
    NoPadToken(usize, usize),
    /// An alignment by hand without one.
    #[error(
        "the pair has no cell `{COLUMN}`, which says what corresponds: expected the base's positions \
         and the source's, as in `5-7:6-8,10:12`, or another alignment than `hand`"
    )]
    NoCorrespondence,
    /// An alignment by hand that is none.
    #[error("column `{COLUMN}`: {0}")]
    Correspondence(#[from] CorrespondenceError),
    /// Nothing of the source corresponds to any swept position of the base.
    #[error(
        "under the alignment `{0}` nothing of the source corresponds to any swept position of the \
         base: choose another alignment"
    )]
    NothingCorresponds(Align),
    /// A named set of positions that the pair does not have.
    #[error("the {prompt} prompt has no positions of `{span}`: {why}")]
    NoSpan {
        /// The set.
        span: Span,
        /// Which prompt.
        prompt: &'static str,
        /// Why it has none.
        why: &'static str,
    },
}
