//! An experiment that is being thought up: what the viewer's form holds, as it stands in the
//! address and as it is sent to a server.

use std::ops::Range;

use form_urlencoded::Serializer;

use crate::document::{Answer, Document, Prompt};
use crate::specification::correspondence::{COLUMN, Correspondence};
use crate::specification::marks::{MarkError, Marked};
use crate::specification::roles::Name;
use crate::specification::settings::{AnswerPair, Settings};
use crate::specification::template::{NO_TEMPLATE, SHIPPED, Template};
use crate::specification::vocabulary::{Align, Direction, Directions};
use crate::wire::job::{Job, JobPair, PairInput, Submission, TableInput};

/// What the form holds. A pasted table is too long for an address and stays on the page.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Draft {
    /// Whether the pairs come from a table.
    pub is_table: bool,
    /// The model's name; empty for the server's first.
    pub model: String,
    /// What both sentences are about.
    pub entity: String,
    /// The sentence whose activations are patched in.
    pub source: String,
    /// The sentence that receives them.
    pub base: String,
    /// What corresponds where one pair is aligned by hand; `None` until it is known what the
    /// alignment begins with.
    pub by_hand: Option<Correspondence>,
    /// What is asked of the pairs.
    pub settings: Settings,
}

impl Draft {
    /// What was submitted as a pair of a job, to be changed and submitted again.
    pub fn of(job: &Job, pair: &JobPair) -> Self {
        Self {
            is_table: false,
            model: job.model.clone(),
            entity: pair.entity.clone(),
            source: pair.source.clone(),
            base: pair.base.clone(),
            by_hand: pair.by_hand.as_ref().and_then(|text| text.parse().ok()),
            // Whoever wants cells verified says so anew.
            settings: Settings { verify: 0, ..job.settings.clone() },
        }
    }

    /// What a finished result was asked for with, to be changed or computed again; `None` where it
    /// does not say all that this takes.
    pub fn of_result(document: &Document) -> Option<Self> {
        let answers = document.answers.as_ref()?;
        let answers = [&answers.true_answer, &answers.false_answer];
        let direction = document.direction?;
        let sentences = [marked(document, Prompt::Source)?, marked(document, Prompt::Base)?];
        let [source, base] = match direction {
            Direction::Denoising => sentences,
            Direction::Noising => {
                let [source, base] = sentences;
                [base, source]
            }
        };
        let is_exact = |answer: &&Answer| {
            answer.dropped.is_empty() && matches!(&*answer.kept, [one] if one.text == answer.word)
        };
        let asked = match &document.settings {
            Some(settings) => settings.clone(),
            None => Settings {
                sites: document.site?.into(),
                align: document.align?,
                direction: match direction {
                    Direction::Denoising => Directions::Denoising,
                    Direction::Noising => Directions::Noising,
                },
                exact_answers: answers.iter().all(is_exact),
                readout: document.readout.is_some(),
                ..Settings::default()
            },
        };
        let by_hand = match asked.align {
            Align::Hand => Some(document.row.get(COLUMN)?.parse().ok()?),
            _ => None,
        };
        Some(Self {
            is_table: false,
            model: document.model.clone(),
            entity: document.entity.clone(),
            source,
            base,
            by_hand,
            settings: Settings {
                // What the table's columns gave is in the texts.
                template: template(document)?,
                answers: Some(AnswerPair(answers.map(|answer| literal(&answer.word)))),
                verify: 0,
                ..asked
            },
        })
    }

    /// Reads the query of an address. What is not understood is left out.
    pub fn parse(query: &str) -> Self {
        let mut draft = Self::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "table" => draft.is_table = value == "1",
                "model" => draft.model = value.into_owned(),
                "entity" => draft.entity = value.into_owned(),
                "source" => draft.source = value.into_owned(),
                "base" => draft.base = value.into_owned(),
                "by_hand" => draft.by_hand = value.parse().ok(),
                name => drop(draft.settings.set(name, &value)),
            }
        }
        draft
    }

    /// Writes the query of an address: whatever is not as by default.
    pub fn write(&self, query: &mut Serializer<'_, String>) {
        let texts = [
            ("table", if self.is_table { "1" } else { "" }),
            ("model", &*self.model),
            ("entity", &self.entity),
            ("source", &self.source),
            ("base", &self.base),
        ];
        query.extend_pairs(texts.iter().filter(|(_, value)| !value.is_empty()));
        if let Some(by_hand) = &self.by_hand {
            query.append_pair("by_hand", &by_hand.to_string());
        }
        query.extend_pairs(self.settings.texts());
    }

    /// Whether an alignment by hand does not know yet what it begins with.
    pub fn begins_by_hand(&self) -> bool {
        !self.is_table && self.settings.align == Align::Hand && self.by_hand.is_none()
    }

    /// What is asked for a preview: an alignment by hand begins with what [`Align::Diff`] finds.
    pub fn previewed(&self) -> Self {
        let mut draft = self.clone();
        if self.begins_by_hand() {
            draft.settings.align = Align::Diff;
        }
        draft
    }

    /// Whether the base supplies activations, so that it is the source of what is run.
    fn is_swapped(&self) -> bool {
        self.settings.direction.each()[0] == Direction::Noising
    }

    /// The sentence that one of the prompts that are run is made of. With noise both are made of the
    /// one.
    pub fn sentence(&self, prompt: Prompt) -> &str {
        match self.is_of_source(prompt) {
            true => &self.source,
            false => &self.base,
        }
    }

    /// Whether one of the prompts that are run is made of the field for the source.
    fn is_of_source(&self, prompt: Prompt) -> bool {
        let is_source = prompt == Prompt::Source || self.settings.noise.is_some();
        is_source != self.is_swapped()
    }

    /// Gives the bytes of a prompt's sentence, marks not counted, the role of this name, or none of
    /// the reader's.
    ///
    /// # Errors
    /// Words that cannot be marked.
    pub fn mark(
        &mut self,
        prompt: Prompt,
        bytes: Range<usize>,
        name: Option<Name>,
    ) -> Result<(), MarkError> {
        let mut marked = Marked::in_text(self.sentence(prompt), prompt.name())?;
        marked.mark(bytes, name);
        let sentence = match self.is_of_source(prompt) {
            true => &mut self.source,
            false => &mut self.base,
        };
        *sentence = marked.written(prompt.name())?;
        Ok(())
    }

    /// What corresponds of the prompts that are run, base to source, where that is said by hand.
    pub fn correspondence(&self) -> Option<Correspondence> {
        let by_hand = self.by_hand.as_ref().filter(|_| self.settings.align == Align::Hand)?;
        Some(if self.is_swapped() { by_hand.swapped() } else { by_hand.clone() })
    }

    /// Says by hand what corresponds of the prompts that are run, base to source.
    pub fn align_by_hand(&mut self, correspondence: Correspondence) {
        let by_hand = if self.is_swapped() { correspondence.swapped() } else { correspondence };
        self.settings.align = Align::Hand;
        self.by_hand = Some(by_hand);
    }

    /// What is sent to the server; `None` while there is too little of it. With
    /// [`Self::is_table`], `table` and its file's name are the pairs.
    pub fn submission(&self, table: Option<(TableInput, String)>) -> Option<Submission> {
        let (pairs, table, name) = if self.is_table {
            let (table, name) = table.filter(|(table, _)| !table.text.trim().is_empty())?;
            (Vec::new(), Some(table), name)
        } else {
            if self.source.trim().is_empty() || self.base.trim().is_empty() {
                return None;
            }
            let mut pair = PairInput {
                entity: self.entity.trim().to_string(),
                source: self.source.clone(),
                base: self.base.clone(),
                ..PairInput::default()
            };
            if let (Align::Hand, Some(by_hand)) = (self.settings.align, &self.by_hand) {
                pair.cells.insert(COLUMN.to_string(), by_hand.to_string());
            }
            let name = if pair.entity.is_empty() { &self.source } else { &pair.entity };
            let name: String = name.chars().take(60).collect();
            (vec![pair], None, name)
        };
        Some(Submission {
            model: Some(self.model.clone()).filter(|model| !model.is_empty()),
            name: Some(name).filter(|name| !name.is_empty()),
            pairs,
            table,
            settings: self.settings.clone(),
            again: false,
        })
    }

    /// The answers that count for and against; both empty where none are given.
    pub fn answers(&self) -> AnswerPair {
        self.settings.answers.clone().unwrap_or_default()
    }

    /// Sets the answers; both empty for none.
    pub fn set_answers(&mut self, answers: AnswerPair) {
        self.settings.answers = Some(answers).filter(|answers| *answers != AnswerPair::default());
    }
}

/// The sentence of one of a result's prompts, with the marks that its roles tell.
fn marked(document: &Document, prompt: Prompt) -> Option<String> {
    let (text, sentence, tokens) = match prompt {
        Prompt::Source => {
            (&document.source_prompt, &document.source_sentence, &document.source_tokens)
        }
        Prompt::Base => (&document.base_prompt, &document.base_sentence, &document.base_tokens),
    };
    let roles = document.roles.as_ref().map(|roles| roles.of(prompt)).unwrap_or_default();
    let texts: Vec<_> = tokens.iter().map(|token| &*token.text).collect();
    Marked::of_roles(text, sentence, &texts, roles)?.written(prompt.name()).ok()
}

/// A text as a template has it.
fn literal(text: &str) -> String {
    text.replace('{', "{{").replace('}', "}}")
}

/// The template of a result: by its name, as it is where it takes nothing that the result does not
/// hold, and otherwise with what its table gave it.
fn template(document: &Document) -> Option<String> {
    let Some(text) = &document.template else { return Some(NO_TEMPLATE.to_string()) };
    if let Some((name, _)) = SHIPPED.iter().find(|(_, shipped)| shipped == text) {
        return Some((*name).to_string());
    }
    let template = Template::prompt(text).ok()?;
    if template.columns().all(|column| matches!(column, "sentence" | "entity")) {
        return Some(text.clone());
    }
    let around = |prompt: &str, sentence: &str| {
        let (before, after) = prompt.split_once(sentence).filter(|_| !sentence.is_empty())?;
        // Where it stands twice, nobody knows which of them it is.
        let is_once = !after.contains(sentence);
        is_once.then(|| format!("{}{{sentence}}{}", literal(before), literal(after)))
    };
    let source = around(&document.source_prompt, &document.source_sentence)?;
    let base = around(&document.base_prompt, &document.base_sentence)?;
    (source == base).then_some(source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Roles, Token};
    use crate::fixture;
    use crate::specification::roles::Role;
    use crate::specification::vocabulary::{Site, Span};

    #[test]
    fn a_result_becomes_what_was_asked_for() {
        let mut document = fixture::document(&[&[Some(1.0)]]);
        assert_eq!(Draft::of_result(&document), None, "it does not say what the site is");
        document.site = Some(Site::MlpOut);
        document.align = Some(Align::Right);
        document.direction = Some(Direction::Noising);
        assert_eq!(Draft::of_result(&document), None, "nor the answers");
        document.answers = Some(fixture::answers("{a}", "no"));
        let draft = Draft::of_result(&document).unwrap();
        let asked = &draft.settings;
        let answers = AnswerPair(["{{a}}".into(), "no".into()]);
        assert_eq!((&*asked.template, asked.answers.as_ref()), ("none", Some(&answers)));
        assert_eq!((asked.sites.only(), asked.align), (Some(Site::MlpOut), Align::Right));
        assert_eq!(asked.direction, Directions::Noising);
        // What says all that it was asked is asked so again, but for what only a table has.
        let mut full = document.clone();
        full.settings = Some(Settings {
            template: "{rank} {sentence}".into(),
            window: 3,
            verify: 2,
            direction: Directions::Both,
            ..Settings::default()
        });
        let again = Draft::of_result(&full).unwrap().settings;
        assert_eq!((&*again.template, again.window, again.verify), ("none", 3, 0));
        assert_eq!(again.direction, Directions::Both);
        assert_eq!(
            (&*draft.source, &*draft.base),
            ("The council met them.", "The council fined them.")
        );

        let with = |template: &str, around: [&str; 2]| {
            let prompt = |sentence: &str| format!("{}{sentence}{}", around[0], around[1]);
            let document = Document {
                template: Some(template.into()),
                source_prompt: prompt(&document.source_sentence),
                base_prompt: prompt(&document.base_sentence),
                ..document.clone()
            };
            Draft::of_result(&document).map(|draft| draft.settings.template)
        };
        let shipped = SHIPPED[1];
        let cases = [
            (shipped.1, ["", ""], Some(shipped.0)),
            ("{entity}: {sentence}", ["x", "y"], Some("{entity}: {sentence}")),
            ("{rank}: {sentence}", ["{king}: ", " So?"], Some("{{king}}: {sentence} So?")),
            ("{rank}: {sentence}", ["The council met them. ", ""], None),
        ];
        for (template, around, expected) in cases {
            assert_eq!(with(template, around).as_deref(), expected, "{template}");
        }
    }

    #[test]
    fn a_result_keeps_its_marks_and_what_corresponds() {
        let mut document = fixture::document(&[&[Some(1.0)]]);
        let token = |text: &str| Token { id: 0, text: text.into() };
        document.site = Some(Site::MlpOut);
        document.align = Some(Align::Hand);
        document.direction = Some(Direction::Noising);
        document.answers = Some(fixture::answers("yes", "no"));
        let (source, base) = ("The council met them.", "The council fined them.");
        (document.source_prompt, document.base_prompt) = (source.into(), base.into());
        (document.source_sentence, document.base_sentence) = (source.into(), base.into());
        document.source_tokens = ["The", " council", " met", " them."].map(token).to_vec();
        document.base_tokens = ["The", " council", " fined", " them."].map(token).to_vec();
        let x: Role = "#body".parse().unwrap();
        document.roles = Some(Roles {
            source: vec![x, x, Role::LastDiffering, Role::Last],
            base: vec![Role::Before, Role::Before, Role::LastDiffering, Role::Last],
        });
        assert_eq!(Draft::of_result(&document), None, "it does not say what corresponds");
        document.row.insert(COLUMN.into(), "1-2:1-2".into());
        let draft = Draft::of_result(&document).unwrap();
        assert_eq!(draft.base, "[The council](#body) met them.");
        assert_eq!(draft.source, "The council fined them.");
        assert_eq!(draft.by_hand, "1-2:1-2".parse().ok());
    }

    #[test]
    fn roles_and_alignment_are_edited_as_they_are_run() {
        let mut draft = Draft {
            source: "The queen rules.".into(),
            base: "The queen waits.".into(),
            ..Draft::default()
        };
        let queen = "x".parse().ok();
        draft.mark(Prompt::Source, 3..9, queen).unwrap();
        assert_eq!(draft.source, "The [queen](#x) rules.");
        assert_eq!(draft.correspondence(), None);
        draft.align_by_hand("2:3".parse().unwrap());
        let cells = draft.submission(None).unwrap().pairs.remove(0).cells;
        assert_eq!(cells.get(COLUMN).map(String::as_str), Some("2:3"));
        // The other way round the base is what supplies; the cell is base to source as ever.
        draft.settings.direction = Directions::Noising;
        assert_eq!(draft.correspondence(), "3:2".parse().ok());
        draft.mark(Prompt::Source, 3..9, queen).unwrap();
        assert_eq!(draft.base, "The [queen](#x) waits.");
        draft.mark(Prompt::Base, 3..9, None).unwrap();
        assert_eq!(draft.source, "The queen rules.");
        // With noise both prompts are made of the source.
        draft.settings.direction = Directions::Denoising;
        draft.settings.noise = Some(Span::Entity);
        draft.mark(Prompt::Base, 0..3, queen).unwrap();
        assert_eq!(draft.source, "[The](#x) queen rules.");
        // An alignment by hand begins with what differs, and is asked for nowhere else.
        draft.by_hand = None;
        assert_eq!(draft.previewed().settings.align, Align::Diff);
        assert!(draft.begins_by_hand());
        draft.align_by_hand("2:3".parse().unwrap());
        assert_eq!(draft.previewed(), draft);
        draft.settings.align = Align::Role;
        assert!(draft.submission(None).unwrap().pairs[0].cells.is_empty());
    }

    #[test]
    fn a_draft_becomes_a_submission_once_there_is_enough_of_it() {
        let mut draft = Draft { source: "A rules.".into(), ..Draft::default() };
        assert_eq!(draft.submission(None), None);
        draft.base = "A waits.".into();
        let submission = draft.submission(None).unwrap();
        assert_eq!(submission.name.as_deref(), Some("A rules."));
        assert_eq!(submission.settings, Settings::default());
        let half = AnswerPair(["yes".into(), String::new()]);
        draft.set_answers(half.clone());
        let answers = draft.submission(None).unwrap().settings.answers;
        assert_eq!(answers, Some(half), "the server says what lacks");
        draft.set_answers(AnswerPair::default());
        assert_eq!(draft.submission(None).unwrap().settings.answers, None);

        draft.is_table = true;
        assert_eq!(draft.submission(None), None);
        let table = |text: &str| TableInput {
            text: text.into(),
            format: Default::default(),
            columns: Default::default(),
        };
        assert_eq!(draft.submission(Some((table(" \n"), String::new()))), None);
        let submission = draft.submission(Some((table("a\tb"), "x.tsv".into()))).unwrap();
        assert_eq!((submission.pairs.len(), submission.name.as_deref()), (0, Some("x.tsv")));
    }
}
