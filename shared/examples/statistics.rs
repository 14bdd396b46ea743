//! How long the statistics of a large study take:
//! `cargo run --release --package shared --example statistics`.

use std::time::Instant;

use shared::statistics::{Method, Samples, describe, mean, ratio_of_means, sign_flips};

fn main() {
    let (n_pairs, n_cells) = (1000, 2100);
    let mut samples = Samples::new(n_cells);
    for pair in 0..n_pairs {
        let value = |cell: usize| Some(((pair * 7919 + cell * 104_729) % 1009) as f32 / 1009.0);
        samples.push((0..n_cells).map(value));
    }
    let contrast: Vec<_> = (0..n_pairs).map(|pair| Some(2.0 + (pair % 17) as f32)).collect();
    let method = Method::default();
    let time = |name: &str, work: &dyn Fn() -> usize| {
        let begin = Instant::now();
        let n = work();
        eprintln!("{name}: {n} cells in {:.2} s", begin.elapsed().as_secs_f64());
    };
    time("describe", &|| describe(&samples).len());
    time("mean", &|| mean(&samples, &method).len());
    time("ratio_of_means", &|| ratio_of_means(&samples, &contrast, &method).len());
    time("sign_flips", &|| sign_flips(&samples, &method).p.len());
}
