//! What a reader does, in a real browser, with the results that ship as examples.

use std::fs;

use anyhow::{Context, Result};
use browser_tests::{Browser, Site, example, examples, file_url, folder};
use serde_json::json;
use shared::document::Document;
use shared::wire::{numbers, permalink};
use thirtyfour::prelude::*;

/// What the page must say of a cell: the document's own token, place and logit difference.
fn facts(document: &Document, layer: usize, column: usize) -> [String; 3] {
    [
        numbers::logit_diff(document.patching_results.get(layer, column)),
        document.token_labels[column].replace(' ', "·"),
        format!("layer {layer} · position {}", document.sentence_start + column),
    ]
}

async fn check(
    browser: &Browser,
    css: &str,
    document: &Document,
    (layer, column): (usize, usize),
) -> Result<()> {
    for fact in facts(document, layer, column) {
        browser.expect(css, &fact).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pointing_at_cells_shows_the_documents_numbers() -> Result<()> {
    let documents = examples()?;
    let site = Site::serve(&documents)?;
    let browser = Browser::start().await?;
    for document in [&documents[0], &documents[3], &documents[5]] {
        browser.open(&site.experiment(document, "")).await?;
        browser.expect("main h1", &document.entity).await?;
        let last = document.token_labels.len() - 1;
        for cell in [(0, 0), (12, 3), (29, last), (7, 1)] {
            browser.point(document, cell.0, cell.1).await?;
            check(&browser, ".tooltip", document, cell).await?;
            check(&browser, ".cell-card", document, cell).await?;
        }
        let drawn = async || {
            let n = "return performance.getEntriesByName('patchboard-heatmap').length";
            browser.run(n, vec![]).await
        };
        let before = drawn().await?;
        browser.point(document, 3, 2).await?;
        check(&browser, ".tooltip", document, (3, 2)).await?;
        assert_eq!(drawn().await?, before, "hovering redraws nothing");
        assert_ne!(before, json!(0));
    }
    browser.stop(&[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keyboard_alone_is_enough() -> Result<()> {
    let document = example("Queen Elizabeth")?;
    let site = Site::serve(std::slice::from_ref(&document))?;
    let browser = Browser::start().await?;
    browser.open(&site.url).await?;
    browser.expect(".count", "1 of 1").await?;
    let is_at = async |css: &str| {
        let script = "return document.activeElement.matches(arguments[0])";
        Ok::<_, anyhow::Error>(browser.run(script, vec![json!(css)]).await? == json!(true))
    };
    let tab_to = async |css: &str| {
        for _ in 0..60 {
            browser.keys(&[Key::Tab]).await?;
            if is_at(css).await? {
                return Ok(());
            }
        }
        anyhow::bail!("Tab does not lead to {css}")
    };
    tab_to(".entry a").await?;
    browser.keys(&[Key::Enter]).await?;
    browser.expect("main h1", &document.entity).await?;
    tab_to(".menu summary").await?;
    browser.keys(&[Key::Enter, Key::Tab, Key::Tab]).await?;
    browser.keys(&[Key::Enter]).await?;
    browser.expect(".menu summary", "9 of 11 columns").await?;
    browser.keys(&[Key::Escape]).await?;
    tab_to(".stage").await?;
    browser.keys(&[Key::Down, Key::Down, Key::Down, Key::Right]).await?;
    check(&browser, ".tooltip", &document, (2, 3)).await?;
    browser.keys(&[Key::Enter, Key::End]).await?;
    check(&browser, ".cell-card", &document, (2, 10)).await?;
    browser.keys(&[Key::Escape]).await?;
    browser.expect(".cell-card", "Point at a cell").await?;
    browser.stop(&[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_link_shows_the_same_in_another_browser() -> Result<()> {
    let document = example("the bishop")?;
    let site = Site::serve(&examples()?)?;
    let browser = Browser::start().await?;
    browser.open(&site.experiment(&document, "")).await?;
    browser.press("Recovery").await?;
    let choose = async |name: &str, value: &str| {
        let path = format!("//label[span='{name}']/select/option[@value='{value}']");
        browser.driver.find(By::XPath(path)).await?.click().await
    };
    choose("Colours", "rdbu").await?;
    choose("Labels", "token_index").await?;
    for label in ["Transpose", "Layer 0 at the bottom", "Set range"] {
        let path = format!("//label[normalize-space()='{label}']");
        browser.driver.find(By::XPath(path)).await?.click().await?;
    }
    let lowest = browser.driver.find(By::Css("[aria-label='Lowest value']")).await?;
    lowest.clear().await?;
    lowest.send_keys("-0.25").await?;
    browser.keys(&[Key::Tab]).await?;
    browser.driver.find(By::Css(".menu summary")).await?.click().await?;
    browser.press("From the first difference").await?;
    browser.keys(&[Key::Escape]).await?;
    browser.driver.find(By::Css(".stage")).await?.send_keys(Key::Down.value().to_string()).await?;
    browser.keys(&[Key::Down, Key::Down, Key::Enter]).await?;
    browser.press("Show as a table").await?;
    browser.expect(".cell-card h2", "Pinned cell").await?;
    browser.run("document.activeElement.blur()", vec![]).await?;
    let link = browser.driver.current_url().await?.to_string();
    for part in [
        "metric=recovery",
        "colours=rdbu",
        "range=-0.25%2C",
        "origin=bottom",
        "transpose=1",
        "hide=",
        "pin=",
    ] {
        assert!(link.contains(part), "{part} is not in {link}");
    }
    let seen = async |browser: &Browser| {
        let controls = "return [...document.querySelectorAll('.controls select, .controls input')]
            .map((control) => control.type === 'checkbox' ? control.checked : control.value)";
        browser.driver.find(By::Css(".grid-table")).await?;
        Ok::<_, anyhow::Error>((
            browser.pixels().await?,
            browser.text(".cell-card .tip-values").await?,
            browser.text("[aria-pressed=true]").await?,
            browser.text(".grid-table").await?,
            browser.run(controls, vec![]).await?,
        ))
    };
    let here = seen(&browser).await?;
    browser.stop(&[]).await?;

    let fresh = Browser::start().await?;
    fresh.open(&link).await?;
    let there = seen(&fresh).await?;
    assert!(here.0 == there.0, "the heatmap is another");
    assert_eq!((here.1, here.2, here.3, here.4), (there.1, there.2, there.3, there.4));

    fresh.press("Change from base").await?;
    fresh.expect("[aria-pressed=true]", "Change from base").await?;
    fresh.driver.back().await?;
    fresh.expect("[aria-pressed=true]", "Recovery").await?;
    fresh.driver.forward().await?;
    fresh.expect("[aria-pressed=true]", "Change from base").await?;
    fresh.stop(&[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_self_contained_link_needs_no_data_and_damage_is_told() -> Result<()> {
    let document = example("the duchess")?;
    let site = Site::serve(&[])?;
    let link = permalink::encode(&document, None).text;
    let browser = Browser::start().await?;
    browser.open(&format!("{}#/e/l:{link}?pin=12,135", site.url)).await?;
    check(&browser, ".cell-card", &document, (12, 3)).await?;
    browser.expect(".warnings", "Unequal lengths: the source has 145 tokens").await?;
    browser.expect("#copy-whole", "Copy self-contained link").await?;
    for (damaged, message) in [
        (&link[..link.len() / 2], "damaged, perhaps cut short"),
        ("9.abc", "has version 9, and this viewer reads up to version 2"),
        ("nonsense", "holds no result"),
    ] {
        browser.open("about:blank").await?;
        browser.open(&format!("{}#/e/l:{damaged}", site.url)).await?;
        browser.expect(".page-problem", message).await?;
    }
    browser.stop(&[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_opened_or_refused_with_the_reason() -> Result<()> {
    let document = example("the bishop")?;
    let mut notebook = serde_json::to_value(&document)?;
    let fields = notebook.as_object_mut().unwrap();
    let theirs = [
        "model",
        "entity",
        "source_prompt",
        "base_prompt",
        "source_sentence",
        "base_sentence",
        "sentence_start",
        "token_labels",
        "num_layers",
        "patching_results",
    ];
    fields.retain(|name, _| theirs.contains(&name.as_str()));
    let (_folder, path) = folder()?;
    let file = path.join("patching_results.json");
    fs::write(&file, notebook.to_string())?;
    let wrong = path.join("wrong.json");
    fs::write(&wrong, r#"{"layers": 3}"#)?;
    let picture = path.join("picture.png");
    fs::write(&picture, [0x89, b'P', b'N', b'G', 0, 0xff])?;

    let site = Site::serve(&[])?;
    let browser = Browser::start().await?;
    browser.open(&site.url).await?;
    browser.expect(".welcome", "Open a result document").await?;
    browser.drop_file(&wrong).await?;
    browser.expect(".notice", "wrong.json: Expected a result document").await?;
    browser.expect(".notice", "found a JSON object with `layers`").await?;
    browser.press("Dismiss").await?;
    let input = browser.driver.find(By::Css(".bar input[type=file]")).await?;
    input.send_keys(picture.display().to_string()).await?;
    browser.expect(".notice", "picture.png: Expected a result document in JSON").await?;
    browser.press("Dismiss").await?;
    browser.drop_file(&file).await?;
    browser.expect("main h1", "the bishop").await?;
    browser.point(&document, 9, 2).await?;
    check(&browser, ".tooltip", &document, (9, 2)).await?;
    // What a file does not say is not made up.
    browser.expect(".facts", "site unknown").await?;
    browser.expect(".tooltip", "Metric (unknown)").await?;
    browser.expect(".controls", "Metric (unknown)").await?;
    let text = browser.text("main").await?;
    for made_up in ["Logit difference", "TRUE", "nats", "resid_post", "denoising"] {
        assert!(!text.contains(made_up), "{made_up} is in {text}");
    }

    // A run that was not finite opens, and says so.
    let mut sick = serde_json::to_value(&document)?;
    sick["baselines"]["base"]["logit_diff"] = json!(null);
    sick["verification"] = json!({ "n_cells": 3, "max_abs_diff": null });
    let text = sick.to_string().replacen("\"p_top\":", "\"p_top\":NaN,\"was\":", 1);
    fs::write(&file, text)?;
    browser.drop_file(&file).await?;
    browser.expect(".warnings", "the unpatched base run lacks some").await?;
    browser.expect(".warnings", "Not verified").await?;
    browser.expect("[aria-label='Baselines']", "–").await?;
    browser.point(&document, 9, 2).await?;
    check(&browser, ".tooltip", &document, (9, 2)).await?;
    browser.stop(&[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_opens_from_disk_alone() -> Result<()> {
    let documents = examples()?;
    let (_folder, path) = folder()?;
    let one = path.join("one.html");
    fs::write(&one, compute::site::report(&documents[..1], &[])?)?;
    let all = path.join("all.html");
    fs::write(&all, compute::site::report(&documents, &[])?)?;
    let browser = Browser::start().await?;
    browser.open(&file_url(&one)).await?;
    browser.expect("main h1", &documents[0].entity).await?;
    browser.point(&documents[0], 20, 2).await?;
    check(&browser, ".tooltip", &documents[0], (20, 2)).await?;
    browser.open(&file_url(&all)).await?;
    browser.expect(".count", "6 of 6").await?;
    // A notebook shows it in a frame without an address or storage of its own.
    let framed = path.join("framed.html");
    let report = fs::read_to_string(&one)?.replace('&', "&amp;").replace('"', "&quot;");
    fs::write(
        &framed,
        format!(
            "<iframe sandbox=\"allow-scripts\" width=\"1200\" height=\"1300\" \
             srcdoc=\"{report}\"></iframe>"
        ),
    )?;
    browser.open(&file_url(&framed)).await?;
    browser.driver.find(By::Css("iframe")).await?.enter_frame().await?;
    browser.expect("main h1", &documents[0].entity).await?;
    browser.press("Recovery").await?;
    browser.expect("[aria-pressed=true]", "Recovery").await?;
    browser.stop(&[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn experiments_are_found_picked_and_compared() -> Result<()> {
    let site = Site::serve(&examples()?)?;
    let [first, second] = [example("Japan / China")?, example("France / Italy")?];
    let browser = Browser::start().await?;
    // From the page behind a link preview.
    browser.open(&format!("{}e/{}.html", site.url, first.id)).await?;
    browser.expect("main h1", &first.entity).await?;
    browser.press("Compare with…").await?;
    browser.expect(".picked-bar", "1 picked").await?;
    let search = browser.driver.find(By::Css("#search")).await?;
    search.send_keys("italy").await?;
    browser.expect(".count", "1 of 6").await?;
    browser.driver.find(By::Css(".pick")).await?.click().await?;
    browser.expect(".picked-bar", "2 picked").await?;
    browser.press("Compare").await?;
    browser.expect(".pane:nth-child(3) h2", "Difference").await?;
    browser.point(&first, 15, 3).await?;
    let value = |value: f32| numbers::logit_diff(Some(value));
    let at = |document: &Document| document.patching_results.get(15, 3).unwrap();
    browser.expect(".pane:nth-child(1) .pane-cell", &value(at(&first))).await?;
    browser.expect(".pane:nth-child(2) .pane-cell", &value(at(&second))).await?;
    let difference = value(at(&second) - at(&first));
    browser.expect(".pane:nth-child(3) .spoken", &format!("Difference {difference}")).await?;
    let link = browser.driver.current_url().await?.to_string();
    assert!(link.ends_with(&format!("#/c/{},{}", first.id, second.id)), "{link}");
    browser.press("Add or remove…").await?;
    browser.expect(".picked-bar", "2 picked").await?;
    browser.stop(&[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_told() -> Result<()> {
    let site = Site::serve(&[])?;
    let browser = Browser::start().await?;
    browser.open(&format!("{}#/e/0123456789abcdef0123", site.url)).await?;
    browser.expect(".page-problem", "the host answered 404").await?;
    browser.open(&format!("{}#/nowhere", site.url)).await?;
    browser.expect(".page-problem", "There is no page at “nowhere”").await?;
    let without = json!({ "source": "delete window.WebAssembly" });
    browser.command("Page.addScriptToEvaluateOnNewDocument", without).await?;
    browser.open("about:blank").await?;
    browser.open(&site.url).await?;
    browser.expect(".boot-failed", "Patchboard cannot run here").await?;
    browser.expect(".boot-failed", "WebAssembly").await?;
    browser.stop(&["404", "WebAssembly"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_whose_part_did_not_arrive_is_tried_again() -> Result<()> {
    let documents = examples()?;
    let site = Site::serve(&documents)?;
    let part = site.folder.path().join("web_pages.wasm");
    let whole = fs::read(&part)?;
    // That of another build has other addresses, and must not be started.
    let mut other = whole.clone();
    let name = b"build_";
    let at = other.windows(name.len()).position(|bytes| bytes == name).context("no build")?;
    other[at] = b'x';
    fs::remove_file(&part)?;
    let browser = Browser::start().await?;
    // Results are shown without it, and nobody asks for it.
    browser.open(&site.experiment(&documents[0], "")).await?;
    browser.pixels().await?;
    let is_asked = "return performance.getEntriesByType('resource')
        .some((file) => file.name.includes('web_pages'))";
    assert_eq!(browser.run(is_asked, vec![]).await?, false);
    let compared = format!("{}#/c/{},{}", site.url, documents[0].id, documents[1].id);
    browser.open(&compared).await?;
    let (told, failed) = ("main h1", "This page could not be loaded");
    browser.expect(told, failed).await?;
    let is_focused = "return document.activeElement === document.querySelector('main h1')";
    assert_eq!(browser.run(is_focused, vec![]).await?, true);
    let mark = "document.querySelector('main h1').dataset.before = ''";
    let again = async || {
        browser.run(mark, vec![]).await?;
        browser.press("Try again").await?;
        browser.gone_within(10, "[data-before]").await
    };
    again().await?;
    browser.expect(told, failed).await?;
    fs::write(&part, &other)?;
    again().await?;
    browser.expect(told, failed).await?;
    fs::write(&part, &whole)?;
    again().await?;
    browser.expect(told, "Compare").await?;
    assert_eq!(browser.run(is_focused, vec![]).await?, true);
    browser.expect(".pane:nth-child(2) h2", &documents[1].entity).await?;
    // Opened by its address it is as before.
    browser.open("about:blank").await?;
    browser.open(&compared).await?;
    browser.expect(".pane:nth-child(2) h2", &documents[1].entity).await?;
    browser.stop(&["404", "failed to fetch Wasm", "LinkError"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn downloads_are_the_document_and_its_figure() -> Result<()> {
    let document = example("the duchess")?;
    let site = Site::serve(std::slice::from_ref(&document))?;
    let browser = Browser::start().await?;
    browser.open(&site.experiment(&document, "")).await?;
    browser.pixels().await?;
    let watch = "window.saved = {};
        const made = URL.createObjectURL.bind(URL);
        URL.createObjectURL = (blob) => { saved[blob.type] = blob; return made(blob); };";
    browser.run(watch, vec![]).await?;
    for (name, kind) in [
        ("PNG", "image/png"),
        ("SVG", "image/svg+xml"),
        ("CSV", "text/csv"),
        ("JSON", "application/json"),
    ] {
        let button = format!("[aria-label='Download {name}']");
        browser.driver.find(By::Css(&button)).await?.click().await?;
        let read = format!(
            "const done = arguments[arguments.length - 1];
            const look = () => saved[{kind:?}] ? saved[{kind:?}].text().then(done)
                : setTimeout(look, 20);
            look();"
        );
        let text = browser.run_async(&read).await?;
        let text = text.as_str().unwrap_or_default();
        match name {
            "CSV" => assert_eq!(text, shared::field::cells::csv(&document)?),
            "JSON" => assert_eq!(text, document.to_json()),
            "SVG" => assert!(text.starts_with("<svg") && text.contains("the duchess"), "{text}"),
            _ => assert!(text.contains("PNG") && text.contains("IHDR"), "{name}"),
        }
    }
    browser.stop(&[]).await
}
