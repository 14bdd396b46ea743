//! Carries a table out in requests: as many waves in each as the server bears, and again what did not
//! arrive.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use shared::document::{Controls, Document, Verification};

use super::check::{self, Shape};
use super::plan::{Expected, MAX_WAVE_CELLS, PairPlan, PlannedWave};
use super::protocol::{Answer, Ask, AskPair, Numbers, Reason};
use super::{Helper, NdifError};
use crate::experiment::{Cost, Experiment, Part};
use crate::model::Description;
use crate::sweep::{Reading, Readings};

/// What a sweep says while it runs.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// The share of the whole table that is done, from 0 to 1.
    Share(f64),
    /// Something to show.
    Said(&'a str),
    /// Both runs of a pair are known, and the trials that equal them.
    Runs {
        /// An index into the table.
        pair: usize,
        /// Base and source.
        readings: &'a [Reading],
        /// Trials with their readings.
        known: &'a [(usize, Reading)],
    },
    /// A wave of a pair came: its trials, or none if it was thrown away, and what its controls showed.
    Wave {
        /// An index into the table.
        pair: usize,
        /// What came.
        part: &'a Part,
    },
    /// All of a pair is known.
    Pair {
        /// An index into the table.
        pair: usize,
        /// Its document.
        document: &'a Document,
    },
    /// Nothing new.
    Waiting,
}

/// Hears what a sweep says, and may break it off.
pub type Listener<'a> = dyn FnMut(Event) -> ControlFlow<()> + 'a;

/// How much is asked for in one request.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Cells of a request.
    pub n_cells: usize,
    /// Cells of a wave, beside what a wave may have by its tokens.
    pub n_wave_cells: usize,
    /// How long a request may take, where the server says so.
    pub time_limit: Option<Duration>,
    /// How long to wait before a server is asked again that could not be reached.
    pub pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            n_cells: MAX_CELLS,
            n_wave_cells: usize::MAX,
            time_limit: None,
            pause: Duration::from_secs(3),
        }
    }
}

/// What it took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Summary {
    /// Requests, those that failed included.
    pub n_requests: usize,
    /// Bytes that were sent.
    pub n_sent: u64,
    /// Bytes that came.
    pub n_received: u64,
    /// What the control cells showed.
    pub controls: Controls,
}

/// The most cells of a request, which is tens of kilobytes to send and some hundreds to receive, and
/// minutes of a large model.
pub const MAX_CELLS: usize = 2_000;
/// The share of a time limit that a request is meant to take.
const LIMIT_SHARE: f64 = 0.5;
/// So many requests may fail or bring nothing, one after another.
const N_TRIES: usize = 3;
/// So many waves may fail their controls in all.
const N_DISCARDED: usize = 3;

/// A pair on its way.
struct Pair<'a> {
    experiment: &'a Experiment,
    plan: PairPlan,
    /// What has arrived, now and before an interruption.
    part: Part,
    /// The numbers of both runs, and what they say.
    runs: Option<(Numbers, Vec<Reading>)>,
    secs: f64,
    is_out: bool,
}

impl Pair<'_> {
    /// Whether all that must be computed is.
    fn is_whole(&self) -> bool {
        self.runs.is_some() && self.n_trials_left() == 0
    }

    /// Trials that must be computed and have not arrived.
    fn n_trials_left(&self) -> usize {
        let n_trials = self.experiment.specification.trials.len();
        n_trials - self.plan.known.len() - self.part.trials.len()
    }

    /// The trials that equal a run, once the runs are known.
    fn known(&self) -> Vec<(usize, Reading)> {
        let specification = &self.experiment.specification;
        let Some((numbers, _)) = &self.runs else { return Vec::new() };
        let reading = |&(trial, run): &(usize, usize)| {
            let base = specification.trials[trial].base;
            (trial, check::as_trial(numbers, &specification.metrics, run, base))
        };
        self.plan.known.iter().map(reading).collect()
    }

    /// All readings of a pair that is whole.
    fn readings(&self) -> Readings {
        let Some((_, runs)) = &self.runs else { return Readings::default() };
        let mut all: BTreeMap<usize, Reading> = self.known().into_iter().collect();
        all.extend(self.part.trials.clone());
        let trials = all.into_values().collect();
        Readings { runs: runs.clone(), trials, ..Readings::default() }
    }
}

/// A sweep on its way.
struct Sweep<'a> {
    helper: &'a mut Helper,
    model: &'a Description,
    pairs: Vec<Pair<'a>>,
    limits: Limits,
    summary: Summary,
    n_trials: usize,
    /// The end of the last answer, for a pair's share of the time.
    at: Instant,
}

/// What a request came to.
enum Outcome {
    /// All was computed, in so many seconds from the first numbers to the last.
    Done(f64),
    Failed(Reason, String),
}

/// Sweeps `table` on the server where `helper` has opened `model`. `begun` has what arrived of each
/// experiment before an interruption; of experiments that it lacks, nothing.
///
/// # Errors
/// [`NdifError::Cancelled`] if `listener` broke it off, or what went wrong. What has arrived until
/// then, the listener has heard.
pub fn run(
    helper: &mut Helper,
    model: &Description,
    table: &[&Experiment],
    begun: &[Part],
    limits: Limits,
    listener: &mut Listener,
) -> Result<Summary, NdifError> {
    let pair = |(i, &experiment): (usize, &&'_ Experiment)| -> Result<_, NdifError> {
        Ok((i, PairPlan::new(&experiment.specification, model.config.n_layers)?))
    };
    let plans = table.iter().enumerate().map(pair).collect::<Result<Vec<_>, _>>()?;
    let pairs = plans.into_iter().map(|(i, plan)| {
        let mut part = begun.get(i).cloned().unwrap_or_default();
        for (trial, _) in &plan.known {
            part.trials.remove(trial);
        }
        Pair { experiment: table[i], plan, part, runs: None, secs: 0.0, is_out: false }
    });
    let pairs: Vec<_> = pairs.collect();
    let n_trials = pairs.iter().map(|pair| pair.experiment.specification.trials.len()).sum();
    let mut limits = limits;
    if limits.time_limit.is_some() {
        // A first wave shows how long one takes.
        limits.n_cells = limits.n_cells.min(MAX_WAVE_CELLS);
    }
    let (summary, at) = (Summary::default(), Instant::now());
    let mut sweep = Sweep { helper, model, pairs, limits, summary, n_trials, at };
    sweep.run(listener)?;
    Ok(sweep.summary)
}

impl Sweep<'_> {
    fn run(&mut self, listener: &mut Listener) -> Result<(), NdifError> {
        let mut n_fruitless = 0;
        while self.pairs.iter().any(|pair| !pair.is_out) {
            let asked = self.next_request();
            let before = (self.summary.controls.n_waves, self.n_runs());
            let outcome = self.request(&asked, listener)?;
            let n_arrived = self.summary.controls.n_waves - before.0;
            n_fruitless = match (n_arrived, self.n_runs()) == (0, before.1) {
                true => n_fruitless + 1,
                false => 0,
            };
            match outcome {
                Outcome::Done(_) if n_fruitless >= N_TRIES => {
                    return Err(NdifError::Incomplete(n_fruitless));
                }
                Outcome::Done(secs) => {
                    let n_cells: usize = asked.iter().map(|(_, waves)| n_cells(waves)).sum();
                    if let Some(limit) = self.limits.time_limit.filter(|_| n_cells > 0) {
                        let fitting = LIMIT_SHARE * limit.as_secs_f64() / secs * n_cells as f64;
                        self.limits.n_cells = (fitting as usize).clamp(1, MAX_CELLS);
                    }
                }
                Outcome::Failed(reason, message) => {
                    let waves = asked.iter().flat_map(|(_, waves)| waves);
                    let n_largest = waves.map(PlannedWave::n_cells).max().unwrap_or(0);
                    let n_cells = asked.iter().map(|(_, waves)| n_cells(waves)).sum();
                    let goes_on = self.learn(reason, n_arrived, n_cells, n_largest, n_fruitless);
                    if !goes_on {
                        return Err(NdifError::Failed { reason, message });
                    }
                    let text = format!("{}, and is asked for again: {message}", reason.what());
                    self.say(listener, Event::Said(&text))?;
                    if reason == Reason::Unreachable {
                        self.wait(listener)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes the next request fit what a failure has shown; whether there is any hope.
    fn learn(
        &mut self,
        reason: Reason,
        n_arrived: usize,
        n_cells: usize,
        n_largest: usize,
        n_fruitless: usize,
    ) -> bool {
        let limits = &mut self.limits;
        match reason {
            Reason::Key | Reason::Model | Reason::Unsupported => return false,
            Reason::Unreachable | Reason::Other => return n_fruitless < N_TRIES,
            // Not even one wave was done in time.
            Reason::TimeOut if n_arrived == 0 => {
                limits.n_cells = n_largest / 2;
                limits.n_wave_cells = limits.n_cells;
            }
            Reason::TimeOut => limits.n_cells = (n_arrived * n_largest).div_ceil(2),
            Reason::Memory => limits.n_wave_cells = n_largest / 2,
            Reason::TooLarge => limits.n_cells = n_cells / 2,
        }
        limits.n_cells.min(limits.n_wave_cells) > 0
    }

    fn n_runs(&self) -> usize {
        self.pairs.iter().filter(|pair| pair.runs.is_some()).count()
    }

    /// Pairs with the waves that are asked for next.
    fn next_request(&self) -> Vec<(usize, Vec<PlannedWave>)> {
        let mut asked: Vec<(usize, Vec<PlannedWave>)> = Vec::new();
        let mut n_left = self.limits.n_cells;
        for (i, pair) in self.pairs.iter().enumerate().filter(|(_, pair)| !pair.is_out) {
            let n_wave =
                pair.plan.wave_cells().min(self.limits.n_wave_cells).min(self.limits.n_cells);
            let mut waves = pair.plan.waves(n_wave, |trial| pair.part.trials.contains_key(&trial));
            let mut n_taken = 0;
            for wave in &waves {
                if wave.n_cells() > n_left {
                    break;
                }
                n_left -= wave.n_cells();
                n_taken += 1;
            }
            let is_all = n_taken == waves.len();
            waves.truncate(n_taken);
            // A pair of which only its runs are missing is asked for without waves.
            if n_taken > 0 || is_all {
                asked.push((i, waves));
            }
            if !is_all {
                break;
            }
        }
        asked
    }

    fn request(
        &mut self,
        asked: &[(usize, Vec<PlannedWave>)],
        listener: &mut Listener,
    ) -> Result<Outcome, NdifError> {
        let experiments: Vec<_> = self.pairs.iter().map(|pair| pair.experiment).collect();
        let pairs = asked.iter().map(|(pair, waves)| {
            let specification = &experiments[*pair].specification;
            AskPair {
                pair: *pair,
                runs: [&specification.runs[0].tokens, &specification.runs[1].tokens],
                true_ids: &specification.metrics.true_ids,
                false_ids: &specification.metrics.false_ids,
                waves: waves.iter().map(|wave| wave.ask.clone()).collect(),
            }
        });
        let pairs: Vec<_> = pairs.collect();
        let n_top = asked.iter().map(|(pair, _)| experiments[*pair].settings.top).max();
        self.summary.n_requests += 1;
        self.at = Instant::now();
        self.helper.ask(&Ask::Sweep { pairs, n_top: n_top.unwrap_or(1) })?;
        let mut begin = None;
        // Waves of a pair come in the order in which they were asked for.
        let mut next = vec![0; asked.len()];
        loop {
            let answer = self.helper.answer(&mut || listener(Event::Waiting).is_break())?;
            match answer {
                Answer::Alive => self.say(listener, Event::Waiting)?,
                Answer::Said { text } => self.say(listener, Event::Said(&text))?,
                Answer::Opened(_) => return Err(NdifError::bad("a model that nobody asked for")),
                Answer::Done { n_sent, n_received } => {
                    self.summary.n_sent += n_sent;
                    self.summary.n_received += n_received;
                    let secs = begin.map_or(0.0, |begin: Instant| begin.elapsed().as_secs_f64());
                    return Ok(Outcome::Done(secs));
                }
                Answer::Failed { reason, message } => return Ok(Outcome::Failed(reason, message)),
                Answer::Runs { pair, numbers } => {
                    if !asked.iter().any(|(asked, _)| *asked == pair) {
                        return Err(NdifError::bad(format!(
                            "runs of pair {pair}, which was not asked for"
                        )));
                    }
                    begin.get_or_insert_with(Instant::now);
                    self.runs(pair, numbers, listener)?;
                    self.hand_out(pair, listener)?;
                }
                Answer::Wave { pair, cells, numbers } => {
                    let at = asked.iter().position(|(asked, _)| *asked == pair);
                    let wave = at.and_then(|at| asked[at].1.get(next[at]));
                    let (Some(at), Some(wave)) = (at, wave) else {
                        return Err(NdifError::bad(format!(
                            "a wave of pair {pair} that was not asked for"
                        )));
                    };
                    next[at] += 1;
                    self.wave(pair, wave, &cells, &numbers, listener)?;
                    self.hand_out(pair, listener)?;
                }
            }
        }
    }

    fn shape(&self, pair: usize, n_rows: usize) -> Shape {
        let n_top = self.pairs[pair].experiment.settings.top;
        Shape { n_rows, n_top, d_vocab: self.model.config.d_vocab }
    }

    fn runs(
        &mut self,
        index: usize,
        numbers: Numbers,
        listener: &mut Listener,
    ) -> Result<(), NdifError> {
        let n_runs = self.pairs[index].experiment.specification.runs.len();
        check::check(&numbers, self.shape(index, n_runs))?;
        self.take_time(index);
        let pair = &mut self.pairs[index];
        let readings = check::readings(&numbers, &pair.experiment.specification.metrics, |_| 0);
        pair.runs = Some((numbers, readings.clone()));
        let known = pair.known();
        self.say(listener, Event::Runs { pair: index, readings: &readings, known: &known })
    }

    fn wave(
        &mut self,
        index: usize,
        wave: &PlannedWave,
        cells: &[usize],
        numbers: &Numbers,
        listener: &mut Listener,
    ) -> Result<(), NdifError> {
        if !cells.iter().eq(wave.ask.cells.iter().map(|cell| &cell.cell)) {
            return Err(NdifError::bad("a wave of other cells than those that were asked for"));
        }
        check::check(numbers, self.shape(index, cells.len()))?;
        self.take_time(index);
        let pair = &mut self.pairs[index];
        let metrics = &pair.experiment.specification.metrics;
        let Some((_, runs)) = &pair.runs else {
            return Err(NdifError::bad(format!("a wave of pair {index} before its runs")));
        };
        let readings = check::readings(numbers, metrics, |_| wave.ask.base);
        let (controls, failure) = match check::controls(wave, &readings, runs, &self.model.dtype) {
            Ok(controls) => (controls, None),
            Err(what) => (Controls { n_discarded: 1, ..Controls::default() }, Some(what)),
        };
        self.summary.controls.add(controls);
        let mut part = Part { controls: Some(controls), ..Part::default() };
        if let Some(what) = failure {
            pair.part.add(part.clone());
            let n = self.summary.controls.n_discarded;
            let text = format!("a wave of {} cells was thrown away: {what}", wave.n_cells());
            self.say(listener, Event::Wave { pair: index, part: &part })?;
            self.say(listener, Event::Said(&text))?;
            return if n >= N_DISCARDED { Err(NdifError::Control { n, what }) } else { Ok(()) };
        }
        for (expected, mut reading) in wave.expected.iter().zip(readings) {
            let Expected::Trials(trials) = expected else { continue };
            if !metrics.vocabulary {
                reading.vocabulary = None;
            }
            part.trials.extend(trials.iter().map(|&trial| (trial, reading.clone())));
        }
        pair.part.add(part.clone());
        self.say(listener, Event::Wave { pair: index, part: &part })?;
        let n_left: usize = self.pairs.iter().map(Pair::n_trials_left).sum();
        self.say(listener, Event::Share(1.0 - n_left as f64 / self.n_trials.max(1) as f64))
    }

    /// Hands out a pair's document, if it is whole.
    fn hand_out(&mut self, index: usize, listener: &mut Listener) -> Result<(), NdifError> {
        let pair = &mut self.pairs[index];
        if pair.is_out || !pair.is_whole() {
            return Ok(());
        }
        pair.is_out = true;
        let cost = Cost { wall_secs: pair.secs, operations: 0.0 };
        let controls = pair.part.controls;
        let checked = controls.map(|c| Verification { controls: Some(c), ..Default::default() });
        let document = pair.experiment.document(self.model, &pair.readings(), cost, checked)?;
        self.say(listener, Event::Pair { pair: index, document: &document })
    }

    /// The time since the last answer is this pair's.
    fn take_time(&mut self, pair: usize) {
        self.pairs[pair].secs += self.at.elapsed().as_secs_f64();
        self.at = Instant::now();
    }

    fn say(&self, listener: &mut Listener, event: Event) -> Result<(), NdifError> {
        match listener(event) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(NdifError::Cancelled),
        }
    }

    /// Waits before the next try, and longer each time.
    fn wait(&mut self, listener: &mut Listener) -> Result<(), NdifError> {
        let begin = Instant::now();
        while begin.elapsed() < self.limits.pause {
            self.say(listener, Event::Waiting)?;
            std::thread::sleep(Duration::from_millis(50).min(self.limits.pause));
        }
        self.limits.pause *= 2;
        Ok(())
    }
}

fn n_cells(waves: &[PlannedWave]) -> usize {
    waves.iter().map(PlannedWave::n_cells).sum()
}
