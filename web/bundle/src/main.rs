//! `bundle WASM SHELL DIST`: makes the viewer's folder DIST of the built WASM and the files in
//! SHELL, as `trunk build --release` would, with nothing to install. `web/src/main.rs` says what
//! is in it.

use std::path::Path;
use std::{env, fs};

use anyhow::{Context, Result, bail};
use wasm_bindgen_cli_support::Bindgen;

/// What is copied as it is.
const COPIED: [&str; 4] = ["style.css", "boot.js", "start.js", "icon.svg"];

fn main() -> Result<()> {
    let args: Vec<_> = env::args_os().skip(1).collect();
    let [wasm, shell, dist] = &*args else { bail!("usage: bundle WASM SHELL DIST") };
    let (shell, dist) = (Path::new(shell), Path::new(dist));
    // What an older version left there would be built into the binary.
    if dist.exists() {
        fs::remove_dir_all(dist).with_context(|| format!("cannot clear {}", dist.display()))?;
    }
    fs::create_dir_all(dist).with_context(|| format!("cannot make {}", dist.display()))?;
    Bindgen::new()
        .input_path(wasm)
        .web(true)?
        .typescript(false)
        .remove_name_section(true)
        .remove_producers_section(true)
        .out_name("web")
        .generate(dist)
        .with_context(|| format!("{} is no viewer", Path::new(wasm).display()))?;
    for name in COPIED {
        let from = shell.join(name);
        fs::copy(&from, dist.join(name))
            .with_context(|| format!("cannot copy {}", from.display()))?;
    }
    let index = shell.join("index.html");
    let text =
        fs::read_to_string(&index).with_context(|| format!("cannot read {}", index.display()))?;
    fs::write(dist.join("index.html"), page(&text))?;
    Ok(())
}

/// The page without Trunk's directives, a line each.
fn page(text: &str) -> String {
    text.split_inclusive('\n').filter(|line| !line.contains("data-trunk")).collect()
}
