//! A model that is swept on NDIF, by a stand-in for the helper: what the page shows of it.

use std::path::Path;

use anyhow::{Result, ensure};
use browser_tests::{Browser, Server, folder};
use thirtyfour::prelude::*;

use self::ndif::Fake;

#[path = "../../compute/tests/support/ndif.rs"]
mod ndif;

/// The command line, built with these tests.
const PROGRAM: &str = env!("CARGO_BIN_EXE_browser-tests-server");
/// The model that the stand-in knows.
const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../oracle/models/tiny-llama3");

#[tokio::test(flavor = "multi_thread")]
async fn the_page_fills_in_from_waves_and_says_what_was_checked() -> Result<()> {
    let (_folder, data) = folder()?;
    let fake = Fake::new("honest");
    fake.hold();
    let (args, python) = (["--ndif-host", "local", "--ndif-model", MODEL], fake.path("python"));
    let vars: [(&str, &Path); 1] = [("PATCHBOARD_NDIF_PYTHON", &python)];
    let server = Server::start_with(PROGRAM, &data, &args, &vars)?;
    let browser = Browser::start().await?;
    browser.open(&format!("{}#/new", server.url)).await?;
    let hint = browser
        .expect(
            "form[aria-label='Experiment'] .hint",
            "Computed in f32 on ndif ndif.example by patchboard",
        )
        .await?;
    ensure!(hint.contains("nnsight 0.8.0, ndif 0.1.2"), "{hint}");
    browser.fill("Entity", "The king").await?;
    // Long enough to be several waves.
    let rest = "the guards and the crew of the ship before the gate of the old town.";
    browser.fill("Source sentence", &format!("The king orders {rest}")).await?;
    browser.fill("Base sentence", &format!("The king watches {rest}")).await?;
    browser.expect_within(60, ".preview", "cells of 4 layers").await?;
    browser.expect(".preview", "how long it takes the first sweep will show").await?;
    browser.expect(".preview", "the unpatched runs come with the result").await?;
    // What NDIF does not do is said before anything is asked for.
    browser.choose("What is written", "zero").await?;
    browser.expect(".preview .problem", "On NDIF there is no write zero").await?;
    browser.choose("What is written", "source").await?;
    browser.expect_within(60, ".preview", "cells of 4 layers").await?;
    ensure!(fake.asked().is_empty(), "{:?}", fake.asked());

    browser.press("Run").await?;
    browser.expect_within(60, ".note", "It is being swept").await?;
    let (n, n_all) = browser.columns().await?;
    ensure!(n_all > 5, "{n} of {n_all} columns");
    browser.expect(".map-card .said", "RUNNING: Your job has started running.").await?;
    let before = browser.pixels().await?;
    fake.release();
    // Without a reload the page becomes the finished experiment.
    browser.expect_within(60, "#copy-whole", "Copy self-contained link").await?;
    ensure!(browser.pixels().await? != before, "the grid is as it was");
    let checked = browser.expect(".certificate", "Control cells in ").await?;
    ensure!(checked.contains("a run patched with itself changes by at most 0 nats"), "{checked}");
    let made = "//section[@aria-label='Provenance']";
    let made = browser.driver.find(By::XPath(made)).await?.inner_html().await?;
    for expected in ["f32 on ndif ndif.example", "nnsight 0.8.0, ndif 0.1.2"] {
        ensure!(made.contains(expected), "{expected} is not in {made}");
    }
    browser.expect("main", "tiny-llama3").await?;
    // What was refused is no defect.
    browser.stop(&["422"]).await
}
