//! Both prompts of the form's pair, token by token, with what each is and what corresponds, for the
//! reader to change.

use leptos::ev;
use leptos::prelude::*;
use shared::document::Prompt;
use shared::specification::roles::Role;
use shared::wire::job::PairPreview;

use super::editing::{Editing, ROLE, id_of, of_id, strip_id};
use super::tokens::{Strip, numbers};
use crate::platform::dom;
use crate::platform::dynamic::dynamic;
use crate::widgets::inputs::toggle;

/// The list of names that the reader has given so far.
const NAMES: &str = "role-names";

/// The strips of a pair that is edited.
pub fn edited(editing: Editing) -> AnyView {
    let strips = Memo::new(move |_| {
        editing.asked.with(|asked| asked.as_ref().map(|asked| asked.strips.clone()))
    });
    let is_there = Memo::new(move |_| strips.with(Option::is_some));
    dynamic(move || is_there.get().then(|| section(editing, strips)))
}

fn section(editing: Editing, strips: Memo<Option<[Strip; 2]>>) -> AnyView {
    let named = Memo::new(move |_| editing.to_be_named());
    let begun = StoredValue::new(None::<(Prompt, usize)>);
    let token_at = |event: &ev::PointerEvent| {
        dom::id_at(event.client_x(), event.client_y(), ".gloss [role=option]")
            .and_then(|id| of_id(&id))
    };
    let down = move |event: ev::PointerEvent| {
        let token = token_at(&event).filter(|_| event.button() == 0);
        begun.set_value(token);
        if let (Some((prompt, at)), false) = (token, editing.is_aligning.get_untracked()) {
            editing.choose(prompt, at, event.shift_key());
        }
    };
    let moved = move |event: ev::PointerEvent| {
        if event.buttons() == 0 || editing.is_aligning.get_untracked() {
            return;
        }
        if let (Some((from, _)), Some((prompt, at))) = (begun.get_value(), token_at(&event))
            && from == prompt
        {
            editing.choose(prompt, at, true);
        }
    };
    let up = move |event: ev::PointerEvent| {
        let Some((from, begin)) = begun.get_value() else { return };
        begun.set_value(None);
        if !editing.is_aligning.get_untracked() {
            return;
        }
        match token_at(&event) {
            Some((prompt, at)) if prompt != from => {
                let (base, source) = if prompt == Prompt::Base { (at, begin) } else { (begin, at) };
                editing.toggle(base, source);
            }
            Some((prompt, at)) if at == begin => editing.link(prompt, at),
            _ => {}
        }
    };
    // The strip stays, and the focus with it, while its tokens are drawn anew.
    let strip = |(place, prompt): (usize, Prompt)| {
        let numbers = Signal::derive(move || editing.numbers.with(|all| all[place].clone()));
        let tokens = dynamic(move || {
            strips.with(|both| both.as_ref().map(|both| runs(&both[place], numbers, Some(editing))))
        });
        strip(prompt, tokens, Some(editing))
    };
    let both = [Prompt::Source, Prompt::Base].into_iter().enumerate().map(strip).collect_view();
    view! {
        <section class="card strips-card" aria-label="Tokens">
            <h2>"Tokens"</h2>
            {dynamic(move || modes(editing))}
            <div
                class="gloss"
                on:pointerdown=down
                on:pointermove=moved
                on:pointerup=up
            >{both}</div>
            {dynamic(move || named.get().map(|named| tools(editing, named)))}
            <p class="hint" role="status">{dynamic(move || editing.says.get())}</p>
        </section>
    }
    .into_any()
}

/// The strips of a pair of a table.
pub fn read(pair: &PairPreview) -> AnyView {
    let strips = Strip::both(pair);
    let numbers = numbers(&pair.correspondence(), &strips);
    let shown = |(of, numbers): (&Strip, _)| {
        strip(of.prompt, runs(of, Signal::stored(numbers), None), None)
    };
    let shown = strips.iter().zip(numbers).map(shown).collect_view();
    view! {
        <section class="card strips-card" aria-label="Tokens">
            <h2>"Tokens"</h2>
            <div class="gloss">{shown}</div>
        </section>
    }
    .into_any()
}

/// A prompt's tokens under its name. Where they are edited, it is the strip that has the focus and takes the
/// keys, and one of its tokens is the active one.
fn strip(prompt: Prompt, tokens: AnyView, editing: Option<Editing>) -> AnyView {
    let key = move |event: ev::KeyboardEvent| {
        if event.alt_key() || event.ctrl_key() || event.meta_key() {
            return;
        }
        if editing.is_some_and(|editing| editing.key(prompt, &event.key(), event.shift_key())) {
            event.prevent_default();
        }
    };
    let active = move || editing.map(|editing| id_of(prompt, editing.active(prompt)));
    let label = format!("Tokens of the {}", prompt.name());
    view! {
        <h3 class=format!("key {}", prompt.name())>{prompt.name()}</h3>
        <div
            class=format!("strip {}", prompt.name())
            id=editing.map(|_| strip_id(prompt))
            role=if editing.is_some() { "listbox" } else { "group" }
            tabindex=editing.map(|_| "0")
            aria-label=label
            aria-multiselectable=editing.map(|_| "true")
            aria-activedescendant=active
            on:keydown=key
        >{tokens}</div>
    }
    .into_any()
}

/// A prompt's tokens, those of one role together. `numbers` are those of the tokens that correspond.
fn runs(strip: &Strip, numbers: Signal<Vec<Option<usize>>>, editing: Option<Editing>) -> AnyView {
    let runs = strip.roles().into_iter().map(|(role, range)| {
        let words = role.map(|role| role.to_string()).unwrap_or_default();
        let tokens = range.map(|at| token(strip, at, &words, numbers, editing)).collect_view();
        let label = words.clone();
        let class = match role {
            Some(Role::Marked(_)) => "role-run own",
            Some(Role::FirstDiffering | Role::Between | Role::LastDiffering) => {
                "role-run differing"
            }
            _ => "role-run",
        };
        view! {
            <span class=class role="group" aria-label=label>
                <span class="role-tokens">{tokens}</span>
                <span class="role-name" title=role.map(Role::meaning)>{words}</span>
            </span>
        }
    });
    runs.collect_view().into_any()
}

/// A token of the role in `words`.
fn token(
    strip: &Strip,
    at: usize,
    words: &str,
    numbers: Signal<Vec<Option<usize>>>,
    editing: Option<Editing>,
) -> AnyView {
    let (prompt, token) = (strip.prompt, &strip.tokens[at]);
    let (is_swept, text) = (token.is_swept, token.text.clone());
    let number = move || numbers.with(|numbers| numbers.get(at).copied().flatten());
    let shown = move || match number() {
        Some(number) => number.to_string(),
        None if is_swept => "–".to_string(),
        None => String::new(),
    };
    let spoken = format!("{}, {words}", text.trim_start_matches('·'));
    let label = move || match number() {
        Some(number) => format!("{spoken}, corresponds, number {number}"),
        None if is_swept => format!("{spoken}, corresponds to nothing"),
        None => spoken.clone(),
    };
    let is_chosen = move || {
        let has =
            |editing: Editing| editing.chosen.with(|run| run.is_some_and(|r| r.has(prompt, at)));
        editing.map(|editing| has(editing).to_string())
    };
    let is_active = move || editing.is_some_and(|editing| editing.active(prompt) == at);
    view! {
        <span
            class="gloss-token"
            class:differs=token.differs
            class:swept=is_swept
            class:active=is_active
            id=editing.map(|_| id_of(prompt, at))
            role=editing.map(|_| "option")
            aria-label=label
            aria-selected=is_chosen
        >
            <bdi class="token">{text}</bdi>
            <span class="number" aria-hidden="true">{shown}</span>
        </span>
    }
    .into_any()
}

/// What is edited, and how.
fn modes(editing: Editing) -> AnyView {
    let is_aligning = editing.is_aligning;
    if editing.has_noise.get() {
        let text = "With noise the base is the source, and its tokens correspond to themselves.";
        return view! { <p class="hint">{text}</p> }.into_any();
    }
    if !editing.is_by_hand.get() {
        is_aligning.set(false);
        let begin = move |_| {
            editing.begin_by_hand();
            // The button goes.
            editing.refocus(Prompt::Base);
        };
        return view! {
            <p class="hint">
                "Below each token is what it is; equal numbers correspond. "{ROLES}
            </p>
            <div>
                <button type="button" on:click=begin>
                    "Edit the alignment"
                </button>
            </div>
        }
        .into_any();
    }
    let mode = move |aligns: bool, name: &'static str| {
        let choose = move || {
            is_aligning.set(aligns);
            editing.chosen.set(None);
        };
        toggle(
            name,
            Signal::derive(move || is_aligning.get() == aligns),
            Callback::new(move |()| choose()),
        )
    };
    let how = move || if is_aligning.get() { ALIGNMENT } else { ROLES };
    view! {
        <div class="segments" role="group" aria-label="What is edited">
            {mode(false, "Roles")}
            {mode(true, "Alignment")}
        </div>
        <p class="hint">{how}</p>
    }
    .into_any()
}

const ROLES: &str = "Drag over tokens, or use the arrow keys with Shift, to give them a role of your \
                     own with Enter, or take it away with Delete.";
const ALIGNMENT: &str = "Drag from a token to one of the other prompt, or press Enter on one and then \
                         on the other: they correspond, or no longer do. Delete takes away what a \
                         token corresponds to.";

/// The role of the chosen tokens.
fn tools(
    editing: Editing,
    (prompt, text, is_sentence, is_last): (Prompt, String, bool, bool),
) -> AnyView {
    if !is_sentence {
        let text =
            format!("“{text}” is the template’s: only words of the sentence get a role of yours.");
        return view! { <p class="hint">{text}</p> }.into_any();
    }
    let called = editing.called;
    let give = move |event: ev::SubmitEvent| {
        event.prevent_default();
        editing.give(called.get_untracked().trim());
    };
    let back = move |event: ev::KeyboardEvent| {
        if event.key() == "Escape" {
            editing.refocus(prompt);
        }
    };
    let names = move || {
        let names = editing.names().into_iter();
        names.map(|name| view! { <option value=name></option> }).collect_view()
    };
    view! {
            <form class="row" on:submit=give on:keydown=back aria-label="Role of the chosen tokens">
                <label class="stack">
                    <span>"Role of “"{text}"”"</span>
                    <input
                        type="text"
                        id=ROLE
                        list=NAMES
                        autocomplete="off"
                        placeholder="subject"
                        prop:value=move || called.get()
                        on:input=move |event| called.set(event_target_value(&event))
                    />
                    <datalist id=NAMES>{names}</datalist>
                </label>
                <div class="actions">
                    <button type="submit" disabled=move || called.with(|called| called.trim().is_empty())>
                        "Give it"
                    </button>
                    <button type="button" on:click=move |_| editing.give("")>"Clear it"</button>
                </div>
            </form>
            {is_last.then(|| view! {
                <p class="hint">"The last token keeps the role last: the answer is read there."</p>
            })}
        }
        .into_any()
}
