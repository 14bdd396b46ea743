//! Compares the tokenizers of GGUF files with what their source tokenizers made of awkward texts.
//!
//! Takes folders with files as llama.cpp has them in `models`: `NAME.gguf`, which need hold no
//! weights, `NAME.gguf.inp` with texts between lines of `__ggml_vocab_test__`, and `NAME.gguf.out`
//! with a line of ids per text, from Hugging Face's tokenizer without special tokens.
//! `scripts/check-vocabularies.sh` fetches such a folder.

#![allow(clippy::print_stdout, reason = "a comparison is for its reader")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use compute::model::Tokenizer;

const DELIMITER: &str = "\n__ggml_vocab_test__\n";

fn main() -> Result<(), Box<dyn Error>> {
    let mut n_differing = 0;
    for folder in env::args().skip(1) {
        let paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
        let mut paths = paths.collect::<io::Result<Vec<PathBuf>>>()?;
        paths.sort();
        for path in paths.iter().filter(|path| path.to_string_lossy().ends_with(".gguf.inp")) {
            n_differing += compare(&path.with_extension(""))?;
        }
    }
    if n_differing > 0 {
        return Err(format!("{n_differing} texts have other tokens").into());
    }
    Ok(())
}

/// How many texts have other tokens.
fn compare(path: &Path) -> Result<usize, Box<dyn Error>> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let tokenizer = match Tokenizer::from_gguf(path) {
        Ok(tokenizer) => tokenizer,
        Err(error) => {
            println!("{name}: refused: {error}");
            return Ok(0);
        }
    };
    let texts = fs::read_to_string(path.with_extension("gguf.inp"))?;
    let answers = fs::read_to_string(path.with_extension("gguf.out"))?;
    let texts: Vec<_> = texts.split(DELIMITER).collect();
    let mut n_differing = 0;
    let mut n = 0;
    for (text, answer) in texts.iter().zip(answers.lines()) {
        let answer: Vec<u32> =
            answer.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let ids = tokenizer.encode(text).map_err(|e| e.to_string())?.ids;
        n += 1;
        // The tokenizer may add a token at the beginning, which the answers leave out.
        if ids != answer && ids.get(1..) != Some(&answer) {
            n_differing += 1;
            println!("{name}: {text:?} is {ids:?}, and was {answer:?}");
        }
    }
    println!("{name}: {} of {n} texts have the same tokens", n - n_differing);
    Ok(n_differing)
}
