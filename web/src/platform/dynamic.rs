//! Parts of the page that follow signals.

use std::sync::Arc;

use leptos::prelude::*;

/// What `view` says, again whenever a signal changes that it reads. A closure in a view does the same,
/// with code of its own for each; this is there once.
pub fn dynamic<V: IntoAny>(view: impl Fn() -> V + Send + 'static) -> AnyView {
    erased(Box::new(move || view().into_any()))
}

fn erased(view: Box<dyn Fn() -> AnyView + Send>) -> AnyView {
    (move || view()).into_any()
}

/// What makes an item of a list.
type Make = Box<dyn FnOnce() -> AnyView + Send>;

/// A list of what `each` says, by a name of each that no other has. What keeps its name stays on the
/// page, and moves with it. This, too, is there once for all lists.
pub fn listed<T: Send + 'static, V: IntoAny>(
    each: impl Fn() -> Vec<(String, T)> + Send + 'static,
    item: impl Fn(T) -> V + Send + Sync + 'static,
) -> AnyView {
    let item = Arc::new(item);
    let made = move |(name, of): (String, T)| -> (String, Make) {
        let item = item.clone();
        (name, Box::new(move || item(of).into_any()))
    };
    keyed(Box::new(move || each().into_iter().map(&made).collect()))
}

fn keyed(each: Box<dyn Fn() -> Vec<(String, Make)> + Send>) -> AnyView {
    let children = |(_, make): (String, Make)| make();
    view! { <For each=each key=|(name, _)| name.clone() children=children /> }.into_any()
}
