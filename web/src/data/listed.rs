//! The list of experiments, as the reader left it.

use shared::wire::address::Filter;
use shared::wire::gallery::Entry;
use shared::wire::listing::Facets;

/// The list as it was left: whoever comes back to it finds it so, and at the same place.
#[derive(Debug, Clone, Default)]
pub struct Listed {
    /// What it was filtered by.
    pub filter: Filter,
    /// How many were shown.
    pub n_shown: usize,
    /// What a server has told.
    pub entries: Vec<Entry>,
    /// How many pass the filter.
    pub n_chosen: usize,
    /// Of how many.
    pub total: Option<usize>,
    /// What it can be filtered by.
    pub facets: Option<Facets>,
}
