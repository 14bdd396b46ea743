//! Builds the tokenizer from a GGUF file's metadata.
//!
//! A GGUF names its rule for splitting text before the merges (`tokenizer.ggml.pre`) instead of
//! spelling it out. A rule that is not known here is refused: a tokenizer that splits digits or
//! spaces another way gives other tokens and silently other results.

use std::collections::HashMap;

use candle_core::quantized::gguf_file::Value;
use tokenizers::AddedToken;
use tokenizers::decoders::DecoderWrapper;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as DecoderSequence;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{NFC, NormalizerWrapper, Prepend, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::template::TemplateProcessing;

use super::Tokenizer;
use super::split_rules::SplitRule;

type Metadata = HashMap<String, Value>;

/// GGUF's token types (llama.cpp's `llama_token_type`).
const UNKNOWN: u64 = 2;
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;

/// Builds the tokenizer.
///
/// # Errors
/// A sentence on what is missing or not supported.
pub fn from_metadata(metadata: &Metadata) -> Result<Tokenizer, String> {
    let tokens = strings(metadata, "tokenizer.ggml.tokens")?;
    let kind = text(metadata, "tokenizer.ggml.model").ok_or("`tokenizer.ggml.model` is missing")?;
    let pre = text(metadata, "tokenizer.ggml.pre");
    let mut inner = match kind {
        "gpt2" => byte_level(metadata, &tokens, SplitRule::named(pre)?)?,
        "llama" => sentence_piece(metadata, &tokens)?,
        other => {
            return Err(format!(
                "the tokenizer is of the kind `{other}`: only `gpt2` (byte-level BPE) and `llama` \
                 (SentencePiece BPE) are supported from GGUF; use the model's Hugging Face folder"
            ));
        }
    };
    let types = metadata.get("tokenizer.ggml.token_type").and_then(|v| v.to_vec().ok());
    let of_type = |kinds: &[u64], special: bool| -> Vec<AddedToken> {
        let kind_of = |value: &Value| match value {
            Value::I32(kind) => u64::try_from(*kind).unwrap_or(0),
            other => other.to_u64().unwrap_or(0),
        };
        let typed = tokens.iter().zip(types.into_iter().flatten());
        typed
            .filter(|(_, kind)| kinds.contains(&kind_of(kind)))
            .map(|(token, _)| AddedToken::from(token.clone(), special).normalized(false))
            .collect()
    };
    let added = inner
        .add_special_tokens(of_type(&[UNKNOWN, CONTROL], true))
        .and_then(|_| inner.add_tokens(of_type(&[USER_DEFINED], false)));
    added.map_err(|e| format!("the special tokens are damaged: {e}"))?;

    let id = |key: &str| {
        let id = metadata.get(&format!("tokenizer.ggml.{key}_token_id"))?.to_u64().ok()?;
        u32::try_from(id).ok().filter(|&id| (id as usize) < tokens.len())
    };
    // llama.cpp's defaults where the file does not say.
    let adds_bos = match metadata.get("tokenizer.ggml.add_bos_token") {
        Some(value) => {
            value.to_bool().map_err(|e| format!("`tokenizer.ggml.add_bos_token`: {e}"))?
        }
        None => kind == "llama" || SplitRule::named(pre).is_ok_and(|rule| rule.adds_bos),
    };
    if let (true, Some(bos)) = (adds_bos, id("bos")) {
        let name = &tokens[bos as usize];
        let template = TemplateProcessing::builder()
            .try_single(vec![name.clone(), "$A".to_string()])
            .map_err(|e| e.to_string())?
            .special_tokens(vec![(name.clone(), bos)])
            .build()
            .map_err(|e| format!("the beginning-of-text token is damaged: {e}"))?;
        inner.with_post_processor(Some(template));
    }
    Ok(Tokenizer::new(inner, id("padding").or(id("eos"))))
}

/// Byte-level BPE (GPT-2's kind).
fn byte_level(
    metadata: &Metadata,
    tokens: &[String],
    rule: SplitRule,
) -> Result<tokenizers::Tokenizer, String> {
    let merges = strings(metadata, "tokenizer.ggml.merges")?
        .iter()
        .map(|merge| {
            let (left, right) =
                merge.split_once(' ').ok_or(format!("the merge `{merge}` has no space"))?;
            Ok((left.to_string(), right.to_string()))
        })
        .collect::<Result<Vec<_>, String>>()?;
    let bpe = BPE::builder()
        .vocab_and_merges(vocabulary(tokens), merges)
        .ignore_merges(rule.ignores_merges)
        .build()
        .map_err(|e| format!("the tokenizer's merges are damaged: {e}"))?;
    let mut inner = tokenizers::Tokenizer::new(bpe);
    if rule.composes {
        inner.with_normalizer(Some(NFC)).map_err(|e| e.to_string())?;
    }
    inner.with_pre_tokenizer(Some(rule.splitter()?));
    inner.with_decoder(Some(ByteLevel::default()));
    Ok(inner)
}

/// SentencePiece BPE (Llama 2's kind): the merges are those pairs of pieces that make a piece, the
/// best score first (transformers' `SentencePieceExtractor`).
fn sentence_piece(metadata: &Metadata, tokens: &[String]) -> Result<tokenizers::Tokenizer, String> {
    let scores = metadata.get("tokenizer.ggml.scores").and_then(|v| v.to_vec().ok());
    let scores = scores.ok_or("`tokenizer.ggml.scores` is missing")?;
    let vocabulary = vocabulary(tokens);
    let mut merges = Vec::new();
    for (token, score) in tokens.iter().zip(scores) {
        let score = score.to_f32().map_err(|e| format!("`tokenizer.ggml.scores`: {e}"))?;
        let mut splits: Vec<_> = token
            .char_indices()
            .skip(1)
            .filter_map(|(at, _)| {
                let (left, right) = token.split_at(at);
                Some((vocabulary.get(left)?, vocabulary.get(right)?, left, right))
            })
            .collect();
        splits.sort_unstable();
        let named = splits.into_iter().map(|(_, _, l, r)| (score, (l.to_string(), r.to_string())));
        merges.extend(named);
    }
    merges.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let unknown = metadata.get("tokenizer.ggml.unknown_token_id").and_then(|v| v.to_u64().ok());
    let unknown = unknown.and_then(|id| tokens.get(id as usize)).map_or("<unk>", String::as_str);
    let bpe = BPE::builder()
        .vocab_and_merges(
            vocabulary,
            merges.into_iter().map(|(_, merge)| merge).collect::<Vec<_>>(),
        )
        .unk_token(unknown.to_string())
        .fuse_unk(true)
        .byte_fallback(true)
        .build()
        .map_err(|e| format!("the tokenizer's merges are damaged: {e}"))?;
    let mut inner = tokenizers::Tokenizer::new(bpe);
    let space = "\u{2581}";
    let mut normalizers: Vec<NormalizerWrapper> =
        vec![Replace::new(" ", space).map_err(|e| e.to_string())?.into()];
    let adds_space = metadata.get("tokenizer.ggml.add_space_prefix").and_then(|v| v.to_bool().ok());
    if adds_space.unwrap_or(true) {
        normalizers.insert(0, Prepend::new(space.to_string()).into());
    }
    let normalized = inner.with_normalizer(Some(Normalizers::new(normalizers)));
    normalized.map_err(|e| e.to_string())?;
    let decoders: Vec<DecoderWrapper> = vec![
        Replace::new(space, " ").map_err(|e| e.to_string())?.into(),
        ByteFallback::new().into(),
        Fuse::new().into(),
    ];
    inner.with_decoder(Some(DecoderSequence::new(decoders)));
    Ok(inner)
}

fn vocabulary(tokens: &[String]) -> tokenizers::models::bpe::Vocab {
    tokens.iter().zip(0..).map(|(token, id)| (token.clone(), id)).collect()
}

fn text<'a>(metadata: &'a Metadata, key: &str) -> Option<&'a str> {
    metadata.get(key)?.to_string().ok().map(String::as_str)
}

fn strings(metadata: &Metadata, key: &str) -> Result<Vec<String>, String> {
    let values = metadata.get(key).ok_or(format!("`{key}` is missing"))?;
    let values = values.to_vec().map_err(|e| format!("`{key}`: {e}"))?;
    let texts = values.iter().map(|v| v.to_string().cloned());
    texts.collect::<candle_core::Result<_>>().map_err(|e| format!("`{key}`: {e}"))
}
