//! Documents for tests.

use crate::document::{Answer, Answers, Baseline, Baselines, Document, Readout, Token};

/// A document of these cells, `[layer][position]`, with the tokens `t0`, `t1`, ... from position 3
/// and no more than the notebook's fields.
pub fn document(cells: &[&[Option<f32>]]) -> Document {
    let labels = (0..cells[0].len()).map(|i| format!("t{i}")).collect();
    let (source, base) = ("The council fined them.", "The council met them.");
    Document {
        id: "0".repeat(20),
        model: "tiny".into(),
        entity: "the council".into(),
        source_prompt: source.into(),
        base_prompt: base.into(),
        source_sentence: source.into(),
        base_sentence: base.into(),
        sentence_start: 3,
        patching_results: cells.iter().map(|row| row.to_vec()).collect(),
        ..Document::blank(cells.len(), labels)
    }
}

/// `n_layers` x `n_columns` cells that run from 0 upwards in steps of 0.25, row by row.
pub fn ramp(n_layers: usize, n_columns: usize) -> Document {
    let cells: Vec<Vec<_>> = (0..n_layers)
        .map(|l| (0..n_columns).map(|c| Some(0.25 * (l * n_columns + c) as f32)).collect())
        .collect();
    document(&cells.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// Gives the document tokens with the ids 100, 101, ... and its labels as the swept ones' texts.
/// The source's differ in the columns named.
pub fn with_tokens(mut document: Document, differing: &[usize]) -> Document {
    let start = document.sentence_start;
    let texts = std::iter::repeat_n("x", start).chain(document.token_labels.iter().map(|t| &**t));
    document.base_tokens = (100..).zip(texts).map(|(id, t)| Token { id, text: t.into() }).collect();
    document.source_tokens = document.base_tokens.clone();
    for column in differing {
        document.source_tokens[start + column].id += 1000;
    }
    document
}

/// Answers of these words.
pub fn answers(yes: &str, no: &str) -> Answers {
    let answer =
        |word: &str| Answer { word: word.into(), kept: vec![], dropped: vec![], continued: vec![] };
    Answers { true_answer: answer(yes), false_answer: answer(no) }
}

/// Baselines with these logit differences.
pub fn baselines(source: f32, base: f32) -> Baselines {
    let baseline = |logit_diff| Baseline {
        logit_diff: Some(logit_diff),
        p_true: Some(0.25),
        p_false: Some(0.5),
        top_token: Some(Token { id: 1, text: " TRUE".into() }),
        p_top: Some(0.5),
    };
    Baselines { source: baseline(source), base: baseline(base) }
}

/// A readout where P(TRUE) counts 0, 0.1, 0.2, ... cell by cell, P(FALSE) is the rest to 1, and
/// the top token is 7.
pub fn readout(document: &Document) -> Readout {
    let n_columns = document.token_labels.len();
    let grid = |f: &dyn Fn(usize) -> f32| {
        (0..document.num_layers)
            .map(|l| (0..n_columns).map(|c| Some(f(l * n_columns + c))).collect())
            .collect()
    };
    Readout {
        p_true: grid(&|cell| cell as f32 / 10.0),
        p_false: grid(&|cell| (10.0 - cell as f32) / 10.0),
        top_token: vec![vec![Some(7); n_columns]; document.num_layers].into(),
        top_token_labels: [(7, " TRUE".to_string())].into(),
    }
}
