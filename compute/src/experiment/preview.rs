//! What the model says of a pair before anything is patched.

use std::ops::ControlFlow;

use candle_transformers::generation::{LogitsProcessor, Sampling};
use shared::document::{Baselines, Token};
use shared::specification::{Metrics, Specification};
use shared::wire::job::Said;

use super::Experiment;
use crate::model::{Model, Network};
use crate::sweep::{Division, Program, Progress, SweepError, oracle, run};

/// How many tokens a preview lets the model say.
pub const N_SAID: usize = 5;
/// More than any unpatched run takes.
const PLENTY_BYTES: usize = 1 << 40;

impl Experiment {
    /// Both unpatched runs; `None` for a model whose weights are read from disk, which would be
    /// read once more for them alone.
    ///
    /// # Errors
    /// [`SweepError`]; [`SweepError::Cancelled`] if `is_cancelled` turned true, which is asked after
    /// every layer.
    pub fn baselines(
        &self,
        model: &Model,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<Option<Baselines>, SweepError> {
        if model.network.is_streamed() {
            return Ok(None);
        }
        let (runs, program) = self.unpatched(model)?;
        let mut goes_on = |_: Progress| match is_cancelled() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let readings = run(&model.network, &[&runs], &program, &mut goes_on)?;
        Ok(readings.first().and_then(|readings| self.baselines_of(model, &readings.runs)))
    }

    /// The operations of [`Self::baselines`].
    ///
    /// # Errors
    /// As for [`Self::baselines`].
    pub fn baseline_operations(&self, model: &Model) -> Result<f64, SweepError> {
        Ok(self.unpatched(model)?.1.operations.done)
    }

    /// The runs without any trial, and how they are carried out.
    fn unpatched(&self, model: &Model) -> Result<(Specification, Program), SweepError> {
        let Specification { runs, grids, metrics, .. } = self.specification.clone();
        let metrics = Metrics { lens: false, ..metrics };
        let runs = Specification { runs, trials: Vec::new(), grids, metrics };
        let division = Division::within(PLENTY_BYTES).on(&model.network.placement);
        let program = Program::new(&model.network.config, &[&runs], &division)?;
        Ok((runs, program))
    }

    /// What the model itself would say after each prompt, the most probable token each time, without
    /// noise; `None` for a model whose weights are read from disk.
    ///
    /// # Errors
    /// As for [`Self::baselines`].
    pub fn said(
        &self,
        model: &Model,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<Option<Said>, SweepError> {
        if model.network.is_streamed() {
            return Ok(None);
        }
        let said = |prompt: &[u32]| -> Result<Vec<Token>, SweepError> {
            let ids = continued(&model.network, prompt, N_SAID, is_cancelled)?;
            Ok(ids.into_iter().map(|id| model.tokenizer.token(id)).collect())
        };
        Ok(Some(Said { source: said(&self.alignment.source)?, base: said(&self.alignment.base)? }))
    }
}

/// Up to `n` tokens after `prompt`, each the most probable, as far as the context reaches.
fn continued(
    network: &Network,
    prompt: &[u32],
    n: usize,
    is_cancelled: &dyn Fn() -> bool,
) -> Result<Vec<u32>, SweepError> {
    let mut greedy = LogitsProcessor::from_sampling(0, Sampling::ArgMax);
    let mut tokens = prompt.to_vec();
    while tokens.len() < network.config.n_context && tokens.len() < prompt.len() + n {
        if is_cancelled() {
            return Err(SweepError::Cancelled);
        }
        let x = oracle::forward(network, &tokens, |_, _, x| Ok(x))?; // [1, d_model]
        let logits = network.logits(&network.final_norm(&x)?)?; // [1, d_vocab]
        tokens.push(greedy.sample(&logits.squeeze(0)?)?);
    }
    Ok(tokens.split_off(prompt.len()))
}
