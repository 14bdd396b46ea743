//! How much memory the process may take.

use anyhow::{Context, Result};
use bytesize::ByteSize;
use clap::Args;
use sysinfo::System;

/// The limit of the process.
#[derive(Debug, Args)]
pub struct MemoryArgs {
    /// The most memory of the whole process, e.g. 4GiB; what the system keeps of files aside. A
    /// model that does not fit is read from its files layer by layer. Default: three quarters of
    /// what is free.
    #[arg(long, value_name = "SIZE")]
    memory: Option<ByteSize>,
}

impl MemoryArgs {
    /// The limit in bytes.
    ///
    /// # Errors
    /// More than this machine can address.
    pub fn limit(&self) -> Result<usize> {
        let n_bytes = match self.memory {
            Some(size) => size.as_u64(),
            None => free()? / 4 * 3,
        };
        usize::try_from(n_bytes).context("that is more memory than there is")
    }
}

/// The memory that is free, or can be freed at once, in the container or on the machine.
fn free() -> Result<u64> {
    let mut system = System::new().context("this system does not say how much memory is free")?;
    system.refresh_memory();
    let free = system.available_memory();
    Ok(system.cgroup_limits().map_or(free, |limits| free.min(limits.free_memory)))
}
