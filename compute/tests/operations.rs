//! How much is done on a device for a wave: operations are counted, not seconds.
//!
//! Every operation allocates its outcome. The model's shapes make the outcome of each one on a tile
//! larger than what the host allocates beside it, so that large allocations are operations. What a
//! product allocates to work in has another alignment than numbers.

#![allow(unsafe_code, reason = "an allocator is nothing else")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};

use compute::model::{Config, Family, Kernels, Network, Placement, Rope};
use compute::sweep::{Division, Program, Progress, run};
use shared::specification::Specification;
use shared::specification::settings::{List, Settings};
use shared::specification::vocabulary::{By, Directions, Site};

/// Counts what is allocated in pieces of at least [`LARGE`] bytes, for numbers.
struct Counting;

static N_LARGE: AtomicUsize = AtomicUsize::new(0);
const LARGE: usize = 4 << 10;
/// That of the numbers of tensors, at most.
const ALIGNMENT: usize = 16;

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }
}

fn count(layout: Layout) {
    if layout.size() >= LARGE && layout.align() <= ALIGNMENT {
        N_LARGE.fetch_add(1, Ordering::Relaxed);
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most operations of the rows of a tile, or of the runs, in a layer.
const MOST_OF_ROWS: usize = 60;
/// The most that trials of six kinds cost which enter there.
const MOST_OF_ENTERING: usize = 70;
/// The most of all tiles and the runs in a layer.
const MOST_PER_LAYER: usize = 400;

fn network(family: &'static Family, n_layers: usize) -> Network {
    let config = Config {
        n_layers,
        d_model: 64,
        n_heads: 4,
        n_kv_heads: 2,
        d_head: 16,
        d_mlp: 128,
        d_vocab: 512,
        n_context: 128,
        norm_eps: 1e-5,
        tied_embeddings: true,
        ..Config::LLAMA
    };
    let rope = (!family.spec.learned_positions).then(|| Rope::plain(10_000.0, config.d_head));
    let config = Config { spec: family.spec, ..config }.with_uniform_layers(rope);
    let stock = Placement { kernels: Kernels::Stock, ..Placement::default() };
    support::random_network_on(config, 1, &stock).0
}

/// `n_pairs` pairs of `n_tokens` tokens and a few more, each with other settings than those before.
fn table(config: &Config, n_pairs: usize, n_tokens: usize, all: &[Settings]) -> Vec<Specification> {
    let pair = |i: usize| {
        let n = n_tokens + i % 5;
        let prompt = |own: usize| -> Vec<u32> {
            let token = |at: usize| if at < 8 { at } else { (at * 37 + own * 101) % 512 };
            (0..n).map(|at| token(at) as u32).collect()
        };
        let (source, base) = (prompt(2 * i + 1), prompt(2 * i + 2));
        support::grids(config, &all[i % all.len()], [&source, &base], 8)
    };
    (0..n_pairs).map(pair).collect()
}

/// What the runs or a tile take in a layer.
#[derive(Debug, PartialEq)]
struct Counts {
    n: usize,
    /// Whether trials enter there.
    enters: bool,
}

/// What each layer takes, the runs first and then each tile. All of `table` goes in one wave. The
/// first layer's runs are left out, since preparing the wave counts there.
fn counts(network: &Network, table: &[Specification], n_tile_rows: usize) -> Vec<Vec<Counts>> {
    let table: Vec<_> = table.iter().collect();
    let division = Division { n_tile_rows, n_at_once: 1, ..Division::within(4 << 30) };
    let program = Program::new(&network.config, &table, &division).unwrap();
    assert_eq!((program.batches.len(), program.n_passes()), (1, 1));
    let tiles = &program.batches[0].waves[0].tiles;
    let (mut last, mut steps) = (0, Vec::new());
    run(network, &table, &program, &mut |progress| {
        if let Progress::Share(_) = progress {
            let now = N_LARGE.load(Ordering::Relaxed);
            steps.push(now - last);
            last = now;
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    // The first step is before the layers, and the last ones are the readout. The runs are a layer ahead.
    let mut steps = steps.into_iter().skip(1);
    let n_layers = network.config.n_layers;
    let mut of_runs = steps.next().map(|_| None);
    let layers = (0..n_layers).map(|layer| {
        let runs = of_runs.take().flatten();
        of_runs = (layer + 1 < n_layers).then(|| steps.next().map(|n| Counts { n, enters: false }));
        let tiles = steps.by_ref().take(tiles.len()).zip(tiles);
        let tiles =
            tiles.map(|(n, tile)| Counts { n, enters: tile.layers[layer].entering.is_some() });
        runs.into_iter().chain(tiles).collect()
    });
    layers.collect()
}

fn settings() -> Vec<Settings> {
    let with = |sites: &[Site]| Settings {
        sites: List::new(sites.to_vec()).unwrap(),
        ..Settings::default()
    };
    vec![
        Settings::default(),
        with(&[Site::AttnOut, Site::MlpOut]),
        Settings { window: 3, ..with(&[Site::MlpOut]) },
        Settings { direction: Directions::Both, ..Settings::default() },
        with(&[Site::Z]),
        Settings { by: By::Position, ..with(&[Site::Key]) },
    ]
}

/// One test, since the allocator counts what all threads do.
#[test]
fn a_wave_is_few_operations_whatever_is_in_it() {
    for name in ["llama", "gpt2", "gemma2", "qwen3"] {
        let network = network(Family::named(name).unwrap(), 4);
        // A single tile of 20 mixed pairs, and many tiles.
        for n_tile_rows in [usize::MAX, 1500] {
            let table = table(&network.config, 20, 16, &settings());
            let counts = counts(&network, &table, n_tile_rows);
            eprintln!("{name}: {counts:?}");
            for layer in &counts {
                let most = |n: &Counts| MOST_OF_ROWS + if n.enters { MOST_OF_ENTERING } else { 0 };
                assert!(layer.iter().all(|n| n.n <= most(n)), "{name}: {layer:?}");
                assert!(layer.iter().map(|n| n.n).sum::<usize>() <= MOST_PER_LAYER, "{layer:?}");
            }
        }
    }
    // More pairs, positions and cells are the same operations on larger matrices.
    let network = network(Family::named("llama").unwrap(), 4);
    let one = [Settings::default()];
    let of = |n_pairs, n_tokens| {
        counts(&network, &table(&network.config, n_pairs, n_tokens, &one), usize::MAX)
    };
    let few = of(8, 20);
    assert_eq!(few, of(16, 20));
    assert_eq!(few, of(8, 28));
}
