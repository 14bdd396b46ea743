//! How long the store's queries take with twenty thousand experiments, or as many as are asked for:
//! `cargo run --package compute --example store -- 20000`.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measurement is for its reader")]

use std::time::{Duration, Instant};

use compute::store::{Page, Present, Store};
use shared::document::{Document, content_id};
use shared::wire::address::{Filter, Sort};

fn main() {
    let n: usize = std::env::args().nth(1).map_or(20_000, |n| n.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let begin = Instant::now();
    for first in (0..n).step_by(500) {
        let documents: Vec<_> = (first..n.min(first + 500)).map(document).collect();
        store.put(&documents, Present::Keep).unwrap();
    }
    println!("{n} experiments stored in {:.1} s", begin.elapsed().as_secs_f64());
    let filter = Filter::default();
    let (entity, model) = ("Entity 77".to_string(), "model-2".to_string());
    let cases = [
        ("newest", filter.clone(), 0),
        ("newest, the last page", filter.clone(), n - 50),
        ("contrast", Filter { sort: Sort::Contrast, ..filter.clone() }, 0),
        ("by entity, in the middle", Filter { sort: Sort::Entity, ..filter.clone() }, n / 2),
        (
            "one model, by contrast",
            Filter { model: model.clone(), sort: Sort::Contrast, ..filter.clone() },
            0,
        ),
        ("one entity", Filter { entity, ..filter.clone() }, 0),
        (
            "one site, the last page",
            Filter { site: "mlp_out".into(), ..filter.clone() },
            n / 2 - 50,
        ),
        ("a frequent word", Filter { text: "guards".into(), ..filter.clone() }, 0),
        ("a rare word", Filter { text: format!("gate {}", n / 2), ..filter.clone() }, 0),
        ("no such word", Filter { text: "zebra".into(), ..filter.clone() }, 0),
        (
            "words, model, contrast",
            Filter { text: "orders rest".into(), model, sort: Sort::Contrast, ..filter },
            0,
        ),
    ];
    let measure = |name: &str, work: &dyn Fn() -> usize| {
        let mut times: Vec<Duration> = Vec::new();
        let mut found = 0;
        for _ in 0..21 {
            let begin = Instant::now();
            found = work();
            times.push(begin.elapsed());
        }
        times.sort();
        let millis = |time: Duration| 1e3 * time.as_secs_f64();
        println!(
            "{name:26} {found:6} found, median {:5.1} ms, slowest {:5.1} ms",
            millis(times[times.len() / 2]),
            millis(times[times.len() - 1])
        );
    };
    for (name, filter, offset) in &cases {
        let page = Page { offset: *offset, limit: 50 };
        measure(name, &|| store.experiments(filter, page).unwrap().total);
    }
    measure("facets", &|| store.facets().unwrap().entities.len());
    let id = document(n / 2).id;
    measure("a document", &|| {
        store.document(&id).unwrap().map_or(0, |document| document.body.len())
    });
}

/// A document of 30 layers and 14 columns with all that a real one has in words.
fn document(i: usize) -> Document {
    let cells: Vec<Vec<f64>> = (0..30)
        .map(|l| (0..14).map(|c| ((i + l * 14 + c) % 997) as f64 / 99.7).collect())
        .collect();
    let baseline = |value: f64| {
        serde_json::json!({ "logit_diff": value, "p_true": 0.5, "p_false": 0.1,
            "top_token": { "id": 1, "text": " TRUE" }, "p_top": 0.5 })
    };
    let tokens: Vec<_> = (0..14).map(|c| format!(" t{c}")).collect();
    let json = serde_json::json!({
        "schema": "patchboard/1", "id": content_id(&i.to_string()),
        "model": format!("model-{}", i % 4), "entity": format!("Entity {}", i % 500),
        "source_prompt": "In the following sentence, who rules?", "base_prompt": "", "sentence_start": 0,
        "source_sentence": format!("Entity {} orders the guards to open gate {i} and to leave.", i % 500),
        "base_sentence": format!("Entity {} watches the guards at rest near gate {i}.", i % 500),
        "token_labels": tokens, "num_layers": 30, "patching_results": cells,
        "readout": { "p_true": cells, "p_false": cells, "top_token": vec![vec![7; 14]; 30],
            "top_token_labels": { "7": " x" } },
        "site": if i.is_multiple_of(2) { "resid_post" } else { "mlp_out" },
        "baselines": { "source": baseline((i % 113) as f64 / 10.0), "base": baseline(-1.0) },
        "provenance": {
            "engine": "", "model_fingerprint": "", "architecture": "", "weights_dtype": "",
            "dtype": "", "device": "", "wall_secs": 0.0, "operations": 0.0,
            "finished_at": format!("2026-01-{:02}T{:02}:{:02}:{:02}Z", 1 + i / 86_400 % 28, i / 3600 % 24, i / 60 % 60, i % 60),
        },
    });
    Document::read(json.to_string().as_bytes()).unwrap().remove(0)
}
