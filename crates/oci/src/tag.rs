//! The name of a tag within its repository.

use std::str::FromStr;

use thiserror::Error;

/// A tag: up to 128 letters, digits, `.`, `_` and `-`, the first no `.` or `-`.
// SPEC: distribution, "Pulling manifests": <reference> as a tag MUST be at most 128 characters and
// MUST match [a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(String);

text_type!(Tag);

impl Tag {
    /// Longest tag in bytes.
    pub const LEN_MAX: usize = 128;

    /// Returns `latest`, the tag of a reference that names none.
    pub fn latest() -> Self {
        Self("latest".to_owned())
    }
}

impl FromStr for Tag {
    type Err = ParseTagError;

    fn from_str(text: &str) -> Result<Self, ParseTagError> {
        if text.len() > Self::LEN_MAX {
            return Err(ParseTagError::TooLong { len: text.len() });
        }
        let first = text.chars().next().ok_or(ParseTagError::Empty)?;
        if matches!(first, '.' | '-') {
            return Err(ParseTagError::First { character: first });
        }
        let is_allowed =
            |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
        match text.chars().find(|character| !is_allowed(*character)) {
            Some(character) => Err(ParseTagError::Character { character }),
            None => Ok(Self(text.to_owned())),
        }
    }
}

/// Why a text is not a tag.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParseTagError {
    /// There is no character.
    #[error("tag is empty")]
    Empty,
    /// The tag is over the limit.
    #[error("tag is {len} bytes, the limit is {}", Tag::LEN_MAX)]
    TooLong {
        /// Length of the text in bytes.
        len: usize,
    },
    /// A tag cannot begin so.
    #[error("tag begins with {character:?}")]
    First {
        /// The first character.
        character: char,
    },
    /// A character cannot be in a tag.
    #[error("tag has the character {character:?}, allowed are a-z A-Z 0-9 . _ -")]
    Character {
        /// The character.
        character: char,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_accepted_or_refused_as_specified() {
        let longest = "t".repeat(128);
        for text in ["latest", "_", "1.0-rc_1", "A", &longest] {
            assert_eq!(text.parse::<Tag>().unwrap().as_str(), text);
        }
        let too_long = "t".repeat(129);
        for text in ["", ".a", "-a", "a/b", "a:b", "a b", "ä", &too_long] {
            assert!(text.parse::<Tag>().is_err(), "{text}");
        }
    }
}
