//! What a reader does, in a real browser.
//! What they measured is printed, for whoever wants to compare.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests print measurements and may fail"
)]

use std::time::Duration;

use anyhow::Result;
use browser_tests::{Browser, Site, smollm2};
use shared::document::Document;
use shared::figure::{Figure, FigureOptions};
use shared::gallery::{Entry, Gallery};
use shared::metric::Metric;
use shared::{numbers, permalink};
use thirtyfour::prelude::*;

/// The middle of a cell as parts of the whole figure.
fn middle(document: &Document, layer: usize, column: usize) -> (f64, f64) {
    let figure = Figure::new(document, &FigureOptions::default()).unwrap();
    let cell = figure.layout().cell(layer, column);
    let (width, height) = figure.size();
    let part = |from: i32, to: i32, of: u32| f64::from(from + to) / 2.0 / f64::from(of);
    (part(cell.left, cell.right, width), part(cell.top, cell.bottom, height))
}

fn check_cell(shown: &str, document: &Document, layer: usize, column: usize) {
    let value = numbers::value(Metric::LogitDiff, document.patching_results[layer][column]);
    let token = document.token_labels[column].replace(' ', "·");
    let position = document.sentence_start + column;
    let place = format!("layer {layer} · position {position}");
    for expected in [&value, &token, &place] {
        assert!(shown.contains(expected.as_str()), "{expected} is not in {shown}");
    }
}

async fn press(browser: &Browser, keys: &[Key]) -> Result<()> {
    let keys: String = keys.iter().map(Key::value).collect();
    browser.driver.find(By::Css(".stage")).await?.send_keys(keys).await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pointer_keys_and_links_show_the_documents_numbers() -> Result<()> {
    let document = smollm2()?;
    let site = Site::serve(std::slice::from_ref(&document), None)?;
    let browser = Browser::start().await?;
    browser.driver.goto(format!("{}#/e/{}", site.url, document.id)).await?;
    for (layer, column) in [(0, 0), (12, 3), (29, 11), (7, 6)] {
        let (x, y) = middle(&document, layer, column);
        browser.point(x, y).await?;
        check_cell(&browser.text(".tooltip").await?, &document, layer, column);
    }

    browser.driver.goto(format!("{}#/", site.url)).await?;
    browser.driver.goto(format!("{}#/e/{}", site.url, document.id)).await?;
    press(&browser, &[Key::Right, Key::Right]).await?;
    press(&browser, &[Key::Down, Key::Down]).await?;
    press(&browser, &[Key::Enter]).await?;
    check_cell(&browser.text(".cell-card").await?, &document, 2, 1);
    let link = browser.driver.current_url().await?.to_string();
    assert!(link.ends_with("pin=2%2C25"), "{link}");
    browser.stop().await?;

    let fresh = Browser::start().await?;
    fresh.driver.goto(link.replace("?pin", "?metric=recovery&pin")).await?;
    check_cell(&fresh.text(".cell-card").await?, &document, 2, 1);
    let pressed = fresh.text("[aria-pressed=true]").await?;
    assert_eq!(pressed, "Recovery");

    fresh.driver.find(By::XPath("//button[text()='Change from base']")).await?.click().await?;
    assert!(fresh.driver.current_url().await?.as_str().contains("metric=change"));
    fresh.driver.back().await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(fresh.text("[aria-pressed=true]").await?, "Recovery");
    fresh.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_self_contained_link_needs_no_data_and_damage_is_told() -> Result<()> {
    let document = smollm2()?;
    let site = Site::serve(&[], None)?;
    let link = permalink::encode(&document);
    println!("a self-contained link of 30 x 12 cells has {} characters", link.len());
    let browser = Browser::start().await?;
    browser.driver.goto(format!("{}#/e/l:{link}?pin=12,27", site.url)).await?;
    check_cell(&browser.text(".cell-card").await?, &document, 12, 3);
    browser.driver.goto(format!("{}#/e/l:{}", site.url, &link[..link.len() / 2])).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let message = browser.text(".page-problem").await?;
    assert!(message.contains("damaged, perhaps cut short"), "{message}");
    browser.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_opened_or_refused_with_the_reason() -> Result<()> {
    let mut notebook = serde_json::to_value(smollm2()?)?;
    let fields = notebook.as_object_mut().expect("a document is an object");
    for ours in ["schema", "id", "source_tokens", "base_tokens", "baselines", "readout"] {
        fields.remove(ours);
    }
    let site = Site::serve(&[], None)?;
    let file = site.folder.path().join("patching_results.json");
    std::fs::write(&file, notebook.to_string())?;
    let wrong = site.folder.path().join("wrong.json");
    std::fs::write(&wrong, r#"{"layers": 3}"#)?;

    let browser = Browser::start().await?;
    browser.driver.goto(&site.url).await?;
    let input = browser.driver.find(By::Css(".bar input[type=file]")).await?;
    input.send_keys(wrong.display().to_string()).await?;
    let message = browser.text(".notice").await?;
    assert!(message.contains("wrong.json: Expected a result document"), "{message}");
    assert!(message.contains("found a JSON object with `layers`"), "{message}");
    input.send_keys(file.display().to_string()).await?;
    assert_eq!(browser.text("main article h1").await?, "The king");
    browser.point(0.4, 0.5).await?;
    assert!(browser.text(".tooltip").await?.contains("Logit difference"));
    browser.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_experiments_are_filtered_at_once() -> Result<()> {
    let mut gallery = Gallery::of([]);
    let entry = Entry::of(&smollm2()?);
    gallery.experiments = (0..1000)
        .map(|i| Entry { id: format!("x{i}"), entity: format!("entity {i}"), ..entry.clone() })
        .collect();
    let site = Site::serve(&[], Some(&gallery))?;
    let browser = Browser::start().await?;
    browser.driver.goto(&site.url).await?;
    assert_eq!(browser.text(".count").await?, "1000 of 1000");
    let script = "
        const done = arguments[arguments.length - 1], input = document.getElementById('search');
        const start = performance.now();
        input.value = 'entity 77';
        input.dispatchEvent(new Event('input', { bubbles: true }));
        setTimeout(() => {
            document.body.getBoundingClientRect();
            done(performance.now() - start);
        }, 0);";
    let ms = browser.driver.execute_async(script, vec![]).await?.json().as_f64();
    println!("filtering 1000 experiments took {:.1} ms", ms.unwrap_or(f64::NAN));
    assert_eq!(browser.text(".count").await?, "19 of 1000");
    browser.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn pointing_at_a_large_grid() -> Result<()> {
    let mut document = smollm2()?;
    let (n_layers, n_columns) = (80, 200);
    document.id = "large".into();
    document.readout = None;
    document.source_tokens.clear();
    document.base_tokens.clear();
    document.num_layers = n_layers;
    document.token_labels = (0..n_columns).map(|i| format!(" t{i}")).collect();
    document.patching_results = (0..n_layers)
        .map(|l| (0..n_columns).map(|c| Some(((l * c) as f32).sin())).collect())
        .collect();
    let site = Site::serve(std::slice::from_ref(&document), None)?;
    let browser = Browser::start().await?;
    browser.driver.goto(format!("{}#/e/large", site.url)).await?;
    browser.point(0.5, 0.5).await?;
    let script = "
        const done = arguments[arguments.length - 1];
        const canvas = document.querySelector('.stage canvas'), times = [];
        const rect = canvas.getBoundingClientRect();
        const step = (i) => {
            if (i === 200) return done(times.sort((a, b) => a - b));
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
    let times = browser.driver.execute_async(script, vec![]).await?;
    let times: Vec<f64> = serde_json::from_value(times.json().clone())?;
    println!(
        "a move over 80 x 200 cells: median {:.2} ms, 95 % within {:.2} ms, at most {:.2} ms",
        times[100], times[190], times[199]
    );
    browser.stop().await
}
