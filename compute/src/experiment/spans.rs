//! Which positions a named set is, in a pair's prompts.

use std::ops::Range;

use shared::specification::SpanPositions;
use shared::specification::alignment::Alignment;
use shared::specification::vocabulary::Span;

use super::error::PrepareError;
use super::prepare::PairPrompt;

/// A longer text is no name that prompts are searched for, in bytes.
const MAX_NAME: usize = 1_000;

/// Two prompts, aligned.
pub(super) struct Sides<'a> {
    pub(super) alignment: &'a Alignment,
    pub(super) source: &'a PairPrompt,
    pub(super) base: &'a PairPrompt,
    pub(super) entity: &'a str,
}

impl Sides<'_> {
    /// The swept positions of `span` in both runs.
    pub(super) fn swept(&self, span: Span) -> Result<SpanPositions, PrepareError> {
        let a = self.alignment;
        let [base_differing, source_differing] = differing(a);
        let of = |side: &PairPrompt, padding: usize, swept: Range<usize>, differing: Vec<usize>| {
            let positions = match span {
                Span::Differing => Ok(differing),
                _ => side.positions(span, self.entity, &swept, padding),
            };
            let positions = positions.map(|positions: Vec<usize>| {
                positions.into_iter().filter(|position| swept.contains(position)).collect()
            });
            match positions {
                Ok(positions) => some(span, side.name, positions, "none of the swept ones is"),
                Err(why) => Err(PrepareError::NoSpan { span, prompt: side.name, why }),
            }
        };
        let base = of(self.base, a.base_padding, a.swept_in_base(), base_differing)?;
        let source = of(self.source, a.source_padding, a.swept_in_source(), source_differing)?;
        Ok(SpanPositions { span, base, source })
    }

    /// The positions of `span` in the whole source prompt without padding, for noise.
    pub(super) fn in_source(&self, span: Span) -> Result<Vec<usize>, PrepareError> {
        let a = self.alignment;
        let start = a.source_start.saturating_sub(a.source_padding);
        let n = a.source.len() - a.source_padding;
        let prompt = self.source.name;
        let positions = match span {
            Span::Differing => {
                let [_, of_source] = differing(a);
                let unpadded = of_source.iter().filter_map(|p| p.checked_sub(a.source_padding));
                unpadded.filter(|&p| p >= start).collect()
            }
            _ => self
                .source
                .positions(span, self.entity, &(start..n), 0)
                .map_err(|why| PrepareError::NoSpan { span, prompt, why })?,
        };
        some(span, prompt, positions, "no position is")
    }
}

/// The swept positions of base and source at which the other run has another token or none.
fn differing(alignment: &Alignment) -> [Vec<usize>; 2] {
    let Alignment { source, base, .. } = alignment;
    let in_base = alignment.swept_in_base().filter(|&p| {
        let at = alignment.source_position(p);
        at.and_then(|at| source.get(at)) != base.get(p)
    });
    let in_source = alignment.swept_in_source().filter(|&p| {
        let at = alignment.base_position(p);
        at.and_then(|at| base.get(at)) != source.get(p)
    });
    [in_base.collect(), in_source.collect()]
}

fn some(
    span: Span,
    prompt: &'static str,
    positions: Vec<usize>,
    why: &'static str,
) -> Result<Vec<usize>, PrepareError> {
    match positions.is_empty() {
        true => Err(PrepareError::NoSpan { span, prompt, why }),
        false => Ok(positions),
    }
}

impl PairPrompt {
    /// Its tokens that name `entity`; none where there is no such name.
    pub(super) fn entity_tokens(&self, entity: &str) -> Vec<usize> {
        let name = entity.trim();
        let mentions = match !name.is_empty() && name.len() <= MAX_NAME {
            true => mentions(&self.prompt.text, name),
            false => Vec::new(),
        };
        let tokens = mentions.into_iter().flat_map(|bytes| self.encoded.tokens_in(bytes));
        let mut tokens: Vec<_> = tokens.collect();
        tokens.dedup();
        tokens
    }

    /// The positions of `span` in this prompt with `padding` before it, of which `swept` are swept.
    fn positions(
        &self,
        span: Span,
        entity: &str,
        swept: &Range<usize>,
        padding: usize,
    ) -> Result<Vec<usize>, &'static str> {
        let tokens = |bytes: Range<usize>| self.encoded.tokens_in(bytes).map(|p| p + padding);
        match span {
            Span::Entity if entity.trim().is_empty() => Err("the pair has no entity"),
            Span::Entity => {
                let positions = self.entity_tokens(entity).into_iter().map(|p| p + padding);
                match positions.len() {
                    0 => Err("it does not name the entity"),
                    _ => Ok(positions.collect()),
                }
            }
            Span::Sentence => {
                let sentence = self.prompt.sentence.clone();
                let sentence = sentence.ok_or("only a template tells where the sentence is")?;
                let last = tokens(sentence).last().ok_or("the sentence has no tokens")?;
                Ok((swept.start..last + 1).collect())
            }
            Span::All | Span::Each | Span::Differing => Ok(swept.clone().collect()),
        }
    }
}

/// The bytes of `text` where it has `name` as whole words, in whatever case.
fn mentions(text: &str, name: &str) -> Vec<Range<usize>> {
    let mut mentions: Vec<Range<usize>> = Vec::new();
    for (start, _) in text.char_indices() {
        let end = start + name.len();
        let is_name = text.get(start..end).is_some_and(|found| found.eq_ignore_ascii_case(name));
        let is_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let bounds = |inner: Option<char>, outer: Option<char>| is_word(inner) && is_word(outer);
        if is_name
            && !bounds(name.chars().next(), text[..start].chars().next_back())
            && !bounds(name.chars().next_back(), text[end..].chars().next())
            && mentions.last().is_none_or(|last| last.end <= start)
        {
            mentions.push(start..end);
        }
    }
    mentions
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "a list of one range is meant")]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_as_whole_words() {
        let cases: [(&str, &str, &[Range<usize>]); 7] = [
            ("The guards met the guard.", "the guard", &[15..24]),
            ("Ann saw Anna and ann", "Ann", &[0..3, 17..20]),
            ("Ann's hat", "Ann", &[0..3]),
            ("éAnn Ann", "Ann", &[6..9]),
            ("Åsa met åsa", "Åsa", &[0..4]),
            ("(A) A", "(A)", &[0..3]),
            ("aaaa aa", "aa", &[5..7]),
        ];
        for (text, name, expected) in cases {
            assert_eq!(mentions(text, name), expected, "{text} {name}");
        }
    }
}
