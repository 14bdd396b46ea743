//! The rooms of the model know each other in one direction.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The Rust files below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, others): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let rust = others.into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs"));
    rust.chain(folders.iter().flat_map(|folder| files(folder))).collect()
}

/// The modules that a file names, from the crate's root, e.g. `model::arch`. A path that begins with
/// `super` is resolved from `module`.
fn named(text: &str, module: &[&str]) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for (begin, is_absolute) in [("crate::", true), ("super::", false)] {
            for (at, _) in line.match_indices(begin) {
                if line[..at].ends_with("super::") || line[..at].ends_with("$") {
                    continue;
                }
                let mut rest = &line[at..];
                let mut from = module.to_vec();
                if is_absolute {
                    rest = &rest[begin.len()..];
                    from.clear();
                }
                while let Some(after) = rest.strip_prefix("super::") {
                    (rest, _) = (after, from.pop());
                }
                // A list of paths, or one.
                let list = rest.strip_prefix('{').unwrap_or(rest);
                let path: String =
                    list.chars().take_while(|c| c.is_alphanumeric() || "_:".contains(*c)).collect();
                let path = [from.join("::"), path].join("::");
                named.insert(path.trim_start_matches("::").to_string());
            }
        }
    }
    named
}

#[test]
fn the_rooms_of_the_model_have_no_circles() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join("model");
    let mut knows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files(&model) {
        let inside = file.strip_prefix(&model).unwrap().with_extension("");
        let mut module = vec!["model".to_string()];
        module.extend(inside.iter().map(|part| part.to_string_lossy().into_owned()));
        module.retain(|part| part != "mod");
        // What hands everything out to others belongs to no room.
        let Some(of) = module.get(1).cloned() else { continue };
        let module: Vec<_> = module.iter().map(String::as_str).collect();
        for path in named(&fs::read_to_string(&file).unwrap(), &module) {
            let Some(path) = path.strip_prefix("model::") else { continue };
            let to = path.split("::").next().unwrap_or_default();
            // A name from the whole model's list would hide which room it is of.
            assert!(
                to.starts_with(char::is_lowercase),
                "{}: `{path}` is named through `model`: name the room",
                file.display()
            );
            if to != of {
                knows.entry(of.clone()).or_default().insert(to.to_string());
            }
        }
    }
    for room in ["checkpoint", "net", "tokenizer", "open"] {
        assert!(knows.contains_key(room), "{room} knows nobody: is this test blind?");
    }
    assert!(!knows.contains_key("arch"), "arch knows {:?}", knows["arch"]);
    // Rooms that know only rooms that are done are done; what is left over is in a circle.
    let mut left: BTreeSet<String> = knows.keys().cloned().collect();
    while let Some(done) =
        left.iter().find(|room| knows[*room].iter().all(|to| !left.contains(to))).cloned()
    {
        left.remove(&done);
    }
    assert!(left.is_empty(), "these know each other in a circle: {left:?} of {knows:?}");
}
