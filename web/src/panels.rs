//! What stands around the heatmap: baselines, warnings, provenance.

use std::sync::Arc;

use leptos::prelude::*;
use shared::document::{Baseline, Document};
use shared::field::metric::Metric;
use shared::figure::text;
use shared::specification::vocabulary::{Align, Direction, Site, UNKNOWN};
use shared::wire::numbers;

use crate::readout::measured;
use crate::source::sentence;

/// The unpatched runs.
#[component]
pub fn Baselines(document: Arc<Document>) -> impl IntoView {
    let baselines = document.baselines.clone()?;
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
    let difference = |run: &Baseline| numbers::value(Metric::LogitDiff, run.logit_diff).into_any();
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
                        {row(measured(&document).into(), &difference)}
                        {row(Metric::PTrue.title(&document), &|run| {
                            numbers::probability(run.p_true).into_any()
                        })}
                        {row(Metric::PFalse.title(&document), &|run| {
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
    if let Some(v) = &document.verification {
        facts.push(match v.max_abs_diff {
            Some(difference) => (
                "Verified",
                format!("{} cells, largest difference {difference:.1e} nats", v.n_cells),
            ),
            None => ("Not verified", format!("{} cells came out as NaN or infinity", v.n_cells)),
        });
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
