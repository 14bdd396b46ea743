//! Mean activations over rows of many runs, which ablations write.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use candle_core::{DType, Result, Tensor};
use shared::specification::vocabulary::Site;
use shared::specification::{MeanOver, Run};

use super::cost::BlockCost;
use super::program::Program;
use super::runs::RunRows;
use crate::model::{BlockRows, Config, Network, Rotary, Shared, index};

/// The means that a program writes.
#[derive(Debug, Default)]
pub struct Means(Vec<OneMean>);

/// Means over the same rows.
#[derive(Debug)]
struct OneMean {
    over: Arc<MeanOver>,
    means: BTreeMap<Node, Tensor>,
}

/// A layer and a site of it.
type Node = (usize, Site);

/// Positions of runs that go through the layers at a time.
const MOST_POSITIONS: usize = 2048;

impl Means {
    /// Computes those of `program`, in passes over the layers of their own.
    ///
    /// # Errors
    /// What candle reports.
    pub fn compute(network: &Network, program: &Program) -> Result<Self> {
        let mut wanted: Vec<(Arc<MeanOver>, Vec<Node>)> = Vec::new();
        for (over, layer, site) in program.means() {
            match wanted.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &over)) {
                Some((_, nodes)) => nodes.push((layer, site)),
                None => wanted.push((over, vec![(layer, site)])),
            }
        }
        let means = wanted.into_iter().map(|(over, nodes)| {
            let means = compute(network, &over, &nodes)?;
            Ok(OneMean { over, means })
        });
        Ok(Self(means.collect::<Result<_>>()?))
    }

    /// The mean of one activation, `[1, width]`.
    ///
    /// # Errors
    /// A mean that was not computed.
    pub fn get(&self, over: &Arc<MeanOver>, layer: usize, site: Site) -> Result<&Tensor> {
        let found = self.0.iter().find(|one| Arc::ptr_eq(&one.over, over));
        let found = found.and_then(|one| one.means.get(&(layer, site)));
        found.ok_or_else(|| candle_core::Error::msg("a mean was not computed"))
    }
}

/// The operations of computing the means that `program` writes.
pub fn operations(config: &Config, program: &Program) -> f64 {
    let mut known: Vec<Arc<MeanOver>> = Vec::new();
    for (over, ..) in program.means() {
        if !known.iter().any(|k| Arc::ptr_eq(k, &over)) {
            known.push(over);
        }
    }
    let rows = known.iter().flat_map(|over| parts(over)).map(|part| rows_of(part, config.n_layers));
    let cost = BlockCost::new(config);
    rows.map(|rows| cost.runs(&rows.spans) * config.n_layers as f64).sum()
}

/// Runs that go through the layers together.
fn parts(over: &MeanOver) -> Vec<&[(Vec<u32>, Range<usize>)]> {
    let (mut parts, mut rest) = (Vec::new(), &over.runs[..]);
    while !rest.is_empty() {
        let mut n_positions = 0;
        let fits = rest.iter().take_while(|(tokens, _)| {
            n_positions += tokens.len();
            n_positions <= MOST_POSITIONS
        });
        let (part, others) = rest.split_at(fits.count().max(1));
        parts.push(part);
        rest = others;
    }
    parts
}

fn rows_of(part: &[(Vec<u32>, Range<usize>)], n_layers: usize) -> RunRows {
    let run = |(tokens, _): &(Vec<u32>, _)| Run { tokens: tokens.clone(), ..Run::default() };
    let runs: Vec<_> = part.iter().map(run).collect();
    RunRows::new(&runs.iter().collect::<Vec<_>>(), n_layers)
}

fn compute(network: &Network, over: &MeanOver, nodes: &[Node]) -> Result<BTreeMap<Node, Tensor>> {
    let longest = over.runs.iter().map(|(tokens, _)| tokens.len()).max().unwrap_or(0);
    let rotary = Rotary::new(&network.config, longest, &network.placement)?;
    let mut sums: BTreeMap<Node, Tensor> = BTreeMap::new();
    let n_rows: usize = over.runs.iter().map(|(_, positions)| positions.len()).sum();
    for part in parts(over) {
        let rows = rows_of(part, network.config.n_layers);
        let counted: Vec<_> = part
            .iter()
            .zip(&rows.rows)
            .flat_map(|((_, positions), rows)| rows[positions.clone()].iter().copied())
            .collect();
        if counted.is_empty() {
            continue;
        }
        let device = network.device();
        let counted = index(counted, device)?;
        let order = rows.order().map(|order| index(order, device)).transpose()?;
        let positions = index(rows.positions.iter().copied(), device)?;
        let mut x = network.embed(&rows.tokens, &rows.positions)?;
        for (layer, block) in network.blocks().enumerate() {
            let block = block?;
            let block_rows = BlockRows {
                spans: &rows.spans,
                on_device: None,
                own_positions: &positions,
                query_positions: &positions,
                query_rows: None,
                appended: None,
            };
            let mut hook = |site: Site, x: Option<Tensor>| {
                if let (Some(x), true) = (&x, nodes.contains(&(layer, site))) {
                    let sum = x.index_select(&counted, 0)?.to_dtype(DType::F32)?.sum_keepdim(0)?;
                    let sum = match sums.remove(&(layer, site)) {
                        Some(before) => (before + sum)?,
                        None => sum,
                    };
                    sums.insert((layer, site), sum);
                }
                Ok(x)
            };
            let shared = Shared::These(order.as_ref());
            let post = block.run(Some(x), None, block_rows, shared, &rotary, &mut hook)?.0;
            x = post.ok_or_else(|| candle_core::Error::msg("runs without rows"))?;
        }
    }
    let dtype = network.placement.dtype;
    let means =
        sums.into_iter().map(|(node, sum)| Ok((node, (sum / n_rows as f64)?.to_dtype(dtype)?)));
    means.collect()
}
