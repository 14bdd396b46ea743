//! A pair's prompts, tokens, alignment, spans and answers, and the experiment that they make.

use std::ops::Range;
use std::sync::Arc;

use shared::document::{Answers, Roles, content_id};
use shared::specification::alignment::{Alignment, Side, notebook_sentence_start};
use shared::specification::correspondence::{COLUMN, Correspondence};
use shared::specification::marks::Marked;
use shared::specification::pairs::Pair;
use shared::specification::roles::{Name, PromptTokens, Role, roles};
use shared::specification::settings::Checked;
use shared::specification::template::{Prompt, Template};
use shared::specification::vocabulary::{Align, Direction, Span, Written};
use shared::specification::{AnswerIds, MeanOver, SpanPositions, Specification, Subject};

use super::answers::answers;
use super::error::PrepareError;
use super::spans::Sides;
use super::{Experiment, NUMERICS};
use crate::model::{Config, Description, Encoded, ModelError};
use crate::sweep::SweepError;

/// One side of a pair.
pub(super) struct PairPrompt {
    pub(super) name: &'static str,
    /// Without the user's marks.
    pub(super) sentence: String,
    /// The bytes of the sentence that are marked.
    pub(super) marks: Vec<(Name, Range<usize>)>,
    pub(super) prompt: Prompt,
    pub(super) encoded: Encoded,
}

/// What a pair comes to before the table's means are known.
struct Draft {
    source: PairPrompt,
    base: PairPrompt,
    alignment: Alignment,
    roles: Roles,
    spans: Vec<SpanPositions>,
    noised: Vec<usize>,
    answers: Answers,
    ids: AnswerIds,
    direction: Direction,
}

impl PairPrompt {
    fn new(
        model: &Description,
        pair: &Pair,
        sentence: &str,
        template: Option<&Template>,
        name: &'static str,
    ) -> Result<Self, PrepareError> {
        let Marked { text: sentence, marks } = Marked::read(sentence, &pair.cells, name)?;
        let prompt = match template {
            None => Prompt { text: sentence.clone(), sentence: None },
            Some(template) => template.fill(|column| match column {
                "sentence" => Ok(&sentence),
                column => cell(pair, column),
            })?,
        };
        let encoded = model.tokenizer.encode(&prompt.text)?;
        if encoded.ids.is_empty() {
            return Err(PrepareError::EmptyPrompt(name));
        }
        Ok(Self { name, sentence, marks, prompt, encoded })
    }

    /// What is known of its tokens.
    fn tokens(&self, entity: &str) -> PromptTokens<'_> {
        let tokens = |bytes: Range<usize>| {
            let mut tokens = self.encoded.tokens_in(bytes);
            let first = tokens.next()?;
            Some(first..tokens.last().unwrap_or(first) + 1)
        };
        let begin = self.prompt.sentence.as_ref().map_or(0, |sentence| sentence.start);
        let marked = self.marks.iter().filter_map(|(name, bytes)| {
            Some((*name, tokens(begin + bytes.start..begin + bytes.end)?))
        });
        PromptTokens {
            ids: &self.encoded.ids,
            sentence: self.prompt.sentence.clone().and_then(tokens),
            entity: self.entity_tokens(entity),
            marked: marked.collect(),
        }
    }

    /// The bytes of the sentence that each token stands for, with `n_padding` tokens before them.
    fn sentence_bytes(&self, n_padding: usize) -> Vec<Option<[usize; 2]>> {
        let sentence = self.prompt.sentence.clone().unwrap_or(0..self.prompt.text.len());
        let within = |bytes: Range<usize>| {
            let (begin, end) = (bytes.start.max(sentence.start), bytes.end.min(sentence.end));
            (begin < end).then(|| [begin - sentence.start, end - sentence.start])
        };
        let padding = std::iter::repeat_n(None, n_padding);
        padding.chain(self.encoded.bytes().map(within)).collect()
    }

    /// The sentence's first token: where the template says, or else where the notebook finds it.
    fn start(&self, model: &Description) -> Option<usize> {
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
    fn new(model: &Description, pair: &Pair, asked: &Checked) -> Result<Self, PrepareError> {
        let settings = &asked.settings;
        let config = &model.config;
        if let Some(&site) = settings.sites.items().iter().find(|&&site| !config.has_site(site)) {
            let architecture = config.architecture;
            return Err(PrepareError::Site(SweepError::NoSite { site, architecture }));
        }
        let direction = settings.direction.each()[0];
        let (source_text, base_text) = match direction {
            Direction::Denoising => (&pair.source, &pair.base),
            Direction::Noising => (&pair.base, &pair.source),
        };
        let template = asked.template.as_ref();
        let source = PairPrompt::new(model, pair, source_text, template, "source")?;
        let mut base = PairPrompt::new(model, pair, base_text, template, "base")?;
        let (source_ids, base_ids) = (&source.encoded.ids, &base.encoded.ids);
        // Before anything that takes time with the length.
        let limit = model.config.n_context;
        for (prompt, ids) in [("source", source_ids), ("base", base_ids)] {
            if ids.len() > limit {
                let found = ids.len();
                let (padded, answered) = (false, false);
                return Err(PrepareError::TooLong { prompt, found, padded, answered, limit });
            }
        }
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
        let (source_tokens, base_tokens) = (source.tokens(&pair.entity), base.tokens(&pair.entity));
        let source_roles = roles(&source_tokens, &base_tokens);
        let base_roles = roles(&base_tokens, &source_tokens);
        let source_side = Side { ids: source_ids, start: starts.0, roles: &source_roles };
        let base_side = Side { ids: base_ids, start: starts.1, roles: &base_roles };
        let by_hand = by_hand(pair, settings.align, direction)?;
        by_hand.check(source_ids.len(), base_ids.len())?;
        let mut alignment = Alignment::new(source_side, base_side, settings.align, pad, &by_hand);
        let writes_source = settings.write == Written::Source;
        if writes_source && alignment.source_positions.iter().all(Option::is_none) {
            return Err(PrepareError::NothingCorresponds(settings.align));
        }
        let mut roles = Roles {
            base: with_padding(alignment.base_padding, &base_roles),
            source: with_padding(alignment.source_padding, &source_roles),
        };
        let mut noised = Vec::new();
        if let Some(span) = settings.noise {
            let sides =
                Sides { alignment: &alignment, source: &source, base: &base, entity: &pair.entity };
            noised = sides.in_source(span)?;
            // The base is the source prompt with noise, swept from where the noise begins.
            let start = starts.0.min(noised[0]);
            let side = Side { start, ..source_side };
            alignment = Alignment::new(side, side, Align::Right, 0, &Correspondence::default());
            alignment.first_difference = noised[0];
            roles = Roles { base: source_roles.clone(), source: source_roles };
            base = PairPrompt::new(model, pair, source_text, template, "base")?;
        }
        let sides =
            Sides { alignment: &alignment, source: &source, base: &base, entity: &pair.entity };
        let spans = settings.positions.items().iter().filter(|span| **span != Span::Each);
        let spans = spans.map(|&span| sides.swept(span)).collect::<Result<_, _>>()?;
        let (answers, ids) = answers(model, pair, asked)?;
        check_tokens(model, &alignment, &ids)?;
        Ok(Self { source, base, alignment, roles, spans, noised, answers, ids, direction })
    }
}

/// What the pair's row says of an alignment by hand, for the prompts in their places.
fn by_hand(
    pair: &Pair,
    align: Align,
    direction: Direction,
) -> Result<Correspondence, PrepareError> {
    if align != Align::Hand {
        return Ok(Correspondence::default());
    }
    let cell = pair.cells.get(COLUMN).filter(|cell| !cell.is_empty());
    let of_table: Correspondence = cell.ok_or(PrepareError::NoCorrespondence)?.parse()?;
    Ok(match direction {
        Direction::Denoising => of_table,
        Direction::Noising => of_table.swapped(),
    })
}

/// The roles of a run's tokens; padding is before everything.
fn with_padding(n_padding: usize, roles: &[Role]) -> Vec<Role> {
    std::iter::repeat_n(Role::Before, n_padding).chain(roles.iter().copied()).collect()
}

/// Every token must have an embedding and every run fit into the model's context.
fn check_tokens(
    model: &Description,
    alignment: &Alignment,
    answers: &AnswerIds,
) -> Result<(), PrepareError> {
    let Config { d_vocab, n_context: limit, .. } = model.config;
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
    let Alignment { source, base, .. } = alignment;
    [(base, alignment.swept_in_base()), (source, alignment.swept_in_source())]
}

/// What the mean of an ablation is taken over: the swept positions of all prompts of the table.
/// `None` if no mean is asked for.
///
/// # Errors
/// What is wrong with a pair, and which.
pub fn mean_over<'a>(
    model: &Description,
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
        model: &Description,
        pair: &Pair,
        asked: &Checked,
        mean: Option<&Arc<MeanOver>>,
    ) -> Result<Self, PrepareError> {
        let Draft { source, base, alignment, roles, spans, noised, answers, ids, direction } =
            Draft::new(model, pair, asked)?;
        let config = &model.config;
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
            dimensions: config.dimensions(),
        };
        let specification = Specification::new(&asked.settings, &subject);
        Ok(Self {
            specification,
            source_bytes: source.sentence_bytes(subject.alignment.source_padding),
            base_bytes: base.sentence_bytes(subject.alignment.base_padding),
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
            roles,
            row: pair.cells.clone(),
            spans: subject.spans,
        })
    }

    /// The identity of the result: a hash of what determines its numbers. It needs the whole of the
    /// model's files to have been read, see [`Fingerprint::get`](crate::model::Fingerprint::get).
    ///
    /// # Errors
    /// Files that cannot be read, or that were changed since the model was opened.
    pub fn id(&self, model: &Description) -> Result<String, ModelError> {
        let dtype = &model.dtype;
        let digest = self.specification.digest();
        Ok(id_of(NUMERICS, model.fingerprint.get()?, dtype, &digest, &self.roles))
    }
}

/// The id of what an engine of these `numerics` computes in a type, of a model by its `fingerprint`
/// and of a specification by its `digest`, of prompts with these `roles`.
fn id_of(numerics: u32, fingerprint: &str, dtype: &str, digest: &str, roles: &Roles) -> String {
    let determinants = serde_json::json!({
        "numerics": numerics,
        "model": fingerprint,
        "dtype": dtype,
        "experiment": digest,
        // They decide nothing here, and what the cells are pooled by in a study.
        "roles": roles,
    });
    content_id(&determinants.to_string())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use shared::specification::settings::Settings;

    use super::*;
    use crate::model::Loader;

    #[test]
    fn an_id_is_of_the_engine_the_model_the_type_and_the_specification() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracle/models/tiny-llama3");
        let model = Loader::new(&path).load().unwrap();
        let pair = Pair {
            line: 1,
            entity: "the king".into(),
            source: "the king rules".into(),
            base: "the king sleeps".into(),
            cells: Default::default(),
        };
        let settings = Settings::default().check().unwrap();
        let experiment = Experiment::prepare(&model, &pair, &settings, None).unwrap();
        let fingerprint = model.fingerprint.get().unwrap();
        let digest = experiment.specification.digest();
        let id = experiment.id(&model).unwrap();
        let roles = &experiment.roles;
        let no_roles = Roles { base: Vec::new(), source: Vec::new() };
        assert_eq!(id, id_of(NUMERICS, fingerprint, "f32", &digest, roles));
        for other in [
            id_of(NUMERICS + 1, fingerprint, "f32", &digest, roles),
            id_of(NUMERICS, "another model", "f32", &digest, roles),
            id_of(NUMERICS, fingerprint, "bf16", &digest, roles),
            id_of(NUMERICS, fingerprint, "f32", "another specification", roles),
            id_of(NUMERICS, fingerprint, "f32", &digest, &no_roles),
        ] {
            assert_ne!(id, other);
        }
    }
}
