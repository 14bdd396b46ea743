//! `patchboard site` and `patchboard report`: results for people without Patchboard.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use super::files::read_documents;
use super::output;
use super::report::counted;
use crate::export::write_atomically;
use crate::site;

/// What to publish as a site.
#[derive(Debug, Args)]
pub struct SiteArgs {
    /// Result documents; the notebook's files, too.
    #[arg(required = true)]
    files: Vec<PathBuf>,

    /// The folder for the site, ready for any file host.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// The site's address once it is published, which the pictures of link previews need.
    #[arg(long, value_name = "URL")]
    address: Option<String>,
}

/// What to put into a report.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Result documents; the notebook's files, too.
    #[arg(required = true)]
    files: Vec<PathBuf>,

    /// The file to write.
    #[arg(long, value_name = "FILE", default_value = "report.html")]
    out: PathBuf,
}

/// Runs `site`.
///
/// # Errors
/// A build without the viewer, a file that is no result, or a folder that cannot be written to.
pub fn site(args: &SiteArgs) -> Result<()> {
    site::check_viewer()?;
    if let Some(address) = &args.address
        && !address.starts_with("https://")
        && !address.starts_with("http://")
    {
        bail!("expected an address that begins with https://, found `{address}`");
    }
    let documents = read_documents(&args.files)?;
    site::write_site(&args.out, &documents, args.address.as_deref())?;
    let n = counted(documents.len(), "result");
    output::line(&format!("{n}: {}", args.out.join("index.html").display()))
}

/// Runs `report`.
///
/// # Errors
/// A build without the viewer, a file that is no result, or a file that cannot be written.
pub fn report(args: &ReportArgs) -> Result<()> {
    site::check_viewer()?;
    let page = site::report(&read_documents(&args.files)?)?;
    write_atomically(&args.out, page.as_bytes())?;
    output::line(&format!("{} KB: {}", page.len().div_ceil(1000), args.out.display()))
}
