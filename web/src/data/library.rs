//! The documents that were read so far.

use std::collections::BTreeMap;
use std::sync::Arc;

use leptos::prelude::*;
use shared::document::Document;
use shared::wire::gallery::StudyEntry;
use shared::wire::studies::StudySource;

use crate::data::opened::Opened;

/// Documents by their ids.
#[derive(Clone, Copy)]
pub struct Library {
    /// Read so far, by id.
    pub documents: RwSignal<BTreeMap<String, Arc<Document>>>,
    /// The ids of those that the reader has opened from files.
    pub files: RwSignal<Vec<String>>,
    /// The study that was looked at last, and those that the reader has opened or that came with the
    /// page.
    studies: RwSignal<BTreeMap<StudySource, Arc<Opened>>>,
    /// Whether all there is came with the page.
    complete: StoredValue<bool>,
}

impl Library {
    /// A library without documents.
    pub fn new() -> Self {
        Self {
            documents: RwSignal::default(),
            files: RwSignal::default(),
            studies: RwSignal::default(),
            complete: StoredValue::new(false),
        }
    }

    /// A document read before.
    pub fn opened(self, id: &str) -> Option<Arc<Document>> {
        self.documents.with_untracked(|documents| documents.get(id).cloned())
    }

    /// Keeps a document for later.
    pub fn keep(self, document: Arc<Document>) {
        self.documents.update(|documents| {
            documents.insert(document.id.clone(), document);
        });
    }

    /// Keeps a document from a file. Opened again it is the same one; `false` where it takes the place
    /// of another with the same id.
    pub fn keep_file(self, document: Document) -> bool {
        let id = document.id.clone();
        let before = self.opened(&id);
        let is_file = self.files.with_untracked(|files| files.contains(&id));
        if !is_file {
            self.files.update(|files| files.push(id));
        }
        let is_same = !is_file || before.is_none_or(|before| *before == document);
        self.keep(Arc::new(document));
        is_same
    }

    /// The studies of a report and of opened files, and those of a site that were looked at.
    pub fn opened_studies(self) -> Vec<StudyEntry> {
        let of_files = |(source, opened): (&StudySource, &Arc<Opened>)| {
            matches!(source, StudySource::Id(_)).then(|| StudyEntry::of(&opened.study))
        };
        self.studies.with(|studies| studies.iter().filter_map(of_files).collect())
    }

    /// A study read before.
    pub fn study(self, source: &StudySource) -> Option<Arc<Opened>> {
        self.studies.with_untracked(|studies| studies.get(source).cloned())
    }

    /// Keeps a study for later. Of those that are a server's, only this one.
    pub fn keep_study(self, source: StudySource, study: Arc<Opened>) {
        self.studies.update(|studies| {
            studies.retain(|known, _| matches!(known, StudySource::Id(_)));
            studies.insert(source, study);
        });
    }

    /// Forgets the documents that the reader has not opened from files: the server may have others
    /// by now.
    pub fn forget_stored(self) {
        let files = self.files.get_untracked();
        self.documents.update(|documents| documents.retain(|id, _| files.contains(id)));
    }

    /// Whether the page came with its documents and has nowhere to fetch others.
    pub fn is_complete(self) -> bool {
        self.complete.get_value()
    }

    /// Says that the page came with its documents.
    pub fn complete(self) {
        self.complete.set_value(true);
    }
}
