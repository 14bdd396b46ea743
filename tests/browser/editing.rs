//! Roles and alignment of a pair, edited in the form's strips, and what becomes of them.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use browser_tests::{Browser, Server, folder};
use serde_json::{Value, json};
use thirtyfour::prelude::*;

/// The command line, built with these tests.
const PROGRAM: &str = env!("CARGO_BIN_EXE_browser-tests-server");

/// Two sentences of different length.
const FORM: &str = "#/new?template=none&align=diff&entity=the+king&source=The+king+orders+the+guards+\
                    to+open+it.&base=The+king+watches+the+guards+as+they+open+it.";

async fn start() -> Result<(tempfile::TempDir, Server, Browser)> {
    let (kept, data) = folder()?;
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../oracle/models/tiny-llama3");
    let server = Server::start(PROGRAM, &data, &["--model", &model.display().to_string()])?;
    let browser = Browser::start().await?;
    browser.open(&format!("{}{FORM}", server.url)).await?;
    browser.expect_within(60, ".gloss .strip.base", "last").await?;
    Ok((kept, server, browser))
}

/// Presses Tab, with Shift backwards, until what has the focus is what `css` finds.
async fn tab_to(browser: &Browser, css: &str, backwards: bool) -> Result<()> {
    let is_there = "return document.activeElement.matches(arguments[0])";
    for _ in 0..100 {
        if browser.run(is_there, vec![json!(css)]).await? == json!(true) {
            return Ok(());
        }
        let chain = browser.driver.action_chain();
        let chain = if backwards { chain.key_down(Key::Shift) } else { chain };
        chain.send_keys(Key::Tab).key_up(Key::Shift).perform().await?;
    }
    anyhow::bail!("no way by Tab leads to {css}")
}

async fn press(browser: &Browser, key: Key, n: usize) -> Result<()> {
    browser.keys(&vec![key; n]).await
}

async fn type_text(browser: &Browser, text: &str) -> Result<()> {
    Ok(browser.driver.action_chain().send_keys(text).perform().await?)
}

/// The texts, roles, and numbers of a strip's tokens.
async fn tokens(browser: &Browser, prompt: &str) -> Result<Vec<[String; 3]>> {
    let script =
        "return [...document.querySelectorAll(`.strip.${arguments[0]} [role=option]`)].map(
        (token) => [
            token.querySelector('.token').textContent,
            token.closest('.role-run').querySelector('.role-name').textContent,
            token.querySelector('.number').textContent,
        ])";
    Ok(serde_json::from_value(browser.run(script, vec![json!(prompt)]).await?)?)
}

/// The id of the token that keys are for; empty where the focus is on no strip.
async fn active(browser: &Browser) -> Result<String> {
    let script = "return document.activeElement.getAttribute('aria-activedescendant') ?? ''";
    Ok(serde_json::from_value(browser.run(script, vec![]).await?)?)
}

async fn result(browser: &Browser) -> Result<Value> {
    browser.expect_within(60, "#copy-whole", "Copy").await?;
    let script = "const done = arguments[arguments.length - 1];
        const id = location.hash.split('/').pop();
        fetch(`api/experiments/${id}`).then((r) => r.json()).then(done);";
    browser.run_async(script).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_and_an_alignment_by_the_keyboard_alone() -> Result<()> {
    let (_kept, _server, browser) = start().await?;
    // Every token says what it is before anything is run.
    let source = tokens(&browser, "source").await?;
    ensure!(source.iter().all(|[_, role, _]| !role.is_empty()), "{source:?}");
    let at = |tokens: &[[String; 3]], text: &str| {
        let found = tokens.iter().position(|[token, ..]| token.contains(text));
        found.with_context(|| format!("no {text} in {tokens:?}"))
    };
    let guards = at(&source, "uar")?;

    // Two tokens of the source get a role, from the field that Enter leads to.
    tab_to(&browser, ".strip.source", false).await?;
    press(&browser, Key::Right, guards - 1).await?;
    let chain = browser.driver.action_chain().key_down(Key::Shift);
    chain.send_keys(Key::Right).key_up(Key::Shift).perform().await?;
    let chosen = "return document.querySelectorAll('[role=option][aria-selected=true]').length";
    ensure!(browser.run(chosen, vec![]).await? == json!(2), "two tokens are not chosen");
    press(&browser, Key::Enter, 1).await?;
    browser.expect(".strips-card form", "Role of").await?;
    tab_to(&browser, "#role-name", false).await?;
    type_text(&browser, "no such name").await?;
    press(&browser, Key::Enter, 1).await?;
    browser.expect(".strips-card [role=status]", "is no name of a mark").await?;
    press(&browser, Key::Backspace, "no such name".len()).await?;
    type_text(&browser, "crew").await?;
    press(&browser, Key::Enter, 1).await?;
    browser.expect_within(30, ".strip.source", "#crew").await?;
    let sentence = "return document.querySelectorAll('textarea')[0].value";
    let sentence = browser.run(sentence, vec![]).await?;
    ensure!(sentence.as_str().is_some_and(|text| text.contains("](#crew)")), "{sentence}");
    // The focus is on the tokens still, though they were drawn anew.
    ensure!(active(&browser).await? == format!("source-{guards}"), "lost");

    // The alignment is edited from what the one before had.
    let before = tokens(&browser, "base").await?;
    let is_begin = ".strips-card button";
    tab_to(&browser, is_begin, true).await?;
    press(&browser, Key::Enter, 1).await?;
    browser.expect(".strips-card .segments", "Alignment").await?;
    tab_to(&browser, ".strip.base", false).await?;
    ensure!(tokens(&browser, "base").await? == before, "another alignment to begin with");
    let base = before.iter().position(|[_, _, number]| number == "–").context("all are aligned")?;
    press(&browser, Key::Home, 1).await?;
    press(&browser, Key::Right, base).await?;
    press(&browser, Key::Enter, 1).await?;
    browser.expect(".strips-card [role=status]", "Now the token of the source").await?;
    press(&browser, Key::Up, 1).await?;
    press(&browser, Key::Home, 1).await?;
    press(&browser, Key::Right, guards).await?;
    press(&browser, Key::Enter, 1).await?;
    browser.expect(".strips-card [role=status]", "takes").await?;
    // And one is taken away, once the tokens are drawn that the server answers with.
    browser.expect_within(30, ".preview[aria-busy=false]", "").await?;
    press(&browser, Key::Home, 1).await?;
    let [of_source, of_base] = [tokens(&browser, "source").await?, tokens(&browser, "base").await?];
    let number = &of_source[guards][2];
    ensure!(of_base[base][2] == *number, "{of_source:?}, {of_base:?}");
    let last = of_source.len() - 2;
    let lost = &of_source[last][2];
    let lost = of_base.iter().position(|[.., number]| number == lost).context("not aligned")?;
    press(&browser, Key::Right, last).await?;
    press(&browser, Key::Delete, 1).await?;
    browser.expect(".strips-card [role=status]", "no longer takes").await?;
    browser.expect_within(30, ".preview [role=status]", "to compute").await?;

    tab_to(&browser, ".form button[type=submit]:enabled", true).await?;
    press(&browser, Key::Enter, 1).await?;
    let document = result(&browser).await?;
    let roles = document["roles"]["source"].as_array().context("no roles")?;
    ensure!(roles[guards - 1] == json!("#crew") && roles[guards] == json!("#crew"), "{roles:?}");
    let start = document["sentence_start"].as_u64().context("no start")? as usize;
    let positions = &document["source_positions"];
    ensure!(positions[base - start] == json!(guards), "{positions}");
    ensure!(positions[lost - start].is_null(), "{positions}");
    ensure!(document["settings"]["align"] == json!("hand"), "{}", document["settings"]);
    let cell = document["row"]["align"].as_str().context("the row does not hold it")?;
    ensure!(cell.contains(&format!("{base}:{guards}")), "{cell}");

    // Whoever changes it begins with both.
    browser.driver.find(By::LinkText("Change and run…")).await?.click().await?;
    browser.expect_within(30, ".strip.source", "#crew").await?;
    browser.expect_within(30, ".preview", "This experiment exists already").await?;
    browser.stop(&["422"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_is_lost_while_tokens_are_drawn_anew() -> Result<()> {
    let (_kept, _server, browser) = start().await?;
    // As soon as the tokens are others, a key goes to whatever has the focus then.
    let watch = "window.n_pressed = 0;
        window.press = (key) => document.activeElement.dispatchEvent(
            new KeyboardEvent('keydown', { key, bubbles: true }));
        new MutationObserver((changes) => {
            const nodes = changes.flatMap((change) => [...change.addedNodes, ...change.removedNodes]);
            if (!nodes.some((node) => node.role === 'option' || node.querySelector?.('[role=option]')))
                return;
            window.n_pressed += 1;
            window.press('ArrowRight');
        }).observe(document.querySelector('.gloss'), { childList: true, subtree: true });";
    browser.run(watch, vec![]).await?;
    tab_to(&browser, ".strip.base", false).await?;
    press(&browser, Key::Right, 2).await?;
    let chain = browser.driver.action_chain().key_down(Key::Shift);
    chain.send_keys(Key::Right).key_up(Key::Shift).perform().await?;
    // Enter leads to the field for a role at once: the next key is a letter of its name.
    let enter = "const done = arguments[arguments.length - 1];
        window.press('Enter');
        const { port1, port2 } = new MessageChannel();
        port1.onmessage = () => done(document.activeElement.id);
        port2.postMessage(null);";
    let field = browser.run_async(enter).await?;
    ensure!(field == json!("role-name"), "{field}");
    type_text(&browser, "crew").await?;
    press(&browser, Key::Enter, 1).await?;
    browser.expect_within(30, ".strip.base", "#crew").await?;
    let n = browser.run("return window.n_pressed", vec![]).await?.as_u64().context("no number")?;
    ensure!(n > 0, "nothing was drawn anew");
    let active = active(&browser).await?;
    ensure!(active == format!("base-{}", 3 + n), "{n} keys led to {active:?}");
    browser.stop(&["422"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_and_an_alignment_by_the_pointer() -> Result<()> {
    let (_kept, _server, browser) = start().await?;
    let drag = async |from: &str, to: &str| -> Result<()> {
        let from = browser.driver.find(By::Id(from)).await?;
        let to = browser.driver.find(By::Id(to)).await?;
        let chain = browser.driver.action_chain();
        Ok(chain
            .click_and_hold_element(&from)
            .move_to_element_center(&to)
            .release()
            .perform()
            .await?)
    };
    let base = tokens(&browser, "base").await?;
    let last = base.len() - 1;
    drag(&format!("base-{}", last - 1), &format!("base-{}", last - 2)).await?;
    browser.driver.find(By::Id("role-name")).await?.send_keys("end").await?;
    browser.press("Give it").await?;
    browser.expect_within(30, ".strip.base", "#end").await?;
    // The strip's own tokens take it away again.
    drag(&format!("base-{}", last - 2), &format!("base-{}", last - 1)).await?;
    browser.press("Clear it").await?;
    browser.gone_within(30, ".strip.base .own").await?;

    browser.choose("Alignment", "hand").await?;
    browser.press("Alignment").await?;
    let source = tokens(&browser, "source").await?.len() - 1;
    let [from, to] = [format!("base-{last}"), format!("source-{source}")];
    drag(&from, &to).await?;
    browser.expect(".strips-card [role=status]", "no longer takes").await?;
    ensure!(tokens(&browser, "base").await?[last][2] == "–", "they still correspond");
    drag(&to, &from).await?;
    browser.expect(".strips-card [role=status]", "takes").await?;
    ensure!(tokens(&browser, "base").await?[last][2] != "–", "they do not correspond");
    browser.expect_within(30, ".preview [role=status]", "to compute").await?;
    browser.stop(&[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alignment_of_nothing_is_told_and_mended() -> Result<()> {
    let (_kept, _server, browser) = start().await?;
    browser.press("Edit the alignment").await?;
    browser.expect(".strips-card .segments", "Alignment").await?;
    let n = tokens(&browser, "base").await?.len();
    // Whatever corresponds is taken away, one after the other; the tokens stay, so that it can be
    // mended.
    press(&browser, Key::Home, 1).await?;
    for _ in 0..n {
        press(&browser, Key::Delete, 1).await?;
        press(&browser, Key::Right, 1).await?;
    }
    browser.expect_within(30, ".bad-rows", "no cell `align`").await?;
    let base = tokens(&browser, "base").await?;
    ensure!(base.iter().all(|[.., number]| number.parse::<usize>().is_err()), "{base:?}");
    press(&browser, Key::End, 1).await?;
    press(&browser, Key::Enter, 1).await?;
    press(&browser, Key::Up, 1).await?;
    press(&browser, Key::End, 1).await?;
    press(&browser, Key::Enter, 1).await?;
    browser.expect_within(30, ".preview [role=status]", "to compute").await?;
    browser.stop(&["422"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tables_first_pairs_show_roles_and_where_to_edit_them() -> Result<()> {
    let (_kept, _server, browser) = start().await?;
    browser.press("A table").await?;
    let paste = "const field = document.querySelector('.table-text');
        field.value = arguments[0];
        field.dispatchEvent(new Event('input', { bubbles: true }));";
    let table = "name\tsource\tbase\tspan:crew\n\
                 a\tThe king orders the guards.\tThe king watches the guards.\tguards\n";
    browser.run(paste, vec![json!(table)]).await?;
    browser.expect_within(30, ".strip.base", "#crew").await?;
    browser.expect(".preview > .hint", "stand in the table itself").await?;
    ensure!(!browser.has(".strip [role=option]").await, "there are tokens to be chosen");
    browser.stop(&["422"]).await
}
