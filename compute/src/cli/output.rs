//! Standard output, which may go nowhere: a reader that has seen enough is no error.

use std::io::{ErrorKind, Write, stdout};

use anyhow::{Context, Result};

/// Writes one line to standard output.
///
/// # Errors
/// A failure other than a closed pipe, e.g. a full disk.
pub fn line(text: &str) -> Result<()> {
    let mut out = stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}
