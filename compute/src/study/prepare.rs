//! A pair's prompts, tokens, alignment, spans and answers, and the experiment that they make.

use std::ops::Range;
use std::sync::Arc;

use shared::document::{Answers, content_id};
use shared::specification::alignment::{Alignment, notebook_sentence_start};
use shared::specification::pairs::Pair;
use shared::specification::settings::Checked;
use shared::specification::template::{Prompt, Template};
use shared::specification::vocabulary::{Align, Direction, Span, Written};
use shared::specification::{
    AnswerIds, Dimensions, MeanOver, SpanPositions, Specification, Subject,
};

use super::answers::answers;
use super::error::PrepareError;
use super::spans::Sides;
use super::{Experiment, NUMERICS};
use crate::model::{Config, Encoded, Model, ModelError};
use crate::sweep::SweepError;

/// One side of a pair.
pub(super) struct Side {
    pub(super) name: &'static str,
    pub(super) sentence: String,
    pub(super) prompt: Prompt,
    pub(super) encoded: Encoded,
}

/// What a pair comes to before the table's means are known.
struct Draft {
    source: Side,
    base: Side,
    alignment: Alignment,
    spans: Vec<SpanPositions>,
    noised: Vec<usize>,
    answers: Answers,
    ids: AnswerIds,
    direction: Direction,
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
        Ok(Self { name, sentence: sentence.to_string(), prompt, encoded })
    }

    /// The sentence's first token: where the template says, or else where the notebook finds it.
    fn start(&self, model: &Model) -> Option<usize> {
        match &self.prompt.sentence {
            Some(sentence) => self.encoded.token_at(sentence.start),
            None => {
                let texts: Vec<_> =
                    self.encoded.ids.iter().map(|&id| model.tokenizer.token(id).text).collect();
                notebook_sentence_start(&texts)
            }
        }
    }
}

/// A cell of the pair's row, for a template; the error names the columns that there are.
pub(super) fn cell<'a>(pair: &'a Pair, column: &str) -> Result<&'a str, String> {
    match pair.cells.get(column) {
        Some(cell) => Ok(cell),
        None if column == "entity" => Ok(&pair.entity),
        None => {
            let known: Vec<_> = pair.cells.keys().map(|name| format!("`{name}`")).collect();
            Err(known.join(", "))
        }
    }
}

impl Draft {
    fn new(model: &Model, pair: &Pair, asked: &Checked) -> Result<Self, PrepareError> {
        let settings = &asked.settings;
        let config = &model.network.config;
        if let Some(&site) = settings.sites.items().iter().find(|&&site| !config.has_site(site)) {
            let architecture = config.architecture;
            return Err(PrepareError::Site(SweepError::NoSite { site, architecture }));
        }
        let direction = settings.direction.each()[0];
        let (source, base) = match direction {
            Direction::Denoising => (&pair.source, &pair.base),
            Direction::Noising => (&pair.base, &pair.source),
        };
        let template = asked.template.as_ref();
        let source = Side::new(model, pair, source, template, "source")?;
        let mut base = Side::new(model, pair, base, template, "base")?;
        let (source_ids, base_ids) = (&source.encoded.ids, &base.encoded.ids);
        let n_same = source_ids.iter().zip(base_ids).take_while(|(s, b)| s == b).count();
        let needs_two = settings.noise.is_none_or(|span| span == Span::Differing);
        if needs_two && n_same == source_ids.len() && n_same == base_ids.len() {
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
        let mut alignment = Alignment::new(source_ids, base_ids, starts, settings.align, pad);
        let mut noised = Vec::new();
        if let Some(span) = settings.noise {
            let sides =
                Sides { alignment: &alignment, source: &source, base: &base, entity: &pair.entity };
            noised = sides.in_source(span)?;
            // The base is the source prompt with noise, swept from where the noise begins.
            let start = starts.0.min(noised[0]);
            alignment = Alignment::new(source_ids, source_ids, (start, start), Align::Right, 0);
            alignment.first_difference = noised[0];
            base = Side::new(model, pair, &source.sentence, template, "base")?;
        }
        let sides =
            Sides { alignment: &alignment, source: &source, base: &base, entity: &pair.entity };
        let spans = settings.positions.items().iter().filter(|span| **span != Span::Each);
        let spans = spans.map(|&span| sides.swept(span)).collect::<Result<_, _>>()?;
        let (answers, ids) = answers(model, pair, asked)?;
        check_tokens(model, &alignment, &ids)?;
        Ok(Self { source, base, alignment, spans, noised, answers, ids, direction })
    }
}

/// Every token must have an embedding and every run fit into the model's context.
fn check_tokens(
    model: &Model,
    alignment: &Alignment,
    answers: &AnswerIds,
) -> Result<(), PrepareError> {
    let Config { d_vocab, n_context: limit, .. } = model.network.config;
    let (source_padding, source) = alignment.source.split_at(alignment.source_padding);
    let (base_padding, base) = alignment.base.split_at(alignment.base_padding);
    let (AnswerIds::Single { true_ids, false_ids } | AnswerIds::Continued { true_ids, false_ids }) =
        answers;
    for (part, ids) in [
        ("padding", source_padding),
        ("padding", base_padding),
        ("the source prompt", source),
        ("the base prompt", base),
        ("the answers", true_ids),
        ("the answers", false_ids),
    ] {
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= d_vocab) {
            let (token, is_padding) = (model.tokenizer.token(id).text, part == "padding");
            return Err(PrepareError::BeyondVocabulary { token, id, part, d_vocab, is_padding });
        }
    }
    // The last token of an answer is not read, only its probability.
    let n_more = match answers {
        AnswerIds::Single { .. } => 0,
        AnswerIds::Continued { .. } => true_ids.len().max(false_ids.len()) - 1,
    };
    for (prompt, ids, padding) in [
        ("source", &alignment.source, alignment.source_padding),
        ("base", &alignment.base, alignment.base_padding),
    ] {
        let found = ids.len() + n_more;
        if found > limit {
            let (padded, answered) = (padding > 0, n_more > 0);
            return Err(PrepareError::TooLong { prompt, found, padded, answered, limit });
        }
    }
    Ok(())
}

/// The swept positions of both runs, base and source.
fn swept(alignment: &Alignment) -> [(&Vec<u32>, Range<usize>); 2] {
    let Alignment { source, base, start, .. } = alignment;
    let n = base.len() - start;
    [(base, *start..base.len()), (source, source.len() - n..source.len())]
}

/// What the mean of an ablation is taken over: the swept positions of all prompts of the table.
/// `None` if no mean is asked for.
///
/// # Errors
/// What is wrong with a pair, and which.
pub fn mean_over<'a>(
    model: &Model,
    pairs: impl IntoIterator<Item = &'a Pair>,
    asked: &Checked,
) -> Result<Option<Arc<MeanOver>>, (&'a Pair, PrepareError)> {
    if asked.settings.write != Written::Mean {
        return Ok(None);
    }
    let mut runs = Vec::new();
    for pair in pairs {
        let draft = Draft::new(model, pair, asked).map_err(|error| (pair, error))?;
        runs.extend(swept(&draft.alignment).map(|(tokens, at)| (tokens.clone(), at)));
    }
    Ok(Some(Arc::new(MeanOver { runs })))
}

impl Experiment {
    /// Makes prompts, tokens and answers of a pair, aligns them, and says what is run. `mean` is
    /// that of the table, see [`mean_over`]; without it an ablation by the mean takes the pair's own.
    ///
    /// # Errors
    /// [`PrepareError`], before any long work.
    pub fn prepare(
        model: &Model,
        pair: &Pair,
        asked: &Checked,
        mean: Option<&Arc<MeanOver>>,
    ) -> Result<Self, PrepareError> {
        let Draft { source, base, alignment, spans, noised, answers, ids, direction } =
            Draft::new(model, pair, asked)?;
        let config = &model.network.config;
        let mean = match asked.settings.write {
            Written::Mean => Some(mean.cloned().unwrap_or_else(|| {
                let runs = swept(&alignment).map(|(tokens, at)| (tokens.clone(), at)).to_vec();
                Arc::new(MeanOver { runs })
            })),
            _ => None,
        };
        let subject = Subject {
            alignment,
            spans,
            noised,
            answers: ids,
            mean,
            dimensions: Dimensions {
                n_layers: config.n_layers,
                n_heads: config.n_heads,
                n_kv_heads: config.n_kv_heads,
            },
        };
        let specification = Specification::new(&asked.settings, &subject);
        Ok(Self {
            specification,
            settings: asked.settings.clone(),
            alignment: subject.alignment,
            entity: pair.entity.clone(),
            source_prompt: source.prompt.text,
            base_prompt: base.prompt.text,
            answers,
            source_sentence: source.sentence,
            base_sentence: base.sentence,
            template: asked.template.as_ref().map(|template| template.text().to_string()),
            direction,
            spans: subject.spans,
        })
    }

    /// The identity of the result: a hash of what determines its numbers. It needs the whole of the
    /// model's files to have been read, see [`Fingerprint::get`](crate::model::Fingerprint::get).
    ///
    /// # Errors
    /// Files that cannot be read, or that were changed since the model was opened.
    pub fn id(&self, model: &Model) -> Result<String, ModelError> {
        let determinants = serde_json::json!({
            "numerics": NUMERICS,
            "model": model.fingerprint.get()?,
            "dtype": model.network.placement.dtype.as_str(),
            "experiment": self.specification.digest(),
        });
        Ok(content_id(&determinants.to_string()))
    }
}
