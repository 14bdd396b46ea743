//! What a map shows: a field, and which of its columns.

use std::sync::Arc;

use leptos::prelude::*;
use shared::document::Document;
use shared::field::Field;
use shared::field::chosen::Chosen;
use shared::field::key::Key;
use shared::figure::FigureOptions;

use crate::map::readout::Readout;

/// What a map shows.
#[derive(Debug, Clone)]
pub struct Picture {
    /// The numbers.
    pub field: Field,
    /// The columns that are shown, in order.
    pub columns: Vec<usize>,
}

/// A picture, or why there is none.
pub type Pictured = Result<Arc<Picture>, String>;

/// The grid of a document that is chosen, or why there is none.
pub type ChosenGrid = Result<Arc<Chosen>, String>;

impl Picture {
    /// All of a field.
    pub fn whole(field: Field) -> Self {
        Self { columns: (0..field.columns.len()).collect(), field }
    }
}

/// What `options` choose of a document's grids and show of it, once it is there. Positions that they
/// name are those of a prompt of `n_base` tokens. Colours do not matter to it.
pub fn pictured(
    document: Signal<Option<Arc<Document>>>,
    options: Signal<FigureOptions>,
    n_base: Signal<Option<usize>>,
) -> (Memo<ChosenGrid>, Memo<Pictured>) {
    let wanted = Memo::new(move |_| options.with(|o| (o.grid, o.metric, o.hidden.clone())));
    let there = move || document.get().ok_or_else(String::new);
    let grid = Memo::new_with_compare(
        move |_| {
            let (document, n_base) = (there()?, n_base.get().unwrap_or(0));
            let choice = wanted.get().0.from_end(n_base);
            Chosen::of(&document, choice).map(Arc::new).map_err(|error| error.to_string())
        },
        |_, _| true,
    );
    let picture = Memo::new_with_compare(
        move |_| {
            let (_, metric, hidden) = wanted.get();
            let document = there()?;
            let field = grid.get()?.field(&document, metric).map_err(|e| e.to_string())?;
            let options = FigureOptions { hidden, ..FigureOptions::default() };
            let columns = options.columns(n_base.get().unwrap_or(0), &field);
            Ok(Arc::new(Picture { field, columns }))
        },
        |_, _| true,
    );
    (grid, picture)
}

/// What there is to say of a cell of the grid that is chosen.
pub fn reader(
    document: Signal<Option<Arc<Document>>>,
    grid: Memo<ChosenGrid>,
) -> Callback<Key, Option<Readout>> {
    Callback::new(move |key| {
        document.with(|document| {
            grid.with(|grid| Readout::of(document.as_ref()?, grid.as_ref().ok()?, key))
        })
    })
}
