//! The study of a table, from the form to its page, to a pair and back, and as a link.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use browser_tests::{Browser, Server, Site, folder};
use serde_json::json;
use thirtyfour::prelude::*;

/// The command line, built with these tests.
const PROGRAM: &str = env!("CARGO_BIN_EXE_browser-tests-server");

/// How many pairs the table has.
const N_PAIRS: usize = 24;

fn table() -> String {
    let row = |i: usize| {
        let kind = if i.is_multiple_of(2) { "even" } else { "odd" };
        format!("king {i}\tThe king orders {i} swords.\tThe king watches {i} swords.\t{kind}\n")
    };
    let rows: String = (0..N_PAIRS).map(row).collect();
    format!("name\tsource\tbase\tkind\n{rows}")
}

fn model() -> String {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../oracle/models");
    models.join("tiny-llama3").display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_table_to_its_study_to_a_pair_and_back_and_as_a_link() -> Result<()> {
    let (_folder, data) = folder()?;
    let server = Server::start(PROGRAM, &data, &["--model", &model()])?;
    let browser = Browser::start().await?;
    browser.open(&format!("{}#/new?table=1&template=none", server.url)).await?;
    browser.expect(".table-text", "").await?;
    let paste = "const field = document.querySelector('.table-text');
        field.value = arguments[0];
        field.dispatchEvent(new Event('input', { bubbles: true }));";
    browser.run(paste, vec![json!(table())]).await?;
    browser.expect_within(60, ".form .primary", &format!("Run {N_PAIRS} pairs")).await?;
    browser.press(&format!("Run {N_PAIRS} pairs")).await?;
    // As soon as there is a pair, there is a study, and it grows.
    browser.expect_within(60, ".actions a.primary", "Study of its pairs").await?;
    browser.driver.find(By::LinkText("Study of its pairs")).await?.click().await?;
    browser
        .expect_within(60, ".study-rule", "pairs count: those with a contrast of at least 0.5")
        .await?;
    browser.choose("Pairs that count", "all").await?;
    let all = format!("{N_PAIRS} of {N_PAIRS} pairs count: all with known baselines.");
    browser.expect_within(120, ".study-rule p", &all).await?;
    browser.expect(".spread h2", &format!("Effects of {N_PAIRS} pairs at layer")).await?;
    let n = "return [...document.querySelectorAll('.spread-points')].reduce(
        (n, path) => n + path.getAttribute('d').split('M').length - 1, 0)";
    ensure!(browser.run(n, vec![]).await? == json!(N_PAIRS), "a pair has no point");

    // Groups and their difference.
    browser.choose("Groups by", "kind").await?;
    let even = format!("kind = even ({})", N_PAIRS / 2);
    browser.expect_within(120, "option[value='geven']", &even).await?;
    browser.choose("Pairs", "geven").await?;
    browser.expect(".spread h2", &format!("Effects of {} pairs", N_PAIRS / 2)).await?;
    browser.choose("Pairs", "d0").await?;
    browser.expect(".cell-card", "Difference of means").await?;
    browser.expect(".map-card .hint", "the 95 % interval leaves out 0").await?;
    browser.choose("Pairs", "").await?;

    // A cell by the keyboard alone.
    browser.run("document.querySelector('.stage').focus()", vec![]).await?;
    browser.keys(&[Key::Down, Key::Down, Key::Right, Key::Enter]).await?;
    browser.expect(".spread h2", "at layer 1, role").await?;
    let cell = browser.expect(".cell-card .tip-values", "Mean effect").await?;
    // The address bar lags behind.
    let deadline = Instant::now() + Duration::from_secs(10);
    let link = loop {
        let link = browser.driver.current_url().await?.to_string();
        if link.contains("pin=1%2Crole%3A") {
            break link;
        }
        ensure!(Instant::now() < deadline, "{link}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };

    // Its pairs, sorted, one after the other, and back to where the reader was.
    browser.press("Effect at the cell").await?;
    let sorted = browser
        .run(
            "return [...document.querySelectorAll('.study-pairs tbody tr')].map((row) =>
            Number(row.cells[5].innerText.split(' ')[0].replace('−', '-')))",
            vec![],
        )
        .await?;
    let sorted: Vec<f64> = serde_json::from_value(sorted)?;
    ensure!(sorted.len() == N_PAIRS && sorted.is_sorted_by(|a, b| a >= b), "{sorted:?}");
    // The small maps say the same of this cell, though they were there before it was held.
    let first = browser.text(".multiple .facts").await?.replace('−', "-");
    ensure!((first.parse::<f64>()? - sorted[0]).abs() < 0.002, "{first} in place of {}", sorted[0]);
    browser.driver.find(By::LinkText("king 4")).await?.click().await?;
    browser.expect(".neighbours", &format!("pair 5 of {N_PAIRS}")).await?;
    browser.expect("main h1", "king 4").await?;
    browser.driver.find(By::LinkText("Next pair")).await?.click().await?;
    browser.expect("main h1", "king 5").await?;
    browser.expect(".neighbours", &format!("pair 6 of {N_PAIRS}")).await?;
    browser.driver.back().await?;
    browser.expect("main h1", "king 4").await?;
    browser.driver.back().await?;
    browser.expect(".spread h2", "at layer 1, role").await?;

    // A point of the spread opens its pair, by the keyboard too.
    browser.run("document.querySelector('.spread-plot').focus()", vec![]).await?;
    browser.keys(&[Key::End]).await?;
    browser.expect(".spread .facts", "Click or Enter opens it").await?;
    browser.keys(&[Key::Enter]).await?;
    browser.expect(".neighbours", "Next pair").await?;
    browser.stop(&[]).await?;

    // The link shows the same to whoever gets it.
    let other = Browser::start().await?;
    other.open(&link).await?;
    other.expect_within(30, ".spread h2", "at layer 1, role").await?;
    other.expect(".cell-card", "Pinned cell").await?;
    let same = other.expect(".cell-card .tip-values", "Mean effect").await?;
    ensure!(same == cell, "{same} in place of {cell}");
    other.expect(".study-rule p", &all).await?;
    other.stop(&[]).await
}

/// Runs the program.
fn patchboard(args: &[&str]) -> Result<()> {
    let output = Command::new(PROGRAM).args(args).output()?;
    ensure!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_study_needs_neither_server_nor_address() -> Result<()> {
    let (_folder, path) = folder()?;
    let at = |name: &str| path.join(name).display().to_string();
    fs::write(path.join("kings.tsv"), table())?;
    let results = at("results");
    let sweep =
        ["sweep", &at("kings.tsv"), "--template", "none", "--keep", "all", "--model", &model()];
    patchboard(&[&sweep[..], &["--format", "json", "--out", &results, "--quiet"]].concat())?;
    let files = |keep: fn(&str) -> bool| -> Result<Vec<PathBuf>> {
        let paths = fs::read_dir(&results)?.map(|entry| Ok(entry?.path()));
        let paths: Vec<_> = paths.collect::<Result<_>>()?;
        Ok(paths.into_iter().filter(|p| keep(&p.display().to_string())).collect())
    };
    let pairs = files(|name| name.ends_with(".json"))?;
    let study = files(|name| Path::new(name).join("study.json").is_file())?;
    ensure!(pairs.len() == N_PAIRS && study.len() == 1, "{pairs:?}, {study:?}");
    let pairs: Vec<_> = pairs.iter().map(|path| path.display().to_string()).collect();
    let pairs: Vec<_> = pairs.iter().map(String::as_str).collect();
    let study = study[0].display().to_string();

    // A site lists its studies; a study leads to its pairs.
    let site = tempfile::tempdir()?;
    let out = site.path().display().to_string();
    patchboard(&[&["site", "--study", &study, "--out", &out], &pairs[..]].concat())?;
    let site = Site::serve_folder(site)?;
    let browser = Browser::start().await?;
    browser.open(&site.url).await?;
    browser.expect(".studies", &format!("of {N_PAIRS} pairs count")).await?;
    browser.driver.find(By::Css(".studies a")).await?.click().await?;
    // The rule is the study's own: there is nobody to compute another.
    browser.expect_within(30, ".study-rule p", &format!("{N_PAIRS} of {N_PAIRS} pairs")).await?;
    browser.driver.find(By::LinkText("king 4")).await?.click().await?;
    browser.expect("main h1", "king 4").await?;
    browser.expect(".neighbours", &format!("of {N_PAIRS}")).await?;

    // A report begins with its study, and has the list beside it.
    let report = path.join("report.html");
    let out = report.display().to_string();
    patchboard(&[&["report", "--study", &study, "--out", &out], &pairs[..3]].concat())?;
    browser.open(&format!("file://{out}")).await?;
    browser.expect_within(30, ".study-rule", "pairs count").await?;
    browser.open(&format!("file://{out}#/")).await?;
    browser.expect(".studies", &format!("of {N_PAIRS} pairs count")).await?;
    browser.expect(".count", "3 of 3").await?;
    // In a notebook's frame there is no address and no storage.
    let framed = path.join("framed.html");
    let report = fs::read_to_string(&report)?.replace('&', "&amp;").replace('"', "&quot;");
    let frame = "<iframe sandbox=\"allow-scripts\" width=\"1200\" height=\"1300\" srcdoc";
    fs::write(&framed, format!("{frame}=\"{report}\"></iframe>"))?;
    browser.open(&format!("file://{}", framed.display())).await?;
    browser.driver.find(By::Css("iframe")).await?.enter_frame().await?;
    browser.expect_within(30, ".study-rule", "pairs count").await?;
    browser.stop(&[]).await
}
