//! Maps as parts of other pages, in a sandbox that has neither origin nor storage.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use browser_tests::{Browser, Server, Site, example, folder};
use serde_json::{Value, json};
use thirtyfour::prelude::*;

/// The command line, built with these tests.
const PROGRAM: &str = env!("CARGO_BIN_EXE_browser-tests-server");

/// A page that shows `frames`, and gives each the height that it tells.
fn around(frames: &str) -> String {
    let script = "window.told = [];
        addEventListener('message', (event) => {
            if (!event.data || event.data.type !== 'patchboard-height') return;
            told.push({ keys: Object.keys(event.data), height: event.data.height });
            for (const frame of document.querySelectorAll('iframe')) {
                if (frame.contentWindow === event.source) frame.height = event.data.height;
            }
        });";
    format!(
        "<!doctype html><title>Notes</title><link rel=icon href=\"data:,\"><script>{script}</script>{frames}"
    )
}

/// Waits until the frame has told a height and the map is in it; the height.
async fn embedded(browser: &Browser) -> Result<f64> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let told = browser.run("return window.told.at(-1) ?? null", vec![]).await?;
        if let Some(height) = told["height"].as_f64().filter(|height| *height > 200.0) {
            ensure!(told["keys"] == json!(["type", "height"]), "{told}");
            return Ok(height);
        }
        ensure!(Instant::now() < deadline, "no height is told: {told}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What the frame shows.
async fn look(browser: &Browser, name: &str) -> Result<()> {
    browser.driver.find(By::Css("iframe")).await?.enter_frame().await?;
    browser.expect_within(30, ".embedded figcaption a", name).await?;
    let script = "let storage = 'there';
        try { localStorage.length; } catch { storage = 'none'; }
        const shown = (css) => [...document.querySelectorAll(css)].some((e) => e.offsetParent);
        const link = document.querySelector('.embedded a');
        return [storage, origin, shown('.bar, .skip, aside, .controls, h1'), link.target,
            link.href.includes('embed=1'), document.documentElement.scrollWidth <= innerWidth]";
    let found = browser.run(script, vec![]).await?;
    ensure!(found == json!(["none", "null", false, "_blank", false, true]), "{found}");
    // The map is as alive as ever.
    browser.run("document.querySelector('.stage').focus()", vec![]).await?;
    browser.keys(&[Key::Down, Key::Right, Key::Enter]).await?;
    browser.expect(".tooltip", "Logit difference").await?;
    browser.driver.enter_default_frame().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_servers_map_in_a_sandboxed_frame_of_another_page() -> Result<()> {
    let document = example("the duchess")?;
    let page = tempfile::tempdir()?;
    let notes = Site::serve_folder(page)?;
    let origin = notes.url.strip_suffix("/some/where/").context("another path")?;
    let (_folder, data) = folder()?;
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../oracle/models/tiny-llama3");
    let model = model.display().to_string();
    let server = Server::start(PROGRAM, &data, &["--model", &model, "--allow-frame", origin])?;
    let browser = Browser::start().await?;
    browser.open(&server.url).await?;
    let import = format!(
        "const done = arguments[arguments.length - 1];
        fetch('api/import', {{ method: 'POST', body: {}, headers: {{ 'Content-Type': \
         'application/json' }} }}).then((r) => done(r.status));",
        json!(document.to_json())
    );
    let status = browser.run_async(&import).await?;
    ensure!(status == json!(200) || status == json!(201), "{status}");
    let src = format!("{}#/e/{}?embed=1", server.url, document.id);
    let frame = format!("<iframe sandbox=\"allow-scripts\" width=\"900\" src=\"{src}\"></iframe>");
    fs::write(notes.folder.path().join("index.html"), around(&frame))?;
    browser.open(&notes.url).await?;
    let height = embedded(&browser).await?;
    look(&browser, "the duchess").await?;
    // A narrower frame is told anew, and has no more height than its map.
    let narrow = "document.querySelector('iframe').width = 420; return null";
    browser.run(narrow, vec![]).await?;
    let deadline = Instant::now() + Duration::from_secs(10);
    let again = "const frame = document.querySelector('iframe');
        return [window.told.at(-1).height, Number(frame.height)]";
    loop {
        let now: [f64; 2] = serde_json::from_value(browser.run(again, vec![]).await?)?;
        if now[0] != height && now[0] == now[1] {
            break;
        }
        ensure!(Instant::now() < deadline, "still {now:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    browser.stop(&[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_shown_by_nobody_who_was_not_named() -> Result<()> {
    let notes = Site::serve_folder(tempfile::tempdir()?)?;
    let (_folder, data) = folder()?;
    let server = Server::start(PROGRAM, &data, &["--read-only"])?;
    let frame = format!("<iframe sandbox=\"allow-scripts\" src=\"{}\"></iframe>", server.url);
    fs::write(notes.folder.path().join("index.html"), around(&frame))?;
    let browser = Browser::start().await?;
    browser.open(&notes.url).await?;
    browser.driver.find(By::Css("iframe")).await?.enter_frame().await?;
    ensure!(!browser.has("#app").await, "it is shown");
    browser.stop(&["frame-ancestors"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reports_map_in_a_sandboxed_frame() -> Result<()> {
    let document = example("the duchess")?;
    let notes = Site::serve_folder(tempfile::tempdir()?)?;
    let report = compute::site::report(std::slice::from_ref(&document), &[])?;
    fs::write(notes.folder.path().join("report.html"), report)?;
    let src = format!("report.html#/e/{}?embed=1", document.id);
    let frame = format!("<iframe sandbox=\"allow-scripts\" width=\"700\" src=\"{src}\"></iframe>");
    fs::write(notes.folder.path().join("index.html"), around(&frame))?;
    let browser = Browser::start().await?;
    browser.open(&notes.url).await?;
    embedded(&browser).await?;
    look(&browser, "the duchess").await?;
    let told: Vec<Value> = serde_json::from_value(browser.run("return told", vec![]).await?)?;
    // The height that a frame is given does not change what it tells.
    ensure!(told.len() < 30, "{} heights were told", told.len());
    browser.stop(&[]).await
}
