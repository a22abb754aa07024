//! The `Range` header of blobs, and the `Content-Range` header of uploads.

use std::ops::Range;

/// What a `Range` header asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RangeRequest {
    /// Everything: there is no header, or one that is to be ignored.
    Whole,
    /// One part, not empty and within the content.
    Part(Range<u64>),
    /// A part that the content does not have.
    Unsatisfiable,
}

impl RangeRequest {
    /// Reads the header's value for content of `size` bytes.
    ///
    /// More than one part is answered with everything, as RFC 9110 allows: clients that ask for many
    /// parts handle that, and the multipart answer is where registries and clients disagree.
    pub(super) fn parse(value: Option<&str>, size: u64) -> Self {
        let Some(spec) = value.and_then(|value| value.trim().strip_prefix("bytes=")) else {
            return Self::Whole;
        };
        let Some((first, last)) = spec.trim().split_once('-') else {
            return Self::Whole;
        };
        if spec.contains(',') {
            return Self::Whole;
        }
        let (Ok(first), Ok(last)) = (bound(first), bound(last)) else {
            return Self::Whole;
        };
        let range = match (first, last) {
            (None, None) => return Self::Whole,
            (None, Some(suffix_len)) => size.saturating_sub(suffix_len)..size,
            (Some(first), None) => first..size,
            (Some(first), Some(last)) if last < first => return Self::Unsatisfiable,
            (Some(first), Some(last)) => first..last.saturating_add(1).min(size),
        };
        if range.is_empty() {
            Self::Unsatisfiable
        } else {
            Self::Part(range)
        }
    }
}

/// Reads the offset at which a piece of an upload begins: `0-99` or `bytes 0-99/*`. `None` if the
/// value is no such range.
pub(super) fn parse_content_range(value: &str) -> Option<Range<u64>> {
    let value = value.trim();
    let value = value.strip_prefix("bytes").unwrap_or(value);
    let value = value.trim_start_matches([' ', '=']);
    let value = value.split('/').next()?;
    let (first, last) = value.split_once('-')?;
    let (first, last) = (bound(first).ok()??, bound(last).ok()??);
    let end = last.checked_add(1)?;
    (first <= last).then_some(first..end)
}

/// A text that should be a number and is none.
struct NotANumber;

/// Reads a number that may be left out.
fn bound(text: &str) -> Result<Option<u64>, NotANumber> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NotANumber);
    }
    // A number beyond 64 bits is beyond every blob.
    Ok(Some(text.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_to_the_content() {
        use RangeRequest::{Part, Unsatisfiable, Whole};
        for (value, expected) in [
            ("bytes=500-1499", Part(500..1500)),
            ("bytes=500-", Part(500..2048)),
            ("bytes=-500", Part(1548..2048)),
            ("bytes=-5000", Part(0..2048)),
            ("bytes=2000-5000", Part(2000..2048)),
            ("bytes=0-0", Part(0..1)),
            ("bytes=0-99999999999999999999999", Part(0..2048)),
            ("bytes=500-0", Unsatisfiable),
            ("bytes=2048-", Unsatisfiable),
            ("bytes=5000-10000", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=0-1,3-4", Whole),
            ("bytes=a-b", Whole),
            ("bytes=-", Whole),
            ("items=0-1", Whole),
            ("", Whole),
        ] {
            assert_eq!(RangeRequest::parse(Some(value), 2048), expected, "{value}");
        }
        assert_eq!(RangeRequest::parse(None, 2048), Whole);
        assert_eq!(RangeRequest::parse(Some("bytes=0-"), 0), Unsatisfiable);
    }

    #[test]
    fn a_content_range_has_both_ends() {
        assert_eq!(parse_content_range("0-99"), Some(0..100));
        assert_eq!(parse_content_range("bytes 100-199/*"), Some(100..200));
        for text in ["", "5", "5-", "-5", "9-5", "a-b", "0-18446744073709551615"] {
            assert_eq!(parse_content_range(text), None, "{text}");
        }
    }
}
