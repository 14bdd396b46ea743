//! Experiments: documents by id, and what lists, filters and sorts them.

use rusqlite::{Connection, OptionalExtension, Row, ToSql, Transaction, params};
use shared::document::{Document, content_id};
use shared::specification::vocabulary::Site;
use shared::wire::address::{Filter, Sort};
use shared::wire::gallery::Entry;
use shared::wire::listing::{ExperimentPage, Facet, Facets};

use super::{Result, Store, StoreError};

/// Which part of a list is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// How many entries come before it.
    pub offset: usize,
    /// The most entries in it.
    pub limit: usize,
}

/// A document as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredDocument {
    /// A hash of [`Self::body`].
    pub etag: String,
    /// The document as JSON.
    pub body: Vec<u8>,
}

/// What becomes of a document that is there already when another of its id is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Present {
    /// It stays, unless the other says more.
    Keep,
    /// It is replaced.
    Replace,
}

/// What a result must say to be what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Whether the whole vocabulary was read at every cell.
    pub readout: bool,
    /// How many cells were verified; all of them where the grid has fewer.
    pub n_verified: usize,
}

/// Words of a search beyond these are not looked for.
const N_WORDS: usize = 16;
/// The most values of a facet.
const N_FACETS: usize = 200;

impl Store {
    /// Stores documents. One that is there already stays as it is unless the new one says more or
    /// it is to be replaced. Returns how many were not there before, or were deleted.
    ///
    /// # Errors
    /// [`StoreError::OtherResult`] if what is there contradicts one of them and is not to be replaced;
    /// a store that cannot be written to. Then none is stored.
    pub fn put(&self, documents: &[Document], present: Present) -> Result<usize> {
        self.write(|transaction| {
            if present == Present::Keep {
                check_same(transaction, documents)?;
            }
            let mut n_new = 0;
            for document in documents {
                n_new += usize::from(put(transaction, document, present)?);
            }
            Ok(n_new)
        })
    }

    /// The document of an experiment that is not deleted.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn document(&self, id: &str) -> Result<Option<StoredDocument>> {
        self.read(|connection| {
            let sql = "SELECT d.etag, d.body FROM experiments e JOIN documents d USING (seq)
                WHERE e.id = ?1 AND e.deleted_at IS NULL";
            let document = |row: &Row| Ok(StoredDocument { etag: row.get(0)?, body: row.get(1)? });
            Ok(connection.prepare_cached(sql)?.query_row([id], document).optional()?)
        })
    }

    /// The tag of an experiment's document, which is read without it; `None` as for [`Self::document`].
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn tag(&self, id: &str) -> Result<Option<String>> {
        self.read(|connection| {
            let sql = "SELECT d.etag FROM experiments e JOIN documents d USING (seq)
                WHERE e.id = ?1 AND e.deleted_at IS NULL";
            Ok(connection.prepare_cached(sql)?.query_row([id], |row| row.get(0)).optional()?)
        })
    }

    /// Which of `ids` have a result that says all that is wanted. One that was deleted has none.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn known(&self, ids: &[String], wanted: Wanted) -> Result<Vec<bool>> {
        self.read(|connection| ids.iter().map(|id| is_known(connection, id, wanted)).collect())
    }

    /// A page of the experiments that pass `filter`, in its order.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn experiments(&self, filter: &Filter, page: Page) -> Result<ExperimentPage> {
        let (conditions, values) = conditions(filter);
        let values: Vec<&dyn ToSql> = values.iter().map(|value| value as &dyn ToSql).collect();
        self.read(|connection| {
            let sql = format!("SELECT count(*) FROM experiments e WHERE {conditions}");
            let total = connection.prepare_cached(&sql)?.query_row(&*values, |row| row.get(0))?;
            let sql = page_sql(&conditions, filter.sort);
            let mut statement = connection.prepare_cached(&sql)?;
            let n = values.len();
            for (i, value) in (1..).zip(&values) {
                statement.raw_bind_parameter(i, value)?;
            }
            statement.raw_bind_parameter(n + 1, page.limit)?;
            statement.raw_bind_parameter(n + 2, page.offset)?;
            let mut rows = statement.raw_query();
            let mut experiments: Vec<Entry> = Vec::new();
            while let Some(row) = rows.next()? {
                // An entry is written by this program; one that it cannot read is not shown.
                experiments.extend(serde_json::from_str(row.get_ref(0)?.as_str().unwrap_or("")));
            }
            Ok(ExperimentPage { total, offset: page.offset, experiments })
        })
    }

    /// What experiments can be filtered by.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn facets(&self) -> Result<Facets> {
        self.read(|connection| {
            let facet = |column: &str| -> Result<Vec<Facet>> {
                let sql = format!(
                    "SELECT {column}, count(*) AS n FROM experiments
                    WHERE deleted_at IS NULL AND {column} <> ''
                    GROUP BY {column} ORDER BY n DESC, {column} LIMIT {N_FACETS}"
                );
                let mut statement = connection.prepare_cached(&sql)?;
                let facets = statement
                    .query_map([], |row| Ok(Facet { value: row.get(0)?, n: row.get(1)? }))?;
                Ok(facets.collect::<rusqlite::Result<_>>()?)
            };
            Ok(Facets {
                models: facet("model")?,
                entities: facet("entity")?,
                sites: facet("site")?,
            })
        })
    }

    /// Deletes an experiment so that it can be restored. Returns whether it was there.
    ///
    /// # Errors
    /// A store that cannot be written to.
    pub fn delete_experiment(&self, id: &str) -> Result<bool> {
        self.write(|transaction| {
            let sql = "UPDATE experiments SET deleted_at = unixepoch()
                WHERE id = ?1 AND deleted_at IS NULL";
            Ok(transaction.execute(sql, [id])? > 0)
        })
    }

    /// Brings a deleted experiment back. Returns whether there is one of that id now.
    ///
    /// # Errors
    /// A store that cannot be written to.
    pub fn restore_experiment(&self, id: &str) -> Result<bool> {
        self.write(|transaction| {
            let sql = "UPDATE experiments SET deleted_at = NULL WHERE id = ?1";
            Ok(transaction.execute(sql, [id])? > 0)
        })
    }
}

/// The conditions of a filter and their values; all of the conditions are fixed texts.
pub(super) fn conditions(filter: &Filter) -> (String, Vec<String>) {
    let mut conditions = String::from("e.deleted_at IS NULL");
    let mut values = Vec::new();
    let columns = [("model", &filter.model), ("entity", &filter.entity), ("site", &filter.site)];
    for (column, value) in columns.into_iter().filter(|(_, value)| !value.is_empty()) {
        values.push(value.clone());
        conditions.push_str(&format!(" AND e.{column} = ?{}", values.len()));
    }
    for word in filter.text.split_whitespace().take(N_WORDS) {
        values.push(word.to_lowercase());
        conditions.push_str(&format!(" AND instr(e.search, ?{})", values.len()));
    }
    (conditions, values)
}

/// The ids are chosen first and their entries read after, so that only the page's are.
pub(super) fn page_sql(conditions: &str, sort: Sort) -> String {
    let order = match sort {
        Sort::Newest => "e.finished_at DESC, e.seq DESC",
        Sort::Entity => "lower(e.entity), e.seq DESC",
        Sort::Model => "lower(e.model), e.seq DESC",
        Sort::Contrast => "e.contrast DESC, e.seq DESC",
    };
    format!(
        "SELECT d.entry FROM experiments e JOIN documents d USING (seq)
        WHERE {conditions} ORDER BY {order} LIMIT ? OFFSET ?"
    )
}

/// Whether there is a result of this id that says all that is wanted.
pub(super) fn is_known(connection: &Connection, id: &str, wanted: Wanted) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM experiments
        WHERE id = ?1 AND deleted_at IS NULL AND (has_readout OR NOT ?2)
            AND (n_verified >= ?3 OR (n_cells > 0 AND n_verified >= n_cells)))";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row(params![id, wanted.readout, wanted.n_verified], |row| row.get(0))?)
}

/// Looks for documents that contradict what is there under their ids.
fn check_same(transaction: &Transaction, documents: &[Document]) -> Result<()> {
    let sql = "SELECT d.body FROM experiments e JOIN documents d USING (seq)
        WHERE e.id = ?1 AND e.deleted_at IS NULL";
    let mut statement = transaction.prepare_cached(sql)?;
    let mut ids = Vec::new();
    for document in documents {
        let found = statement.query_row([&document.id], |row| row.get::<_, Vec<u8>>(0));
        let Some(found) = found.optional()? else { continue };
        // What cannot be read any more contradicts nothing, and is told where it is opened.
        let found = Document::read(&found).unwrap_or_default();
        if found.iter().any(|found| found.contradicts(document)) {
            ids.push(document.id.clone());
        }
    }
    if ids.is_empty() { Ok(()) } else { Err(StoreError::OtherResult(ids)) }
}

/// Stores a document; see [`Present`].
pub(super) fn put(
    transaction: &Transaction,
    document: &Document,
    present: Present,
) -> Result<bool> {
    let n_verified = document.verification.as_ref().map_or(0, |v| v.n_cells);
    let sql = "SELECT EXISTS (SELECT 1 FROM experiments WHERE id = ?1 AND deleted_at IS NULL)";
    let is_there: bool =
        transaction.prepare_cached(sql)?.query_row([&document.id], |row| row.get(0))?;
    let wanted = Wanted { readout: document.has_readout(), n_verified };
    if present == Present::Keep && is_known(transaction, &document.id, wanted)? {
        return Ok(false);
    }
    let entry = Entry::of(document);
    let site = entry.site.map_or("", Site::name);
    let search = [
        &*entry.entity,
        &*entry.model,
        &*entry.source_sentence,
        &*entry.base_sentence,
        &*entry.id,
        site,
    ];
    let seq: i64 = transaction
        .prepare_cached(
            "INSERT INTO experiments (id, entity, model, site, finished_at, contrast, has_readout,
                n_verified, n_cells, search) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
            ON CONFLICT (id) DO UPDATE SET entity = ?2, model = ?3, site = ?4, finished_at = ?5,
                contrast = ?6, has_readout = ?7, n_verified = ?8, n_cells = ?9, search = ?10,
                deleted_at = NULL
            RETURNING seq",
        )?
        .query_row(
            params![
                document.id,
                entry.entity,
                entry.model,
                site,
                entry.finished_at,
                entry.contrast().unwrap_or(-1.0),
                document.has_readout(),
                n_verified,
                entry.n_layers * entry.n_columns,
                search.join("\n").to_lowercase(),
            ],
            |row| row.get(0),
        )?;
    let body = document.to_json();
    let entry = serde_json::to_string(&entry).expect("an entry is plain");
    transaction
        .prepare_cached(
            "INSERT INTO documents (seq, etag, entry, body) VALUES (?1, ?2, ?3, ?4)
            ON CONFLICT (seq) DO UPDATE SET etag = ?2, entry = ?3, body = ?4",
        )?
        .execute(params![seq, content_id(&body), entry, body.into_bytes()])?;
    Ok(!is_there)
}
