//! What `sweep` prints of an experiment: what the notebook prints, and what it should have.

use shared::document::{Answer, Answers, Baseline, Baselines, Token};
use shared::wire::job::Said;

use crate::experiment::Experiment;
use crate::model::Description;
use crate::sweep::Program;

/// Prompts, tokens, alignment and answers.
pub fn experiment(model: &Description, experiment: &Experiment) -> String {
    let alignment = &experiment.alignment;
    let tokens = |ids: &[u32]| {
        let tokens = model.tokenizer.tokens(ids).into_iter();
        tokens.map(|token| format!("{:?}", token.text)).collect::<Vec<_>>().join(" ")
    };
    let columns = alignment.start..alignment.base.len();
    let (n_source, n_base) = alignment.lengths();
    let from = |ids: &[u32]| tokens(&ids[ids.len() - columns.len()..]);
    let lines = [
        format!("source   {:?}", experiment.source_prompt),
        format!("base     {:?}", experiment.base_prompt),
        format!("answers  {}", answers(&experiment.answers)),
        format!(
            "tokens   source {}, base {}; swept {} positions, {} to {}",
            n_source,
            n_base,
            columns.len(),
            columns.start,
            columns.end - 1
        ),
        format!("         source {}", from(&alignment.source)),
        format!("         base   {}", from(&alignment.base)),
    ];
    lines.join("\n")
}

fn answers(answers: &Answers) -> String {
    let one = |answer: &Answer| {
        let kept: Vec<_> =
            answer.kept.iter().map(|Token { id, text }| format!("{text:?} {id}")).collect();
        if !answer.continued.is_empty() {
            let ids: Vec<_> =
                answer.continued.iter().map(|t| format!("{:?} {}", t.text, t.id)).collect();
            return format!("{} (read token by token: {})", answer.word, ids.join(", "));
        }
        let dropped = match &answer.dropped[..] {
            [] => String::new(),
            dropped => {
                let dropped: Vec<_> = dropped.iter().map(|text| format!("{text:?}")).collect();
                format!("; more than one token: {}", dropped.join(", "))
            }
        };
        format!("{} ({}{dropped})", answer.word, kept.join(", "))
    };
    format!("{}\n         against {}", one(&answers.true_answer), one(&answers.false_answer))
}

/// Both baselines, a line each.
pub fn baselines(names: &Answers, baselines: &Baselines) -> String {
    let none = || "undefined".to_string();
    let one = |name: &str, baseline: &Baseline| {
        let probability = |p: Option<f32>| p.map_or_else(none, |p| format!("{p:.4}"));
        format!(
            "{name:8} log P({t}) - log P({f}) = {}, P({t}) {}, P({f}) {}, top {} {}",
            baseline.logit_diff.map_or_else(none, |value| format!("{value:+.3}")),
            probability(baseline.p_true),
            probability(baseline.p_false),
            baseline.top_token.as_ref().map_or_else(none, |top| format!("{:?}", top.text)),
            probability(baseline.p_top),
            t = names.true_answer.word,
            f = names.false_answer.word,
        )
    };
    [one("source", &baselines.source), one("base", &baselines.base)].join("\n")
}

/// What the model says after each prompt, a line each.
pub fn said(said: &Said) -> String {
    let one = |name: &str, tokens: &[Token]| {
        let text: String = tokens.iter().map(|token| &*token.text).collect();
        format!("{name:8} goes on {text:?}")
    };
    [one("source", &said.source), one("base", &said.base)].join("\n")
}

/// The plan: cells, passes, operations, memory.
pub fn plan(experiment: &Experiment, program: &Program) -> String {
    let n_trials = experiment.specification.trials.len();
    let n_cells: usize = experiment.specification.grids.iter().map(|grid| grid.n_cells()).sum();
    let by = if n_trials == n_cells { String::new() } else { format!(" by {n_trials} trials") };
    format!(
        "plan     {n_cells} cells{by}, of which {} are known beforehand; {} over the layers, {:.1} \
         GFLOP, at most {} MiB beyond the weights",
        n_trials - program.n_computed(),
        passes(program.n_passes()),
        program.operations.done / 1e9,
        program.peak_bytes.div_ceil(1 << 20)
    )
}

/// What a sweep costs beside memory of its own.
pub fn cost(held_bytes: usize, read_bytes: u64, wall_secs: f64) -> String {
    let read = match read_bytes {
        0 => String::new(),
        n => format!(", {:.1} GB read from files", n as f64 / 1e9),
    };
    format!("cost     {} MiB for the weights{read}; about {wall_secs:.0} s", held_bytes >> 20)
}

/// `one pass`, `2 passes`.
pub fn passes(n: usize) -> String {
    if n == 1 { "one pass".into() } else { format!("{n} passes") }
}

/// `1 pair`, `2 pairs`.
pub fn counted(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}
