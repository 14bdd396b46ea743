//! What the reader may do on the server, and the token that changes may need.

use js_sys::{Function, Promise};
use leptos::prelude::*;
use shared::wire::listing::{Access, ServerInfo};
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::JsFuture;

/// What the reader may do on the server.
#[derive(Clone, Copy)]
pub struct Rights {
    /// What the server says of itself.
    info: RwSignal<Option<ServerInfo>>,
    /// Whether the reader is asked for the token, and if so whether the last one was wrong.
    pub asking: RwSignal<Option<bool>>,
    waiting: StoredValue<Vec<Function>, LocalStorage>,
}

impl Rights {
    /// Those that a server of this description gives.
    pub fn new(info: RwSignal<Option<ServerInfo>>) -> Self {
        Self { info, asking: RwSignal::new(None), waiting: StoredValue::new_local(Vec::new()) }
    }

    /// Whether visitors may compute and change something.
    pub fn can_change(self) -> bool {
        self.info.with(|info| {
            info.as_ref().is_some_and(|info| info.writable && info.access != Access::ReadOnly)
        })
    }

    /// Whether changes need a token.
    pub fn needs_token(self) -> bool {
        let is_token = |info: &Option<ServerInfo>| {
            info.as_ref().is_some_and(|info| info.access == Access::Token)
        };
        self.info.with_untracked(is_token)
    }

    /// Asks the reader for the token. Returns whether there is one now.
    pub async fn ask_token(self, was_wrong: bool) -> bool {
        let promise = Promise::new(&mut |resolve, _| {
            self.waiting.update_value(|waiting| waiting.push(resolve));
        });
        self.asking.set(Some(was_wrong));
        JsFuture::from(promise).await.is_ok_and(|given| given.is_truthy())
    }

    /// Ends the question for the token.
    pub fn answer(self, is_given: bool) {
        self.asking.set(None);
        let mut waiting = Vec::new();
        self.waiting.update_value(|list| std::mem::swap(list, &mut waiting));
        for resolve in waiting {
            resolve.call1(&JsValue::NULL, &is_given.into()).ok();
        }
    }
}
