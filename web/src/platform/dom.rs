//! What the page asks of the browser.

use js_sys::{Array, JsString, Uint8Array};
use leptos::html;
use leptos::prelude::*;
use shared::figure::Theme;
use wasm_bindgen::prelude::Closure;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    Blob, BlobPropertyBag, DragEvent, FocusOptions, HtmlAnchorElement, HtmlElement, ResizeObserver,
    Url,
};

/// The width of an element in pixels, as it changes; `None` before it is on the page.
pub fn width_of(element: NodeRef<html::Div>) -> Signal<Option<f64>> {
    let width = RwSignal::new(None);
    Effect::new(move || {
        let Some(element) = element.get() else { return };
        width.set(Some(f64::from(element.client_width())));
        let observed = element.clone();
        let changed = Closure::<dyn Fn()>::new(move || {
            let now = Some(f64::from(observed.client_width()));
            if width.try_get_untracked().is_some_and(|before| before != now) {
                width.set(now);
            }
        });
        if let Ok(observer) = ResizeObserver::new(changed.as_ref().unchecked_ref()) {
            observer.observe(&element);
            let observer = StoredValue::new_local((observer, changed));
            on_cleanup(move || observer.with_value(|(observer, _)| observer.disconnect()));
        }
    });
    width.into()
}

/// Where the page goes.
pub fn root() -> HtmlElement {
    let found = document().get_element_by_id("app").and_then(|e| e.dyn_into().ok());
    found.or_else(|| document().body()).expect("a page has a body")
}

/// Tells the shell that the viewer runs.
pub fn started() {
    set_attribute("data-state", "running");
}

/// A panic leaves the page dead: the shell says so in its place, and the console too.
pub fn report_panics() {
    std::panic::set_hook(Box::new(|info| {
        let message = JsValue::from(info.to_string());
        let call = |object: &JsValue, name: &str| {
            let function = js_sys::Reflect::get(object, &name.into()).ok()?;
            function.dyn_into::<js_sys::Function>().ok()?.call1(object, &message).ok()
        };
        if let Ok(console) = js_sys::Reflect::get(&window(), &"console".into()) {
            call(&console, "error");
        }
        call(&window(), "patchboardDefect");
    }));
}

fn set_attribute(name: &str, value: &str) {
    if let Some(html) = document().document_element() {
        html.set_attribute(name, value).ok();
    }
}

/// Device pixels in a pixel of the page.
pub fn pixel_ratio() -> f64 {
    let ratio = window().device_pixel_ratio();
    if ratio.is_finite() && ratio > 0.0 { ratio } else { 1.0 }
}

/// The theme that the reader chose before, otherwise the system's.
pub fn preferred_theme() -> Theme {
    let chosen = window().local_storage().ok().flatten().and_then(|s| s.get_item("theme").ok()?);
    chosen.and_then(|name| name.parse().ok()).unwrap_or_else(|| {
        let query = window().match_media("(prefers-color-scheme: dark)").ok().flatten();
        if query.is_some_and(|query| query.matches()) { Theme::Dark } else { Theme::Light }
    })
}

/// Whether the page is a part of another one, which then sees the map alone.
pub fn set_embedded(is_embedded: bool) {
    if let Some(html) = document().document_element() {
        html.toggle_attribute_with_force("data-embedded", is_embedded).ok();
    }
}

/// Tells the page around this one how high this one is, now and whenever it changes:
/// `{ type: "patchboard-height", height: 412 }`, in pixels.
pub fn tell_height() {
    let root = root();
    let observed = root.clone();
    let tell = Closure::<dyn Fn()>::new(move || {
        let message = js_sys::Object::new();
        let height = observed.get_bounding_client_rect().height().ceil();
        let entries = [("type", "patchboard-height".into()), ("height", JsValue::from(height))];
        for (name, value) in entries {
            js_sys::Reflect::set(&message, &name.into(), &value).ok();
        }
        if let Ok(Some(parent)) = window().parent() {
            // Whoever shows the page may know how high it is.
            parent.post_message(&message, "*").ok();
        }
    });
    if let Ok(observer) = ResizeObserver::new(tell.as_ref().unchecked_ref()) {
        observer.observe(&root);
    }
    // For as long as the page is there.
    tell.forget();
}

/// Puts the theme on the page.
pub fn set_theme(theme: Theme) {
    set_attribute("data-theme", theme.name());
}

/// Notes in the browser's performance timeline that a heatmap was drawn, for whoever measures.
pub fn mark_heatmap() {
    if let Some(performance) = window().performance() {
        performance.mark("patchboard-heatmap").ok();
    }
}

/// Remembers the reader's choice of theme. Some pages, e.g. in a notebook, have no storage.
pub fn remember_theme(theme: Theme) {
    if let Ok(Some(storage)) = window().local_storage() {
        storage.set_item("theme", theme.name()).ok();
    }
}

/// Whether the page came from a server, which says so in the page.
pub fn has_server() -> bool {
    document().query_selector("meta[name=patchboard-server]").ok().flatten().is_some()
}

/// The server's token, as the reader gave it in this tab.
pub fn token() -> Option<String> {
    window().session_storage().ok()??.get_item("token").ok()?
}

/// Keeps the server's token until the tab is closed.
pub fn keep_token(token: &str) {
    if let Ok(Some(storage)) = window().session_storage() {
        storage.set_item("token", token).ok();
    }
}

/// The fragment of the address, with its `#` if there is one.
pub fn fragment() -> String {
    window().location().hash().unwrap_or_default()
}

/// The address of the page with another fragment.
pub fn link_to(fragment: &str) -> String {
    let href = window().location().href().unwrap_or_default();
    format!("{}#{fragment}", href.split('#').next().unwrap_or_default())
}

/// The window's width and height in pixels.
pub fn window_size() -> (f64, f64) {
    let size = |value: Result<JsValue, JsValue>| value.ok().and_then(|v| v.as_f64());
    (size(window().inner_width()).unwrap_or(1000.0), size(window().inner_height()).unwrap_or(800.0))
}

/// Scrolls a box sideways, and the page, until a place in it can be seen: left, top, width and
/// height in pixels of the window.
pub fn reveal(scroll: &HtmlElement, [left, top, width, height]: [f64; 4]) {
    // How far to go for `from..to` to be within `lo..hi`, with as much again around it.
    let way = |from: f64, to: f64, lo: f64, hi: f64| {
        let around = to - from;
        if from - around < lo {
            from - around - lo
        } else if to + around > hi {
            (to + around - hi).min(from - lo)
        } else {
            0.0
        }
    };
    let shown = scroll.get_bounding_client_rect();
    let x = way(left, left + width, shown.left(), shown.right());
    let y = way(top, top + height, 0.0, window_size().1);
    if x != 0.0 {
        scroll.set_scroll_left(scroll.scroll_left() + x as i32);
    }
    if y != 0.0 {
        window().scroll_by_with_x_and_y(0.0, y);
    }
}

/// Follows a link within the page.
pub fn follow(href: &str) {
    window().location().set_hash(href).ok();
}

/// Gives the page a title, in the tab and for those who listen.
pub fn set_title(title: &str) {
    document().set_title(&format!("{title} · Patchboard"));
}

/// Moves the focus to an element without scrolling.
pub fn focus(element: &HtmlElement) {
    let options = FocusOptions::new();
    options.set_prevent_scroll(true);
    element.focus_with_options(&options).ok();
}

/// Moves the focus to the element with this id, where there is one.
pub fn focus_on(id: &str) {
    if let Some(element) = found(id) {
        element.focus().ok();
    }
}

/// Moves the focus to a list, and scrolls until one of its items can be seen, both by their ids.
pub fn focus_in(list: &str, item: &str) {
    let Some(list) = found(list) else { return };
    focus(&list);
    if let Some(item) = found(item) {
        let rect = item.get_bounding_client_rect();
        reveal(&list, [rect.left(), rect.top(), rect.width(), rect.height()]);
    }
}

fn found(id: &str) -> Option<HtmlElement> {
    document().get_element_by_id(id)?.dyn_into().ok()
}

/// The element at a place in the window, or the next around it, that `css` finds: its id.
pub fn id_at(x: i32, y: i32, css: &str) -> Option<String> {
    let found = document().element_from_point(x as f32, y as f32)?.closest(css).ok()??;
    Some(found.id())
}

/// Whether the focus is on nothing in particular: the page, or the part of it that all pages share.
pub fn is_focus_free() -> bool {
    document().active_element().is_none_or(|e| matches!(&*e.tag_name(), "BODY" | "MAIN"))
}

/// Whether something that is dragged over the page is files, and no text for a field.
pub fn has_files(event: &DragEvent) -> bool {
    let types = event.data_transfer().map(|data| data.types());
    types.is_some_and(|types| types.includes(&"Files".into(), 0))
}

/// Puts text on the clipboard.
///
/// # Errors
/// Why it did not: pages that are not served over https have no clipboard.
pub async fn copy(text: &str) -> Result<(), String> {
    const REFUSED: &str = "the browser did not let the page write to the clipboard";
    let navigator = window().navigator();
    let clipboard = js_sys::Reflect::get(&navigator, &"clipboard".into()).unwrap_or_default();
    if clipboard.is_undefined() {
        return Err(REFUSED.into());
    }
    JsFuture::from(navigator.clipboard().write_text(text)).await.map_err(|_| REFUSED)?;
    Ok(())
}

/// A text in lower case.
pub fn lower_case(text: &str) -> String {
    JsString::from(text).to_lower_case().into()
}

/// Hands the reader a file.
pub fn download(name: &str, kind: &str, bytes: &[u8]) {
    let options = BlobPropertyBag::new();
    options.set_type(kind);
    let parts = Array::of1(&Uint8Array::from(bytes));
    if let Ok(blob) = Blob::new_with_u8_array_sequence_and_options(&parts, &options) {
        download_blob(name, &blob);
    }
}

/// Hands the reader a file.
pub fn download_blob(name: &str, blob: &Blob) {
    let Ok(url) = Url::create_object_url_with_blob(blob) else { return };
    if let Ok(link) = document().create_element("a") {
        let link: HtmlAnchorElement = link.unchecked_into();
        link.set_href(&url);
        link.set_download(name);
        link.click();
    }
    Url::revoke_object_url(&url).ok();
}

/// The content of a file that the reader opened.
///
/// # Errors
/// The browser could not read it.
pub async fn read(file: &Blob) -> Result<Vec<u8>, String> {
    let buffer = JsFuture::from(file.array_buffer()).await;
    let buffer = buffer.map_err(|_| "the browser could not read the file".to_string())?;
    Ok(Uint8Array::new(&buffer).to_vec())
}
