//! Statistics against numbers recorded from scipy, pandas and numpy (`tests/statistics/record.py`),
//! and against what must hold in simulations.

use proptest::prelude::*;
use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{RngCore, SeedableRng};
use serde_json::Value;

use super::bootstrap::{Draws, Level, Ratio, bca};
use super::*;

fn recorded() -> Value {
    serde_json::from_str(include_str!("../../../tests/statistics/recorded.json")).unwrap()
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn column(values: &Value) -> Samples {
    let mut samples = Samples::new(1);
    numbers(values).into_iter().for_each(|value| samples.push([Some(value as f32)]));
    samples
}

fn table(rows: &Value) -> Samples {
    let rows = rows.as_array().unwrap();
    let mut samples = Samples::new(rows[0].as_array().unwrap().len());
    for row in rows {
        samples.push(row.as_array().unwrap().iter().map(|v| v.as_f64().map(|v| v as f32)));
    }
    samples
}

fn drawn(value: &Value) -> Draws {
    let resamples: Vec<Vec<usize>> = serde_json::from_value(value.clone()).unwrap();
    Draws::of_indices(resamples[0].len(), &resamples)
}

#[track_caller]
fn close(found: Option<f64>, expected: Option<f64>, tolerance: f64) {
    match (found, expected) {
        (Some(found), Some(expected)) => {
            let distance = (found - expected).abs();
            assert!(distance <= tolerance * expected.abs().max(1.0), "{found} for {expected}");
        }
        _ => assert_eq!(found, expected),
    }
}

#[track_caller]
fn close_ends(found: Option<[f64; 2]>, expected: &Value, tolerance: f64) {
    let found = found.expect("an interval");
    for (found, expected) in found.into_iter().zip(numbers(expected)) {
        close(Some(found), Some(expected), tolerance);
    }
}

#[test]
fn descriptions_are_those_of_pandas() {
    let recorded = &recorded()["describe"];
    let found = describe(&table(&recorded["table"]));
    for (found, expected) in found.iter().zip(recorded["cells"].as_array().unwrap()) {
        assert_eq!(Some(found.n as f64), number(&expected[0]));
        close(found.mean, number(&expected[1]), 1e-12);
        close(found.median, number(&expected[2]), 1e-12);
        close(found.sd, number(&expected[3]), 1e-12);
    }
}

#[test]
fn intervals_from_the_same_draws_are_those_of_scipy() {
    let recorded = recorded();
    let one = |case: &Value, contrast: Option<&[Option<f32>]>| {
        let (samples, draws) = (column(&case["x"]), drawn(&case["drawn"]));
        let (n, value, replicates, influences) =
            Ratio::new(&samples, contrast, &draws).tile(0).cell(0);
        close(Some(value), number(&case["value"]), 1e-9);
        let interval = bca(value, replicates, &influences, Level::of(n));
        close_ends(interval, &case["interval"], 1e-9);
    };
    for case in recorded["means"].as_array().unwrap() {
        one(case, None);
    }
    for case in recorded["ratios"].as_array().unwrap() {
        let contrast: Vec<_> =
            numbers(&case["y"]).into_iter().map(|value| Some(value as f32)).collect();
        one(case, Some(&contrast));
    }
    for case in recorded["unpaired"].as_array().unwrap() {
        let samples = [column(&case["x"]), column(&case["y"])];
        let draws = [drawn(&case["drawn"][0]), drawn(&case["drawn"][1])];
        let sides = [0, 1].map(|i| Group { samples: &samples[i], contrast: None });
        let found = difference::differences(sides, [&draws[0], &draws[1]], Pairing::Unpaired)[0];
        close(found.value, number(&case["value"]), 1e-9);
        close_ends(found.interval, &case["interval"], 1e-9);
    }
}

#[test]
fn intervals_from_other_draws_are_close_to_those_of_scipy() {
    let case = &recorded()["resampled"];
    let method = Method { n_resamples: 20_000, ..Method::default() };
    let found = mean(&column(&case["x"]), &method)[0].interval.unwrap();
    let expected = numbers(&case["interval"]);
    let width = expected[1] - expected[0];
    for (found, expected) in found.into_iter().zip(expected) {
        assert!((found - expected).abs() < 0.03 * width, "{found} for {expected}, {width} wide");
    }
}

#[test]
fn tests_are_those_of_scipy_and_numpy() {
    let recorded = &recorded()["tests"];
    let method = Method { min_family_pairs: 2, ..Method::default() };
    let found = sign_flips(&table(&recorded["table"]), &method);
    assert!(found.is_exact);
    assert_eq!(found.n_flips, 256, "the first of 9 pairs keeps its sign");
    for (cell, (p, family)) in found.p.iter().zip(&found.p_family).enumerate() {
        close(*p, number(&recorded["p"][cell]), 1e-12);
        close(*family, number(&recorded["p_family"][cell]), 1e-12);
    }
    let recorded = &recorded["false_discovery"];
    let mut p: Vec<_> = numbers(&recorded["p"]).into_iter().map(Some).collect();
    p.insert(3, None);
    let mut found = false_discovery(&p);
    assert_eq!(found.remove(3), None);
    for (found, expected) in found.into_iter().zip(numbers(&recorded["q"])) {
        close(found, Some(expected), 1e-12);
    }
}

/// Numbers between 0 and 1.
fn uniform(rng: &mut Pcg64Mcg) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// A standard normal number, near enough: of 12 uniform ones the sum less 6.
fn noise(rng: &mut Pcg64Mcg) -> f64 {
    (0..12).map(|_| uniform(rng)).sum::<f64>() - 6.0
}

fn exponential(rng: &mut Pcg64Mcg) -> f64 {
    -libm::log(1.0 - uniform(rng))
}

#[test]
fn intervals_hold_the_truth_93_to_97_times_in_100() {
    const N_CELLS: usize = 2000;
    let method = Method { n_resamples: 1000, n_flips: 0, seed: 5, ..Method::default() };
    type Draw = fn(&mut Pcg64Mcg) -> f64;
    let cases: [(&str, usize, Draw, f64); 4] = [
        ("normal", 12, noise, 0.0),
        ("normal", 40, noise, 0.0),
        ("gamma", 40, |rng| (0..4).map(|_| exponential(rng)).sum(), 4.0),
        ("exponential", 100, exponential, 1.0),
    ];
    let holds = |interval: Option<[f64; 2]>, truth: f64| {
        let [low, high] = interval.unwrap();
        low <= truth && truth <= high
    };
    let check = |name: &str, n: usize, n_held: usize, n_all: usize| {
        let share = n_held as f64 / n_all as f64;
        assert!((0.93..=0.97).contains(&share), "{name}, {n} pairs: {share}");
    };
    let draw = |n: usize, draw: Draw, rng: &mut Pcg64Mcg| {
        let mut samples = Samples::new(N_CELLS);
        (0..n).for_each(|_| samples.push((0..N_CELLS).map(|_| Some(draw(rng) as f32))));
        samples
    };
    let mut rng = Pcg64Mcg::seed_from_u64(11);
    for (name, n, one, truth) in cases {
        let found = mean(&draw(n, one, &mut rng), &method);
        check(name, n, found.iter().filter(|e| holds(e.interval, truth)).count(), N_CELLS);
    }
    // Other draws of pairs for each interval; the cells above share theirs.
    let n_held = (0..400).filter(|&seed| {
        let mut samples = Samples::new(1);
        (0..30).for_each(|_| samples.push([Some(noise(&mut rng) as f32)]));
        holds(mean(&samples, &Method { seed, ..method })[0].interval, 0.0)
    });
    check("one cell at a time", 30, n_held.count(), 400);
    // Ratio: of a change that is 0.4 of the contrast, and noise.
    let (mut n_held, n_all) = (0, 1000);
    for seed in 0..n_all {
        let (mut samples, mut contrast) = (Samples::new(1), Vec::new());
        for _ in 0..40 {
            let c = 3.0 + noise(&mut rng);
            samples.push([Some((0.4 * c + 0.5 * noise(&mut rng)) as f32)]);
            contrast.push(Some(c as f32));
        }
        let method = Method { n_resamples: 500, seed, ..method };
        n_held += usize::from(holds(ratio_of_means(&samples, &contrast, &method)[0].interval, 0.4));
    }
    check("ratio", 40, n_held, n_all as usize);
    // Differences of two groups of other sizes and spreads, and of the same pairs.
    let n_cells = N_CELLS as f64;
    let (a, b) = (draw(15, noise, &mut rng), draw(40, exponential, &mut rng));
    let [first, second] = [&a, &b].map(|samples| Group { samples, contrast: None });
    let found = difference([first, second], Pairing::Unpaired, &method);
    let n_held = found.iter().filter(|d| holds(d.interval, -1.0)).count();
    check("unpaired", 15, n_held, n_cells as usize);
    let mut shifted = Samples::new(N_CELLS);
    for pair in 0..a.n_pairs() {
        let value = |cell| Some(a.get(pair, cell)? - 0.5 + 0.3 * noise(&mut rng) as f32);
        shifted.push((0..N_CELLS).map(value));
    }
    let second = Group { samples: &shifted, contrast: None };
    let found = difference([first, second], Pairing::Paired, &method);
    check("paired", 15, found.iter().filter(|d| holds(d.interval, 0.5)).count(), N_CELLS);
}

#[test]
fn the_family_of_cells_is_wrong_5_times_in_100_under_the_null() {
    let (n_tables, n_pairs, n_cells) = (400u64, 20, 24);
    let mut rng = Pcg64Mcg::seed_from_u64(3);
    let (mut n_wrong, mut n_alone) = (0, 0);
    for seed in 0..n_tables {
        let mut samples = Samples::new(n_cells);
        for _ in 0..n_pairs {
            // What cells have in common, and skew that both signs have alike.
            let common = noise(&mut rng);
            let value = |k: usize| {
                let own = exponential(&mut rng) - exponential(&mut rng);
                (!k.is_multiple_of(5) || common.abs() < 1.0).then_some((0.7 * common + own) as f32)
            };
            samples.push((0..n_cells).map(value));
        }
        let tests = sign_flips(&samples, &Method { n_flips: 199, seed, ..Method::default() });
        let is_below = |p: &Vec<Option<f64>>| p.iter().flatten().any(|p| *p <= 0.05);
        n_wrong += usize::from(is_below(&tests.p_family));
        n_alone += usize::from(is_below(&tests.p));
        let pairs = tests.p.iter().zip(&tests.p_family);
        let is_less = |(p, family): (&Option<f64>, &Option<f64>)| family.is_none() || p <= family;
        assert!(pairs.clone().all(is_less), "{tests:?}");
    }
    // 0.05 and three standard errors of 400 tables.
    let share = n_wrong as f64 / n_tables as f64;
    assert!((0.01..=0.083).contains(&share), "{share}");
    assert!(n_alone as f64 / n_tables as f64 > 0.2, "one by one, more cells are wrong: {n_alone}");
}

#[test]
fn an_effect_is_found() {
    let mut rng = Pcg64Mcg::seed_from_u64(9);
    let mut samples = Samples::new(50);
    for _ in 0..40 {
        let value = |cell: usize| Some(noise(&mut rng) as f32 + if cell == 7 { 1.5 } else { 0.0 });
        samples.push((0..50).map(value));
    }
    let method = Method::default();
    let tests = sign_flips(&samples, &method);
    assert!(!tests.is_exact);
    assert_eq!(tests.p_family[7], Some(1.0 / 2001.0));
    let found: Vec<_> = (0..50).filter(|&cell| tests.p_family[cell].unwrap() < 0.05).collect();
    assert_eq!(found, [7]);
    assert!(mean(&samples, &method)[7].interval.unwrap()[0] > 0.5);
}

#[test]
fn a_cell_of_two_pairs_hides_no_effect() {
    let mut rng = Pcg64Mcg::seed_from_u64(9);
    let mut samples = Samples::new(2);
    for pair in 0..40 {
        let sparse = (pair < 2).then_some(1.0 + pair as f32 / 1e4);
        samples.push([Some(noise(&mut rng) as f32 + 1.0), sparse]);
    }
    let found = |min_family_pairs| {
        sign_flips(&samples, &Method { min_family_pairs, ..Method::default() }).p_family
    };
    assert_eq!(found(10)[1], None);
    assert!(found(10)[0].unwrap() < 0.01);
    assert!(found(2)[0].unwrap() > 0.3, "what the rule is for: {:?}", found(2));
}

#[test]
fn odd_tables_have_no_more_numbers_than_they_can() {
    let method = Method { n_resamples: 200, n_flips: 200, seed: 0, ..Method::default() };
    // No pairs, one pair, a cell without values, constants, an infinite value.
    let none = Samples::new(3);
    assert_eq!(mean(&none, &method)[2], Estimate { n: 0, value: None, interval: None });
    assert_eq!(sign_flips(&none, &method).p, [None; 3]);
    assert_eq!(describe(&none)[0], Description { n: 0, mean: None, median: None, sd: None });
    assert!(mean(&Samples::new(0), &method).is_empty());
    let mut one = Samples::new(2);
    one.push([Some(2.0)]);
    assert_eq!(mean(&one, &method)[0], Estimate { n: 1, value: Some(2.0), interval: None });
    assert_eq!(mean(&one, &method)[1].value, None, "what lacks at the end has no value");
    assert_eq!(sign_flips(&one, &method).p, [None, None]);
    assert_eq!(describe(&one)[0].sd, None);
    let mut odd = Samples::new(4);
    for pair in 0..20 {
        let infinite = if pair == 3 { f32::INFINITY } else { 1.0 };
        odd.push([Some(0.1), Some(0.0), Some(infinite), (pair < 9).then_some(pair as f32)]);
    }
    let found = mean(&odd, &method);
    let value = f64::from(0.1f32);
    close(found[0].value, Some(value), 1e-12);
    let [low, high] = found[0].interval.unwrap();
    assert_eq!((low, high), (found[0].value.unwrap(), found[0].value.unwrap()), "nothing varies");
    assert_eq!(found[1].interval, Some([0.0, 0.0]));
    assert_eq!(found[2].n, 19, "infinity is no value");
    assert_eq!((found[3].n, found[3].interval), (9, None), "too few pairs");
    let tests = sign_flips(&odd, &method);
    assert_eq!(tests.p[0], Some(1.0 / 201.0), "all have one sign");
    assert_eq!(tests.p[1], Some(1.0), "there is no effect at all");
    assert!(tests.p.iter().all(Option::is_some));
    // A contrast that may be of either sign, and one that is nearly none.
    let mut rng = Pcg64Mcg::seed_from_u64(1);
    let either: Vec<_> = (0..20).map(|_| Some(0.1 + noise(&mut rng) as f32)).collect();
    let found = ratio_of_means(&odd, &either, &method);
    assert!(found[0].value.is_some());
    assert_eq!(found[0].interval, None);
    let nearly: Vec<_> = (0..20).map(|i| Some(if i % 2 == 0 { 1.0 } else { -1.001 })).collect();
    assert_eq!(ratio_of_means(&odd, &nearly, &method)[0].value, None);
    // A pair without a contrast does not count.
    let lacking: Vec<_> = (0..20).map(|i| (i != 5).then_some(2.0)).collect();
    assert_eq!(ratio_of_means(&odd, &lacking, &method)[0].n, 19);
    assert_eq!(ratio_of_means(&odd, &[], &method)[0].n, 0);
    assert_eq!(false_discovery(&[]), []);
}

#[test]
fn paired_groups_count_what_both_have() {
    let (mut first, mut second) = (Samples::new(1), Samples::new(1));
    for pair in 0..30 {
        let value = (pair * 7 % 11) as f32;
        first.push([(pair != 4).then_some(value + 1.0 + (pair % 3) as f32)]);
        second.push([(pair != 9).then_some(value)]);
    }
    let sides = [&first, &second].map(|samples| Group { samples, contrast: None });
    let method = Method::default();
    let paired = difference(sides, Pairing::Paired, &method)[0];
    assert_eq!(paired.n, [28, 28]);
    let unpaired = difference(sides, Pairing::Unpaired, &method)[0];
    assert_eq!(unpaired.n, [29, 29]);
    let width = |d: Difference| d.interval.unwrap()[1] - d.interval.unwrap()[0];
    assert!(width(paired) < width(unpaired) / 3.0, "{paired:?} {unpaired:?}");
    // The same as the mean of the differences.
    let mut of_both = Samples::new(1);
    for pair in 0..30 {
        let value = || Some(first.get(pair, 0)? - second.get(pair, 0)?);
        of_both.push([value()]);
    }
    let single = mean(&of_both, &method)[0];
    close(paired.value, single.value, 1e-12);
    for k in [0, 1] {
        close(Some(paired.interval.unwrap()[k]), Some(single.interval.unwrap()[k]), 1e-9);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Cells do not see each other, and neither order of cells nor company changes a number.
    #[test]
    fn a_cell_alone_is_as_in_company(
        rows in proptest::collection::vec(
            proptest::collection::vec(proptest::option::weighted(0.9, -1e3f32..1e3), 11), 0..24),
        cell in 0usize..11,
    ) {
        let (mut all, mut alone) = (Samples::new(11), Samples::new(1));
        for row in &rows {
            all.push(row.iter().copied());
            alone.push([row[cell]]);
        }
        let method = Method { n_resamples: 100, n_flips: 64, seed: 2, ..Method::default() };
        let contrast: Vec<_> = (0..rows.len()).map(|i| Some(1.0 + (i % 4) as f32)).collect();
        prop_assert_eq!(mean(&all, &method)[cell], mean(&alone, &method)[0]);
        prop_assert_eq!(
            ratio_of_means(&all, &contrast, &method)[cell].value,
            ratio_of_means(&alone, &contrast, &method)[0].value
        );
        prop_assert_eq!(sign_flips(&all, &method).p[cell], sign_flips(&alone, &method).p[0]);
        prop_assert_eq!(describe(&all)[cell], describe(&alone)[0]);
        for estimate in mean(&all, &method) {
            if let Some(([low, high], value)) = estimate.interval.zip(estimate.value) {
                prop_assert!(low <= high);
                prop_assert!(low.is_finite() && high.is_finite() && value.is_finite());
            }
        }
        let mut seen = 0;
        resampled_means(&all, &method, |means| seen += usize::from(means.len() == 11));
        prop_assert_eq!(seen, 100);
    }

    /// Scaling all values scales the interval, and turning their signs turns it round.
    #[test]
    fn intervals_follow_the_values(values in proptest::collection::vec(-4i32..4, 10..40)) {
        let of = |factor: f32| {
            let mut samples = Samples::new(1);
            values.iter().for_each(|v| samples.push([Some(*v as f32 * factor)]));
            mean(&samples, &Method { n_resamples: 200, n_flips: 0, seed: 1, ..Method::default() })[0].interval.unwrap()
        };
        let ([low, high], doubled, turned) = (of(1.0), of(2.0), of(-1.0));
        close(Some(doubled[0]), Some(2.0 * low), 1e-9);
        close(Some(doubled[1]), Some(2.0 * high), 1e-9);
        close(Some(turned[0]), Some(-high), 1e-9);
        close(Some(turned[1]), Some(-low), 1e-9);
    }
}
