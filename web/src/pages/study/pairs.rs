//! The pairs of a study as a table.

use std::collections::BTreeSet;

use leptos::prelude::*;
use shared::study::{Study, StudyPair};
use shared::wire::numbers;

use super::look::{Look, order};
use super::{href_of, name_of};
use crate::platform::dynamic::{dynamic, listed};
use crate::widgets::inputs;

/// How many rows are put on the page at a time.
const BATCH: usize = 100;

/// What the rows are sorted by.
#[derive(Clone, Copy, PartialEq)]
enum By {
    Row,
    Name,
    Contrast,
    Source,
    Base,
    Effect,
}

/// How far apart the two unpatched runs are, in nats.
fn contrast(pair: &StudyPair) -> Option<f32> {
    Some(pair.source.logit_diff? - pair.base.logit_diff?)
}

/// The values beyond which an effect is an outlier, as Tukey has it: one and a half times as far beyond
/// the quartiles as these are apart.
fn fences(effects: &[Option<f32>]) -> Option<(f32, f32)> {
    let order = order(effects);
    let at = |part: f32| {
        let last = order.len().checked_sub(1)?;
        effects[order[(part * last as f32).round() as usize]]
    };
    let (low, high) = (at(0.25)?, at(0.75)?);
    let reach = 1.5 * (high - low);
    Some((low - reach, high + reach))
}

/// The places of the pairs in the order that the reader wants.
fn ordered(study: &Study, effects: &[Option<f32>], by: By) -> Vec<usize> {
    let number = |(at, pair): (usize, &StudyPair)| match by {
        By::Contrast => contrast(pair),
        By::Source => pair.source.logit_diff,
        By::Base => pair.base.logit_diff,
        _ => effects.get(at).copied().flatten(),
    };
    match by {
        By::Row => (0..study.pairs.len()).collect(),
        By::Name => {
            let names = (0..study.pairs.len()).map(|at| (name_of(study, at).to_lowercase(), at));
            names.collect::<BTreeSet<_>>().into_iter().map(|(_, at)| at).collect()
        }
        _ => order(&study.pairs.iter().enumerate().map(number).collect::<Vec<_>>()),
    }
}

/// The table.
#[component]
pub fn Pairs(look: Look) -> impl IntoView {
    let by = RwSignal::new((By::Row, false));
    let n_shown = RwSignal::new(BATCH);
    let only_left_out = RwSignal::new(false);
    let head = move |(name, own): (&'static str, By)| {
        let sorted = move || match by.get() {
            (now, _) if now != own => "none",
            (_, false) => "ascending",
            (_, true) => "descending",
        };
        // Numbers are asked for by their largest.
        let first = !matches!(own, By::Row | By::Name);
        let sort = move |_| {
            by.update(|by| *by = if by.0 == own { (own, !by.1) } else { (own, first) });
        };
        view! { <th scope="col" aria-sort=sorted><button class="quiet" on:click=sort>{name}</button></th> }
    };
    let fences = Memo::new(move |_| {
        let kept = look.opened.get()?.study.kept(None).collect::<Vec<_>>();
        look.effects.with(|effects| {
            let of_kept = kept.iter().filter_map(|at| effects.get(*at).copied().flatten());
            fences(&of_kept.map(Some).collect::<Vec<_>>())
        })
    });
    // For another cell only the effects are written anew, unless they are what the rows are sorted by.
    let rows = move || {
        let opened = look.opened.get()?;
        let own = opened.clone();
        let shown = move || {
            let (study, (by, is_down)) = (&own.study, by.get());
            let mut order = match by {
                By::Effect => look.effects.with(|effects| ordered(study, effects, by)),
                by => ordered(study, &[], by),
            };
            if is_down {
                order.reverse();
            }
            let only = only_left_out.get();
            let order = order.into_iter().filter(|at| !only || study.pairs[*at].left_out.is_some());
            order.take(n_shown.get()).map(|at| (at.to_string(), at)).collect()
        };
        let row = move |at: usize| {
            let study = &opened.study;
            let pair = &study.pairs[at];
            let is_kept = pair.left_out.is_none();
            let number = numbers::logit_diff;
            let effect = move || {
                let effect = look.effects.with(|effects| effects.get(at).copied().flatten());
                let fences = effect.zip(fences.get().filter(|_| is_kept));
                let is_outlier = fences.is_some_and(|(e, (low, high))| e < low || e > high);
                number(effect) + if is_outlier { " outlier" } else { "" }
            };
            let href = look.source.with_value(|source| href_of(source, &pair.id));
            view! {
                <tr class:left-out=!is_kept>
                    <th scope="row">{at + 1}</th>
                    <td class="pair-name-cell"><a href=href dir="auto">{name_of(study, at)}</a></td>
                    <td>{number(contrast(pair))}</td>
                    <td>{number(pair.source.logit_diff)}</td>
                    <td>{number(pair.base.logit_diff)}</td>
                    <td>{dynamic(effect)}</td>
                    <td class="pair-why">{pair.left_out.clone()}</td>
                </tr>
            }
        };
        Some(listed(shown, row))
    };
    let n_pairs = move |only: bool| {
        look.opened.with(|opened| {
            let study = opened.as_ref().map(|opened| &opened.study);
            study.map_or(0, |s| if only { s.pairs.len() - s.n_kept() } else { s.pairs.len() })
        })
    };
    let heads = [
        ("Row", By::Row),
        ("Pair", By::Name),
        ("Source less base", By::Contrast),
        ("Source", By::Source),
        ("Base", By::Base),
        ("Effect at the cell", By::Effect),
    ];
    view! {
        <section class="card" aria-label="Pairs">
            <h2>"Pairs"</h2>
            <div class="row" class:hidden=move || n_pairs(true) == 0>
                {inputs::check(
                    "Only those that do not count",
                    only_left_out.into(),
                    Callback::new(move |only| only_left_out.set(only)),
                )}
            </div>
            <div class="scroll" tabindex="0" role="region" aria-label="Table of pairs">
                <table class="numbers study-pairs">
                    <thead><tr>
                        {heads.map(head).into_iter().collect_view()}
                        <th scope="col">"Does not count because"</th>
                    </tr></thead>
                    <tbody>{dynamic(rows)}</tbody>
                </table>
            </div>
            <button
                class="more"
                class:hidden=move || n_pairs(only_left_out.get()) <= n_shown.get()
                on:click=move |_| n_shown.update(|n| *n += 10 * BATCH)
            >"Show more"</button>
        </section>
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outliers_lie_beyond_tukeys_fences() {
        let effects: Vec<_> = (0..=8).map(|n| Some(n as f32)).rev().collect();
        assert_eq!(fences(&effects), Some((-4.0, 12.0)));
        assert_eq!(fences(&[]), None);
        assert_eq!(fences(&[Some(3.0)]), Some((3.0, 3.0)));
    }
}
