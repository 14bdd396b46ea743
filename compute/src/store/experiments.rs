//! Experiments: documents by id, and what lists, filters and sorts them.

use rusqlite::{Connection, OptionalExtension, Row, ToSql, Transaction, params};
use shared::address::{Filter, Sort};
use shared::document::{Document, content_id};
use shared::gallery::Entry;
use shared::listing::{ExperimentPage, Facet, Facets};
use shared::vocabulary::Site;

use super::{Result, Store};

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

/// Words of a search beyond these are not looked for.
const N_WORDS: usize = 16;
/// The most values of a facet.
const N_FACETS: usize = 200;

impl Store {
    /// Stores documents. One that is there already stays as it is, unless the new one says more;
    /// one that was deleted comes back. Returns how many are new or came back.
    ///
    /// # Errors
    /// A store that cannot be written to.
    pub fn put(&self, documents: &[Document]) -> Result<usize> {
        self.write(|transaction| {
            let mut n_new = 0;
            for document in documents {
                n_new += usize::from(put(transaction, document)?);
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

    /// Which of `ids` have a result that says all that is asked for. A deleted one counts: asking
    /// for it again brings it back.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn known(&self, ids: &[String], readout: bool, verify: bool) -> Result<Vec<bool>> {
        self.read(|connection| {
            ids.iter().map(|id| is_known(connection, id, readout, verify)).collect()
        })
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

    /// Forgets what was deleted longer ago than `n_days`. Returns how many.
    ///
    /// # Errors
    /// A store that cannot be written to.
    pub fn purge(&self, n_days: u32) -> Result<usize> {
        self.write(|transaction| {
            let sql = "DELETE FROM experiments WHERE deleted_at < unixepoch() - ?1 * 86400";
            Ok(transaction.execute(sql, [n_days])?)
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

fn is_known(connection: &Connection, id: &str, readout: bool, verify: bool) -> Result<bool> {
    let sql = "SELECT count(*) FROM experiments
        WHERE id = ?1 AND has_readout >= ?2 AND (n_verified > 0) >= ?3";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row(params![id, readout, verify], |row| row.get::<_, usize>(0))? > 0)
}

/// Brings a known experiment back if it was deleted. Returns whether it is known.
pub(super) fn reuse(
    transaction: &Transaction,
    id: &str,
    readout: bool,
    verify: bool,
) -> Result<bool> {
    if !is_known(transaction, id, readout, verify)? {
        return Ok(false);
    }
    let sql = "UPDATE experiments SET deleted_at = NULL WHERE id = ?1 AND deleted_at IS NOT NULL";
    transaction.execute(sql, [id])?;
    Ok(true)
}

/// Stores a document; see [`Store::put`].
pub(super) fn put(transaction: &Transaction, document: &Document) -> Result<bool> {
    let n_verified = document.verification.as_ref().map_or(0, |v| v.n_cells);
    let was_deleted: Option<bool> = transaction
        .prepare_cached("SELECT deleted_at IS NOT NULL FROM experiments WHERE id = ?1")?
        .query_row([&document.id], |row| row.get(0))
        .optional()?;
    if was_deleted.is_some()
        && reuse(transaction, &document.id, document.has_readout(), n_verified > 0)?
    {
        return Ok(was_deleted == Some(true));
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
                n_verified, search) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
            ON CONFLICT (id) DO UPDATE SET entity = ?2, model = ?3, site = ?4, finished_at = ?5,
                contrast = ?6, has_readout = ?7, n_verified = ?8, search = ?9, deleted_at = NULL
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
                search.join("\n").to_lowercase(),
            ],
            |row| row.get(0),
        )?;
    let body = document.to_json();
    let entry = serde_json::to_string(&entry).expect("an entry has no map with odd keys");
    transaction
        .prepare_cached(
            "INSERT INTO documents (seq, etag, entry, body) VALUES (?1, ?2, ?3, ?4)
            ON CONFLICT (seq) DO UPDATE SET etag = ?2, entry = ?3, body = ?4",
        )?
        .execute(params![seq, content_id(&body), entry, body.into_bytes()])?;
    Ok(was_deleted != Some(false))
}
