//! What all parts of the page share: where it is, what it has read, and how it moves.

use std::sync::Arc;
use std::time::Duration;

use leptos::prelude::*;
use leptos::task::spawn_local;
use shared::document::{Document, title};
use shared::figure::Theme;
use shared::specification::pairs::TableFormat;
use shared::study::{Study, StudyError};
use shared::wire::address::{Address, Page, Source, View};
use shared::wire::draft::Draft;
use shared::wire::gallery::Gallery;
use shared::wire::studies::StudySource;
use web_sys::FileList;

use crate::data::api;
use crate::data::library::Library;
use crate::data::listed::Listed;
use crate::data::opened::Opened;
use crate::data::pasted::Table;
use crate::data::server::Server;
use crate::data::source;
use crate::data::words;
use crate::navigation::notice::Notice;
use crate::platform::dom;
use crate::platform::history::History;

/// How long the address bar may lag behind a pin that moves: browsers refuse to be written to at
/// the rate of a key held down.
const LAG: Duration = Duration::from_millis(200);

/// What the whole page shares.
#[derive(Clone, Copy)]
pub struct Viewer {
    /// Where the page is.
    pub address: RwSignal<Address>,
    /// The documents that were read so far.
    pub library: Library,
    /// The table that the reader has pasted or dropped.
    pub table: RwSignal<Table>,
    /// The server behind the page.
    pub server: Option<Server>,
    /// What the reader should be told.
    pub notices: RwSignal<Vec<Notice>>,
    /// The colours of page and figures.
    pub theme: RwSignal<Theme>,
    /// The list of the site, as it was seen last.
    pub gallery: RwSignal<Option<Gallery>>,
    /// The list of experiments as it was left.
    pub listed: StoredValue<Listed>,
    /// Whether the reader has come from another page, and is to begin at the heading.
    pub has_arrived: StoredValue<bool>,
    /// The browser's history.
    pub history: History,
    pending: StoredValue<Option<TimeoutHandle>>,
}

impl Viewer {
    /// The viewer of a page that begins.
    pub fn new() -> Self {
        let viewer = Self {
            address: RwSignal::new(Address::parse(&dom::fragment())),
            library: Library::new(),
            table: RwSignal::default(),
            server: Server::find(),
            notices: RwSignal::default(),
            theme: RwSignal::new(dom::preferred_theme()),
            gallery: RwSignal::new(None),
            listed: StoredValue::default(),
            has_arrived: StoredValue::new(false),
            history: History::new(),
            pending: StoredValue::new(None),
        };
        let mut studies = Vec::new();
        while let Some(study) = source::embedded_study(studies.len()) {
            viewer.library.complete();
            studies.push(study.map(|study| Page::Study(viewer.keep_study(study))));
        }
        for study in &studies {
            match study {
                Err(error) => viewer.tell(error.clone()),
                // Of several the reader chooses.
                Ok(page) if studies.len() == 1 && dom::fragment().len() < 3 => {
                    viewer.address.set(Address::of(page.clone()));
                }
                Ok(_) => {}
            }
        }
        match source::embedded() {
            None => {}
            Some(Err(error)) => viewer.tell(error),
            Some(Ok(documents)) => {
                viewer.library.complete();
                if let [document] = &*documents
                    && dom::fragment().len() < 3
                {
                    let page = Page::Experiment(Source::Id(document.id.clone()));
                    viewer.address.set(Address::of(page));
                }
                documents.into_iter().for_each(|document| viewer.library.keep(Arc::new(document)));
            }
        }
        viewer
    }

    /// The viewer of the page.
    pub fn get() -> Self {
        expect_context()
    }

    /// Whether the page is a part of another one, and shows the map alone.
    pub fn is_embedded(self) -> bool {
        self.address.with(|address| address.view.is_embedded)
    }

    /// Tells the reader something.
    pub fn tell(self, message: String) {
        self.notices.update(|notices| Notice::add(notices, message, None));
    }

    /// Tells the reader what was done, and offers to undo it.
    pub fn offer(self, text: String, undo: impl Fn() + Send + Sync + 'static) {
        self.notices.update(|notices| Notice::add(notices, text, Some(Arc::new(undo))));
    }

    /// Goes to an address, one step on in the history.
    pub fn go(self, address: Address) {
        self.settle();
        self.history.write(&address.fragment(), true);
        self.address.set(address);
    }

    /// Changes the address in place.
    pub fn amend(self, change: impl FnOnce(&mut Address)) {
        self.address.update(change);
        if let Some(Some(timer)) = self.pending.try_update_value(Option::take) {
            timer.clear();
        }
        let timer = set_timeout_with_handle(move || self.settle(), LAG);
        self.pending.set_value(timer.ok());
    }

    /// Changes how experiments are shown, one step on in the history.
    pub fn show(self, change: impl FnOnce(&mut View)) {
        let mut address = self.address.get_untracked();
        change(&mut address.view);
        self.go(address);
    }

    /// Writes what the address bar lags behind.
    fn settle(self) {
        if let Some(Some(timer)) = self.pending.try_update_value(Option::take) {
            timer.clear();
            self.history.write(&self.address.get_untracked().fragment(), false);
        }
    }

    /// Reads files and shows what is in them: the documents, or the form for a table.
    pub fn open(self, files: Option<FileList>) {
        let files: Vec<_> =
            files.iter().flat_map(|list| (0..list.length()).filter_map(|i| list.get(i))).collect();
        spawn_local(async move {
            let (mut opened, mut has_table, mut study) = (Vec::new(), false, None);
            for file in files {
                let name = file.name();
                let failed =
                    |error: String| self.tell(format!("{name}: {}", words::sentence(&error)));
                let bytes = match dom::read(&file).await {
                    Ok(bytes) => bytes,
                    Err(error) => {
                        failed(error);
                        continue;
                    }
                };
                if let (Some(_), Some(format)) = (self.server, TableFormat::from_name(&name)) {
                    match Table::of_file(name.clone(), format, &bytes) {
                        Ok(_) if has_table => {
                            failed("only one table can be swept at a time".into())
                        }
                        Ok(table) => {
                            self.table.set(table);
                            has_table = true;
                        }
                        Err(error) => failed(error),
                    }
                    continue;
                }
                match (Document::read(&bytes), Study::read(&bytes)) {
                    (Ok(documents), _) => opened.extend(documents),
                    (_, Ok(read)) => study = Some(self.keep_study(read)),
                    (Err(error), Err(StudyError::NotJson(_) | StudyError::NotAStudy(_))) => {
                        failed(error.to_string());
                    }
                    (_, Err(error)) => failed(error.to_string()),
                }
            }
            let mut sources = Vec::new();
            for document in opened {
                let source = Source::Id(document.id.clone());
                if !sources.contains(&source) {
                    sources.push(source);
                }
                self.keep_file(document);
            }
            if has_table {
                // What the form holds already stays.
                let mut draft = match self.address.get_untracked().page {
                    Page::New(draft) => draft,
                    _ => Draft::default(),
                };
                draft.is_table = true;
                return self.go(Address::of(Page::New(draft)));
            }
            match &*sources {
                [] => {
                    if let Some(study) = study {
                        self.go(Address::of(Page::Study(study)));
                    }
                }
                [one] => self.go(Address::of(Page::Experiment(one.clone()))),
                _ => self.go(Address::default()),
            }
        });
    }

    /// Keeps a study that came with the page or from a file.
    fn keep_study(self, study: Study) -> StudySource {
        let source = StudySource::Id(study.id.clone());
        self.library.keep_study(source.clone(), Arc::new(Opened::alone(study)));
        source
    }

    /// Keeps a document from a file.
    fn keep_file(self, document: Document) {
        let name = title(&document.entity).to_string();
        if !self.library.keep_file(document) {
            self.tell(format!(
                "“{name}” has the same id as a result that was opened before, and takes its place.",
            ));
        }
    }

    /// The server, where it holds what comes from `source`: what was opened from a file is not its.
    pub fn server_of(self, source: &Source) -> Option<Server> {
        let Source::Id(id) = source else { return None };
        self.server.filter(|_| self.library.files.with_untracked(|files| !files.contains(id)))
    }

    /// Deletes an experiment and offers to bring it back.
    pub fn delete(self, server: Server, id: String, name: String, then: impl FnOnce() + 'static) {
        spawn_local(async move {
            if let Err(problem) = api::delete(server.rights, &id).await {
                return self.tell(api::told(&problem));
            }
            self.library.forget_stored();
            server.changes.update(|n| *n += 1);
            then();
            let undo = move || {
                let id = id.clone();
                spawn_local(async move {
                    match api::restore(server.rights, &id).await {
                        Ok(()) => server.changes.update(|n| *n += 1),
                        Err(problem) => self.tell(api::told(&problem)),
                    }
                });
            };
            self.offer(format!("Deleted “{name}”."), undo);
        });
    }
}
