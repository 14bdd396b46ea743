//! One experiment: from a pair of sentences to a result document.

use std::time::{Instant, SystemTime};

use serde_json::Map;
use shared::alignment::{Alignment, answer_variants, notebook_sentence_start};
use shared::document::{
    Answer, Answers, Baseline, Baselines, Document, Grid, Provenance, Readout, SCHEMA, Token,
    Verification, content_id,
};
use shared::pairs::Pair;
use shared::template::{Prompt, Template, TemplateError};
use shared::vocabulary::{Align, Direction, Site};

use crate::model::{Encoded, Model, ModelError, VERSION};
use crate::sweep::wavefront::{Listener, Rider};
use crate::sweep::{
    Cell, Plan, Reading, Request, Sweep, SweepError, VocabularyReading, metric, naive, verify,
    wavefront,
};

/// Part of every id: raised whenever any number of any result may change, so that what an older
/// version computed is not taken for what this one would.
pub const NUMERICS: u32 = 1;

/// What is the same for all pairs of a table.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Makes prompts of sentences; `None` if the table holds full prompts.
    pub template: Option<Template>,
    /// The true and the false answer; `None` takes the columns `true_answer` and `false_answer`
    /// where a row has them, and else TRUE and FALSE.
    pub answers: Option<[Template; 2]>,
    /// Take the answers as they are written instead of all variants in case and leading space.
    pub exact_answers: bool,
    /// The activation that is replaced.
    pub site: Site,
    /// How prompts of unequal length are aligned.
    pub align: Align,
    /// Which of the two prompts is the source.
    pub direction: Direction,
    /// Whether to read the whole vocabulary at every cell.
    pub readout: bool,
    /// How many random cells the naive engine runs again.
    pub n_verified: usize,
}

/// A pair that cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The template does not fit the table.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The tokenizer failed.
    #[error("the tokenizer failed: {0}")]
    Tokenizer(#[from] tokenizers::Error),
    /// Both prompts are the same tokens.
    #[error("source and base are the same {0} tokens: there is nothing to patch")]
    EqualPrompts(usize),
    /// A site that the model lacks.
    #[error(transparent)]
    Site(SweepError),
    /// A prompt without a token.
    #[error("the {0} prompt has no tokens")]
    EmptyPrompt(&'static str),
    /// A prompt that the model cannot read.
    #[error(
        "the {prompt} prompt has {found} tokens{}, and the model reads at most {limit}: shorten it",
        if *.padded { " with padding" } else { "" }
    )]
    TooLong {
        /// Which prompt.
        prompt: &'static str,
        /// Its tokens.
        found: usize,
        /// Whether they include padding.
        padded: bool,
        /// The model's context.
        limit: usize,
    },
    /// An answer that is never one token.
    #[error(
        "the answer {word:?} is more than one token in every variant ({}): choose another word",
        .tried.join(", ")
    )]
    NoSingleToken {
        /// The answer.
        word: String,
        /// Its variants, quoted.
        tried: Vec<String>,
    },
    /// A token that would count for and against.
    #[error("the answers {0:?} and {1:?} share the token {2:?}: they must differ")]
    SharedToken(String, String, String),
    /// A token that the tokenizer knows and the model does not.
    #[error(
        "the token `{token}` ({id}) of {part} is beyond the model's vocabulary of {d_vocab} tokens: \
         {}take the tokenizer that belongs to the weights, or resize them once in transformers: \
         `model.resize_token_embeddings(len(tokenizer))`, and save both",
        if *.is_padding { "use `--align right`, which needs no padding, or " } else { "" }
    )]
    BeyondVocabulary {
        /// The token's text.
        token: String,
        /// Its number.
        id: u32,
        /// Where it comes from.
        part: &'static str,
        /// The rows of the model's embedding.
        d_vocab: usize,
        /// Whether it only pads.
        is_padding: bool,
    },
    /// Padding is needed and the model has no token for it.
    #[error(
        "the prompts have {0} and {1} tokens, and the tokenizer has neither a pad token nor an \
         end-of-text token to pad with: use `--align right`"
    )]
    NoPadToken(usize, usize),
}

/// A pair made ready for the model.
pub struct Experiment {
    /// What is swept.
    pub request: Request,
    /// What both sentences are about; may be empty.
    pub entity: String,
    /// The source prompt.
    pub source_prompt: String,
    /// The base prompt.
    pub base_prompt: String,
    /// The answers and the tokens that count as them.
    pub answers: Answers,
    source_sentence: String,
    base_sentence: String,
    template: Option<String>,
    direction: Direction,
    /// How the prompts were aligned.
    pub align: Align,
    n_verified: usize,
}

/// One side of a pair.
struct Side {
    sentence: String,
    prompt: Prompt,
    encoded: Encoded,
}

impl Side {
    fn new(
        model: &Model,
        pair: &Pair,
        sentence: &str,
        template: Option<&Template>,
        name: &'static str,
    ) -> Result<Self, PrepareError> {
        let prompt = match template {
            None => Prompt { text: sentence.to_string(), sentence: None },
            Some(template) => template.fill(|column| match column {
                "sentence" => Ok(sentence),
                column => cell(pair, column),
            })?,
        };
        let encoded = model.tokenizer.encode(&prompt.text)?;
        if encoded.ids.is_empty() {
            return Err(PrepareError::EmptyPrompt(name));
        }
        Ok(Self { sentence: sentence.to_string(), prompt, encoded })
    }

    /// The sentence's first token: where the template says, or else where the notebook finds it.
    fn start(&self, model: &Model) -> Option<usize> {
        match &self.prompt.sentence {
            Some(sentence) => self.encoded.token_at(sentence.start),
            None => {
                let tokens = model.tokenizer.tokens(&self.encoded.ids).into_iter();
                let texts: Vec<_> = tokens.map(|token| token.text).collect();
                notebook_sentence_start(&texts)
            }
        }
    }
}

/// A cell of the pair's row, for a template; the error names the columns that there are.
fn cell<'a>(pair: &'a Pair, column: &str) -> Result<&'a str, String> {
    match pair.cells.get(column) {
        Some(cell) => Ok(cell),
        None if column == "entity" => Ok(&pair.entity),
        None => {
            let known: Vec<_> = pair.cells.keys().map(|name| format!("`{name}`")).collect();
            Err(known.join(", "))
        }
    }
}

impl Experiment {
    /// Makes prompts, tokens and answers of a pair, and aligns them.
    ///
    /// # Errors
    /// [`PrepareError`], before any long work.
    pub fn prepare(model: &Model, pair: &Pair, settings: &Settings) -> Result<Self, PrepareError> {
        let config = &model.network.config;
        if !config.has_site(settings.site) {
            let (site, architecture) = (settings.site, config.architecture);
            return Err(PrepareError::Site(SweepError::NoSite { site, architecture }));
        }
        let (source, base) = match settings.direction {
            Direction::Denoising => (&pair.source, &pair.base),
            Direction::Noising => (&pair.base, &pair.source),
        };
        let template = settings.template.as_ref();
        let source = Side::new(model, pair, source, template, "source")?;
        let base = Side::new(model, pair, base, template, "base")?;
        let (source_ids, base_ids) = (&source.encoded.ids, &base.encoded.ids);
        let n_same = source_ids.iter().zip(base_ids).take_while(|(s, b)| s == b).count();
        if n_same == source_ids.len() && n_same == base_ids.len() {
            return Err(PrepareError::EqualPrompts(n_same));
        }
        let starts = match (source.start(model), base.start(model)) {
            (Some(source), Some(base)) => (source, base),
            // One prompt may be the beginning of the other.
            _ => (n_same.min(source_ids.len() - 1), n_same.min(base_ids.len() - 1)),
        };
        let pad = match model.tokenizer.pad() {
            Some(pad) => pad,
            None if settings.align == Align::Pad && source_ids.len() != base_ids.len() => {
                return Err(PrepareError::NoPadToken(source_ids.len(), base_ids.len()));
            }
            None => 0,
        };
        let alignment = Alignment::new(source_ids, base_ids, starts, settings.align, pad);
        let limit = config.n_context;
        for (prompt, ids, unpadded) in [
            ("source", &alignment.source, source_ids.len()),
            ("base", &alignment.base, base_ids.len()),
        ] {
            let found = ids.len();
            if found > limit {
                return Err(PrepareError::TooLong {
                    prompt,
                    found,
                    padded: found > unpadded,
                    limit,
                });
            }
        }
        let answers = answers(model, pair, settings)?;
        let ids = |answer: &Answer| answer.kept.iter().map(|token| token.id).collect::<Vec<_>>();
        let true_ids: Vec<_> = ids(&answers.true_answer);
        let false_ids: Vec<_> = ids(&answers.false_answer);
        within_vocabulary(model, &alignment, [&true_ids, &false_ids])?;
        let request = Request {
            alignment,
            site: settings.site,
            true_ids,
            false_ids,
            readout: settings.readout,
        };
        Ok(Self {
            request,
            entity: pair.entity.clone(),
            source_prompt: source.prompt.text,
            base_prompt: base.prompt.text,
            answers,
            source_sentence: source.sentence,
            base_sentence: base.sentence,
            template: template.map(|template| template.text().to_string()),
            direction: settings.direction,
            align: settings.align,
            n_verified: settings.n_verified,
        })
    }

    /// The identity of the result: a hash of what determines its numbers. It needs the whole of the
    /// model's files to have been read, see [`Fingerprint::get`](crate::model::Fingerprint::get).
    ///
    /// # Errors
    /// Files that cannot be read, or that were changed since the model was opened.
    pub fn id(&self, model: &Model) -> Result<String, ModelError> {
        let alignment = &self.request.alignment;
        let (n_source, n_base) = alignment.lengths();
        let determinants = serde_json::json!({
            "numerics": NUMERICS,
            "model": model.fingerprint.get()?,
            "dtype": model.network.placement.dtype.as_str(),
            "source": alignment.source,
            "base": alignment.base,
            "start": alignment.start,
            // Prompts of one length are aligned by themselves.
            "align": (n_source != n_base).then_some(self.align),
            "site": self.request.site,
            "true": self.request.true_ids,
            "false": self.request.false_ids,
        });
        Ok(content_id(&determinants.to_string()))
    }

    /// Both unpatched runs, each by a pass of its own; `None` for a model whose weights are read
    /// from disk, which would be read twice for them alone.
    ///
    /// # Errors
    /// [`SweepError`]; [`SweepError::Cancelled`] if `is_cancelled` turned true, which is asked at
    /// every activation.
    pub fn baselines(
        &self,
        model: &Model,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<Option<Baselines>, SweepError> {
        if model.network.is_streamed() {
            return Ok(None);
        }
        let read = |tokens: &[u32]| -> Result<Baseline, SweepError> {
            let mut stopped = false;
            let x = naive::forward(&model.network, tokens, |_, _, activation| {
                stopped = is_cancelled();
                if stopped { Err(candle_core::Error::msg("cancelled")) } else { Ok(activation) }
            });
            if stopped {
                return Err(SweepError::Cancelled);
            }
            let reading = metric::read(&model.network, x?, &self.request)?[0];
            let missing = || candle_core::Error::msg("a baseline reads the vocabulary");
            Ok(baseline(model, &reading).ok_or_else(missing)?)
        };
        let Alignment { source, base, .. } = &self.request.alignment;
        Ok(Some(Baselines { source: read(source)?, base: read(base)? }))
    }

    /// Runs the sweep and writes down what came of it.
    ///
    /// # Errors
    /// [`SweepError`].
    pub fn run(
        &self,
        model: &Model,
        plan: &Plan,
        listener: &mut Listener,
    ) -> Result<Document, SweepError> {
        self.resume(model, plan, &[], listener)
    }

    /// The same, where some cells are `found` already: the plan is [`Plan::without`] them.
    ///
    /// # Errors
    /// [`SweepError`].
    pub fn resume(
        &self,
        model: &Model,
        plan: &Plan,
        found: &[(Cell, Reading)],
        listener: &mut Listener,
    ) -> Result<Document, SweepError> {
        let begin = Instant::now();
        let mut sweep = wavefront::sweep(&model.network, &self.request, plan, listener)?;
        let start = self.request.positions().start;
        for &(cell, reading) in found {
            sweep.cells[cell.layer][cell.position - start] = reading;
        }
        self.document(model, plan, &sweep, begin.elapsed().as_secs_f64(), listener)
    }

    /// Runs several sweeps in the same passes over the layers; `wall_secs` of each document is its
    /// share of the time by operations.
    ///
    /// # Errors
    /// [`SweepError`].
    pub fn run_together(
        group: &[&(Self, Plan)],
        model: &Model,
        listener: &mut Listener,
    ) -> Result<Vec<Document>, SweepError> {
        let begin = Instant::now();
        let riders: Vec<_> =
            group.iter().map(|(e, plan)| Rider { request: &e.request, plan }).collect();
        let sweeps = wavefront::sweep_together(&model.network, &riders, listener)?;
        let wall_secs = begin.elapsed().as_secs_f64();
        let total: f64 = group.iter().map(|(_, plan)| plan.operations.done).sum();
        let documents = group.iter().zip(&sweeps).map(|((experiment, plan), sweep)| {
            let share = plan.operations.done / total;
            experiment.document(model, plan, sweep, share * wall_secs, listener)
        });
        documents.collect()
    }

    /// Writes down what came of a sweep, after the naive engine has run some of it again.
    fn document(
        &self,
        model: &Model,
        plan: &Plan,
        sweep: &Sweep,
        wall_secs: f64,
        listener: &mut Listener,
    ) -> Result<Document, SweepError> {
        let verification = match self.n_verified {
            0 => None,
            n => {
                let verified = verify::verify(&model.network, &self.request, sweep, n, listener)?;
                Some(Verification {
                    n_cells: verified.n_cells,
                    max_abs_diff: finite(verified.max_abs_diff),
                })
            }
        };
        let base_tokens = model.tokenizer.tokens(&self.request.alignment.base);
        let start = self.request.alignment.start;
        // What cannot be told from another model's numbers is no result.
        let unknown = |error: ModelError| SweepError::from(candle_core::Error::wrap(error));
        Ok(Document {
            schema: SCHEMA.to_string(),
            id: self.id(model).map_err(unknown)?,
            model: model.name.clone(),
            entity: self.entity.clone(),
            source_prompt: self.source_prompt.clone(),
            base_prompt: self.base_prompt.clone(),
            source_sentence: self.source_sentence.clone(),
            base_sentence: self.base_sentence.clone(),
            sentence_start: start,
            token_labels: base_tokens[start..].iter().map(|token| token.text.clone()).collect(),
            num_layers: model.network.config.n_layers,
            patching_results: grid(sweep, |reading| finite(reading.logit_diff)),
            template: self.template.clone(),
            site: Some(self.request.site),
            align: Some(self.align),
            direction: Some(self.direction),
            source_tokens: model.tokenizer.tokens(&self.request.alignment.source),
            base_tokens,
            source_padding: self.request.alignment.source_padding,
            base_padding: self.request.alignment.base_padding,
            answers: Some(self.answers.clone()),
            baselines: baselines(model, sweep),
            readout: readout(model, sweep),
            verification,
            extra: Map::new(),
            provenance: Some(Provenance {
                engine: format!("patchboard {VERSION}"),
                model_fingerprint: model.fingerprint.get().map_err(unknown)?.to_string(),
                architecture: model.network.config.architecture.to_string(),
                model_revision: model.revision.clone(),
                weights_dtype: model.weights_dtype.clone(),
                dtype: model.network.placement.dtype.as_str().to_string(),
                device: model.network.placement.device_name(),
                wall_secs,
                operations: plan.operations.done,
                finished_at: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            }),
        })
    }
}

/// Refuses tokens of which the model has no embedding.
fn within_vocabulary(
    model: &Model,
    alignment: &Alignment,
    answers: [&[u32]; 2],
) -> Result<(), PrepareError> {
    let (source_padding, source) = alignment.source.split_at(alignment.source_padding);
    let (base_padding, base) = alignment.base.split_at(alignment.base_padding);
    let d_vocab = model.network.config.d_vocab;
    for (part, ids) in [
        ("padding", source_padding),
        ("padding", base_padding),
        ("the source prompt", source),
        ("the base prompt", base),
        ("the answers", answers[0]),
        ("the answers", answers[1]),
    ] {
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= d_vocab) {
            let (token, is_padding) = (model.tokenizer.token(id).text, part == "padding");
            return Err(PrepareError::BeyondVocabulary { token, id, part, d_vocab, is_padding });
        }
    }
    Ok(())
}

/// The answers' words and their single-token variants.
fn answers(model: &Model, pair: &Pair, settings: &Settings) -> Result<Answers, PrepareError> {
    let column = |name: &str| pair.cells.get(name).filter(|cell| !cell.is_empty()).cloned();
    let words = match &settings.answers {
        Some([true_answer, false_answer]) => {
            let word = |template: &Template| {
                Ok::<_, TemplateError>(template.fill(|column| cell(pair, column))?.text)
            };
            [word(true_answer)?, word(false_answer)?]
        }
        None => match (column("true_answer"), column("false_answer")) {
            (Some(true_answer), Some(false_answer)) => [true_answer, false_answer],
            _ => ["TRUE".to_string(), "FALSE".to_string()],
        },
    };
    let [true_answer, false_answer] = words.map(|word| answer(model, word, settings.exact_answers));
    let (true_answer, false_answer) = (true_answer?, false_answer?);
    let shared = true_answer.kept.iter().find(|t| false_answer.kept.iter().any(|f| f.id == t.id));
    match shared {
        Some(token) => Err(PrepareError::SharedToken(
            true_answer.word.clone(),
            false_answer.word.clone(),
            token.text.clone(),
        )),
        None => Ok(Answers { true_answer, false_answer }),
    }
}

fn answer(model: &Model, word: String, exact: bool) -> Result<Answer, PrepareError> {
    let variants = if exact { vec![word.clone()] } else { answer_variants(&word) };
    let (mut kept, mut dropped) = (Vec::<Token>::new(), Vec::new());
    for variant in variants {
        match model.tokenizer.single_token(&variant)? {
            Some(token) if kept.iter().any(|k| k.id == token.id) => {}
            Some(token) => kept.push(token),
            None => dropped.push(variant),
        }
    }
    if kept.is_empty() {
        let tried = dropped.iter().map(|variant| format!("{variant:?}")).collect();
        return Err(PrepareError::NoSingleToken { word, tried });
    }
    Ok(Answer { word, kept, dropped })
}

fn finite(value: f32) -> Option<f32> {
    value.is_finite().then_some(value)
}

/// The most probable token; `None` where no probability is a number.
fn top_token(vocabulary: &VocabularyReading) -> Option<u32> {
    finite(vocabulary.p_top).map(|_| vocabulary.top_token)
}

fn grid<T>(sweep: &Sweep, value: impl Fn(&Reading) -> Option<T>) -> Grid<T> {
    sweep.cells.iter().map(|row| row.iter().map(&value).collect()).collect()
}

/// The unpatched runs.
fn baselines(model: &Model, sweep: &Sweep) -> Option<Baselines> {
    Some(Baselines { source: baseline(model, &sweep.source)?, base: baseline(model, &sweep.base)? })
}

/// A reading of an unpatched run as the document has it; `None` if its vocabulary was not read.
fn baseline(model: &Model, reading: &Reading) -> Option<Baseline> {
    let vocabulary = reading.vocabulary?;
    Some(Baseline {
        logit_diff: finite(reading.logit_diff),
        p_true: finite(vocabulary.p_true),
        p_false: finite(vocabulary.p_false),
        top_token: top_token(&vocabulary).map(|id| model.tokenizer.token(id)),
        p_top: finite(vocabulary.p_top),
    })
}

fn readout(model: &Model, sweep: &Sweep) -> Option<Readout> {
    let vocabularies = sweep.cells.iter().flatten().map(|reading| reading.vocabulary);
    let tops = vocabularies.map(|v| v.map(|v| top_token(&v))).collect::<Option<Vec<_>>>()?;
    let label = |id| (id, model.tokenizer.token(id).text);
    Some(Readout {
        p_true: grid(sweep, |reading| finite(reading.vocabulary?.p_true)),
        p_false: grid(sweep, |reading| finite(reading.vocabulary?.p_false)),
        top_token: grid(sweep, |reading| top_token(&reading.vocabulary?)),
        top_token_labels: tops.into_iter().flatten().map(label).collect(),
    })
}
