use super::*;
use crate::specification::alignment::Side;
use crate::specification::correspondence::Correspondence;
use crate::specification::vocabulary::Align;

const DIMENSIONS: Dimensions = Dimensions { n_layers: 3, n_heads: 4, n_kv_heads: 2 };

/// Six tokens into seven, swept from the base's third on.
fn subject() -> Subject {
    aligned(Align::Right, "")
}

fn aligned(align: Align, by_hand: &str) -> Subject {
    let side = |ids| Side { ids, start: 2, roles: &[] };
    let (source, base) = (side(&[1, 2, 3, 4, 9, 6]), side(&[1, 2, 3, 3, 4, 5, 6]));
    let by_hand: Correspondence = by_hand.parse().unwrap();
    Subject {
        alignment: Alignment::new(source, base, align, 0, &by_hand),
        spans: vec![
            SpanPositions { span: Span::Entity, base: vec![3, 5], source: vec![2] },
            SpanPositions {
                span: Span::All,
                base: vec![2, 3, 4, 5, 6],
                source: vec![1, 2, 3, 4, 5],
            },
        ],
        noised: vec![0, 4],
        answers: AnswerIds::Single { true_ids: vec![7], false_ids: vec![8, 9] },
        mean: Some(Arc::new(MeanOver { runs: vec![(vec![1, 2], 0..2)] })),
        dimensions: DIMENSIONS,
    }
}

fn settings(texts: &[(&str, &str)]) -> Settings {
    let mut settings = Settings::default();
    texts.iter().for_each(|(name, text)| settings.set(name, text).unwrap());
    settings.check().unwrap().settings
}

/// A cell's edit: which trial, its base, its head, layers, positions and write.
type Expected = (usize, usize, Option<usize>, Range<usize>, Vec<usize>, Write);

fn from(run: usize, shift: isize) -> Write {
    Write::From { run, shift }
}

#[test]
fn settings_become_trials() {
    let all = || vec![2, 3, 4, 5, 6];
    let position = || Axis::Position(2..7);
    let layer = Axis::Layer(3);
    let spans = || Axis::Span(vec!["entity".into(), "all".into()]);
    // Settings, the number of runs and trials, the axes of each grid, and some edits.
    type Case =
        (&'static [(&'static str, &'static str)], (usize, usize), Vec<Vec<Axis>>, Vec<Expected>);
    let mean = subject().mean.unwrap();
    let cases: Vec<Case> = vec![
        (
            &[],
            (2, 15),
            vec![vec![layer.clone(), position()]],
            vec![
                (0, 0, None, 0..1, vec![2], from(1, -1)),
                (14, 0, None, 2..3, vec![6], from(1, -1)),
            ],
        ),
        (
            &[("window", "2")],
            (2, 15),
            vec![vec![layer.clone(), position()]],
            vec![
                (0, 0, None, 0..1, vec![2], from(1, -1)),
                (5, 0, None, 0..2, vec![2], from(1, -1)),
                (10, 0, None, 1..3, vec![2], from(1, -1)),
            ],
        ),
        (
            &[("site", "z,k")],
            (2, 12 + 6),
            vec![vec![layer.clone(), Axis::Head(4)], vec![layer.clone(), Axis::Head(2)]],
            vec![
                (5, 0, Some(1), 1..2, all(), from(1, -1)),
                (12 + 5, 0, Some(1), 2..3, all(), from(1, -1)),
            ],
        ),
        (
            &[("site", "v"), ("by", "position")],
            (2, 3 * 2 * 5),
            vec![vec![layer.clone(), Axis::Head(2), position()]],
            vec![(5, 0, Some(1), 0..1, vec![2], from(1, -1))],
        ),
        (
            &[("site", "attn_out,q"), ("positions", "entity,all")],
            (2, 6 + 24),
            vec![vec![layer.clone(), spans()], vec![layer.clone(), Axis::Head(4), spans()]],
            vec![
                (2, 0, None, 1..2, vec![3, 5], from(1, -1)),
                (6 + 3, 0, Some(1), 0..1, all(), from(1, -1)),
            ],
        ),
        (
            &[("write", "zero")],
            (2, 15),
            vec![vec![layer.clone(), position()]],
            vec![(1, 0, None, 0..1, vec![3], Write::Zero)],
        ),
        (
            &[("write", "mean"), ("positions", "entity,all")],
            (2, 6),
            vec![vec![layer.clone(), spans()]],
            vec![(5, 0, None, 2..3, all(), Write::Mean(mean))],
        ),
        (
            &[("direction", "both"), ("positions", "entity,all")],
            (2, 12),
            vec![vec![layer.clone(), spans()]; 2],
            vec![
                (0, 0, None, 0..1, vec![3, 5], from(1, -1)),
                (6, 1, None, 0..1, vec![2], from(0, 1)),
                (11, 1, None, 2..3, vec![1, 2, 3, 4, 5], from(0, 1)),
            ],
        ),
        (
            &[("direction", "noising")],
            (2, 15),
            vec![vec![layer.clone(), position()]],
            vec![(0, 0, None, 0..1, vec![2], from(1, -1))],
        ),
        (
            &[("noise", "entity"), ("noise_seeds", "3"), ("site", "mlp_out"), ("window", "10")],
            (4, 45),
            vec![vec![layer, position()]],
            vec![
                (0, 0, None, 0..3, vec![2], from(1, -1)),
                (1, 2, None, 0..3, vec![2], from(1, -1)),
                (2, 3, None, 0..3, vec![2], from(1, -1)),
                (3, 0, None, 0..3, vec![3], from(1, -1)),
            ],
        ),
    ];
    for (texts, (n_runs, n_trials), axes, edits) in cases {
        let made = Specification::new(&settings(texts), &subject());
        assert_eq!((made.runs.len(), made.trials.len()), (n_runs, n_trials), "{texts:?}");
        assert_eq!(made.grids.iter().map(|grid| grid.axes.clone()).collect::<Vec<_>>(), axes);
        // Every cell has the same number of trials, and every trial's cell exists.
        let n_cells: usize = made.grids.iter().map(Grid::n_cells).sum();
        assert_eq!(n_trials % n_cells, 0, "{texts:?}");
        let mut keys: Vec<_> = made.trials.iter().map(|trial| trial.key).collect();
        assert!(keys.iter().all(|key| key.cell < made.grids[key.grid].n_cells()), "{texts:?}");
        keys.dedup();
        assert_eq!(keys.len(), n_cells, "{texts:?}");
        for (trial, base, head, layers, positions, write) in edits {
            let found = &made.trials[trial];
            let site = made.grids[found.key.grid].site;
            let edit = Edit { site, head, layers, positions, write };
            assert_eq!((found.base, &*found.edits), (base, &[edit][..]), "{texts:?} {trial}");
        }
    }
}

#[test]
fn noise_makes_a_base_of_each_seed() {
    let settings = settings(&[("noise", "entity"), ("noise_seeds", "2"), ("noise_scale", "0.5")]);
    let made = Specification::new(&settings, &subject());
    let seeds: Vec<_> = made.runs.iter().map(|run| run.edits.first().map(|e| &e.write)).collect();
    let noise = |seed| Write::Noise { seed, scale: 0.5 };
    assert_eq!(seeds, [Some(&noise(0)), None, Some(&noise(1))]);
    let edit = &made.runs[0].edits[0];
    assert_eq!(
        (edit.site, edit.layers.clone(), &*edit.positions),
        (Site::ResidPre, 0..1, &[0, 4][..])
    );
}

#[test]
fn longer_answers_make_a_run_of_each() {
    let continued = Subject {
        answers: AnswerIds::Continued { true_ids: vec![7, 8], false_ids: vec![9] },
        ..subject()
    };
    let made = Specification::new(&settings(&[("direction", "both")]), &continued);
    let said: Vec<_> = made
        .runs
        .iter()
        .map(|run| (run.tokens.len(), run.continuation.as_ref().map(|c| (c.is_true, c.ids.len()))))
        .collect();
    let (yes, no) = (Some((true, 2)), Some((false, 1)));
    assert_eq!(said, [(7, yes), (6, yes), (7, no), (6, no)]);
    let bases: Vec<_> = made.trials.iter().map(|trial| (trial.base, trial.key)).collect();
    assert_eq!(&bases[..2], [(0, Key { grid: 0, cell: 0 }), (2, Key { grid: 0, cell: 0 })]);
    assert_eq!(&bases[30..32], [(1, Key { grid: 1, cell: 0 }), (3, Key { grid: 1, cell: 0 })]);
    assert!(made.metrics.true_ids.is_empty());
}

#[test]
fn a_window_is_romes() {
    // ROME's causal_trace.py: range(max(0, l - w // 2), min(L, l - (-w // 2)))
    let cases = [
        ((0, 1, 12), 0..1),
        ((5, 1, 12), 5..6),
        ((0, 10, 12), 0..5),
        ((5, 10, 12), 0..10),
        ((6, 10, 12), 1..11),
        ((11, 10, 12), 6..12),
        ((0, 3, 12), 0..2),
        ((6, 3, 12), 5..8),
        ((11, 3, 12), 10..12),
        ((1, 100, 3), 0..3),
        ((1, usize::MAX, 3), 0..3),
    ];
    for ((layer, width, n_layers), expected) in cases {
        assert_eq!(window(layer, width, n_layers), expected, "{layer} {width}");
    }
}

#[test]
fn the_digest_tells_apart_what_differs_and_nothing_else() {
    let digest = |texts: &[(&str, &str)], subject: &Subject| {
        Specification::new(&settings(texts), subject).digest()
    };
    let plain = digest(&[], &subject());
    assert_eq!(plain.len(), 64);
    let same = [("readout", "false"), ("verify", "9"), ("template", "none"), ("exact", "1")];
    for text in same {
        assert_eq!(digest(&[text], &subject()), plain, "{text:?}");
    }
    let mut other = subject();
    other.alignment.base[0] = 5;
    let mut shorter_mean = subject();
    shorter_mean.mean = Some(Arc::new(MeanOver { runs: vec![(vec![1, 2], 0..1)] }));
    let answers = AnswerIds::Single { true_ids: vec![7, 8], false_ids: vec![9] };
    let mut all = vec![
        plain,
        digest(&[("site", "mlp_out")], &subject()),
        digest(&[("site", "resid_post,mlp_out")], &subject()),
        digest(&[("window", "2")], &subject()),
        digest(&[("direction", "both")], &subject()),
        digest(&[("write", "zero")], &subject()),
        digest(&[("write", "mean")], &subject()),
        digest(&[("write", "mean")], &shorter_mean),
        digest(&[("positions", "entity")], &subject()),
        digest(&[("noise", "entity")], &subject()),
        digest(&[("noise", "entity"), ("noise_scale", "1")], &subject()),
        digest(&[("site", "z")], &subject()),
        digest(&[("site", "z"), ("by", "position")], &subject()),
        digest(&[("top", "2")], &subject()),
        digest(&[("lens", "true")], &subject()),
        digest(&[], &other),
        digest(&[], &Subject { answers, ..subject() }),
    ];
    let n = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), n);
    let mean = [("write", "mean")];
    assert_eq!(digest(&mean, &subject()), digest(&mean, &subject()), "a mean counts by its rows");
}
