//! Extended attributes, as they follow an inode: a header of 12 bytes, then the entries.

use std::collections::BTreeMap;

use super::format::{XATTR_ENTRY_LEN, XATTR_HEADER_LEN};

/// Namespaces that the format has numbers for and that we write.
const PREFIXES: [(u8, &[u8]); 4] = [
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (6, b"security."),
];

/// Returns what follows the inode; nothing for no attributes.
///
/// Entries are sorted by namespace and name. Names of other namespaces are left out: merging
/// has dropped them before.
pub(super) fn encode_xattrs(xattrs: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<u8> {
    let mut entries: Vec<(u8, &[u8], &[u8])> = xattrs
        .iter()
        .filter_map(|(name, value)| {
            let (index, suffix) = split_name(name)?;
            Some((index, suffix, value.as_slice()))
        })
        .collect();
    if entries.is_empty() {
        return Vec::new();
    }
    entries.sort_unstable();
    let mut out = vec![0; XATTR_HEADER_LEN];
    for (index, suffix, value) in entries {
        // Merging has checked both lengths.
        out.push(u8::try_from(suffix.len()).unwrap_or(u8::MAX));
        out.push(index);
        out.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_le_bytes());
        out.extend_from_slice(suffix);
        out.extend_from_slice(value);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}

/// Parses what follows an inode. `None` unless it is what [`encode_xattrs`] writes.
pub(super) fn decode_xattrs(bytes: &[u8]) -> Option<Vec<XattrEntry<'_>>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let (header, mut rest) = bytes.split_at_checked(XATTR_HEADER_LEN)?;
    if header.iter().any(|byte| *byte != 0) || rest.is_empty() {
        return None;
    }
    let mut entries: Vec<XattrEntry<'_>> = Vec::new();
    while !rest.is_empty() {
        let (entry, after) = decode_entry(rest)?;
        let key = |entry: &XattrEntry<'_>| (entry.index, entry.suffix.to_vec());
        if entries.last().is_some_and(|last| key(last) >= key(&entry)) {
            return None;
        }
        entries.push(entry);
        rest = after;
    }
    Some(entries)
}

/// One extended attribute on disk.
#[derive(Debug, Clone, Copy)]
pub(super) struct XattrEntry<'a> {
    index: u8,
    prefix: &'static [u8],
    suffix: &'a [u8],
    pub(super) value: &'a [u8],
}

impl XattrEntry<'_> {
    pub(super) fn name(&self) -> Vec<u8> {
        [self.prefix, self.suffix].concat()
    }
}

fn decode_entry(bytes: &[u8]) -> Option<(XattrEntry<'_>, &[u8])> {
    let (head, rest) = bytes.split_at_checked(XATTR_ENTRY_LEN)?;
    let (suffix_len, index) = (usize::from(head[0]), head[1]);
    let value_len = usize::from(u16::from_le_bytes([head[2], head[3]]));
    let (suffix, rest) = rest.split_at_checked(suffix_len)?;
    let (value, rest) = rest.split_at_checked(value_len)?;
    let used = suffix_len + value_len;
    let (padding, rest) = rest.split_at_checked(used.next_multiple_of(4) - used)?;
    let (_, prefix) = PREFIXES.into_iter().find(|(known, _)| *known == index)?;
    let is_whole_name = !prefix.ends_with(b".");
    let is_usable = is_whole_name == suffix.is_empty()
        && !suffix.contains(&0)
        && padding.iter().all(|byte| *byte == 0);
    let entry = XattrEntry {
        index,
        prefix,
        suffix,
        value,
    };
    is_usable.then_some((entry, rest))
}

fn split_name(name: &[u8]) -> Option<(u8, &[u8])> {
    PREFIXES.into_iter().find_map(|(index, prefix)| {
        let suffix = name.strip_prefix(prefix)?;
        let is_whole_name = !prefix.ends_with(b".");
        (is_whole_name == suffix.is_empty()).then_some((index, suffix))
    })
}
