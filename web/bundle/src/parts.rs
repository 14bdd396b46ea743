//! Cuts the pages that are not needed to show a result out of the viewer (`web/src/pages/apart.rs`), into a
//! module that is loaded when the first of them is opened.

use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use walrus::{Module, ModuleConfig};
use wasm_split_cli_support::{Options, transform};

/// The script that the viewer asks for the module.
const SCRIPT: &str = include_str!("pages.js");

/// What the cut viewer believes to be the script's file; it becomes a part of `web.js`.
const LINK: &str = "./pages.js";

/// A viewer in two modules.
pub struct Parts {
    /// What shows results.
    pub main: Vec<u8>,
    /// The other pages.
    pub pages: Vec<u8>,
    /// The name that both have for this build.
    build: String,
}

impl Parts {
    /// Cuts the viewer at `wasm`, which the linker has left its relocations and names. `work` is a folder for
    /// what arises on the way.
    ///
    /// # Errors
    /// It cannot be read, or has no other pages.
    pub fn of(wasm: &Path, work: &Path) -> Result<Self> {
        let input = fs::read(wasm).with_context(|| format!("cannot read {}", wasm.display()))?;
        let mut hasher = DefaultHasher::new();
        hasher.write(&input);
        let build = format!("build_{:x}", hasher.finish());
        let main = work.join("main.wasm");
        let mut options = Options::new(&input);
        (options.output_dir, options.main_out_path, options.link_name) = (work, &main, LINK);
        // Its errors are of another kind, with a report of their own.
        let cut = transform(options).map_err(|error| anyhow!("{error:#}"))?;
        let [pages] = &*cut.split_modules else {
            bail!("expected one part beside the viewer, found {:?}", cut.split_modules)
        };
        Ok(Self { main: fs::read(&main)?, pages: compact(&fs::read(pages)?, &build)?, build })
    }

    /// The script of the viewer with what loads the other pages, which it asks for in a file of its own.
    ///
    /// # Errors
    /// It does not ask for them.
    pub fn script(&self, text: &str) -> Result<String> {
        let end = format!(" from \"{LINK}\"");
        let is_import = |line: &&str| line.starts_with("import * as ") && line.contains(&end);
        let line = text.lines().find(is_import).context("web.js does not import the pages")?;
        let name = line.trim_start_matches("import * as ").split(' ').next().unwrap_or_default();
        let script = SCRIPT.replace("PAGES", name).replace("BUILD", &self.build);
        Ok(text.replacen(line, script.trim_end(), 1))
    }
}

/// The module as small as it is without relocations and names. It asks for `build`, so that no other viewer
/// than its own can start it: their addresses differ.
fn compact(wasm: &[u8], build: &str) -> Result<Vec<u8>> {
    let mut config = ModuleConfig::new();
    config.generate_name_section(false).generate_producers_section(false);
    let mut module = config.parse(wasm)?;
    module.add_import_global("__wasm_split", build, walrus::ValType::I32, false, false);
    remove_customs(&mut module);
    Ok(module.emit_wasm())
}

/// Without what linker and tools have left beside it.
fn remove_customs(module: &mut Module) {
    let customs: Vec<_> = module.customs.iter().map(|(id, _)| id).collect();
    for id in customs {
        module.customs.delete(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_loads_the_pages_itself() {
        let parts = Parts { main: vec![], pages: vec![], build: "build_1".into() };
        let text = "import * as import2 from \"./pages.js\"\n\nlet wasm;\n";
        let script = parts.script(text).unwrap();
        assert!(!script.contains("import *") && script.ends_with("};\n\nlet wasm;\n"), "{script}");
        for expected in ["const import2 = {", "\"web_pages.wasm?build_1\"", "...wasm, build_1: 0"] {
            assert!(script.contains(expected), "{expected} is not in {script}");
        }
        assert!(parts.script("let wasm;\n").is_err());
    }
}
