//! What the reader does to the tokens of the form: roles of their own, and what corresponds.

use std::sync::Arc;

use leptos::prelude::*;
use leptos::task::{spawn_local, tick};
use shared::document::Prompt;
use shared::specification::correspondence::Correspondence;
use shared::specification::marks::Marked;
use shared::specification::roles::Name;
use shared::wire::address::Page;
use shared::wire::draft::Draft;
use shared::wire::job::PairPreview;

use super::tokens::{Run, Strip, numbers};
use crate::data::words::sentence;
use crate::navigation::viewer::Viewer;
use crate::platform::dom;

/// The tokens of the form's pair, and what they were asked for with.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// What they depend on: model, template, entity, and both sentences without marks.
    pub texts: [String; 5],
    /// What corresponds, base to source.
    pub corresponds: Correspondence,
    /// The tokens.
    pub strips: [Strip; 2],
}

impl Asked {
    /// The tokens of a pair that was asked for with `draft`.
    pub fn new(draft: &Draft, pair: &PairPreview) -> Self {
        let (strips, corresponds) = (Strip::both(pair), pair.correspondence());
        Self { texts: texts(draft), corresponds, strips }
    }

    /// Whether they are the tokens of this draft, too.
    pub fn fits(&self, draft: &Draft) -> bool {
        !draft.is_table && self.texts == texts(draft)
    }
}

/// What a draft's tokens depend on.
fn texts(draft: &Draft) -> [String; 5] {
    let plain = |prompt: Prompt| {
        let sentence = draft.sentence(prompt);
        Marked::in_text(sentence, prompt.name()).map_or(sentence.to_string(), |marked| marked.text)
    };
    [
        draft.model.clone(),
        draft.settings.template.clone(),
        draft.entity.clone(),
        plain(Prompt::Source),
        plain(Prompt::Base),
    ]
}

/// The state of the form's strips.
#[derive(Clone, Copy)]
pub struct Editing {
    viewer: Viewer,
    draft: Memo<Draft>,
    /// The tokens; `None` where there are none.
    pub asked: Memo<Option<Arc<Asked>>>,
    /// Whether the pair is aligned by hand.
    pub is_by_hand: Memo<bool>,
    /// Whether noise makes the base of the source, so that there is nothing to align.
    pub has_noise: Memo<bool>,
    /// Whether it is the alignment that is edited, and not the roles.
    pub is_aligning: RwSignal<bool>,
    /// The token of each strip that keys are for when the strip has the focus.
    active: RwSignal<[usize; 2]>,
    /// What is chosen: tokens that get a role, or one whose counterpart is to be named.
    pub chosen: RwSignal<Option<Run>>,
    /// The name in the field for a role.
    pub called: RwSignal<String>,
    /// What was done, for those who listen.
    pub says: RwSignal<String>,
    /// The numbers of the tokens of source and base that correspond.
    pub numbers: Memo<[Vec<Option<usize>>; 2]>,
}

/// The place of a prompt in what there is for both.
fn place(prompt: Prompt) -> usize {
    usize::from(prompt == Prompt::Base)
}

/// The id of a token's element.
pub fn id_of(prompt: Prompt, at: usize) -> String {
    format!("{}-{at}", prompt.name())
}

/// The id of a strip's element.
pub fn strip_id(prompt: Prompt) -> String {
    format!("{}-strip", prompt.name())
}

/// The token that an element's id tells.
pub fn of_id(id: &str) -> Option<(Prompt, usize)> {
    let (prompt, at) = id.split_once('-')?;
    let prompt = [Prompt::Source, Prompt::Base].into_iter().find(|p| p.name() == prompt)?;
    Some((prompt, at.parse().ok()?))
}

impl Editing {
    /// Nothing chosen.
    pub fn new(draft: Memo<Draft>, asked: Memo<Option<Arc<Asked>>>) -> Self {
        let by_hand = Memo::new(move |_| draft.with(Draft::correspondence));
        let numbers = Memo::new(move |_| {
            let Some(asked) = asked.get() else { return Default::default() };
            let by_hand = by_hand.get().unwrap_or_else(|| asked.corresponds.clone());
            numbers(&by_hand, &asked.strips)
        });
        Self {
            viewer: Viewer::get(),
            draft,
            asked,
            is_by_hand: Memo::new(move |_| by_hand.with(Option::is_some)),
            has_noise: Memo::new(move |_| draft.with(|draft| draft.settings.noise.is_some())),
            is_aligning: RwSignal::new(false),
            active: RwSignal::new([0; 2]),
            chosen: RwSignal::new(None),
            called: RwSignal::new(String::new()),
            says: RwSignal::new(String::new()),
            numbers,
        }
    }

    /// Whether it is a table that is filled in, of which nothing is edited here.
    pub fn is_table(self) -> bool {
        self.draft.with_untracked(|draft| draft.is_table)
    }

    /// Which token of a strip keys are for.
    pub fn active(self, prompt: Prompt) -> usize {
        let last = self.n_tokens(prompt).saturating_sub(1);
        self.active.with(|active| active[place(prompt)].min(last))
    }

    /// The chosen tokens that are to get a role: their prompt, their text, whether they are the
    /// sentence's, and whether the last is among them.
    pub fn to_be_named(self) -> Option<(Prompt, String, bool, bool)> {
        let run = self.chosen.get().filter(|_| !self.is_aligning.get())?;
        self.asked.with(|asked| {
            let strip = &asked.as_ref()?.strips[place(run.prompt)];
            let is_last = run.range().end == strip.tokens.len();
            let is_sentence = strip.bytes(run.range()).is_some();
            Some((run.prompt, strip.text(run.range()), is_sentence, is_last))
        })
    }

    /// The names that the reader has given so far.
    pub fn names(self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for prompt in [Prompt::Source, Prompt::Base] {
            let marked = self.draft.with(|d| Marked::in_text(d.sentence(prompt), prompt.name()));
            for (name, _) in marked.map(|marked| marked.marks).unwrap_or_default() {
                let name = name.to_string();
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names
    }

    fn n_tokens(self, prompt: Prompt) -> usize {
        let n = |asked: &Arc<Asked>| asked.strips[place(prompt)].tokens.len();
        self.asked.with(|asked| asked.as_ref().map_or(0, n))
    }

    /// The tokens, where they are those of what the form holds now.
    fn fitting(self) -> Option<Arc<Asked>> {
        let asked = self.asked.get_untracked()?;
        self.draft.with_untracked(|draft| asked.fits(draft)).then_some(asked)
    }

    /// Lets a strip have the focus, and keys be for one of its tokens.
    fn focus(self, prompt: Prompt, at: usize) {
        self.active.update(|active| active[place(prompt)] = at);
        dom::focus_in(&strip_id(prompt), &id_of(prompt, at));
    }

    /// Gives the focus back to the strip that had it.
    pub fn refocus(self, prompt: Prompt) {
        self.focus(prompt, untrack(|| self.active(prompt)));
    }

    /// A pointer or a key is on a token; with `extends`, the run that is chosen ends there.
    pub fn choose(self, prompt: Prompt, at: usize, extends: bool) {
        self.says.set(String::new());
        self.active.update(|active| active[place(prompt)] = at);
        let before = self.chosen.get_untracked().filter(|run| extends && run.prompt == prompt);
        let anchor = before.map_or(at, |run| run.anchor);
        self.chosen.set(Some(Run { prompt, anchor, at }));
    }

    /// A key on a strip. Whether it meant something.
    pub fn key(self, prompt: Prompt, key: &str, is_shift: bool) -> bool {
        let at = untrack(|| self.active(prompt));
        let last = untrack(|| self.n_tokens(prompt)).saturating_sub(1);
        let to = match key {
            "ArrowLeft" => at.saturating_sub(1),
            "ArrowRight" => (at + 1).min(last),
            "Home" => 0,
            "End" => last,
            "ArrowUp" | "ArrowDown" => {
                let other = prompt.other();
                self.focus(other, self.counterpart(prompt, at));
                return true;
            }
            _ => return self.act(prompt, at, key),
        };
        if !self.is_aligning.get_untracked() {
            if is_shift && self.chosen.get_untracked().is_none_or(|run| run.prompt != prompt) {
                self.choose(prompt, at, false);
            }
            self.choose(prompt, to, is_shift);
        }
        self.focus(prompt, to);
        true
    }

    fn act(self, prompt: Prompt, at: usize, key: &str) -> bool {
        match (key, self.is_aligning.get_untracked()) {
            ("Escape", _) => self.chosen.set(None),
            (" " | "Enter", true) => self.link(prompt, at),
            ("Delete" | "Backspace", true) => self.unlink(prompt, at),
            (" ", false) => self.choose(prompt, at, false),
            ("Enter", false) => {
                if self.chosen.get_untracked().is_none_or(|run| run.prompt != prompt) {
                    self.choose(prompt, at, false);
                }
                // Once it is there, which is before the next key.
                spawn_local(async {
                    tick().await;
                    dom::focus_on(ROLE);
                });
            }
            ("Delete" | "Backspace", false) => {
                if self.chosen.get_untracked().is_none_or(|run| run.prompt != prompt) {
                    self.choose(prompt, at, false);
                }
                self.give("");
            }
            _ => return false,
        }
        true
    }

    /// The token of the other strip that is nearest to a token: the one that corresponds, otherwise
    /// the one as far from the end.
    fn counterpart(self, prompt: Prompt, at: usize) -> usize {
        let (own, other) = (place(prompt), place(prompt.other()));
        let number = self.numbers.with_untracked(|all| all[own].get(at).copied().flatten());
        let same = self.numbers.with_untracked(|all| {
            all[other].iter().position(|found| found.is_some() && *found == number)
        });
        let from_end = self.n_tokens(prompt).saturating_sub(at);
        same.unwrap_or_else(|| self.n_tokens(prompt.other()).saturating_sub(from_end))
    }

    /// Gives the chosen tokens the role of this name; an empty one takes the reader's role away.
    pub fn give(self, called: &str) {
        let Some(run) = self.chosen.get_untracked() else { return };
        let Some(asked) = self.fitting() else { return };
        let strip = &asked.strips[place(run.prompt)];
        let text = strip.text(run.range());
        let Some(bytes) = strip.bytes(run.range()) else { return };
        let name = match called {
            "" => None,
            called => match called.trim_start_matches('#').parse::<Name>() {
                Ok(name) => Some(name),
                Err(error) => return self.says.set(sentence(&error.to_string())),
            },
        };
        match self.change(|draft| draft.mark(run.prompt, bytes, name)) {
            None => {}
            Some(Err(error)) => self.says.set(sentence(&error.to_string())),
            Some(Ok(())) => {
                self.says.set(match name {
                    Some(name) => format!("“{text}” has the role #{name}."),
                    None => format!("“{text}” has no role of yours."),
                });
                self.refocus(run.prompt);
            }
        }
    }

    /// A token is named: with one of the other prompt that was named before it corresponds, or no
    /// longer does.
    pub fn link(self, prompt: Prompt, at: usize) {
        match self.chosen.get_untracked() {
            Some(run) if run.prompt != prompt => {
                let (base, source) = match prompt {
                    Prompt::Base => (at, run.at),
                    Prompt::Source => (run.at, at),
                };
                self.toggle(base, source);
            }
            Some(run) if run.at == at => self.chosen.set(None),
            _ => {
                self.choose(prompt, at, false);
                let (own, other) = (prompt.name(), prompt.other().name());
                self.says.set(format!(
                    "Now the token of the {other} that corresponds to “{}” of the {own}.",
                    self.text_of(prompt, at)
                ));
            }
        }
    }

    /// Lets two tokens correspond, or no longer.
    pub fn toggle(self, base: usize, source: usize) {
        let Some(asked) = self.fitting() else { return };
        self.chosen.set(None);
        let [of_source, of_base] = &asked.strips;
        let positions =
            (base.checked_sub(of_base.n_padding), source.checked_sub(of_source.n_padding));
        let (texts, (Some(base_position), Some(source_position))) =
            ((self.text_of(Prompt::Base, base), self.text_of(Prompt::Source, source)), positions)
        else {
            return self.says.set("Padding corresponds to nothing.".into());
        };
        if !of_base.tokens.get(base).is_some_and(|token| token.is_swept) {
            return self.says.set(format!(
                "“{}” of the base is before the sentence, where nothing is patched.",
                texts.0
            ));
        }
        let mut by_hand = self.by_hand(&asked);
        by_hand.toggle(base_position, source_position);
        let corresponds = by_hand.pairs().contains(&(base_position, source_position));
        let verb = if corresponds { "takes" } else { "no longer takes" };
        self.says.set(format!("“{}” of the base {verb} “{}” of the source.", texts.0, texts.1));
        self.change(|draft| draft.align_by_hand(by_hand));
    }

    /// Takes away what a token corresponds to.
    fn unlink(self, prompt: Prompt, at: usize) {
        let number =
            self.numbers.with_untracked(|all| all[place(prompt)].get(at).copied().flatten());
        let places = self.numbers.with_untracked(|all| {
            all.each_ref().map(|numbers| numbers.iter().position(|found| *found == number))
        });
        if let (Some(_), [Some(source), Some(base)]) = (number, places) {
            self.toggle(base, source);
        }
    }

    /// Begins to align by hand, with what corresponds now.
    pub fn begin_by_hand(self) {
        if let Some(asked) = self.fitting() {
            let by_hand = self.by_hand(&asked);
            self.change(|draft| draft.align_by_hand(by_hand));
            self.is_aligning.set(true);
            self.chosen.set(None);
        }
    }

    fn by_hand(self, asked: &Asked) -> Correspondence {
        let by_hand = self.draft.with_untracked(Draft::correspondence);
        by_hand.unwrap_or_else(|| asked.corresponds.clone())
    }

    fn text_of(self, prompt: Prompt, at: usize) -> String {
        let text = |asked: &Arc<Asked>| asked.strips[place(prompt)].text(at..at + 1);
        self.asked.with_untracked(|asked| asked.as_ref().map(text)).unwrap_or_default()
    }

    /// Changes the draft in the address; `None` where the reader has gone elsewhere.
    fn change<T>(self, change: impl FnOnce(&mut Draft) -> T) -> Option<T> {
        let mut outcome = None;
        self.viewer.amend(|address| {
            if let Page::New(draft) = &mut address.page {
                outcome = Some(change(draft));
            }
        });
        outcome
    }
}

/// The id of the field for a role's name.
pub const ROLE: &str = "role-name";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_its_token() {
        for prompt in [Prompt::Source, Prompt::Base] {
            assert_eq!(of_id(&id_of(prompt, 12)), Some((prompt, 12)));
        }
        for id in ["", "source", "base-x", "base-strip", "app", "other-1"] {
            assert_eq!(of_id(id), None, "{id}");
        }
    }

    #[test]
    fn marks_leave_the_tokens_as_they_are() {
        let draft =
            Draft { source: "The queen.".into(), base: "A king.".into(), ..Draft::default() };
        let mut marked = draft.clone();
        marked.mark(Prompt::Source, 3..9, "x".parse().ok()).unwrap();
        assert_ne!(marked, draft);
        assert_eq!(texts(&marked), texts(&draft));
        marked.base.push('!');
        assert_ne!(texts(&marked), texts(&draft));
    }
}
