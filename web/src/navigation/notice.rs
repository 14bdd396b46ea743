//! What the reader is told, and may undo.

use std::sync::Arc;

/// Undoes what was done.
pub type Undo = Arc<dyn Fn() + Send + Sync>;

/// Something to tell.
#[derive(Clone)]
pub struct Notice {
    /// Which one it is.
    pub key: u64,
    /// A sentence.
    pub text: String,
    /// Undoes it, where that can be done.
    pub undo: Option<Undo>,
}

impl Notice {
    /// Adds a notice. What the reader has been told and not dismissed is not told again.
    pub fn add(notices: &mut Vec<Self>, text: String, undo: Option<Undo>) {
        if undo.is_some() || notices.iter().all(|notice| notice.text != text) {
            let key = notices.last().map_or(0, |last| last.key + 1);
            notices.push(Self { key, text, undo });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_already_is_not_told_again_but_each_deletion_can_be_undone() {
        let mut notices = Vec::new();
        let undo = || Some(Arc::new(|| ()) as Undo);
        for (text, undo) in [("a", None), ("a", None), ("b", undo()), ("b", undo()), ("c", None)] {
            Notice::add(&mut notices, text.into(), undo);
        }
        let told: Vec<_> = notices.iter().map(|notice| (notice.key, &*notice.text)).collect();
        assert_eq!(told, [(0, "a"), (1, "b"), (2, "b"), (3, "c")]);
    }
}
