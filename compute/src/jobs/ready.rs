//! Pairs that are made ready to be swept, alone or several together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use shared::specification::MeanOver;
use shared::specification::settings::Checked;
use shared::specification::vocabulary::Written;

use super::partial::made_for;
use super::worker::{Failure, caught, reason};
use super::{Engine, Offered, Queue, now};
use crate::experiment::{self, Experiment};
use crate::model::Description;
use crate::store::{Claim, Outcome};

/// The most pairs that share the passes over a model that is read from disk, or a request.
const MAX_TOGETHER: usize = 32;
/// A pair during which the process has ended as often is run alone.
const MAX_BEGUN_TOGETHER: usize = 2;
/// A pair during which the process has ended so often is not begun again.
const MAX_BEGUN: usize = 10;

/// A claimed pair that can be swept.
pub struct Ready<'a> {
    /// The pair.
    pub claim: Claim,
    /// Its model.
    pub offered: &'a Offered,
    /// What is swept.
    pub experiment: Experiment,
}

impl Ready<'_> {
    /// Whether others may go with it: on a server, unless it failed in company; here where each pass
    /// reads the weights anew, unless it failed so, the server ended again and again while it ran,
    /// maybe for want of memory, or some of it is finished.
    pub fn can_share(&self, queue: &Queue) -> bool {
        let of_job = (self.claim.job.clone(), self.claim.index);
        let has_failed = || queue.state().alone.contains(&of_job);
        let kept = || queue.store.kept(&self.claim, &made_for(&self.claim));
        match &self.offered.engine {
            Engine::Here(copies) => {
                copies[0].network.is_streamed()
                    && self.claim.n_begun <= MAX_BEGUN_TOGETHER
                    && !has_failed()
                    && kept().is_ok_and(|kept| kept.is_empty())
            }
            Engine::Ndif(_) => !has_failed(),
        }
    }
}

impl Queue {
    /// Makes a claimed pair ready to be swept; `None` if it is over already: its result is there,
    /// it cannot be run, or it was cancelled. `mean` is that of the job, once it is known.
    pub(super) fn ready(
        &self,
        claim: Claim,
        mean: &mut Option<Option<Arc<MeanOver>>>,
        cancelled: &AtomicBool,
    ) -> Option<Ready<'_>> {
        match self.persist(cancelled, || self.store.finish_if_known(&claim, &now())) {
            Some(false) => {}
            Some(true) => {
                self.counters.n_reused.fetch_add(1, Ordering::Relaxed);
                self.is_over(&claim);
                return None;
            }
            None => return None,
        }
        match caught(|| self.prepared(&claim, mean)) {
            Ok((offered, experiment)) => Some(Ready { claim, offered, experiment }),
            Err(failure) => {
                self.finish(&claim, Err(failure), cancelled);
                None
            }
        }
    }

    /// Takes more pairs of the same job out of the queue, as many as share a batch.
    pub(super) fn add_pairs<'a>(
        &'a self,
        worker: usize,
        table: &mut Vec<Ready<'a>>,
        mean: &mut Option<Option<Arc<MeanOver>>>,
        cancelled: &AtomicBool,
    ) {
        let Claim { seq, job, .. } = table[0].claim.clone();
        let mut rest = Vec::new();
        while table.len() + rest.len() < MAX_TOGETHER && !self.is_stopping() {
            let claim = match self.store.claim(seq, &now()) {
                Ok(Some(claim)) => claim,
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(job, %error, "a pair could not be claimed");
                    break;
                }
            };
            let Some(ready) = self.ready(claim, mean, cancelled) else {
                self.state().turns.take(&job);
                continue;
            };
            // The same pair once more will find its result.
            let is_there = |other: &Ready| other.claim.experiment == ready.claim.experiment;
            if ready.can_share(self) && !table.iter().any(is_there) {
                table.push(ready);
            } else {
                rest.push(ready);
            }
        }
        // What does not fit into the first batch has its turn later.
        let n_together = match &table[0].offered.engine {
            Engine::Here(copies) => self.n_together(&copies[worker], table),
            Engine::Ndif(remote) => Self::n_in_a_request(remote, table),
        };
        rest.extend(table.split_off(n_together.clamp(1, table.len())));
        for ready in rest {
            let put_back = || self.store.finish(&ready.claim, &Outcome::Interrupted, &now());
            self.persist(cancelled, put_back);
        }
        table[1..].iter().for_each(|_| self.state().turns.take(&job));
    }

    /// The mean over the table of a job, where it is asked for.
    fn mean(
        &self,
        claim: &Claim,
        model: &Description,
        settings: &Checked,
    ) -> Result<Option<Arc<MeanOver>>, Failure> {
        if settings.settings.write != Written::Mean {
            return Ok(None);
        }
        let pairs = self.store.pairs(&claim.job).map_err(|e| reason(&e))?;
        experiment::mean_over(model, &pairs, settings).map_err(|(_, error)| reason(&error))
    }

    fn prepared(
        &self,
        claim: &Claim,
        mean: &mut Option<Option<Arc<MeanOver>>>,
    ) -> Result<(&Offered, Experiment), Failure> {
        if claim.n_begun > MAX_BEGUN {
            return Err(Failure::Reason(format!(
                "the server ended {MAX_BEGUN} times while it ran this pair: it may need more \
                 memory than there is"
            )));
        }
        let offered = self.offered(Some(&claim.model)).ok_or_else(|| {
            Failure::Reason(format!("the model `{}` is not offered any more", claim.model))
        })?;
        let model = offered.model().map_err(|e| reason(&e))?;
        let settings = claim.settings.clone().check().map_err(|e| reason(&e))?;
        // One for all pairs of a batch, which takes it from the rows of the whole job.
        let mean = match mean {
            Some(mean) => mean,
            None => mean.insert(self.mean(claim, model, &settings)?),
        };
        let experiment = Experiment::prepare(model, &claim.pair, &settings, mean.as_ref())
            .map_err(|e| reason(&e))?;
        if experiment.id(model).map_err(|e| reason(&e))? != claim.experiment {
            return Err(Failure::Reason(format!(
                "the model `{}`, or how it is computed, is another one than when this was \
                 submitted: submit it again",
                claim.model
            )));
        }
        Ok((offered, experiment))
    }
}
