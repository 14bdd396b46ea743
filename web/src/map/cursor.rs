//! What is pointed at and held, in one map or in several at once.

use leptos::prelude::*;
use shared::field::key::Key;

use crate::navigation::viewer::Viewer;

/// A cell that is pointed at and one that is held. Both are keys: every map looks them up in its own
/// field, which may have no such cell, or be another one by now.
#[derive(Clone, Copy)]
pub struct Cursor {
    hover: RwSignal<Option<Key>>,
    pin: Memo<Option<Key>>,
    on_pin: Callback<Option<Key>>,
}

impl Cursor {
    /// A cursor whose pin stands in the address, with positions of a prompt of `n` tokens.
    pub fn new(n: Signal<Option<usize>>) -> Self {
        let viewer = Viewer::get();
        let pin = Memo::new(move |_| {
            let pin = viewer.address.with(|address| address.view.pin)?;
            Some(pin.pinned(n.get()?))
        });
        let on_pin = Callback::new(move |key: Option<Key>| {
            let pin = key.zip(n.get_untracked()).map(|(key, n)| key.pin(n));
            viewer.amend(|address| address.view.pin = pin);
        });
        Self { hover: RwSignal::new(None), pin, on_pin }
    }

    /// Points at a cell, or at none.
    pub fn point_at(self, key: Option<Key>) {
        if self.hover.try_get_untracked().is_some_and(|now| now != key) {
            self.hover.set(key);
        }
    }

    /// Holds a cell, or none.
    pub fn hold(self, key: Option<Key>) {
        self.on_pin.run(key);
    }

    /// Holds a cell, or lets it go.
    pub fn toggle(self, key: Option<Key>) {
        self.hold(if key == self.pin.get_untracked() { None } else { key });
    }

    /// What is pointed at.
    pub fn hovered(self) -> Option<Key> {
        self.hover.get()
    }

    /// What is held.
    pub fn held(self) -> Option<Key> {
        self.pin.get()
    }

    /// What is pointed at, otherwise what is held.
    pub fn active(self) -> Option<Key> {
        self.hovered().or_else(|| self.held())
    }
}
