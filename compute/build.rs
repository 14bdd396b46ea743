//! Puts the built viewer into the binary, where `PATCHBOARD_VIEWER` names its folder.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-env-changed=PATCHBOARD_VIEWER");
    let mut files = Vec::new();
    if let Some(folder) = env::var_os("PATCHBOARD_VIEWER").filter(|folder| !folder.is_empty()) {
        // Relative to the workspace, from where cargo is called.
        let manifest = env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
        let folder = Path::new(&manifest).join("..").join(folder);
        let entries = fs::read_dir(&folder).unwrap_or_else(|error| {
            panic!(
                "PATCHBOARD_VIEWER names {}: {error}; run scripts/build-web.sh",
                folder.display()
            )
        });
        files.extend(entries.map(|entry| entry.expect("a readable folder").path()));
        files.retain(|path| path.is_file());
        files.sort();
    }
    let mut text = String::from("&[\n");
    for path in &files {
        println!("cargo:rerun-if-changed={}", path.display());
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let path = path.canonicalize().expect("a file that was just listed");
        text.push_str(&format!("    ({name:?}, include_bytes!({path:?})),\n"));
    }
    text.push_str("]\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out.join("viewer.rs"), text).expect("OUT_DIR can be written to");
}
