//! What company costs: several sites, both directions, live waves and tables, each as a ratio to one
//! pair at one site in the same run, and what share of the matrix products' peak each reaches. Medians of
//! interleaved rounds.
//!
//! `cargo run --release --example ratios -- MODEL [ROUNDS [SHAPE [CASE...]]]`, with one of [`SHAPES`], from
//! 0, or all of them, and with all cases or those that hold one of these texts in their names.

mod synthetic;

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use compute::model::Loader;
use compute::sweep::{Division, Program, run, speed};
use shared::specification::Specification;
use shared::specification::settings::{List, Settings};
use shared::specification::vocabulary::{Directions, Site};

use self::synthetic::{Size, specification};

/// Tokens of the prompts, of those that all prompts of a table share, swept columns, and pairs of the
/// table.
const SHAPES: [(&str, usize, usize, usize, usize); 2] =
    [("38 tokens, 14 columns", 38, 24, 14, 100), ("16 tokens, 8 columns", 16, 8, 8, 100)];
const MEMORY: usize = 2 << 30;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let path = args.next().context("expected a model: a folder or a .gguf file")?;
    let n_rounds: usize = args.next().map_or(Ok(5), |rounds| rounds.parse())?;
    let shapes = match args.next() {
        Some(shape) => vec![*SHAPES.get(shape.parse::<usize>()?).context("no such shape")?],
        None => SHAPES.to_vec(),
    };
    let wanted: Vec<_> = args.collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|text| name.contains(text));
    let model = Loader::new(Path::new(&path)).load()?;
    let config = &model.network.config;
    for (name, n_tokens, n_shared, n_columns, n_pairs) in shapes {
        let size = Size { n_tokens, n_shared, n_columns };
        let specification = |settings: &Settings, seed| specification(config, settings, size, seed);
        let one = Settings::default();
        let sites = vec![Site::ResidPost, Site::AttnOut, Site::MlpOut];
        let three = Settings { sites: List::new(sites)?, ..Settings::default() };
        let both = Settings { direction: Directions::Both, ..Settings::default() };
        let whole = Division::within(MEMORY);
        let live = whole.in_waves(None);
        let table = (0..n_pairs).map(|seed| specification(&one, seed)).collect();
        let cases: Vec<(&str, Vec<Specification>, Division, f64)> = vec![
            ("one site", vec![specification(&one, 0)], whole, 1.0),
            ("three sites", vec![specification(&three, 0)], whole, 1.0),
            ("both directions", vec![specification(&both, 0)], whole, 1.0),
            ("live waves", vec![specification(&one, 0)], live, 1.0),
            ("a pair of a table", table, whole, n_pairs as f64),
        ];
        let (ones, others) = cases.split_at(1);
        let others = others.iter().filter(|case| is_wanted(case.0));
        let cases: Vec<_> = ones.iter().chain(others).collect();
        let mut secs = vec![Vec::new(); cases.len()];
        let mut peaks = Vec::new();
        for round in 0..=n_rounds {
            peaks.push(speed::matrix_products(&model.network, whole.n_tile_rows)?);
            for ((_, table, division, n), secs) in cases.iter().zip(&mut secs) {
                let table: Vec<_> = table.iter().collect();
                let begin = Instant::now();
                let program = Program::new(config, &table, division)?;
                run(&model.network, &table, &program, &mut |_| ControlFlow::Continue(()))?;
                // The first round warms up.
                if round > 0 {
                    secs.push(begin.elapsed().as_secs_f64() / n);
                }
            }
        }
        peaks.sort_by(f64::total_cmp);
        let peak = peaks[peaks.len() / 2];
        #[allow(clippy::print_stdout, reason = "it is what this program is for")]
        for ((what, table, division, _), secs) in cases.iter().zip(&mut secs).rev() {
            secs.sort_by(f64::total_cmp);
            let median = secs[secs.len() / 2];
            let table: Vec<_> = table.iter().collect();
            let program = Program::new(config, &table, division)?;
            let per_pair = program.operations.done / table.len() as f64;
            println!(
                "{name}, {what}: {:.1} ms, {:.1} Gop, {:.0} Gop/s, {:.2} of the peak, {} passes",
                1e3 * median,
                1e-9 * per_pair,
                1e-9 * per_pair / median,
                per_pair / median / peak,
                program.n_passes()
            );
        }
        let median = |i: usize| {
            let secs: &Vec<f64> = &secs[i];
            secs[secs.len() / 2]
        };
        #[allow(clippy::print_stdout, reason = "it is what this program is for")]
        for (i, (what, ..)) in cases.iter().enumerate().skip(1) {
            println!("{name}, {what}: {:.3} of one", median(i) / median(0));
        }
    }
    Ok(())
}
