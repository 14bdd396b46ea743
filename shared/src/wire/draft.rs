//! An experiment that is being thought up: what the viewer's form holds, as it stands in the
//! address and as it is sent to a server.

use form_urlencoded::Serializer;

use crate::document::{Answer, Document};
use crate::specification::settings::{AnswerPair, Settings};
use crate::specification::template::{NO_TEMPLATE, SHIPPED, Template};
use crate::specification::vocabulary::{Direction, Directions};
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
        let (source, base) = match direction {
            Direction::Denoising => (&document.source_sentence, &document.base_sentence),
            Direction::Noising => (&document.base_sentence, &document.source_sentence),
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
        Some(Self {
            is_table: false,
            model: document.model.clone(),
            entity: document.entity.clone(),
            source: source.clone(),
            base: base.clone(),
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
        query.extend_pairs(self.settings.texts());
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
            let pair = PairInput {
                entity: self.entity.trim().to_string(),
                source: self.source.clone(),
                base: self.base.clone(),
                ..PairInput::default()
            };
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
    use crate::fixture;
    use crate::specification::vocabulary::{Align, Site};

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
