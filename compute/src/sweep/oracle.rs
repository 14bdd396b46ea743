//! The oracle: one full forward pass a trial, as the notebook does it, and nothing shared.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use candle_core::{Result, Tensor};
use shared::specification::vocabulary::Site;
use shared::specification::{Edit, MeanOver, Run, Specification, Trial, Write};

use super::readout::{self, ReadRow, Reading, RowReading};
use super::runs::{n_read, sequence};
use crate::model::{Block, BlockRows, Network, Rotary, Shared, Span, index, standard_normal};

/// Runs `tokens` through the whole network. `hook` sees every activation `[tokens, width]` and
/// returns it, changed or not. Returns the final residual stream of the last position,
/// `[1, d_model]`.
///
/// # Errors
/// What candle reports.
pub fn forward(
    network: &Network,
    tokens: &[u32],
    mut hook: impl FnMut(usize, Site, Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let mut hooks = [&mut hook as &mut LayerHook];
    let x = forward_together(network, &[tokens.to_vec()], &mut hooks)?.remove(0);
    x.narrow(0, tokens.len() - 1, 1)
}

/// A hook that knows the layer.
type LayerHook<'a> = dyn FnMut(usize, Site, Tensor) -> Result<Tensor> + 'a;

/// The same for several sequences in one pass over the layers, each computed alone.
fn forward_together(
    network: &Network,
    sequences: &[Vec<u32>],
    hooks: &mut [&mut LayerHook],
) -> Result<Vec<Tensor>> {
    let longest = sequences.iter().map(Vec::len).max().unwrap_or(0);
    let rotary = Rotary::new(&network.config, longest, &network.placement)?;
    let positions: Vec<_> = (0..longest).collect();
    let embed = |tokens: &Vec<u32>| network.embed(tokens, &positions[..tokens.len()]);
    let mut states = sequences.iter().map(embed).collect::<Result<Vec<_>>>()?;
    for (layer, block) in network.blocks().enumerate() {
        let block = block?;
        for (x, hook) in states.iter_mut().zip(hooks.iter_mut()) {
            *x = through(network, &block, layer, &rotary, x, *hook)?;
        }
    }
    Ok(states)
}

/// Takes the residual stream `x` `[tokens, d_model]` of one run through a block.
fn through(
    network: &Network,
    block: &Block,
    layer: usize,
    rotary: &Rotary,
    x: &Tensor,
    hook: &mut LayerHook,
) -> Result<Tensor> {
    let n = x.dim(0)?;
    let spans = [Span { offset: 0, n_shared: n, n_own: 0, n_queries: n }];
    let at = index(0..n, network.device())?;
    let rows = BlockRows {
        spans: &spans,
        on_device: None,
        own_positions: &at,
        query_positions: &at,
        query_rows: None,
        appended: None,
    };
    let mut hook = |site: Site, x: Option<Tensor>| {
        let x = x.ok_or_else(|| candle_core::Error::msg("a run without rows"))?;
        match network.config.has_site(site) {
            true => hook(layer, site, x).map(Some),
            false => Ok(Some(x)),
        }
    };
    let (post, _) =
        block.run(Some(x.clone()), None, rows, Shared::These(None), rotary, &mut hook)?;
    post.ok_or_else(|| candle_core::Error::msg("a run without rows"))
}

/// Activations of runs, by run, layer and site, `[tokens, width]`.
type Activations = HashMap<(usize, usize, Site), Tensor>;

/// Means by layer and site, `[1, width]`.
type MeanByNode = HashMap<(usize, Site), Tensor>;

/// Runs experiments naively.
pub struct Oracle<'a> {
    network: &'a Network,
    specification: &'a Specification,
    rotary: Rotary,
    /// What trials copy of which run.
    wanted: BTreeSet<(usize, Site)>,
    activations: Activations,
    means: Vec<(Arc<MeanOver>, MeanByNode)>,
    embedding_std: f64,
    /// The residual stream of every run, `[tokens, d_model]`.
    run_states: Vec<Tensor>,
    /// Trials that advance with the runs, with their residual streams.
    advancing: Vec<(Trial, Tensor)>,
    /// The final residual streams at the first position that is read of each run,
    /// `[runs, d_model]`.
    references: Option<Tensor>,
    runs: Vec<Reading>,
}

impl<'a> Oracle<'a> {
    /// Runs all runs of `specification` in a pass of their own, and keeps what `trials` copy of
    /// them.
    ///
    /// # Errors
    /// What candle reports.
    pub fn new(
        network: &'a Network,
        specification: &'a Specification,
        trials: &[&Trial],
    ) -> Result<Self> {
        let mut oracle = Self::begin(network, specification, trials)?;
        oracle.advancing.clear();
        for (layer, block) in network.blocks().enumerate() {
            oracle.step(layer, &*block?)?;
        }
        oracle.read_runs()?;
        Ok(oracle)
    }

    /// All runs and `trials` before the first block: [`Self::step`] takes them through each, so that
    /// they can share the reading of weights with others.
    ///
    /// # Errors
    /// What candle reports.
    pub fn begin(
        network: &'a Network,
        specification: &'a Specification,
        trials: &[&Trial],
    ) -> Result<Self> {
        let edits = trials.iter().flat_map(|trial| &trial.edits);
        let (mut wanted, mut over) = (BTreeSet::new(), Vec::<Arc<MeanOver>>::new());
        for edit in edits {
            match &edit.write {
                Write::From { run, .. } => {
                    wanted.insert((*run, edit.site));
                }
                Write::Mean(mean) if !over.iter().any(|m| Arc::ptr_eq(m, mean)) => {
                    over.push(mean.clone());
                }
                _ => {}
            }
        }
        let is_noisy =
            |edits: &[Edit]| edits.iter().any(|e| matches!(e.write, Write::Noise { .. }));
        let any_noise = specification.runs.iter().any(|run| is_noisy(&run.edits))
            || trials.iter().any(|trial| is_noisy(&trial.edits));
        let sequences: Vec<_> = specification.runs.iter().map(sequence).collect();
        let longest = sequences.iter().map(Vec::len).max().unwrap_or(0);
        let positions: Vec<_> = (0..longest).collect();
        let embed = |tokens: &Vec<u32>| network.embed(tokens, &positions[..tokens.len()]);
        let run_states = sequences.iter().map(embed).collect::<Result<Vec<_>>>()?;
        let advancing =
            trials.iter().map(|trial| ((*trial).clone(), run_states[trial.base].clone()));
        let mut oracle = Self {
            network,
            specification,
            rotary: Rotary::new(&network.config, longest, &network.placement)?,
            wanted,
            activations: HashMap::new(),
            means: Vec::new(),
            embedding_std: if any_noise { network.embedding_std()? } else { 0.0 },
            advancing: advancing.collect(),
            run_states,
            references: None,
            runs: Vec::new(),
        };
        for mean in over {
            let sites: Vec<_> = trials
                .iter()
                .flat_map(|trial| &trial.edits)
                .filter(|e| matches!(&e.write, Write::Mean(m) if Arc::ptr_eq(m, &mean)))
                .map(|e| e.site)
                .collect();
            let means = mean_over(network, &mean, &sites)?;
            oracle.means.push((mean, means));
        }
        Ok(oracle)
    }

    /// Takes all runs and then the trials that advance with them through a block.
    ///
    /// # Errors
    /// What candle reports.
    pub fn step(&mut self, layer: usize, block: &Block) -> Result<()> {
        let mut states = std::mem::take(&mut self.run_states);
        let mut kept = Vec::new();
        for (i, (run, x)) in self.specification.runs.iter().zip(&mut states).enumerate() {
            let mut hook = |layer: usize, site: Site, x: Tensor| {
                let x = self.edited(&run.edits, layer, site, x)?;
                if self.wanted.contains(&(i, site)) {
                    kept.push(((i, layer, site), x.clone()));
                }
                Ok(x)
            };
            *x = through(self.network, block, layer, &self.rotary, x, &mut hook)?;
        }
        self.run_states = states;
        self.activations.extend(kept);
        let mut advancing = std::mem::take(&mut self.advancing);
        for (trial, x) in &mut advancing {
            let run = &self.specification.runs[trial.base];
            let mut hook = |layer: usize, site: Site, x: Tensor| {
                let x = self.edited(&run.edits, layer, site, x)?;
                self.edited(&trial.edits, layer, site, x)
            };
            *x = through(self.network, block, layer, &self.rotary, x, &mut hook)?;
        }
        if !advancing.is_empty() {
            // Nobody comes back to this layer.
            self.activations.clear();
        }
        self.advancing = advancing;
        Ok(())
    }

    /// Reads the runs and the trials that have come through all blocks.
    ///
    /// # Errors
    /// What candle reports.
    pub fn finish(mut self) -> Result<(Vec<Reading>, Vec<Reading>)> {
        self.read_runs()?;
        let advancing = std::mem::take(&mut self.advancing);
        let trials = advancing.iter().map(|(trial, x)| {
            let run = &self.specification.runs[trial.base];
            self.read(&ends_of(x, run)?, run, trial.base)
        });
        let trials = trials.collect::<Result<_>>()?;
        Ok((self.runs, trials))
    }

    fn read_runs(&mut self) -> Result<()> {
        let ends = self.run_states.iter().zip(&self.specification.runs);
        let ends = ends.map(|(x, run)| ends_of(x, run)).collect::<Result<Vec<_>>>()?;
        let firsts = ends.iter().map(|x| x.narrow(0, 0, 1)).collect::<Result<Vec<_>>>()?;
        self.references = Some(Tensor::cat(&firsts, 0)?);
        let runs = ends.iter().zip(&self.specification.runs);
        self.runs =
            runs.map(|(x, run)| self.read(x, run, Specification::BASE)).collect::<Result<_>>()?;
        Ok(())
    }

    /// The readings of all runs.
    pub fn runs(&self) -> &[Reading] {
        &self.runs
    }

    /// Runs trials, each alone but all in one pass over the layers.
    ///
    /// # Errors
    /// What candle reports.
    pub fn trials(&self, trials: &[&Trial]) -> Result<Vec<Reading>> {
        let base = |trial: &Trial| &self.specification.runs[trial.base];
        let sequences: Vec<_> = trials.iter().map(|trial| sequence(base(trial))).collect();
        let mut hooks: Vec<_> = trials
            .iter()
            .map(|trial| {
                move |layer: usize, site: Site, x: Tensor| {
                    let x = self.edited(&base(trial).edits, layer, site, x)?;
                    self.edited(&trial.edits, layer, site, x)
                }
            })
            .collect();
        let mut hooks: Vec<_> = hooks.iter_mut().map(|hook| hook as &mut LayerHook).collect();
        let ends = forward_together(self.network, &sequences, &mut hooks)?;
        let read = trials.iter().zip(ends).map(|(trial, x)| {
            let run = base(trial);
            self.read(&ends_of(&x, run)?, run, trial.base)
        });
        read.collect()
    }

    fn read(&self, x: &Tensor, run: &Run, base: usize) -> Result<Reading> {
        let compared = [Some(base), self.specification.counterpart(base)];
        let rows: Vec<_> = ReadRow::of_run(self.specification, run, true, compared).collect();
        let read = readout::read(self.network, x, &rows, self.references.as_ref(), rows.len())?;
        Ok(RowReading::of_run(&read, self.specification, run))
    }

    /// An activation `[tokens, width]` with all edits of it.
    fn edited(&self, edits: &[Edit], layer: usize, site: Site, mut x: Tensor) -> Result<Tensor> {
        for edit in edits.iter().filter(|e| e.site == site && e.layers.contains(&layer)) {
            let d_head = self.network.config.d_head;
            let columns = match edit.head {
                Some(head) => head * d_head..(head + 1) * d_head,
                None => 0..x.dim(1)?,
            };
            // A set: naming a position twice changes nothing.
            for position in edit.positions.iter().copied().collect::<BTreeSet<_>>() {
                let part = |x: &Tensor, row: usize| {
                    x.narrow(0, row, 1)?.narrow(1, columns.start, columns.len())
                };
                let there = part(&x, position)?;
                let value = match &edit.write {
                    Write::From { run, shift } => {
                        let from = position.checked_add_signed(*shift).unwrap_or(usize::MAX);
                        match self.activations.get(&(*run, layer, site)) {
                            Some(activation) => part(activation, from)?,
                            None => candle_core::bail!("an activation was not kept"),
                        }
                    }
                    Write::Zero => there.zeros_like()?,
                    Write::Mean(over) => {
                        let found = self.means.iter().find(|(known, _)| Arc::ptr_eq(known, over));
                        match found.and_then(|(_, means)| means.get(&(layer, site))) {
                            Some(mean) => part(mean, 0)?,
                            None => candle_core::bail!("a mean was not computed"),
                        }
                    }
                    Write::Noise { seed, scale } => {
                        let width = columns.len();
                        let noise = standard_normal(&[(*seed, position)], width, x.device())?;
                        let std = self.embedding_std * f64::from(*scale);
                        (&there + (noise * std)?.to_dtype(x.dtype())?)?
                    }
                };
                x = x.slice_assign(
                    &[position..position + 1, columns.clone()],
                    &value.contiguous()?,
                )?;
            }
        }
        Ok(x)
    }
}

/// The rows of a residual stream `x` `[tokens, d_model]` that are read.
fn ends_of(x: &Tensor, run: &Run) -> Result<Tensor> {
    x.narrow(0, x.dim(0)? - n_read(run), n_read(run))
}

/// The mean over all rows of the activations at `sites`, by layer.
fn mean_over(network: &Network, over: &MeanOver, sites: &[Site]) -> Result<MeanByNode> {
    let mut rows: HashMap<(usize, Site), Vec<Tensor>> = HashMap::new();
    for (tokens, positions) in &over.runs {
        forward(network, tokens, |layer, site, x| {
            if sites.contains(&site) && !positions.is_empty() {
                let part = x.narrow(0, positions.start, positions.len())?;
                rows.entry((layer, site)).or_default().push(part);
            }
            Ok(x)
        })?;
    }
    let means =
        rows.into_iter().map(|(key, rows)| Ok((key, Tensor::cat(&rows, 0)?.mean_keepdim(0)?)));
    means.collect()
}
