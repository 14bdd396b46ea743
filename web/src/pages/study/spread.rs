//! A cell's effects over the pairs, a point each.

use leptos::ev;
use leptos::html;
use leptos::prelude::*;
use shared::wire::numbers;

use super::look::{Look, Looked, order};
use super::{href_of, name_of};
use crate::data::words;
use crate::platform::dom;

const HEIGHT: f64 = 120.0;
const SIDE: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 30.0;
/// The part of a whole that spreads points evenly, however many there are.
const GOLDEN: f64 = 0.618_034;
/// A path draws many points as one element, since laying out one for each would take longer than all else on the
/// page. Points of several paths that lie over each other are darker there.
const N_PATHS: usize = 5;
/// How far from a point one may be to point at it, in pixels.
const NEAR: f64 = 24.0;

/// The picture's points, and where they are.
#[derive(Clone, Default)]
struct Points {
    /// Pair and effect in nats, the smallest first.
    all: Vec<(usize, f64)>,
    lo: f64,
    hi: f64,
    width: f64,
    /// The mean and the ends of its interval.
    mean: [Option<f32>; 3],
}

impl Points {
    fn of(look: Look, width: f64) -> Self {
        let (effects, looked) = (look.effects.get(), look.now());
        let kept = looked.as_ref().map(Looked::kept).unwrap_or_default();
        let mean = look.cell.get().zip(looked).and_then(|(key, looked)| {
            let (at, effect) = (looked.index(key)?, &looked.summary().effect);
            let of = |list: &[Option<f32>]| list.get(at).copied().flatten();
            Some([of(&effect.mean), of(&effect.low), of(&effect.high)])
        });
        let own: Vec<_> = kept.iter().map(|pair| effects.get(*pair).copied().flatten()).collect();
        let place = |at: usize| Some((kept[at], f64::from(own[at]?)));
        let all: Vec<_> = order(&own).into_iter().filter_map(place).collect();
        let lo = all.first().map_or(0.0, |point| point.1).min(0.0);
        let hi = all.last().map_or(0.0, |point| point.1).max(0.0);
        let (lo, hi) = if hi > lo { (lo, hi) } else { (lo - 0.5, hi + 0.5) };
        Self { all, lo, hi, width, mean: mean.unwrap_or_default() }
    }

    fn x(&self, value: f64) -> f64 {
        SIDE + (self.width - 2.0 * SIDE) * (value - self.lo) / (self.hi - self.lo)
    }

    fn y(at: usize) -> f64 {
        TOP + (HEIGHT - TOP - BOTTOM) * (at as f64 * GOLDEN).fract()
    }

    /// The picture, of numbers alone.
    fn svg(&self) -> String {
        if self.all.is_empty() {
            return String::new();
        }
        let bottom = HEIGHT - BOTTOM;
        let [mean, low, high] = self.mean.map(|value| value.map(|value| self.x(value.into())));
        let mut svg = String::new();
        if let (Some(low), Some(high)) = (low, high) {
            let (width, height) = ((high - low).max(1.0), bottom - TOP);
            svg += &format!(
                "<rect class=\"spread-band\" x=\"{low}\" y=\"{TOP}\" width=\"{width}\" \
                 height=\"{height}\"/>"
            );
        }
        let mut line = |class: &str, x: f64| {
            svg += &format!(
                "<line class=\"{class}\" x1=\"{x}\" x2=\"{x}\" y1=\"{TOP}\" y2=\"{bottom}\"/>"
            );
        };
        line("chart-reference", self.x(0.0));
        if let Some(mean) = mean {
            line("spread-mean", mean);
        }
        for (value, anchor) in [(self.lo, "start"), (self.hi, "end")] {
            let (x, text) = (self.x(value), numbers::value(2, Some(value as f32)));
            svg += &format!(
                "<text x=\"{x}\" y=\"{}\" text-anchor=\"{anchor}\">{text}</text>",
                HEIGHT - 12.0
            );
        }
        for path in 0..N_PATHS.min(self.all.len()) {
            svg += "<path class=\"spread-points\" d=\"";
            for (at, (_, effect)) in self.all.iter().enumerate().skip(path).step_by(N_PATHS) {
                svg += &format!("M{:.1} {:.1}h0", self.x(*effect), Self::y(at));
            }
            svg += "\"/>";
        }
        svg
    }

    /// The point that is nearest, if it is near.
    fn near(&self, x: f64, y: f64) -> Option<usize> {
        let mut found = (NEAR, None);
        for (at, (_, effect)) in self.all.iter().enumerate() {
            let away = (self.x(*effect) - x).hypot(Self::y(at) - y);
            if away < found.0 {
                found = (away, Some(at));
            }
        }
        found.1
    }
}

/// The strip plot.
#[component]
pub fn Spread(look: Look) -> impl IntoView {
    let outer = NodeRef::<html::Div>::new();
    let width = dom::width_of(outer);
    let points = RwSignal::new(Points::default());
    let active = RwSignal::new(None::<usize>);
    Effect::new(move || {
        points.set(Points::of(look, width.get().unwrap_or(320.0)));
        active.set(None);
    });
    let svg = move || points.with(Points::svg);
    let ring = move || {
        let at = active.get()?;
        let (x, y) =
            points.with(|points| Some((points.x(points.all.get(at)?.1), Points::y(at))))?;
        Some(format!("transform:translate({x}px,{y}px)"))
    };
    let pair = move || points.with(|points| points.all.get(active.get()?).copied());
    let href = move || {
        let opened = look.opened.get()?;
        let id = &opened.study.pairs.get(pair()?.0)?.id;
        Some(look.source.with_value(|source| href_of(source, id)))
    };
    let follow = move || {
        if let Some(href) = untrack(href) {
            dom::follow(&href);
        }
    };
    let pointed = move |event: ev::PointerEvent| {
        if let Some(outer) = outer.get_untracked() {
            let rect = outer.get_bounding_client_rect();
            let x = f64::from(event.client_x()) - rect.left();
            let y = f64::from(event.client_y()) - rect.top();
            active.set(points.with_untracked(|points| points.near(x, y)));
        }
    };
    let key = move |event: ev::KeyboardEvent| {
        let Some(last) = points.with_untracked(|points| points.all.len().checked_sub(1)) else {
            return;
        };
        let now = active.get_untracked();
        let to = match (&*event.key(), now) {
            ("ArrowRight" | "ArrowUp", at) => at.map_or(0, |at| (at + 1).min(last)),
            ("ArrowLeft" | "ArrowDown", at) => at.map_or(last, |at| at.saturating_sub(1)),
            ("Home", _) => 0,
            ("End", _) => last,
            ("Enter", Some(_)) => return follow(),
            _ => return,
        };
        event.prevent_default();
        active.set(Some(to));
    };
    let said = move || {
        let Some((pair, effect)) = pair() else {
            return "Nats. The line is the mean, the band its 95 % interval; point at a pair."
                .into();
        };
        let name = look.opened.get().map(|opened| name_of(&opened.study, pair));
        let effect = numbers::value(3, Some(effect as f32));
        format!("{}: {effect} nats. Click or Enter opens it.", name.unwrap_or_default())
    };
    let heading = move || {
        let place = look.cell.get().and_then(|key| {
            let picture = look.picture.get().ok()?;
            let field = &picture.field;
            let cell = field.find(key)?;
            let row = &field.rows.marks.get(cell.row)?.text;
            let column = &field.columns.marks.get(cell.column)?.text;
            Some(format!("{} {row}, {} {column}", field.rows.kind.one(), field.columns.kind.one()))
        });
        let n = words::count(points.with(|points| points.all.len()), "pair", "pairs");
        format!("Effects of {n} at {}", place.unwrap_or_default())
    };
    let is_hidden = move || points.with(|points| points.all.is_empty());
    view! {
        <section class="card spread" aria-label="Spread over pairs" class:hidden=is_hidden>
            <h2>{heading}</h2>
            <div
                class="spread-plot"
                node_ref=outer
                tabindex="0"
                role="application"
                aria-label="Effects of single pairs, in nats. Arrow keys move, Enter opens the pair."
                on:pointermove=pointed
                on:click=move |_| follow()
                on:keydown=key
            >
                <svg
                    width=move || points.with(|points| points.width)
                    height=HEIGHT
                    aria-hidden="true"
                    inner_html=svg
                ></svg>
                <i class="spread-ring" class:hidden=move || ring().is_none() style=move || ring().unwrap_or_default()></i>
            </div>
            <p class="facts" role="status" dir="auto">{said}</p>
        </section>
    }
}
