//! Documents by people who mean harm, in a browser without a content security policy: no script of
//! theirs runs, whatever shows them.

#[path = "../hostile.rs"]
mod corpus;

use std::fs;

use anyhow::{Result, ensure};
use browser_tests::{Browser, Site, example, file_url, folder};
use compute::site::StudyFiles;
use serde_json::json;
use shared::document::Document;
use shared::study::{Builder, Options};

fn documents() -> Result<Vec<Document>> {
    Ok(Document::read(&serde_json::to_vec(&corpus::documents())?)?)
}

/// Fails if a payload has run, or would if it were pointed at.
async fn unharmed(browser: &Browser, what: &str) -> Result<()> {
    let script = "return window.name + document.querySelectorAll(
        '[onerror],[onload],[onmouseover],[onfocus],a[href^=\"javascript:\" i],base').length";
    let found = browser.run(script, vec![]).await?;
    ensure!(found == "0", "{what}: {found}");
    Ok(())
}

/// Looks at everything that the page of an experiment shows.
async fn look(browser: &Browser, document: &Document) -> Result<()> {
    browser.pixels().await?;
    browser.point(document, 1, 0).await?;
    browser.expect(".tooltip", "Logit difference").await?;
    unharmed(browser, &document.entity).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_runs_is_seen() -> Result<()> {
    let (_folder, path) = folder()?;
    let page = path.join("page.html");
    fs::write(&page, format!("<p>x<script>window.name='{}'</script>", corpus::MARK))?;
    let browser = Browser::start().await?;
    browser.open(&file_url(&page)).await?;
    ensure!(unharmed(&browser, "a page that does harm").await.is_err(), "it was not seen");
    browser.stop(&[]).await
}

/// A study of this text.
fn study(text: &str) -> Result<StudyFiles> {
    let document = example("the duchess")?;
    let mut builder = Builder::new();
    builder.push(&document)?;
    let options = Options { text: text.into(), ..Options::default() };
    let (study, values) = builder.finish(&options)?;
    Ok(StudyFiles { study, values })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_studys_text_is_shown_and_does_nothing() -> Result<()> {
    let run = format!("window.name='{}'", corpus::MARK);
    let text = format!(
        "# Findings\n\nThe **queen** `rules`, [see](https://example.org/x) and\n\n- one\n- two\n\n\
         <script>{run}</script><img src=x onerror=\"{run}\">\n\n\
         [a](javascript:{run}) ![b](https://example.org/b.png) <javascript:{run}> \
         [c](data:text/html,x) [d](//example.org) [e](https://x\"onfocus=\"{run}) \n\n{}",
        corpus::texts().join("\n\n")
    );
    let files = study(&text)?;
    let site = tempfile::tempdir()?;
    compute::site::write_site(site.path(), &[], &[study(&text)?], None)?;
    let site = Site::serve_folder(site)?;
    let (_folder, path) = folder()?;
    let report = path.join("report.html");
    fs::write(&report, compute::site::report(&[], &[study(&text)?])?)?;
    let file = path.join("study.json");
    fs::write(&file, files.study.to_json())?;
    let browser = Browser::start().await?;
    for way in ["site", "report", "file"] {
        match way {
            "site" => browser.open(&format!("{}#/study/{}", site.url, files.study.id)).await?,
            "report" => browser.open(&file_url(&report)).await?,
            _ => {
                browser.open(&site.url).await?;
                browser.expect("main h1", "").await?;
                browser.drop_file(&file).await?;
            }
        }
        browser.expect_within(30, ".study-text h2", "Findings").await?;
        let script = "const text = document.querySelector('.study-text');
            return [text.querySelector('strong').innerText, text.querySelector('code').innerText,
                text.querySelectorAll('li').length,
                [...text.querySelectorAll('a')].map((a) => [a.getAttribute('href'), a.target]),
                text.querySelectorAll('script, img, iframe, object, style, link').length]";
        let found = browser.run(script, vec![]).await?;
        let links =
            json!([["https://example.org/x", "_blank"], ["https://example.org/b.png", "_blank"]]);
        ensure!(found == json!(["queen", "rules", 2, links, 0]), "{way}: {found}");
        unharmed(&browser, way).await?;
    }
    browser.stop(&[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_script_of_a_document_runs_in_a_site_or_a_report() -> Result<()> {
    let documents = documents()?;
    let site = Site::serve(&documents)?;
    let browser = Browser::start().await?;
    browser.open(&site.url).await?;
    browser.expect(".count", &format!("{0} of {0}", documents.len())).await?;
    unharmed(&browser, "the list").await?;
    for document in &documents {
        // The page of a preview leads on to the viewer, where the name stays.
        browser.open(&format!("{}e/{}.html", site.url, document.id)).await?;
        look(&browser, document).await?;
    }
    for document in &documents[..6] {
        browser.open("about:blank").await?;
        browser.open(&site.experiment(document, "?table=1&pin=1,1&metric=p_true")).await?;
        look(&browser, document).await?;
    }
    let (_folder, path) = folder()?;
    let report = path.join("report.html");
    for document in &documents {
        fs::write(&report, compute::site::report(std::slice::from_ref(document), &[])?)?;
        browser.open("about:blank").await?;
        browser.open(&file_url(&report)).await?;
        look(&browser, document).await?;
    }
    fs::write(&report, compute::site::report(&documents, &[])?)?;
    browser.open(&file_url(&report)).await?;
    browser.expect(".count", &format!("{0} of {0}", documents.len())).await?;
    unharmed(&browser, "the list of a report").await?;
    browser.stop(&[]).await
}
