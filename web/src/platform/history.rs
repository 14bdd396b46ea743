//! The browser's history: the address bar, and how far each step of it was scrolled.
//!
//! Browsers restore the place when they think that a page is there, which is before this one has
//! loaded what it shows. So the page does it itself, as soon as it is long enough.

use std::collections::BTreeMap;

use js_sys::Date;
use leptos::ev;
use leptos::prelude::*;
use wasm_bindgen::JsValue;
use web_sys::ScrollRestoration;

/// What the browser keeps through a reload, by this name.
const STORED: &str = "places";
/// For how long a page may grow until the reader's place is given up, in frames.
const N_FRAMES: u32 = 240;

/// Where the page is in the history.
#[derive(Clone, Copy)]
pub struct History {
    /// The step that is shown.
    step: StoredValue<u64>,
    /// How far the steps were scrolled when they were left, in pixels.
    places: StoredValue<BTreeMap<u64, f64>>,
    /// Counts the attempts to get to a place, of which only the last goes on.
    attempt: StoredValue<u64>,
}

impl History {
    /// The history of a page that begins. A page without one, e.g. in a notebook's frame, works as
    /// well.
    pub fn new() -> Self {
        if let Ok(history) = window().history() {
            history.set_scroll_restoration(ScrollRestoration::Manual).ok();
        }
        let stored = window().session_storage().ok().flatten();
        let stored = stored.and_then(|storage| storage.get_item(STORED).ok()?);
        let places = stored.map(|text| read(&text)).unwrap_or_default();
        let history = Self {
            step: StoredValue::new(0),
            places: StoredValue::new(places),
            attempt: StoredValue::new(0),
        };
        history.arrive();
        history.restore();
        let _ = window_event_listener_untyped("pagehide", move |_| history.store());
        // Whoever scrolls is where they want to be.
        for name in ["wheel", "touchstart", "pointerdown", "keydown"] {
            let _ = window_event_listener_untyped(name, move |_| {
                history.attempt.update_value(|n| *n += 1);
            });
        }
        history
    }

    /// Writes the fragment to the address bar, as a new step or in place of the present one.
    pub fn write(self, fragment: &str, is_new_step: bool) {
        let url = format!("#{fragment}");
        if is_new_step {
            self.leave();
            self.step.set_value(new_step());
        }
        let Ok(history) = window().history() else { return };
        let state = JsValue::from(self.step.get_value() as f64);
        let written = if is_new_step {
            history.push_state_with_url(&state, "", Some(&url))
        } else {
            history.replace_state_with_url(&state, "", Some(&url))
        };
        written.ok();
    }

    /// The reader has followed a link, or gone back or forth. Browsers tell of that twice.
    pub fn moved(self) {
        if Self::state() != Some(self.step.get_value()) {
            self.leave();
            self.arrive();
        }
    }

    fn state() -> Option<u64> {
        Some(window().history().ok()?.state().ok()?.as_f64()? as u64)
    }

    /// Remembers how far the present step is scrolled.
    fn leave(self) {
        let y = window().scroll_y().unwrap_or_default();
        self.places.update_value(|places| {
            places.insert(self.step.get_value(), y);
        });
    }

    /// Finds out which step the browser is at; a link makes one without a number.
    fn arrive(self) {
        let known = Self::state();
        let step = known.unwrap_or_else(new_step);
        self.step.set_value(step);
        if let (None, Ok(history)) = (known, window().history()) {
            history.replace_state(&JsValue::from(step as f64), "").ok();
        }
    }

    /// Scrolls to where the present step was left, as soon as the page is that long; a new one is
    /// shown from its top.
    pub fn restore(self) {
        let y = self.places.with_value(|places| places.get(&self.step.get_value()).copied());
        let y = y.unwrap_or_default();
        self.attempt.update_value(|n| *n += 1);
        if y == 0.0 {
            return window().scroll_to_with_x_and_y(0.0, 0.0);
        }
        self.try_again(y, self.attempt.get_value(), N_FRAMES);
    }

    fn try_again(self, y: f64, attempt: u64, n_left: u32) {
        request_animation_frame(move || {
            if self.attempt.try_get_value() != Some(attempt) {
                return;
            }
            let height = document().document_element().map_or(0, |html| html.scroll_height());
            let (_, shown) = crate::platform::dom::window_size();
            if f64::from(height) >= y + shown || n_left == 0 {
                window().scroll_to_with_x_and_y(0.0, y);
            } else {
                self.try_again(y, attempt, n_left - 1);
            }
        });
    }

    fn store(self) {
        self.leave();
        if let Ok(Some(storage)) = window().session_storage() {
            storage.set_item(STORED, &self.places.with_value(written)).ok();
        }
    }
}

/// Places as a text: steps and pixels, `step:pixels,step:pixels`.
fn written(places: &BTreeMap<u64, f64>) -> String {
    let places = places.iter().map(|(step, y)| format!("{step}:{}", *y as i64));
    places.collect::<Vec<_>>().join(",")
}

fn read(text: &str) -> BTreeMap<u64, f64> {
    let place = |text: &str| {
        let (step, y) = text.split_once(':')?;
        Some((step.parse().ok()?, y.parse::<i64>().ok()? as f64))
    };
    let mut places = BTreeMap::new();
    places.extend(text.split(',').filter_map(place));
    places
}

/// A number that no step of this tab has, through reloads too.
fn new_step() -> u64 {
    thread_local! {
        static LAST: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
    }
    LAST.with(|last| {
        last.set((Date::now() as u64).max(last.get() + 1));
        last.get()
    })
}

/// Calls `moved` whenever the reader follows a link, or goes back or forth.
pub fn watch(moved: impl Fn() + Clone + 'static) {
    let again = moved.clone();
    let _ = window_event_listener(ev::popstate, move |_| moved());
    let _ = window_event_listener(ev::hashchange, move |_| again());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_back_and_nonsense_is_left_out() {
        let places: BTreeMap<_, _> = [(3, 0.0), (1_764_000_000_000, 512.0)].into();
        assert_eq!(read(&written(&places)), places);
        assert_eq!(read(&written(&BTreeMap::new())), BTreeMap::new());
        assert_eq!(read("a,1:x,2:7,:,3"), [(2, 7.0)].into());
    }
}
