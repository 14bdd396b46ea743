//! The server behind the page, where there is one: what it is, and what it is doing.

use std::sync::Arc;

use leptos::prelude::*;
use leptos::task::spawn_local;
use shared::wire::event::Event;
use shared::wire::job::Job;
use shared::wire::listing::ServerInfo;
use shared::wire::live::Board;

use crate::data::api;
use crate::data::feed;
use crate::data::rights::Rights;
use crate::platform::dom;

/// One who wants to hear of events.
type Listener = Arc<dyn Fn(&Event) + Send + Sync>;

/// The server behind the page.
#[derive(Clone, Copy)]
pub struct Server {
    /// What it is; `None` until it has said so.
    pub info: RwSignal<Option<ServerInfo>>,
    /// What the reader may do on it.
    pub rights: Rights,
    /// What it is doing.
    pub board: RwSignal<Board>,
    /// Whether events arrive; `None` before the first attempt has come to an end.
    pub is_connected: RwSignal<Option<bool>>,
    /// Counts up whenever experiments came or went.
    pub changes: RwSignal<u64>,
    listeners: StoredValue<(u64, Vec<(u64, Listener)>)>,
}

impl Server {
    /// The server that the page says is behind it.
    pub fn find() -> Option<Self> {
        dom::has_server().then(|| {
            let info = RwSignal::new(None);
            Self {
                info,
                rights: Rights::new(info),
                board: RwSignal::default(),
                is_connected: RwSignal::new(None),
                changes: RwSignal::new(0),
                listeners: StoredValue::new((0, Vec::new())),
            }
        })
    }

    /// Begins to follow what it does.
    pub fn start(self) {
        feed::start(self.is_connected, move |event| self.hear(event));
        self.ask_info();
    }

    fn ask_info(self) {
        spawn_local(async move {
            // Without an answer the stream of events is not there either, and the page says so.
            if let Ok(info) = api::server().await {
                // What has not changed leaves the form as it is, and the focus where it is.
                let info = Some(info);
                if self.info.with_untracked(|known| *known != info) {
                    self.info.set(info);
                }
            }
        });
    }

    /// Takes in an event.
    fn hear(self, event: &Event) {
        self.board.update(|board| board.apply(event));
        match event {
            // What a server that was gone for a while has forgotten to tell.
            Event::Snapshot { .. } => {
                self.changes.update(|n| *n += 1);
                self.ask_info();
                spawn_local(async move {
                    if let Ok(list) = api::jobs().await {
                        self.board.update(|board| board.listed(list.jobs));
                    }
                });
            }
            Event::Experiments {} => self.changes.update(|n| *n += 1),
            _ => {}
        }
        for (_, listener) in self.listeners.with_value(|(_, list)| list.clone()) {
            listener(event);
        }
    }

    /// Calls `listener` with every event for as long as the present component is there.
    pub fn listen(self, listener: impl Fn(&Event) + Send + Sync + 'static) {
        let mut key = 0;
        self.listeners.update_value(|(next, list)| {
            key = *next;
            *next += 1;
            list.push((key, Arc::new(listener)));
        });
        on_cleanup(move || {
            self.listeners.update_value(|(_, list)| list.retain(|(other, _)| *other != key));
        });
    }

    /// The job of this id, as far as it is known.
    pub fn job(self, id: &str) -> Option<Job> {
        self.board.with(|board| board.jobs.iter().find(|job| job.id == id).cloned())
    }
}
