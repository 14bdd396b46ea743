//! What final residual streams say: the metric `log P(TRUE) - log P(FALSE)`, and the whole
//! vocabulary's probabilities, top tokens, ranks, and divergences from the unpatched runs.

mod device;
mod host;
#[cfg(test)]
mod tests;

use candle_core::{DType, Device, Result, Tensor};
use shared::specification::{Metrics, Run, Specification};

pub use self::host::n_logits_at_once;
use super::runs::n_read;
use crate::model::{Kernels, Network, dot, index, vectorised};

/// What one run or trial says after its prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// `logsumexp(TRUE logits) - logsumexp(FALSE logits)`, in nats; the normaliser cancels. Of a run
    /// with a continuation the continuation's log-probability, negative if it is the false answer:
    /// the two together are the difference.
    pub logit_diff: f32,
    /// Where the whole vocabulary was read.
    pub vocabulary: Option<VocabularyReading>,
}

/// What the whole vocabulary says.
#[derive(Debug, Clone, PartialEq)]
pub struct VocabularyReading {
    /// The probability of all variants of the true answer; 0 where only the false one was read.
    pub p_true: f32,
    /// The same of the false answer.
    pub p_false: f32,
    /// How many tokens are more probable than the most probable variant of the true answer, plus 1.
    pub rank_true: Option<f32>,
    /// The same of the false answer.
    pub rank_false: Option<f32>,
    /// KL(base || this), in nats; the base is the unpatched run that was patched.
    pub kl_base: Option<f32>,
    /// KL(source || this), in nats; the source is the unpatched run that supplies.
    pub kl_source: Option<f32>,
    /// The most probable tokens with their probabilities, the first first; not empty.
    pub top: Vec<(u32, f32)>,
}

/// One row that is read.
#[derive(Debug, Clone, Copy)]
pub struct ReadRow<'a> {
    /// Which answers count.
    pub metrics: &'a Metrics,
    /// Whether the whole vocabulary is read.
    pub whole: bool,
    /// The token whose logit is asked for.
    pub token: Option<u32>,
    /// The runs to which it is compared, indices into the references: base and source.
    pub references: [Option<usize>; 2],
}

/// What is found in a row.
#[derive(Debug, Clone, Default)]
pub struct RowReading {
    /// `logsumexp` of each answer's logits; minus infinity for an answer without tokens.
    pub log_sums: [f32; 2],
    /// The largest logit of each answer.
    pub largest: [f32; 2],
    /// The logit of the token that was asked for.
    pub token: f32,
    /// The whole vocabulary, if it was read.
    pub whole: Option<Whole>,
}

/// What is kept of a row's logits.
#[derive(Debug, Clone)]
pub struct Whole {
    /// `logsumexp` of all.
    pub log_sum: f32,
    /// The largest, with their tokens.
    pub top: Vec<(u32, f32)>,
    /// For each answer, how many tokens that are none of its variants have a larger logit.
    pub n_above: [u32; 2],
    /// KL from each reference.
    pub divergence: [Option<f32>; 2],
}

impl<'a> ReadRow<'a> {
    /// The rows that are read of `run` or of a trial with that base.
    pub fn of_run(
        specification: &'a Specification,
        run: &'a Run,
        whole: bool,
        references: [Option<usize>; 2],
    ) -> impl Iterator<Item = Self> {
        let metrics = &specification.metrics;
        let tokens = run.continuation.as_ref().map(|continuation| &continuation.ids);
        (0..n_read(run)).map(move |i| {
            let token = tokens.and_then(|tokens| tokens.get(i).copied());
            // A probability needs the normaliser.
            let whole = whole || token.is_some();
            // Only the prompt's last position is compared.
            let references = if i == 0 { references } else { [None; 2] };
            Self { metrics, whole, token, references }
        })
    }
}

impl RowReading {
    /// The reading of `run`, or of a trial with that base, of its rows.
    pub fn of_run(rows: &[Self], specification: &Specification, run: &Run) -> Reading {
        match &run.continuation {
            Some(continuation) => Self::of_continuation(rows, continuation.is_true),
            None => rows[0].of_answers(&specification.metrics),
        }
    }

    /// The reading of a row that no continuation follows.
    pub fn of_answers(&self, metrics: &Metrics) -> Reading {
        let [log_true, log_false] = self.log_sums;
        let rank = |answer: usize, ids: &[u32]| {
            let whole = self.whole.as_ref()?;
            (!ids.is_empty()).then(|| whole.n_above[answer] as f32 + 1.0)
        };
        let vocabulary = self.whole.as_ref().map(|whole| VocabularyReading {
            p_true: (log_true - whole.log_sum).exp(),
            p_false: (log_false - whole.log_sum).exp(),
            rank_true: rank(0, &metrics.true_ids),
            rank_false: rank(1, &metrics.false_ids),
            ..whole.vocabulary()
        });
        Reading { logit_diff: log_true - log_false, vocabulary }
    }

    fn of_continuation(rows: &[Self], is_true: bool) -> Reading {
        let log_p = |row: &Self| row.whole.as_ref().map_or(f32::NAN, |w| row.token - w.log_sum);
        let log_p: f32 = rows.iter().map(log_p).sum();
        let vocabulary = rows.first().and_then(|row| row.whole.as_ref()).map(|whole| {
            let p = log_p.exp();
            let (p_true, p_false) = if is_true { (p, 0.0) } else { (0.0, p) };
            VocabularyReading { p_true, p_false, ..whole.vocabulary() }
        });
        Reading { logit_diff: if is_true { log_p } else { -log_p }, vocabulary }
    }
}

impl Whole {
    /// All but the answers.
    fn vocabulary(&self) -> VocabularyReading {
        let p = |&(token, logit): &(u32, f32)| (token, (logit - self.log_sum).exp());
        // Where no logit is a number, no token is the first.
        let nothing = if self.top.is_empty() { Some((0, f32::NAN)) } else { None };
        VocabularyReading {
            p_true: 0.0,
            p_false: 0.0,
            rank_true: None,
            rank_false: None,
            kl_base: self.divergence[0],
            kl_source: self.divergence[1],
            top: self.top.iter().map(p).chain(nothing).collect(),
        }
    }
}

/// Reads final residual streams `x` `[rows, d_model]`, one for each of `rows`, and compares them to
/// those of `references` `[references, d_model]`. The vocabulary is visited once, for at most
/// `n_chunk` rows at a time.
///
/// # Errors
/// What candle reports.
pub fn read(
    network: &Network,
    x: &Tensor,
    rows: &[ReadRow],
    references: Option<&Tensor>,
    n_chunk: usize,
) -> Result<Vec<RowReading>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let x = network.final_norm(x)?;
    let references = references.map(|x| network.final_norm(x)).transpose()?;
    let mut readings = answers(network, &x, rows, n_chunk)?;
    let whole: Vec<_> = (0..rows.len()).filter(|&row| rows[row].whole).collect();
    if whole.is_empty() {
        return Ok(readings);
    }
    let x = match whole.len() == rows.len() {
        true => x,
        false => x.index_select(&index(whole.iter().copied(), network.device())?, 0)?,
    };
    let mut sums: Vec<_> = whole.iter().map(|&row| Sums::new(rows[row], &readings[row])).collect();
    let n_references = references.as_ref().map_or(0, |x| x.dims()[0]);
    let mut reference_sums = vec![ReferenceSums::default(); n_references];
    for piece in network.vocabulary() {
        let unembedding = network.unembedding(piece.clone())?;
        let weights = match &references {
            Some(x) => Some(reference_sums_of(&unembedding.logits(x)?, &mut reference_sums)?),
            None => None,
        };
        let weights = match (weights, network.placement.kernels) {
            (Some(weights), Kernels::Cuda | Kernels::Stock) => Some(weights.on(x.device())?),
            (weights, _) => weights,
        };
        for begin in (0..whole.len()).step_by(n_chunk) {
            let n = n_chunk.min(whole.len() - begin);
            let (x, sums) = (x.narrow(0, begin, n)?, &mut sums[begin..begin + n]);
            if let Some(weights) = &weights {
                sums.iter_mut().for_each(|sums| sums.rescale(&weights.rescale));
            }
            match network.placement.kernels {
                Kernels::Own => host::read(&unembedding, &piece, &x, sums, weights.as_ref())?,
                _ => {
                    let logits = unembedding.logits(&x)?;
                    let read = device::read(&logits, &piece, sums, weights.as_ref())?;
                    sums.iter_mut().zip(read).for_each(|(sums, read)| sums.add(read));
                }
            }
        }
    }
    for (sums, &row) in sums.into_iter().zip(&whole) {
        readings[row].whole = Some(sums.whole(&reference_sums));
    }
    Ok(readings)
}

/// The logits of answers and of tokens that are asked for.
fn answers(
    network: &Network,
    x: &Tensor,
    rows: &[ReadRow],
    n_chunk: usize,
) -> Result<Vec<RowReading>> {
    let ids_of = |row: &ReadRow| {
        row.metrics
            .true_ids
            .iter()
            .chain(&row.metrics.false_ids)
            .copied()
            .chain(row.token)
            .collect::<Vec<_>>()
    };
    let mut ids: Vec<u32> = Vec::new();
    let mut last: Option<&Metrics> = None;
    for row in rows {
        // Rows of one pair follow one another, and share their answers.
        if row.token.is_none() && last.is_some_and(|last| std::ptr::eq(last, row.metrics)) {
            continue;
        }
        ids.extend(ids_of(row));
        last = Some(row.metrics);
    }
    ids.sort_unstable();
    ids.dedup();
    let mut readings = Vec::with_capacity(rows.len());
    if ids.is_empty() {
        readings.resize_with(rows.len(), RowReading::default);
        return Ok(readings);
    }
    let n_chunk = n_chunk.max(1024);
    for (i, part) in rows.chunks(n_chunk).enumerate() {
        let logits = network.logits_of(&x.narrow(0, i * n_chunk, part.len())?, &ids)?;
        for (row, logits) in part.iter().zip(logits.to_vec2::<f32>()?) {
            let logit = |id: &u32| ids.binary_search(id).map_or(f32::NAN, |at| logits[at]);
            let logits_of = |ids: &[u32]| ids.iter().map(logit).collect::<Vec<_>>();
            let answers = [&row.metrics.true_ids, &row.metrics.false_ids].map(|ids| logits_of(ids));
            readings.push(RowReading {
                log_sums: [log_sum_exp(&answers[0]), log_sum_exp(&answers[1])],
                largest: [0, 1].map(|answer| {
                    answers[answer].iter().copied().fold(f32::NEG_INFINITY, f32::max)
                }),
                token: row.token.as_ref().map_or(f32::NAN, logit),
                whole: None,
            });
        }
    }
    Ok(readings)
}

fn log_sum_exp(numbers: &[f32]) -> f32 {
    let largest = numbers.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if numbers.iter().any(|x| x.is_nan()) {
        return f32::NAN;
    }
    if largest.is_infinite() {
        return largest;
    }
    let total: f64 = numbers.iter().map(|x| f64::from(x - largest).exp()).sum();
    largest + total.ln() as f32
}

/// What is summed up of one row while the vocabulary is visited.
struct Sums<'a> {
    row: ReadRow<'a>,
    /// All but `log_sum`.
    whole: Whole,
    /// `logsumexp` so far; in f64, since it is put together of many.
    log_sum: f64,
    /// The largest logit of each answer; rank is counted against it.
    largest: [f32; 2],
    /// For each reference, the sum of its weights times this row's logits.
    products: [f64; 2],
}

/// What some consecutive tokens say of one row.
struct PieceReading {
    /// `logsumexp` of their logits.
    log_sum: f64,
    /// The largest of them, with their tokens.
    top: Vec<(u32, f32)>,
    /// For each answer, how many tokens that are none of its variants have a larger logit.
    n_above: [u32; 2],
    /// For each of the row's references, the sum of its weights times the row's logits.
    products: [f64; 2],
}

/// What is summed up of a reference: its weights are `exp(logit - largest)`.
#[derive(Debug, Clone)]
struct ReferenceSums {
    largest: f32,
    /// The sum of the weights.
    total: f64,
    /// The sum of the weights times its own logits.
    product: f64,
}

impl Default for ReferenceSums {
    fn default() -> Self {
        Self { largest: f32::NEG_INFINITY, total: 0.0, product: 0.0 }
    }
}

/// The weights of the references over a piece of the vocabulary.
struct ReferenceWeights {
    weights: Vec<Vec<f32>>, // [references][piece]
    /// The same on the device, where logits are read there.
    on_device: Option<Tensor>, // [references, piece]
    /// What sums so far must be multiplied by, since a larger logit was found.
    rescale: Vec<f64>, // [references]
}

impl ReferenceWeights {
    /// The same with a copy on a device, which all rows of the piece are multiplied with.
    fn on(self, device: &Device) -> Result<Self> {
        let shape = (self.weights.len(), self.weights.first().map_or(0, Vec::len));
        let on_device = Some(Tensor::from_vec(self.weights.concat(), shape, device)?);
        Ok(Self { on_device, ..self })
    }
}

/// Adds a piece of the references' logits `[references, piece]`.
fn reference_sums_of(logits: &Tensor, sums: &mut [ReferenceSums]) -> Result<ReferenceWeights> {
    let logits = logits.to_dtype(DType::F32)?.to_vec2::<f32>()?;
    let mut rescale = Vec::with_capacity(sums.len());
    let weights = logits.iter().zip(sums).map(|(logits, sums)| {
        let largest = logits.iter().copied().fold(sums.largest, f32::max);
        let factor = match sums.largest.is_finite() {
            true => f64::from(sums.largest - largest).exp(),
            false => 0.0,
        };
        sums.largest = largest;
        rescale.push(factor);
        let weights: Vec<f32> = logits.iter().map(|logit| (logit - largest).exp()).collect();
        sums.total = sums.total * factor + weights.iter().copied().map(f64::from).sum::<f64>();
        sums.product = sums.product * factor + product(&weights, logits);
        weights
    });
    let weights = weights.collect();
    Ok(ReferenceWeights { weights, on_device: None, rescale })
}

/// The sum of products, in f32 over short stretches and in f64 over these.
fn product(a: &[f32], b: &[f32]) -> f64 {
    let stretches = a.chunks(1024).zip(b.chunks(1024));
    stretches.map(|(a, b)| f64::from(vectorised(|| dot(a, b)))).sum()
}

impl<'a> Sums<'a> {
    fn new(row: ReadRow<'a>, reading: &RowReading) -> Self {
        let whole =
            Whole { log_sum: f32::NAN, top: Vec::new(), n_above: [0; 2], divergence: [None; 2] };
        let (log_sum, products) = (f64::NEG_INFINITY, [0.0; 2]);
        Self { row, whole, log_sum, largest: reading.largest, products }
    }

    /// How many of the largest logits are kept.
    fn n_top(&self) -> usize {
        self.row.metrics.n_top.max(1)
    }

    /// The tokens of each answer.
    fn answers(&self) -> [&[u32]; 2] {
        [&self.row.metrics.true_ids, &self.row.metrics.false_ids]
    }

    /// Multiplies what is summed up with each reference's weights by its number in `factors`.
    fn rescale(&mut self, factors: &[f64]) {
        for (reference, product) in self.row.references.iter().zip(&mut self.products) {
            if let Some(reference) = reference {
                *product *= factors[*reference];
            }
        }
    }

    /// Adds the next tokens.
    fn add(&mut self, read: PieceReading) {
        let n_top = self.n_top();
        let PieceReading { log_sum, top, n_above, products } = read;
        let (larger, smaller) = (log_sum.max(self.log_sum), log_sum.min(self.log_sum));
        self.log_sum = match (log_sum.is_nan() || self.log_sum.is_nan(), larger.is_finite()) {
            (true, _) => f64::NAN,
            (_, false) => larger,
            _ => larger + (smaller - larger).exp().ln_1p(),
        };
        let whole = &mut self.whole;
        for (token, logit) in top {
            keep_top(&mut whole.top, n_top, &[logit], token as usize);
        }
        for (all, n) in whole.n_above.iter_mut().zip(n_above) {
            *all += n;
        }
        for (so_far, product) in self.products.iter_mut().zip(products) {
            *so_far += product;
        }
    }

    fn whole(mut self, references: &[ReferenceSums]) -> Whole {
        self.whole.log_sum = self.log_sum as f32;
        for (i, reference) in self.row.references.iter().enumerate() {
            let Some(reference) = reference.map(|at| &references[at]) else { continue };
            // KL = E[log p_reference] - E[log p_this], both expectations under the reference.
            let log_sum = f64::from(reference.largest) + reference.total.ln();
            let own = reference.product / reference.total - log_sum;
            let this = self.products[i] / reference.total - self.log_sum;
            // Rounding may make nothing a little less than nothing.
            let divergence = own - this;
            self.whole.divergence[i] = Some(if divergence < 0.0 { 0.0 } else { divergence as f32 });
        }
        self.whole
    }
}

/// Merges the largest of `logits`, whose tokens begin with `first`, into `top`. Of equals the first
/// token counts as the larger.
fn keep_top(top: &mut Vec<(u32, f32)>, n: usize, logits: &[f32], first: usize) {
    for (i, &logit) in logits.iter().enumerate() {
        if logit.is_nan() {
            continue;
        }
        if top.len() == n && top.last().is_some_and(|&(_, least)| logit <= least) {
            continue;
        }
        let at = top.partition_point(|&(_, other)| other >= logit);
        top.insert(at, ((first + i) as u32, logit));
        top.truncate(n);
    }
}
