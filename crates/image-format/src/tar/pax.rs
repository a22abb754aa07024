//! The records of a pax header: `length key=value\n`, again and again.

use std::collections::BTreeMap;

use super::number::parse_decimal;
use super::{ScanErrorKind, Timestamp};

/// What the pax header before an entry says about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PaxRecords {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link_path: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Timestamp>,
    /// Names and values; a map, since the last of several records for one attribute counts.
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) sparse: SparseRecords,
}

/// The `GNU.sparse.*` records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SparseRecords {
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    /// `GNU.sparse.realsize`, or `GNU.sparse.size` of the older versions.
    pub(super) real_size: Option<u64>,
    /// Number of parts that the older versions announce.
    pub(super) part_count: Option<u64>,
    /// Offset, length, offset, length, … of the versions 0.0 and 0.1.
    pub(super) map: Option<Vec<u64>>,
}

impl PaxRecords {
    /// Parses the body of an `x` entry.
    pub(super) fn parse(body: &[u8]) -> Result<Self, ScanErrorKind> {
        let mut records = Self::default();
        let mut rest = body;
        while !rest.is_empty() {
            let (key, value, after) = split_record(rest)?;
            records.take(key, value)?;
            rest = after;
        }
        Ok(records)
    }

    /// An empty value takes an earlier record of the same header back, except for xattrs.
    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), ScanErrorKind> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            self.xattrs.insert(name.to_vec(), value.to_vec());
            return Ok(());
        }
        if let Some(field) = key.strip_prefix(b"GNU.sparse.") {
            return self.sparse.take(field, value);
        }
        match key {
            b"path" => self.path = name_record(value)?,
            b"linkpath" => self.link_path = name_record(value)?,
            b"size" => self.size = number_record(value, "the size is no number")?,
            b"uid" => self.uid = number_record(value, "the owner is no number")?,
            b"gid" => self.gid = number_record(value, "the group is no number")?,
            b"mtime" => self.mtime = time_record(value)?,
            _ => {}
        }
        Ok(())
    }
}

impl SparseRecords {
    fn take(&mut self, field: &[u8], value: &[u8]) -> Result<(), ScanErrorKind> {
        let number = || number_record(value, "a sparse record is no number");
        match field {
            b"major" => self.major = number()?,
            b"minor" => self.minor = number()?,
            b"name" => self.name = name_record(value)?,
            b"realsize" | b"size" => self.real_size = number()?,
            b"numblocks" => self.part_count = number()?,
            b"map" => self.map = Some(parse_map(value)?),
            b"offset" | b"numbytes" => {
                let is_length = field == b"numbytes";
                let map = self.map.get_or_insert_default();
                if (map.len() % 2 == 1) != is_length {
                    return Err(ScanErrorKind::Pax("sparse records are out of order"));
                }
                map.push(number()?.unwrap_or_default());
            }
            _ => {}
        }
        Ok(())
    }
}

/// Key and value of the first record, and what comes after it.
type SplitRecord<'a> = (&'a [u8], &'a [u8], &'a [u8]);

fn split_record(bytes: &[u8]) -> Result<SplitRecord<'_>, ScanErrorKind> {
    let malformed = || ScanErrorKind::Pax("a record's length is wrong");
    let space = bytes
        .iter()
        .take(20)
        .position(|byte| *byte == b' ')
        .ok_or_else(malformed)?;
    let len = parse_decimal(&bytes[..space]).ok_or_else(malformed)?;
    let len = usize::try_from(len).map_err(|_| malformed())?;
    let record = bytes.get(space + 1..len).ok_or_else(malformed)?;
    let record = record.strip_suffix(b"\n").ok_or_else(malformed)?;
    let equals = record.iter().position(|byte| *byte == b'=');
    let equals = equals.ok_or(ScanErrorKind::Pax("a record has no equals sign"))?;
    let (key, value) = (&record[..equals], &record[equals + 1..]);
    if key.is_empty() || key.contains(&0) {
        return Err(ScanErrorKind::Pax("a record's key is not usable"));
    }
    Ok((key, value, &bytes[len..]))
}

fn name_record(value: &[u8]) -> Result<Option<Vec<u8>>, ScanErrorKind> {
    if value.contains(&0) {
        return Err(ScanErrorKind::NulInName);
    }
    Ok((!value.is_empty()).then(|| value.to_vec()))
}

fn number_record(value: &[u8], problem: &'static str) -> Result<Option<u64>, ScanErrorKind> {
    if value.is_empty() {
        return Ok(None);
    }
    parse_decimal(value)
        .map(Some)
        .ok_or(ScanErrorKind::Pax(problem))
}

fn parse_map(value: &[u8]) -> Result<Vec<u64>, ScanErrorKind> {
    if value.is_empty() {
        return Ok(Vec::new());
    }
    let numbers = value.split(|byte| *byte == b',').map(parse_decimal);
    let map: Option<Vec<u64>> = numbers.collect();
    map.ok_or(ScanErrorKind::Pax(
        "the sparse map is not a list of numbers",
    ))
}

/// Reads seconds with a fraction and a sign; more than nine digits of fraction are cut.
fn time_record(value: &[u8]) -> Result<Option<Timestamp>, ScanErrorKind> {
    if value.is_empty() {
        return Ok(None);
    }
    parse_time(value)
        .map(Some)
        .ok_or(ScanErrorKind::Pax("the time is no number"))
}

fn parse_time(text: &[u8]) -> Option<Timestamp> {
    let (is_negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = match text.iter().position(|byte| *byte == b'.') {
        Some(point) => (&text[..point], &text[point + 1..]),
        None => (text, &b""[..]),
    };
    let seconds = i64::try_from(parse_decimal(whole)?).ok()?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().chain(std::iter::repeat(&b'0')).take(9);
    let nanos = digits.fold(0_u32, |value, digit| value * 10 + u32::from(digit - b'0'));
    Some(match (is_negative, nanos) {
        (false, _) => Timestamp { seconds, nanos },
        (true, 0) => Timestamp {
            seconds: -seconds,
            nanos: 0,
        },
        (true, _) => Timestamp {
            seconds: -seconds - 1,
            nanos: 1_000_000_000 - nanos,
        },
    })
}
