//! The stream of a server's events.
//!
//! The browser comes back by itself after a lost connection and says what it heard last. The
//! server goes on from there, or tells the whole picture again.

use std::time::Duration;

use leptos::ev;
use leptos::prelude::*;
use shared::wire::event::{Event, NAMES};
use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::Closure;
use web_sys::{EventSource, MessageEvent};

/// Where events come from.
const EVENTS: &str = "api/events";
/// How long to wait where the browser has given up, as it does when something else than the
/// server answers.
const AGAIN: Duration = Duration::from_secs(3);

/// An open stream and what it calls.
struct Stream {
    source: EventSource,
    _message: Closure<dyn Fn(MessageEvent)>,
    _state: Closure<dyn Fn()>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.source.close();
    }
}

/// Calls `hear` with the server's events for as long as the page is seen: browsers have few
/// connections for a host, and hidden pages would use them up. `is_connected` is told whether events
/// arrive.
pub fn start(
    is_connected: RwSignal<Option<bool>>,
    hear: impl Fn(&Event) + Copy + Send + Sync + 'static,
) {
    let stream = StoredValue::new_local(None::<Stream>);
    open(is_connected, hear, stream);
    let _ = window_event_listener(ev::visibilitychange, move |_| {
        if document().hidden() {
            stream.set_value(None);
            is_connected.set(None);
        } else if stream.with_value(Option::is_none) {
            open(is_connected, hear, stream);
        }
    });
}

fn open(
    is_connected: RwSignal<Option<bool>>,
    hear: impl Fn(&Event) + Copy + 'static,
    stream: StoredValue<Option<Stream>, LocalStorage>,
) {
    if document().hidden() {
        return;
    }
    let Ok(source) = EventSource::new(EVENTS) else { return };
    let message = Closure::<dyn Fn(MessageEvent)>::new(move |message: MessageEvent| {
        let text = message.data().as_string().unwrap_or_default();
        // A kind of event that a later server has is none of this page's.
        if let Some(event) = Event::read(&text) {
            hear(&event);
        }
    });
    for name in NAMES {
        source.add_event_listener_with_callback(name, message.as_ref().unchecked_ref()).ok();
    }
    let watched = source.clone();
    let state = Closure::<dyn Fn()>::new(move || {
        is_connected.set(Some(watched.ready_state() == EventSource::OPEN));
        if watched.ready_state() == EventSource::CLOSED {
            set_timeout(move || open(is_connected, hear, stream), AGAIN);
        }
    });
    source.set_onopen(Some(state.as_ref().unchecked_ref()));
    source.set_onerror(Some(state.as_ref().unchecked_ref()));
    stream.set_value(Some(Stream { source, _message: message, _state: state }));
}
