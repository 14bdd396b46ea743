//! The viewer with its server, in a real browser and with the real default model: submitted,
//! watched, interrupted, deleted.
#![expect(clippy::print_stdout, reason = "this prints what was seen")]

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use browser_tests::{Browser, Server, examples, folder};
use serde_json::json;
use shared::document::Document;
use shared::wire::numbers;
use thirtyfour::prelude::*;

/// The command line, built with these tests.
const PROGRAM: &str = env!("CARGO_BIN_EXE_browser-tests-server");
/// What the browser says of requests while the server is away.
const AWAY: &str = "net::ERR_";

/// Two sentences of one length that differ early, and are long enough to be watched.
fn sentences() -> [String; 2] {
    let rest = "the guards and the servants of the old castle to bring bread and wine to the hall \
                before the evening bell.";
    [format!("Maria ordered {rest}"), format!("Maria watched {rest}")]
}

/// Fills in the form with the pair of [`sentences`].
async fn fill_in(browser: &Browser) -> Result<()> {
    let [source, base] = sentences();
    browser.fill("Entity", "Maria").await?;
    browser.fill("Source sentence", &source).await?;
    browser.fill("Base sentence", &base).await?;
    browser.choose("Template", "forced").await?;
    browser.fill("For", "forced").await?;
    browser.fill("Against", "helped").await
}

/// Sends a request as a page of the server's own would.
async fn send(
    browser: &Browser,
    method: &str,
    path: &str,
    body: &str,
) -> Result<serde_json::Value> {
    let script = format!(
        "const done = arguments[arguments.length - 1];
        fetch({path}, {{ method: {method}, body: {body}, headers: {{ 'Content-Type': \
         'application/json' }} }}).then((r) => r.json()).then(done);",
        path = json!(path),
        method = json!(method),
        body = if body.is_empty() { "undefined".to_string() } else { json!(body).to_string() },
    );
    browser.run_async(&script).await
}

/// Whether the page says of a cell what the document says.
async fn check(browser: &Browser, document: &Document, cell: (usize, usize)) -> Result<()> {
    browser.point(document, cell.0, cell.1).await?;
    let value = document.patching_results.get(cell.0, cell.1);
    browser.expect(".tooltip", &numbers::logit_diff(value)).await?;
    let place = format!("layer {} · position {}", cell.0, document.sentence_start + cell.1);
    browser.expect(".tooltip", &place).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_empty_form_to_the_heatmap_through_every_interruption() -> Result<()> {
    let (_folder, data) = folder()?;
    let mut server = Server::start(PROGRAM, &data, &["--passes", "16"])?;
    let browser = Browser::start().await?;
    browser.open(&server.url).await?;
    browser.expect(".welcome", "Activation patching").await?;
    browser.driver.find(By::LinkText("New experiment")).await?.click().await?;
    browser.expect(".preview", "appear here while you type").await?;
    fill_in(&browser).await?;

    // What it would do is there before it is done.
    browser.expect_within(60, ".preview", "cells of 30 layers").await?;
    let seen = browser.expect(".preview", "Top token").await?;
    for expected in ["P(forced)", "P(helped)", "to compute", "about"] {
        ensure!(seen.contains(expected), "{expected} is not in {seen}");
    }
    let marks = "return [...document.querySelectorAll('.preview .strip.base .differs .token')].map(
        (token) => token.innerText)";
    let marks = browser.run(marks, vec![]).await?;
    ensure!(marks == json!(["·watched"]), "{marks}");
    // The form is in the address.
    browser.driver.refresh().await?;
    browser.expect_within(60, ".preview", "cells of 30 layers").await?;

    browser.press("Run").await?;
    browser.expect_within(60, "main h1", "Maria").await?;
    browser.expect_within(60, ".note", "It is being swept").await?;
    let (n, n_all) = browser.columns().await?;
    println!("{n} of {n_all} columns seen before the end");
    let before = browser.pixels().await?;
    let link = browser.driver.current_url().await?.to_string();

    browser.driver.refresh().await?;
    let (n_after, _) = browser.columns().await?;
    ensure!(n_after >= n, "{n_after} columns after {n}");
    println!("{n_after} after the page was loaded again");

    server.kill()?;
    browser.expect(".offline", "The server does not answer").await?;
    ensure!(browser.has(".map-card canvas").await, "what was seen is gone");
    server.restart()?;
    browser.gone_within(30, ".offline").await?;
    browser.expect_within(60, ".note", "It is being swept").await?;
    let (n, _) = browser.columns().await?;
    println!("{n} after the server was killed and started again");

    // Without a reload the page becomes the finished experiment.
    browser.expect_within(300, "#copy-whole", "Copy self-contained link").await?;
    ensure!(browser.driver.current_url().await?.as_str() == link, "the address has changed");
    ensure!(browser.pixels().await? != before, "the grid is as it was");
    let id = link.rsplit('/').next().context("no id")?.to_string();
    let document = send(&browser, "GET", &format!("api/experiments/{id}"), "").await?;
    let document = Document::read(document.to_string().as_bytes())?.remove(0);
    for cell in [(0, 0), (29, n_all - 1), (13, 4)] {
        check(&browser, &document, cell).await?;
    }

    let other = Browser::start().await?;
    other.open(&link).await?;
    other.expect("main h1", "Maria").await?;
    check(&other, &document, (13, 4)).await?;
    // What exists already is not run again.
    other.open(&format!("{}#/new", server.url)).await?;
    fill_in(&other).await?;
    other.expect_within(60, ".preview", "This experiment exists already").await?;
    other.driver.find(By::LinkText("Open the result that is there")).await?.click().await?;
    other.expect("main h1", "Maria").await?;
    // On a slow machine a preview is asked for while an answer is half typed, and refused.
    other.stop(&["422"]).await?;
    browser.stop(&[AWAY, "422"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_is_live_and_jobs_are_cancelled() -> Result<()> {
    let (_folder, data) = folder()?;
    let server = Server::start(PROGRAM, &data, &["--passes", "16"])?;
    let [watching, acting] = [Browser::start().await?, Browser::start().await?];
    watching.open(&format!("{}#/queue", server.url)).await?;
    watching.expect("article .hint", "Nothing has been submitted").await?;
    acting.open(&server.url).await?;
    acting.expect(".welcome", "Activation patching").await?;
    let [source, base] = sentences();
    for name in ["first", "second"] {
        let pair = |i: usize| {
            json!({ "entity": format!("{name} {i}"), "source": format!("{name} {i}. {source}"),
                "base": format!("{name} {i}. {base}") })
        };
        let body = json!({ "name": name, "pairs": [pair(1), pair(2)],
            "settings": { "template": "forced", "answers": ["forced", "helped"] } });
        let submitted = send(&acting, "POST", "api/jobs", &body.to_string()).await?;
        ensure!(submitted["pairs"].as_array().map(Vec::len) == Some(2), "{submitted}");
    }
    // Nobody reloads anything from here on.
    watching.expect_within(60, ".job:nth-child(2) .state", "running").await?;
    watching.expect(".job:nth-child(1) .state", "queued").await?;
    watching.expect(".badge", "2").await?;
    ensure!(watching.has(".job:nth-child(2) progress").await, "no progress is shown");
    acting.driver.find(By::LinkText("Queue")).await?.click().await?;
    acting.expect(".job:nth-child(1) strong", "second").await?;
    let cancel = "//li[.//strong='second']//button[normalize-space()='Cancel']";
    acting.driver.find(By::XPath(cancel)).await?.click().await?;
    watching.expect(".job:nth-child(1) .state", "cancelled").await?;

    // The job that is being run, on its own page.
    watching.driver.find(By::LinkText("first")).await?.click().await?;
    watching.expect("main h1", "first").await?;
    watching.columns().await?;
    watching.press("Cancel").await?;
    watching.expect(".note", "Cancelled").await?;
    watching.expect(".pairs tbody tr:nth-child(2) .state", "cancelled").await?;
    acting.expect_within(30, ".job:nth-child(2) .state", "cancelled").await?;
    acting.expect(".count", "Nothing waits").await?;
    watching.driver.find(By::LinkText("first 2")).await?.click().await?;
    watching.expect(".page-problem", "It was cancelled").await?;
    watching.driver.find(By::LinkText("Change and submit again")).await?.click().await?;
    watching.expect_within(60, ".preview", "cells of 30 layers").await?;
    acting.press("Remove from the list").await?;
    acting.expect(".jobs", "first").await?;
    acting.stop(&[]).await?;
    watching.stop(&[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_with_bad_rows_is_mended_and_run() -> Result<()> {
    let (_folder, data) = folder()?;
    let server = Server::start(PROGRAM, &data, &[])?;
    let file = data.join("capitals.tsv");
    std::fs::write(
        &file,
        "who\twith\twithout\ttrue_answer\tfalse_answer\n\
         France\tThe capital of France is the city of\tThe capital of Italy is the city of\tParis\tRome\n\
         Spain\tThe capital of Spain is the city of\t\tMadrid\tRome\n\
         Japan\tThe capital of Japan is the city of\tThe capital of China is the city of\tTokyo\t\n",
    )?;
    let browser = Browser::start().await?;
    browser.open(&server.url).await?;
    browser.expect(".welcome", "Activation patching").await?;
    browser.drop_file(&file).await?;
    browser.expect("main h1", "New experiment").await?;
    browser.choose("Template", "none").await?;
    browser.expect(".preview", "No column `source`").await?;
    browser.choose("Entity", "who").await?;
    browser.choose("Source", "with").await?;
    browser.choose("Base", "without").await?;
    let rows = browser.expect(".bad-rows tbody", "The cell is empty").await?;
    ensure!(rows.starts_with("3\twithout"), "{rows}");
    let text = browser.driver.find(By::Css(".table-text")).await?;
    let table = text.prop("value").await?.unwrap();
    let mended = table
        .replace("city of\t\tMadrid", "city of\tThe capital of Italy is the city of\tMadrid")
        .replace("Tokyo\t\n", "Tokyo\tBeijing\n");
    // As by pasting: a tab that is typed goes to the next field.
    let script = "const [text, value] = arguments;
        text.value = value;
        text.dispatchEvent(new Event('input', { bubbles: true }));";
    browser.run(script, vec![text.to_json()?, json!(mended)]).await?;
    browser.expect_within(60, ".preview", "3 pairs; ").await?;
    ensure!(!browser.has(".bad-rows").await, "the rows are still bad");
    browser.press("Run 3 pairs").await?;
    browser.expect_within(60, "main h1", "capitals.tsv").await?;
    browser.expect_within(120, ".note", "Done, 3 of 3 pairs").await?;
    browser.expect(".pairs tbody tr:nth-child(3) .state", "done").await?;
    browser.driver.find(By::LinkText("Japan")).await?.click().await?;
    browser.expect_within(20, "#copy-whole", "Copy").await?;
    browser.driver.find(By::LinkText("Patchboard")).await?.click().await?;
    browser.expect(".count", "3 of 3").await?;
    // The browser tells the console of every answer that is no success.
    browser.stop(&["422"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_comes_back() -> Result<()> {
    let (_folder, data) = folder()?;
    let server = Server::start(PROGRAM, &data, &[])?;
    let browser = Browser::start().await?;
    browser.open(&server.url).await?;
    browser.expect(".welcome", "Activation patching").await?;
    let all: Vec<String> = examples()?.iter().map(Document::to_json).collect();
    send(&browser, "POST", "api/import", &format!("[{}]", all.join(","))).await?;
    // The list learns of it by itself.
    browser.expect(".count", "6 of 6").await?;
    browser.choose("Entity", "the duchess").await?;
    browser.expect(".count", "1 of 6").await?;
    let delete = browser.driver.find(By::Css("[aria-label='Delete the duchess']")).await?;
    delete.click().await?;
    browser.expect(".notice", "Deleted “the duchess”").await?;
    browser.expect(".count", "0 of 5").await?;
    browser.press("Undo").await?;
    browser.expect(".count", "1 of 6").await?;

    browser.driver.find(By::Css(".entry a")).await?.click().await?;
    browser.expect_within(20, "main h1", "the duchess").await?;
    let link = browser.driver.current_url().await?.to_string();
    browser.press("Delete").await?;
    browser.expect(".count", "5 of 5").await?;
    browser.open("about:blank").await?;
    browser.open(&link).await?;
    browser.expect(".page-problem", "nobody has asked for it").await?;
    let id = link.rsplit('/').next().context("no id")?;
    let restore = format!("fetch('api/experiments/{id}/restore', {{ method: 'POST' }})");
    browser.run(&restore, vec![]).await?;
    browser.expect("main h1", "the duchess").await?;
    browser.stop(&[]).await
}

/// Submits a pair about a king who does something, with or without probabilities. Returns the
/// experiment's id.
async fn submit_king(browser: &Browser, does: &str, readout: bool) -> Result<String> {
    let body = json!({ "pairs": [{ "entity": "the king", "source": format!("The king {does} it."),
        "base": "The king watches it." }], "settings": { "readout": readout } });
    let submitted = send(browser, "POST", "api/jobs", &body.to_string()).await?;
    Ok(submitted["pairs"][0]["experiment"].as_str().context("no id")?.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_says_more_is_shown_without_a_reload() -> Result<()> {
    let (_folder, data) = folder()?;
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../oracle/models/tiny-llama3");
    let server = Server::start(PROGRAM, &data, &["--model", &model.display().to_string()])?;
    let browser = Browser::start().await?;
    browser.open(&server.url).await?;
    browser.expect(".welcome", "Activation patching").await?;
    let id = submit_king(&browser, "orders", false).await?;
    let go = "location.hash = arguments[0]";
    browser.run(go, vec![json!(format!("#/e/{id}"))]).await?;
    browser.expect_within(60, "#copy-whole", "Copy").await?;
    let probabilities = ".segments button:nth-child(3):not([disabled])";
    ensure!(!browser.has(probabilities).await, "there are probabilities");
    // While the page is open, and while another is.
    ensure!(
        submit_king(&browser, "orders", true).await? == id,
        "the readout makes another experiment"
    );
    browser.expect_within(60, probabilities, "P(").await?;
    // The same once more, from the page.
    let finished = async || {
        let document = send(&browser, "GET", &format!("api/experiments/{id}"), "").await?;
        Ok::<_, anyhow::Error>(document["provenance"]["wall_secs"].clone())
    };
    let before = finished().await?;
    browser.press("Compute again").await?;
    let deadline = Instant::now() + Duration::from_secs(60);
    while finished().await? == before {
        ensure!(Instant::now() < deadline, "it is not computed again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    ensure!(browser.driver.current_url().await?.as_str().ends_with(&id), "another experiment");
    browser.expect("#copy-whole", "Copy").await?;
    browser.run(go, vec![json!("#/")]).await?;
    browser.expect(".count", "1 of 1").await?;
    browser.stop(&[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn results_side_by_side_are_shown_as_they_are_by_now() -> Result<()> {
    let (_folder, data) = folder()?;
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../oracle/models/tiny-llama3");
    let server = Server::start(PROGRAM, &data, &["--model", &model.display().to_string()])?;
    let browser = Browser::start().await?;
    browser.open(&server.url).await?;
    browser.expect(".welcome", "Activation patching").await?;
    let mut ids = Vec::new();
    for does in ["orders", "forbids"] {
        ids.push(submit_king(&browser, does, false).await?);
    }
    let go = "location.hash = arguments[0]";
    browser.run(go, vec![json!("#/")]).await?;
    browser.expect_within(60, ".count", "2 of 2").await?;
    browser.run(go, vec![json!(format!("#/c/{}", ids.join(",")))]).await?;
    browser.expect(".pane:nth-child(3)", "Difference").await?;
    let probabilities = ".segments button:nth-child(3):not([disabled])";
    ensure!(!browser.has(probabilities).await, "there are probabilities");
    browser.run("document.querySelector('.panes').seen = true", vec![]).await?;
    submit_king(&browser, "forbids", true).await?;
    browser.expect_within(60, probabilities, "P(").await?;
    browser.press("P(TRUE)").await?;
    browser.expect(".pane:nth-child(1)", "no probabilities per cell").await?;
    let pane = ".pane:nth-child(2) .heatmap-scroll:not(.hidden) canvas";
    ensure!(browser.has(pane).await, "the second is not drawn");
    let seen = browser.run("return document.querySelector('.panes').seen", vec![]).await?;
    ensure!(seen == json!(true), "the page was loaded again");
    browser.stop(&[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_asked_for_once() -> Result<()> {
    let (_folder, data) = folder()?;
    let file = data.join("token");
    std::fs::write(&file, "a-token-that-is-long-enough")?;
    let server = Server::start(PROGRAM, &data, &["--token-file", file.to_str().unwrap()])?;
    let browser = Browser::start().await?;
    browser.open(&format!("{}#/new", server.url)).await?;
    fill_in(&browser).await?;
    browser.expect(".preview", "This needs the server's token").await?;
    browser.press("Enter the token…").await?;
    browser.expect("dialog[open]", "Reading needs none").await?;
    browser.fill("Token", "another-token-that-is-wrong").await?;
    browser.press("Use it").await?;
    browser.expect(".preview button", "Enter the token…").await?;
    browser.press("Run").await?;
    browser.expect("dialog .problem", "That was not the server’s token").await?;
    browser.fill("Token", "a-token-that-is-long-enough").await?;
    browser.press("Use it").await?;
    browser.expect_within(60, ".note", "It is being swept").await?;
    browser.press("Cancel").await?;
    browser.expect_within(30, ".page-problem", "It was cancelled").await?;
    // It is known until the tab is closed.
    browser.driver.refresh().await?;
    browser.driver.find(By::LinkText("Change and submit again")).await?.click().await?;
    browser.expect_within(60, ".preview", "cells of 30 layers").await?;
    browser.stop(&["401"]).await
}
