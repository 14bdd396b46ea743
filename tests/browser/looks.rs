//! Whether everybody can read and use the page: contrast, names, narrow screens, sharp pictures.

use std::path::Path;

use anyhow::{Result, ensure};
use browser_tests::{Browser, Server, Site, example, examples, folder};
use serde_json::{Value, json};

/// Every text whose contrast is below WCAG's AA, with both colours.
const FAINT_TEXTS: &str = "
    const rgba = (text) => {
        const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
        return text.startsWith('color(srgb') ? [255 * r, 255 * g, 255 * b, a] : [r, g, b, a];
    };
    const over = (top, below) =>
        [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
    const ground = (element) => {
        if (!element) return [255, 255, 255, 1];
        const own = rgba(getComputedStyle(element).backgroundColor);
        return own[3] === 1 ? own : over(own, ground(element.parentElement));
    };
    const luminance = (colour) => {
        const [r, g, b] = colour.map((c) => {
            c /= 255;
            return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const faint = new Set();
    let n = 0;
    for (const element of document.querySelectorAll('body *')) {
        const texts = [...element.childNodes].filter((node) => node.nodeType === 3);
        if (!texts.some((node) => node.data.trim()) || element.closest('[disabled]')) continue;
        if (!element.checkVisibility({ visibilityProperty: true })) continue;
        const style = getComputedStyle(element), below = ground(element);
        const text = over(rgba(element instanceof SVGElement ? style.fill : style.color), below);
        const [a, b] = [luminance(text) + 0.05, luminance(below) + 0.05];
        const ratio = Math.max(a, b) / Math.min(a, b), px = parseFloat(style.fontSize);
        const large = px >= 24 || (px >= 18.66 && style.fontWeight >= 700);
        n += 1;
        if (ratio < (large ? 3 : 4.5)) {
            faint.add(`${ratio.toFixed(2)} ${element.className} ${texts[0].data.trim()}`);
        }
    }
    return [n, [...faint]];";

/// A server with a tiny model, and its pages: with a preview, with bad rows, with jobs of all
/// kinds, with a list.
async fn server(browser: &Browser, data: &Path) -> Result<(Server, Vec<(String, &'static str)>)> {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../oracle/models/tiny-llama3");
    let program = env!("CARGO_BIN_EXE_browser-tests-server");
    let server = Server::start(program, data, &["--model", &model.display().to_string()])?;
    let pair = |entity: &str, n: usize| {
        json!({ "entity": entity, "source": "The king orders ".repeat(n), "base":
            "The king watches ".repeat(n) })
    };
    let few: Vec<_> = (0..3).map(|i| pair(&format!("king {i}"), 1 + i)).collect();
    let many: Vec<_> = (0..100).map(|i| pair(&format!("queen {i}"), 3)).collect();
    browser.open(&server.url).await?;
    let submitted = browser
        .driver
        .execute_async(
            "const [few, many, documents, done] = arguments;
            const send = (path, body) => fetch(path, { method: 'POST', body: JSON.stringify(body),
                headers: { 'Content-Type': 'application/json' } }).then((answer) => answer.json());
            (async () => {
                await send('api/import', documents);
                const job = await send('api/jobs', { name: 'A few', pairs: few });
                const next = await send('api/jobs', { name: 'Very many', pairs: many });
                await send('api/jobs', { name: 'Waits', pairs: many.slice(50) });
                await send(`api/jobs/${(await send('api/jobs', { name: 'Cancelled',
                    pairs: many })).job.id}/cancel`, {});
                done([job.job.id, next.pairs[99].experiment]);
            })().catch((error) => done(`${error}`));",
            vec![json!(few), json!(many), serde_json::to_value(examples()?)?],
        )
        .await?;
    let ids: [String; 2] = serde_json::from_value(submitted.json().clone())?;
    let pages = [
        ("#/".to_string(), ".entry"),
        ("#/new?entity=A&source=The+king+orders+it.&base=The+king+watches.".to_string(), ".gloss"),
        ("#/new?table=1&template=none".to_string(), ".table-text"),
        ("#/queue".to_string(), ".job:nth-child(4)"),
        (format!("#/j/{}", ids[0]), ".pairs tbody tr"),
        (format!("#/e/{}", ids[1]), "main h1"),
        (format!("#/study/job/{}?keep=all", ids[0]), ".multiple"),
    ];
    let pages = pages.map(|(page, ready)| (format!("{}{page}", server.url), ready));
    Ok((server, pages.into()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_servers_pages_can_be_read_used_and_carried() -> Result<()> {
    let browser = Browser::start().await?;
    let (_folder, data) = folder()?;
    let (_server, pages) = server(&browser, &data).await?;
    for (theme, width) in [("light", 1280), ("dark", 1280), ("light", 360), ("dark", 360)] {
        browser.prefer(theme).await?;
        browser.screen(width, 1.0).await?;
        for (page, ready) in &pages {
            browser.open("about:blank").await?;
            browser.open(page).await?;
            browser.expect(ready, "").await?;
            let found = browser.run(FAINT_TEXTS, vec![]).await?;
            ensure!(found[0].as_u64() > Some(4), "{page}: {found}");
            ensure!(found[1] == json!([]), "{theme} {page}: {found}");
            names(&browser, page, 4).await?;
            let found = browser.run("return document.documentElement.scrollWidth", vec![]).await?;
            ensure!(found.as_u64() <= Some(width.into()), "{page} is {found} wide");
            // For whoever wants to look.
            if let Some(folder) = std::env::var_os("PATCHBOARD_SCREENSHOTS") {
                let name = page.rsplit('#').next().unwrap_or_default();
                let name: String =
                    name.chars().filter(char::is_ascii_alphanumeric).take(20).collect();
                let path = Path::new(&folder).join(format!("{name}-{theme}-{width}.png"));
                browser.driver.screenshot(&path).await?;
            }
        }
    }
    browser.stop(&[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_stand_out_in_both_themes() -> Result<()> {
    let site = Site::serve(&examples()?)?;
    let [duchess, bishop] = [example("the duchess")?, example("the bishop")?];
    let browser = Browser::start().await?;
    for theme in ["light", "dark"] {
        browser.prefer(theme).await?;
        for (page, ready) in [
            ("#/?pick=x".to_string(), ".picked-bar"),
            (format!("#/e/{}?pin=12,135&table=1", duchess.id), ".grid-table"),
            (format!("#/c/{},{}?pin=12,135", duchess.id, bishop.id), ".pane:nth-child(3)"),
            ("#/nowhere".to_string(), ".page-problem"),
        ] {
            browser.open("about:blank").await?;
            browser.open(&format!("{}{page}", site.url)).await?;
            browser.expect(ready, "").await?;
            browser.driver.find(thirtyfour::By::Css(ready)).await?;
            let found = browser.run(FAINT_TEXTS, vec![]).await?;
            ensure!(found[0].as_u64() > Some(4), "{page}: {found}");
            ensure!(found[1] == json!([]), "{theme} {page}: {found}");
        }
    }
    // The reader's choice goes before the system's, and lasts.
    browser.press("Light theme").await?;
    browser.open(&site.url).await?;
    let theme = browser.run("return document.documentElement.dataset.theme", vec![]).await?;
    ensure!(theme == json!("light"), "{theme}");
    browser.stop(&[]).await
}

/// Whether everything on the page that can be used has a name, and that there are more than `n`.
async fn names(browser: &Browser, page: &str, n: usize) -> Result<()> {
    browser.command("Accessibility.enable", json!({})).await?;
    let tree = browser.command("Accessibility.getFullAXTree", json!({})).await?;
    let nodes = tree["nodes"].as_array().cloned().unwrap_or_default();
    let roles = [
        "button",
        "checkbox",
        "combobox",
        "link",
        "searchbox",
        "spinbutton",
        "region",
        "textbox",
        "progressbar",
    ];
    let used: Vec<&Value> = nodes
        .iter()
        .filter(|node| roles.iter().any(|role| node["role"]["value"] == *role))
        .collect();
    ensure!(used.len() > n, "{page}: {}", used.len());
    for node in used {
        let name = node["name"]["value"].as_str().unwrap_or_default();
        ensure!(!name.trim().is_empty(), "{page}: {node}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_can_be_used_has_a_name() -> Result<()> {
    let document = example("the duchess")?;
    let site = Site::serve(&examples()?)?;
    let browser = Browser::start().await?;
    for page in [format!("#/e/{}?pin=12,135&range=0,1&table=1", document.id), "#/".to_string()] {
        browser.open("about:blank").await?;
        browser.open(&format!("{}{page}", site.url)).await?;
        browser.expect("main h1", "").await?;
        browser.driver.find(thirtyfour::By::Css("main h1")).await?;
        names(&browser, &page, 10).await?;
    }
    browser.stop(&[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_fit_phones_and_pictures_are_sharp() -> Result<()> {
    let site = Site::serve(&examples()?)?;
    let [duchess, bishop] = [example("the duchess")?, example("the bishop")?];
    let browser = Browser::start().await?;
    for (width, ratio) in [(360, 2.0), (360, 3.0), (1280, 1.0), (2200, 1.5)] {
        browser.screen(width, ratio).await?;
        for page in [
            "#/?pick=x".to_string(),
            format!("#/e/{}?pin=12,135&table=1", duchess.id),
            format!("#/c/{},{}", duchess.id, bishop.id),
        ] {
            browser.open("about:blank").await?;
            browser.open(&format!("{}{page}", site.url)).await?;
            browser.driver.find(thirtyfour::By::Css("canvas, .entry img")).await?;
            let found = browser
                .run(
                    "const canvas = document.querySelector('.stage canvas');
                    return [
                        document.documentElement.scrollWidth,
                        canvas ? canvas.width / canvas.getBoundingClientRect().width : null,
                    ]",
                    vec![],
                )
                .await?;
            ensure!(found[0].as_f64() <= Some(f64::from(width)), "{width} {page}: {found}");
            if let Some(found) = found[1].as_f64() {
                ensure!((found - ratio).abs() < 1e-3, "{width} {page}: {found} for {ratio}");
            }
        }
    }
    browser.stop(&[]).await
}
