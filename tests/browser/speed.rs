//! What the page takes its time for, and what there is to load. The numbers are printed, for
//! whoever wants to compare:
//!
//! ```text
//! PATCHBOARD_VIEWER=dist cargo test -p browser-tests --features browser --test speed -- --nocapture
//! ```
#![expect(clippy::print_stdout, reason = "this prints measurements")]

use std::fs;

use anyhow::{Context, Result};
use brotli::enc::BrotliEncoderParams;
use browser_tests::{Browser, Site, example, examples};
use shared::document::Token;
use shared::grid::Grid;
use shared::wire::gallery::{Entry, Gallery};

/// The most that the WebAssembly may be in bytes, compressed as hosts and browsers agree on, which a browser
/// loads to show a result or the list of them. Reading files that leave things out, focus, place and touch took
/// it from 342 KB to 373; the settings of every experiment, in form, links and documents, to 401; grids of every
/// kind, in maps, links and files, to 421; the page of a study and the list of studies, to 507; roles and
/// alignment edited in the form, a study's text in Markdown and maps within other pages, to 518: they brought
/// about 35, and a reader and a writer of JSON of our own saved about 24; what a server of NDIF says, to 519.
/// Then it was cut in two, and the form, the queue, jobs, studies and comparisons became a part of their own.
const MAX_FIRST: usize = 404_000;

/// The most that both parts may be together, which whoever opens one of the other pages loads: about 20 KB
/// more than the viewer had before it was cut.
const MAX_ALL: usize = 541_000;

#[test]
fn the_viewer_is_small_over_a_network() -> Result<()> {
    let site = Site::serve(&[])?;
    let size = |name: &str| -> Result<usize> {
        let plain = fs::read(site.folder.path().join(name))?;
        let mut compressed = Vec::new();
        // At the highest quality, as static hosts do it.
        let params = BrotliEncoderParams { quality: 11, lgwin: 24, ..Default::default() };
        brotli::BrotliCompress(&mut &*plain, &mut compressed, &params)?;
        println!("{name}: {} bytes, {} with brotli", plain.len(), compressed.len());
        Ok(compressed.len())
    };
    let (first, pages) = (size("web_bg.wasm")?, size("web_pages.wasm")?);
    for name in ["web.js", "style.css"] {
        size(name)?;
    }
    assert!(first <= MAX_FIRST, "the limit is {MAX_FIRST}");
    assert!(first + pages <= MAX_ALL, "the limit of both is {MAX_ALL}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_address_to_the_first_heatmap() -> Result<()> {
    let document = example("the duchess")?;
    let site = Site::serve(&examples()?)?;
    let browser = Browser::start().await?;
    for visit in ["first", "second", "third"] {
        browser.open("about:blank").await?;
        browser.open(&site.experiment(&document, "")).await?;
        browser.pixels().await?;
        let marks = "return performance.getEntriesByName('patchboard-heatmap')[0].startTime";
        let ms = browser.run(marks, vec![]).await?.as_f64().context("no mark")?;
        println!("heatmap of 30 x 17 cells after {ms:.0} ms, {visit} visit");
    }
    browser.stop(&[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_experiments_are_filtered_at_once() -> Result<()> {
    let site = Site::serve(&[])?;
    let entry = Entry::of(&example("the duchess")?);
    let mut gallery = Gallery::of([]);
    gallery.experiments = (0..1000)
        .map(|i| Entry { id: format!("x{i}"), entity: format!("entity {i}"), ..entry.clone() })
        .collect();
    fs::write(site.folder.path().join("data/index.json"), serde_json::to_vec(&gallery)?)?;
    let browser = Browser::start().await?;
    browser.open(&site.url).await?;
    browser.expect(".count", "1000 of 1000").await?;
    let script = "
        const done = arguments[arguments.length - 1], input = document.getElementById('search');
        const start = performance.now();
        input.value = 'entity 77';
        input.dispatchEvent(new Event('input', { bubbles: true }));
        setTimeout(() => {
            document.body.getBoundingClientRect();
            done(performance.now() - start);
        }, 0);";
    let ms = browser.run_async(script).await?.as_f64().context("no time")?;
    println!("1000 experiments filtered in {ms:.1} ms");
    browser.expect(".count", "19 of 1000").await?;
    browser.stop(&[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn pointing_at_a_large_grid() -> Result<()> {
    let mut document = example("the duchess")?;
    let (n_layers, n_columns) = (80, 200);
    document.id = "1a".repeat(10);
    document.num_layers = n_layers;
    document.token_labels = (0..n_columns).map(|i| format!(" t{i}")).collect();
    let n_before = document.sentence_start;
    let tokens = |side: char| {
        let token = |i| Token { id: i as u32, text: format!(" {side}{i}") };
        (0..n_before + n_columns).map(token).collect()
    };
    (document.source_tokens, document.base_tokens) = (tokens('s'), tokens('t'));
    let grid = |scale: f32| {
        let row = |l| (0..n_columns).map(|c| Some(((l * c) as f32).sin() * scale)).collect();
        (0..n_layers).map(row).collect::<Grid<f32>>()
    };
    document.patching_results = grid(2.0);
    let readout = document.readout.as_mut().context("the example has a readout")?;
    (readout.p_true, readout.p_false) = (grid(0.5), grid(0.25));
    readout.top_token = vec![vec![Some(1); n_columns]; n_layers].into();
    readout.top_token_labels = [(1, " TRUE".to_string())].into();
    let site = Site::serve(std::slice::from_ref(&document))?;
    let browser = Browser::start().await?;
    browser.open(&site.experiment(&document, "")).await?;
    browser.point(&document, 40, 100).await?;
    let script = "
        const done = arguments[arguments.length - 1];
        const canvas = document.querySelector('.stage canvas'), times = [];
        const rect = canvas.getBoundingClientRect();
        const step = (i) => {
            if (i === 200) return done(times);
            const start = performance.now();
            canvas.dispatchEvent(new PointerEvent('pointermove', {
                bubbles: true,
                clientX: rect.left + rect.width * (0.15 + 0.003 * i),
                clientY: rect.top + rect.height * (0.3 + 0.002 * i),
            }));
            const channel = new MessageChannel();
            channel.port1.onmessage = () => {
                document.body.getBoundingClientRect();
                times.push(performance.now() - start);
                setTimeout(() => step(i + 1), 0);
            };
            channel.port2.postMessage(0);
        };
        step(0);";
    let times: Vec<f64> = serde_json::from_value(browser.run_async(script).await?)?;
    let (first, mut later) = (times[0], times[1..].to_vec());
    later.sort_by(f64::total_cmp);
    let (median, most, last) = (later[100], later[190], later[198]);
    println!(
        "a move over 80 x 200 cells: median {median:.2} ms, 95 % within {most:.2} ms, at most \
         {last:.2} ms; the very first, for which the browser compiles, {first:.2} ms"
    );
    browser.stop(&[]).await
}
