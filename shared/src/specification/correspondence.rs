//! Which positions of two prompts correspond, as a person says it.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// The column of a table whose cells are [`Correspondence`]s.
pub const COLUMN: &str = "align";

/// Positions of the base and of the source, padding not counted, that correspond. As a table's cell
/// has it: `5-7:6-8,10:12` says that the base's tokens 5, 6, 7 and 10 correspond to the source's 6,
/// 7, 8 and 12.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Correspondence(Vec<(usize, usize)>);

/// What is wrong with a correspondence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CorrespondenceError {
    /// A text that is none.
    #[error(
        "`{0}` says of no positions that they correspond: expected the base's, a colon and as many \
         of the source's, as in `5-7:6-8,10:12`"
    )]
    Text(String),
    /// A position twice.
    #[error("the {prompt}'s position {position} corresponds to two: name it once")]
    Twice {
        /// Whose.
        prompt: &'static str,
        /// Which.
        position: usize,
    },
    /// A position that the prompt has not.
    #[error("the {prompt} has {n} tokens, and so no position {position}: they count from 0")]
    Beyond {
        /// Whose.
        prompt: &'static str,
        /// Which.
        position: usize,
        /// The prompt's tokens.
        n: usize,
    },
}

/// One past the largest position that can be named, well beyond any prompt.
const LIMIT: usize = 1 << 17;

impl FromStr for Correspondence {
    type Err = CorrespondenceError;

    fn from_str(text: &str) -> Result<Self, CorrespondenceError> {
        let bad = |part: &str| CorrespondenceError::Text(part.chars().take(60).collect());
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|n| *n < LIMIT);
        let range = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(first..last + 1)
        };
        let mut pairs: Vec<(usize, usize)> = Vec::new();
        for part in text.split(',').filter(|part| !part.trim().is_empty()) {
            let (base, source) = part.split_once(':').ok_or_else(|| bad(part))?;
            match (range(base), range(source)) {
                (Some(base), Some(source))
                    if base.len() == source.len() && pairs.len() + base.len() < LIMIT =>
                {
                    pairs.extend(base.zip(source));
                }
                _ => return Err(bad(part)),
            }
        }
        let (mut bases, mut sources) = (BTreeSet::new(), BTreeSet::new());
        for &(base, source) in &pairs {
            for (prompt, seen, position) in
                [("base", &mut bases, base), ("source", &mut sources, source)]
            {
                if !seen.insert(position) {
                    return Err(CorrespondenceError::Twice { prompt, position });
                }
            }
        }
        Ok(pairs.into_iter().collect())
    }
}

/// Of pairs that share a position, the first counts.
impl FromIterator<(usize, usize)> for Correspondence {
    fn from_iter<I: IntoIterator<Item = (usize, usize)>>(pairs: I) -> Self {
        let (mut bases, mut sources) = (BTreeSet::new(), BTreeSet::new());
        let is_new =
            |&(base, source): &(usize, usize)| bases.insert(base) && sources.insert(source);
        let mut pairs: Vec<_> = pairs.into_iter().filter(is_new).collect();
        pairs.sort_unstable();
        Self(pairs)
    }
}

impl fmt::Display for Correspondence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.iter().copied().peekable();
        let mut separator = "";
        while let Some((base, source)) = rest.next() {
            let mut n = 0;
            while rest.next_if_eq(&(base + n + 1, source + n + 1)).is_some() {
                n += 1;
            }
            match n {
                0 => write!(f, "{separator}{base}:{source}")?,
                n => write!(f, "{separator}{base}-{}:{source}-{}", base + n, source + n)?,
            }
            separator = ",";
        }
        Ok(())
    }
}

impl Correspondence {
    /// The pairs of positions, the base's first, in its order. No position is in two.
    pub fn pairs(&self) -> &[(usize, usize)] {
        &self.0
    }

    /// The same with base and source in each other's place.
    pub fn swapped(&self) -> Self {
        self.0.iter().map(|&(base, source)| (source, base)).collect()
    }

    /// Lets a position of the base and one of the source correspond, and neither to any other; where
    /// they do already, they no longer do.
    pub fn toggle(&mut self, base: usize, source: usize) {
        let is_there = self.0.contains(&(base, source));
        self.0.retain(|pair| pair.0 != base && pair.1 != source);
        if !is_there {
            let at = self.0.partition_point(|pair| pair.0 < base);
            self.0.insert(at, (base, source));
        }
    }

    /// Whether prompts of these lengths have all positions.
    ///
    /// # Errors
    /// The first that one has not.
    pub fn check(&self, n_source: usize, n_base: usize) -> Result<(), CorrespondenceError> {
        for &(base, source) in &self.0 {
            for (prompt, position, n) in [("base", base, n_base), ("source", source, n_source)] {
                if position >= n {
                    return Err(CorrespondenceError::Beyond { prompt, position, n });
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_correspond_and_no_longer_do() {
        let mut both: Correspondence = "7:9, 3-5:2-4".parse().unwrap();
        assert_eq!(both.to_string(), "3-5:2-4,7:9");
        let steps = [
            ((6, 5), "3-6:2-5,7:9"),
            ((6, 5), "3-5:2-4,7:9"),
            // What either corresponded to is let go.
            ((7, 3), "3:2,5:4,7:3"),
            ((0, 2), "0:2,5:4,7:3"),
        ];
        for ((base, source), expected) in steps {
            both.toggle(base, source);
            assert_eq!(both.to_string(), expected);
            assert_eq!(both.swapped().swapped(), both);
            assert_eq!(expected.parse(), Ok(both.clone()));
        }
        assert_eq!("".parse(), Ok(Correspondence::default()));
    }

    #[test]
    fn odd_correspondences_are_refused() {
        for (text, expected) in [
            ("5", "`5` says of no positions"),
            ("5:", "`5:` says"),
            ("5-6:7", "`5-6:7` says"),
            ("6-5:7-6", "says of no positions"),
            ("0-131072:0-131072", "says of no positions"),
            ("1:2,1:3", "the base's position 1 corresponds to two"),
            ("1:2,3:2", "the source's position 2 corresponds to two"),
        ] {
            let error = text.parse::<Correspondence>().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let both: Correspondence = "0-1:3-4".parse().unwrap();
        assert!(both.check(5, 2).is_ok());
        assert!(both.check(4, 2).unwrap_err().to_string().contains("source has 4 tokens"));
        assert!(both.check(5, 1).unwrap_err().to_string().contains("base has 1 tokens"));
    }
}
