//! How much memory may be taken.

use anyhow::{Context, Result, bail};
use bytesize::ByteSize;
use candle_core::Device;
use clap::Args;
use sysinfo::System;

use crate::model::Placement;

/// The limits of the process and of the device.
#[derive(Debug, Args)]
pub struct MemoryArgs {
    /// The most memory of the whole process, e.g. 4GiB; what the system keeps of files aside. A
    /// model that does not fit is read from its files layer by layer. Default: three quarters of
    /// what is free.
    #[arg(long, value_name = "SIZE")]
    memory: Option<ByteSize>,

    /// The most memory on the GPU, e.g. 20GiB, its weights included. A model that does not fit goes
    /// through it layer by layer. Default: nine tenths of what is free there.
    #[arg(long, value_name = "SIZE")]
    device_memory: Option<ByteSize>,
}

impl MemoryArgs {
    /// What may be taken where models are computed, in bytes: by the process, or on a device that has
    /// memory of its own.
    ///
    /// # Errors
    /// A limit for a device that has none, one that is larger than what is free there, or more than
    /// this machine can address.
    pub fn limit(&self, device: &Device) -> Result<usize> {
        let n_bytes = match (Placement::n_free_bytes(device)?, self.device_memory) {
            (Some(free), Some(size)) if size.as_u64() > free => bail!(
                "`--device-memory {size}`, and on the GPU {} are free: allow less",
                ByteSize(free)
            ),
            (Some(_), Some(size)) => size.as_u64(),
            (Some(free), None) => free / 10 * 9,
            (None, Some(_)) => bail!(
                "`--device-memory` is for a GPU, and the device is the CPU: say `--memory`, or \
                 choose a `--device`"
            ),
            (None, None) => return self.host_limit(),
        };
        addressable(n_bytes)
    }

    /// What the process may take, in bytes.
    ///
    /// # Errors
    /// More than this machine can address.
    pub fn host_limit(&self) -> Result<usize> {
        addressable(match self.memory {
            Some(size) => size.as_u64(),
            None => free()? / 4 * 3,
        })
    }
}

fn addressable(n_bytes: u64) -> Result<usize> {
    usize::try_from(n_bytes).context("that is more memory than there is")
}

/// The memory that is free, or can be freed at once, in the container or on the machine.
fn free() -> Result<u64> {
    let mut system = System::new().context("this system does not say how much memory is free")?;
    system.refresh_memory();
    let free = system.available_memory();
    Ok(system.cgroup_limits().map_or(free, |limits| free.min(limits.free_memory)))
}
