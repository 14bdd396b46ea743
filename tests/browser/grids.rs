//! Results with several grids: sites, directions, heads, sets of positions, slices, the logit lens.

use std::fs;

use anyhow::{Result, ensure};
use browser_tests::{Browser, Site, example, folder};
use serde_json::json;
use shared::document::{
    AxisKeys, CellGrid, Document, DocumentSpan, LensGrid, Prompt, TopToken, Verification,
};
use shared::field::Field;
use shared::field::axis::Coordinate;
use shared::field::chosen::{Choice, GridName};
use shared::field::metric::Metric;
use shared::specification::vocabulary::{Direction, Site as Place, Span, Written};
use shared::wire::numbers;
use thirtyfour::prelude::*;

/// A grid in which every list is there, with values that tell cells and grids apart.
fn grid(site: Place, direction: Direction, axes: Vec<AxisKeys>) -> CellGrid {
    let n = axes.iter().map(AxisKeys::len).product::<usize>();
    let shift = site as u8 as f32 + if direction == Direction::Noising { 0.5 } else { 0.0 };
    let list = |scale: f32| (0..n).map(|i| Some(shift + scale * (i as f32).sin())).collect();
    let top = |i: usize| {
        vec![TopToken { id: 7, p: Some(0.5) }, TopToken { id: 9, p: Some(1e-3 * i as f32) }]
    };
    CellGrid {
        site,
        direction,
        window: 3,
        write: Written::Source,
        axes,
        logit_diff: list(2.0),
        p_true: Some(vec![Some(0.25); n]),
        p_false: Some(vec![Some(0.125); n]),
        kl_base: Some(list(0.1)),
        kl_source: Some(list(0.2)),
        rank_true: Some((0..n).map(|i| Some(1.0 + i as f32)).collect()),
        rank_false: Some(vec![Some(2.0); n]),
        top: Some((0..n).map(|i| Some(top(i))).collect()),
    }
}

/// An example with grids of every kind; the first is the example's own.
fn of_all_kinds() -> Result<Document> {
    let mut document = example("the bishop")?;
    let n_layers = document.num_layers;
    let n_base = document.base_tokens.len();
    let layers = || AxisKeys::Layer((0..n_layers).collect());
    let swept = || AxisKeys::Position((document.sentence_start..n_base).collect());
    let heads = |n: usize| AxisKeys::Head((0..n).collect());
    let spans = vec![Span::Entity, Span::Sentence];
    let own = grid(Place::ResidPost, Direction::Denoising, vec![layers(), swept()]);
    let values: Vec<_> = document.patching_results.cells().collect();
    let grids = vec![
        CellGrid { logit_diff: values, window: 1, ..own },
        grid(Place::ResidPost, Direction::Noising, vec![layers(), swept()]),
        grid(Place::Z, Direction::Denoising, vec![layers(), heads(9)]),
        grid(Place::Key, Direction::Denoising, vec![layers(), heads(3), swept()]),
        grid(Place::MlpOut, Direction::Denoising, vec![layers(), AxisKeys::Span(spans)]),
    ];
    let every = || vec![layers(), AxisKeys::Position((0..n_base).collect())];
    let lens = grid(Place::ResidPost, Direction::Denoising, every());
    document.lens = vec![LensGrid {
        run: Prompt::Base,
        axes: every(),
        p_true: vec![Some(0.5); lens.logit_diff.len()],
        p_false: vec![Some(0.5); lens.logit_diff.len()],
        top: vec![None; lens.logit_diff.len()],
        logit_diff: lens.logit_diff,
    }];
    let at = document.sentence_start;
    document.spans =
        vec![DocumentSpan { span: Span::Entity, base: vec![at, at + 1], source: vec![at, at + 1] }];
    document.grids = grids;
    document.token_texts = [(7, " yes".to_string()), (9, " no".to_string())].into();
    document.verification = Some(Verification {
        n_cells: 6,
        max_abs_diff: Some(3.2e-6),
        self_patch: Some(0.0),
        n_unreachable: Some(4),
        unreachable_equal: Some(true),
        alone: Some(1e-7),
        controls: None,
        recheck: None,
    });
    Ok(document)
}

fn choice(grid: &str, at: Option<Coordinate>) -> Result<Choice> {
    Ok(Choice { grid: Some(grid.parse::<GridName>()?), at })
}

async fn point(
    browser: &Browser,
    document: &Document,
    choice: Choice,
    (row, column): (usize, usize),
) -> Result<String> {
    let (x, y) = browser.place_in(document, choice, row, column).await?;
    browser.driver.action_chain().move_to(x as i64, y as i64).perform().await?;
    let field = Field::of(document, choice, Metric::LogitDiff)?;
    let value = numbers::logit_diff(field.values.get(row, column));
    browser.expect(".tooltip", &value).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_grid_can_be_chosen_and_names_its_cells() -> Result<()> {
    let document = of_all_kinds()?;
    let site = Site::serve(std::slice::from_ref(&document))?;
    let browser = Browser::start().await?;
    browser.open(&site.experiment(&document, "")).await?;
    browser
        .expect(".certificate", "Verified: 6 cells run again one by one, at most 3.2e−6")
        .await?;
    browser.expect(".certificate", "4 cells that cannot matter equal").await?;
    let told = point(&browser, &document, Choice::default(), (12, 3)).await?;
    ensure!(told.contains("resid_post") && told.contains("layer 12 · position"), "{told}");
    // (grid, what the tooltip names, what the page says)
    let last = document.token_labels.len() - 1;
    type Case<'a> = (&'a str, (usize, usize), &'a [&'a str], &'a str);
    let cases: [Case; 5] = [
        ("resid_post.noising", (2, last), &["noising", "position"], "× "),
        ("z.denoising", (20, 8), &["head 8", "layer 20", "z", "2.", "·no"], "30 layers × 9 heads"),
        ("k.denoising", (29, 1), &["key head 0", "Rank of"], "tokens"),
        ("mlp_out.denoising", (3, 0), &["entity", "3 layers at a time"], "2 sets of positions"),
        ("lens.base", (1, 40), &["logit lens", "position 40"], "30 layers × "),
    ];
    for (name, cell, tips, facts) in cases {
        browser.choose("Grid", name).await?;
        browser.expect(".facts", facts).await?;
        let told = point(&browser, &document, choice(name, None)?, cell).await?;
        for tip in tips {
            ensure!(told.contains(tip), "{name}: {tip} is not in {told}");
        }
        let url = browser.driver.current_url().await?.to_string();
        ensure!(url.contains(&format!("grid={name}")), "{url}");
    }
    // The lens has no recovery, and a metric that a grid lacks gives way.
    ensure!(browser.has("button[disabled][title^='None of the results']").await, "recovery");
    browser.choose("Grid", "k.denoising").await?;
    browser.press("Rank of TRUE").await.or(Ok::<_, anyhow::Error>(()))?;
    browser.choose("Map", "2").await?;
    browser.expect(".facts", "30 layers × 3 key heads").await?;
    let at = document.base_tokens.len() - 1;
    let url = browser.driver.current_url().await?.to_string();
    ensure!(url.contains(&format!("at={at}")), "the last token is shown first: {url}");
    browser.choose("Position", "0").await?;
    browser.expect(".facts", &format!("position {}", document.sentence_start)).await?;
    browser.choose("Map", "0").await?;
    browser.expect(".facts", "3 key heads × ").await?;
    browser.driver.back().await?;
    browser.driver.back().await?;
    browser.expect(".facts", &format!("position {at}")).await?;
    browser.choose("Grid", "lens.base").await?;
    browser.expect("[aria-pressed=true]", "Logit difference").await?;
    browser.stop(&[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn links_to_what_is_not_there_say_so_and_nothing_breaks() -> Result<()> {
    let document = of_all_kinds()?;
    let mut shallow = of_all_kinds()?;
    shallow.id = "5a".repeat(10);
    shallow.grids.truncate(2);
    shallow.lens.clear();
    let plain = example("the duchess")?;
    let site = Site::serve(&[document.clone(), shallow.clone(), plain.clone()])?;
    let browser = Browser::start().await?;
    let [a, b, c] = [&document, &shallow, &plain].map(|document| document.id.clone());
    for (page, expected) in [
        (format!("e/{b}?grid=z.denoising"), "The result has no grid `z.denoising`"),
        (format!("e/{c}?grid=lens.source"), "The result has no grid `lens.source`"),
        (format!("e/{a}?grid=k.denoising&at=h77"), "The grid has no head 77"),
        (format!("e/{a}?grid=k.denoising&at=99999"), "The grid has no position 99999"),
        (format!("e/{a}?grid=nonsense&at=x"), ""),
        (format!("e/{a}?grid=z.denoising&hide=0-999&pin=3,130"), ""),
        (format!("e/{a}?grid=z.denoising&pin=3,h4&table=1&metric=rank_true"), ""),
        (format!("e/{a}?grid=lens.base&metric=recovery"), "The logit lens has no recovery"),
        (format!("e/{a}?grid=k.denoising&at=l3&transpose=1&origin=bottom"), ""),
        (format!("c/{a},{b}?grid=z.denoising&pin=3,h4"), "The result has no grid"),
        (format!("c/{a},{b},{c}?pin=3,130"), ""),
        (format!("c/{c},{a}?grid=lens.base"), "The result has no grid"),
        (format!("c/{a},{b}?grid=resid_post.noising&metric=kl_source"), ""),
    ] {
        browser.open("about:blank").await?;
        browser.open(&format!("{}#/{page}", site.url)).await?;
        browser.expect("main h1", "").await?;
        if !expected.is_empty() {
            browser.expect(".problem", expected).await?;
        }
        // The pointer over everything, whatever is there.
        let script = "
            for (const stage of document.querySelectorAll('.stage')) {
                const box = stage.getBoundingClientRect();
                for (let i = 0; i < 60; i++) {
                    stage.dispatchEvent(new PointerEvent('pointermove', { bubbles: true,
                        clientX: box.left + box.width * (i * 7 % 60) / 60,
                        clientY: box.top + box.height * i / 60 }));
                }
                for (const key of ['ArrowDown', 'Enter', 'ArrowRight', 'End', 'Enter', 'Escape']) {
                    stage.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
                }
            }
            return document.documentElement.dataset.state;";
        let state = browser.run(script, vec![]).await?;
        ensure!(state == json!("running"), "{page}: {state}");
        if let Some(folder) = std::env::var_os("PATCHBOARD_SCREENSHOTS") {
            let name: String = page.chars().filter(char::is_ascii_alphanumeric).collect();
            let name = name.replace(&a, "a").replace(&b, "b").replace(&c, "c");
            browser.driver.screenshot(&std::path::Path::new(&folder).join(name + ".png")).await?;
        }
    }
    browser.stop(&[]).await
}

/// Of results compared, an address counts positions in the base of the one with the most columns, for
/// maps and controls, even where that one lacks the grid.
#[tokio::test(flavor = "multi_thread")]
async fn controls_and_maps_show_the_same_slice() -> Result<()> {
    let (longest, other) = (example("the duchess")?, of_all_kinds()?);
    let [n_longest, n_other] = [&longest, &other].map(|document| document.base_tokens.len());
    ensure!(longest.token_labels.len() > other.token_labels.len() && n_longest > n_other);
    let site = Site::serve(&[longest.clone(), other.clone()])?;
    let browser = Browser::start().await?;
    // The fifth position from the end of both.
    let page = format!("c/{},{}?grid=k.denoising&at={}", longest.id, other.id, n_longest - 5);
    browser.open(&format!("{}#/{page}", site.url)).await?;
    let shown = format!("position {}", n_other - 5);
    browser.expect(".panes section:nth-child(2) .facts", &shown).await?;
    let script = "
        const label = [...document.querySelectorAll('label')].find((label) =>
            label.querySelector('span')?.textContent.trim() === 'Position');
        return label?.querySelector('select').value;";
    let shown = browser.run(script, vec![]).await?;
    ensure!(shown == json!((other.token_labels.len() - 5).to_string()), "{shown}");
    browser.stop(&[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_and_files_hold_the_grid_that_is_shown() -> Result<()> {
    let document = of_all_kinds()?;
    let site = Site::serve(&[])?;
    let (_folder, path) = folder()?;
    let file = path.join("all.json");
    fs::write(&file, document.to_json())?;
    let browser = Browser::start().await?;
    browser.open(&site.url).await?;
    browser.expect(".welcome", "Open a result document").await?;
    browser.drop_file(&file).await?;
    browser.expect("main h1", &document.entity).await?;
    browser.choose("Grid", "z.denoising").await?;
    browser.expect(".facts", "9 heads").await?;
    let hook = "window.saved = {};
        const made = URL.createObjectURL.bind(URL);
        URL.createObjectURL = (blob) => { saved[blob.type] = blob; return made(blob); };
        window.copied = '';
        navigator.clipboard.writeText = async (text) => { copied = text; };";
    browser.run(hook, vec![]).await?;
    for kind in ["CSV", "SVG"] {
        browser
            .driver
            .find(By::Css(format!("[aria-label='Download {kind}']")))
            .await?
            .click()
            .await?;
    }
    let text = "const done = arguments[arguments.length - 1];
        Promise.all(['text/csv', 'image/svg+xml'].map((t) => saved[t].text())).then(done);";
    let saved: [String; 2] = serde_json::from_value(browser.run_async(text).await?)?;
    ensure!(saved[0].lines().count() == 1 + 30 * 9, "{}", saved[0].lines().count());
    ensure!(saved[0].lines().nth(1).is_some_and(|row| row.starts_with("z,denoising,0,0,,")));
    ensure!(saved[1].contains("Head") && saved[1].contains(" · z · "), "{}", saved[1]);
    browser.press("Copy self-contained link").await?;
    browser.expect(".done", "Self-contained link copied").await?;
    let link = browser.run("return copied", vec![]).await?;
    let link = link.as_str().unwrap_or_default().to_string();
    let told = browser.text(".done").await?;
    browser.open("about:blank").await?;
    browser.open(&link).await?;
    browser.expect(".facts", "9 heads").await?;
    point(&browser, &document, choice("z.denoising", None)?, (7, 3)).await?;
    if told.contains("without") {
        browser.expect(".note", "for which there was no room: ").await?;
    }
    browser.expect(".certificate", "Verified: 6 cells").await?;
    browser.stop(&[]).await
}
