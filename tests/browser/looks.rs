//! Whether everybody can read and use the page: contrast, names, narrow screens, sharp pictures.

use anyhow::{Result, ensure};
use browser_tests::{Browser, Site, example, examples};
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
        browser.command("Accessibility.enable", json!({})).await?;
        let tree = browser.command("Accessibility.getFullAXTree", json!({})).await?;
        let nodes = tree["nodes"].as_array().cloned().unwrap_or_default();
        let roles = ["button", "checkbox", "combobox", "link", "searchbox", "spinbutton", "region"];
        let used: Vec<&Value> = nodes
            .iter()
            .filter(|node| roles.iter().any(|role| node["role"]["value"] == *role))
            .collect();
        ensure!(used.len() > 10, "{page}: {}", used.len());
        for node in used {
            let name = node["name"]["value"].as_str().unwrap_or_default();
            ensure!(!name.trim().is_empty(), "{page}: {node}");
        }
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
            browser.driver.find(thirtyfour::By::Css("canvas")).await?;
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
