//! What a map shows: a field, and which of its columns.

use std::sync::Arc;

use leptos::prelude::*;
use shared::document::Document;
use shared::field::Field;
use shared::field::axis::n_base;
use shared::field::chosen::Chosen;
use shared::figure::FigureOptions;

/// What a map shows.
#[derive(Debug, Clone, PartialEq)]
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

/// The grid of `document` that `options` choose.
pub fn chosen(document: Arc<Document>, options: Signal<FigureOptions>) -> Memo<ChosenGrid> {
    let choice = Memo::new(move |_| options.with(|options| options.grid));
    Memo::new(move |_| {
        let chosen = Chosen::of(&document, choice.get());
        chosen.map(Arc::new).map_err(|error| error.to_string())
    })
}

/// What `options` show of a document's grid. Colours do not matter to it.
pub fn picture(
    document: Arc<Document>,
    chosen: Memo<ChosenGrid>,
    options: Signal<FigureOptions>,
) -> Memo<Pictured> {
    let wanted = Memo::new(move |_| options.with(|o| (o.metric, o.hidden.clone())));
    Memo::new_with_compare(
        move |_| {
            let (metric, hidden) = wanted.get();
            let field = chosen.get()?.field(&document, metric).map_err(|e| e.to_string())?;
            let options = FigureOptions { hidden, ..FigureOptions::default() };
            let columns = options.columns(n_base(&document), &field);
            Ok(Arc::new(Picture { field, columns }))
        },
        |_, _| true,
    )
}
