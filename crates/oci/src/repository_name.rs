//! The name of a repository within its registry.

use std::str::FromStr;

use thiserror::Error;

/// A repository's name, such as `library/busybox`.
// SPEC: distribution, "Pulling manifests": <name> MUST match
// [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryName(String);

text_type!(RepositoryName);

impl RepositoryName {
    /// Longest name in bytes: what the specification says that clients commonly impose.
    pub const LEN_MAX: usize = 255;

    /// Returns the parts between slashes.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

impl FromStr for RepositoryName {
    type Err = ParseRepositoryError;

    fn from_str(text: &str) -> Result<Self, ParseRepositoryError> {
        if text.len() > Self::LEN_MAX {
            return Err(ParseRepositoryError::TooLong { len: text.len() });
        }
        text.split('/').try_for_each(parse_component)?;
        Ok(Self(text.to_owned()))
    }
}

/// Why a text is not a repository name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParseRepositoryError {
    /// The name or a part between slashes is empty.
    #[error("repository name has an empty part")]
    Empty,
    /// The name is over the limit.
    #[error(
        "repository name is {len} bytes, the limit is {}",
        RepositoryName::LEN_MAX
    )]
    TooLong {
        /// Length of the text in bytes.
        len: usize,
    },
    /// A character cannot be in a name.
    #[error("repository name has the character {character:?}, allowed are a-z 0-9 . _ - /")]
    Character {
        /// The character.
        character: char,
    },
    /// A separator stands at an end of a part, or next to another one.
    #[error("repository name has the separator {separator:?} where a letter or digit is needed")]
    Separator {
        /// The run of separators.
        separator: String,
    },
}

fn parse_component(component: &str) -> Result<(), ParseRepositoryError> {
    if component.is_empty() {
        return Err(ParseRepositoryError::Empty);
    }
    if let Some(character) = component.chars().find(|character| !is_allowed(*character)) {
        return Err(ParseRepositoryError::Character { character });
    }
    let at_end = |character: Option<char>| character.is_none_or(is_separator);
    for run in component.split(|character| !is_separator(character)) {
        let known = matches!(run, "" | "." | "_" | "__") || run.bytes().all(|byte| byte == b'-');
        if !known {
            return Err(ParseRepositoryError::Separator {
                separator: run.to_owned(),
            });
        }
    }
    if at_end(component.chars().next()) || at_end(component.chars().next_back()) {
        return Err(ParseRepositoryError::Separator {
            separator: component.to_owned(),
        });
    }
    Ok(())
}

fn is_allowed(character: char) -> bool {
    character.is_ascii_lowercase() || character.is_ascii_digit() || is_separator(character)
}

fn is_separator(character: char) -> bool {
    matches!(character, '.' | '_' | '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_specification_are_accepted() {
        for text in ["a", "library/busybox", "a.b_c__d---e/0", "x/y/z"] {
            assert_eq!(text.parse::<RepositoryName>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn other_names_are_refused() {
        let long = "a".repeat(256);
        for text in [
            "", "/a", "a/", "a//b", "A", "a b", "a..b", "a___b", "a._b", "-a", "a-", "_a", "a:b",
            "../a", "a/..", "ä", &long,
        ] {
            assert!(text.parse::<RepositoryName>().is_err(), "{text}");
        }
    }
}
