//! Recorded experiments, and the specifications that they are here.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use compute::model::Config;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use shared::specification::alignment::{Alignment, Side};
use shared::specification::correspondence::Correspondence;
use shared::specification::settings::Settings;
use shared::specification::vocabulary::{Align, Direction, Site, Span};
use shared::specification::{AnswerIds, Axis, MeanOver, SpanPositions, Specification, Subject};

/// What was recorded of one model.
#[derive(Deserialize)]
pub struct Fixture {
    pub model: String,
    pad: u32,
    true_ids: Vec<u32>,
    false_ids: Vec<u32>,
    source_start: usize,
    base_start: usize,
    /// Sweeps of one activation at one position.
    #[serde(default)]
    sweeps: Vec<Sweep>,
    /// All others.
    #[serde(default)]
    experiments: Vec<Recorded>,
    /// The rows that means are taken over.
    #[serde(default)]
    mean_over: Vec<Rows>,
}

#[derive(Deserialize)]
struct Sweep {
    source: Vec<u32>,
    base: Vec<u32>,
    align: Align,
    site: Site,
    start: usize,
    source_logits: Vec<f32>,
    base_logits: Vec<f32>,
    logit_diff: Vec<Vec<f32>>,
    p_true: Vec<Vec<f32>>,
}

#[derive(Deserialize)]
struct Recorded {
    source: Vec<u32>,
    base: Vec<u32>,
    settings: Settings,
    spans: Vec<RecordedSpan>,
    /// Where noise falls on the base.
    #[serde(default)]
    noised: Vec<usize>,
    start: usize,
    source_logit_diff: f32,
    base_logit_diff: f32,
    grids: Vec<Grid>,
}

#[derive(Deserialize)]
struct RecordedSpan {
    span: Span,
    base: Vec<usize>,
    source: Vec<usize>,
}

#[derive(Deserialize)]
struct Rows {
    tokens: Vec<u32>,
    start: usize,
    end: usize,
}

/// The cells of a grid in row-major order.
#[derive(Deserialize)]
pub struct Grid {
    pub site: Site,
    direction: Direction,
    shape: Vec<usize>,
    pub logit_diff: Vec<f32>,
    pub p_true: Vec<f32>,
    pub kl_base: Option<Vec<f32>>,
    pub kl_source: Option<Vec<f32>>,
    /// Where no other token was too near to call.
    pub rank_true: Option<Vec<Option<f32>>>,
    pub rank_false: Option<Vec<Option<f32>>>,
}

/// An experiment and what must come of it.
pub struct Case {
    pub what: String,
    pub specification: Specification,
    /// What base and source say, in the order of the runs: all logits, or the metric.
    pub logits: Option<[Vec<f32>; 2]>,
    pub logit_diffs: Option<[f32; 2]>,
    pub grids: Vec<Grid>,
}

pub fn oracle_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracle")
}

/// One fixture for each model that has any: of its sweeps and its experiments.
pub fn fixtures() -> Vec<Fixture> {
    let mut all: Vec<Fixture> = read("fam-");
    for more in read::<Fixture>("experiments-") {
        let fixture = all.iter_mut().find(|fixture| fixture.model == more.model).unwrap();
        assert_eq!(fixture.true_ids, more.true_ids);
        assert_eq!(fixture.false_ids, more.false_ids);
        fixture.experiments = more.experiments;
        fixture.mean_over = more.mean_over;
    }
    all
}

fn read<T: DeserializeOwned>(prefix: &str) -> Vec<T> {
    let folder = oracle_folder().join("fixtures");
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.file_name().unwrap().to_string_lossy().starts_with(prefix));
    paths.sort();
    let read = |path: &PathBuf| {
        serde_json::from_str(&std::fs::read_to_string(path).unwrap())
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    paths.iter().map(read).collect()
}

impl Fixture {
    /// How many of its experiments go beyond sweeps of one activation at one position.
    pub fn n_experiments(&self) -> usize {
        self.experiments.len()
    }

    /// Everything recorded, as experiments on a model of `config`.
    pub fn cases(self, config: &Config) -> Vec<Case> {
        let mean_over =
            self.mean_over.iter().map(|rows| (rows.tokens.clone(), rows.start..rows.end));
        let subject = Subject {
            // Of each case its own.
            alignment: align((&[0], 0), (&[0], 0), Align::Pad, 0),
            spans: Vec::new(),
            noised: Vec::new(),
            answers: AnswerIds::Single { true_ids: self.true_ids, false_ids: self.false_ids },
            mean: Some(Arc::new(MeanOver { runs: mean_over.collect() })),
            dimensions: config.dimensions(),
        };
        let aligned = |source: &[u32], base: &[u32], how, start| {
            let (source, base) = ((source, self.source_start), (base, self.base_start));
            let alignment = align(source, base, how, self.pad);
            assert_eq!(alignment.start, start, "{}", self.model);
            alignment
        };
        let sweeps = self.sweeps.into_iter().map(|sweep| {
            let settings =
                Settings { sites: sweep.site.into(), align: sweep.align, ..Settings::default() };
            let alignment = aligned(&sweep.source, &sweep.base, sweep.align, sweep.start);
            let grid = Grid {
                site: sweep.site,
                direction: Direction::Denoising,
                shape: vec![sweep.logit_diff.len(), sweep.logit_diff[0].len()],
                logit_diff: sweep.logit_diff.concat(),
                p_true: sweep.p_true.concat(),
                kl_base: None,
                kl_source: None,
                rank_true: None,
                rank_false: None,
            };
            let logits = Some([sweep.base_logits, sweep.source_logits]);
            let subject = Subject { alignment, ..subject.clone() };
            Case::new(&settings, &subject, vec![grid], logits, None)
        });
        let experiments = self.experiments.into_iter().map(|recorded| {
            let Recorded { settings, grids, noised, .. } = recorded;
            let (source, base) = (&recorded.source, &recorded.base);
            let mut alignment = aligned(source, base, settings.align, recorded.start);
            // The tokens are the same: the base differs from where the noise begins.
            if let Some(&first) = noised.first() {
                alignment.first_difference = first;
            }
            let span =
                |s: RecordedSpan| SpanPositions { span: s.span, base: s.base, source: s.source };
            let spans = recorded.spans.into_iter().map(span).collect();
            let subject = Subject { alignment, spans, noised, ..subject.clone() };
            let diffs = Some([recorded.base_logit_diff, recorded.source_logit_diff]);
            Case::new(&settings, &subject, grids, None, diffs)
        });
        sweeps.chain(experiments).collect()
    }
}

/// Two prompts, each with its sentence's first token.
fn align(source: (&[u32], usize), base: (&[u32], usize), how: Align, pad: u32) -> Alignment {
    let [source, base] = [source, base].map(|(ids, start)| Side { ids, start, roles: &[] });
    Alignment::new(source, base, how, pad, &Correspondence::default())
}

impl Case {
    fn new(
        settings: &Settings,
        subject: &Subject,
        grids: Vec<Grid>,
        logits: Option<[Vec<f32>; 2]>,
        logit_diffs: Option<[f32; 2]>,
    ) -> Self {
        let what = format!(
            "{} {} by {}, window {}, {}, {} tokens into {}, {}",
            settings.direction,
            settings.sites,
            settings.by,
            settings.window,
            settings.write,
            subject.alignment.source.len(),
            subject.alignment.base.len(),
            settings.positions,
        );
        settings.clone().check().unwrap_or_else(|e| panic!("{what}: {e}"));
        let specification = Specification::new(settings, subject);
        assert_eq!(specification.grids.len(), grids.len(), "{what}");
        for (grid, recorded) in specification.grids.iter().zip(&grids) {
            assert_eq!((grid.site, grid.direction), (recorded.site, recorded.direction), "{what}");
            let shape: Vec<_> = grid.axes.iter().map(Axis::len).collect();
            assert_eq!(shape, recorded.shape, "{what}");
        }
        Self { what, specification, logits, logit_diffs, grids }
    }
}
