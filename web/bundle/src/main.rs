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
        .out_name("patchboard")
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

/// The page without Trunk's directives. The one for the WebAssembly becomes the script that
/// starts it; those for copied files go.
fn page(text: &str) -> String {
    let lines = text.lines().filter_map(|line| {
        if !line.contains("data-trunk") {
            Some(format!("{line}\n"))
        } else if line.contains("rel=\"rust\"") {
            Some("    <script type=\"module\" src=\"start.js\"></script>\n".to_string())
        } else if line.contains("rel=\"copy-file\"") {
            None
        } else {
            Some(format!("{}\n", line.replace(" data-trunk", "")))
        }
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_are_carried_out() {
        let shell = "<head>\n    <link rel=\"icon\" href=\"i.svg\" data-trunk />\n\
            <link data-trunk rel=\"copy-file\" href=\"boot.js\" />\n\
            <link data-trunk rel=\"rust\" href=\"x\" />\n</head>\n";
        let expected = "<head>\n    <link rel=\"icon\" href=\"i.svg\" />\n    \
            <script type=\"module\" src=\"start.js\"></script>\n</head>\n";
        assert_eq!(page(shell), expected);
    }
}
