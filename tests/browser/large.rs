//! The page of a study of 1,000 pairs at five sites. The numbers are printed, for whoever wants to
//! compare:
//!
//! ```text
//! PATCHBOARD_VIEWER=dist cargo test -p browser-tests --features browser --test large -- --nocapture
//! ```
#![expect(clippy::print_stdout, reason = "this prints measurements")]

use anyhow::{Context, Result, ensure};
use browser_tests::{Browser, Site, example};
use compute::site::{StudyFiles, write_site};
use serde_json::json;
use shared::document::{AxisKeys, CellGrid};
use shared::specification::vocabulary::{Direction, Site as Where};
use shared::statistics::Method;
use shared::study::{Builder, Options};

const N_PAIRS: usize = 1000;
const SITES: [Where; 5] =
    [Where::ResidPre, Where::AttnOut, Where::ResidMid, Where::MlpOut, Where::ResidPost];

/// A study of random numbers, as `patchboard study` makes one.
fn study() -> Result<StudyFiles> {
    let pattern = example("the duchess")?;
    let (n_layers, n_columns) = (pattern.num_layers, pattern.token_labels.len());
    let start = pattern.sentence_start;
    let mut random = fastrand::Rng::with_seed(1);
    let mut builder = Builder::new();
    for pair in 0..N_PAIRS {
        let mut document = pattern.clone();
        document.id = format!("{pair:020x}");
        document.entity = format!("person {pair}");
        document.row = [("kind".to_string(), format!("kind {}", pair % 4))].into();
        let grid = |site: Where| {
            let axes = vec![
                AxisKeys::Layer((0..n_layers).collect()),
                AxisKeys::Position((start..start + n_columns).collect()),
            ];
            let values = (0..n_layers * n_columns).map(|_| Some(random.f32() * 6.0 - 3.0));
            CellGrid::of_logit_diffs(site, Direction::Denoising, axes, values.collect())
        };
        document.grids = SITES.map(grid).to_vec();
        builder.push(&document)?;
    }
    // How often pairs are drawn changes numbers and not the page.
    let method = Method { n_resamples: 200, n_flips: 200, ..Method::default() };
    let options = Options { title: "Large".into(), method, ..Options::default() };
    let (study, values) = builder.finish(&options)?;
    Ok(StudyFiles { study, values })
}

/// Waits for what `ready` says, frame by frame; milliseconds since the page began.
const UNTIL: &str = "const done = arguments[arguments.length - 1];
    const look = () => READY ? done(performance.now()) : requestAnimationFrame(look);
    look();";

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_pairs_at_five_sites() -> Result<()> {
    let files = study()?;
    let folder = tempfile::tempdir()?;
    write_site(folder.path(), &[], std::slice::from_ref(&files), None)?;
    let place = folder.path().join("data/studies").join(&files.study.id);
    let size = |name: &str| std::fs::metadata(place.join(name)).map(|meta| meta.len());
    println!("study.json {} bytes, values {}", size("study.json")?, size("values.safetensors")?);
    let site = Site::serve_folder(folder)?;
    let browser = Browser::start().await?;
    let url = format!("{}#/study/{}", site.url, files.study.id);
    let ready = "document.querySelector('.spread-points') && document.querySelector('.multiple')";
    for visit in ["first", "second", "third"] {
        browser.open("about:blank").await?;
        browser.open(&url).await?;
        let ms = browser.run_async(&UNTIL.replace("READY", ready)).await?;
        let map = "return performance.getEntriesByName('patchboard-heatmap')[0].startTime";
        let map = browser.run(map, vec![]).await?.as_f64().context("no map")?;
        let ms = ms.as_f64().context("no time")?;
        println!("map after {map:.0} ms, all of the page after {ms:.0} ms, {visit} visit");
    }

    // From a cell to its pairs: the key that moves the pin, until all that depends on it is laid out. By then
    // strip, small maps and table say the same of the new cell, and the maps can be painted.
    browser.run("document.querySelector('.stage').focus()", vec![]).await?;
    browser.keys(&[thirtyfour::Key::Down, thirtyfour::Key::Enter]).await?;
    let script = "
        const done = arguments[arguments.length - 1], times = [];
        const stage = document.querySelector('.stage');
        const keys = ['ArrowDown', 'ArrowRight', 'ArrowDown', 'ArrowLeft'];
        const number = (element) => parseFloat(element.textContent.replace('−', '-'));
        const end = () => number([...document.querySelectorAll('.spread text')].at(-1));
        const wrong = (before) => {
            const rows = new Map([...document.querySelectorAll('.study-pairs tbody tr')].map(
                (row) => [row.querySelector('a').href, number(row.cells[5])]));
            const maps = [...document.querySelectorAll('.multiple')];
            const effects = maps.map((map) => number(map.querySelector('.facts')));
            if (document.querySelector('.spread h2').textContent === before) return 'heading';
            if (Math.abs(effects[0] - end()) > 0.006) return 'strip';
            if (effects.some((effect, i) => effect > effects[i - 1])) return 'order';
            if (!maps.every((map, i) => Math.abs((rows.get(map.href) ?? effects[i]) - effects[i]) < 0.006))
                return 'table';
            if (!maps.every((map) => map.querySelector('img').complete)) return 'pictures';
        };
        const step = (i) => {
            if (i === 40) return done(times);
            const before = document.querySelector('.spread h2').textContent;
            const start = performance.now();
            stage.dispatchEvent(new KeyboardEvent('keydown', { key: keys[i % 4], bubbles: true }));
            const channel = new MessageChannel();
            channel.port1.onmessage = () => {
                document.body.getBoundingClientRect();
                times.push(performance.now() - start);
                const found = wrong(before);
                if (found) return done(found);
                setTimeout(() => step(i + 1), 100);
            };
            channel.port2.postMessage(0);
        };
        step(0);";
    let times = browser.run_async(script).await?;
    ensure!(times.is_array(), "not those of the cell: {times}");
    let mut times: Vec<f64> = serde_json::from_value(times)?;
    times.sort_by(f64::total_cmp);
    println!("from a cell to its pairs: median {:.1} ms, at most {:.1} ms", times[20], times[39]);

    // All small maps, scrolled past.
    let more = "const button = [...document.querySelectorAll('.more')][0];
        const is_left = !button.classList.contains('hidden');
        if (is_left) button.click();
        return is_left";
    while browser.run(more, vec![]).await? == json!(true) {}
    let n = browser.run("return document.querySelectorAll('.multiple').length", vec![]).await?;
    ensure!(n.as_u64().is_some_and(|n| n > 900), "{n} small maps");
    let script = "
        const done = arguments[arguments.length - 1], times = [];
        const list = document.querySelector('.multiples');
        window.scrollTo({ top: list.offsetTop, behavior: 'instant' });
        let before = null;
        const frame = (now) => {
            if (before !== null) times.push(now - before);
            before = now;
            if (times.length === 240) return done(times);
            window.scrollBy({ top: 60, behavior: 'instant' });
            requestAnimationFrame(frame);
        };
        requestAnimationFrame(frame);";
    let mut times: Vec<f64> = serde_json::from_value(browser.run_async(script).await?)?;
    let n_late = times.iter().filter(|ms| **ms > 17.5).count();
    times.sort_by(f64::total_cmp);
    println!(
        "scrolling past {n} small maps: median frame {:.1} ms, 95 % within {:.1} ms, {n_late} of 240 \
         later than at 60 a second",
        times[120], times[228]
    );
    println!("memory of the page: {:.0} MB", browser.renderer_bytes()? as f64 / 1e6);
    browser.stop(&[]).await
}
