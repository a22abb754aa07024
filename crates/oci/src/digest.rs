//! The digest of a blob: its name everywhere.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::Digest as _;
use thiserror::Error;

/// The SHA-256 of a blob, written `sha256:` and 64 lowercase hex digits.
///
/// Holding a `Digest` means its text was well formed. It does not mean that
/// any blob with this digest exists, or that some bytes were checked against it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; Self::LEN]);

impl Digest {
    /// Bytes of a digest.
    pub const LEN: usize = 32;

    /// Returns the digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// Returns the digest whose bytes are `bytes`.
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes of the digest.
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// Returns the 64 hex digits without the algorithm.
    pub fn to_hex(self) -> String {
        let digits = self.0.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
        digits.map(hex_character).collect()
    }

    /// Parses 64 lowercase hex digits without the algorithm.
    ///
    /// # Errors
    ///
    /// [`ParseDigestError`] if there are more, fewer or other characters.
    pub fn from_hex(text: &str) -> Result<Self, ParseDigestError> {
        let hex = text.as_bytes();
        if hex.len() != Self::LEN * 2 {
            return Err(ParseDigestError::Length { actual: hex.len() });
        }
        let mut raw = [0; Self::LEN];
        for (byte, (index, pair)) in raw.iter_mut().zip(hex.chunks_exact(2).enumerate()) {
            *byte = (hex_digit(pair[0], 2 * index)? << 4) | hex_digit(pair[1], 2 * index + 1)?;
        }
        Ok(Self(raw))
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        let hex = text
            .strip_prefix("sha256:")
            .ok_or(ParseDigestError::Algorithm)?;
        Self::from_hex(hex)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "sha256:{}", self.to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParseDigestError {
    /// The text does not begin with `sha256:`, the only algorithm that is supported.
    #[error("digest does not begin with \"sha256:\"")]
    Algorithm,
    /// There are not 64 digits.
    #[error("digest has {actual} characters after the algorithm instead of 64")]
    Length {
        /// How many there are, in bytes.
        actual: usize,
    },
    /// A character is not a lowercase hex digit.
    #[error("digest has byte {byte:#04x} at digit {index}, which is no lowercase hex digit")]
    Digit {
        /// The byte found.
        byte: u8,
        /// Where, counted from the first digit.
        index: usize,
    },
}

/// A digest in the making, for content that comes in pieces.
#[derive(Debug, Clone, Default)]
pub struct DigestHasher(sha2::Sha256);

impl DigestHasher {
    /// Begins with no bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the digest of everything appended.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

fn hex_digit(byte: u8, index: usize) -> Result<u8, ParseDigestError> {
    match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        _ => Err(ParseDigestError::Digit { byte, index }),
    }
}

fn hex_character(nibble: u8) -> char {
    char::from(if nibble < 10 {
        b'0' + nibble
    } else {
        b'a' + nibble - 10
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn the_digest_of_nothing_is_the_known_one() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(DigestHasher::new().finish(), Digest::of(b""));
    }

    #[test]
    fn pieces_and_the_whole_have_one_digest() {
        let mut hasher = DigestHasher::new();
        hasher.update(b"la");
        hasher.update(b"yer");
        assert_eq!(hasher.finish(), Digest::of(b"layer"));
    }

    #[test]
    fn malformed_texts_are_refused_with_the_reason() {
        let upper = EMPTY.replace("e3b0", "E3b0");
        let cases = [
            ("", ParseDigestError::Algorithm),
            ("sha512:00", ParseDigestError::Algorithm),
            ("sha256:00", ParseDigestError::Length { actual: 2 }),
            (
                upper.as_str(),
                ParseDigestError::Digit {
                    byte: b'E',
                    index: 0,
                },
            ),
        ];
        for (text, reason) in cases {
            assert_eq!(text.parse::<Digest>(), Err(reason), "{text}");
        }
    }

    #[test]
    fn a_digest_is_a_string_in_json() {
        let json = serde_json::to_string(&Digest::of(b"")).unwrap();
        assert_eq!(json, format!("{EMPTY:?}"));
        assert_eq!(
            serde_json::from_str::<Digest>(&json).unwrap(),
            Digest::of(b"")
        );
    }

    proptest! {
        #[test]
        fn display_then_parse_is_identity(bytes in any::<[u8; 32]>()) {
            let digest = Digest::from_bytes(bytes);
            prop_assert_eq!(digest.to_string().parse(), Ok(digest));
            prop_assert_eq!(Digest::from_hex(&digest.to_hex()), Ok(digest));
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in ".{0,80}") {
            if let Ok(digest) = text.parse::<Digest>() {
                prop_assert_eq!(digest.to_string(), text);
            }
        }
    }
}
