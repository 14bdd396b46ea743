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

use crate::data::api;
use crate::data::server::Server;

/// How long to wait where the browser has given up, as it does when something else than the
/// server answers.
const AGAIN: Duration = Duration::from_secs(3);

/// An open stream and what it calls.
struct Stream {
    source: EventSource,
    _hear: Closure<dyn Fn(MessageEvent)>,
    _state: Closure<dyn Fn()>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.source.close();
    }
}

/// Follows the server's events for as long as the page is seen: browsers have few connections for
/// a host, and hidden pages would use them up.
pub fn start(server: Server) {
    let stream = StoredValue::new_local(None::<Stream>);
    open(server, stream);
    let _ = window_event_listener(ev::visibilitychange, move |_| {
        if document().hidden() {
            stream.set_value(None);
            server.is_connected.set(None);
        } else if stream.with_value(Option::is_none) {
            open(server, stream);
        }
    });
}

fn open(server: Server, stream: StoredValue<Option<Stream>, LocalStorage>) {
    if document().hidden() {
        return;
    }
    let Ok(source) = EventSource::new(api::EVENTS) else { return };
    let hear = Closure::<dyn Fn(MessageEvent)>::new(move |message: MessageEvent| {
        let text = message.data().as_string().unwrap_or_default();
        // A kind of event that a later server has is none of this page's.
        if let Some(event) = Event::read(&text) {
            server.hear(&event);
        }
    });
    for name in NAMES {
        source.add_event_listener_with_callback(name, hear.as_ref().unchecked_ref()).ok();
    }
    let watched = source.clone();
    let state = Closure::<dyn Fn()>::new(move || {
        server.is_connected.set(Some(watched.ready_state() == EventSource::OPEN));
        if watched.ready_state() == EventSource::CLOSED {
            set_timeout(move || open(server, stream), AGAIN);
        }
    });
    source.set_onopen(Some(state.as_ref().unchecked_ref()));
    source.set_onerror(Some(state.as_ref().unchecked_ref()));
    stream.set_value(Some(Stream { source, _hear: hear, _state: state }));
}
