//! Results that people can open without Patchboard: a static site, or a single HTML file.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use shared::document::Document;
use shared::figure::FigureOptions;
use shared::gallery::Gallery;

use crate::export::{ExportError, Format, render, write_atomically};

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

/// Writes the viewer, the documents, their list and a page with a link preview for each into
/// `folder`. All addresses are relative, so that it works from any path of any file host;
/// `address` is that of the site once it is published, which pictures in previews need.
///
/// # Errors
/// [`SiteError`].
pub fn write_site(
    folder: &Path,
    documents: &[Document],
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
        write_atomically(&pages.join(format!("{id}.html")), preview(document, address).as_bytes())?;
    }
    // Last, so that whatever is listed is there.
    let list = serde_json::to_vec(&Gallery::of(documents));
    let list = list.expect("a list has no map with odd keys");
    Ok(write_atomically(&data.join("index.json"), &list)?)
}

/// A page that tells link previews what the experiment is, and sends people to the viewer.
fn preview(document: &Document, address: Option<&str>) -> String {
    let id = &document.id;
    let title = match &*document.entity {
        "" => escaped(&document.model),
        entity => escaped(&format!("{entity} · {}", document.model)),
    };
    let description = escaped(&format!(
        "Activation patching, {} layers × {} tokens. Source: {} Base: {}",
        document.num_layers,
        document.token_labels.len(),
        document.source_sentence,
        document.base_sentence
    ));
    let address = address.map_or("..".into(), |address| escaped(address.trim_end_matches('/')));
    format!(
        r#"<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <title>{title}</title>
    <meta name="description" content="{description}" />
    <meta property="og:type" content="article" />
    <meta property="og:title" content="{title}" />
    <meta property="og:description" content="{description}" />
    <meta property="og:image" content="{address}/data/{id}.png" />
    <meta name="twitter:card" content="summary_large_image" />
    <meta http-equiv="refresh" content="0; url=../index.html#/e/{id}" />
  </head>
  <body><a href="../index.html#/e/{id}">{title}</a></body>
</html>
"#
    )
}

/// One HTML file with the viewer and the documents inside, which opens from disk.
///
/// # Errors
/// [`SiteError::NoViewer`] or [`SiteError::DamagedViewer`].
pub fn report(documents: &[Document]) -> Result<String, SiteError> {
    let mut page = viewer_text("index.html")?.to_string();
    let script = viewer_text("web.js")?;
    let wasm = STANDARD.encode(viewer_file("web_bg.wasm")?);
    let data = serde_json::to_string(documents);
    let data = data.expect("a document has no map with odd keys").replace('<', "\\u003c");
    let style = format!("<style>\n{}</style>", viewer_text("style.css")?);
    let boot = format!("<script>\n{}</script>", viewer_text("boot.js")?);
    let start = format!(
        "<script type=\"application/json\" id=\"patchboard-data\">{data}</script>\n\
         <script type=\"module\">\n{script}\n\
         const bytes = Uint8Array.from(atob(\"{wasm}\"), (c) => c.charCodeAt(0));\n\
         __wbg_init({{ module_or_path: bytes }}).catch(window.patchboardFailed);\n</script>"
    );
    replace_element(&mut page, "<link rel=\"icon\"", ">", "")?;
    replace_element(&mut page, "<link rel=\"stylesheet\"", ">", &style)?;
    replace_element(&mut page, "<script src=\"boot.js\"", "</script>", &boot)?;
    replace_element(&mut page, "<script type=\"module\" src=\"start.js\"", "</script>", &start)?;
    Ok(page)
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

/// Text within HTML, in quotes or not.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
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
        let page = preview(&document, Some("https://example.org/x/"));
        assert!(page.contains("<title>&lt;b&gt; &amp; &quot;x&quot; · m</title>"), "{page}");
        let picture = format!("content=\"https://example.org/x/data/{}.png\"", document.id);
        assert!(page.contains(&picture), "{page}");
        assert!(page.contains(&format!("url=../index.html#/e/{}", document.id)), "{page}");
    }

    #[test]
    fn elements_are_replaced_whole() {
        let mut page = String::from("a <x y> b");
        replace_element(&mut page, "<x", ">", "z").unwrap();
        assert_eq!(page, "a z b");
        assert!(replace_element(&mut page, "<x", ">", "z").is_err());
    }
}
