//! Tells two models apart without reading them whole.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::error::ModelError;

/// Bytes read from the beginning of each file: the header of a small model, most of a large one's.
const HEAD_BYTES: u64 = 1 << 20;
/// How many places of each file are sampled beside its beginning.
const N_SAMPLES: u64 = 256;
/// Bytes read at each of them.
const SAMPLE_BYTES: u64 = 4096;

/// 32 hexadecimal digits from the beginnings, sizes and evenly spaced samples of the files, so that
/// the cost does not grow with the model. It notices another model, another precision or a training
/// step in between; it is no protection against somebody who wants to deceive.
///
/// # Errors
/// A file that cannot be read.
pub fn fingerprint(paths: &[impl AsRef<Path>]) -> Result<String, ModelError> {
    let mut hash = Sha256::new();
    for path in paths {
        let path = path.as_ref();
        sample(path, &mut hash)
            .map_err(|e| ModelError::file(path, format!("cannot read the model: {e}")))?;
    }
    Ok(hex(&hash.finalize()[..16]))
}

/// The SHA-256 of a whole file, as hexadecimal digits.
///
/// # Errors
/// A file that cannot be read.
pub fn sha256_of(path: &Path) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    std::io::copy(&mut File::open(path)?, &mut hash)?;
    Ok(hex(&hash.finalize()))
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sample(path: &Path, hash: &mut Sha256) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    let n_bytes = file.metadata()?.len();
    hash.update(n_bytes.to_le_bytes());
    let mut bytes = Vec::new();
    file.by_ref().take(HEAD_BYTES).read_to_end(&mut bytes)?;
    hash.update(&bytes);
    for i in 1..=N_SAMPLES {
        let at = n_bytes.saturating_sub(SAMPLE_BYTES) / N_SAMPLES * i;
        bytes.clear();
        file.seek(SeekFrom::Start(at))?;
        file.by_ref().take(SAMPLE_BYTES).read_to_end(&mut bytes)?;
        hash.update(&bytes);
    }
    Ok(())
}
