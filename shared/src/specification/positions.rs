//! A set of token positions, written short: `3-5,9`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::specification::vocabulary::as_text;

/// One past the largest position that can be named, well beyond any prompt.
const LIMIT: usize = 1 << 17;

/// A set of positions. Written and read as numbers and ranges in ascending order, `3-5,9`, as which
/// they are kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Positions(Vec<usize>);

/// A text that names no positions.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` names no positions: expected numbers and ranges below {LIMIT}, as in `3-5,9`")]
pub struct BadPositions(String);

impl Positions {
    /// Whether `position` is one of them.
    pub fn contains(&self, position: usize) -> bool {
        self.0.binary_search(&position).is_ok()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a position, or takes it away.
    pub fn set(&mut self, position: usize, is_in: bool) {
        match (self.0.binary_search(&position), is_in) {
            (Err(place), true) => self.0.insert(place, position),
            (Ok(place), false) => drop(self.0.remove(place)),
            _ => {}
        }
    }
}

impl FromIterator<usize> for Positions {
    fn from_iter<I: IntoIterator<Item = usize>>(positions: I) -> Self {
        let mut positions: Vec<_> = positions.into_iter().collect();
        positions.sort_unstable();
        positions.dedup();
        Self(positions)
    }
}

impl fmt::Display for Positions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.iter().copied().peekable();
        let mut separator = "";
        while let Some(first) = rest.next() {
            let mut last = first;
            while let Some(next) = rest.next_if(|next| *next == last + 1) {
                last = next;
            }
            match last - first {
                0 => write!(f, "{separator}{first}")?,
                _ => write!(f, "{separator}{first}-{last}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

impl FromStr for Positions {
    type Err = BadPositions;

    fn from_str(text: &str) -> Result<Self, BadPositions> {
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|n| *n < LIMIT);
        let mut positions = Vec::new();
        for part in text.split(',').filter(|part| !part.trim().is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            match (number(first), number(last)) {
                // A short text must not name more than memory holds, over and over.
                (Some(first), Some(last))
                    if first <= last && positions.len() + (last - first) < LIMIT =>
                {
                    positions.extend(first..=last);
                }
                _ => return Err(BadPositions(text.to_string())),
            }
        }
        Ok(positions.into_iter().collect())
    }
}

as_text!(Positions);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn odd_texts_are_refused() {
        for text in [
            "a",
            "3-",
            "-3",
            "5-3",
            "1,,x",
            "999999999999999999999",
            "0-131072",
            "1-2-3",
            "0-99999,0-99999",
        ] {
            let error = text.parse::<Positions>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{text}` names no positions")), "{error}");
        }
        assert!("".parse::<Positions>().unwrap().is_empty());
    }

    #[test]
    fn neighbours_become_ranges() {
        let mut positions: Positions = [9, 4, 3, 5, 1].into_iter().collect();
        assert_eq!(positions.to_string(), "1,3-5,9");
        positions.set(4, false);
        positions.set(2, true);
        assert_eq!(positions.to_string(), "1-3,5,9");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(positions in prop::collection::btree_set(0usize..60, 0..30)) {
            let positions: Positions = positions.into_iter().collect();
            prop_assert_eq!(positions.to_string().parse::<Positions>().unwrap(), positions);
        }
    }
}
