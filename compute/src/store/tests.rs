use shared::address::{Filter, Sort};
use shared::document::{Document, content_id};
use shared::job::State;
use shared::pairs::Pair;
use shared::settings::Settings;

use super::*;

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
    assert_eq!(store.put(&documents).unwrap(), 120);
    assert_eq!(store.put(&documents[..5]).unwrap(), 0);
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
    store.put(std::slice::from_ref(&document)).unwrap();
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
    assert_eq!(store.put(std::slice::from_ref(&document)).unwrap(), 1);
    assert_eq!(total(), 1);
    assert!(!store.restore_experiment("no such id").unwrap());
    store.delete_experiment(id).unwrap();
    assert_eq!(store.purge(1).unwrap(), 0);
}

#[test]
fn a_job_goes_through_its_states() {
    let (_folder, store) = store();
    let id = store.submit(&job(3, "a")).unwrap();
    let state = || store.job(&id).unwrap().unwrap().job.state;
    assert_eq!(state(), State::Queued);
    let first = next(&store);
    assert_eq!((first.index, first.n_begun, state()), (0, 1, State::Running));
    store.finish(&first, &Outcome::Done(&document(0)), NOW).unwrap();
    store.finish(&next(&store), &Outcome::Failed("too long"), NOW).unwrap();
    // An interruption is no attempt; a crash is one.
    store.finish(&next(&store), &Outcome::Interrupted, NOW).unwrap();
    assert_eq!(next(&store).n_begun, 1);
    assert_eq!(store.recover().unwrap(), 1);
    let third = next(&store);
    assert_eq!((third.index, third.n_begun), (2, 2));
    store.finish(&third, &Outcome::Done(&document(2)), NOW).unwrap();
    let detail = store.job(&id).unwrap().unwrap();
    assert_eq!((detail.job.state, detail.job.n_done, detail.job.n_failed), (State::Done, 2, 1));
    assert_eq!(detail.pairs[1].error.as_deref(), Some("too long"));
    assert!(store.pending().unwrap().is_empty());

    // Asked again, what is known is done at once.
    let again = store.submit(&job(3, "a")).unwrap();
    let detail = store.job(&again).unwrap().unwrap();
    let states: Vec<_> = detail.pairs.iter().map(|pair| pair.state).collect();
    assert_eq!(states, [State::Done, State::Queued, State::Done]);
    store.delete_experiment(&document(0).id).unwrap();
    let third = store.submit(&job(1, "a")).unwrap();
    assert_eq!(store.job(&third).unwrap().unwrap().job.state, State::Done);
    assert!(store.document(&document(0).id).unwrap().is_some());
    // The vocabulary of the known result was not read.
    let mut more = job(1, "a");
    more.settings.readout = true;
    let more = store.submit(&more).unwrap();
    assert_eq!(store.job(&more).unwrap().unwrap().job.state, State::Queued);
}

#[test]
fn what_is_cancelled_stays_so() {
    let (_folder, store) = store();
    let id = store.submit(&job(2, "a")).unwrap();
    let claim = next(&store);
    assert_eq!(store.cancel(&id, NOW).unwrap(), Some(true));
    assert_eq!(store.cancel(&id, NOW).unwrap(), Some(false));
    assert_eq!(store.cancel("none", NOW).unwrap(), None);
    store.finish(&claim, &Outcome::Done(&document(0)), NOW).unwrap();
    let detail = store.job(&id).unwrap().unwrap();
    assert_eq!(detail.job.state, State::Cancelled);
    assert!(detail.pairs.iter().all(|pair| pair.state == State::Cancelled));
    assert_eq!(store.document(&document(0).id).unwrap(), None);
    assert!(store.delete_job(&id).unwrap());
    assert!(store.job(&id).unwrap().is_none());
}

#[test]
fn a_full_disk_changes_nothing() {
    let (folder, store) = store();
    store.put(&[document(0)]).unwrap();
    let id = store.submit(&job(3, "a")).unwrap();
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
    assert!(matches!(store.put(std::slice::from_ref(&large)), Err(StoreError::Full)));
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
    store.put(&[document(0)]).unwrap();
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
    store.put(&[document(0)]).unwrap();
    drop(store);
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(folder.path().join(FILE), copy.path().join(FILE)).unwrap();
    let store = Store::open_read_only(copy.path().join(FILE), "the disk is write-protected".into());
    let store = store.unwrap();
    assert!(store.document(&document(0).id).unwrap().is_some());
    let error = store.put(&[document(1)]).unwrap_err().to_string();
    assert_eq!(error, "results cannot be stored: the disk is write-protected");
    drop(store);
    assert_eq!(std::fs::read_dir(copy.path()).unwrap().count(), 1, "nothing was written");
}

/// Twenty thousand experiments are searched in milliseconds because no query reads a document but
/// those of its page: the plan says so.
#[test]
fn searches_read_no_more_than_the_page() {
    let (_folder, store) = store();
    store.put(&(0..50).map(document).collect::<Vec<_>>()).unwrap();
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
