//! What of a study is shown, and which pairs count.

use std::collections::BTreeSet;

use leptos::prelude::*;
use shared::field::axis::AxisKind;
use shared::figure::colour::{Preset, Range};
use shared::json;
use shared::study::{Group, Keep, Shown, Statistic, Study, Whose};
use shared::wire::address::Address;
use shared::wire::studies::{Selected, StudyView};

use super::look::{Look, Looked};
use crate::navigation::viewer::Viewer;
use crate::platform::dynamic::dynamic;
use crate::widgets::inputs::{self, check, choice, select};

/// Statistics that are shown of pairs, in the order in which one asks for them.
const STATISTICS: [Statistic; 8] = [
    Statistic::Mean,
    Statistic::Recovery,
    Statistic::Median,
    Statistic::IntervalWidth,
    Statistic::N,
    Statistic::PFamily,
    Statistic::Sd,
    Statistic::Q,
];

/// More values than this make no groups.
const MAX_GROUPS: usize = 12;

fn set(viewer: Viewer, change: impl FnOnce(&mut StudyView)) {
    viewer.show(|view| {
        view.figure.range = Range::Auto;
        change(&mut view.study);
    });
}

/// Which pairs count: said of every study, and chosen where a server pools them.
#[component]
pub fn Rule(look: Look, is_server: bool) -> impl IntoView {
    let viewer = Viewer::get();
    let counted = move || {
        look.opened.with(|opened| opened.as_ref().map(|o| format!("{}.", o.study.counted())))
    };
    let rule = move || Some(look.opened.get()?.study.rule);
    let keep = move || rule().map(|rule| rule.keep).unwrap_or_default();
    let least = Signal::derive(move || {
        rule().map(|rule| rule.min_contrast.to_string()).unwrap_or_default()
    });
    let typed = Callback::new(move |text: String| {
        let number = json::number(&text).filter(|n| n.is_finite() && *n >= 0.0);
        if let Some(number) = number {
            viewer.amend(|address: &mut Address| address.view.study.min_contrast = Some(number));
        }
    });
    let columns =
        Signal::derive(move || look.opened.get().map(|o| columns(&o.study)).unwrap_or_default());
    let options = Signal::derive(move || {
        let named = columns.get().into_iter().map(|name| (name.clone(), name));
        std::iter::once((String::new(), "none".to_string())).chain(named).collect()
    });
    let now = Signal::derive(move || {
        look.opened.with(|o| o.as_ref().and_then(|o| o.study.group_by.clone())).unwrap_or_default()
    });
    let group = Callback::new(move |column: String| {
        set(viewer, |view| {
            view.group_by = column;
            view.selected = Selected::All;
        });
    });
    view! {
        <section class="card study-rule" aria-label="Which pairs count">
            <p role="status">{counted}</p>
            {is_server.then(|| view! {
                <div class="controls">
                    {choice("Pairs that count", Keep::ALL, keep, move |keep| {
                        set(viewer, |view| view.keep = Some(keep));
                    })}
                    {dynamic(move || (keep() == Keep::Contrast).then(|| {
                        inputs::text("Least contrast (nats)", "", false, least, typed)
                    }))}
                    {dynamic(move || (!columns.with(Vec::is_empty)).then(|| {
                        select("Groups by", "field", options, now, group)
                    }))}
                </div>
            })}
        </section>
    }
}

/// The columns of the table that can make groups.
fn columns(study: &Study) -> Vec<String> {
    let names: BTreeSet<&String> = study.pairs.iter().flat_map(|pair| pair.row.keys()).collect();
    let makes_groups = |name: &&&String| {
        let values: BTreeSet<_> = study.pairs.iter().filter_map(|p| p.row.get(**name)).collect();
        (2..=MAX_GROUPS).contains(&values.len())
    };
    names.iter().filter(makes_groups).map(ToString::to_string).collect()
}

fn of_group(group: Option<&Group>) -> String {
    group.map_or("all pairs".into(), |group| format!("{} = {}", group.column, group.value))
}

fn of_whose(whose: &Whose) -> String {
    match &whose.study {
        Some(study) => format!("“{}” ({})", study.title, study.model),
        None => of_group(whose.group.as_ref()),
    }
}

/// The word of an option.
fn word(selected: &Selected) -> String {
    match selected {
        Selected::All => String::new(),
        Selected::Group(value) => format!("g{value}"),
        Selected::Difference(at) => format!("d{at}"),
    }
}

/// All pairs, each group, and what groups and studies differ by, as options.
fn whose(looked: &Looked) -> Vec<(String, String)> {
    let mut options = Vec::new();
    for summary in &looked.grid().summaries {
        let selected = match &summary.group {
            None => Selected::All,
            Some(group) => Selected::Group(group.value.clone()),
        };
        let name = format!("{} ({})", of_group(summary.group.as_ref()), summary.n_pairs);
        options.push((word(&selected), name));
    }
    for (at, difference) in looked.grid().differences.iter().enumerate() {
        let [of, less] = [&difference.of, &difference.less].map(of_whose);
        options.push((word(&Selected::Difference(at)), format!("{of} less {less}")));
    }
    options
}

/// The controls above the map.
#[component]
pub fn StudyControls(look: Look) -> impl IntoView {
    let (viewer, options) = (Viewer::get(), look.options);
    let grids = Signal::derive(move || {
        look.opened.get().map(|opened| opened.study.grid_names()).unwrap_or_default()
    });
    let named = Signal::derive(move || {
        grids.get().into_iter().map(|name| (name.clone(), name.replace('.', " · "))).collect()
    });
    let now = Signal::derive(move || {
        let at = look.now().map_or(0, |looked| looked.at);
        grids.get().into_iter().nth(at).unwrap_or_default()
    });
    let pick_grid = Callback::new(move |name: String| {
        viewer.show(|view| {
            view.study.grid = name;
            view.figure.grid.at = None;
            view.figure.range = Range::Auto;
        });
    });
    let whose = Signal::derive(move || look.now().map(|looked| whose(&looked)).unwrap_or_default());
    let selected = Signal::derive(move || look.view.with(|view| word(&view.selected)));
    let pick = Callback::new(move |text: String| {
        let selected = match text.split_at_checked(1) {
            Some(("g", value)) => Selected::Group(value.into()),
            Some(("d", at)) => at.parse().map(Selected::Difference).unwrap_or_default(),
            _ => Selected::All,
        };
        set(viewer, |view| view.selected = selected);
    });
    let statistics = Signal::derive(move || {
        let is_difference = |looked: &Looked| matches!(looked.shown(), Shown::Difference(..));
        // A difference has these two alone.
        let all = match look.now().as_ref().is_some_and(is_difference) {
            true => &STATISTICS[..2],
            false => &STATISTICS,
        };
        all.iter().map(|s| (s.to_string(), s.title().to_string())).collect()
    });
    let statistic = Signal::derive(move || look.view.with(|view| view.statistic.to_string()));
    let pick_statistic = Callback::new(move |name: String| {
        if let Ok(statistic) = name.parse() {
            set(viewer, |view| view.statistic = statistic);
        }
    });
    let slice = move || slice(look);
    let transposed = Signal::derive(move || options.with(|o| o.transpose));
    view! {
        <div class="controls" role="group" aria-label="How it is shown">
            {select("Shown", "field", statistics, statistic, pick_statistic)}
            {dynamic(move || (grids.with(Vec::len) > 1).then(|| select("Site", "field", named, now, pick_grid)))}
            {dynamic(move || (whose.with(Vec::len) > 1).then(|| {
                select("Pairs", "field", whose, selected, pick)
            }))}
            {slice}
            {choice("Colours", Preset::ALL, move || options.with(|o| o.preset), move |preset| {
                viewer.show(|view| view.figure.preset = preset);
            })}
            {check("Transpose", transposed, Callback::new(move |on| {
                viewer.show(|view| view.figure.transpose = on);
            }))}
        </div>
    }
}

/// Of three axes, which is not shown, and what of it is.
fn slice(look: Look) -> Option<AnyView> {
    let viewer = Viewer::get();
    let axes = look.now()?.grid().field_axes();
    if axes.len() != 3 {
        return None;
    }
    let held = look.slice();
    let found = held
        .and_then(|key| axes.iter().enumerate().find_map(|(axis, of)| Some((axis, of.find(key)?))));
    let (fixed, at) = found.unwrap_or((2, axes[2].len() - 1));
    let hold = move |key| viewer.show(|view| view.figure.grid.at = key);
    let maps = (0..3).map(|left_out| {
        let shown = (0..3).filter(|axis| *axis != left_out).map(|axis| axes[axis].kind.many());
        (left_out.to_string(), shown.collect::<Vec<_>>().join(" × "))
    });
    let maps: Vec<_> = maps.collect();
    let lasts: Vec<_> = axes.iter().map(|axis| axis.key(axis.len() - 1)).collect();
    let turn = Callback::new(move |axis: String| {
        if let Some(key) = axis.parse::<usize>().ok().and_then(|axis| lasts.get(axis).copied()) {
            hold(key);
        }
    });
    let keys: Vec<_> = axes[fixed].marks.iter().map(|mark| mark.key).collect();
    let labels: Vec<_> = axes[fixed]
        .marks
        .iter()
        .enumerate()
        .map(|(i, mark)| (i.to_string(), mark.text.clone()))
        .collect();
    let pick = Callback::new(move |i: String| {
        hold(i.parse::<usize>().ok().and_then(|i| keys.get(i).copied()));
    });
    let name = match axes[fixed].kind {
        AxisKind::Layer => "Layer",
        AxisKind::Head | AxisKind::KeyHead => "Head",
        _ => "Positions",
    };
    let (now, at) = (fixed.to_string(), at.to_string());
    Some(
        view! {
            {select("Map", "field", Signal::stored(maps), Signal::stored(now), turn)}
            {select(name, "field", Signal::stored(labels), Signal::stored(at), pick)}
        }
        .into_any(),
    )
}
