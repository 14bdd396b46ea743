//! The answers' words and the tokens that count as them.

use shared::document::{Answer, Answers, Token};
use shared::specification::AnswerIds;
use shared::specification::alignment::answer_variants;
use shared::specification::pairs::Pair;
use shared::specification::settings::Checked;
use shared::specification::template::{Template, TemplateError};

use super::error::PrepareError;
use super::prepare::cell;
use crate::model::Description;

/// Finds a pair's answers. Where either has no variant of a single token, both are read token by
/// token.
pub(super) fn answers(
    model: &Description,
    pair: &Pair,
    asked: &Checked,
) -> Result<(Answers, AnswerIds), PrepareError> {
    let column = |name: &str| pair.cells.get(name).filter(|cell| !cell.is_empty()).cloned();
    let words = match &asked.answers {
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
    let is_exact = asked.settings.exact_answers;
    let [yes, no] = words.map(|word| single(model, word, is_exact));
    let (yes, no) = (yes?, no?);
    if yes.kept.is_empty() || no.kept.is_empty() {
        return continued(model, [yes, no], is_exact);
    }
    if let Some(token) = yes.kept.iter().find(|t| no.kept.iter().any(|f| f.id == t.id)) {
        return Err(PrepareError::SharedToken(yes.word, no.word, token.text.clone()));
    }
    let ids = |answer: &Answer| answer.kept.iter().map(|token| token.id).collect();
    let ids = AnswerIds::Single { true_ids: ids(&yes), false_ids: ids(&no) };
    Ok((Answers { true_answer: yes, false_answer: no }, ids))
}

/// The variants of a word that are a single token.
fn single(model: &Description, word: String, is_exact: bool) -> Result<Answer, PrepareError> {
    let variants = if is_exact { vec![word.clone()] } else { answer_variants(&word) };
    let (mut kept, mut dropped) = (Vec::<Token>::new(), Vec::new());
    for variant in variants {
        match model.tokenizer.single_token(&variant)? {
            Some(token) if kept.iter().any(|k| k.id == token.id) => {}
            Some(token) => kept.push(token),
            None => dropped.push(variant),
        }
    }
    Ok(Answer { word, kept, dropped, continued: Vec::new() })
}

/// Both answers as continuations of the prompt: as written, or with the space that a model would
/// write before a word.
fn continued(
    model: &Description,
    answers: [Answer; 2],
    is_exact: bool,
) -> Result<(Answers, AnswerIds), PrepareError> {
    let [yes, no] = answers.map(|answer| {
        let text = match is_exact || answer.word.starts_with(char::is_whitespace) {
            true => answer.word.clone(),
            false => format!(" {}", answer.word),
        };
        let continued = model.tokenizer.continuation(&text)?;
        match continued.is_empty() {
            true => Err(PrepareError::NoAnswer(answer.word)),
            false => Ok(Answer { kept: Vec::new(), dropped: Vec::new(), continued, ..answer }),
        }
    });
    let (yes, no) = (yes?, no?);
    if yes.continued == no.continued {
        return Err(PrepareError::SameAnswers(yes.word, no.word));
    }
    let ids = |answer: &Answer| answer.continued.iter().map(|token| token.id).collect();
    let ids = AnswerIds::Continued { true_ids: ids(&yes), false_ids: ids(&no) };
    Ok((Answers { true_answer: yes, false_answer: no }, ids))
}
