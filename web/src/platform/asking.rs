//! Questions whose answers may come out of order, or when nobody waits for them any more.

use leptos::prelude::*;

/// Numbers questions, so that an answer is known for late.
#[derive(Clone, Copy)]
pub struct Asking(StoredValue<Numbers>);

/// The numbers of two questions; 0 is none.
#[derive(Default)]
struct Numbers {
    /// The one that was asked last.
    asked: u64,
    /// The latest that has an answer.
    answered: u64,
}

impl Asking {
    /// Nothing is asked yet.
    pub fn new() -> Self {
        Self(StoredValue::default())
    }

    /// Numbers another question.
    pub fn next(self) -> u64 {
        let next = |numbers: &mut Numbers| {
            numbers.asked += 1;
            numbers.asked
        };
        self.0.try_update_value(next).unwrap_or_default()
    }

    /// Whether nothing else was asked meanwhile, and the page is still there: where the questions
    /// differ, other answers do not count.
    pub fn is_last(self, number: u64) -> bool {
        self.0.try_with_value(|numbers| numbers.asked == number) == Some(true)
    }

    /// Takes the answer to a question. `false` where one asked later has been answered already, or
    /// the page is gone: where the same is asked again and again, an answer counts until a later
    /// one comes.
    pub fn take(self, number: u64) -> bool {
        let take = |numbers: &mut Numbers| {
            let is_later = numbers.answered < number;
            numbers.answered = numbers.answered.max(number);
            is_later
        };
        self.0.try_update_value(take) == Some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_answers_do_not_count() {
        let owner = Owner::new();
        let asking = owner.with(Asking::new);
        let [first, second, third] = [asking.next(), asking.next(), asking.next()];
        assert_eq!([first, second, third].map(|n| asking.is_last(n)), [false, false, true]);
        assert_eq!(
            [second, first, third, third].map(|n| asking.take(n)),
            [true, false, true, false]
        );
        owner.cleanup();
        drop(owner);
        let gone = asking.next();
        assert!(!asking.is_last(gone) && !asking.take(gone));
    }
}
