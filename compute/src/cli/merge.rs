//! `patchboard merge`: the shards of a table become its study.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use shared::figure::FigureOptions;
use shared::study::Builder;

use super::files::Folder;
use super::output;
use super::report::counted;
use super::shards::{self, Gathered};
use super::study::{self, PoolArgs};
use crate::export::Format;

/// What to put together.
#[derive(Debug, Args)]
pub struct MergeArgs {
    /// The folders that `patchboard sweep --shard` wrote to, in any order; the same one may have
    /// several shards.
    #[arg(required = true)]
    folders: Vec<PathBuf>,

    /// The folder for all results and their study.
    #[arg(long, value_name = "DIR", default_value = "results")]
    out: PathBuf,

    /// Put together also what other engines, devices or types have computed of the same table; the
    /// study says so.
    #[arg(long)]
    mixed: bool,

    /// Make a study of the pairs that are there, although some are missing.
    #[arg(long)]
    partial: bool,

    #[command(flatten)]
    pool: PoolArgs,
}

/// Runs the command.
///
/// # Errors
/// Shards that do not belong together, are damaged or missing, or a folder that cannot be written to.
pub fn run(args: &MergeArgs) -> Result<()> {
    let gathered = shards::gather(&args.folders, args.mixed)?;
    if !args.partial {
        check_all(&gathered)?;
    }
    for sentence in &gathered.mixed {
        output::line(&format!("warning  {sentence}"))?;
    }
    let options = args.pool.options(&gathered.manifest.table)?;
    let folder = Folder::open(&args.out)?;
    let mut builder = Builder::new();
    for pair in 0..gathered.results.len() {
        let Some(document) = gathered.document(pair)? else { continue };
        if builder.has(&document.id) {
            continue;
        }
        folder.write(&document, &[Format::Json], &FigureOptions::default())?;
        builder.push(&document)?;
    }
    let (mut made, values) = builder.finish(&options)?;
    for pair in &mut made.pairs {
        pair.warnings.extend(gathered.mixed.iter().cloned());
    }
    let manifest = study::write(&folder.study(), &made, &values)?;
    output::line(&study::report(&made))?;
    output::line(&format!("study    in {}", manifest.display()))
}

/// Whether every pair of the table has a result.
fn check_all(gathered: &Gathered) -> Result<()> {
    let Gathered { results, missing, .. } = gathered;
    let n_missing = results.iter().filter(|result| result.is_none()).count();
    if missing.is_empty() {
        return Ok(());
    }
    const SHOWN: usize = 10;
    let shards: Vec<_> = missing
        .iter()
        .take(SHOWN)
        .map(|(shard, pairs)| format!("{shard} (pairs {} to {})", pairs.start + 1, pairs.end))
        .collect();
    let more = match missing.len().saturating_sub(SHOWN) {
        0 => String::new(),
        n => format!(" and {} more", counted(n, "shard")),
    };
    bail!(
        "{} of {} have no result, in the shards {}{more}: run those again with `sweep --shard`, or \
         take what is there by `--partial`",
        n_missing,
        counted(results.len(), "pair"),
        shards.join(", ")
    )
}
