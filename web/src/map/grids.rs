//! Which grid is shown: site and direction or the logit lens, and of three axes which two.

use std::sync::Arc;

use leptos::prelude::*;
use shared::document::Document;
use shared::field::axis::{self, Axis, AxisKind, Coordinate};
use shared::field::chosen::{Choice, Chosen, GridName};
use shared::field::metric::Metric;
use shared::figure::colour::Range;
use shared::figure::{FigureOptions, text};

use crate::navigation::viewer::Viewer;
use crate::platform::dynamic::dynamic;
use crate::widgets::inputs::select;

/// The choice; nothing where there is none.
#[component]
pub fn GridChoice(
    /// The documents that are shown.
    documents: Vec<Arc<Document>>,
    /// What is chosen of each, where it has it.
    grids: Memo<Vec<Option<Arc<Chosen>>>>,
    #[prop(into)] options: Signal<FigureOptions>,
) -> impl IntoView {
    let viewer = Viewer::get();
    let set = move |choice: Choice, metric: Option<Metric>| {
        viewer.show(|view| {
            view.figure.grid = choice;
            view.figure.range = Range::Auto;
            view.figure.metric = metric.unwrap_or(view.figure.metric);
        });
    };
    let mut names: Vec<GridName> = Vec::new();
    for document in &documents {
        for name in GridName::all(document) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    let first = documents.first().and_then(|document| {
        Chosen::of(document, Choice::default()).ok().and_then(|chosen| chosen.name)
    });
    let now = move || {
        let chosen = options.with(|options| options.grid.grid);
        let shown = || grids.with(|grids| grids.iter().flatten().find_map(|grid| grid.name));
        chosen.or_else(shown)
    };
    let all = names.clone();
    let listed = Signal::derive(move || {
        let mut listed: Vec<_> =
            all.iter().map(|name| (name.to_string(), name.title(&all))).collect();
        if let Some(name) = now().filter(|name| !all.contains(name)) {
            listed.push((name.to_string(), format!("{name} (not there)")));
        }
        listed
    });
    let shown = documents.clone();
    let choose = Callback::new(move |name: String| {
        let Ok(name) = name.parse::<GridName>() else { return };
        let grid = Some(name).filter(|name| shown.len() > 1 || Some(*name) != first);
        let choice = Choice { grid, at: None };
        let metric = options.with_untracked(|options| options.metric);
        // What no result holds of it gives way to what was measured.
        let holds = |document: &Arc<Document>| {
            Chosen::of(document, choice).is_ok_and(|grid| grid.holds(document, metric).is_ok())
        };
        set(choice, (!shown.iter().any(holds)).then_some(Metric::LogitDiff));
    });
    let is_asked =
        Memo::new(move |_| names.len() > 1 || options.with(|options| options.grid.grid.is_some()));
    let now_text = Signal::derive(move || now().map(|name| name.to_string()).unwrap_or_default());
    let slices = move || {
        grids.with(|grids| grids.iter().flatten().find(|grid| grid.fixed().is_some()).cloned())
    };
    let base = documents.first().cloned();
    let at = move |key: Coordinate| {
        let key = base.as_ref().map_or(key, |base| key.from_start(axis::n_base(base)));
        let grid = options.with_untracked(|options| options.grid.grid);
        set(Choice { grid, at: Some(key) }, None);
    };
    let at = Callback::new(at);
    view! {
        {dynamic(move || is_asked.get().then(|| select("Grid", "field", listed, now_text, choose)))}
        {dynamic(move || slices().map(|grid| slice(grid, at)))}
    }
}

/// Which axis of three is not shown, and what of it is.
fn slice(grid: Arc<Chosen>, at: Callback<Coordinate>) -> Option<AnyView> {
    let (fixed, key) = grid.fixed()?;
    let axes = grid.slices().to_vec();
    let kinds: Vec<_> = axes.iter().map(|axis| axis.kind).collect();
    let maps = (0..axes.len()).map(|left_out| {
        let shown = kinds.iter().enumerate().filter(|(i, _)| *i != left_out);
        let shown: Vec<_> = shown.map(|(_, kind)| kind.many()).collect();
        (left_out.to_string(), shown.join(" × "))
    });
    let firsts: Vec<_> = axes.iter().map(|axis| axis.key(default_place(axis))).collect();
    let turn = Callback::new(move |left_out: String| {
        let first = left_out.parse::<usize>().ok().and_then(|i| firsts.get(i).copied().flatten());
        if let Some(first) = first {
            at.run(first);
        }
    });
    let maps: Vec<_> = maps.collect();
    let now = grid.fixed_axis()?.to_string();
    let labels: Vec<_> =
        fixed.marks.iter().enumerate().map(|(i, _)| (i.to_string(), label(fixed, i))).collect();
    let keys: Vec<_> = fixed.marks.iter().map(|mark| mark.key).collect();
    let pick = Callback::new(move |i: String| {
        if let Some(key) = i.parse::<usize>().ok().and_then(|i| keys.get(i)) {
            at.run(*key);
        }
    });
    let name = match fixed.kind {
        AxisKind::Layer => "Layer",
        AxisKind::Head | AxisKind::KeyHead => "Head",
        AxisKind::Token => "Position",
        AxisKind::Span | AxisKind::Role | AxisKind::Whole => "Positions",
    };
    Some(
        view! {
            {select("Map", "field", Signal::stored(maps), Signal::stored(now), turn)}
            {select(name, "field", Signal::stored(labels), Signal::stored(key.to_string()), pick)}
        }
        .into_any(),
    )
}

/// What is shown first of an axis: the last token, where the answer is said, and otherwise the first.
fn default_place(axis: &Axis) -> usize {
    if axis.kind == AxisKind::Token { axis.len().saturating_sub(1) } else { 0 }
}

fn label(axis: &Axis, at: usize) -> String {
    axis.marks.get(at).map_or(String::new(), |mark| match mark.position {
        Some(position) => format!("{position} {}", text::token(&mark.text)),
        None => mark.text.clone(),
    })
}
