//! Where along the layers the effect moves to the last position.

use leptos::html;
use leptos::prelude::*;
use shared::specification::roles::Role;
use shared::study::{StudyAxis, StudyGrid, Summary};
use shared::wire::numbers;

use super::look::Look;
use crate::platform::dom;

const HEIGHT: f64 = 190.0;
const LEFT: f64 = 44.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 34.0;

/// The effects of a role over the layers, with the ends of their intervals.
#[derive(Clone)]
struct Curve {
    name: String,
    mean: Vec<Option<f32>>,
    low: Vec<Option<f32>>,
    high: Vec<Option<f32>>,
}

/// What the card shows.
struct Curves {
    layers: Vec<usize>,
    /// The last position's, and that of the role with the largest effect beside it.
    curves: [Curve; 2],
    words: String,
    /// The place of the layer of the handover.
    at: Option<usize>,
}

impl Curves {
    fn of(grid: &StudyGrid, summary: &Summary) -> Option<Self> {
        let [StudyAxis::Layer(layers), StudyAxis::Role(roles)] = &grid.axes[..] else {
            return None;
        };
        let effect = &summary.effect;
        let column = |list: &[Option<f32>], role: usize| -> Vec<Option<f32>> {
            let at = |layer| list.get(layer * roles.len() + role).copied().flatten();
            (0..layers.len()).map(at).collect()
        };
        let last = roles.iter().position(|role| *role == Role::Last)?;
        let largest = |role: usize| {
            column(&effect.mean, role).into_iter().flatten().fold(0.0, |a: f32, b| a.max(b.abs()))
        };
        let named = summary.handover.map(|handover| handover.from);
        let from = match named.and_then(|from| roles.iter().position(|role| *role == from)) {
            Some(from) => from,
            None => (0..roles.len())
                .filter(|role| *role != last)
                .max_by(|a, b| largest(*a).total_cmp(&largest(*b)))?,
        };
        let curve = |role: usize| Curve {
            name: roles[role].to_string(),
            mean: column(&effect.mean, role),
            low: column(&effect.low, role),
            high: column(&effect.high, role),
        };
        let words = match summary.handover {
            None => "The last position does not take over at any layer.".to_string(),
            Some(handover) => {
                let interval = match handover.interval {
                    Some([low, high]) => format!(" (95 % interval {low} to {high})"),
                    None => String::new(),
                };
                format!(
                    "From layer {}{interval} on the last position has at least the effect of \
                     “{}”.",
                    handover.layer, handover.from
                )
            }
        };
        let at = summary.handover.and_then(|h| layers.iter().position(|l| *l == h.layer));
        Some(Self { layers: layers.clone(), curves: [curve(last), curve(from)], words, at })
    }

    fn ends(&self) -> (f64, f64) {
        let all = self.curves.iter().flat_map(|c| c.mean.iter().chain(&c.low).chain(&c.high));
        let all = all.flatten().map(|value| f64::from(*value));
        let (lo, hi) = all.fold((0.0_f64, 0.0_f64), |(lo, hi), v| (lo.min(v), hi.max(v)));
        if hi > lo { (lo, hi) } else { (lo - 0.5, hi + 0.5) }
    }

    /// The picture, of numbers alone.
    fn svg(&self, width: f64) -> String {
        let (lo, hi) = self.ends();
        let steps = self.layers.len().saturating_sub(1).max(1) as f64;
        let x = |i: usize| LEFT + (width - LEFT - RIGHT) * i as f64 / steps;
        let y = |value: f64| TOP + (HEIGHT - TOP - BOTTOM) * (hi - value) / (hi - lo);
        let mut svg = String::new();
        let mut line = |class: &str, [x1, x2, y1, y2]: [f64; 4]| {
            svg += &format!(
                "<line class=\"{class}\" x1=\"{x1}\" x2=\"{x2}\" y1=\"{y1}\" y2=\"{y2}\"/>"
            );
        };
        line("chart-grid", [LEFT, width - RIGHT, y(0.0), y(0.0)]);
        if let Some(at) = self.at {
            line("chart-reference", [x(at), x(at), TOP, HEIGHT - BOTTOM]);
        }
        for (curve, class) in [(&self.curves[1], "from"), (&self.curves[0], "last")] {
            let (mut upper, mut lower, mut path, mut is_down) =
                (String::new(), Vec::new(), String::new(), false);
            for i in 0..self.layers.len() {
                if let (Some(low), Some(high)) = (curve.low[i], curve.high[i]) {
                    upper += &format!("{:.1},{:.1} ", x(i), y(high.into()));
                    lower.push(format!("{:.1},{:.1} ", x(i), y(low.into())));
                }
                if let Some(mean) = curve.mean[i] {
                    let command = if is_down { 'L' } else { 'M' };
                    path += &format!("{command}{:.1} {:.1}", x(i), y(mean.into()));
                }
                is_down = curve.mean[i].is_some();
            }
            let lower: String = lower.into_iter().rev().collect();
            svg += &format!(
                "<polygon class=\"curve-band {class}\" points=\"{upper}{lower}\"/>\
                 <path class=\"curve {class}\" d=\"{path}\"/>"
            );
        }
        let mut text = |x: f64, y: f64, anchor: &str, text: String| {
            svg += &format!("<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{text}</text>");
        };
        for value in [lo, 0.0, hi] {
            // What would be written over the 0 is left out.
            if value == 0.0 || (y(value) - y(0.0)).abs() > 14.0 {
                text(LEFT - 6.0, y(value) + 3.5, "end", numbers::value(2, Some(value as f32)));
            }
        }
        let end = self.layers.len() - 1;
        let room =
            |at: usize| at.abs_diff(0).min(at.abs_diff(end)) as f64 * (width - LEFT) / steps > 24.0;
        let at = self.at.filter(|at| room(*at)).map(|at| (at, "middle"));
        for (at, anchor) in [(0, "start"), (end, "end")].into_iter().chain(at) {
            text(x(at), HEIGHT - 20.0, anchor, self.layers[at].to_string());
        }
        text((LEFT + width) / 2.0, HEIGHT - 4.0, "middle", "Layer".into());
        svg
    }
}

/// The handover in words and as curves; nothing of a grid without roles.
#[component]
pub fn HandoverCard(look: Look) -> impl IntoView {
    let outer = NodeRef::<html::Div>::new();
    let width = dom::width_of(outer);
    let card = move || {
        let looked = look.now()?;
        let curves = Curves::of(looked.grid(), looked.summary())?;
        let width = width.get().unwrap_or(300.0);
        let [last, from] = curves.curves.clone().map(|curve| curve.name);
        Some(view! {
            <h2>"Handover: mean effect over the layers, nats"</h2>
            <svg
                class="curves"
                width=width
                height=HEIGHT
                aria-hidden="true"
                inner_html=curves.svg(width)
            ></svg>
            <p class="legend">
                <span class="key curve-last">{format!("at “{last}”")}</span>
                <span class="key curve-from">{format!("at “{from}”, dashed")}</span>
            </p>
            <p class="facts handover">{curves.words.clone()}</p>
        })
    };
    view! {
        <section class="card handover-card" aria-label="Handover">
            <div node_ref=outer></div>
            {card}
        </section>
    }
}
