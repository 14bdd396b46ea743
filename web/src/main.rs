//! The viewer: a page in WebAssembly that shows, compares and shares results, with or without a
//! server.
//!
//! # What a built viewer is
//!
//! `scripts/build-web.sh` (or `trunk build`) writes `dist/`:
//!
//! | file | what it is |
//! |---|---|
//! | `index.html` | the shell, with a message for browsers that cannot run the rest |
//! | `style.css` | all styles |
//! | `boot.js` | tells the reader when the page cannot start, and sets the theme before it paints |
//! | `start.js` | starts the viewer |
//! | `icon.svg` | the icon |
//! | `web.js` | the glue made by wasm-bindgen, an ES module with a default `init` |
//! | `web_bg.wasm` | the viewer, as far as it shows results and their list |
//! | `web_pages.wasm` | all other pages ([`pages::apart`]), loaded when the first of them is opened |
//!
//! Trunk cannot cut the viewer in two, and puts all of it into `web_bg.wasm`.
//!
//! All addresses in it are relative, and routes are in the URL's fragment, so that it works from
//! any path of any file host.
//!
//! # How the page finds its data
//!
//! 1. `<script type="application/json" id="patchboard-data">` in the page: a document, or a JSON
//!    array of documents, in which every `<` is written `\u003c`. With one document and no
//!    address of its own the page opens on it; with several, on their list. A page with such an
//!    element fetches nothing.
//! 2. Otherwise `data/index.json` beside the page, a [`shared::wire::gallery::Gallery`], is the list,
//!    and `data/ID.json` the document with that id. Without a list the page invites to open files.
//! 3. Files dropped on the page or chosen; they are read in the browser and stay there.
//!    A study's manifest is opened in the same ways: `<script type="application/json"
//!    id="patchboard-study-0">` in the page, `data/studies/ID/study.json` beside it, a file, or a
//!    job of a server.
//! 4. The address: see [`shared::wire::address`], and [`shared::wire::permalink`] for whole results in it.
//!
//! # With a server
//!
//! A page with `<meta name="patchboard-server">` was served by `patchboard serve`: lists come page
//! by page from its API ([`data::api`]), its events are followed ([`data::feed`]), and there are pages to
//! submit, to watch and to delete. Everything else is as without one.
//!
//! # Within other pages
//!
//! An address with `embed=1` shows the map of an experiment or a study alone ([`pages::embedded`]). The
//! page then tells its parent how high it is, `{ type: "patchboard-height", height: 412 }` in pixels, now
//! and whenever that changes ([`platform::dom::tell_height`]). It needs neither storage nor an origin, as
//! in a frame with `sandbox="allow-scripts"`.
//!
//! # Rooms
//!
//! Each knows those before it alone (`compute/tests/rooms.rs`): [`platform`], [`data`],
//! [`navigation`], [`widgets`], [`map`], [`pages`], [`app`]. Within each no modules know each other in
//! a circle.
//!
//! # A report in one file
//!
//! Take `index.html` and put `style.css` into a `<style>` and `boot.js` into a `<script>` in place
//! of the elements that name them, leave the icon out, and replace the element
//! `<script type="module" src="start.js">` by the data element and
//! `<script type="module">`, the text of `web.js`, `pagesBytes = bytes`, and
//! `__wbg_init({ module_or_path: bytes })`, where `bytes` is a `Uint8Array`, e.g. from base64: first of
//! `web_pages.wasm`, if there is one, then of `web_bg.wasm`. Nothing else is loaded.

mod app;
mod data;
mod map;
mod navigation;
mod pages;
mod platform;
mod widgets;

fn main() {
    platform::dom::report_panics();
    leptos::mount::mount_to(platform::dom::root(), app::App).forget();
    platform::dom::started();
}
