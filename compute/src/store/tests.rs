use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use shared::document::{Document, content_id};
use shared::specification::pairs::Pair;
use shared::specification::settings::Settings;
use shared::wire::address::{Filter, Sort};
use shared::wire::job::State;

use super::*;

impl Store {
    /// Counts the steps of all statements from now on.
    pub(crate) fn count_steps(&self) -> Arc<AtomicUsize> {
        let steps = Arc::new(AtomicUsize::new(0));
        let count = |connection: &mut Connection| {
            let steps = steps.clone();
            let step = move || {
                steps.fetch_add(1, Ordering::Relaxed);
                false
            };
            connection.progress_handler(1, Some(step)).unwrap();
        };
        count(&mut self.writer.as_ref().unwrap().lock().unwrap());
        let mut reader = self.open_reader().unwrap();
        count(&mut reader);
        *self.readers.lock().unwrap() = vec![reader];
        steps
    }

    /// Has a writer that meets another's transaction ask `wait` whether it tries again.
    pub(crate) fn when_busy(&self, wait: impl Fn() -> bool + Send + 'static) {
        let mut writer = self.writer.as_ref().unwrap().lock().unwrap();
        writer.busy_handler(Some(move |_| wait())).unwrap();
    }
}

const NOW: &str = "2026-01-31T12:00:00Z";

fn document(i: usize) -> Document {
    let json = serde_json::json!({
        "schema": "patchboard/1", "id": content_id(&i.to_string()),
        "model": format!("model-{}", i % 3), "entity": format!("Entity {}", i % 50),
        "source_prompt": "", "base_prompt": "", "sentence_start": 0,
        "source_sentence": format!("Entity {i} orders the guards to open gate {i}."),
        "base_sentence": format!("Entity {i} watches the guards at rest {i}."),
        "token_labels": ["a", "b"], "num_layers": 2, "patching_results": [[0.0, 1.0], [i, 2.0]],
        "site": if i.is_multiple_of(2) { "resid_post" } else { "mlp_out" },
        "provenance": {
            "engine": "", "model_fingerprint": "", "architecture": "", "weights_dtype": "",
            "dtype": "", "device": "", "wall_secs": 0.0, "operations": 0.0,
            "finished_at": format!("2026-01-31T12:{:02}:{:02}Z", i / 60 % 60, i % 60),
        },
    });
    Document::read(json.to_string().as_bytes()).unwrap().remove(0)
}

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    (folder, store)
}

fn job(n_pairs: usize, client: &str) -> NewJob {
    let pair = |i: usize| Pair {
        line: i as u64 + 2,
        entity: "Ada".into(),
        source: format!("Ada rules {i}."),
        base: "Ada waits.".into(),
        cells: Default::default(),
    };
    NewJob {
        client: client.into(),
        name: "pairs.tsv".into(),
        model: "m".into(),
        settings: Settings { readout: false, ..Default::default() },
        again: false,
        now: NOW.into(),
        pairs: (0..n_pairs)
            .map(|i| NewPair { pair: pair(i), experiment: document(i).id })
            .collect(),
    }
}

fn next(store: &Store) -> Claim {
    let pending = store.pending().unwrap();
    store.claim(pending[0].seq, NOW).unwrap().unwrap()
}

#[test]
fn experiments_are_found_sorted_and_paged() {
    let (_folder, store) = store();
    let documents: Vec<_> = (0..120).map(document).collect();
    assert_eq!(store.put(&documents, Present::Keep).unwrap(), 120);
    assert_eq!(store.put(&documents[..5], Present::Keep).unwrap(), 0);
    let filter = Filter::default();
    let cases = [
        (filter.clone(), 120, 119),
        (Filter { model: "model-1".into(), ..filter.clone() }, 40, 118),
        (Filter { entity: "Entity 7".into(), ..filter.clone() }, 3, 107),
        (Filter { site: "mlp_out".into(), ..filter.clone() }, 60, 119),
        (Filter { text: "GUARDS gate entity 117.".into(), ..filter.clone() }, 1, 117),
        (Filter { text: "mlp_out rest".into(), ..filter.clone() }, 60, 119),
        (Filter { sort: Sort::Entity, ..filter.clone() }, 120, 100),
        (Filter { sort: Sort::Contrast, ..filter.clone() }, 120, 119),
        (Filter { sort: Sort::Model, model: "model-2".into(), ..filter.clone() }, 40, 119),
    ];
    for (filter, total, first) in cases {
        let page = store.experiments(&filter, Page { offset: 0, limit: 10 }).unwrap();
        assert_eq!((page.total, page.experiments.len()), (total, total.min(10)), "{filter:?}");
        assert_eq!(page.experiments[0].id, document(first).id, "{filter:?}");
    }
    let page = store.experiments(&filter, Page { offset: 115, limit: 10 }).unwrap();
    assert_eq!(page.experiments.len(), 5);
    let odd = Filter { text: "% _ ' \" \0".into(), ..Filter::default() };
    assert_eq!(store.experiments(&odd, Page { offset: 0, limit: 1 }).unwrap().total, 0);
    let facets = store.facets().unwrap();
    assert_eq!((facets.models.len(), facets.entities.len(), facets.sites.len()), (3, 50, 2));
}

#[test]
fn what_is_deleted_can_be_restored_and_is_not_listed() {
    let (_folder, store) = store();
    let document = document(1);
    store.put(std::slice::from_ref(&document), Present::Keep).unwrap();
    let id = &document.id;
    let total =
        || store.experiments(&Filter::default(), Page { offset: 0, limit: 1 }).unwrap().total;
    assert!(store.delete_experiment(id).unwrap());
    assert!(!store.delete_experiment(id).unwrap());
    assert_eq!((store.document(id).unwrap(), total()), (None, 0));
    assert!(store.restore_experiment(id).unwrap());
    let stored = store.document(id).unwrap().unwrap();
    assert_eq!(Document::read(&stored.body).unwrap(), std::slice::from_ref(&document));
    // Stored again, it comes back, too.
    store.delete_experiment(id).unwrap();
    assert_eq!(store.put(std::slice::from_ref(&document), Present::Keep).unwrap(), 1);
    assert_eq!(total(), 1);
    assert!(!store.restore_experiment("no such id").unwrap());
    store.delete_experiment(id).unwrap();
    assert_eq!((store.purge(1).unwrap(), store.purge(0).unwrap()), (0, 1));
}

#[test]
fn a_job_goes_through_its_states() {
    let (_folder, store) = store();
    let id = store.submit(&job(3, "a")).unwrap().job;
    let state = || store.job(&id).unwrap().unwrap().job.state;
    assert_eq!(state(), State::Queued);
    let first = next(&store);
    assert_eq!((first.index, first.n_begun, state()), (0, 1, State::Running));
    store.finish(&first, &Outcome::Done(&document(0)), NOW).unwrap();
    store.finish(&next(&store), &Outcome::Failed("too long"), NOW).unwrap();
    // An interruption is no attempt; a crash is one.
    store.finish(&next(&store), &Outcome::Interrupted, NOW).unwrap();
    assert_eq!(next(&store).n_begun, 1);
    let recovered: Vec<_> =
        store.recover().unwrap().into_iter().map(|job| (job.job, job.n_queued)).collect();
    assert_eq!(recovered, [(id.clone(), 1)]);
    let third = next(&store);
    assert_eq!((third.index, third.n_begun), (2, 2));
    store.finish(&third, &Outcome::Done(&document(2)), NOW).unwrap();
    let detail = store.job(&id).unwrap().unwrap();
    assert_eq!((detail.job.state, detail.job.n_done, detail.job.n_failed), (State::Done, 2, 1));
    assert_eq!(detail.pairs[1].error.as_deref(), Some("too long"));
    assert!(store.pending().unwrap().is_empty());

    // Submitted once more, what is known is done at once; what was deleted is computed.
    let again = store.submit(&job(3, "a")).unwrap();
    assert_eq!(again.n_queued, 1);
    let detail = store.job(&again.job).unwrap().unwrap();
    let states: Vec<_> = detail.pairs.iter().map(|pair| pair.state).collect();
    assert_eq!(states, [State::Done, State::Queued, State::Done]);
    store.delete_experiment(&document(0).id).unwrap();
    let third = store.submit(&job(1, "a")).unwrap();
    assert_eq!(store.job(&third.job).unwrap().unwrap().job.state, State::Queued);
    assert!(store.document(&document(0).id).unwrap().is_none());
}

/// Documents by whether the vocabulary was read and how many of the four cells were verified, and
/// what each is good for.
#[test]
fn a_result_is_used_where_it_says_all_that_is_wanted() {
    let cases = [
        ((false, 0), [true, false, false, false, false]),
        ((true, 0), [true, true, false, false, false]),
        ((false, 1), [true, false, true, false, false]),
        ((false, 3), [true, false, true, true, false]),
        ((true, 4), [true, true, true, true, true]),
    ];
    let wanted = [(false, 0), (true, 0), (false, 1), (false, 2), (false, 100)];
    for ((readout, n_verified), expected) in cases {
        let (_folder, store) = store();
        store.put(&[says(readout, n_verified)], Present::Keep).unwrap();
        for ((readout, n_verified), expected) in wanted.into_iter().zip(expected) {
            let wanted = Wanted { readout, n_verified };
            let known = store.known(&[document(0).id], wanted).unwrap();
            assert_eq!(known, [expected], "{n_verified} {readout} {wanted:?}");
            let mut job = job(1, "a");
            job.settings.readout = readout;
            job.settings.verify = n_verified;
            assert_eq!(store.submit(&job).unwrap().n_queued == 0, expected, "{wanted:?}");
            job.again = true;
            assert_eq!(store.submit(&job).unwrap().n_queued, 1, "{wanted:?}");
        }
    }
}

/// The first document with a readout or none, and with so many verified cells.
fn says(readout: bool, n_verified: usize) -> Document {
    let mut document = serde_json::to_value(document(0)).unwrap();
    if readout {
        let grid = serde_json::json!([[0.5, 0.5], [0.5, 0.5]]);
        let tops = serde_json::json!([[1, 1], [1, 1]]);
        document["readout"] = serde_json::json!({
            "p_true": grid, "p_false": grid, "top_token": tops, "top_token_labels": { "1": "a" },
        });
    }
    if n_verified > 0 {
        document["verification"] =
            serde_json::json!({ "n_cells": n_verified, "max_abs_diff": 0.0 });
    }
    Document::read(document.to_string().as_bytes()).unwrap().remove(0)
}

#[test]
fn what_is_computed_again_takes_the_place_of_what_was_wrong() {
    let (_folder, store) = store();
    let wrong = document(0);
    let mut right = serde_json::to_value(&wrong).unwrap();
    right["patching_results"][0][0] = serde_json::json!(7.0);
    let right = Document::read(right.to_string().as_bytes()).unwrap().remove(0);
    let stored = |store: &Store| {
        let stored = store.document(&wrong.id).unwrap().unwrap();
        Document::read(&stored.body).unwrap().remove(0)
    };
    store.put(std::slice::from_ref(&wrong), Present::Keep).unwrap();
    // Neither an import nor a pair that was on its way takes it away; a run on request does.
    let other = store.put(&[document(1), right.clone()], Present::Keep);
    assert!(matches!(other, Err(StoreError::OtherResult(ids)) if ids == [wrong.id.clone()]));
    assert_eq!(store.document(&document(1).id).unwrap(), None, "with it, nothing is stored");
    assert_eq!(stored(&store), wrong);
    store.submit(&NewJob { again: true, ..job(1, "a") }).unwrap();
    let claim = next(&store);
    assert!(claim.again && !store.finish_if_known(&claim, NOW).unwrap());
    store.finish(&claim, &Outcome::Done(&right), NOW).unwrap();
    assert_eq!(stored(&store), right);
    // So does an import on request, and one over something deleted.
    assert_eq!(store.put(std::slice::from_ref(&wrong), Present::Replace).unwrap(), 0);
    assert_eq!(stored(&store), wrong);
    store.delete_experiment(&wrong.id).unwrap();
    assert_eq!(store.put(std::slice::from_ref(&right), Present::Keep).unwrap(), 1);
    assert_eq!(stored(&store), right);
    // Deleted and submitted, it is computed, and what comes of it is shown.
    store.delete_experiment(&wrong.id).unwrap();
    store.submit(&job(1, "a")).unwrap();
    let claim = next(&store);
    assert!(!store.finish_if_known(&claim, NOW).unwrap());
    store.finish(&claim, &Outcome::Done(&wrong), NOW).unwrap();
    assert_eq!(stored(&store), wrong);
}

#[test]
fn what_was_deleted_is_forgotten_and_the_file_shrinks() {
    let (folder, store) = store();
    let mut documents: Vec<_> = (0..200).map(document).collect();
    for document in &mut documents {
        document.source_prompt = "x".repeat(20_000);
    }
    store.put(&documents, Present::Keep).unwrap();
    let n_bytes = || std::fs::metadata(folder.path().join(FILE)).unwrap().len();
    for document in &documents[..190] {
        store.delete_experiment(&document.id).unwrap();
    }
    assert_eq!(store.purge(7).unwrap(), 0);
    let before = n_bytes();
    assert!(before > 200 * 20_000, "{before}");
    store
        .write(|transaction| {
            let sql = "UPDATE experiments SET deleted_at = deleted_at - 7 * 86400
                WHERE deleted_at IS NOT NULL AND id <> ?1";
            Ok(transaction.execute(sql, [&documents[0].id])?)
        })
        .unwrap();
    assert_eq!(store.purge(7).unwrap(), 189);
    assert!(n_bytes() < before / 8, "{} of {before}", n_bytes());
    assert!(store.restore_experiment(&documents[0].id).unwrap());
    assert!(!store.restore_experiment(&documents[1].id).unwrap());
    let page = store.experiments(&Filter::default(), Page { offset: 0, limit: 1 }).unwrap();
    assert_eq!(page.total, 11);
}

/// A folder from the version before, with jobs half done and a verified result.
#[test]
fn a_database_of_the_version_before_is_brought_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let connection = Connection::open(folder.path().join(FILE)).unwrap();
    for (step, sql) in
        [include_str!("schema-1.sql"), include_str!("schema-2.sql")].into_iter().enumerate()
    {
        connection.execute_batch(sql).unwrap();
        connection.pragma_update(None, "user_version", step + 1).unwrap();
    }
    let verified = says(false, 4);
    let entry = serde_json::to_string(&shared::wire::gallery::Entry::of(&verified)).unwrap();
    connection
        .execute(
            "INSERT INTO experiments VALUES (1, ?1, 'e', 'm', 's', 't', 1.0, 0, 4, NULL, 'e')",
            [&verified.id],
        )
        .unwrap();
    let values = rusqlite::params![entry, verified.to_json().into_bytes()];
    connection.execute("INSERT INTO documents VALUES (1, 'tag', ?1, ?2)", values).unwrap();
    let settings = serde_json::to_string(&Settings::default()).unwrap();
    connection
        .execute(
            "INSERT INTO jobs VALUES (1, 'j', 'c', '', 'm', ?1, 'running', ?2, ?2, NULL)",
            [&settings, NOW],
        )
        .unwrap();
    let pair = serde_json::to_string(&job(1, "a").pairs[0].pair).unwrap();
    for (i, state) in ["done", "failed", "running", "queued", "queued"].iter().enumerate() {
        let values = rusqlite::params![i, pair, format!("e{i}"), state];
        let sql = "INSERT INTO pairs VALUES (1, ?1, ?2, ?3, ?4, NULL, 1)";
        connection.execute(sql, values).unwrap();
    }
    drop(connection);

    let store = Store::open(folder.path()).unwrap();
    let job = store.job_row("j").unwrap().unwrap();
    assert_eq!((job.n_pairs, job.n_done, job.n_failed), (5, 1, 1));
    assert_eq!(store.pending().unwrap()[0].n_queued, 2);
    assert_eq!(store.recover().unwrap()[0].n_queued, 1);
    assert_eq!(store.pending().unwrap()[0].n_queued, 3);
    let wanted = Wanted { readout: false, n_verified: 100 };
    assert_eq!(store.known(&[verified.id], wanted).unwrap(), [true]);
    let mode: usize = store
        .read(
            |connection| Ok(connection.pragma_query_value(None, "auto_vacuum", |row| row.get(0))?),
        )
        .unwrap();
    assert_eq!(mode, 2, "it can shrink");
}

#[test]
fn what_is_finished_of_a_pair_is_kept_until_its_experiment_is_there() {
    let (folder, store) = store();
    let id = store.submit(&job(4, "a")).unwrap().job;
    let mut claim = next(&store);
    store.keep(&claim, "this", "one").unwrap();
    store.keep(&claim, "this", "two").unwrap();
    store.keep(&claim, "that", "three").unwrap();
    assert_eq!(store.kept(&claim, "this").unwrap(), ["one", "two"]);
    // The process ends, and the pair is begun anew.
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    store.recover().unwrap();
    for n_begun in 2..5 {
        claim = next(&store);
        assert_eq!((claim.index, claim.n_begun), (0, n_begun));
        store.recover().unwrap();
    }
    claim = next(&store);
    assert_eq!(store.kept(&claim, "this").unwrap(), ["one", "two"]);
    store.keep(&claim, "this", "four").unwrap();
    store.finish(&claim, &Outcome::Interrupted, NOW).unwrap();
    claim = next(&store);
    assert_eq!((claim.index, claim.n_begun), (0, 1), "what comes forward is not given up");
    assert_eq!(store.kept(&claim, "this").unwrap(), ["one", "two", "four"]);
    let n_kept = |store: &Store| -> usize {
        let sql = "SELECT count(*) FROM partials";
        store.read(|connection| Ok(connection.query_row(sql, [], |row| row.get(0))?)).unwrap()
    };
    store.finish(&claim, &Outcome::Done(&document(0)), NOW).unwrap();
    assert_eq!(n_kept(&store), 0);
    // One that failed or was cancelled keeps it, and of what comes late only what came before that.
    let failed = next(&store);
    let made_for = format!("{} and so on", failed.experiment);
    store.keep(&failed, &made_for, "failed").unwrap();
    store.finish(&failed, &Outcome::Failed("why"), NOW).unwrap();
    let cancelled = next(&store);
    store.keep(&cancelled, "cancelled", "cancelled").unwrap();
    store.cancel(&id, NOW).unwrap();
    store.keep(&cancelled, "cancelled", "last").unwrap();
    store.keep(&failed, &made_for, "late").unwrap();
    assert_eq!(n_kept(&store), 3);
    // Another job with the same experiments begins with it, unless it is to compute all of it again.
    let mut again = job(4, "b");
    again.again = true;
    again.pairs.drain(..1);
    let other = NewJob { again: false, pairs: again.pairs.clone(), ..again.clone() };
    for (new, kept) in [(again, &[][..]), (other, &["failed"])] {
        let id = store.submit(&new).unwrap().job;
        let claim = next(&store);
        assert_eq!(claim.experiment, failed.experiment);
        assert_eq!(store.kept(&claim, &made_for).unwrap(), kept);
        store.keep(&claim, &made_for, "more").unwrap();
        if kept.is_empty() {
            assert_eq!(store.kept(&claim, &made_for).unwrap(), ["more"]);
            store.delete_job(&id).unwrap();
        } else {
            assert_eq!(store.kept(&claim, &made_for).unwrap(), ["failed", "more"]);
            store.finish(&claim, &Outcome::Done(&document(1)), NOW).unwrap();
        }
    }
    assert_eq!(n_kept(&store), 2, "what was cancelled, and is of another experiment");
    // Nobody has come back for it.
    store.purge(36_500).unwrap();
    assert_eq!(n_kept(&store), 2);
    store.purge(7).unwrap();
    assert_eq!(n_kept(&store), 0);
}

/// A pair of a long job costs no more steps of the database than one of a short job: counted, not
/// timed.
#[test]
fn a_pair_of_a_long_job_is_no_more_work() {
    let n_steps = |n_pairs: usize| {
        let (_folder, store) = store();
        let id = store.submit(&job(n_pairs, "a")).unwrap().job;
        for _ in 0..3 {
            store.finish(&next(&store), &Outcome::Failed("why"), NOW).unwrap();
        }
        let seq = store.pending().unwrap()[0].seq;
        let steps = store.count_steps();
        let claim = store.claim(seq, NOW).unwrap().unwrap();
        assert!(!store.finish_if_known(&claim, NOW).unwrap());
        store.job_row(&id).unwrap().unwrap();
        store.keep(&claim, "", "").unwrap();
        store.kept(&claim, "").unwrap();
        store.finish(&claim, &Outcome::Done(&document(4)), NOW).unwrap();
        store.pair(&id, claim.index).unwrap().unwrap();
        store.job_row(&id).unwrap().unwrap();
        store.active_jobs(9).unwrap();
        steps.load(Ordering::Relaxed)
    };
    let (short, long) = (n_steps(10), n_steps(3_000));
    assert!(short > 50 && long <= short + short / 10, "{short} steps, {long} in the long job");
}

#[test]
fn what_is_cancelled_stays_so() {
    let (_folder, store) = store();
    let id = store.submit(&job(2, "a")).unwrap().job;
    let claim = next(&store);
    assert_eq!(store.cancel(&id, NOW).unwrap(), Some(true));
    assert_eq!(store.cancel(&id, NOW).unwrap(), Some(false));
    assert_eq!(store.cancel("none", NOW).unwrap(), None);
    store.finish(&claim, &Outcome::Done(&document(0)), NOW).unwrap();
    let detail = store.job(&id).unwrap().unwrap();
    assert_eq!(detail.job.state, State::Cancelled);
    assert!(detail.pairs.iter().all(|pair| pair.state == State::Cancelled));
    assert_eq!(store.document(&document(0).id).unwrap(), None);
    // Neither does a result that comes by another way make it done.
    store.put(&[document(0)], Present::Keep).unwrap();
    assert!(!store.finish_if_known(&claim, NOW).unwrap());
    assert_eq!(store.job_row(&id).unwrap().unwrap().n_done, 0);
    assert!(store.delete_job(&id).unwrap());
    assert!(store.job(&id).unwrap().is_none());
}

#[test]
fn a_full_disk_changes_nothing() {
    let (folder, store) = store();
    store.put(&[document(0)], Present::Keep).unwrap();
    let id = store.submit(&job(3, "a")).unwrap().job;
    let claim = next(&store);
    let limit = |n: usize| {
        let writer = store.writer.as_ref().unwrap().lock().unwrap();
        writer.pragma_update(None, "max_page_count", n).unwrap();
    };
    limit(1);
    let mut large = document(1);
    large.source_prompt = "x".repeat(1 << 20);
    let error = store.finish(&claim, &Outcome::Done(&large), NOW).unwrap_err();
    assert!(matches!(error, StoreError::Full), "{error}");
    assert!(matches!(
        store.put(std::slice::from_ref(&large), Present::Keep),
        Err(StoreError::Full)
    ));
    let detail = store.job(&id).unwrap().unwrap();
    assert_eq!((detail.job.n_done, detail.pairs[1].state), (1, State::Running));
    limit(1 << 30);
    store.finish(&claim, &Outcome::Done(&large), NOW).unwrap();
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    assert!(store.document(&large.id).unwrap().is_some());
}

#[test]
fn folders_that_cannot_be_used_are_refused_by_name() {
    let (folder, store) = store();
    store.put(&[document(0)], Present::Keep).unwrap();
    let error = |path: &Path| Store::open(path).err().unwrap().to_string();
    assert!(error(folder.path()).starts_with("another server uses the data folder"));
    drop(store);

    let copy = tempfile::tempdir().unwrap();
    let file = copy.path().join(FILE);
    std::fs::copy(folder.path().join(FILE), &file).unwrap();
    Connection::open(&file).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let expected = format!("has version 99, and this Patchboard reads up to {}", schema::VERSION);
    assert!(error(copy.path()).contains(&expected));
    std::fs::write(&file, "no database at all, and longer than a header is".repeat(9)).unwrap();
    assert!(error(copy.path()).contains("is damaged or no database"));
    assert!(error(&folder.path().join(FILE)).contains("cannot be used"));
}

#[test]
fn a_copy_of_the_folder_is_a_backup_and_can_be_read_without_writing() {
    let (folder, store) = store();
    store.put(&[document(0)], Present::Keep).unwrap();
    drop(store);
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(folder.path().join(FILE), copy.path().join(FILE)).unwrap();
    let store = Store::open_read_only(copy.path().join(FILE), "the disk is write-protected".into());
    let store = store.unwrap();
    assert!(store.document(&document(0).id).unwrap().is_some());
    let error = store.put(&[document(1)], Present::Keep).unwrap_err().to_string();
    assert_eq!(error, "results cannot be stored: the disk is write-protected");
    drop(store);
    assert_eq!(std::fs::read_dir(copy.path()).unwrap().count(), 1, "nothing was written");
}

/// Twenty thousand experiments are searched in milliseconds because no query reads a document but
/// those of its page: the plan says so.
#[test]
fn searches_read_no_more_than_the_page() {
    let (_folder, store) = store();
    store.put(&(0..50).map(document).collect::<Vec<_>>(), Present::Keep).unwrap();
    let plan = |filter: &Filter| {
        let (conditions, values) = experiments::conditions(filter);
        let sql = experiments::page_sql(&conditions, filter.sort);
        store
            .read(|connection| {
                let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
                let n = statement.parameter_count();
                let values = values.iter().cloned().chain(std::iter::repeat(String::from("1")));
                let values: Vec<_> = values.take(n).collect();
                let rows = statement
                    .query_map(rusqlite::params_from_iter(values), |row| row.get::<_, String>(3))?;
                Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?.join("; "))
            })
            .unwrap()
    };
    for (sort, index) in [
        (Sort::Newest, "experiments_newest"),
        (Sort::Entity, "experiments_entity"),
        (Sort::Model, "experiments_model"),
        (Sort::Contrast, "experiments_contrast"),
    ] {
        let filter = Filter { sort, text: "guards".into(), ..Filter::default() };
        let plan = plan(&filter);
        assert!(plan.contains(&format!("USING INDEX {index}")), "{plan}");
        assert!(plan.contains("SEARCH d USING INTEGER PRIMARY KEY"), "{plan}");
        assert!(!plan.contains("TEMP B-TREE"), "{plan}");
    }
}
