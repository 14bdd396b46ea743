//! `patchboard site` and `patchboard report`: results for people without Patchboard.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use super::files::read_documents;
use super::output;
use super::report::counted;
use super::study;
use crate::export::write_atomically;
use crate::site::{self, StudyFiles};

/// What to publish as a site.
#[derive(Debug, Args)]
pub struct SiteArgs {
    /// Result documents; the notebook's files, too.
    #[arg(required_unless_present = "study")]
    files: Vec<PathBuf>,

    /// Studies to put into the site: their folders or their study.json. Their pairs are part of it
    /// if their results are named, too.
    #[arg(long, value_name = "STUDY")]
    study: Vec<PathBuf>,

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
    #[arg(required_unless_present = "study")]
    files: Vec<PathBuf>,

    /// Studies to put into the report: their folders or their study.json.
    #[arg(long, value_name = "STUDY")]
    study: Vec<PathBuf>,

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
    let studies = read_studies(&args.study)?;
    site::write_site(&args.out, &documents, &studies, args.address.as_deref())?;
    let n = counted(documents.len(), "result");
    output::line(&format!("{n}: {}", args.out.join("index.html").display()))
}

/// Runs `report`.
///
/// # Errors
/// A build without the viewer, a file that is no result, or a file that cannot be written.
pub fn report(args: &ReportArgs) -> Result<()> {
    site::check_viewer()?;
    let page = site::report(&read_documents(&args.files)?, &read_studies(&args.study)?)?;
    write_atomically(&args.out, page.as_bytes())?;
    output::line(&format!("{} KB: {}", page.len().div_ceil(1000), args.out.display()))
}

fn read_studies(paths: &[PathBuf]) -> Result<Vec<StudyFiles>> {
    let read = |path: &PathBuf| {
        let (mut study, values) = study::read(path)?;
        // What lies beside the manifest there has our name.
        if let Some(place) = &mut study.values {
            place.file = shared::study::values::FILE.into();
            place.inline = None;
        }
        Ok(StudyFiles { study, values })
    };
    paths.iter().map(read).collect()
}
