//! The command line: arguments, what is printed, and exit codes (0 done, 2 usage, 1 anything
//! else).

mod bench;
mod check;
mod engine;
mod files;
mod inputs;
mod interrupt;
mod memory;
mod merge;
mod models;
mod ndif;
mod opening;
mod output;
mod partial;
mod publish;
mod recheck;
mod report;
mod serve;
mod shards;
mod slurm;
mod study;
mod sweep;
mod transfer;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Activation-patching heatmaps of language models, exactly and at interactive speed.
#[derive(Debug, Parser)]
#[command(name = "patchboard", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Sweep pairs of sentences: result documents and figures.
    Sweep(Box<sweep::SweepArgs>),
    /// Make one study of the results of many pairs, with statistics over pairs.
    Study(study::StudyArgs),
    /// Put the shards of a table together, which machines have swept apart.
    Merge(merge::MergeArgs),
    /// Sweep a table on a SLURM cluster, a shard each task.
    Slurm(Box<slurm::SlurmArgs>),
    /// Show what models are at hand, fetch the default one, or describe one.
    Models(models::ModelsArgs),
    /// Read results, the notebook's `patching_results.json` included, as result documents.
    Import(transfer::ImportArgs),
    /// Write result documents as CSV tables and figures.
    Export(transfer::ExportArgs),
    /// Write a static site: the viewer with these results, for any file host.
    Site(publish::SiteArgs),
    /// Write one HTML file with the viewer and these results inside.
    Report(publish::ReportArgs),
    /// Serve the viewer, the queue and the results to browsers and programs.
    Serve(Box<serve::ServeArgs>),
    /// Check that a device computes what the CPU does, and time it there.
    Check(check::CheckArgs),
    /// Measure the sweep against the naive engine and against this machine's matrix products.
    Bench(bench::BenchArgs),
}

/// Runs what the command line asks for.
///
/// # Errors
/// Whatever stopped it, to be shown to the user.
pub fn run(cli: Cli) -> Result<()> {
    let outcome = match cli.command {
        Command::Sweep(args) => sweep::run(&args),
        Command::Study(args) => study::run(&args),
        Command::Merge(args) => merge::run(&args),
        Command::Slurm(args) => slurm::run(&args),
        Command::Models(args) => models::run(args),
        Command::Import(args) => transfer::import(args),
        Command::Export(args) => transfer::export(args),
        Command::Site(args) => publish::site(&args),
        Command::Report(args) => publish::report(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Bench(args) => bench::run(args),
    };
    if let Some(text) = crate::export::fonts::missing() {
        eprintln!("warning: {text}");
    }
    outcome
}
