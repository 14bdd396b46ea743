//! Whatever is opened, compared, pointed at and pressed, the page goes on.
//!
//! Everything is drawn from a seed, which a failure names: set `PATCHBOARD_SEED` to see it again.

use std::fs;

use anyhow::{Result, ensure};
use browser_tests::{Browser, Site};
use fastrand::Rng;
use serde_json::{Value, json};
use shared::document::Document;
use thirtyfour::prelude::*;

/// How many documents are drawn, and how many pages of them.
const N_DOCUMENTS: usize = 14;
const N_PAGES: u64 = 24;

fn seed() -> u64 {
    std::env::var("PATCHBOARD_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_125)
}

/// A number from 1 to `most`; small, large and extreme ones are about as frequent.
fn size(rng: &mut Rng, most: usize) -> usize {
    match rng.u32(0..4) {
        0 => 1,
        1 => rng.usize(1..=3.min(most)),
        2 => rng.usize(1..=most),
        _ => most,
    }
}

fn grid(rng: &mut Rng, n_layers: usize, n_columns: usize, scale: f32) -> Value {
    let share_missing = [0.0, 0.1, 1.0][rng.usize(0..3)];
    let value = |rng: &mut Rng| (rng.f32() >= share_missing).then(|| (rng.f32() - 0.3) * scale);
    let row = |rng: &mut Rng| (0..n_columns).map(|_| value(rng)).collect::<Vec<_>>();
    json!((0..n_layers).map(|_| row(rng)).collect::<Vec<_>>())
}

/// A grid of up to four axes, some lists of which are missing.
fn cells(rng: &mut Rng, n_layers: usize, n_positions: usize) -> Value {
    let some = |rng: &mut Rng, n: usize| -> Vec<usize> {
        let keys: Vec<_> = (0..n.min(40)).filter(|_| rng.bool()).collect();
        if keys.is_empty() { vec![n - 1] } else { keys }
    };
    let mut axes = vec![json!({ "axis": "layer", "keys": some(rng, n_layers) })];
    for _ in 0..[0, 1, 1, 1, 2, 2, 3][rng.usize(0..7)] {
        axes.push(match rng.usize(0..3) {
            0 => json!({ "axis": "head", "keys": some(rng, 5) }),
            // Some lie beyond the prompt.
            1 => json!({ "axis": "position", "keys": some(rng, n_positions + 2) }),
            _ => json!({ "axis": "span", "keys": ["entity", "all"] }),
        });
    }
    let n = axes.iter().filter_map(|axis| Some(axis["keys"].as_array()?.len())).product();
    let list = |rng: &mut Rng| grid(rng, 1, n, 3.0)[0].clone();
    let top = json!([[{ "id": 0, "p": 0.5 }, { "id": 7, "p": null }]]);
    let site = ["z", "k", "attn_out"][rng.usize(0..3)];
    let direction = ["denoising", "noising"][rng.usize(0..2)];
    let write = ["source", "zero"][rng.usize(0..2)];
    let mut cells = json!({
        "site": site, "direction": direction, "window": 1, "write": write,
        "axes": axes, "logit_diff": list(rng),
    });
    for name in ["p_true", "p_false", "kl_base", "kl_source", "rank_true", "rank_false"] {
        if rng.bool() {
            cells[name] = list(rng);
        }
    }
    if rng.bool() {
        cells["top"] = (0..n).map(|_| top[0].clone()).collect();
    }
    cells
}

/// A result that somebody might have: of any shape, with or without tokens, readout, baselines.
fn document(rng: &mut Rng, index: usize) -> Result<Document> {
    let (n_layers, n_columns) = match index {
        0 => (1, 1),
        1 => (80, 200),
        _ => (size(rng, 80), size(rng, 200)),
    };
    let texts = [
        "",
        " ",
        " a",
        "\n",
        "<b>",
        "שלום",
        " 中文",
        "x\u{200d}y",
        "👨\u{200d}👩\u{200d}👧",
        "\u{202e}",
    ];
    let text = |rng: &mut Rng| texts[rng.usize(0..texts.len())];
    let start = [0, 1, rng.usize(0..150)][rng.usize(0..3)];
    let tokens = |rng: &mut Rng, n: usize| -> Value {
        (0..n).map(|_| json!({ "id": rng.u32(0..9), "text": text(rng) })).collect()
    };
    let labels: Vec<_> = (0..n_columns).map(|_| text(rng)).collect();
    let model = if rng.bool() { "m" } else { "another/model" };
    let mut value = json!({
        "schema": "patchboard/1",
        "id": format!("{index:020x}"),
        "model": model,
        "entity": text(rng),
        "source_prompt": "", "base_prompt": "",
        "source_sentence": text(rng).repeat(20),
        "base_sentence": text(rng),
        "sentence_start": start,
        "token_labels": labels,
        "num_layers": n_layers,
        "patching_results": grid(rng, n_layers, n_columns, 10.0),
    });
    if rng.bool() {
        let n_source = (start + n_columns).saturating_sub(rng.usize(0..4)) + rng.usize(0..3);
        value["source_tokens"] = tokens(rng, n_source);
        value["base_tokens"] = tokens(rng, start + n_columns);
    }
    if rng.bool() {
        let run = |rng: &mut Rng| {
            let p = rng.f32();
            json!({ "logit_diff": p * 5.0, "p_true": p, "p_false": 1.0 - p, "p_top": p,
                "top_token": { "id": 1, "text": text(rng) } })
        };
        value["baselines"] = json!({ "source": run(rng), "base": run(rng) });
    }
    if rng.bool() {
        let ids: Vec<Vec<_>> =
            (0..n_layers).map(|_| (0..n_columns).map(|_| rng.u32(0..3)).collect()).collect();
        value["readout"] = json!({
            "p_true": grid(rng, n_layers, n_columns, 1.0),
            "p_false": grid(rng, n_layers, n_columns, 1.0),
            "top_token": ids,
            // One id has no text.
            "top_token_labels": { "0": text(rng), "1": text(rng) },
        });
    }
    if rng.bool() {
        let n_positions = start + n_columns;
        value["direction"] = ["denoising", "noising"][rng.usize(0..2)].into();
        value["grids"] = (0..rng.usize(1..5)).map(|_| cells(rng, n_layers, n_positions)).collect();
        value["spans"] = json!([{ "span": "entity", "base": [0, 999], "source": [start] }]);
    }
    Ok(Document::read(value.to_string().as_bytes())?.remove(0))
}

/// How the page is to show it: links of others may say anything.
fn query(rng: &mut Rng) -> String {
    let metric = ["logit_diff", "recovery", "p_true", "p_false", "change"][rng.usize(0..5)];
    let colours = ["notebook", "rdbu", "viridis"][rng.usize(0..3)];
    let (layer, position) = (rng.usize(0..90), rng.usize(0..300));
    let first = rng.usize(0..200);
    let hide = ["".to_string(), format!("&hide={first}-{}", first + 40), "&hide=0-400".into()];
    let range = ["", "&range=-1,2", "&range=5,6"][rng.usize(0..3)];
    format!(
        "?metric={metric}&colours={colours}&pin={layer},{position}{}{range}&transpose={}\
         &origin={}&table={}",
        hide[rng.usize(0..3)],
        rng.u32(0..2),
        ["top", "bottom"][rng.usize(0..2)],
        rng.u32(0..2),
    )
}

/// Points, types and presses wherever something is, in an order drawn from a seed. The pointer
/// leaves nothing behind it: whatever goes away, goes away under it.
const PLAY: &str = "
    const [seed, nSteps, done] = arguments;
    let state = seed >>> 0;
    const random = (n) => {
        state = (state + 0x6d2b79f5) >>> 0;
        let t = Math.imul(state ^ (state >>> 15), 1 | state);
        t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
        return ((t ^ (t >>> 14)) >>> 0) % n;
    };
    const pick = (list) => list[random(list.length)];
    const all = (css) => [...document.querySelectorAll(css)].filter((e) => e.checkVisibility());
    const at = (stage, x, y) => {
        const rect = stage.getBoundingClientRect();
        return { bubbles: true, cancelable: true, pointerType: pick(['mouse', 'touch']),
            clientX: rect.left + rect.width * x, clientY: rect.top + rect.height * y };
    };
    const keys = ['ArrowLeft', 'ArrowRight', 'ArrowUp', 'ArrowDown', 'Home', 'End', 'Enter',
        ' ', 'Escape'];
    const frame = () => new Promise((next) => {
        const channel = new MessageChannel();
        channel.port1.onmessage = next;
        channel.port2.postMessage(0);
    });
    const change = (element, value) => {
        element.value = value;
        element.dispatchEvent(new Event('change', { bubbles: true }));
    };
    const steps = [
        // A sweep over all of a map and what is around it.
        () => {
            const stage = pick(all('.stage'));
            if (!stage) return;
            for (let i = 0; i <= 6; i += 1) for (let j = 0; j <= 6; j += 1) {
                stage.dispatchEvent(new PointerEvent('pointermove', at(stage, i / 6, j / 6)));
            }
        },
        () => {
            const stage = pick(all('.stage'));
            if (!stage) return;
            const place = at(stage, random(100) / 100, random(100) / 100);
            for (const kind of ['pointermove', 'pointerdown', 'pointerup', 'click']) {
                stage.dispatchEvent(new PointerEvent(kind, place));
            }
        },
        () => {
            const stage = pick(all('.stage'));
            for (let i = 0; stage && i < 12; i += 1) {
                stage.dispatchEvent(
                    new KeyboardEvent('keydown', { key: pick(keys), bubbles: true }));
            }
        },
        () => pick(all('.segments button:not([disabled])'))?.click(),
        () => pick(all('.controls input[type=checkbox]'))?.click(),
        () => {
            const select = pick(all('.controls select'));
            if (select) change(select, pick([...select.options]).value);
        },
        () => pick(all('.menu-list input, .menu-choices button'))?.click(),
        () => {
            const menu = document.querySelector('.menu');
            if (menu) menu.open = !menu.open;
        },
        () => {
            const number = pick(all('.range input'));
            if (number) change(number, String(random(20) - 10));
        },
        () => window.scrollBy(0, random(800) - 400),
        () => history.back(),
        () => history.forward(),
    ];
    (async () => {
        for (let i = 0; i < nSteps; i += 1) {
            pick(steps)();
            await frame();
            if (document.documentElement.dataset.state !== 'running') break;
        }
        done(document.documentElement.dataset.state);
    })().catch((error) => done(`${error}`));";

/// Steps of the history to go back to, so that nobody leaves the site.
const STEPS: &str = "
    for (let i = 0; i < 40; i += 1) history.pushState(i, '', location.href);";

async fn play(browser: &Browser, seed: u64, n_steps: u32) -> Result<()> {
    let args = vec![json!(seed as u32), json!(n_steps)];
    let state = browser.driver.execute_async(PLAY, args).await?;
    let (state, url) = (state.json().clone(), browser.driver.current_url().await?);
    if state != json!("running") {
        let reason = browser.text("#defect-reason").await.unwrap_or_default();
        anyhow::bail!("the page is {state} after the seed {seed}: {reason}\n{url}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn any_two_results_are_opened_compared_and_pointed_at() -> Result<()> {
    let seed = seed();
    let mut rng = Rng::with_seed(seed);
    let documents: Vec<_> =
        (0..N_DOCUMENTS).map(|i| document(&mut rng, i)).collect::<Result<_>>()?;
    let site = Site::serve(&documents)?;
    let browser = Browser::start().await?;
    browser.open(&site.url).await?;
    browser.expect(".count", &format!("{N_DOCUMENTS} of {N_DOCUMENTS}")).await?;
    browser.run(STEPS, vec![]).await?;
    for page in 0..N_PAGES {
        let id = |rng: &mut Rng| documents[rng.usize(0..N_DOCUMENTS)].id.clone();
        // The smallest and the largest meet in both orders.
        let ids = match page {
            0 => format!("{},{}", documents[0].id, documents[1].id),
            1 => format!("{},{}", documents[1].id, documents[0].id),
            2 => format!("{},{},{}", id(&mut rng), id(&mut rng), id(&mut rng)),
            _ => format!("{},{}", id(&mut rng), id(&mut rng)),
        };
        let address = match rng.u32(0..3) {
            0 if page > 2 => format!("#/e/{}{}", id(&mut rng), query(&mut rng)),
            _ => format!("#/c/{ids}{}", query(&mut rng)),
        };
        // By a link, so that the page goes on from what it has.
        browser.run("location.hash = arguments[0]", vec![json!(address)]).await?;
        browser.driver.find(By::Css(".heatmap")).await?;
        play(&browser, seed.wrapping_add(page), 60).await?;
    }
    // So many steps in so short a time make the browser slow down.
    browser.stop(&["Throttling navigation"]).await
}

/// The job that it tells of.
const JOB: &str = "0123456789abcdef0123";

/// A server that says what the test wants: its answers and its events.
const PRETEND: &str = "
    window.EventSource = class {
        static OPEN = 1;
        static CLOSED = 2;
        constructor() {
            this.readyState = 1;
            this.heard = {};
            window.tell = (event) => this.heard[event.type]?.(
                { data: JSON.stringify(event) });
            setTimeout(() => this.onopen?.(), 0);
        }
        addEventListener(name, listener) { this.heard[name] = listener }
        close() {}
    };
    const fetched = window.fetch.bind(window);
    window.fetch = (request, ...rest) => {
        const path = new URL(request.url ?? request, location.href).pathname;
        const name = path.slice(path.lastIndexOf('api/'));
        const answer = ANSWERS[name];
        return path.includes('api/') ? Promise.resolve(new Response(JSON.stringify(answer ?? {
            type: 'about:blank', title: 'none', status: 404, detail: 'there is none' }),
            { status: answer ? 200 : 404 })) : fetched(request, ...rest);
    };";

#[tokio::test(flavor = "multi_thread")]
async fn a_pointer_rests_on_a_map_while_one_sweep_follows_another() -> Result<()> {
    let seed = seed();
    let mut rng = Rng::with_seed(seed);
    let n_pairs = 12;
    let job = json!({ "id": JOB, "name": "A table", "model": "m", "settings": {},
        "state": "running", "n_pairs": n_pairs, "n_done": 0, "n_failed": 0, "n_ahead": 0,
        "submitted_at": "2026-01-31T12:00:00Z", "started_at": null, "finished_at": null,
        "error": null });
    let pair = |index: usize, state: &str| {
        json!({ "index": index, "line": 0, "entity": format!("entity {index}"), "source": "a",
            "base": "b", "experiment": format!("{index:020}"), "state": state, "error": null })
    };
    let pairs: Vec<_> = (0..n_pairs).map(|i| pair(i, "queued")).collect();
    let path = format!("api/jobs/{JOB}");
    let answers = json!({ "api/jobs": { "jobs": [job] }, path: { "job": job, "pairs": pairs } });
    let site = Site::serve(&[])?;
    let index = site.folder.path().join("index.html");
    let page = fs::read_to_string(&index)?;
    fs::write(&index, page.replacen("<head>", "<head><meta name=\"patchboard-server\" />", 1))?;
    let browser = Browser::start().await?;
    let source = PRETEND.replace("ANSWERS", &answers.to_string());
    browser.command("Page.addScriptToEvaluateOnNewDocument", json!({ "source": source })).await?;
    browser.open(&format!("{}#/j/{JOB}", site.url)).await?;
    browser.expect("main h1", "A table").await?;
    let tell = async |event: Value| {
        browser.run("window.tell(arguments[0])", vec![event]).await?;
        Ok::<_, anyhow::Error>(())
    };
    browser.run(STEPS, vec![]).await?;
    tell(json!({ "type": "snapshot", "jobs": [job], "live": [] })).await?;
    // Longer and shorter by turns: what was pointed at last is not there in the next.
    let shapes = [(30, 40), (30, 3), (1, 1), (80, 200), (12, 5), (2, 60)];
    for index in 0..n_pairs {
        let (n_layers, n_columns) = shapes[index % shapes.len()];
        let start = rng.usize(0..100);
        let live = json!({ "job": JOB, "index": index, "experiment": format!("{index:020}"),
            "model": "m", "entity": "", "n_layers": n_layers, "sentence_start": start,
            "token_labels": vec![" t"; n_columns], "share": 0.1, "left_secs": null,
            "baselines": null, "columns": [], "site": null, "answers": null });
        // Some follow in a snapshot, so that the map stays on the page.
        if index % 3 == 1 {
            tell(json!({ "type": "snapshot", "jobs": [job], "live": [live] })).await?;
        } else {
            tell(json!({ "type": "begun", "live": live })).await?;
        }
        browser.expect(".map-card .progress", &format!("of {n_columns} columns")).await?;
        // Some columns are none of the grid, or have too many layers.
        let column = |rng: &mut Rng| {
            json!({ "position": start + rng.usize(0..n_columns + 2),
                "logit_diff": vec![1.5; n_layers + rng.usize(0..2)] })
        };
        let columns: Vec<_> = (0..4).map(|_| column(&mut rng)).collect();
        tell(json!({ "type": "columns", "job": JOB, "index": index, "columns": columns })).await?;
        // The pointer comes to rest on the last token of the last layer.
        let rest = "
            const stage = document.querySelector('.stage');
            const rect = stage.getBoundingClientRect();
            for (let i = 100; i > 0; i -= 1) {
                stage.dispatchEvent(new PointerEvent('pointermove', { bubbles: true,
                    clientX: rect.left + rect.width * 0.7 * i / 100 + 30,
                    clientY: rect.top + rect.height * 0.6 }));
                if (document.querySelector('.spoken').innerText) break;
            }
            return document.documentElement.dataset.state";
        let state = browser.run(rest, vec![]).await?;
        ensure!(state == json!("running"), "{state} at the pair {index}");
        if index % 3 != 0 {
            tell(json!({ "type": "pair", "job": JOB, "pair": pair(index, "done") })).await?;
        }
        play(&browser, seed.wrapping_add(index as u64), 6).await?;
        let row = format!(".pairs tbody tr:nth-child({}) .state", index + 1);
        let state = if index % 3 == 0 { "queued" } else { "done" };
        if browser.has(".pairs").await {
            browser.expect(&row, state).await?;
        } else {
            browser.run("location.hash = arguments[0]", vec![json!(format!("#/j/{JOB}"))]).await?;
            browser.expect("main h1", "A table").await?;
        }
    }
    browser.stop(&["404", "Throttling navigation"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_defect_is_told_as_one_and_the_view_can_be_opened_again() -> Result<()> {
    let mut rng = Rng::with_seed(seed());
    let document = document(&mut rng, 2)?;
    let site = Site::serve(std::slice::from_ref(&document))?;
    let browser = Browser::start().await?;
    let url = site.experiment(&document, "?metric=change");
    browser.open(&url).await?;
    browser.driver.find(By::Css(".heatmap")).await?;
    // What a panic does: the hook speaks, then WebAssembly stops with a trap of its own.
    let trap = "
        window.patchboardDefect('panicked at nowhere');
        const bytes = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0,
            7, 5, 1, 1, 102, 0, 0, 10, 5, 1, 3, 0, 0, 11]);
        const { instance } = await WebAssembly.instantiate(bytes);
        setTimeout(() => instance.exports.f(), 0);";
    browser.run(&format!("(async () => {{ {trap} }})()"), vec![]).await?;
    let text = browser.expect(".boot-defect", "panicked at nowhere").await?;
    ensure!(text.contains("has a defect") && text.contains(&url), "{text}");
    let page = browser.text("body").await?;
    ensure!(!page.contains("WebAssembly") && !page.contains("cannot run here"), "{page}");
    browser.press("Load this view again").await?;
    browser.driver.find(By::Css(".heatmap")).await?;
    ensure!(browser.driver.current_url().await?.as_str() == url, "the view has changed");
    // A trap without a panic, as when memory or stack is used up, is one too; an error of somebody
    // else's script is none.
    browser.run("setTimeout(() => { throw new Error('of an extension') }, 0)", vec![]).await?;
    browser.run("return new Promise((next) => setTimeout(next, 50))", vec![]).await?;
    ensure!(!browser.text("body").await?.contains("has a defect"), "an extension's error is told");
    let trap = trap.replace("window.patchboardDefect('panicked at nowhere');", "");
    browser.run(&format!("(async () => {{ {trap} }})()"), vec![]).await?;
    browser.expect(".boot-defect", "unreachable").await?;
    browser.stop(&["unreachable", "of an extension"]).await
}
