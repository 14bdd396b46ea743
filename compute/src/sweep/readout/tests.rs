//! What is read on a device is what is read on the host, for every width of the vocabulary and for
//! numbers that are none.

use candle_core::Device;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

/// Reads `logits` `[rows, width]`, the tokens from `first` on, in both ways, and compares.
fn compare(logits: &[Vec<f32>], first: usize, n_top: usize, random: &mut StdRng) {
    let width = logits[0].len();
    let piece = first..first + width;
    // Some within the piece, and some of another.
    let mut ids = || random.random_range(0..(first + width + 5) as u32);
    let metrics = Metrics {
        true_ids: vec![ids(), ids(), ids()],
        false_ids: vec![ids()],
        vocabulary: true,
        n_top,
        lens: false,
    };
    let n = logits.len();
    let references: Vec<Vec<f32>> =
        (0..2).map(|_| (0..width).map(|_| random.random_range(-9.0..9.0)).collect()).collect();
    let tensor = |rows: &[Vec<f32>]| {
        Tensor::from_vec(rows.concat(), (rows.len(), width), &Device::Cpu).unwrap()
    };
    let mut reference_sums = vec![ReferenceSums::default(); 2];
    let weights = reference_sums_of(&tensor(&references), &mut reference_sums).unwrap();
    let weights = weights.on(&Device::Cpu).unwrap();
    let sums: Vec<_> = (0..n)
        .map(|i| {
            let references = [[Some(0), Some(1)], [Some(1), None], [None, None]][i % 3];
            let row = ReadRow { metrics: &metrics, whole: true, token: None, references };
            let largest = [logits[i][width / 2], random.random_range(-9.0..9.0)];
            Sums::new(row, &RowReading { largest, ..RowReading::default() })
        })
        .collect();
    let logits = tensor(logits);
    let expected = host::read(&logits, &piece, &sums, Some(&weights)).unwrap();
    let got = device::read(&logits, &piece, &sums, Some(&weights)).unwrap();
    assert_eq!((got.len(), expected.len()), (n, n));
    for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
        let what = format!("row {i}, {width} tokens from {first}, {n_top} of them kept");
        let is_near = |got: f64, expected: f64, tolerance: f64| {
            got == expected
                || (got.is_nan() && expected.is_nan())
                || (got - expected).abs() <= tolerance * expected.abs().max(1.0)
        };
        assert!(is_near(got.log_sum.into(), expected.log_sum.into(), 2e-6), "log_sum, {what}");
        assert_eq!(got.top, expected.top, "{what}");
        assert_eq!(got.n_above, expected.n_above, "{what}");
        for (got, expected) in got.products.iter().zip(expected.products) {
            assert!(is_near(*got, expected, 1e-4), "{got} for {expected}, {what}");
        }
    }
}

#[test]
fn a_device_reads_what_the_host_reads() {
    let mut random = StdRng::seed_from_u64(3);
    // One block of tokens and several, whole and with some left over.
    for width in [1, 2, 127, 128, 129, 255, 256, 300, 1000, 1280] {
        for n_top in [0, 1, 3, 5, 200, 2000] {
            let mut rows: Vec<Vec<f32>> = (0..6)
                .map(|_| (0..width).map(|_| random.random_range(-9.0..9.0)).collect())
                .collect();
            // Many of the same, of which the first count; zeros of both signs; and all the same.
            rows.push((0..width).map(|_| random.random_range(0..3u8).into()).collect());
            rows.push((0..width).map(|i| if i % 2 == 0 { 0.0 } else { -0.0 }).collect());
            rows.push(vec![-7.5; width]);
            // What is no finite number, in one place or everywhere.
            for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut row = rows[0].clone();
                row[random.random_range(0..width)] = odd;
                rows.push(row);
                rows.push(vec![odd; width]);
            }
            compare(&rows, [0, 700][usize::from(width % 2 == 0)], n_top, &mut random);
        }
    }
}
