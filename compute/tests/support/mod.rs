//! Random models for tests.

use std::collections::HashMap;
use std::ops::ControlFlow;

use candle_core::{DType, Device, Tensor};
use compute::model::{Config, ModelError, Network, Placement, Rope, Weight, Weights};
use compute::sweep::{Division, Program, Readings, SweepError, run};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use shared::specification::alignment::{Alignment, Side};
use shared::specification::correspondence::Correspondence;
use shared::specification::settings::Settings;
use shared::specification::{AnswerIds, Specification, Subject};

/// A llama of these dimensions, with the plain rotary embedding.
#[allow(dead_code, reason = "not every test needs one")]
pub fn llama(config: Config) -> Config {
    let rope = Rope::plain(10_000.0, config.d_head);
    config.with_uniform_layers(Some(rope))
}

/// The grids that `settings` ask for of two prompts whose sentences begin at `start`.
#[allow(dead_code, reason = "not every test needs one")]
pub fn grids(
    config: &Config,
    settings: &Settings,
    [source, base]: [&[u32]; 2],
    start: usize,
) -> Specification {
    fn side(ids: &[u32], start: usize) -> Side<'_> {
        Side { ids, start: start.min(ids.len() - 1), roles: &[] }
    }
    let subject = Subject {
        alignment: Alignment::new(
            side(source, start),
            side(base, start),
            settings.align,
            0,
            &Correspondence::default(),
        ),
        spans: Vec::new(),
        noised: Vec::new(),
        answers: AnswerIds::Single { true_ids: vec![1, 2], false_ids: vec![3] },
        mean: None,
        dimensions: config.dimensions(),
    };
    Specification::new(settings, &subject)
}

/// Carries out one experiment within plenty of memory.
///
/// # Errors
/// As for [`run`].
#[allow(dead_code, reason = "not every test needs one")]
pub fn sweep(network: &Network, specification: &Specification) -> Result<Readings, SweepError> {
    let program = Program::new(&network.config, &[specification], &Division::within(1 << 30))?;
    let readings = run(network, &[specification], &program, &mut |_| ControlFlow::Continue(()));
    Ok(readings?.remove(0))
}

/// A model of `config` with random weights, large enough that every cell has its own value.
#[allow(dead_code, reason = "not every test needs one")]
pub fn random_network(config: Config, seed: u64) -> (Network, HashMap<Weight, Tensor>) {
    random_network_on(config, seed, &Placement::default())
}

/// The same model elsewhere.
pub fn random_network_on(
    config: Config,
    seed: u64,
    to: &Placement,
) -> (Network, HashMap<Weight, Tensor>) {
    let mut weights = Random { random: StdRng::seed_from_u64(seed), drawn: HashMap::new() };
    (Network::resident(config, &mut weights, to).unwrap(), weights.drawn)
}

/// Draws whatever weight it is asked for, and keeps it.
struct Random {
    random: StdRng,
    drawn: HashMap<Weight, Tensor>,
}

impl Weights for Random {
    fn load(&mut self, weight: Weight, dims: &[usize], dtype: DType) -> Result<Tensor, ModelError> {
        let is_norm = weight.module.is_norm() && !weight.is_bias;
        let spread = match dims {
            [_] => 0.3,
            _ => 1.5 / (dims[dims.len() - 1] as f32).sqrt(),
        };
        let centre = if is_norm { 1.0 } else { 0.0 };
        let n = dims.iter().product();
        let draw = |_| centre + spread * self.random.random_range(-1.0..1.0f32);
        let numbers: Vec<f32> = (0..n).map(draw).collect();
        let tensor = Tensor::from_vec(numbers, dims, &Device::Cpu).unwrap();
        self.drawn.insert(weight, tensor.clone());
        Ok(tensor.to_dtype(dtype).unwrap())
    }
}
