//! The maps of single pairs, small and beside each other, on one scale.

use leptos::prelude::*;
use shared::figure::colour::{MISSING, Rgb, colour_at};
use shared::wire::numbers;

use super::look::{Look, order};
use super::{href_of, name_of};
use crate::map::pixels;
use crate::platform::dynamic::{dynamic, listed};

/// How many are put on the page at a time.
const BATCH: usize = 24;

/// At most about so many effects say how far the colours go.
const MAX_SIZES: usize = 20_000;

/// What the maps have in common, whichever cell is held.
#[derive(Clone, PartialEq)]
struct Scale {
    /// Places in the lists, row by row.
    cells: Vec<usize>,
    n_columns: usize,
    /// The effect that has the last colour, in nats.
    end: f32,
}

fn scale(look: Look) -> Option<Scale> {
    let picture = look.picture.get().ok()?;
    let looked = look.now()?;
    let cells: Vec<_> = looked.indices(&picture.field).into_iter().map(|(_, at)| at).collect();
    let kept = looked.kept();
    let end = look.pooled.with(|pooled| {
        let Some(Ok(pooled)) = pooled else { return None };
        let mut sizes = Vec::new();
        let step = (kept.len() * cells.len() / MAX_SIZES).max(1);
        for pair in kept.iter().step_by(step) {
            let effects = cells.iter().filter_map(|at| pooled.samples.get(*pair, *at));
            sizes.extend(effects.map(|effect| Some(effect.abs())));
        }
        // One odd cell of one pair does not bleach all others.
        let order = order(&sizes);
        sizes[*order.get(order.len().saturating_sub(1) * 99 / 100)?]
    })?;
    Some(Scale { cells, n_columns: picture.field.columns.len(), end })
}

/// The pairs that count, the largest effect first.
fn ordered(look: Look, effects: &[Option<f32>]) -> Vec<usize> {
    let kept = look.now().map(|looked| looked.kept()).unwrap_or_default();
    let own: Vec<_> = kept.iter().map(|pair| effects.get(*pair).copied().flatten()).collect();
    order(&own).into_iter().rev().map(|at| kept[at]).collect()
}

/// The maps of the pairs that count, the largest effect at the cell first.
#[component]
pub fn Multiples(look: Look) -> impl IntoView {
    let scale = Memo::new(move |_| scale(look));
    let effects = look.effects;
    let pairs = Memo::new(move |_| match scale.with(Option::is_some) {
        true => effects.with(|effects| ordered(look, effects)),
        false => Vec::new(),
    });
    let n_shown = RwSignal::new(BATCH);
    let n = move || pairs.with(Vec::len);
    let preset = Memo::new(move |_| look.options.with(|options| options.preset));
    let shown = move || {
        let Some(opened) = look.opened.get() else { return Vec::new() };
        // A study that grows while its job runs has other pairs at the same places.
        let named = |at: &usize| Some((format!("{at} {}", opened.study.pairs.get(*at)?.id), *at));
        pairs.with(|pairs| pairs.iter().take(n_shown.get()).filter_map(named).collect())
    };
    let multiple = move |pair: usize| {
        let picture = move || {
            let preset = preset.get();
            scale.with(|scale| {
                let scale = scale.as_ref()?;
                look.pooled.with(|pooled| {
                    let pooled = pooled.as_ref()?.as_ref().ok()?;
                    let colour = |at: &usize| -> Rgb {
                        let effect = pooled.samples.get(pair, *at);
                        effect.map_or(MISSING, |effect| {
                            colour_at(preset, 0.5 + 0.5 * effect / scale.end.max(f32::MIN_POSITIVE))
                        })
                    };
                    Some(pixels::address(scale.n_columns, scale.cells.iter().map(colour)))
                })
            })
        };
        let effect = move || effects.with(|effects| effects.get(pair).copied().flatten());
        let opened = look.opened.get_untracked();
        let name = opened.as_ref().map(|o| name_of(&o.study, pair)).unwrap_or_default();
        let href = opened.as_ref().and_then(|o| {
            let id = &o.study.pairs.get(pair)?.id;
            Some(look.source.with_value(|source| href_of(source, id)))
        });
        view! {
            <li>
                <a class="multiple" href=href>
                    <img src=picture alt="" />
                    <bdi>{name}</bdi>
                    <span class="facts">{dynamic(move || numbers::value(3, effect()))}</span>
                </a>
            </li>
        }
    };
    let legend = move || {
        let end = scale.with(|scale| scale.as_ref().map(|scale| scale.end));
        format!(
            "The effect at the cell above is written below each; the colours of all go to ±{} nats.",
            numbers::value(2, end)
        )
    };
    view! {
        <section class="card" aria-label="Maps of single pairs" class:hidden=move || n() == 0>
            <h2>"Each pair, the largest effect first"</h2>
            <p class="facts">{legend}</p>
            <ul class="multiples">{listed(shown, multiple)}</ul>
            <button
                class="more"
                class:hidden=move || n() <= n_shown.get()
                on:click=move |_| n_shown.update(|n| *n += 4 * BATCH)
            >"Show more"</button>
        </section>
    }
}
