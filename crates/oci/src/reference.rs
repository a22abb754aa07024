//! Which image: `host[:port]/repository[:tag][@digest]`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

use crate::{
    Digest, ParseDigestError, ParseHostError, ParseRepositoryError, ParseTagError, RegistryHost,
    RepositoryName, Tag,
};

/// An image in a registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageReference {
    /// Where the registry is.
    pub registry: RegistryHost,
    /// The repository within the registry.
    pub repository: RepositoryName,
    /// The manifest within the repository.
    pub selector: Selector,
}

impl ImageReference {
    /// Longest text of a reference in bytes; longer than its parts can be together.
    pub const LEN_MAX: usize = 1024;
}

impl FromStr for ImageReference {
    type Err = ParseReferenceError;

    /// Parses a reference. With a tag and a digest, the digest counts and the tag is dropped; with
    /// neither, the tag is `latest`.
    fn from_str(text: &str) -> Result<Self, ParseReferenceError> {
        if text.len() > Self::LEN_MAX {
            return Err(ParseReferenceError::TooLong { len: text.len() });
        }
        let owned = || text.to_owned();
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        let Some((registry, path)) = name.split_once('/').filter(|(first, _)| is_host(first))
        else {
            return Err(ParseReferenceError::NoHost { text: owned() });
        };
        let (repository, tag) = match path.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (path, None),
        };
        let host = |source| ParseReferenceError::Host {
            text: owned(),
            source,
        };
        let name = |source| ParseReferenceError::Repository {
            text: owned(),
            source,
        };
        let tag_fault = |source| ParseReferenceError::Tag {
            text: owned(),
            source,
        };
        let digest_fault = |source| ParseReferenceError::Digest {
            text: owned(),
            source,
        };
        let tag = tag.map(str::parse).transpose().map_err(tag_fault)?;
        let digest = digest.map(str::parse).transpose().map_err(digest_fault)?;
        Ok(Self {
            registry: registry.parse().map_err(host)?,
            repository: repository.parse().map_err(name)?,
            selector: match digest {
                Some(digest) => Selector::Digest(digest),
                None => Selector::Tag(tag.unwrap_or_else(Tag::latest)),
            },
        })
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            registry,
            repository,
            selector,
        } = self;
        write!(
            formatter,
            "{registry}/{repository}{}{selector}",
            selector.separator()
        )
    }
}

impl Serialize for ImageReference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ImageReference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Which manifest of a repository: what the specification calls `<reference>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Selector {
    /// The one that a tag points at now.
    Tag(Tag),
    /// The one with this digest.
    Digest(Digest),
}

impl Selector {
    /// Returns what stands between a repository and this selector.
    fn separator(&self) -> char {
        match self {
            Self::Tag(_) => ':',
            Self::Digest(_) => '@',
        }
    }
}

impl FromStr for Selector {
    type Err = ParseSelectorError;

    /// Parses a digest if the text has a colon, which no tag can have; else a tag.
    fn from_str(text: &str) -> Result<Self, ParseSelectorError> {
        if text.contains(':') {
            return Ok(Self::Digest(text.parse()?));
        }
        Ok(Self::Tag(text.parse()?))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(formatter),
            Self::Digest(digest) => digest.fmt(formatter),
        }
    }
}

impl From<Tag> for Selector {
    fn from(tag: Tag) -> Self {
        Self::Tag(tag)
    }
}

impl From<Digest> for Selector {
    fn from(digest: Digest) -> Self {
        Self::Digest(digest)
    }
}

/// Why a text is neither a tag nor a digest.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParseSelectorError {
    /// It has a colon, so it is meant as a digest.
    #[error(transparent)]
    Digest(#[from] ParseDigestError),
    /// It has none, so it is meant as a tag.
    #[error(transparent)]
    Tag(#[from] ParseTagError),
}

/// Why a text is not an image reference.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParseReferenceError {
    /// The text is over the limit.
    #[error(
        "image reference is {len} bytes, the limit is {}",
        ImageReference::LEN_MAX
    )]
    TooLong {
        /// Length of the text in bytes.
        len: usize,
    },
    /// The first part is no host; nothing is guessed.
    #[error(
        "image reference {text:?} names no registry: write the host too, \
         as in registry.example.com/{text} or localhost:5000/{text}"
    )]
    NoHost {
        /// The whole text.
        text: String,
    },
    /// The host is malformed.
    #[error("image reference {text:?} has a malformed registry host")]
    Host {
        /// The whole text.
        text: String,
        /// What is wrong with the host.
        source: ParseHostError,
    },
    /// The repository is malformed.
    #[error("image reference {text:?} has a malformed repository name")]
    Repository {
        /// The whole text.
        text: String,
        /// What is wrong with the name.
        source: ParseRepositoryError,
    },
    /// The tag is malformed.
    #[error("image reference {text:?} has a malformed tag")]
    Tag {
        /// The whole text.
        text: String,
        /// What is wrong with the tag.
        source: ParseTagError,
    },
    /// The digest is malformed.
    #[error("image reference {text:?} has a malformed digest")]
    Digest {
        /// The whole text.
        text: String,
        /// What is wrong with the digest.
        source: ParseDigestError,
    },
}

/// Tells a host from the first part of a repository, as every container tool does.
fn is_host(component: &str) -> bool {
    component == "localhost" || component.contains(['.', ':'])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_reference_is_split_into_its_parts() {
        for (text, canonical) in [
            ("localhost/a".to_owned(), "localhost/a:latest".to_owned()),
            (
                "localhost:5000/a/b:v1".to_owned(),
                "localhost:5000/a/b:v1".to_owned(),
            ),
            (format!("r.io/a@{DIGEST}"), format!("r.io/a@{DIGEST}")),
            (format!("r.io/a:v1@{DIGEST}"), format!("r.io/a@{DIGEST}")),
            ("[::1]:5000/a:b".to_owned(), "[::1]:5000/a:b".to_owned()),
        ] {
            let parsed: ImageReference = text.parse().unwrap();
            assert_eq!(parsed.to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn a_reference_without_a_host_is_refused_with_a_hint() {
        for text in ["busybox", "library/busybox:1", "busybox:1.36", "", "/a"] {
            let error = text.parse::<ImageReference>().unwrap_err();
            assert!(
                matches!(error, ParseReferenceError::NoHost { .. }),
                "{text}: {error}"
            );
            assert!(error.to_string().contains("write the host too"), "{error}");
        }
    }

    #[test]
    fn a_malformed_part_is_named() {
        let reason = |text: &str| text.parse::<ImageReference>().unwrap_err();
        assert!(matches!(
            reason("a_b.c/x"),
            ParseReferenceError::Host { .. }
        ));
        assert!(matches!(
            reason("r.io/X"),
            ParseReferenceError::Repository { .. }
        ));
        assert!(matches!(reason("r.io/x:"), ParseReferenceError::Tag { .. }));
        assert!(matches!(
            reason("r.io/x:é@sha256:0"),
            ParseReferenceError::Tag { .. }
        ));
        assert!(matches!(
            reason("r.io/x@sha256:0"),
            ParseReferenceError::Digest { .. }
        ));
        assert!(matches!(
            reason(&"a".repeat(1025)),
            ParseReferenceError::TooLong { len: 1025 }
        ));
    }

    #[test]
    fn a_selector_with_a_colon_is_a_digest() {
        assert!(matches!("v1".parse(), Ok(Selector::Tag(_))));
        assert!(matches!(DIGEST.parse(), Ok(Selector::Digest(_))));
        assert!(matches!(
            "sha512:0".parse::<Selector>(),
            Err(ParseSelectorError::Digest(_))
        ));
    }

    proptest! {
        #[test]
        fn what_parses_is_stable_under_display(text in "[a-z.:0-9\\[\\]]{1,8}/[a-z/_.-]{1,8}(:[a-z.]{0,3})?") {
            if let Ok(parsed) = text.parse::<ImageReference>() {
                prop_assert_eq!(parsed.to_string().parse(), Ok(parsed));
            }
        }
    }
}
