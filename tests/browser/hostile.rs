//! Documents by people who mean harm, in a browser without a content security policy: no script of
//! theirs runs, whatever shows them.

#[path = "../hostile.rs"]
mod corpus;

use std::fs;

use anyhow::{Result, ensure};
use browser_tests::{Browser, Site, file_url, folder};
use shared::document::Document;

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
