//! What is said of a cell of a study, and which cells stand out.

use leptos::prelude::*;
use shared::field::key::{Cell, Key};
use shared::study::{Shown, Statistic};
use shared::wire::numbers;

use super::look::{Look, Looked};
use crate::map::readout::Readout;

/// A number below which a p-value is marked.
const ALPHA: f32 = 0.05;

fn at(list: &[Option<f32>], at: usize) -> Option<f32> {
    list.get(at).copied().flatten()
}

/// The cell in words and numbers.
pub fn readout(look: Look, key: Key) -> Option<Readout> {
    let picture = look.picture.get().ok()?;
    let mut readout = Readout::of_field(&picture.field, key)?;
    let looked = look.now()?;
    let index = looked.index(key)?;
    readout.values = values(&looked, index);
    Some(readout)
}

fn values(looked: &Looked, index: usize) -> Vec<(String, String)> {
    let number = |list: &[Option<f32>]| numbers::value(3, at(list, index));
    let mut values = Vec::new();
    let mut say = |name: &str, value: String| values.push((name.to_string(), value));
    let interval = |low: &[Option<f32>], high: &[Option<f32>]| match at(low, index) {
        None => numbers::NO_VALUE.to_string(),
        Some(_) => format!("{} to {}", number(low), number(high)),
    };
    match looked.shown() {
        Shown::Difference(of, _) => {
            say("Difference of means", number(&of.effect.value));
            say("95 % interval", interval(&of.effect.low, &of.effect.high));
            say("Difference of recoveries", number(&of.recovery.value));
            say("95 % interval", interval(&of.recovery.low, &of.recovery.high));
        }
        Shown::Summary(summary, statistic) => {
            let (effect, recovery) = (&summary.effect, &summary.recovery);
            let p = |list: &[Option<f32>]| numbers::probability(at(list, index));
            say("Mean effect", number(&effect.mean));
            say("95 % interval", interval(&effect.low, &effect.high));
            say("Median", number(&effect.median));
            say("Standard deviation", number(&effect.sd));
            say("Recovery", number(&recovery.value));
            say("95 % interval", interval(&recovery.low, &recovery.high));
            say("Pairs", effect.n.get(index).copied().unwrap_or_default().to_string());
            say("p, all cells together", p(&effect.p_family));
            if statistic == Statistic::Q {
                say("q", p(&effect.q));
            }
        }
    }
    values
}

/// The cells that get a dot: those that are significant, of a difference those whose interval leaves
/// out 0.
pub fn dotted(look: Look) -> Option<Vec<Cell>> {
    let picture = look.picture.get().ok()?;
    let looked = look.now()?;
    let (p, ends) = match looked.shown() {
        Shown::Summary(summary, _) => (Some(&summary.effect.p_family), None),
        Shown::Difference(of, true) => (None, Some(&of.recovery)),
        Shown::Difference(of, false) => (None, Some(&of.effect)),
    };
    let is_dotted = |&(_, index): &(Cell, usize)| {
        let is_sure = p.and_then(|p| at(p, index)).is_some_and(|p| p < ALPHA);
        is_sure
            || ends.is_some_and(|ends| {
                at(&ends.low, index).is_some_and(|low| low > 0.0)
                    || at(&ends.high, index).is_some_and(|high| high < 0.0)
            })
    };
    let cells = looked.indices(&picture.field).into_iter().filter(is_dotted);
    Some(cells.map(|(cell, _)| cell).collect())
}

/// What a dot means.
pub fn legend(look: Look) -> &'static str {
    match look.now().as_ref().map(Looked::shown) {
        Some(Shown::Difference(..)) => "Dots: the 95 % interval leaves out 0.",
        _ => "Dots: p < 0.05, all cells taken together (sign flips, max-T).",
    }
}
