//! The maps of single pairs, small and beside each other, on one scale.

use leptos::prelude::*;
use shared::figure::colour::{MISSING, Preset, Rgb, colour_at};
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

/// The map of a pair.
fn picture(scale: &Scale, preset: Preset, look: Look, pair: usize) -> Option<String> {
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
    let places = move || {
        let n = pairs.with(Vec::len).min(n_shown.get());
        (0..n).map(|place| (place.to_string(), place)).collect()
    };
    // For another cell a place has another pair, and keeps its elements.
    let multiple = move |place: usize| {
        let pair = Memo::new(move |_| pairs.with(|pairs| pairs.get(place).copied()));
        let picture = Memo::new(move |_| {
            let (pair, preset) = (pair.get()?, preset.get());
            scale.with(|scale| picture(scale.as_ref()?, preset, look, pair))
        });
        let link = move || {
            let (pair, opened) = (pair.get()?, look.opened.get()?);
            let id = &opened.study.pairs.get(pair)?.id;
            let href = look.source.with_value(|source| href_of(source, id));
            let effect = effects.with(|effects| effects.get(pair).copied().flatten());
            Some(view! {
                <a class="multiple" href=href>
                    <img src=picture.get() alt="" />
                    <bdi>{name_of(&opened.study, pair)}</bdi>
                    <span class="facts">{numbers::value(3, effect)}</span>
                </a>
            })
        };
        view! { <li>{dynamic(link)}</li> }
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
            <ul class="multiples">{listed(places, multiple)}</ul>
            <button
                class="more"
                class:hidden=move || n() <= n_shown.get()
                on:click=move |_| n_shown.update(|n| *n += 4 * BATCH)
            >"Show more"</button>
        </section>
    }
}
