//! A model's tokenizer: text to tokens and back to text that a person can read.

mod gguf;
mod split_rules;

use std::ops::Range;
use std::path::Path;

pub use gguf::from_metadata;
use shared::document::Token;

use crate::model::checkpoint::{ModelError, Part, metadata, read_text};

/// Turns prompts into tokens.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    pad: Option<u32>,
}

/// A prompt's tokens.
pub struct Encoded {
    /// The tokens, special ones included as the tokenizer itself adds them.
    pub ids: Vec<u32>,
    /// The bytes of the prompt that each token stands for; empty for added special tokens.
    offsets: Vec<(usize, usize)>,
}

impl Encoded {
    /// The tokens that stand for any of these bytes of the prompt.
    pub fn tokens_in(&self, bytes: Range<usize>) -> impl Iterator<Item = usize> + '_ {
        let is_in = move |&(begin, end): &(usize, usize)| {
            begin < bytes.end && end > bytes.start && end > begin
        };
        self.offsets.iter().enumerate().filter(move |(_, offsets)| is_in(offsets)).map(|(i, _)| i)
    }

    /// The bytes of the prompt that each token stands for; empty for added special tokens.
    pub fn bytes(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.offsets.iter().map(|&(begin, end)| begin..end)
    }

    /// The first token that contains anything from byte `byte` on.
    pub fn token_at(&self, byte: usize) -> Option<usize> {
        self.offsets.iter().position(|&(begin, end)| end > begin && end > byte)
    }
}

impl Tokenizer {
    /// Wraps a tokenizer; `pad` is the token to pad with.
    pub fn new(inner: tokenizers::Tokenizer, pad: Option<u32>) -> Self {
        Self { inner, pad }
    }

    /// Reads `tokenizer.json` from a folder in Hugging Face's layout, and the token to pad with
    /// from `tokenizer_config.json`, or else from `config.json`. Beside it comes what was read.
    ///
    /// # Errors
    /// A file that is missing or damaged.
    pub fn from_folder(folder: &Path, config_text: &str) -> Result<(Self, Vec<Part>), ModelError> {
        let path = folder.join("tokenizer.json");
        if !path.is_file() {
            return Err(ModelError::file(
                &path,
                "the tokenizer is missing: expected this file, which \
                 `AutoTokenizer.from_pretrained(folder).save_pretrained(folder)` of transformers \
                 makes of older forms",
            ));
        }
        let unread = |e| ModelError::file(&path, format!("cannot read the tokenizer: {e}"));
        let (text, file) = read_text(&path).map_err(unread)?;
        let mut parts = vec![Part { role: "tokenizer", file }];
        let mut inner: tokenizers::Tokenizer = text
            .parse()
            .map_err(|e| ModelError::file(&path, format!("the tokenizer is damaged: {e}")))?;
        // Some checkpoints store the padding and truncation of their training.
        inner.with_padding(None);
        let _ = inner.with_truncation(None);
        let path = folder.join("tokenizer_config.json");
        let mut named = serde_json::Value::Null;
        if path.exists() {
            let unread = |e: &dyn std::fmt::Display| {
                ModelError::file(&path, format!("the tokenizer's settings cannot be read: {e}"))
            };
            let (text, file) = read_text(&path).map_err(|e| unread(&e))?;
            parts.push(Part { role: "tokenizer_config", file });
            named = serde_json::from_str(&text).map_err(|e| unread(&e))?;
        }
        let numbered: serde_json::Value = serde_json::from_str(config_text).unwrap_or_default();
        let by_name = |key: &str| {
            let token = &named[key];
            let text = token.as_str().or_else(|| token["content"].as_str())?;
            inner.token_to_id(text)
        };
        let by_number = |key: &str| {
            let first = match &numbered[key] {
                serde_json::Value::Array(ids) => ids.first().unwrap_or(&serde_json::Value::Null),
                id => id,
            };
            match first {
                // Some say -1 for none.
                serde_json::Value::Number(id) => {
                    Ok(id.as_u64().and_then(|id| u32::try_from(id).ok()))
                }
                serde_json::Value::Null => Ok(None),
                found => Err(ModelError::file(
                    &folder.join("config.json"),
                    format!("`{key}` should be the number of a token, found {found}"),
                )),
            }
        };
        let (pad_id, eos_id) = (by_number("pad_token_id")?, by_number("eos_token_id")?);
        let pad = by_name("pad_token").or_else(|| by_name("eos_token")).or(pad_id).or(eos_id);
        Ok((Self { inner, pad }, parts))
    }

    /// Reads the tokenizer of a GGUF file, which need not hold any weights.
    ///
    /// # Errors
    /// A file that is missing or damaged, or whose tokenizer is not supported.
    pub fn from_gguf(path: &Path) -> Result<Self, ModelError> {
        from_metadata(&metadata(path)?).map_err(|message| ModelError::file(path, message))
    }

    /// The token that the shorter prompt is padded with: the pad token, or the end-of-text token
    /// if there is none.
    pub fn pad(&self) -> Option<u32> {
        self.pad
    }

    /// A prompt's tokens, with the special ones that the tokenizer adds.
    ///
    /// # Errors
    /// What the tokenizer reports.
    pub fn encode(&self, prompt: &str) -> Result<Encoded, tokenizers::Error> {
        let encoding = self.inner.encode(prompt, true)?;
        Ok(Encoded { ids: encoding.get_ids().to_vec(), offsets: encoding.get_offsets().to_vec() })
    }

    /// The one token that `text` is, or `None` if it is more than one.
    ///
    /// # Errors
    /// What the tokenizer reports.
    pub fn single_token(&self, text: &str) -> Result<Option<Token>, tokenizers::Error> {
        let encoding = self.inner.encode(text, false)?;
        Ok(match *encoding.get_ids() {
            [id] => Some(Token { id, text: text.to_string() }),
            _ => None,
        })
    }

    /// The tokens that `text` is when it follows something, without any that are added at the
    /// beginning.
    ///
    /// # Errors
    /// What the tokenizer reports.
    pub fn continuation(&self, text: &str) -> Result<Vec<Token>, tokenizers::Error> {
        Ok(self.tokens(self.inner.encode(text, false)?.get_ids()))
    }

    /// Tokens with their texts, see [`Self::token`].
    pub fn tokens(&self, ids: &[u32]) -> Vec<Token> {
        ids.iter().map(|&id| self.token(id)).collect()
    }

    /// A token with its text: leading space included, bytes that are no character as `<0xE2>`.
    pub fn token(&self, id: u32) -> Token {
        let piece = self.inner.id_to_token(id).unwrap_or_else(|| format!("<{id}>"));
        let text = match bytes_of(&piece) {
            Some(bytes) if self.is_byte_level() => match String::from_utf8(bytes) {
                Ok(text) => text,
                Err(error) => error.as_bytes().iter().map(|b| format!("<0x{b:02X}>")).collect(),
            },
            _ => piece.replace('\u{2581}', " "),
        };
        Token { id, text }
    }

    fn is_byte_level(&self) -> bool {
        use tokenizers::DecoderWrapper;
        match self.inner.get_decoder() {
            Some(DecoderWrapper::ByteLevel(_)) => true,
            Some(DecoderWrapper::Sequence(sequence)) => {
                sequence.get_decoders().iter().any(|d| matches!(d, DecoderWrapper::ByteLevel(_)))
            }
            _ => false,
        }
    }
}

/// The bytes that a byte-level token stands for (GPT-2's `bytes_to_unicode`, inverted); `None` if
/// it has a character outside that alphabet, as special tokens may.
fn bytes_of(piece: &str) -> Option<Vec<u8>> {
    piece.chars().map(byte_of).collect()
}

fn byte_of(c: char) -> Option<u8> {
    let is_printable = |b: u32| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    match u32::from(c) {
        code if is_printable(code) => u8::try_from(code).ok(),
        // The other bytes, in order, are the characters from U+0100 on.
        code => (0..256u32)
            .filter(|&b| !is_printable(b))
            .nth(code.checked_sub(0x100)? as usize)
            .and_then(|b| u8::try_from(b).ok()),
    }
}
