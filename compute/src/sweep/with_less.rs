//! Sweeps on a device whose memory others take, too.

use candle_core::Device;

use crate::model::Placement;

/// How often a sweep is tried on a device that runs out of memory.
const MOST_ATTEMPTS: u32 = 3;

/// Calls `sweep` with the bytes that it may take, `allowed`; where `device` runs out of memory, again
/// with half of that, or what is free by then if that is less, and so once more.
///
/// # Errors
/// What `sweep` reports.
pub fn with_less<T, E>(
    device: &Device,
    mut allowed: usize,
    ran_out: impl Fn(&E) -> bool,
    mut sweep: impl FnMut(usize) -> Result<T, E>,
) -> Result<T, E> {
    for _ in 1..MOST_ATTEMPTS {
        match sweep(allowed) {
            Err(error) if ran_out(&error) => {}
            outcome => return outcome,
        }
        // What the failed attempt took is free once the device has caught up.
        let free = device.synchronize().and_then(|()| Placement::n_free_bytes(device));
        let free = free.ok().flatten().map_or(usize::MAX, |free| (free / 10 * 9) as usize);
        allowed = free.min(allowed / 2);
        tracing::warn!(allowed, "the GPU ran out of memory: going on with a smaller plan");
    }
    sweep(allowed)
}

#[cfg(test)]
mod tests {
    use candle_core::Error;

    use super::*;
    use crate::sweep::SweepError;

    #[test]
    fn a_full_device_is_asked_for_less() {
        let full = || SweepError::from(Error::msg("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"\")"));
        let ran_out = |error: &SweepError| matches!(error, SweepError::DeviceMemory(_));
        // How often it is full, what is asked for, and whether it succeeds.
        for (n_full, expected, succeeds) in
            [(0, &[1000][..], true), (2, &[1000, 500, 250], true), (9, &[1000, 500, 250], false)]
        {
            let mut asked = Vec::new();
            let outcome = with_less(&Device::Cpu, 1000, ran_out, |allowed| {
                asked.push(allowed);
                if asked.len() > n_full { Ok(()) } else { Err(full()) }
            });
            assert_eq!(asked, expected);
            assert_eq!(outcome.is_ok(), succeeds);
        }
        let mut n_asked = 0;
        let other = with_less(&Device::Cpu, 1000, ran_out, |_| {
            n_asked += 1;
            Err::<(), _>(SweepError::from(Error::msg("another failure")))
        });
        assert!(matches!(other, Err(SweepError::Candle(_))));
        assert_eq!(n_asked, 1);
    }
}
