//! What is read on a device is what is read on the host, for every width of the vocabulary and for
//! numbers that are none; and what threads read of slices of it is what there is in all of it.

use candle_core::Device;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::model::{Linear, Unembedding};

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
    let expected = host::read_logits(&logits, &piece, &sums, Some(&weights), 0).unwrap();
    let got = device::read(&logits, &piece, &sums, Some(&weights)).unwrap();
    assert_eq!((got.len(), expected.len()), (n, n));
    for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
        let what = format!("row {i}, {width} tokens from {first}, {n_top} of them kept");
        let is_near = |got: f64, expected: f64, tolerance: f64| {
            got == expected
                || (got.is_nan() && expected.is_nan())
                || (got - expected).abs() <= tolerance * expected.abs().max(1.0)
        };
        assert!(is_near(got.log_sum, expected.log_sum, 2e-6), "log_sum, {what}");
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

/// Of one slice and of several, one block of rows and several, the last of them short; of one piece of the
/// vocabulary and of two, the second of which begins elsewhere than at the first token and knows what the
/// first said; and of logits that are no finite numbers.
#[test]
fn slices_say_together_what_all_logits_say() {
    for (n_rows, n_tokens, n_top) in [(1, 1, 1), (5, 511, 3), (130, 1300, 5), (300, 1024, 2000)] {
        // Two pieces are cut where a slice ends.
        for first in [n_tokens, n_tokens.min(512)] {
            for odd in [None, Some(f32::NAN), Some(f32::INFINITY), Some(f32::NEG_INFINITY)] {
                compare_slices(n_rows, n_tokens, n_top, first, odd);
            }
        }
    }
}

/// Reads all logits at once and in slices of two pieces, the first of which has `first` tokens; one token
/// has the logit `odd`, if there is one.
fn compare_slices(n_rows: usize, n_tokens: usize, n_top: usize, first: usize, odd: Option<f32>) {
    const WIDTH: usize = 24;
    let random = |dims: (usize, usize)| Tensor::randn(0f32, 1.0, dims, &Device::Cpu).unwrap();
    let mut bias = random((1, n_tokens)).squeeze(0).unwrap().to_vec1::<f32>().unwrap();
    if let Some(odd) = odd {
        bias[n_tokens * 2 / 3] = odd;
    }
    let bias = Tensor::from_vec(bias, n_tokens, &Device::Cpu).unwrap();
    let map = Linear::new(random((n_tokens, WIDTH)), Some(bias), Kernels::Own).unwrap();
    // A cap would make numbers of infinities.
    let unembedding = Unembedding::new(map, odd.is_none().then_some(20.0), Kernels::Own);
    let x = random((n_rows, WIDTH));
    let all = unembedding.logits(&x).unwrap();
    let id = |part: usize| (n_tokens * part / 7) as u32;
    let metrics = Metrics {
        true_ids: vec![id(1), id(3)],
        false_ids: vec![id(6)],
        vocabulary: true,
        n_top,
        lens: false,
    };
    let n_references = n_rows.min(2);
    let references = all.narrow(0, 0, n_references).unwrap();
    let logits = all.to_vec2::<f32>().unwrap();
    let sums = |row: usize| {
        let references = [Some(0), Some(n_references - 1)];
        let row_of = ReadRow { metrics: &metrics, whole: true, token: None, references };
        let largest = |ids: &[u32]| {
            ids.iter().map(|&id| logits[row][id as usize]).fold(f32::NEG_INFINITY, f32::max)
        };
        let largest = [largest(&metrics.true_ids), largest(&metrics.false_ids)];
        Sums::new(row_of, &RowReading { largest, ..RowReading::default() })
    };
    let mut expected_references = vec![ReferenceSums::default(); n_references];
    let weights = reference_sums_of(&references, &mut expected_references).unwrap();
    let mut expected: Vec<_> = (0..n_rows).map(sums).collect();
    let read = host::read_logits(&all, &(0..n_tokens), &expected, Some(&weights), 0).unwrap();
    expected.iter_mut().zip(read).for_each(|(sums, read)| sums.add(read));
    let mut found_references = vec![ReferenceSums::default(); n_references];
    let mut found: Vec<_> = (0..n_rows).map(sums).collect();
    for piece in [0..first, first..n_tokens].into_iter().filter(|piece| !piece.is_empty()) {
        let references = references.narrow(1, piece.start, piece.len()).unwrap();
        let weights = reference_sums_of(&references, &mut found_references).unwrap();
        found.iter_mut().for_each(|sums| sums.rescale(&weights.rescale));
        let unembedding = unembedding.slice(piece.clone()).unwrap();
        host::read(&unembedding, &piece, &x, &mut found, Some(&weights)).unwrap();
    }
    let is_near = |found: f32, expected: f32| {
        found == expected
            || (found.is_nan() && expected.is_nan())
            || (found - expected).abs() < 1e-5
    };
    for (row, (found, expected)) in found.into_iter().zip(expected).enumerate() {
        let what = format!(
            "row {row} of {n_rows}, {n_tokens} tokens, {first} of them first, {n_top}, {odd:?}"
        );
        let (found, expected) =
            (found.whole(&found_references), expected.whole(&expected_references));
        assert!(is_near(found.log_sum, expected.log_sum), "{what}");
        assert_eq!(found.top, expected.top, "{what}");
        assert_eq!(found.n_above, expected.n_above, "{what}");
        // What is no finite number has no divergence that says anything.
        if odd.is_none() {
            for (found, expected) in found.divergence.iter().zip(expected.divergence) {
                assert!(is_near(found.unwrap(), expected.unwrap()), "{what}");
            }
        }
    }
}
