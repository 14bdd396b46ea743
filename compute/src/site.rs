//! Results that people can open without Patchboard: a static site, or a single HTML file.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use shared::document::Document;
use shared::figure::FigureOptions;
use shared::study::Study;
use shared::wire::address::{Address, Page, Source};
use shared::wire::gallery::{Gallery, StudyEntry};

use crate::export::{self, ExportError, Format, render, write_atomically};

/// The built viewer's files, by name; empty where it was not built in.
const VIEWER: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/viewer.rs"));

/// A site or report that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// The binary has no viewer in it.
    #[error(
        "this patchboard was built without the viewer: run `scripts/build-web.sh` and build again \
         with `PATCHBOARD_VIEWER=dist`"
    )]
    NoViewer,
    /// The viewer is not put together as this version expects.
    #[error("the viewer in this patchboard is damaged, it lacks {0}: build it again")]
    DamagedViewer(&'static str),
    /// A file or figure that could not be made.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// A folder that could not be made.
    #[error("cannot make the folder {}: {error}", .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
}

/// The built viewer's files, by name; empty where it was not built in.
pub fn viewer() -> &'static [(&'static str, &'static [u8])] {
    VIEWER
}

/// One of the viewer's files.
fn viewer_file(name: &'static str) -> Result<&'static [u8], SiteError> {
    if VIEWER.is_empty() {
        return Err(SiteError::NoViewer);
    }
    let found = VIEWER.iter().find(|(file, _)| *file == name);
    found.map(|(_, bytes)| *bytes).ok_or(SiteError::DamagedViewer(name))
}

fn viewer_text(name: &'static str) -> Result<&'static str, SiteError> {
    std::str::from_utf8(viewer_file(name)?).map_err(|_| SiteError::DamagedViewer(name))
}

/// Whether the viewer was built in.
///
/// # Errors
/// [`SiteError::NoViewer`].
pub fn check_viewer() -> Result<(), SiteError> {
    viewer_file("index.html").map(drop)
}

/// A study and its file of values.
pub struct StudyFiles {
    /// The manifest.
    pub study: Study,
    /// The bytes of the file.
    pub values: Vec<u8>,
}

/// Writes the viewer, the documents, the studies, their list and a page with a link preview for each into
/// `folder`. All addresses are relative, so that it works from any path of any file host;
/// `address` is that of the site once it is published, which pictures in previews need.
///
/// # Errors
/// [`SiteError`].
pub fn write_site(
    folder: &Path,
    documents: &[Document],
    studies: &[StudyFiles],
    address: Option<&str>,
) -> Result<(), SiteError> {
    check_viewer()?;
    let data = folder.join("data");
    let pages = folder.join("e");
    for path in [&data, &pages] {
        std::fs::create_dir_all(path)
            .map_err(|error| SiteError::Folder { path: path.clone(), error })?;
    }
    for (name, bytes) in VIEWER {
        write_atomically(&folder.join(name), bytes)?;
    }
    for document in documents {
        let id = &document.id;
        let picture = render(document, Format::Png, &FigureOptions::default())?;
        write_atomically(&data.join(format!("{id}.json")), document.to_json().as_bytes())?;
        write_atomically(&data.join(format!("{id}.png")), &picture)?;
        write_atomically(
            &pages.join(format!("{id}.html")),
            preview(document, address).0.as_bytes(),
        )?;
    }
    for StudyFiles { study, values } in studies {
        let path = data.join("studies").join(&study.id);
        std::fs::create_dir_all(&path)
            .map_err(|error| SiteError::Folder { path: path.clone(), error })?;
        export::study::write(&path, study, values)?;
    }
    // Last, so that whatever is listed is there.
    let entries = studies.iter().map(|files| StudyEntry::of(&files.study));
    let list = Gallery { studies: entries.collect(), ..Gallery::of(documents) };
    let list = serde_json::to_vec(&list);
    let list = list.expect("a list has no map with odd keys");
    Ok(write_atomically(&data.join("index.json"), &list)?)
}

/// A page that tells link previews what the experiment is, and sends people to the viewer.
fn preview(document: &Document, address: Option<&str>) -> Markup {
    let id = &document.id;
    let title = match &*document.entity {
        "" => shortened(&document.model),
        entity => format!("{} · {}", shortened(entity), shortened(&document.model)),
    };
    let description = format!(
        "Activation patching, {} layers × {} tokens. Source: {} Base: {}",
        document.num_layers,
        document.token_labels.len(),
        shortened(&document.source_sentence),
        shortened(&document.base_sentence)
    );
    let address = address.map_or("..", |address| address.trim_end_matches('/'));
    let picture = format!("{address}/data/{id}.png");
    let experiment = Address::of(Page::Experiment(Source::Id(id.clone())));
    let experiment = format!("../index.html#{}", experiment.fragment());
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { (title) }
                // Without one, browsers ask the host for a file that is not there.
                link rel="icon" type="image/svg+xml" href="../icon.svg";
                meta name="description" content=(description);
                meta property="og:type" content="article";
                meta property="og:title" content=(title);
                meta property="og:description" content=(description);
                meta property="og:image" content=(picture);
                meta name="twitter:card" content="summary_large_image";
                meta http-equiv="refresh" content={ "0; url=" (experiment) };
            }
            body { a href=(experiment) { (title) } }
        }
    }
}

/// As much of a text as a preview of a link shows.
fn shortened(text: &str) -> String {
    const MAX_CHARS: usize = 300;
    let mut chars = text.chars();
    let mut short: String = chars.by_ref().take(MAX_CHARS).collect();
    if chars.next().is_some() {
        short.push('…');
    }
    short
}

/// One HTML file with the viewer, the documents and the studies inside, which opens from disk.
///
/// # Errors
/// [`SiteError::NoViewer`] or [`SiteError::DamagedViewer`].
pub fn report(documents: &[Document], studies: &[StudyFiles]) -> Result<String, SiteError> {
    let mut page = viewer_text("index.html")?.to_string();
    let script = viewer_text("web.js")?;
    let wasm = bytes(viewer_file("web_bg.wasm")?);
    // The pages that a viewer has in a file of their own; Trunk's has all in one.
    let pages = VIEWER.iter().find(|(name, _)| *name == "web_pages.wasm");
    let pages = pages.map(|(_, file)| format!("pagesBytes = {};\n", bytes(file)));
    // Within a script HTML knows no escapes, and JSON does.
    let list = |texts: Vec<String>| format!("[{}]", texts.join(",")).replace('<', "\\u003c");
    let data = list(documents.iter().map(Document::to_json).collect());
    let inline = |files: &StudyFiles| {
        let mut study = files.study.clone();
        if let Some(place) = &mut study.values {
            place.put_inline(&files.values);
        }
        study.to_json()
    };
    let studies = studies.iter().map(|files| inline(files).replace('<', "\\u003c"));
    let start = format!(
        "{script}\n{}__wbg_init({{ module_or_path: {wasm} }}).catch(window.patchboardFailed);\n",
        pages.unwrap_or_default()
    );
    let style = html! { style { (PreEscaped(viewer_text("style.css")?)) } };
    let boot = html! { script { (PreEscaped(viewer_text("boot.js")?)) } };
    let start = html! {
        script type="application/json" id="patchboard-data" { (PreEscaped(data)) }
        @for (n, study) in studies.enumerate() {
            script type="application/json" id=(format!("patchboard-study-{n}")) { (PreEscaped(study)) }
        }
        script type="module" { (PreEscaped(start)) }
    };
    let icon = format!("data:image/svg+xml;base64,{}", STANDARD.encode(viewer_file("icon.svg")?));
    let icon = html! { link rel="icon" type="image/svg+xml" href=(icon); };
    replace_element(&mut page, "<link rel=\"icon\"", ">", &icon.0)?;
    replace_element(&mut page, "<link rel=\"stylesheet\"", ">", &style.0)?;
    replace_element(&mut page, "<script src=\"boot.js\"", "</script>", &boot.0)?;
    replace_element(&mut page, "<script type=\"module\" src=\"start.js\"", "</script>", &start.0)?;
    Ok(page)
}

/// A file as an expression of a script.
fn bytes(file: &[u8]) -> String {
    format!("Uint8Array.from(atob(\"{}\"), (c) => c.charCodeAt(0))", STANDARD.encode(file))
}

/// Replaces the text from `begin` to the next `end`.
fn replace_element(
    page: &mut String,
    begin: &'static str,
    end: &str,
    with: &str,
) -> Result<(), SiteError> {
    let at = page.find(begin).ok_or(SiteError::DamagedViewer(begin))?;
    let len = page[at..].find(end).ok_or(SiteError::DamagedViewer(begin))? + end.len();
    page.replace_range(at..at + len, with);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn previews_hold_text_as_text() {
        let json =
            br#"{"model": "m", "entity": "<b> & \"x\"", "source_prompt": "", "base_prompt": "",
            "source_sentence": "a", "base_sentence": "b", "sentence_start": 0,
            "token_labels": ["a"], "num_layers": 1, "patching_results": [[1.0]]}"#;
        let document = Document::read(json).unwrap().remove(0);
        let page = preview(&document, Some("https://example.org/x/")).0;
        assert!(page.contains("<title>&lt;b&gt; &amp; &quot;x&quot; · m</title>"), "{page}");
        let picture = format!("content=\"https://example.org/x/data/{}.png\"", document.id);
        assert!(page.contains(&picture), "{page}");
        assert!(page.contains(&format!("url=../index.html#/e/{}", document.id)), "{page}");
        assert!(
            page.contains("rel=\"icon\" type=\"image/svg+xml\" href=\"../icon.svg\""),
            "{page}"
        );
    }

    #[test]
    fn elements_are_replaced_whole() {
        let mut page = String::from("a <x y> b");
        replace_element(&mut page, "<x", ">", "z").unwrap();
        assert_eq!(page, "a z b");
        assert!(replace_element(&mut page, "<x", ">", "z").is_err());
    }
}
