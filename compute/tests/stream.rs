//! Models whose weights stay in their files: the same numbers, and clear errors when a file goes bad
//! on the way.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use compute::model::{Config, Loader, ModelError, Module, Network, Placement, Weight, Weights};
use compute::sweep::{Division, Program, Progress, Readings, SweepError, oracle, run};
use shared::specification::Specification;
use shared::specification::settings::Settings;

/// A limit that no model fits, so that its weights stay in their files.
const NONE: usize = 0;

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracle/models/tiny-llama3")
}

fn open(folder: &Path) -> Result<Network, ModelError> {
    Loader { path: folder, placement: Placement::default(), budget: NONE }.network()
}

fn patches(network: &Network) -> Specification {
    let prompts: [&[u32]; 2] = [&[5, 6, 7, 8, 9, 10, 11], &[5, 6, 13, 8, 9, 14, 11]];
    support::grids(&network.config, &Settings::default(), prompts, 1)
}

fn sweep(network: &Network) -> Result<Readings, SweepError> {
    support::sweep(network, &patches(network))
}

#[test]
fn files_that_are_read_block_by_block_give_the_same_numbers() {
    let resident = Loader::new(&tiny()).load().unwrap();
    let streamed =
        Loader { path: &tiny(), placement: Placement::default(), budget: NONE }.load().unwrap();
    assert!(streamed.network.is_streamed() && !resident.network.is_streamed());
    assert!(streamed.network.n_held_bytes() < resident.network.n_held_bytes());
    assert_eq!(streamed.fingerprint.get().unwrap(), resident.fingerprint.get().unwrap());
    let (a, b) = (sweep(&resident.network).unwrap(), sweep(&streamed.network).unwrap());
    assert_eq!(a.runs, b.runs);
    assert_eq!(a.trials, b.trials);
}

#[test]
fn a_vocabulary_in_pieces_reads_the_same() {
    let config = support::llama(Config {
        n_layers: 2,
        d_model: 8,
        n_heads: 2,
        n_kv_heads: 1,
        d_head: 4,
        d_mlp: 8,
        d_vocab: 20_000,
        n_context: 32,
        norm_eps: 1e-5,
        tied_embeddings: true,
        ..Config::LLAMA
    });
    let (resident, weights) = support::random_network(config.clone(), 3);
    let streamed = Network::streamed(config, weights, &Placement::default()).unwrap();
    assert!(streamed.vocabulary().len() > 2);
    let (a, b) = (sweep(&resident).unwrap(), sweep(&streamed).unwrap());
    let mut tops = Vec::new();
    for (a, b) in a.trials.iter().zip(&b.trials) {
        assert_eq!(a.logit_diff, b.logit_diff);
        let (Some(a), Some(b)) = (&a.vocabulary, &b.vocabulary) else { panic!("no readout") };
        let ((top, p_top), (other, p_other)) = (a.top[0], b.top[0]);
        assert_eq!(top, other);
        assert_eq!((a.rank_true, a.rank_false), (b.rank_true, b.rank_false));
        for (a, b) in [(p_top, p_other), (a.p_true, b.p_true), (a.p_false, b.p_false)] {
            assert!((a - b).abs() <= 1e-5 * a, "{a} and {b}");
        }
        for (a, b) in [(a.kl_base, b.kl_base), (a.kl_source, b.kl_source)] {
            assert!((a.unwrap() - b.unwrap()).abs() <= 1e-5, "{a:?} and {b:?}");
        }
        tops.push(top / (1 << 13));
    }
    assert!(tops.iter().any(|&piece| piece > 0), "no top token is beyond the first piece");
}

#[test]
fn weights_count_as_many_bytes_as_their_type_takes() {
    let open = |to: &Placement, limit| {
        Loader { path: &tiny(), placement: to.clone(), budget: limit }.network().unwrap()
    };
    // The least memory with which all weights are kept in it.
    let least = |to: &Placement| {
        let (mut streams, mut fits) = (NONE, 1 << 40);
        while fits - streams > 1 {
            let limit = streams + (fits - streams) / 2;
            match open(to, limit).is_streamed() {
                true => streams = limit,
                false => fits = limit,
            }
        }
        fits
    };
    let [whole, half] = [DType::F32, DType::BF16].map(|t| Placement::new(Device::Cpu, t));
    let config = open(&whole, NONE).config;
    // Unembedding and norms are f32 in any type.
    let n_f32 = config.d_vocab * config.d_model + config.d_model * (2 * config.n_layers + 1);
    let n_half = 2 * (config.n_weights() - n_f32) + 4 * n_f32;
    let n_whole = 4 * config.n_weights();
    for (to, n) in [(&whole, n_whole), (&half, n_half)] {
        assert_eq!(open(to, usize::MAX).n_held_bytes(), n);
    }
    assert_eq!(least(&whole) - least(&half), n_whole - n_half);
    assert!(open(&half, NONE).n_held_bytes() < open(&whole, NONE).n_held_bytes());
}

/// A copy of the tiny model to spoil.
fn copy() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(tiny()).unwrap() {
        let from = entry.unwrap().path();
        fs::copy(&from, folder.path().join(from.file_name().unwrap())).unwrap();
    }
    folder
}

#[test]
fn files_that_go_bad_on_the_way_are_errors() {
    let shard = "model-00002-of-00003.safetensors";
    let spoil = |folder: &Path, how: &dyn Fn(&mut File)| {
        how(&mut File::options().write(true).open(folder.join(shard)).unwrap());
    };
    let folder = copy();
    let streamed = open(folder.path()).unwrap();
    spoil(folder.path(), &|file| {
        file.seek(SeekFrom::End(-1)).unwrap();
        file.write_all(&[1]).unwrap();
        // Clocks of file systems may be coarse.
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    });
    let error = sweep(&streamed).unwrap_err().to_string();
    assert!(error.contains("the file was changed while `model.layers."), "{error}");
    assert!(error.contains(shard), "{error}");

    let folder = copy();
    let streamed = open(folder.path()).unwrap();
    spoil(folder.path(), &|file| {
        let modified = file.metadata().unwrap().modified().unwrap();
        file.set_len(2000).unwrap();
        file.set_modified(modified).unwrap();
    });
    let error = sweep(&streamed).unwrap_err().to_string();
    assert!(error.contains("cannot be read, was the file cut short?"), "{error}");
    let error = open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("the file has 2000 bytes and its header promises"), "{error}");
}

/// Weights of which those of one layer cannot be had.
struct Failing {
    weights: HashMap<Weight, Tensor>,
    layer: usize,
    /// Whether the reader panics, instead of reporting an error.
    panics: bool,
    /// How often it fails before it does not any more.
    n_left: usize,
}

impl Weights for Failing {
    fn load(&mut self, weight: Weight, dims: &[usize], dtype: DType) -> Result<Tensor, ModelError> {
        if weight.layer == self.layer && weight.module == Module::Down && self.n_left > 0 {
            self.n_left -= 1;
            assert!(!self.panics, "a defect of the reader");
            return Err(ModelError::file(Path::new("disk"), "the disk is gone"));
        }
        self.weights.load(weight, dims, dtype)
    }
}

#[test]
fn a_reader_that_dies_in_the_middle_is_an_error_and_no_shorter_model() {
    let config = support::llama(Config {
        n_layers: 4,
        d_model: 8,
        n_heads: 2,
        n_kv_heads: 1,
        d_head: 4,
        d_mlp: 8,
        d_vocab: 32,
        n_context: 32,
        norm_eps: 1e-5,
        ..Config::LLAMA
    });
    let (whole, weights) = support::random_network(config.clone(), 3);
    let expected = sweep(&whole).unwrap();
    for (layer, panics) in (1..4).flat_map(|layer| [(layer, false), (layer, true)]) {
        let why = if panics { "a defect of the reader" } else { "the disk is gone" };
        let mut failing = Failing { weights: weights.clone(), layer, panics, n_left: 2 };
        let streamed = Network::streamed(config.clone(), failing, &Placement::default()).unwrap();
        let error = sweep(&streamed).unwrap_err().to_string();
        assert!(error.contains(why), "{layer}: {error}");
        let error = oracle::forward(&streamed, &[1, 2], |_, _, x| Ok(x)).unwrap_err().to_string();
        assert!(error.contains(why), "{layer}: {error}");
        // What was in the way is gone, and nothing of it remains.
        assert_eq!(sweep(&streamed).unwrap().trials, expected.trials);

        failing = Failing { weights: weights.clone(), layer, panics: false, n_left: 1 };
        let error = Network::resident(config.clone(), &mut failing, &Placement::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains("the disk is gone"), "{layer}: {error}");
    }
}

#[test]
fn a_stream_can_be_broken_off_and_begun_again() {
    let streamed = open(&tiny()).unwrap();
    let patches = patches(&streamed);
    let table = [&patches];
    let program = Program::new(&streamed.config, &table, &Division::within(1 << 30)).unwrap();
    for stop_at in [0.0, 0.4, 0.8] {
        let outcome = run(&streamed, &table, &program, &mut |progress| match progress {
            Progress::Share(share) if share > stop_at => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        });
        assert!(matches!(outcome, Err(SweepError::Cancelled)));
    }
    sweep(&streamed).unwrap();
}

#[test]
fn pairs_share_a_pass_as_far_as_memory_and_time_allow() {
    let network = open(&tiny()).unwrap();
    let patches = patches(&network);
    let table = [&patches; 5];
    let batches = |division: &Division| {
        let program = Program::new(&network.config, &table, division).unwrap();
        assert!(program.peak_bytes <= division.allowed);
        program.batches.iter().map(|batch| batch.pairs.len()).collect::<Vec<_>>()
    };
    let plenty = Division::within(1 << 30);
    assert_eq!(batches(&plenty), [5]);
    let alone = Program::new(&network.config, &table[..1], &plenty).unwrap().operations.done;
    let most_operations = 2.5 * alone;
    assert_eq!(batches(&Division { most_operations, ..plenty }), [2, 2, 1]);
    assert_eq!(batches(&Division { most_operations: 0.0, ..plenty }), [1; 5]);
    let n_rows: usize = (1..6).sum::<usize>() * (network.config.n_layers - 1);
    assert_eq!(batches(&Division { n_wave_rows: 3 * n_rows, ..plenty }), [3, 2]);
    // Pairs that take long go one by one, unless reading the weights for each would take longer.
    let of_table = |n_stored_bytes: f64, pair_secs: f64| {
        let speed = alone / pair_secs;
        batches(&Division::of_table(&network, n_stored_bytes as u64, speed, 1 << 30))
    };
    assert_eq!(of_table(1e6, 1e-6), [5]);
    assert_eq!(of_table(1e6, 1e4), [1; 5]);
    assert_eq!(of_table(1e14, 1e4), [5]);
}
