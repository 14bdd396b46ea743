//! What the journeys of `journeys.rs` need: a site below a sub-path, a browser, documents.
//!
//! ```text
//! scripts/build-web.sh
//! cargo test -p browser-tests --features browser
//! ```
//!
//! The viewer is taken from `dist/`, or from the folder that `PATCHBOARD_DIST` names.
#![cfg(feature = "browser")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use shared::document::Document;
use shared::gallery::Gallery;
use thirtyfour::prelude::*;

/// Where the site is on its host.
const SUB_PATH: &str = "/some/where/";

/// The folder of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A document with the numbers that Hugging Face's transformers gave for SmolLM2.
///
/// # Errors
/// The recorded file is missing or has another form.
pub fn smollm2() -> Result<Document> {
    let path = root().join("tests/oracle/fixtures/smollm2-king-equal-pad-resid_post.json");
    let recorded: serde_json::Value = serde_json::from_slice(&fs::read(path)?)?;
    let ids =
        |name: &str| -> Result<Vec<u32>> { Ok(serde_json::from_value(recorded[name].clone())?) };
    let tokens = |name: &str| -> Result<Vec<serde_json::Value>> {
        let token = |id| serde_json::json!({ "id": id, "text": format!(" t{id}") });
        Ok(ids(name)?.into_iter().map(token).collect())
    };
    let start = recorded["sentence_start"].as_u64().context("no start")? as usize;
    let labels: Vec<String> =
        ids("base_ids")?[start..].iter().map(|id| format!(" t{id}")).collect();
    let tops: Vec<Vec<u32>> = serde_json::from_value(recorded["top_token"].clone())?;
    let texts: std::collections::BTreeMap<_, _> =
        tops.iter().flatten().map(|id| (id.to_string(), format!(" t{id}"))).collect();
    let run = |name: &str| {
        let run = &recorded[name];
        serde_json::json!({
            "logit_diff": run["logit_diff"], "p_true": run["p_true"], "p_false": run["p_false"],
            "top_token": { "id": run["top_token"], "text": "\n" }, "p_top": run["top_prob"],
        })
    };
    let document = serde_json::json!({
        "schema": "patchboard/1", "id": "0123456789abcdef0123", "model": "SmolLM2-135M-Instruct",
        "entity": recorded["entity"], "source_prompt": recorded["source_prompt"],
        "base_prompt": recorded["base_prompt"], "source_sentence": recorded["source_sentence"],
        "base_sentence": recorded["base_sentence"], "sentence_start": start,
        "token_labels": labels, "num_layers": recorded["n_layers"],
        "patching_results": recorded["logit_diff"], "template": recorded["template"],
        "source_tokens": tokens("source_ids")?, "base_tokens": tokens("base_ids")?,
        "baselines": { "source": run("source_baseline"), "base": run("base_baseline") },
        "readout": {
            "p_true": recorded["p_true"], "p_false": recorded["p_false"], "top_token": tops,
            "top_token_labels": texts,
        },
    });
    let mut documents = Document::read(document.to_string().as_bytes())?;
    documents.pop().context("no document")
}

/// A built viewer with these documents, served by a plain file server below a sub-path.
pub struct Site {
    /// The address of the page, which ends in a slash.
    pub url: String,
    /// Its files.
    pub folder: tempfile::TempDir,
}

impl Site {
    /// Serves the viewer with `documents`; `gallery` is its list, if it has one.
    ///
    /// # Errors
    /// There is no built viewer.
    pub fn serve(documents: &[Document], gallery: Option<&Gallery>) -> Result<Self> {
        let dist =
            std::env::var_os("PATCHBOARD_DIST").map_or_else(|| root().join("dist"), PathBuf::from);
        let folder = tempfile::tempdir()?;
        for name in [
            "index.html",
            "style.css",
            "boot.js",
            "start.js",
            "icon.svg",
            "patchboard.js",
            "patchboard_bg.wasm",
        ] {
            let built = dist.join(name);
            fs::copy(&built, folder.path().join(name)).with_context(|| {
                format!("{} is missing: run scripts/build-web.sh first", built.display())
            })?;
        }
        let data = folder.path().join("data");
        fs::create_dir(&data)?;
        for document in documents {
            fs::write(data.join(format!("{}.json", document.id)), document.to_json())?;
        }
        if let Some(gallery) = gallery {
            fs::write(data.join("index.json"), serde_json::to_vec(gallery)?)?;
        }
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
                    _ => "application/json",
                };
                let header = tiny_http::Header::from_bytes("Content-Type", kind);
                let _ = match (fs::read(files.join(name)), header) {
                    (Ok(bytes), Ok(header)) => {
                        request.respond(tiny_http::Response::from_data(bytes).with_header(header))
                    }
                    _ => request.respond(tiny_http::Response::empty(404)),
                };
            }
        });
        Ok(Self { url: format!("http://127.0.0.1:{port}{SUB_PATH}"), folder })
    }
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
        let mut chromedriver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .spawn()
            .context("chromedriver is missing: apt-get install chromium chromium-driver")?;
        let output = chromedriver.stdout.take().context("no output")?;
        let mut lines = BufReader::new(output).lines();
        let port = loop {
            let line = lines.next().context("chromedriver ended")??;
            if let Some((_, port)) = line.split_once("on port ")
                && line.contains("successfully")
            {
                break port.trim_end_matches('.').to_string();
            }
        };
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
        let driver = WebDriver::new(format!("http://127.0.0.1:{port}"), capabilities).await?;
        driver.set_implicit_wait_timeout(Duration::from_secs(10)).await?;
        Ok(Self { driver, chromedriver, _profile: profile })
    }

    /// The text of the first element that `css` finds.
    ///
    /// # Errors
    /// There is none.
    pub async fn text(&self, css: &str) -> Result<String> {
        Ok(self.driver.find(By::Css(css)).await?.text().await?)
    }

    /// Puts the pointer on a part of the heatmap: 0 to 1 from its left and its top.
    ///
    /// # Errors
    /// There is no heatmap.
    pub async fn point(&self, x: f64, y: f64) -> Result<()> {
        self.driver.find(By::Css(".stage canvas")).await?;
        let script = "
            const [x, y] = arguments, canvas = document.querySelector('.stage canvas');
            const rect = canvas.getBoundingClientRect();
            canvas.dispatchEvent(new PointerEvent('pointermove', {
                bubbles: true,
                clientX: rect.left + x * rect.width,
                clientY: rect.top + y * rect.height,
            }));";
        self.driver.execute(script, vec![serde_json::json!(x), serde_json::json!(y)]).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(())
    }

    /// Ends the browser.
    ///
    /// # Errors
    /// It did not answer.
    pub async fn stop(self) -> Result<()> {
        self.driver.clone().quit().await?;
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
