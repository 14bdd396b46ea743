//! Documents by people who mean harm, for the tests of whatever reads documents.

#![allow(dead_code, reason = "each test uses its part")]

use serde_json::{Value, json};

/// What a payload that is run makes of the window's name, which survives going to another page.
pub const MARK: &str = "hostile";

/// Texts that become markup, script, paths, formulas or control characters where nobody takes care.
pub fn texts() -> Vec<String> {
    let run = format!("window.name='{MARK}'");
    let mut texts = vec![
        format!("<script>{run}</script>"),
        format!("</script><script>{run}</script>"),
        format!("<!--<script>{run}</script>"),
        format!("\"><img src=x onerror={run}>"),
        format!("'><svg onload={run}>"),
        format!("\" onmouseover=\"{run}\" autofocus onfocus=\"{run}\" x=\""),
        format!("</title></head><body onload={run}>"),
        format!("]]></text><script>{run}</script>"),
        format!("javascript:{run}"),
        format!("0;url=javascript:{run}"),
        format!("&lt;script&gt;{run}&lt;/script&gt;"),
        format!("</style><script>{run}</script>"),
        format!("\\u003cscript\\u003e{run}\\u003c/script\\u003e"),
        format!("${{{run}}} {{{{{run}}}}} `{run}`"),
    ];
    let harmless = [
        "../../../../outside",
        "/outside",
        "C:\\outside",
        "con",
        ".",
        "-rf",
        "=HYPERLINK(\"http://example.org\")",
        "%00%2e%2e%2f",
        "\u{0}\u{1}\u{7}\u{8}\u{b}\u{1b}[31m\u{7f}\u{85}\u{9b}",
        "\u{202e}\u{2028}\u{2029}\u{feff}\u{fffe}\u{200d}",
        "\r\n\r\nSet-Cookie: a=b",
        " \t\n",
    ];
    texts.extend(harmless.map(String::from));
    texts
}

/// A valid document that has `text` wherever it can have a text. `n` makes its id.
pub fn document(n: usize, text: &str) -> Value {
    let token = json!({ "id": 7, "text": text });
    let answer = json!({ "word": text, "kept": [token], "dropped": [format!(" {text}")] });
    let run = json!({ "logit_diff": 1.0, "p_true": 0.5, "p_false": 0.25, "top_token": token,
        "p_top": 0.5 });
    json!({
        "schema": "patchboard/1", "id": format!("{n:020x}"), "model": text, "entity": text,
        "source_prompt": text, "base_prompt": text, "source_sentence": text,
        "base_sentence": text, "sentence_start": 1, "token_labels": [text, text],
        "num_layers": 2, "patching_results": [[0.5, -1.5], [2.0, null]], "template": text,
        "site": "attn_out", "align": "pad", "direction": "noising",
        "source_tokens": [token, token, token], "base_tokens": [token, token, token],
        "answers": { "true": answer, "false": answer },
        "baselines": { "source": run, "base": run },
        "readout": { "p_true": [[0.5, 0.5], [0.5, 0.5]], "p_false": [[0.5, 0.5], [0.5, 0.5]],
            "top_token": [[7, 7], [7, 7]], "top_token_labels": { "7": text } },
        "provenance": { "engine": text, "model_fingerprint": text, "model_revision": text,
            "architecture": text, "weights_dtype": text, "dtype": text, "device": text,
            "wall_secs": 1.0, "operations": 1.0, "finished_at": text },
        text: { text: [text] },
    })
}

/// A valid document for each of [`texts`].
pub fn documents() -> Vec<Value> {
    texts().iter().enumerate().map(|(n, text)| document(n, text)).collect()
}

/// Files that are refused, and what is said of them.
pub fn refused() -> Vec<(String, &'static str)> {
    let with = |field: &str, value: Value| {
        let mut changed = document(1, "a");
        changed[field] = value;
        changed.to_string()
    };
    let same_id = json!([document(1, "a"), document(1, "b")]);
    let mut cases = vec![
        (with("num_layers", json!(3)), "has 2 rows for 3 layers"),
        (with("num_layers", json!(u64::MAX)), "has 2 rows for 18446744073709551615 layers"),
        (with("num_layers", json!(-1)), "damaged: invalid value: integer `-1`"),
        (with("sentence_start", json!(u64::MAX)), "do not end with the last of 3 tokens"),
        (with("token_labels", json!([])), "2 layers and 0 columns"),
        (with("patching_results", json!([[1.0], [2.0, 3.0]])), "1 values in row 0 for 2 columns"),
        (with("patching_results", json!({ "0": 1 })), "damaged: invalid type: map"),
        (with("site", json!("head")), "damaged: unknown variant `head`"),
        (with("schema", json!("patchboard/99")), "update Patchboard"),
        (with("entity", json!(["a"])), "damaged: invalid type: sequence"),
        (same_id.to_string(), "two different documents have the id"),
        (format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000)), "recursion limit exceeded"),
        ("[".repeat(1 << 20), "recursion limit exceeded"),
        (String::new(), "expected a result document in JSON"),
    ];
    for id in ["../../outside", "/outside", "x/../../outside", "<script>", "a\u{0}b", "", "con"] {
        cases.push((with("id", json!(id)), "expected 20 hexadecimal digits in lower case"));
    }
    cases
}
