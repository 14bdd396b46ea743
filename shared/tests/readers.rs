//! Whatever comes in, the readers of files, links, tables, events and addresses answer: no panic, no
//! endless work, no memory beyond what the input deserves.
//!
//! Inputs are the corpus and what random changes make of it. `scripts/fuzz-readers.sh` runs a
//! million of them for each reader; here it is a few thousand. What once failed is in the corpus.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test, which prints its figures")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use miniz_oxide::deflate::compress_to_vec_zlib;
use miniz_oxide::inflate::decompress_to_vec_zlib;
use peak_alloc::PeakAlloc;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use shared::document::Document;
use shared::field::axis::Coordinate;
use shared::field::cells;
use shared::field::chosen::{Choice, GridName};
use shared::figure::{Figure, FigureOptions};
use shared::markdown;
use shared::specification::correspondence::Correspondence;
use shared::specification::marks::Marked;
use shared::specification::pairs::{self, Columns, TableFormat};
use shared::specification::settings::Settings;
use shared::specification::template::Template;
use shared::statistics::Method;
use shared::study::{Builder, Options, Shown, Statistic, Study};
use shared::wire::address::{Address, Page};
use shared::wire::event::{Column, Event, Live, LiveBaselines};
use shared::wire::gallery::Entry;
use shared::wire::job::{Job, JobPair, State};
use shared::wire::live::Board;
use shared::wire::permalink;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// The most bytes of an input.
const MAX_INPUT: usize = 1 << 16;

/// The most that one input may take, in bytes: the largest that a link may hold, several times.
const MAX_MEMORY: usize = 256 << 20;

/// What random changes put in, beside bytes and pieces of other inputs.
const WORDS: [&[u8]; 34] = [
    b"null",
    b"true",
    b"[",
    b"]",
    b"{",
    b"}",
    b"\"",
    b",",
    b":",
    b"[[",
    b"\\u0000",
    b"\\ud800",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"-1e39",
    b"18446744073709551615",
    b"-1",
    b"0.1",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\t",
    b"\r\n",
    b"\n",
    b"\0",
    b"\"\"",
    b"%2F",
    b"%00",
    b"//",
    b"..",
    b"l:1.",
    b"?",
    b"&",
    b"=",
];

/// One reader and what it is given.
struct Reader {
    name: &'static str,
    seeds: Vec<Vec<u8>>,
    /// Makes an input of changed bytes.
    wrap: fn(&[u8], &mut StdRng) -> Vec<u8>,
    /// Reads an input and holds what comes of it to its promises.
    read: fn(&[u8]),
}

fn corpus(folder: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(folder);
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn lines(file: &str) -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(file);
    fs::read_to_string(path).unwrap().lines().map(|line| line.as_bytes().to_vec()).collect()
}

fn read_document(bytes: &[u8]) {
    let Ok(documents) = Document::read(bytes) else { return };
    for document in documents {
        let again = Document::read(document.to_json().as_bytes()).unwrap();
        assert_eq!(again, std::slice::from_ref(&document));
        document.warnings();
        cells::csv(&document).ok();
        Entry::of(&document).thumb.pixels();
        let names = GridName::all(&document).into_iter().map(Some);
        for grid in names.chain([None]) {
            cells::csv_of(&document, grid).ok();
            let grid = Choice { grid, at: None };
            if let Ok(figure) =
                Figure::new(&document, &FigureOptions { grid, ..Default::default() })
            {
                let (width, height) = figure.size();
                assert!(width < 1 << 13 && height < 1 << 13, "a figure of {width} by {height}");
            }
        }
        let opened = permalink::decode(&permalink::encode(&document, None).text).unwrap().document;
        assert_eq!(opened.patching_results, document.patching_results);
    }
}

fn read_link(bytes: &[u8]) {
    if let Ok(permalink::Opened { document, .. }) =
        permalink::decode(&String::from_utf8_lossy(bytes))
    {
        document.warnings();
        cells::csv(&document).ok();
        let again = permalink::decode(&permalink::encode(&document, None).text).unwrap().document;
        assert_eq!(again.patching_results, document.patching_results);
    }
}

/// What a link holds, packed as a link is: otherwise its checksum would refuse every change.
fn pack(bytes: &[u8], rng: &mut StdRng) -> Vec<u8> {
    if rng.random_ratio(1, 8) {
        return bytes.to_vec();
    }
    format!("1.{}", URL_SAFE_NO_PAD.encode(compress_to_vec_zlib(bytes, 1))).into_bytes()
}

fn read_table(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (format, _) = pairs::glance(&text);
    let columns = Columns::guess(bytes, &Default::default(), false);
    for (format, columns) in [(format, columns), (TableFormat::Csv, Columns::default())] {
        match pairs::read("table", bytes, format, &columns) {
            Ok(pairs) => assert!(pairs.iter().all(|p| !p.source.is_empty() && p.source != p.base)),
            Err(error) => assert!(!error.problems.is_empty() && !error.to_string().is_empty()),
        }
    }
    if let Ok(template) = Template::parse(&text) {
        assert_eq!(template.text(), text);
    }
    if let Ok(marked) = Marked::read(&text, &Default::default(), "base") {
        assert!(marked.marks.iter().all(|(_, bytes)| !marked.text[bytes.clone()].is_empty()));
        if let Ok(written) = marked.written("base") {
            assert_eq!(Marked::in_text(&written, "base").unwrap(), marked);
        }
    }
    if let Ok(by_hand) = text.parse::<Correspondence>() {
        assert_eq!(by_hand.swapped().swapped(), by_hand);
        assert_eq!(by_hand.to_string().parse(), Ok(by_hand));
    }
    // Any text may be what is said of a study.
    markdown::parse(&text);
}

fn read_study(bytes: &[u8]) {
    let Ok(study) = Study::read(bytes) else { return };
    let again = Study::read(study.to_json().as_bytes()).unwrap();
    let value = |study: &Study| serde_json::from_str(&study.to_json()).unwrap();
    assert!(is_same(&value(&again), &value(&study)), "{again:?}\nin place of\n{study:?}");
    assert_eq!(study.grid_names().len(), study.grids.len());
    study.counted();
    for grid in &study.grids {
        for summary in &grid.summaries {
            for statistic in Statistic::ALL {
                for at in [None, Some(Coordinate::Head(0)), Some(Coordinate::Layer(1))] {
                    let field = grid.field(Shown::Summary(summary, *statistic), at);
                    assert_eq!(field.values.n_rows(), field.rows.len());
                }
            }
            study.kept(summary.group.as_ref()).count();
        }
        for difference in &grid.differences {
            grid.field(Shown::Difference(difference, true), None);
        }
        study.pooled(grid, &[1.0; 100], 0..study.pairs.len());
    }
    if study.csv_size() < 1 << 20 {
        study.csv(&[0; 4_000]);
    }
}

/// Studies of the corpus' documents, those that make one.
fn studies(documents: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let method = Method { n_resamples: 20, n_flips: 20, ..Method::default() };
    let documents = documents.iter().filter_map(|bytes| Document::read(bytes).ok()).flatten();
    let made = documents.filter_map(|mut document| {
        document.site.get_or_insert_default();
        document.direction.get_or_insert_default();
        let mut builder = Builder::new();
        builder.push(&document).ok()?;
        let other = Document { id: "f".repeat(20), ..document.clone() };
        builder.push(&other).ok()?;
        let (mut study, file) = builder.finish(&Options { method, ..Options::default() }).ok()?;
        let alone = study.to_json();
        study.values.as_mut()?.put_inline(&file);
        Some([alone, study.to_json()].map(String::into_bytes))
    });
    made.flatten().collect()
}

fn read_event(bytes: &[u8]) {
    let Some(event) = Event::read(&String::from_utf8_lossy(bytes)) else { return };
    let written = serde_json::to_value(&event).unwrap();
    let again = Event::read(&written.to_string()).unwrap();
    assert!(is_same(&serde_json::to_value(&again).unwrap(), &written), "{written}");
    let mut board = Board::default();
    for before in events().iter().chain([&event]) {
        board.apply(before);
    }
    for live in board.live {
        assert_eq!(live.field().values.n_rows(), live.n_layers);
    }
}

/// Whether two values are the same but for the last bits of an `f64`, which are lost where numbers
/// are read fast. An `f32` is read exactly.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            (a - b).abs() <= 4.0 * f64::EPSILON * a.abs()
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| is_same(a, b)))
        }
        (a, b) => a == b,
    }
}

fn read_address(bytes: &[u8]) {
    let address = Address::parse(&String::from_utf8_lossy(bytes));
    if !matches!(address.page, Page::Unknown(_)) {
        assert_eq!(Address::parse(&address.fragment()), address);
    }
}

/// One event of each kind that says much.
fn events() -> Vec<Event> {
    let live = Live {
        job: "j".into(),
        index: 1,
        experiment: "0".repeat(20),
        model: "m".into(),
        entity: "x".into(),
        site: None,
        answers: None,
        n_layers: 2,
        sentence_start: 5,
        token_labels: vec![" a".into(), " b".into()],
        share: 0.5,
        left_secs: Some(2.0),
        baselines: None,
        said: Some("QUEUED".into()),
        columns: vec![Column { position: 6, logit_diff: vec![Some(1.0), None] }],
    };
    let job = Job {
        id: "j".into(),
        name: String::new(),
        model: "m".into(),
        settings: Settings::default(),
        state: State::Running,
        n_pairs: 2,
        n_done: 0,
        n_failed: 0,
        n_ahead: None,
        submitted_at: "2026-01-31T12:00:00Z".into(),
        started_at: None,
        finished_at: None,
        error: None,
    };
    let pair = JobPair {
        index: 1,
        line: 2,
        entity: String::new(),
        source: "a".into(),
        base: "b".into(),
        by_hand: Some("3:4".into()),
        experiment: "0".repeat(20),
        state: State::Done,
        error: None,
    };
    let (id, index) = (String::from("j"), 1);
    let baselines = LiveBaselines { source: Some(1.0), base: None };
    let columns = vec![Column { position: 5, logit_diff: vec![None, Some(2.0)] }];
    vec![
        Event::Pair { job: id.clone(), pair },
        Event::Snapshot { jobs: vec![job.clone()], live: vec![live.clone(), live.clone()] },
        Event::Job { job },
        Event::JobRemoved { id: "k".into() },
        Event::Begun { live },
        Event::Progress { job: id.clone(), index, share: 0.5, left_secs: None },
        Event::Baselines { job: id.clone(), index, baselines },
        Event::Columns { job: id, index, columns },
        Event::Experiments {},
    ]
}

fn readers() -> [Reader; 6] {
    let as_they_are: fn(&[u8], &mut StdRng) -> Vec<u8> = |bytes, _| bytes.to_vec();
    let documents = corpus("documents");
    let links = documents.iter().filter_map(|bytes| Document::read(bytes).ok()).flatten();
    let links = links.map(|document| {
        let link = permalink::encode(&document, None).text;
        decompress_to_vec_zlib(&URL_SAFE_NO_PAD.decode(&link[2..]).unwrap()).unwrap()
    });
    let links = links.chain(lines("links.txt")).collect();
    let events = events().into_iter().map(|event| serde_json::to_vec(&event).unwrap());
    let events = events.chain(lines("events.jsonl")).collect();
    [
        Reader { name: "study", seeds: studies(&documents), wrap: as_they_are, read: read_study },
        Reader { name: "document", seeds: documents, wrap: as_they_are, read: read_document },
        Reader { name: "permalink", seeds: links, wrap: pack, read: read_link },
        Reader { name: "table", seeds: corpus("tables"), wrap: as_they_are, read: read_table },
        Reader { name: "event", seeds: events, wrap: as_they_are, read: read_event },
        Reader {
            name: "address",
            seeds: lines("addresses.txt"),
            wrap: as_they_are,
            read: read_address,
        },
    ]
}

/// A seed after a few random changes.
fn mutated(seeds: &[Vec<u8>], rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = seeds.choose(rng).unwrap().clone();
    for _ in 0..1 << rng.random_range(0..4) {
        let at = rng.random_range(0..=bytes.len());
        let end = rng.random_range(at..=bytes.len().min(at + 64));
        match rng.random_range(0..8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = rng.random(),
            2 => drop(bytes.drain(at..end)),
            3 => bytes.truncate(at.max(1)),
            4 => {
                let piece = bytes[at..end].repeat(rng.random_range(1..4));
                drop(bytes.splice(at..at, piece));
            }
            5 => {
                let other = seeds.choose(rng).unwrap();
                let from = rng.random_range(0..=other.len());
                let to = rng.random_range(from..=other.len());
                drop(bytes.splice(at..end, other[from..to].iter().copied()));
            }
            // Once in a while very often, so that it nests.
            6 if rng.random_ratio(1, 20) => {
                let word = WORDS.choose(rng).unwrap().repeat(rng.random_range(1..20_000));
                drop(bytes.splice(at..at, word));
            }
            _ => drop(bytes.splice(at..end, WORDS.choose(rng).unwrap().iter().copied())),
        }
        bytes.truncate(MAX_INPUT);
    }
    bytes
}

#[test]
fn no_input_makes_a_reader_panic_or_take_much_memory() {
    let n_cases = std::env::var("PATCHBOARD_FUZZ_CASES").map_or(2_000, |n| n.parse().unwrap());
    let seed = std::env::var("PATCHBOARD_FUZZ_SEED").map_or(0, |n| n.parse().unwrap());
    for reader in readers() {
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut slowest, mut largest, mut n_bytes) = (Duration::ZERO, 0, 0);
        let begin = Instant::now();
        for case in 0..reader.seeds.len() + n_cases {
            let bytes = match reader.seeds.get(case) {
                Some(seed) => seed.clone(),
                None => mutated(&reader.seeds, &mut rng),
            };
            let input = (reader.wrap)(&bytes, &mut rng);
            let held = MEMORY.current_usage();
            MEMORY.reset_peak_usage();
            let start = Instant::now();
            let outcome = catch_unwind(AssertUnwindSafe(|| (reader.read)(&input)));
            slowest = slowest.max(start.elapsed());
            let taken = MEMORY.peak_usage().saturating_sub(held);
            largest = largest.max(taken);
            n_bytes += input.len();
            let shown = String::from_utf8_lossy(&input);
            assert!(outcome.is_ok(), "{}, case {case}: {shown:?}", reader.name);
            assert!(taken < MAX_MEMORY, "{}, case {case}: {taken} bytes: {shown:?}", reader.name);
        }
        println!(
            "{:9} {n_cases} inputs of {} bytes on average in {:.0} s; the slowest took {:.1} ms, \
             the largest {:.1} MiB",
            reader.name,
            n_bytes / (reader.seeds.len() + n_cases),
            begin.elapsed().as_secs_f64(),
            slowest.as_secs_f64() * 1e3,
            largest as f64 / f64::from(1 << 20)
        );
    }
}
