//! Which of a repository's files a model is made of.

use std::collections::BTreeSet;
use std::path::Path;

use crate::model::{INDEX, PICKLED, shards};

/// The weights in one file.
const SINGLE: &str = "model.safetensors";
/// Files without which there is no model, beside the weights.
const REQUIRED: [&str; 2] = ["config.json", "tokenizer.json"];
/// Files that change what a model does where they are there: this one names the token to pad with.
const OPTIONAL: [&str; 1] = ["tokenizer_config.json"];

/// What is wanted of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// All that it takes to compute with it.
    All,
    /// Configuration and tokenizer.
    AllButWeights,
}

/// The files to fetch from a repository that has these files; of sharded weights the index, which
/// names the others.
///
/// # Errors
/// What is missing and what to do.
pub fn needed(names: &[&str], wanted: Wanted) -> Result<Vec<&'static str>, String> {
    let has = |name: &str| names.contains(&name);
    if let Some(missing) = REQUIRED.iter().find(|name| !has(name)) {
        let ggufs = names.iter().any(|name| name.to_ascii_lowercase().ends_with(".gguf"));
        let advice = match ggufs {
            true => ": it has GGUF files, of which one can be downloaded and named by its path",
            false => "",
        };
        return Err(format!("the repository has no `{missing}`{advice}"));
    }
    let optional = OPTIONAL.into_iter().filter(|name| has(name));
    let settings = REQUIRED.into_iter().chain(optional);
    if wanted == Wanted::AllButWeights {
        return Ok(settings.collect());
    }
    let Some(weights) = [SINGLE, INDEX].into_iter().find(|name| has(name)) else {
        return Err(match has("pytorch_model.bin") || has("pytorch_model.bin.index.json") {
            true => PICKLED.to_string(),
            false => format!("the repository has neither `{SINGLE}` nor `{INDEX}`"),
        });
    };
    Ok(settings.chain([weights]).collect())
}

/// The shards that the index in `folder` names, if there is one.
///
/// # Errors
/// A damaged index.
pub fn indexed(folder: &Path) -> Result<BTreeSet<String>, String> {
    let index = folder.join(INDEX);
    match folder.join(SINGLE).is_file() || !index.is_file() {
        true => Ok(BTreeSet::new()),
        false => shards(&index).map_err(|e| e.to_string()),
    }
}

/// Whether what is wanted of a model can be read from `folder`.
pub fn is_whole(folder: &Path, wanted: Wanted) -> bool {
    let has = |name: &str| folder.join(name).is_file();
    REQUIRED.iter().all(|name| has(name))
        && (wanted == Wanted::AllButWeights
            || has(SINGLE)
            || has(INDEX)
                && indexed(folder).is_ok_and(|shards| shards.iter().all(|shard| has(shard))))
}

/// Whether nothing that the hub might have for it is missing in `folder`.
pub fn needs_nothing(folder: &Path, wanted: Wanted) -> bool {
    is_whole(folder, wanted) && OPTIONAL.iter().all(|name| folder.join(name).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_model_is_made_of_is_fetched() {
        let all = [
            "README.md",
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "pytorch_model.bin",
            "tokenizer.json",
            "tokenizer_config.json",
        ];
        let expected =
            ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"];
        assert_eq!(needed(&all, Wanted::All).unwrap(), expected);
        assert_eq!(needed(&all, Wanted::AllButWeights).unwrap(), expected[..3]);
        let sharded = ["config.json", "model.safetensors.index.json", "tokenizer.json"];
        assert_eq!(
            needed(&sharded, Wanted::All).unwrap(),
            ["config.json", "tokenizer.json", "model.safetensors.index.json"]
        );
        let cases: [(&[&str], &str); 4] = [
            (&["config.json", "tokenizer.json", "pytorch_model.bin"], "found only pickled weights"),
            (&["config.json", "tokenizer.json"], "has neither `model.safetensors` nor"),
            (&["config.json", "model.safetensors"], "has no `tokenizer.json`"),
            (&["x.Q4_K_M.gguf"], "it has GGUF files"),
        ];
        for (names, expected) in cases {
            let error = needed(names, Wanted::All).unwrap_err();
            assert!(error.contains(expected), "{names:?}: {error}");
        }
    }
}
