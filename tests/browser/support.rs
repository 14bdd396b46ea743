//! What the tests in a browser need: a site below a sub-path, a browser, documents.
//!
//! ```text
//! scripts/build-web.sh
//! PATCHBOARD_VIEWER=dist cargo test -p browser-tests --features browser
//! ```
#![cfg(feature = "browser")]

mod process;

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use shared::document::Document;
use shared::field::Field;
use shared::field::chosen::Choice;
use shared::field::metric::Metric;
use shared::figure::{Figure, FigureOptions, Heading};
use thirtyfour::LoggingPrefsLogLevel;
use thirtyfour::prelude::*;

pub use process::Server;

/// Where the site is on its host.
const SUB_PATH: &str = "/some/where/";

/// The results that ship as examples: SmolLM2's, by the names of their files.
///
/// # Errors
/// They are missing or damaged.
pub fn examples() -> Result<Vec<Document>> {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join("static/examples/results");
    let mut paths: Vec<_> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.sort();
    let documents = paths.iter().map(|path| Ok(Document::read(&fs::read(path)?)?));
    Ok(documents.collect::<Result<Vec<_>>>()?.concat())
}

/// The example about `entity`.
///
/// # Errors
/// There is none.
pub fn example(entity: &str) -> Result<Document> {
    let found = examples()?.into_iter().find(|document| document.entity == entity);
    found.with_context(|| format!("no example about {entity}"))
}

/// A site as `patchboard site` writes it, served by a plain file server below a sub-path.
pub struct Site {
    /// The address of the page, which ends in a slash.
    pub url: String,
    /// Its files.
    pub folder: tempfile::TempDir,
}

impl Site {
    /// Serves a site of `documents`.
    ///
    /// # Errors
    /// There is no built viewer.
    pub fn serve(documents: &[Document]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        compute::site::write_site(folder.path(), documents, &[], None)?;
        Self::serve_folder(folder)
    }

    /// Serves what is in a folder.
    ///
    /// # Errors
    /// There is no port.
    pub fn serve_folder(folder: tempfile::TempDir) -> Result<Self> {
        let server = tiny_http::Server::http("127.0.0.1:0").map_err(anyhow::Error::msg)?;
        let port = server.server_addr().to_ip().context("no port")?.port();
        let files = folder.path().to_path_buf();
        std::thread::spawn(move || {
            for request in server.incoming_requests() {
                let path = request.url().split(['?', '#']).next().unwrap_or_default().to_string();
                let name = match path.strip_prefix(SUB_PATH) {
                    Some("") => "index.html",
                    Some(name) if !name.contains("..") => name,
                    _ => "nothing",
                };
                let kind = match name.rsplit('.').next() {
                    Some("html") => "text/html",
                    Some("js") => "text/javascript",
                    Some("css") => "text/css",
                    Some("wasm") => "application/wasm",
                    Some("svg") => "image/svg+xml",
                    Some("png") => "image/png",
                    _ => "application/json",
                };
                let header = tiny_http::Header::from_bytes("Content-Type", kind);
                let part = request.headers().iter().find(|header| header.field.equiv("Range"));
                let part = part.and_then(|header| range(header.value.as_str()));
                let _ = match (fs::read(files.join(name)), header) {
                    (Ok(bytes), Ok(header)) => {
                        // Parts of files, as static hosts give them.
                        let part = part.and_then(|part| Some(bytes.get(part)?.to_vec()));
                        let status = if part.is_some() { 206 } else { 200 };
                        let response = tiny_http::Response::from_data(part.unwrap_or(bytes));
                        request.respond(response.with_status_code(status).with_header(header))
                    }
                    _ => request.respond(tiny_http::Response::empty(404)),
                };
            }
        });
        Ok(Self { url: format!("http://127.0.0.1:{port}{SUB_PATH}"), folder })
    }

    /// The address of an experiment's page; `query` says how it is shown.
    pub fn experiment(&self, document: &Document, query: &str) -> String {
        format!("{}#/e/{}{query}", self.url, document.id)
    }
}

/// The bytes that a request's header asks for.
fn range(header: &str) -> Option<std::ops::RangeInclusive<usize>> {
    let (first, last) = header.strip_prefix("bytes=")?.split_once('-')?;
    Some(first.parse().ok()?..=last.parse().ok()?)
}

/// A browser with an empty profile.
pub struct Browser {
    /// What steers it.
    pub driver: WebDriver,
    chromedriver: Child,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts chromedriver and a headless browser.
    ///
    /// # Errors
    /// One of them is missing.
    pub async fn start() -> Result<Self> {
        let (mut chromedriver, mut lines, mut port) = Self::chromedriver()?;
        // It takes a free port for one family of addresses, which may be in use in the other.
        for _ in 0..4 {
            if !port.is_empty() {
                break;
            }
            chromedriver.wait()?;
            (chromedriver, lines, port) = Self::chromedriver()?;
        }
        anyhow::ensure!(!port.is_empty(), "chromedriver ended");
        std::thread::spawn(move || lines.for_each(drop));
        let profile = tempfile::tempdir()?;
        let mut capabilities = DesiredCapabilities::chrome();
        for flag in [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1280,1400",
        ] {
            capabilities.add_arg(flag)?;
        }
        capabilities.add_arg(&format!("--user-data-dir={}", profile.path().display()))?;
        capabilities.set_browser_log_level(LoggingPrefsLogLevel::All)?;
        let driver = WebDriver::new(format!("http://127.0.0.1:{port}"), capabilities).await?;
        driver.set_implicit_wait_timeout(Duration::from_secs(10)).await?;
        // What a script takes on a busy machine is not what is tested.
        driver.set_script_timeout(Duration::from_secs(300)).await?;
        Ok(Self { driver, chromedriver, _profile: profile })
    }

    /// Starts chromedriver. Its port is empty where it has ended at once.
    fn chromedriver() -> Result<(Child, Lines<BufReader<ChildStdout>>, String)> {
        let mut chromedriver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .spawn()
            .context("chromedriver is missing: apt-get install chromium chromium-driver")?;
        let output = chromedriver.stdout.take().context("no output")?;
        let mut lines = BufReader::new(output).lines();
        let mut port = String::new();
        for line in lines.by_ref() {
            if let Some((_, found)) = line?.split_once("successfully on port ") {
                port = found.trim_end_matches('.').to_string();
                break;
            }
        }
        Ok((chromedriver, lines, port))
    }

    /// Goes to an address.
    ///
    /// # Errors
    /// The browser did not.
    pub async fn open(&self, url: &str) -> Result<()> {
        Ok(self.driver.goto(url).await?)
    }

    /// The text of the first element that `css` finds.
    ///
    /// # Errors
    /// There is none.
    pub async fn text(&self, css: &str) -> Result<String> {
        Ok(self.driver.find(By::Css(css)).await?.text().await?)
    }

    /// Waits until the first element that `css` finds has a text with `expected` in it.
    ///
    /// # Errors
    /// It does not within ten seconds.
    pub async fn expect(&self, css: &str, expected: &str) -> Result<String> {
        self.expect_within(10, css, expected).await
    }

    /// The same for what takes up to `secs` seconds.
    ///
    /// # Errors
    /// It takes longer.
    pub async fn expect_within(&self, secs: u64, css: &str, expected: &str) -> Result<String> {
        let script = "return document.querySelector(arguments[0])?.innerText ?? ''";
        let deadline = Instant::now() + Duration::from_secs(secs);
        loop {
            let found = self.run(script, vec![json!(css)]).await.unwrap_or_default();
            let text = found.as_str().unwrap_or_default().to_string();
            if text.contains(expected) && self.has(css).await {
                return Ok(text);
            }
            if Instant::now() > deadline {
                bail!("{expected:?} is not in {css}: {text:?}")
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until there is no element that `css` finds.
    ///
    /// # Errors
    /// There still is one after `secs` seconds.
    pub async fn gone_within(&self, secs: u64, css: &str) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(secs);
        while self.has(css).await {
            anyhow::ensure!(Instant::now() < deadline, "{css} is still there");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// The resident memory of the processes that show pages, in bytes, without the files that they share
    /// with each other, of which the browser's program is 100 MB in each.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn renderer_bytes(&self) -> Result<usize> {
        let mut parents = std::collections::BTreeMap::new();
        for entry in fs::read_dir("/proc")? {
            let path = entry?.path();
            let Some(id) = path.file_name().and_then(|n| n.to_str()?.parse::<u32>().ok()) else {
                continue;
            };
            // Processes end meanwhile.
            let Ok(status) = fs::read_to_string(path.join("status")) else { continue };
            let field = |name: &str| {
                let line = status.lines().find(|line| line.starts_with(name))?;
                line.split_whitespace().nth(1)?.parse::<usize>().ok()
            };
            let shown = fs::read(path.join("cmdline")).unwrap_or_default();
            let is_page = String::from_utf8_lossy(&shown).contains("--type=renderer");
            let parent = field("PPid:").unwrap_or_default() as u32;
            let own = ["RssAnon:", "RssShmem:"].map(|name| field(name).unwrap_or_default());
            parents.insert(id, (parent, is_page, 1024 * own.iter().sum::<usize>()));
        }
        let is_ours = |mut id: u32| loop {
            match parents.get(&id) {
                _ if id == self.chromedriver.id() => return true,
                Some((parent, ..)) if *parent != id => id = *parent,
                _ => return false,
            }
        };
        let ours = parents.iter().filter(|(id, (_, is_page, _))| *is_page && is_ours(**id));
        Ok(ours.map(|(_, (.., n_bytes))| n_bytes).sum())
    }

    /// Whether there is an element that `css` finds.
    pub async fn has(&self, css: &str) -> bool {
        let script = "return document.querySelector(arguments[0]) !== null";
        self.run(script, vec![json!(css)]).await.is_ok_and(|found| found == json!(true))
    }

    /// Fills in the field with this label.
    ///
    /// # Errors
    /// There is none.
    pub async fn fill(&self, label: &str, text: &str) -> Result<()> {
        let field = self.driver.find(By::XPath(Self::field(label))).await?;
        field.clear().await?;
        Ok(field.send_keys(text).await?)
    }

    /// Chooses a word in the select with this label.
    ///
    /// # Errors
    /// There is no such field or word.
    pub async fn choose(&self, label: &str, value: &str) -> Result<()> {
        let path = format!("{}/option[@value='{value}']", Self::field(label));
        Ok(self.driver.find(By::XPath(path)).await?.click().await?)
    }

    fn field(label: &str) -> String {
        format!(
            "//label[span[normalize-space()='{label}']]\
             //*[self::input or self::textarea or self::select]"
        )
    }

    /// Clicks on the button with this text.
    ///
    /// # Errors
    /// There is none.
    pub async fn press(&self, name: &str) -> Result<()> {
        let path =
            format!("//button[normalize-space()='{name}'][not(ancestor::dialog[not(@open)])]");
        Ok(self.driver.find(By::XPath(path)).await?.click().await?)
    }

    /// Types keys to whatever has the focus.
    ///
    /// # Errors
    /// The browser did not.
    pub async fn keys(&self, keys: &[Key]) -> Result<()> {
        let keys: String = keys.iter().map(Key::value).collect();
        Ok(self.driver.action_chain().send_keys(keys).perform().await?)
    }

    /// Runs a script.
    ///
    /// # Errors
    /// It failed.
    pub async fn run(&self, script: &str, args: Vec<Value>) -> Result<Value> {
        Ok(self.driver.execute(script, args).await?.json().clone())
    }

    /// Runs a script that ends by calling its last argument.
    ///
    /// # Errors
    /// It failed.
    pub async fn run_async(&self, script: &str) -> Result<Value> {
        Ok(self.driver.execute_async(script, vec![]).await?.json().clone())
    }

    /// Sends a command of the browser's own protocol.
    ///
    /// # Errors
    /// The browser refused it.
    pub async fn command(&self, name: &str, args: Value) -> Result<Value> {
        Ok(self.driver.cdp().send_raw(name, args).await?)
    }

    /// Lets the system prefer the dark theme, or the light one.
    ///
    /// # Errors
    /// The browser refused it.
    pub async fn prefer(&self, theme: &str) -> Result<()> {
        let features = json!([{ "name": "prefers-color-scheme", "value": theme }]);
        self.command("Emulation.setEmulatedMedia", json!({ "features": features })).await?;
        Ok(())
    }

    /// Makes the window a screen of this width with `ratio` device pixels a pixel.
    ///
    /// # Errors
    /// The browser refused it.
    pub async fn screen(&self, width: u32, ratio: f64) -> Result<()> {
        let screen =
            json!({ "width": width, "height": 900, "deviceScaleFactor": ratio, "mobile": false });
        self.command("Emulation.setDeviceMetricsOverride", screen).await?;
        Ok(())
    }

    /// Makes the window the screen of a phone, which is touched.
    ///
    /// # Errors
    /// The browser refused it.
    pub async fn phone(&self, width: u32, height: u32) -> Result<()> {
        let screen =
            json!({ "width": width, "height": height, "deviceScaleFactor": 2.0, "mobile": true });
        self.command("Emulation.setDeviceMetricsOverride", screen).await?;
        self.command("Emulation.setTouchEmulationEnabled", json!({ "enabled": true })).await?;
        Ok(())
    }

    /// Taps with a finger at a place in the window.
    ///
    /// # Errors
    /// The browser refused it.
    pub async fn tap(&self, x: f64, y: f64) -> Result<()> {
        for (kind, points) in [("touchStart", json!([{ "x": x, "y": y }])), ("touchEnd", json!([]))]
        {
            let args = json!({ "type": kind, "touchPoints": points });
            self.command("Input.dispatchTouchEvent", args).await?;
        }
        Ok(())
    }

    /// Moves the pointer to a cell of the document's heatmap, as it is drawn by default.
    ///
    /// # Errors
    /// There is no such cell.
    pub async fn point(&self, document: &Document, layer: usize, column: usize) -> Result<()> {
        let (x, y) = self.place(document, layer, column).await?;
        Ok(self.driver.action_chain().move_to(x as i64, y as i64).perform().await?)
    }

    /// Where a cell of the document's heatmap, as it is drawn by default, is in the window. The map
    /// is scrolled into it.
    ///
    /// # Errors
    /// There is no such cell.
    pub async fn place(
        &self,
        document: &Document,
        layer: usize,
        column: usize,
    ) -> Result<(f64, f64)> {
        self.driver.find(By::Css(".stage canvas")).await?;
        let scroll = "document.querySelector('.stage').scrollIntoView(
            { block: 'nearest', behavior: 'instant' })";
        self.run(scroll, vec![]).await?;
        self.place_now(document, layer, column).await
    }

    /// The same without scrolling.
    ///
    /// # Errors
    /// There is no such cell.
    pub async fn place_now(
        &self,
        document: &Document,
        layer: usize,
        column: usize,
    ) -> Result<(f64, f64)> {
        self.place_in(document, Choice::default(), layer, column).await
    }

    /// The same of a grid that is chosen, whose rows need not be layers.
    ///
    /// # Errors
    /// There is no such grid or cell.
    pub async fn place_in(
        &self,
        document: &Document,
        grid: Choice,
        row: usize,
        column: usize,
    ) -> Result<(f64, f64)> {
        // The page's own heading says what a figure's would.
        let field = Field::of(document, grid, Metric::LogitDiff)?;
        let columns: Vec<_> = (0..field.columns.len()).collect();
        let options = FigureOptions::default();
        let figure = Figure::of(&Heading::default(), field, &columns, &options)?;
        let cell = figure.layout().cell(row, column).context("no such cell")?;
        let (width, height) = figure.size();
        let part = |from: i32, to: i32, of: u32| f64::from(from + to) / 2.0 / f64::from(of);
        let (x, y) = (part(cell.left, cell.right, width), part(cell.top, cell.bottom, height));
        let at = self
            .run(
                "const [x, y] = arguments;
                const canvas = document.querySelector('.stage canvas');
                const rect = canvas.getBoundingClientRect();
                return [rect.left + x * rect.width, rect.top + y * rect.height];",
                vec![json!(x), json!(y)],
            )
            .await?;
        let [x, y]: [f64; 2] = serde_json::from_value(at)?;
        Ok((x, y))
    }

    /// Drops a file on the page, as from the system's file manager.
    ///
    /// # Errors
    /// The browser refused it.
    pub async fn drop_file(&self, path: &Path) -> Result<()> {
        for kind in ["dragEnter", "dragOver", "drop"] {
            let data = json!({ "items": [], "files": [path], "dragOperationsMask": 1 });
            let args = json!({ "type": kind, "x": 300, "y": 300, "data": data });
            self.command("Input.dispatchDragEvent", args).await?;
        }
        Ok(())
    }

    /// Waits until some columns of a running sweep are there and some are not; how many, and of how
    /// many.
    ///
    /// # Errors
    /// All are there at once, or none within a minute.
    pub async fn columns(&self) -> Result<(usize, usize)> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let script = "return document.querySelector('.map-card .progress')?.innerText ?? ''";
        while Instant::now() < deadline {
            let facts = self.run(script, vec![]).await?;
            let facts = facts.as_str().unwrap_or_default().to_string();
            let numbers = facts.split('·').find(|part| part.contains("columns")).and_then(|part| {
                let words: Vec<_> = part.split_whitespace().collect();
                Some((words.first()?.parse::<usize>().ok()?, words.get(2)?.parse::<usize>().ok()?))
            });
            if let Some((n, n_all)) = numbers
                && n > 0
            {
                anyhow::ensure!(n < n_all, "all columns are there: {facts}");
                return Ok((n, n_all));
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        bail!("no column came")
    }

    /// The heatmap's pixels.
    ///
    /// # Errors
    /// There is none.
    pub async fn pixels(&self) -> Result<String> {
        self.driver.find(By::Css(".stage canvas")).await?;
        let pixels =
            self.run("return document.querySelector('.stage canvas').toDataURL()", vec![]).await?;
        pixels.as_str().map(str::to_string).context("no pixels")
    }

    /// Ends the browser.
    ///
    /// # Errors
    /// Its console has an error that does not contain one of `expected`.
    pub async fn stop(self, expected: &[&str]) -> Result<()> {
        let log = self.driver.browser_log().await?;
        self.driver.clone().quit().await?;
        let unexpected: Vec<_> = log
            .into_iter()
            .filter(|entry| entry.level == "SEVERE" || entry.level == "WARNING")
            .map(|entry| entry.message)
            .filter(|message| !expected.iter().any(|expected| message.contains(expected)))
            .collect();
        anyhow::ensure!(unexpected.is_empty(), "the console says: {unexpected:#?}");
        Ok(())
    }
}

impl Drop for Browser {
    /// A test that fails leaves no process behind.
    fn drop(&mut self) {
        let _ = self.chromedriver.kill();
        let _ = self.chromedriver.wait();
    }
}

/// The address of a file.
pub fn file_url(path: &Path) -> String {
    format!("file://{}", path.display())
}

/// A folder of the test's own.
///
/// # Errors
/// The system refuses it.
pub fn folder() -> Result<(tempfile::TempDir, PathBuf)> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().to_path_buf();
    Ok((folder, path))
}
