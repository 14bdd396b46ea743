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

/// Adds the paths that `text` begins with, one or those of a list in braces, to `found`, each after
/// `before`. Returns how many bytes they take.
fn paths(text: &str, before: &str, found: &mut BTreeSet<String>) -> usize {
    let is_path = |c: char| c.is_alphanumeric() || "_:".contains(c);
    let mut at = text.find(|c| !is_path(c)).unwrap_or(text.len());
    let path = format!("{before}{}", &text[..at]);
    if !text[at..].starts_with('{') {
        found.insert(path);
        return at;
    }
    loop {
        let Some(next) = text[at + 1..].find(|c: char| !c.is_whitespace()) else {
            return text.len();
        };
        at += 1 + next;
        if text[at..].starts_with('}') {
            return at + 1;
        }
        at += paths(&text[at..], &path, found);
        // `as` and another name may follow.
        let Some(end) = text[at..].find([',', '}']) else { return text.len() };
        at += end;
        if text[at..].starts_with('}') {
            return at + 1;
        }
    }
}

/// The modules that a file names, from the crate's root, e.g. `model::arch`. A path that begins with
/// `super` is resolved from `module`.
fn named(text: &str, module: &[&str]) -> BTreeSet<String> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let text = lines.collect::<Vec<_>>().join("\n");
    let mut named = BTreeSet::new();
    for begin in ["crate::", "super::"] {
        for (at, _) in text.match_indices(begin) {
            if text[..at].ends_with(|c: char| c.is_alphanumeric() || "_:$".contains(c)) {
                continue;
            }
            let (mut rest, mut from) = (&text[at..], module.to_vec());
            if let Some(after) = rest.strip_prefix("crate::") {
                (rest, from) = (after, Vec::new());
            }
            while let Some(after) = rest.strip_prefix("super::") {
                (rest, _) = (after, from.pop());
            }
            let before: String = from.iter().map(|part| format!("{part}::")).collect();
            paths(rest, &before, &mut named);
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
        module.extend(within.split("::").filter(|part| !part.is_empty()).map(String::from));
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
            // A name from the parent's list would hide which room it is of.
            assert!(to.starts_with(char::is_lowercase), "{room} names `{to}` without its room");
            assert!(rooms[..at].contains(&to.as_str()), "{room} knows {to}, which comes after it");
        }
    }
}

/// The rooms that know each other in a circle, and those that know one of these.
fn circle(mut knows: BTreeMap<String, BTreeSet<String>>) -> BTreeMap<String, BTreeSet<String>> {
    loop {
        let there: BTreeSet<String> = knows.keys().cloned().collect();
        for known in knows.values_mut() {
            known.retain(|to| there.contains(to));
        }
        knows.retain(|_, known| !known.is_empty());
        if knows.len() == there.len() {
            return knows;
        }
    }
}

/// Holds that the modules of no folder below `of` know each other in a circle. What a folder's own
/// file and those in it know of each other is between them.
fn no_circles(of: &Path, within: &str) {
    assert_eq!(circle(knowledge(of, within)), BTreeMap::new(), "a circle in {}", of.display());
    for entry in fs::read_dir(of).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let within = if within.is_empty() { name } else { format!("{within}::{name}") };
            no_circles(&path, &within);
        }
    }
}

#[test]
fn no_folder_of_shared_or_the_viewer_has_a_circle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for folder in ["shared/src", "web/src"] {
        no_circles(&root.join(folder), "");
    }
    let data = knowledge(&root.join("web/src/data"), "data");
    assert!(data["server"].contains("api"), "is this test blind? {data:?}");
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
    let rooms = [
        "json",
        "markdown",
        "grid",
        "statistics",
        "specification",
        "document",
        "field",
        "study",
        "figure",
        "wire",
    ];
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
    let order = std::panic::catch_unwind(|| one_direction(&knows, &["a", "b"]));
    assert!(order.is_err(), "{knows:?}");
    fs::write(folder.path().join("c.rs"), "use crate::a::X;\n").unwrap();
    let known = |of: &[&str]| of.iter().map(|name| name.to_string()).collect::<BTreeSet<_>>();
    let expected = [("a", known(&["b"])), ("b", known(&["a"])), ("c", known(&["a"]))];
    let expected = expected.map(|(room, known)| (room.to_string(), known));
    assert_eq!(circle(knowledge(folder.path(), "")), expected.into());
}

#[test]
fn lists_are_read_to_their_ends() {
    let text = "use crate::{a::X, b::{Y as Z, c},\n    d};\nuse super::e::{self, F};\n\
        fn f() -> crate::g::H { super::super::i::j() }";
    let expected = ["a::X", "b::Y", "b::c", "d", "g::H", "i::j", "m::e::F", "m::e::self"];
    assert_eq!(named(text, &["m", "n"]), expected.map(String::from).into());
}
