//! What stands around the heatmap: baselines, warnings, provenance.

use std::sync::Arc;

use leptos::prelude::*;
use shared::document::{Answers, Baseline, Controls, Document, Prompt, Recheck, Verification};
use shared::field::metric::Metric;
use shared::figure::text;
use shared::specification::vocabulary::{Align, Direction, Site, UNKNOWN};
use shared::wire::numbers;

use crate::data::words;
use crate::data::words::sentence;
use crate::map::readout::measured;

/// The unpatched runs.
#[component]
pub fn Baselines(
    baselines: Option<shared::document::Baselines>,
    answers: Option<Answers>,
) -> impl IntoView {
    let baselines = baselines?;
    let title = |metric: Metric| metric.title(answers.as_ref(), Prompt::Base);
    // A column a run: answers and top tokens may be long, and the panel is narrow.
    let row = |name: String, value: &dyn Fn(&Baseline) -> AnyView| {
        view! {
            <tr>
                <th scope="row">{name}</th>
                <td>{value(&baselines.source)}</td>
                <td>{value(&baselines.base)}</td>
            </tr>
        }
    };
    let difference = |run: &Baseline| numbers::logit_diff(run.logit_diff).into_any();
    let top = |run: &Baseline| match &run.top_token {
        Some(top) => view! { <bdi class="tip-token">{text::token(&top.text)}</bdi> }.into_any(),
        None => numbers::NO_VALUE.into_any(),
    };
    Some(view! {
        <section class="card" aria-label="Baselines">
            <h2>"Baselines"</h2>
            <div class="scroll">
                <table class="numbers">
                    <thead><tr>
                        <th></th>
                        <th scope="col">"source"</th>
                        <th scope="col">"base"</th>
                    </tr></thead>
                    <tbody>
                        {row(measured(answers.as_ref()).into(), &difference)}
                        {row(title(Metric::PTrue), &|run| {
                            numbers::probability(run.p_true).into_any()
                        })}
                        {row(title(Metric::PFalse), &|run| {
                            numbers::probability(run.p_false).into_any()
                        })}
                        {row("Top token".into(), &top)}
                        {row("P(top token)".into(), &|run| {
                            numbers::probability(run.p_top).into_any()
                        })}
                    </tbody>
                </table>
            </div>
        </section>
    })
}

/// What a reader should know before trusting the picture.
#[component]
pub fn Warnings(warnings: Vec<String>) -> impl IntoView {
    let items = warnings.iter().map(|warning| view! { <li>{sentence(warning)}</li> });
    (!warnings.is_empty()).then(|| {
        view! {
            <ul class="warnings" aria-label="Warnings">{items.collect_view()}</ul>
        }
    })
}

/// What was checked of the numbers while they were computed, in one line.
#[component]
pub fn Certificate(verification: Option<Verification>) -> impl IntoView {
    let line = verification.and_then(|verification| certificate(&verification));
    line.map(|line| view! { <p class="note certificate">{line}</p> })
}

fn nats(value: f32) -> String {
    match value {
        0.0 => "0 nats".to_string(),
        value => format!("{value:.1e} nats").replace("e-", "e−"),
    }
}

/// The line; `None` where nothing was checked, or came out as no number, which is a warning.
fn certificate(verification: &Verification) -> Option<String> {
    let rechecked = verification.recheck.and_then(rechecked);
    let parts = [again(verification), rechecked, verification.controls.as_ref().map(controlled)];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

/// How far the numbers are from those of f32 on the CPU.
fn rechecked(recheck: Recheck) -> Option<String> {
    let difference = recheck.max_abs_diff?;
    let n = recheck.n_cells();
    (n > 0).then(|| {
        format!(
            "{} computed again in f32 on the CPU, at most {} away.",
            words::count(n, "cell", "cells"),
            nats(difference)
        )
    })
}

/// What the control cells of a sweep on a server showed.
fn controlled(controls: &Controls) -> String {
    let Controls { n_waves, n_discarded, self_patch, end_patch } = *controls;
    let mut line = format!(
        "Control cells in {}: a run patched with itself changes by at most {}; patched with the end \
         of the other, it is at most {} away from that",
        words::count(n_waves, "wave", "waves"),
        nats(self_patch),
        nats(end_patch)
    );
    if n_discarded > 0 {
        let waves = words::count(n_discarded, "wave", "waves");
        let were = if n_discarded == 1 { "was" } else { "were" };
        line += &format!("; {waves} that did not pass {were} thrown away and asked for again");
    }
    line + "."
}

/// What a second run of some cells showed.
fn again(verification: &Verification) -> Option<String> {
    let Verification {
        n_cells,
        max_abs_diff,
        self_patch,
        n_unreachable,
        unreachable_equal,
        alone,
        controls: _,
        recheck: _,
    } = *verification;
    let difference = max_abs_diff.filter(|_| n_cells > 0)?;
    let mut line = format!(
        "Verified: {} run again one by one, at most {} away",
        words::count(n_cells, "cell", "cells"),
        nats(difference)
    );
    if let Some(change) = self_patch {
        line += &format!("; a run patched with itself changes by {}", nats(change));
    }
    if let (Some(n), Some(is_equal)) = (n_unreachable.filter(|n| *n > 0), unreachable_equal) {
        let how = match (is_equal, n) {
            (true, 1) => "equals",
            (true, _) => "equal",
            (false, 1) => "does not equal",
            (false, _) => "do not equal",
        };
        let cells = words::count(n, "cell", "cells");
        line += &format!("; {cells} that cannot matter {how} the unpatched run to the bit");
    }
    if let Some(difference) = alone {
        line += &format!("; computed alone it differs by {}", nats(difference));
    }
    Some(line + ".")
}

/// What made the numbers.
#[component]
pub fn Provenance(document: Arc<Document>) -> impl IntoView {
    let mut facts = vec![("Document", document.id.clone())];
    if let Some(p) = &document.provenance {
        facts.extend([
            ("Engine", p.engine.clone()),
            ("Architecture", p.architecture.clone()),
            ("Revision", p.model_revision.clone().unwrap_or_default()),
            ("Fingerprint", p.model_fingerprint.clone()),
            ("Weights", p.weights_dtype.clone()),
            ("Computed in", format!("{} on {}", p.dtype, p.device)),
            ("Time", format!("{:.1} s, {:.2e} operations", p.wall_secs, p.operations)),
            ("Finished", p.finished_at.clone()),
        ]);
    }
    facts.extend([
        ("Site", document.site.map_or(UNKNOWN, Site::name).to_string()),
        ("Alignment", document.align.map_or(UNKNOWN, Align::name).to_string()),
        ("Direction", document.direction.map_or(UNKNOWN, Direction::name).to_string()),
        ("Template", document.template.clone().unwrap_or_default()),
    ]);
    let rows = facts.into_iter().filter(|(_, value)| !value.is_empty());
    view! {
        <section class="card" aria-label="Provenance">
            <h2>"Provenance"</h2>
            <dl class="provenance">
                {rows.map(|(name, value)| view! { <dt>{name}</dt><dd dir="auto">{value}</dd> }).collect_view()}
            </dl>
        </section>
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_says_what_was_checked_and_no_more() {
        let checked = Verification {
            n_cells: 6,
            max_abs_diff: Some(3.21e-6),
            self_patch: Some(0.0),
            n_unreachable: Some(1),
            unreachable_equal: Some(true),
            alone: Some(1e-7),
            controls: None,
            recheck: None,
        };
        let recheck = Recheck { n_largest: 20, n_random: 20, max_abs_diff: Some(0.013) };
        let old = Verification { n_cells: 1, max_abs_diff: Some(0.5), ..Verification::default() };
        let controls = Controls { n_waves: 12, n_discarded: 0, self_patch: 5.7e-6, end_patch: 0.0 };
        let unequal = Verification { unreachable_equal: Some(false), ..checked.clone() };
        let cases = [
            (
                checked,
                Some(
                    "Verified: 6 cells run again one by one, at most 3.2e−6 nats away; a run \
                     patched with itself changes by 0 nats; 1 cell that cannot matter equals the \
                     unpatched run to the bit; computed alone it differs by 1.0e−7 nats.",
                ),
            ),
            (old.clone(), Some("Verified: 1 cell run again one by one, at most 5.0e-1 nats away.")),
            (
                Verification { controls: Some(controls), ..Verification::default() },
                Some(
                    "Control cells in 12 waves: a run patched with itself changes by at most 5.7e-6 \
                     nats; patched with the end of the other, it is at most 0 nats away from that.",
                ),
            ),
            (
                Verification { controls: Some(Controls { n_discarded: 1, ..controls }), ..old },
                Some(
                    "Verified: 1 cell run again one by one, at most 5.0e-1 nats away. Control cells \
                     in 12 waves: a run patched with itself changes by at most 5.7e-6 nats; patched \
                     with the end of the other, it is at most 0 nats away from that; 1 wave that did \
                     not pass was thrown away and asked for again.",
                ),
            ),
            (
                Verification { recheck: Some(recheck), ..Verification::default() },
                Some("40 cells computed again in f32 on the CPU, at most 1.3e-2 nats away."),
            ),
            (Verification { n_cells: 3, ..Verification::default() }, None),
            (Verification::default(), None),
        ];
        for (verification, expected) in cases {
            let line = certificate(&verification);
            assert_eq!(line, expected.map(|line| line.replace("e-", "e−")));
        }
        assert!(
            certificate(&unequal).unwrap().contains("1 cell that cannot matter does not equal")
        );
    }
}
