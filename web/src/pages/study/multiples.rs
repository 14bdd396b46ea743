//! The maps of single pairs, small and beside each other, on one scale.

use leptos::html;
use leptos::prelude::*;
use shared::figure::colour::{MISSING, Rgb, colour_at};
use shared::wire::numbers;

use super::look::{Look, order};
use super::{href_of, name_of};
use crate::map::pixels;
use crate::navigation::viewer::Viewer;

/// How many are put on the page at a time.
const BATCH: usize = 24;

/// Everything that the maps have in common, and the pairs in order.
#[derive(Clone, PartialEq)]
struct Shared {
    /// Places in the lists, row by row.
    cells: Vec<usize>,
    n_columns: usize,
    /// The effect that has the last colour, in nats.
    end: f32,
    pairs: Vec<(usize, Option<f32>)>,
}

fn shared(look: Look) -> Option<Shared> {
    let picture = look.picture.get().ok()?;
    let looked = look.now()?;
    let cells: Vec<_> = looked.indices(&picture.field).into_iter().map(|(_, at)| at).collect();
    let (kept, of_cell) = (looked.kept(), look.effects());
    let own: Vec<_> = kept.iter().map(|pair| of_cell.get(*pair).copied().flatten()).collect();
    let pairs = order(&own).into_iter().rev().map(|at| (kept[at], own[at])).collect();
    let end = look.pooled.with(|pooled| {
        let Some(Ok(pooled)) = pooled else { return None };
        let mut sizes = Vec::new();
        for pair in &kept {
            let effects = cells.iter().filter_map(|at| pooled.samples.get(*pair, *at));
            sizes.extend(effects.map(|effect| Some(effect.abs())));
        }
        // One odd cell of one pair does not bleach all others.
        let order = order(&sizes);
        sizes[*order.get(order.len().saturating_sub(1) * 99 / 100)?]
    })?;
    Some(Shared { cells, n_columns: picture.field.columns.len(), end, pairs })
}

/// The maps of the pairs that count, the largest effect at the cell first.
#[component]
pub fn Multiples(look: Look) -> impl IntoView {
    let viewer = Viewer::get();
    let all = Memo::new(move |_| shared(look));
    let n_shown = RwSignal::new(BATCH);
    let n = move || all.with(|all| all.as_ref().map_or(0, |all| all.pairs.len()));
    let preset = move || viewer.address.with(|address| address.view.figure.preset);
    let shown = move || {
        all.with(|all| {
            let pairs = all.as_ref().map(|all| &all.pairs[..]).unwrap_or_default();
            pairs.iter().take(n_shown.get()).copied().collect::<Vec<_>>()
        })
    };
    let multiple = move |(pair, effect): (usize, Option<f32>)| {
        let canvas = NodeRef::<html::Canvas>::new();
        Effect::new(move || {
            let Some(canvas) = canvas.get() else { return };
            all.with(|all| {
                let Some(all) = all else { return };
                let preset = preset();
                look.pooled.with(|pooled| {
                    let Some(Ok(pooled)) = pooled else { return };
                    let colour = |at: &usize| -> Rgb {
                        let effect = pooled.samples.get(pair, *at);
                        effect.map_or(MISSING, |effect| {
                            colour_at(preset, 0.5 + 0.5 * effect / all.end.max(f32::MIN_POSITIVE))
                        })
                    };
                    pixels::draw(&canvas, all.n_columns as u32, all.cells.iter().map(colour));
                });
            });
        });
        let opened = look.opened.get_untracked();
        let name = opened.as_ref().map(|o| name_of(&o.study, pair)).unwrap_or_default();
        let href = opened.as_ref().and_then(|o| {
            let id = &o.study.pairs.get(pair)?.id;
            Some(look.source.with_value(|source| href_of(source, id)))
        });
        view! {
            <li>
                <a class="multiple" href=href>
                    <canvas node_ref=canvas aria-hidden="true"></canvas>
                    <bdi>{name}</bdi>
                    <span class="facts">{numbers::value(3, effect)}</span>
                </a>
            </li>
        }
    };
    let legend = move || {
        let end = all.with(|all| all.as_ref().map(|all| all.end));
        format!(
            "The effect at the cell above is written below each; the colours of all go to ±{} nats.",
            numbers::value(2, end)
        )
    };
    view! {
        <section class="card" aria-label="Maps of single pairs" class:hidden=move || n() == 0>
            <h2>"Each pair, the largest effect first"</h2>
            <p class="facts">{legend}</p>
            <ul class="multiples"><For each=shown key=|pair| pair.0 children=multiple /></ul>
            <button
                class="more"
                class:hidden=move || n() <= n_shown.get()
                on:click=move |_| n_shown.update(|n| *n += 4 * BATCH)
            >"Show more"</button>
        </section>
    }
}
