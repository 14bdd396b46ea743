//! `patchboard`, for the tests that start and kill it: cargo builds it with them.

use std::process::ExitCode;

use clap::Parser;
use compute::cli::{Cli, run};

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
