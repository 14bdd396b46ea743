//! Rooms know each other in one direction.

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

/// Who knows whom of the rooms in the folder `of`, whose modules are named below `within`.
fn knowledge(of: &Path, within: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut knows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files(of) {
        let inside = file.strip_prefix(of).unwrap().with_extension("");
        let mut module: Vec<String> = Vec::new();
        module.extend((!within.is_empty()).then(|| within.to_string()));
        let n_outside = module.len();
        module.extend(inside.iter().map(|part| part.to_string_lossy().into_owned()));
        module.retain(|part| !["mod", "lib", "main"].contains(&part.as_str()));
        // What hands everything out to others belongs to no room.
        let Some(room) = module.get(n_outside).cloned() else { continue };
        let module: Vec<_> = module.iter().map(String::as_str).collect();
        let text = fs::read_to_string(&file).unwrap();
        // Tests may look at whatever they like.
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        if file.file_stem().is_some_and(|name| name == "tests" || name == "fixture") {
            continue;
        }
        let known = knows.entry(room.clone()).or_default();
        for path in named(text, &module) {
            let prefix = if within.is_empty() { String::new() } else { format!("{within}::") };
            let Some(path) = path.strip_prefix(&prefix) else { continue };
            let to = path.split("::").next().unwrap_or_default();
            // A name from the parent's list would hide which room it is of.
            assert!(
                to.starts_with(char::is_lowercase),
                "{}: `{path}` is named without its room",
                file.display()
            );
            if to != room {
                known.insert(to.to_string());
            }
        }
    }
    knows
}

/// Holds that each of `rooms` knows those before it alone, and that there are no others.
fn one_direction(knows: &BTreeMap<String, BTreeSet<String>>, rooms: &[&str]) {
    let there: BTreeSet<&str> = knows.keys().map(String::as_str).collect();
    assert_eq!(there, rooms.iter().copied().collect(), "the rooms, and where they stand");
    for (at, room) in rooms.iter().enumerate() {
        for to in &knows[*room] {
            assert!(rooms[..at].contains(&to.as_str()), "{room} knows {to}, which comes after it");
        }
    }
}

#[test]
fn the_rooms_of_the_model_have_no_circles() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/model");
    let knows = knowledge(&model, "model");
    let rooms = ["sha256", "arch", "checkpoint", "net", "tokenizer", "open", "default_model"];
    one_direction(&knows, &rooms);
    assert!(knows["open"].contains("net"), "is this test blind? {knows:?}");
}

#[test]
fn the_rooms_of_shared_have_no_circles() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/src");
    let knows = knowledge(&shared, "");
    let rooms =
        ["grid", "statistics", "specification", "document", "field", "study", "figure", "wire"];
    one_direction(&knows, &rooms);
    assert!(knows["wire"].contains("document"), "is this test blind? {knows:?}");
}

#[test]
fn the_rooms_of_the_viewer_have_no_circles() {
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/src");
    let knows = knowledge(&web, "");
    let rooms = ["platform", "data", "navigation", "widgets", "map", "pages", "app"];
    one_direction(&knows, &rooms);
    assert!(knows["pages"].contains("map"), "is this test blind? {knows:?}");
}

#[test]
fn a_circle_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.rs"), "use crate::b::X;\n").unwrap();
    fs::write(folder.path().join("b.rs"), "use super::a::Y; // and\n// crate::c\n").unwrap();
    let knows = knowledge(folder.path(), "");
    let circle = std::panic::catch_unwind(|| one_direction(&knows, &["a", "b"]));
    assert!(circle.is_err(), "{knows:?}");
}
