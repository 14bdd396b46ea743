//! Getting about: titles, focus and place on a change of page, and what follows a finger or a key.

use std::fs;

use anyhow::{Result, ensure};
use browser_tests::{Browser, Site, example, examples, folder};
use serde_json::{Value, json};
use shared::document::Document;
use shared::grid::Grid;
use shared::wire::gallery::{Entry, Gallery};
use thirtyfour::prelude::*;

/// The title, and the text and name of what has the focus.
async fn stands(browser: &Browser) -> Result<[String; 3]> {
    let script = "const focus = document.activeElement;
        return [document.title, focus.tagName, focus.tagName === 'BODY' ? '' : focus.innerText]";
    Ok(serde_json::from_value(browser.run(script, vec![]).await?)?)
}

async fn expect(browser: &Browser, title: &str, focus: &str) -> Result<()> {
    browser.expect("main h1", title).await?;
    let mut found = stands(browser).await?;
    for _ in 0..40 {
        if found == [format!("{title} · Patchboard"), focus.into(), found[2].clone()] {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        found = stands(browser).await?;
    }
    anyhow::bail!("{found:?} for {title} and {focus}")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_has_its_title_and_is_begun_at_its_heading() -> Result<()> {
    let documents = examples()?;
    let site = Site::serve(&documents)?;
    let duchess = example("the duchess")?;
    let browser = Browser::start().await?;
    browser.open(&site.url).await?;
    // The first page takes the focus from nobody.
    expect(&browser, "Experiments", "BODY").await?;
    browser.keys(&[Key::Tab]).await?;
    ensure!(stands(&browser).await?[2] == "Skip to the content", "{:?}", stands(&browser).await?);
    browser.keys(&[Key::Enter]).await?;
    ensure!(stands(&browser).await?[1] == "MAIN", "{:?}", stands(&browser).await?);
    let link = format!(".entry a[href$='{}']", duchess.id);
    browser.driver.find(By::Css(&link)).await?.click().await?;
    expect(&browser, "the duchess", "H1").await?;
    browser.press("Recovery").await?;
    browser.expect("[aria-pressed=true]", "Recovery").await?;
    // A step within a page leaves the focus where it is.
    ensure!(stands(&browser).await?[1] == "BUTTON", "{:?}", stands(&browser).await?);
    browser.press("Compare with…").await?;
    expect(&browser, "Experiments", "H1").await?;
    browser.driver.back().await?;
    expect(&browser, "the duchess", "H1").await?;
    browser.driver.back().await?;
    browser.expect("[aria-pressed=true]", "Logit difference").await?;
    browser.driver.back().await?;
    expect(&browser, "Experiments", "H1").await?;
    let compare = format!("#/c/{},{}", documents[0].id, documents[1].id);
    for (page, title) in [(&*compare, "Compare"), ("#/nowhere", "This cannot be shown")] {
        browser.run("location.hash = arguments[0]", vec![json!(page)]).await?;
        expect(&browser, title, "H1").await?;
    }
    browser.stop(&[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn back_leads_to_the_place_that_was_left() -> Result<()> {
    let site = Site::serve(&[])?;
    let entry = Entry::of(&example("the duchess")?);
    let mut gallery = Gallery::of([]);
    gallery.experiments = (0..1000)
        .map(|i| Entry { id: format!("{i:020x}"), entity: format!("entity {i}"), ..entry.clone() })
        .collect();
    fs::write(site.folder.path().join("data/index.json"), serde_json::to_vec(&gallery)?)?;
    let browser = Browser::start().await?;
    browser.open(&site.url).await?;
    browser.expect(".count", "1000 of 1000").await?;
    browser.press("Show more").await?;
    browser.driver.find(By::Css(".entry:nth-child(250)")).await?;
    let place = async || {
        let script = "const entry = document.querySelector('.entry:nth-child(250)');
            return [document.querySelectorAll('.entry').length,
                entry ? entry.getBoundingClientRect().top : null, scrollY,
                document.querySelector('.entry')?.getBoundingClientRect().height]";
        browser.run(script, vec![]).await
    };
    let script = "document.querySelector('.entry:nth-child(250)').scrollIntoView(
        { block: 'center', behavior: 'instant' })";
    // What comes into sight for the first time takes its own height.
    for _ in 0..3 {
        browser.run(script, vec![]).await?;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let before = place().await?;
    browser.driver.find(By::Css(".entry:nth-child(250) a")).await?.click().await?;
    browser.expect(".page-problem", "the host answered 404").await?;
    ensure!(browser.run("return scrollY", vec![]).await? == json!(0), "the page is scrolled down");
    browser.driver.back().await?;
    browser.driver.find(By::Css(".entry:nth-child(250)")).await?;
    let mut after = Value::Null;
    for _ in 0..60 {
        after = place().await?;
        let apart = |i: usize| Some((after[i].as_f64()? - before[i].as_f64()?).abs());
        if after[0] == before[0] && apart(1).is_some_and(|apart| apart < 24.0) {
            return browser.stop(&["404"]).await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    anyhow::bail!("{after} after {before}")
}

/// A result of 80 layers and 200 tokens.
fn large() -> Result<Document> {
    let mut document = example("the duchess")?;
    (document.num_layers, document.token_labels) = (80, vec![" token".into(); 200]);
    document.base_tokens.clear();
    document.source_tokens.clear();
    document.readout = None;
    let row = |layer: usize| (0..200).map(|column| Some((layer + column) as f32)).collect();
    document.patching_results = (0..80).map(row).collect::<Grid<f32>>();
    Ok(document)
}

/// Where something is in the window: left, top, right, bottom.
async fn rect(browser: &Browser, css: &str) -> Result<[f64; 4]> {
    let script = "const rect = document.querySelector(arguments[0]).getBoundingClientRect();
        return [rect.left, rect.top, rect.right, rect.bottom]";
    Ok(serde_json::from_value(browser.run(script, vec![json!(css)]).await?)?)
}

async fn is_seen(browser: &Browser, css: &str) -> Result<bool> {
    let script = "return document.querySelector(arguments[0]).checkVisibility(
        { visibilityProperty: true })";
    Ok(browser.run(script, vec![json!(css)]).await? == json!(true))
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_scroll_their_cell_into_view() -> Result<()> {
    let document = large()?;
    let site = Site::serve(std::slice::from_ref(&document))?;
    let browser = Browser::start().await?;
    browser.phone(360, 640).await?;
    browser.open(&site.experiment(&document, "")).await?;
    browser.driver.find(By::Css(".stage canvas")).await?;
    browser.run("document.querySelector('.stage').focus()", vec![]).await?;
    browser.keys(&[Key::Down]).await?;
    let mut steps = vec![Key::End, Key::Home, Key::End];
    steps.extend(std::iter::repeat_n(Key::Down, 79));
    steps.extend([Key::Home, Key::Right, Key::Up]);
    for (i, step) in steps.into_iter().enumerate() {
        browser.keys(&[step]).await?;
        let (cell, map) =
            (rect(&browser, ".cell-hover").await?, rect(&browser, ".heatmap-scroll").await?);
        let is_inside = cell[0] >= map[0] - 1.0
            && cell[2] <= map[2] + 1.0
            && cell[1] >= -1.0
            && cell[3] <= 641.0;
        ensure!(is_inside && cell[2] > cell[0], "step {i}: {cell:?} in {map:?}");
    }
    browser.stop(&[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tap_shows_the_tooltip_where_there_is_room_and_it_follows() -> Result<()> {
    let document = example("the duchess")?;
    let site = Site::serve(std::slice::from_ref(&document))?;
    let browser = Browser::start().await?;
    browser.phone(360, 640).await?;
    browser.open(&site.experiment(&document, "")).await?;
    for (layer, column, margin) in [(2, 1, 60.0), (29, 3, 600.0)] {
        // The cell is near the upper edge of the window, then near the lower one.
        let (x, y) = browser.place(&document, layer, column).await?;
        browser.run("window.scrollBy(0, arguments[0])", vec![json!(y - margin)]).await?;
        let (x, y) = (x, browser.place_now(&document, layer, column).await?.1);
        browser.tap(x, y).await?;
        browser.expect(".tooltip", &format!("layer {layer} · position")).await?;
        ensure!(is_seen(&browser, ".tooltip").await?, "a tap shows no tooltip");
        let (tip, cell) = (rect(&browser, ".tooltip").await?, rect(&browser, ".cell-hover").await?);
        ensure!(tip[0] >= 0.0 && tip[2] <= 360.0 && tip[1] >= 0.0 && tip[3] <= 640.0, "{tip:?}");
        let is_apart = if margin < 320.0 { tip[1] >= cell[3] } else { tip[3] <= cell[1] };
        ensure!(is_apart, "the tooltip {tip:?} of the cell {cell:?}");
        browser.run("window.scrollBy({ top: -20, behavior: 'instant' })", vec![]).await?;
        browser
            .run(
                "return new Promise((next) => requestAnimationFrame(() => \
            requestAnimationFrame(next)))",
                vec![],
            )
            .await?;
        let (after, cell_after) =
            (rect(&browser, ".tooltip").await?, rect(&browser, ".cell-hover").await?);
        let went = [after[1] - tip[1], cell_after[1] - cell[1]];
        ensure!((went[0] - went[1]).abs() < 1.5 && went[1] > 5.0, "{went:?}");
        // A tap elsewhere ends it; the cell stays pinned.
        let [left, top, ..] = rect(&browser, ".cell-card h2").await?;
        if (0.0..640.0).contains(&top) {
            browser.tap(left + 5.0, top + 5.0).await?;
        } else {
            browser
                .run(
                    "window.dispatchEvent(new PointerEvent('pointerdown', \
                { pointerType: 'touch', bubbles: true }))",
                    vec![],
                )
                .await?;
        }
        ensure!(!is_seen(&browser, ".tooltip").await?, "the tooltip stays");
        browser.expect(".cell-card h2", "Pinned cell").await?;
    }
    browser.stop(&[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_opened_all_at_once_and_once_and_texts_stay_texts() -> Result<()> {
    let documents = examples()?;
    let (_folder, path) = folder()?;
    let file = |name: &str, content: &str| -> Result<_> {
        let path = path.join(name);
        fs::write(&path, content)?;
        Ok(path)
    };
    let first = file("first.json", &documents[0].to_json())?;
    let both =
        file("both.json", &format!("[{},{}]", documents[0].to_json(), documents[1].to_json()))?;
    let mut other = documents[0].clone();
    other.entity = "somebody else".into();
    let other = file("other.json", &other.to_json())?;
    let site = Site::serve(&[])?;
    let browser = Browser::start().await?;
    browser.open(&site.url).await?;
    browser.expect(".welcome", "Open a result document").await?;
    for path in [&first, &first] {
        browser.drop_file(path).await?;
        browser.expect("main h1", &documents[0].entity).await?;
    }
    browser.drop_file(&both).await?;
    browser.expect(".count", "2 of 2").await?;
    ensure!(!browser.has(".notice").await, "the same file again is told of");
    browser.drop_file(&other).await?;
    browser.expect(".notice", "has the same id as a result that was opened before").await?;
    browser.expect("main h1", "somebody else").await?;
    browser.press("Dismiss").await?;
    ensure!(stands(&browser).await?[1] == "MAIN", "the focus is lost");
    // A text that is dragged is none of the page's business.
    let script = "const data = new DataTransfer();
        data.setData('text/plain', 'a word');
        const event = new DragEvent('drop', { bubbles: true, cancelable: true, dataTransfer: data });
        const over = new DragEvent('dragover', { bubbles: true, cancelable: true, dataTransfer: data });
        document.body.dispatchEvent(over);
        document.body.dispatchEvent(event);
        return [event.defaultPrevented, over.defaultPrevented,
            document.querySelector('.drop').classList.contains('shown')]";
    let found = browser.run(script, vec![]).await?;
    ensure!(found == json!([false, false, false]), "{found}");
    browser.stop(&[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_down_is_no_empty_site() -> Result<()> {
    let site = Site::serve(&examples()?)?;
    let browser = Browser::start().await?;
    let source = "const fetched = window.fetch.bind(window);
        window.fetch = (request, ...rest) => (request.url ?? request).includes('index.json')
            ? Promise.resolve(new Response('', { status: 503 })) : fetched(request, ...rest);";
    browser.command("Page.addScriptToEvaluateOnNewDocument", json!({ "source": source })).await?;
    browser.open(&site.url).await?;
    browser.expect(".page-problem", "the host answered 503").await?;
    ensure!(!browser.has(".welcome").await, "the page invites to open files");
    browser.stop(&[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_corresponds_is_pinned_and_hidden_in_results_of_other_lengths() -> Result<()> {
    let [queen, duchess] = [example("Queen Elizabeth")?, example("the duchess")?];
    let site = Site::serve(&[queen.clone(), duchess.clone()])?;
    let position = |document: &Document, from_end: usize| {
        document.sentence_start + document.token_labels.len() - from_end
    };
    let browser = Browser::start().await?;
    let url = format!("{}#/c/{},{}", site.url, queen.id, duchess.id);
    let in_panes = async |layer: usize, from_end: usize| {
        for (pane, document) in [(1, &queen), (2, &duchess)] {
            let place = format!("layer {layer} · position {}", position(document, from_end));
            browser.expect(&format!(".pane:nth-child({pane}) .pane-cell"), &place).await?;
        }
        Ok::<_, anyhow::Error>(())
    };
    browser.open(&url).await?;
    browser.driver.find(By::Css(".pane:nth-child(3) .stage")).await?;
    browser.point(&queen, 12, 3).await?;
    in_panes(12, queen.token_labels.len() - 3).await?;
    browser.driver.action_chain().click().perform().await?;
    browser.expect(".pane:nth-child(3) .spoken", "Difference").await?;
    // The longer one names the position in the address, from which all find their own.
    let pin = format!("pin=12%2C{}", position(&duchess, queen.token_labels.len() - 3));
    for _ in 0..40 {
        if browser.driver.current_url().await?.as_str().contains(&pin) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let link = browser.driver.current_url().await?.to_string();
    ensure!(link.contains(&pin), "{pin} is not in {link}");
    browser.open("about:blank").await?;
    browser.open(&link).await?;
    in_panes(12, queen.token_labels.len() - 3).await?;

    // All but the last three columns are hidden: the first that is left is the third from the end.
    let hide = format!("{}-{}", duchess.sentence_start, position(&duchess, 4));
    browser.open("about:blank").await?;
    browser.open(&format!("{url}?hide={hide}")).await?;
    browser.driver.find(By::Css(".pane:nth-child(3) .stage")).await?;
    browser
        .expect(".menu summary", &format!("3 of {} columns", duchess.token_labels.len()))
        .await?;
    for pane in [1, 2] {
        let focus = format!("document.querySelector('.pane:nth-child({pane}) .stage').focus()");
        browser.run(&focus, vec![]).await?;
        browser.keys(&[Key::Escape, Key::Home]).await?;
        in_panes(0, 3).await?;
    }
    browser.stop(&[]).await
}
