//! One entry of a tar, with everything about it that can be said in some dialect.

use crate::tar_header::{BLOCK_LEN, Magic, TarHeader};

/// Which dialect of tar an entry is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// POSIX.1-1988 with pax records for whatever it cannot hold. What Docker and buildah write.
    #[default]
    Pax,
    /// GNU: long names as `L` and `K` entries, large numbers in base 256.
    Gnu,
    /// Unix version 7: no magic, no prefix, names of at most 100 bytes.
    V7,
}

/// One entry of a tar.
#[derive(Debug, Clone)]
pub struct Entry {
    path: Vec<u8>,
    link_name: Vec<u8>,
    type_flag: u8,
    content: Vec<u8>,
    mode: u32,
    uid: u64,
    gid: u64,
    mtime: (i64, u32),
    device: Option<(u32, u32)>,
    records: Vec<(Vec<u8>, Vec<u8>)>,
    dialect: Dialect,
    declared_size: Option<u64>,
    /// What a sparse entry's file is really called and holds.
    expanded: Option<(Vec<u8>, Vec<u8>)>,
}

/// What an entry means, whatever it is written in.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) path: &'a [u8],
    pub(crate) link_name: &'a [u8],
    pub(crate) type_flag: u8,
    pub(crate) content: &'a [u8],
    pub(crate) mode: u32,
    pub(crate) owner: (u64, u64),
    pub(crate) mtime: (i64, u32),
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Vec<(&'a [u8], &'a [u8])>,
}

impl Entry {
    /// An entry of any type: `type_flag` is the byte of the header.
    pub fn new(type_flag: u8, path: impl AsRef<[u8]>) -> Self {
        Self {
            path: path.as_ref().to_vec(),
            link_name: Vec::new(),
            type_flag,
            content: Vec::new(),
            mode: if type_flag == b'5' { 0o755 } else { 0o644 },
            uid: 0,
            gid: 0,
            mtime: (1_700_000_000, 0),
            device: None,
            records: Vec::new(),
            dialect: Dialect::default(),
            declared_size: None,
            expanded: None,
        }
    }

    /// A regular file, mode 0644.
    pub fn file(path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        Self {
            content: content.as_ref().to_vec(),
            ..Self::new(b'0', path)
        }
    }

    /// A sparse file as GNU tar 1.28 and later writes it in pax archives (version 1.0).
    ///
    /// `data` are offsets in the file and the bytes there, sorted.
    ///
    /// # Panics
    ///
    /// If the data passes the end of the file.
    pub fn sparse(path: impl AsRef<[u8]>, size: usize, data: &[(usize, &[u8])]) -> Self {
        let mut content = format!("{}\n", data.len()).into_bytes();
        let mut whole = vec![0; size];
        for (offset, bytes) in data {
            content.extend_from_slice(format!("{offset}\n{}\n", bytes.len()).as_bytes());
            whole[*offset..offset + bytes.len()].copy_from_slice(bytes);
        }
        content.resize(content.len().next_multiple_of(BLOCK_LEN), 0);
        content.extend(data.iter().flat_map(|(_, bytes)| bytes.iter()));
        Self {
            expanded: Some((path.as_ref().to_vec(), whole)),
            ..Self::file("GNUSparseFile.0/sparse", content)
        }
        .pax("GNU.sparse.major", "1")
        .pax("GNU.sparse.minor", "0")
        .pax("GNU.sparse.name", path)
        .pax("GNU.sparse.realsize", size.to_string())
    }

    /// A directory, mode 0755.
    pub fn dir(path: impl AsRef<[u8]>) -> Self {
        let mut path = path.as_ref().to_vec();
        if path.last() != Some(&b'/') {
            path.push(b'/');
        }
        Self::new(b'5', path)
    }

    /// A symbolic link, mode 0777.
    pub fn symlink(path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        Self {
            link_name: target.as_ref().to_vec(),
            mode: 0o777,
            ..Self::new(b'2', path)
        }
    }

    /// A hard link to an entry of the same layer.
    pub fn hardlink(path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        Self {
            link_name: target.as_ref().to_vec(),
            ..Self::new(b'1', path)
        }
    }

    /// A character device.
    pub fn char_device(path: impl AsRef<[u8]>, major: u32, minor: u32) -> Self {
        Self {
            device: Some((major, minor)),
            ..Self::new(b'3', path)
        }
    }

    /// A block device.
    pub fn block_device(path: impl AsRef<[u8]>, major: u32, minor: u32) -> Self {
        Self {
            device: Some((major, minor)),
            ..Self::new(b'4', path)
        }
    }

    /// A named pipe.
    pub fn fifo(path: impl AsRef<[u8]>) -> Self {
        Self::new(b'6', path)
    }

    /// Sets the permission bits.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Sets the owner's numbers.
    #[must_use]
    pub fn owner(mut self, uid: u64, gid: u64) -> Self {
        (self.uid, self.gid) = (uid, gid);
        self
    }

    /// Sets the time of the last change: seconds since 1970, may be negative, and nanoseconds.
    #[must_use]
    pub fn mtime(mut self, seconds: i64, nanos: u32) -> Self {
        self.mtime = (seconds, nanos);
        self
    }

    /// Adds an extended attribute, as `SCHILY.xattr.` record.
    #[must_use]
    pub fn xattr(self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        let key = [b"SCHILY.xattr.", name.as_ref()].concat();
        self.pax(key, value)
    }

    /// Adds any pax record.
    #[must_use]
    pub fn pax(mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.records
            .push((key.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// Chooses the dialect.
    #[must_use]
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// Makes the header say another size than the content has.
    #[must_use]
    pub fn lying_size(mut self, size: u64) -> Self {
        self.declared_size = Some(size);
        self
    }

    /// Sets the content, whatever the type.
    #[must_use]
    pub fn content(mut self, content: impl AsRef<[u8]>) -> Self {
        self.content = content.as_ref().to_vec();
        self
    }

    pub(crate) fn facts(&self) -> Facts<'_> {
        let (path, content) = match &self.expanded {
            Some((path, content)) => (path, content),
            None => (&self.path, &self.content),
        };
        let xattrs = self.records.iter().filter_map(|(key, value)| {
            Some((key.strip_prefix(b"SCHILY.xattr.")?, value.as_slice()))
        });
        Facts {
            path,
            link_name: &self.link_name,
            type_flag: self.type_flag,
            content,
            mode: self.mode,
            owner: (self.uid, self.gid),
            mtime: self.mtime,
            device: self.device.unwrap_or_default(),
            xattrs: xattrs.collect(),
        }
    }

    /// Returns the entry's blocks: helper entries, header, content, padding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let records = self.all_records();
        if !records.is_empty() {
            let body = pax_body(&records);
            put_special(&mut out, b'x', b"PaxHeaders/entry", &body, Magic::Posix);
        }
        if self.dialect == Dialect::Gnu {
            self.put_gnu_names(&mut out);
        }
        out.extend_from_slice(&self.header().encode());
        put_padded(&mut out, &self.content);
        out
    }

    fn header(&self) -> TarHeader<'_> {
        let (prefix, name) = match self.dialect {
            Dialect::Pax => split_name(&self.path).unwrap_or((b"", cut(&self.path, 100))),
            Dialect::Gnu | Dialect::V7 => (&b""[..], cut(&self.path, 100)),
        };
        TarHeader {
            name,
            prefix,
            link_name: cut(&self.link_name, 100),
            type_flag: self.type_flag,
            mode: self.mode.into(),
            uid: self.fitting_owner(self.uid),
            gid: self.fitting_owner(self.gid),
            size: self.declared_size.unwrap_or(self.content.len() as u64),
            mtime: match self.dialect {
                Dialect::Pax => self.mtime.0.max(0),
                Dialect::Gnu | Dialect::V7 => self.mtime.0,
            },
            device: self.device,
            magic: match self.dialect {
                Dialect::Pax => Magic::Posix,
                Dialect::Gnu => Magic::Gnu,
                Dialect::V7 => Magic::None,
            },
        }
    }

    /// A number that a pax record gives is 0 in the header, as Go's writer does it.
    fn fitting_owner(&self, id: u64) -> u64 {
        if self.dialect == Dialect::Pax && id > 0o777_7777 {
            0
        } else {
            id
        }
    }

    fn all_records(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut records = Vec::new();
        if self.dialect == Dialect::Pax {
            if split_name(&self.path).is_none() {
                records.push((b"path".to_vec(), self.path.clone()));
            }
            if self.link_name.len() > 100 {
                records.push((b"linkpath".to_vec(), self.link_name.clone()));
            }
            for (key, id) in [("uid", self.uid), ("gid", self.gid)] {
                if id > 0o777_7777 {
                    records.push((key.into(), id.to_string().into_bytes()));
                }
            }
        }
        if self.mtime.1 != 0 || (self.dialect == Dialect::Pax && self.mtime.0 < 0) {
            records.push((b"mtime".to_vec(), pax_time(self.mtime)));
        }
        records.extend(self.records.iter().cloned());
        records
    }

    fn put_gnu_names(&self, out: &mut Vec<u8>) {
        for (type_flag, text) in [(b'K', &self.link_name), (b'L', &self.path)] {
            if text.len() > 100 {
                let body = [text, &b"\0"[..]].concat();
                put_special(out, type_flag, b"././@LongLink", &body, Magic::Gnu);
            }
        }
    }
}

/// Returns the records of a pax header as its body.
pub(crate) fn pax_body(records: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, value) in records {
        // A record begins with its own length, the digits of it included.
        let rest = key.len() + value.len() + 3;
        let mut len = rest + 1;
        while len.to_string().len() + rest != len {
            len = len.to_string().len() + rest;
        }
        body.extend_from_slice(format!("{len} ").as_bytes());
        body.extend_from_slice(key);
        body.push(b'=');
        body.extend_from_slice(value);
        body.push(b'\n');
    }
    body
}

/// Writes an entry that only describes the next one (or, for `g`, all next ones).
pub(crate) fn put_special(
    out: &mut Vec<u8>,
    type_flag: u8,
    name: &[u8],
    body: &[u8],
    magic: Magic,
) {
    let header = TarHeader {
        name,
        prefix: b"",
        link_name: b"",
        type_flag,
        mode: 0o644,
        uid: 0,
        gid: 0,
        size: body.len() as u64,
        mtime: 0,
        device: None,
        magic,
    };
    out.extend_from_slice(&header.encode());
    put_padded(out, body);
}

pub(crate) fn put_padded(out: &mut Vec<u8>, content: &[u8]) {
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(BLOCK_LEN), 0);
}

/// Splits a name into ustar's prefix and name, if it fits.
fn split_name(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= 100 {
        return Some((b"", path));
    }
    let slash = (path.len().saturating_sub(101)..path.len().min(156))
        .find(|index| path[*index] == b'/' && *index > 0 && *index + 1 < path.len())?;
    Some((&path[..slash], &path[slash + 1..]))
}

fn cut(text: &[u8], len: usize) -> &[u8] {
    &text[..text.len().min(len)]
}

fn pax_time((seconds, nanos): (i64, u32)) -> Vec<u8> {
    // pax writes -1.5 s for (-2 s, 500,000,000 ns).
    let total = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let sign = if total < 0 { "-" } else { "" };
    let magnitude = total.unsigned_abs();
    let (whole, fraction) = (magnitude / 1_000_000_000, magnitude % 1_000_000_000);
    if fraction == 0 {
        return format!("{sign}{whole}").into_bytes();
    }
    let text = format!("{sign}{whole}.{fraction:09}");
    text.trim_end_matches('0').as_bytes().to_vec()
}
