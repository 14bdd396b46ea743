//! A profile: one row or column of the grid as a line, with the baselines to hold it against.

use crate::platform::dynamic::dynamic;
use leptos::prelude::*;
use shared::wire::numbers;

const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 132.0;
const LEFT: f64 = 50.0;
const RIGHT: f64 = 8.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 20.0;

/// What a profile shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// The values along it.
    pub values: Vec<Option<f32>>,
    /// The value under the pointer.
    pub at: usize,
    /// What is written at the two ends of the axis.
    pub ends: (String, String),
    /// Values of the unpatched runs, where the metric has them: source and base.
    pub references: [Option<f32>; 2],
    /// The smallest and largest value of the whole grid, so that profiles can be compared.
    pub range: (f32, f32),
    /// How many decimals are written.
    pub decimals: usize,
}

/// The places of a profile's parts in the picture.
struct Places {
    n: usize,
    lo: f64,
    hi: f64,
}

impl Places {
    fn of(profile: &Profile) -> Self {
        let references = profile.references.iter().flatten();
        let lo = references.clone().fold(profile.range.0, |a, b| a.min(*b));
        let hi = references.fold(profile.range.1, |a, b| a.max(*b));
        let (lo, hi) = (f64::from(lo), f64::from(hi));
        let (lo, hi) = if hi > lo { (lo, hi) } else { (lo - 0.5, lo + 0.5) };
        Self { n: profile.values.len(), lo, hi }
    }

    fn x(&self, i: usize) -> f64 {
        let steps = self.n.saturating_sub(1).max(1) as f64;
        LEFT + (WIDTH - LEFT - RIGHT) * i as f64 / steps
    }

    fn y(&self, value: f32) -> f64 {
        let part = (f64::from(value) - self.lo) / (self.hi - self.lo);
        TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - part.clamp(0.0, 1.0))
    }

    /// The line as an SVG path, which begins anew after a missing value.
    fn path(&self, values: &[Option<f32>]) -> String {
        let mut path = String::new();
        let mut pen_is_down = false;
        for (i, value) in values.iter().enumerate() {
            if let Some(value) = value {
                let command = if pen_is_down { 'L' } else { 'M' };
                path.push_str(&format!("{command}{:.1} {:.1}", self.x(i), self.y(*value)));
            }
            pen_is_down = value.is_some();
        }
        path
    }
}

/// Draws a profile. What changes from cell to cell are attributes: the picture stays.
#[component]
pub fn Chart(
    /// What it shows; nothing where no cell is under the pointer.
    #[prop(into)]
    profile: Signal<Option<Profile>>,
) -> impl IntoView {
    let read = move |f: &dyn Fn(&Profile, &Places) -> Option<String>| {
        let found = profile.with(|profile| {
            let profile = profile.as_ref()?;
            f(profile, &Places::of(profile))
        });
        found.unwrap_or_default()
    };
    let right = WIDTH - RIGHT;
    let axis = [TOP, HEIGHT - BOTTOM].map(|y| {
        let value = move || {
            read(&|profile, places| {
                let value = if y == TOP { places.hi } else { places.lo };
                Some(numbers::value(profile.decimals, Some(value as f32)))
            })
        };
        view! {
            <line class="chart-grid" x1=LEFT x2=right y1=y y2=y />
            <text class="chart-tick" x=LEFT - 6.0 y=y + 3.5 text-anchor="end">{value}</text>
        }
    });
    let references = ["source", "base"].into_iter().enumerate().map(|(i, name)| {
        let shift = move || {
            read(&|profile, places| {
                Some(format!("translate(0 {:.1})", places.y(profile.references[i]?)))
            })
        };
        let is_there = move || !shift().is_empty();
        view! {
            <g transform=shift class:hidden=move || !is_there()>
                <line class=format!("chart-reference {name}") x1=LEFT x2=right />
                <text class="chart-name" x=right y="-3" text-anchor="end">{name}</text>
            </g>
        }
    });
    let at =
        move || read(&|profile, places| Some(format!("translate({:.1} 0)", places.x(profile.at))));
    let path = move || read(&|profile, places| Some(places.path(&profile.values)));
    let dot = move || {
        read(&|profile, places| {
            let value = profile.values.get(profile.at).copied().flatten()?;
            Some(format!("translate({:.1} {:.1})", places.x(profile.at), places.y(value)))
        })
    };
    let end = move |is_first: bool| {
        let ends =
            move |ends: &(String, String)| if is_first { ends.0.clone() } else { ends.1.clone() };
        read(&|profile, _| Some(ends(&profile.ends)))
    };
    view! {
        <svg
            class="chart"
            class:hidden=move || profile.with(Option::is_none)
            viewBox=format!("0 0 {WIDTH} {HEIGHT}")
            aria-hidden="true"
        >
            {axis.into_iter().collect_view()}
            <line class="chart-at" transform=at y1=TOP y2=HEIGHT - BOTTOM />
            <path class="chart-line" d=path />
            // Their names can be read above the line.
            {references.collect_view()}
            <circle class="chart-dot" r="3.5" transform=dot class:hidden=move || dot().is_empty() />
            <text class="chart-tick" x=LEFT y=HEIGHT - 5.0>{dynamic(move || end(true))}</text>
            <text class="chart-tick" x=right y=HEIGHT - 5.0 text-anchor="end">{dynamic(move || end(false))}</text>
        </svg>
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_begins_anew_after_a_gap_and_reaches_both_ends() {
        let profile = Profile {
            values: vec![Some(0.0), Some(1.0), None, Some(0.5)],
            at: 0,
            ends: (String::new(), String::new()),
            references: [Some(2.0), None],
            range: (0.0, 1.0),
            decimals: 3,
        };
        let places = Places::of(&profile);
        assert_eq!(places.path(&profile.values), "M50.0 112.0L137.3 61.0M312.0 86.5");
        assert_eq!((places.y(2.0), places.y(9.0)), (TOP, TOP));
    }
}
