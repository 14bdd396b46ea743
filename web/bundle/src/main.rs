//! `bundle WASM SHELL DIST`: makes the viewer's folder DIST of the built WASM and the files in
//! SHELL, as `trunk build --release` would, with nothing to install, and with the pages that are not
//! needed to show a result in a file of their own. `web/src/main.rs` says what is in it.

mod parts;

use std::collections::BTreeSet;
use std::path::Path;
use std::{env, fs, io};

use anyhow::{Context, Result, bail};
use wasm_bindgen_cli_support::Bindgen;

use self::parts::Parts;

/// What is made.
const MADE: [&str; 4] = ["index.html", "web.js", "web_bg.wasm", "web_pages.wasm"];

/// What is copied as it is.
const COPIED: [&str; 4] = ["style.css", "boot.js", "start.js", "icon.svg"];

fn main() -> Result<()> {
    let args: Vec<_> = env::args_os().skip(1).collect();
    let [wasm, shell, dist] = &*args else { bail!("usage: bundle WASM SHELL DIST") };
    let (shell, dist) = (Path::new(shell), Path::new(dist));
    check(dist)?;
    fs::create_dir_all(dist).with_context(|| format!("cannot make {}", dist.display()))?;
    let wasm = Path::new(wasm);
    let is_none = || format!("{} is no viewer", wasm.display());
    let parts = Parts::of(wasm, &wasm.with_file_name("parts")).with_context(is_none)?;
    Bindgen::new()
        .input_bytes("web", parts.main.clone())
        .web(true)?
        .typescript(false)
        .remove_name_section(true)
        .remove_producers_section(true)
        // The other pages are linked with memory, stack and table of functions.
        .keep_lld_exports(true)
        .generate(dist)
        .with_context(is_none)?;
    let script = dist.join("web.js");
    fs::write(&script, parts.script(&fs::read_to_string(&script)?)?)?;
    fs::write(dist.join("web_pages.wasm"), &parts.pages)?;
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

/// The folder must be new, empty, or hold a viewer and nothing else: what lies there is written
/// over, and all of it is built into the binary.
fn check(dist: &Path) -> Result<()> {
    let entries = match fs::read_dir(dist) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", dist.display())),
    };
    let mut names = BTreeSet::new();
    for entry in entries {
        names.insert(entry?.file_name().to_string_lossy().into_owned());
    }
    let other = names.iter().find(|name| !MADE.contains(&&***name) && !COPIED.contains(&&***name));
    match other {
        Some(other) => bail!(
            "{} holds {other:?}, which is no part of the viewer: choose a new or an empty folder",
            dist.display()
        ),
        None if !names.is_empty() && !names.contains("web_bg.wasm") => bail!(
            "{} is no folder of the viewer, it lacks web_bg.wasm: choose a new or an empty folder",
            dist.display()
        ),
        None => Ok(()),
    }
}

/// The page without Trunk's directives, a line each.
fn page(text: &str) -> String {
    text.split_inclusive('\n').filter(|line| !line.contains("data-trunk")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_viewers_folder_is_written_over() {
        let place = tempfile::tempdir().unwrap();
        let all: Vec<_> = MADE.into_iter().chain(COPIED).collect();
        let cases: [(&[&str], Option<&str>); 6] = [
            (&[], None),
            (&all, None),
            (&["web_bg.wasm", "style.css"], None),
            (&["index.html", "style.css"], Some("it lacks web_bg.wasm")),
            (&["Cargo.toml", "web"], Some("holds \"Cargo.toml\", which is no part of the viewer")),
            (&["web_bg.wasm", "thesis.tex"], Some("holds \"thesis.tex\"")),
        ];
        for (i, (names, expected)) in cases.into_iter().enumerate() {
            let folder = place.path().join(i.to_string());
            fs::create_dir(&folder).unwrap();
            for name in names {
                fs::write(folder.join(name), "kept").unwrap();
            }
            match (check(&folder), expected) {
                (Ok(()), None) => {}
                (Err(error), Some(expected)) => {
                    assert!(error.to_string().contains(expected), "{error}");
                }
                (got, _) => panic!("{names:?}: {got:?}"),
            }
            assert_eq!(fs::read_dir(&folder).unwrap().count(), names.len());
        }
        check(&place.path().join("new")).unwrap();
    }
}
