//! How the time of a sweep grows with tokens, columns, layers, pairs, heads and threads, beside its
//! operations: on random models of SmolLM2's width, each axis by itself. Best of interleaved rounds.
//!
//! `cargo run --release --example growth -- growth.svg [ROUNDS]` prints a table and draws a figure.

mod synthetic;

use std::ops::ControlFlow;
use std::time::Instant;

use anyhow::{Context, Result};
use compute::model::{Config, Network};
use compute::sweep::{Division, Program, Progress, run};
use plotters::prelude::{
    BindKeyPoints, ChartBuilder, Circle, Color, IntoDrawingArea, IntoLogRange, PathElement,
    RGBColor, SVGBackend, TRANSPARENT, WHITE,
};
use shared::specification::Specification;
use shared::specification::settings::{List, Settings};
use shared::specification::vocabulary::Site;

use self::synthetic::{Size, specification, support};

/// What is swept.
#[derive(Debug, Clone, Copy)]
struct Case {
    size: Size,
    n_layers: usize,
    n_pairs: usize,
    /// Query heads, of which each is swept, or 0 for a sweep of the residual stream with 9.
    n_heads: usize,
    /// How many threads, or 0 for all that there are.
    n_threads: usize,
}

const BASE: Case = Case {
    size: Size { n_tokens: 48, n_shared: 24, n_columns: 12 },
    n_layers: 10,
    n_pairs: 1,
    n_heads: 0,
    n_threads: 0,
};

/// An axis along which an experiment grows: what changes in [`BASE`], and to which values.
struct Axis {
    name: &'static str,
    values: Vec<usize>,
    set: fn(&mut Case, usize),
}

fn axes() -> Vec<Axis> {
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = (0..).map(|i| 1 << i).take_while(|&n| n <= n_threads);
    vec![
        Axis {
            name: "tokens",
            values: vec![16, 32, 64, 128, 256],
            set: |case, n| (case.size.n_tokens, case.size.n_shared) = (n, n / 2),
        },
        Axis {
            name: "columns",
            values: vec![3, 6, 12, 24],
            set: |case, n| case.size.n_columns = n,
        },
        Axis { name: "layers", values: vec![5, 10, 20, 40], set: |case, n| case.n_layers = n },
        Axis { name: "pairs", values: vec![1, 4, 16, 64], set: |case, n| case.n_pairs = n },
        Axis { name: "heads", values: vec![3, 6, 12, 24], set: |case, n| case.n_heads = n },
        Axis { name: "threads", values: threads.collect(), set: |case, n| case.n_threads = n },
    ]
}

/// One measurement.
struct Point {
    value: usize,
    secs: f64,
    operations: f64,
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let path = args.next().context("expected the name of an SVG file to write")?;
    let n_rounds: usize = args.next().map_or(Ok(3), |rounds| rounds.parse())?;
    let mut measured = Vec::new();
    for axis in axes() {
        let points = axis.values.iter().map(|&value| {
            let mut case = BASE;
            (axis.set)(&mut case, value);
            Ok((value, Sweep::new(case)?))
        });
        let sweeps: Vec<(usize, Sweep)> = points.collect::<Result<_>>()?;
        let mut points: Vec<_> = sweeps
            .iter()
            .map(|(value, sweep)| Point {
                value: *value,
                secs: f64::INFINITY,
                operations: sweep.program.operations.done,
            })
            .collect();
        // The first round warms up.
        for round in 0..=n_rounds {
            for (point, (_, sweep)) in points.iter_mut().zip(&sweeps) {
                let secs = sweep.secs()?;
                if round > 0 {
                    point.secs = point.secs.min(secs);
                }
            }
        }
        report(axis.name, &points);
        measured.push((axis.name, points));
    }
    draw(&path, &measured)
}

#[allow(clippy::print_stdout, reason = "it is what this program is for")]
fn report(name: &str, points: &[Point]) {
    for point in points {
        let speed = point.operations / point.secs / 1e9;
        println!("| {name} | {} | {:.3} | {speed:.0} |", point.value, point.secs);
    }
    let [secs, operations] = exponents(points);
    println!("| {name}: time ~ n^{secs:.2}, operations ~ n^{operations:.2} | | | |");
}

/// The exponents with which time and operations grow, by least squares in logarithms.
fn exponents(points: &[Point]) -> [f64; 2] {
    let of = |y: fn(&Point) -> f64| {
        let logs: Vec<_> =
            points.iter().map(|point| ((point.value as f64).ln(), y(point).ln())).collect();
        let n = logs.len() as f64;
        let mean = |f: fn(&(f64, f64)) -> f64| logs.iter().map(f).sum::<f64>() / n;
        let (mean_x, mean_y) = (mean(|p| p.0), mean(|p| p.1));
        let shared: f64 = logs.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
        let own: f64 = logs.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
        shared / own
    };
    [of(|point| point.secs), of(|point| point.operations)]
}

/// A sweep that is ready to run.
struct Sweep {
    network: Network,
    table: Vec<Specification>,
    program: Program,
    /// Where it runs.
    threads: rayon::ThreadPool,
}

impl Sweep {
    fn new(case: Case) -> Result<Self> {
        let n_heads = if case.n_heads == 0 { 9 } else { case.n_heads };
        let config = Config {
            n_layers: case.n_layers,
            d_model: 576,
            n_heads,
            n_kv_heads: 3,
            d_head: 64,
            d_mlp: 1536,
            d_vocab: 4096,
            n_context: 512,
            norm_eps: 1e-5,
            tied_embeddings: true,
            ..Config::LLAMA
        };
        let config = support::llama(config);
        let site = if case.n_heads == 0 { Site::ResidPost } else { Site::Z };
        let settings = Settings { sites: List::new(vec![site])?, ..Settings::default() };
        let table: Vec<_> = (0..case.n_pairs)
            .map(|seed| specification(&config, &settings, case.size, seed))
            .collect();
        let threads = rayon::ThreadPoolBuilder::new().num_threads(case.n_threads).build()?;
        let program = threads.install(|| {
            let table: Vec<_> = table.iter().collect();
            Program::new(&config, &table, &Division::within(2 << 30))
        })?;
        let (network, _) = support::random_network(config, 1);
        Ok(Self { network, table, program, threads })
    }

    fn secs(&self) -> Result<f64> {
        let table: Vec<_> = self.table.iter().collect();
        let begin = Instant::now();
        let mut listener = |_: Progress| ControlFlow::Continue(());
        self.threads.install(|| run(&self.network, &table, &self.program, &mut listener))?;
        Ok(begin.elapsed().as_secs_f64())
    }
}

const TIME: RGBColor = RGBColor(0x1f, 0x5f, 0xa8);
const OPERATIONS: RGBColor = RGBColor(0x9a, 0x9a, 0x9a);

/// One, two and five times the powers of ten between two numbers.
fn ticks(least: f64, most: f64) -> Vec<f64> {
    let decades = least.log10().floor() as i32..=most.log10().ceil() as i32;
    let ticks = decades.flat_map(|n| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(n)));
    ticks.filter(|tick| (least..=most).contains(tick)).collect()
}

/// A panel for each axis: time, and where it would be if every operation took as long as in the
/// first case.
fn draw(path: &str, measured: &[(&str, Vec<Point>)]) -> Result<()> {
    let area = SVGBackend::new(path, (960, 560)).into_drawing_area();
    area.fill(&WHITE)?;
    for (area, (name, points)) in area.split_evenly((2, 3)).iter().zip(measured) {
        let first = &points[0];
        let by_operations = |point: &Point| {
            let share = point.operations / first.operations;
            match *name {
                "threads" => first.secs * share / point.value as f64,
                _ => first.secs * share,
            }
        };
        let all = || points.iter().flat_map(|point| [point.secs, by_operations(point)]);
        let least = all().fold(f64::INFINITY, f64::min) / 1.5;
        let most = all().fold(0.0, f64::max) * 1.5;
        let [secs, operations] = exponents(points);
        let caption = format!("{name}: time ~ n^{secs:.2}, operations ~ n^{operations:.2}");
        let values: Vec<_> = points.iter().map(|point| point.value as f64).collect();
        let x = (values[0] / 1.2..values[values.len() - 1] * 1.2).log_scale();
        let mut chart = ChartBuilder::on(area)
            .caption(caption, ("sans-serif", 15))
            .margin(10)
            .x_label_area_size(34)
            .y_label_area_size(56)
            .build_cartesian_2d(
                x.with_key_points(values),
                (least..most).log_scale().with_key_points(ticks(least, most)),
            )?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_desc(*name)
            .y_desc("seconds")
            .x_label_formatter(&|x| format!("{x:.0}"))
            .y_label_formatter(&|y| format!("{}", (y * 1e6).round() / 1e6))
            .draw()?;
        let line = |y: &dyn Fn(&Point) -> f64| -> Vec<_> {
            points.iter().map(|point| (point.value as f64, y(point))).collect()
        };
        let time = line(&|point| point.secs);
        let lines = [(line(&by_operations), OPERATIONS), (time.clone(), TIME)];
        chart.draw_series(
            lines.map(|(points, colour)| PathElement::new(points, colour.stroke_width(2))),
        )?;
        chart.draw_series(time.into_iter().map(|at| Circle::new(at, 4, TIME.filled())))?;
    }
    area.present()?;
    Ok(())
}
