//! Which model is opened, and how: a path, an id of the hub, or the default model.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use super::{interrupt, output};
use crate::hub::{Downloading, Hub, HubId, Snapshot, Wanted};
use crate::model::{DEFAULT_MODEL, Description, Loader, Model, Placement, cuda_device};

/// How models are opened.
#[derive(Debug, Clone, Args)]
pub struct OpenArgs {
    /// Never use the network: models of the hub come from the cache alone. HF_HUB_OFFLINE=1 says
    /// the same.
    #[arg(long)]
    offline: bool,

    /// Where the model is computed: cpu, cuda:N (the Nth NVIDIA GPU, from 0) or metal, where the
    /// program was built with that feature. `patchboard serve` takes several, a worker each.
    #[arg(long, value_name = "cpu|cuda:N|metal", default_value = "cpu")]
    device: Vec<DeviceName>,

    /// The type that the model is computed in; on the CPU f32 alone. The metric is f32 in any case.
    #[arg(long, value_enum, default_value_t = TypeName::F32)]
    dtype: TypeName,
}

/// A device by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceName {
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU by its number.
    Cuda(usize),
    /// Apple's GPU.
    Metal,
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("cuda:").map(str::parse)) {
            ("cpu", _) => Ok(Self::Cpu),
            ("metal", _) => Ok(Self::Metal),
            ("cuda", _) => Ok(Self::Cuda(0)),
            (_, Some(Ok(ordinal))) => Ok(Self::Cuda(ordinal)),
            _ => Err("expected cpu, cuda:N or metal".to_string()),
        }
    }
}

impl DeviceName {
    /// Opens the device.
    ///
    /// # Errors
    /// A device that is not there, or for which the program was not built.
    pub fn open(self) -> Result<Device> {
        let advice = |feature: &str, is_built: bool| match is_built {
            true => format!("{feature} is built in, and the device cannot be used"),
            false => format!(
                "this program was built without {feature}: build it with `cargo build --release \
                 --package compute --features {feature}`, or use `--device cpu`"
            ),
        };
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(ordinal) => {
                cuda_device(ordinal).with_context(|| advice("cuda", cfg!(feature = "cuda")))
            }
            Self::Metal => {
                Device::new_metal(0).with_context(|| advice("metal", cfg!(feature = "metal")))
            }
        }
    }
}

/// A type by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TypeName {
    F32,
    Bf16,
    F16,
}

impl TypeName {
    fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
        }
    }
}

impl OpenArgs {
    /// Opens the model `name`, a path or an id of the hub, which is downloaded first if need be;
    /// without a name the default model. It is computed where `placement` says, where `limit` bytes
    /// of memory may be taken.
    ///
    /// # Errors
    /// A model that cannot be had or read.
    pub fn open(
        &self,
        name: Option<&Path>,
        quiet: bool,
        placement: &Placement,
        limit: usize,
    ) -> Result<Model> {
        let load = |path: &Path| -> Result<Model> {
            Ok(Loader { path, placement: placement.clone(), budget: limit }.load()?)
        };
        let Some(name) = name else {
            return load(&self.default_model(quiet)?);
        };
        let Some(id) = hub_id(name) else { return load(name) };
        let snapshot = self.snapshot(&id, Wanted::All, quiet)?;
        let mut model = load(&snapshot.folder)?;
        model.description.name = id.name;
        model.description.revision = Some(snapshot.commit);
        Ok(model)
    }

    /// What is wanted of a model of the hub, downloaded first if need be.
    ///
    /// # Errors
    /// A model that cannot be had.
    pub fn snapshot(&self, id: &HubId, wanted: Wanted, quiet: bool) -> Result<Snapshot> {
        let hub = Hub::from_vars(|name| std::env::var_os(name))?.offline(self.offline);
        let mut bar = DownloadBar { quiet, file: String::new(), bar: ProgressBar::hidden() };
        let snapshot = hub.snapshot(id, wanted, &mut |progress| bar.tell(progress));
        bar.bar.finish_and_clear();
        Ok(snapshot?)
    }

    /// Whether anything is said of what computes on this machine.
    pub fn names_device(&self) -> bool {
        self.device != [DeviceName::Cpu] || self.dtype != TypeName::F32
    }

    /// Where and in which type models are computed, in one place.
    ///
    /// # Errors
    /// As for [`Self::placements`], or several devices.
    pub fn placement(&self) -> Result<Placement> {
        match &self.devices()[..] {
            [(device, _)] => self.placement_on(*device),
            devices => bail!(
                "found {} devices: expected one, since only `patchboard serve` divides its work",
                devices.len()
            ),
        }
    }

    /// The same for each device that was named, with the number of workers that share it: as often
    /// as it was named.
    ///
    /// # Errors
    /// A device that is not there, or a type that it does not have.
    pub fn placements(&self) -> Result<Vec<(Placement, usize)>> {
        let placed = |(device, n)| Ok((self.placement_on(device)?, n));
        self.devices().into_iter().map(placed).collect()
    }

    /// Each device once, with how often it was named.
    fn devices(&self) -> Vec<(DeviceName, usize)> {
        let mut devices: Vec<(DeviceName, usize)> = Vec::new();
        for &device in &self.device {
            match devices.iter_mut().find(|(known, _)| *known == device) {
                Some((_, n)) => *n += 1,
                None => devices.push((device, 1)),
            }
        }
        devices
    }

    fn placement_on(&self, device: DeviceName) -> Result<Placement> {
        if device == DeviceName::Cpu && self.dtype != TypeName::F32 {
            bail!(
                "on the CPU everything is computed in f32, which is its fastest type, too: leave \
                 `--dtype` out, or choose another `--device`"
            );
        }
        Ok(Placement::new(device.open()?, self.dtype.dtype()))
    }

    /// Where the default model is, which is fetched first if need be.
    fn default_model(&self, quiet: bool) -> Result<PathBuf> {
        let path = DEFAULT_MODEL.path()?;
        if !DEFAULT_MODEL.is_whole(&path) {
            if self.offline {
                bail!(
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

/// The id of a model of the hub; `None` for a path: what is there is meant, whatever it looks like.
pub fn hub_id(name: &Path) -> Option<HubId> {
    name.to_str().filter(|_| !name.exists()).and_then(HubId::parse)
}

/// Waits until all of the model's files have been read, without which it cannot be told from
/// others; what was read once is remembered for large files.
///
/// # Errors
/// Files that cannot be read, that were changed since the model was opened, or an interruption.
pub fn identify(model: &Description, quiet: bool) -> Result<()> {
    let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::no_length() };
    let style = ProgressStyle::with_template(
        "reading the whole model to tell it from others {wide_bar} {bytes} of {total_bytes}",
    );
    bar.set_style(style.expect("the template is well formed"));
    let mut pause = Duration::from_millis(1);
    while !model.fingerprint.is_known() {
        if interrupt::check().is_break() {
            bar.finish_and_clear();
            bail!("interrupted");
        }
        std::thread::sleep(pause);
        pause = (2 * pause).min(Duration::from_millis(100));
        let (n_done, n_bytes) = model.fingerprint.progress();
        bar.set_length(n_bytes);
        bar.set_position(n_done);
    }
    bar.finish_and_clear();
    model.fingerprint.get()?;
    Ok(())
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
