//! Parts of the page that follow signals.

use leptos::prelude::*;

/// What `view` says, again whenever a signal changes that it reads. A closure in a view does the same,
/// with code of its own for each; this is there once.
pub fn dynamic<V: IntoAny>(view: impl Fn() -> V + Send + 'static) -> AnyView {
    erased(Box::new(move || view().into_any()))
}

fn erased(view: Box<dyn Fn() -> AnyView + Send>) -> AnyView {
    (move || view()).into_any()
}
