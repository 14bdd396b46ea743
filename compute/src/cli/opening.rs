//! Which model is opened, and how: a path, an id of the hub, or the default model.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::{interrupt, output};
use crate::hub::{Downloading, Hub, HubId};
use crate::model::{DEFAULT_MODEL, Model};

/// How models are opened.
#[derive(Debug, Clone, Args)]
pub struct OpenArgs {
    /// Never use the network: models of the hub come from the cache alone. HF_HUB_OFFLINE=1 says
    /// the same.
    #[arg(long)]
    offline: bool,
}

impl OpenArgs {
    /// Opens the model `name`, a path or an id of the hub, which is downloaded first if need be;
    /// without a name the default model. The process may take `limit` bytes of memory.
    ///
    /// # Errors
    /// A model that cannot be had or read.
    pub fn open(&self, name: Option<&Path>, quiet: bool, limit: usize) -> Result<Model> {
        let Some(name) = name else {
            return Ok(Model::open_within(&self.default_model(quiet)?, limit)?);
        };
        // What is there is meant, whatever it looks like.
        let id = name.to_str().filter(|_| !name.exists()).and_then(HubId::parse);
        let Some(id) = id else { return Ok(Model::open_within(name, limit)?) };
        let hub = Hub::from_vars(|name| std::env::var_os(name))?.offline(self.offline);
        let mut bar = DownloadBar { quiet, file: String::new(), bar: ProgressBar::hidden() };
        let snapshot = hub.snapshot(&id, &mut |progress| bar.tell(progress));
        bar.bar.finish_and_clear();
        let snapshot = snapshot?;
        let model = Model::open_within(&snapshot.folder, limit)?;
        Ok(Model { name: id.name, revision: Some(snapshot.commit), ..model })
    }

    /// Where the default model is, which is fetched first if need be.
    fn default_model(&self, quiet: bool) -> Result<PathBuf> {
        let path = DEFAULT_MODEL.path()?;
        if !DEFAULT_MODEL.is_whole(&path) {
            if self.offline {
                anyhow::bail!(
                    "the default model is not there, and the network is not to be used: run once \
                     without `--offline`: {}",
                    path.display()
                );
            }
            if !quiet {
                output::line(&format!(
                    "fetching the default model, {} ({} MB), once, to {}",
                    DEFAULT_MODEL.name,
                    DEFAULT_MODEL.n_bytes / 1_000_000,
                    path.display()
                ))?;
            }
            DEFAULT_MODEL.fetch(&path)?;
        }
        Ok(path)
    }
}

/// A bar for each file on standard error; hidden where that is no terminal.
struct DownloadBar {
    quiet: bool,
    file: String,
    bar: ProgressBar,
}

impl DownloadBar {
    fn tell(&mut self, progress: Downloading) {
        if interrupt::check().is_break() {
            // hf-hub cannot be asked to stop. What has come is kept in a file that counts as no
            // part of the model, and the next run goes on from there.
            self.bar.finish_and_clear();
            eprintln!("error: interrupted: run the same command again to go on");
            std::process::exit(1);
        }
        if self.quiet {
            return;
        }
        if self.file != progress.file {
            self.file = progress.file.to_string();
            self.bar.finish_and_clear();
            self.bar = ProgressBar::new(progress.n_bytes);
            let style = ProgressStyle::with_template(
                "{msg} {wide_bar} {bytes} of {total_bytes}, {eta} left",
            );
            self.bar.set_style(style.expect("the template is well formed"));
            self.bar.set_message(self.file.clone());
            if !std::io::stderr().is_terminal() {
                eprintln!("downloading {} ({} bytes)", self.file, progress.n_bytes);
            }
        }
        self.bar.set_position(progress.n_done);
    }
}
