//! The tar of one layer.

use crate::entry::{Entry, pax_body, put_special};
use crate::tar_header::{BLOCK_LEN, Magic, TarHeader, put_checksum, put_number};

/// Makes the tar of a layer, entry by entry, in the order of the calls.
///
/// ```
/// use test_images::{Entry, LayerBuilder};
///
/// let tar = LayerBuilder::new()
///     .dir("etc")
///     .file("etc/hostname", "box\n")
///     .entry(Entry::file("bin/su", "…").mode(0o4755).owner(0, 0))
///     .whiteout("etc/passwd")
///     .build();
/// assert_eq!(tar.len() % 512, 0);
/// ```
#[derive(Debug, Clone, Default)]
pub struct LayerBuilder {
    tar: Vec<u8>,
}

impl LayerBuilder {
    /// Starts an empty layer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds any entry.
    #[must_use]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "entries are made where they are added"
    )]
    pub fn entry(mut self, entry: Entry) -> Self {
        let Self { tar } = &mut self;
        tar.extend_from_slice(&entry.encode());
        self
    }

    /// Adds a regular file, mode 0644, owner root.
    #[must_use]
    pub fn file(self, path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        self.entry(Entry::file(path, content))
    }

    /// Adds a directory, mode 0755, owner root.
    #[must_use]
    pub fn dir(self, path: impl AsRef<[u8]>) -> Self {
        self.entry(Entry::dir(path))
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn symlink(self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.entry(Entry::symlink(path, target))
    }

    /// Adds a hard link to an entry of this layer.
    #[must_use]
    pub fn hardlink(self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.entry(Entry::hardlink(path, target))
    }

    /// Adds a character device.
    #[must_use]
    pub fn char_device(self, path: impl AsRef<[u8]>, major: u32, minor: u32) -> Self {
        self.entry(Entry::char_device(path, major, minor))
    }

    /// Adds a block device.
    #[must_use]
    pub fn block_device(self, path: impl AsRef<[u8]>, major: u32, minor: u32) -> Self {
        self.entry(Entry::block_device(path, major, minor))
    }

    /// Adds a named pipe.
    #[must_use]
    pub fn fifo(self, path: impl AsRef<[u8]>) -> Self {
        self.entry(Entry::fifo(path))
    }

    /// Marks `path` of the layers below as deleted.
    #[must_use]
    pub fn whiteout(self, path: impl AsRef<[u8]>) -> Self {
        let path = path.as_ref();
        let start = path
            .iter()
            .rposition(|byte| *byte == b'/')
            .map_or(0, |slash| slash + 1);
        let marker = [&path[..start], b".wh.", &path[start..]].concat();
        self.file(marker, "")
    }

    /// Marks everything that the layers below have in `dir` as deleted.
    #[must_use]
    pub fn opaque(self, dir: impl AsRef<[u8]>) -> Self {
        let dir = dir.as_ref();
        let slash: &[u8] = if dir.is_empty() || dir.ends_with(b"/") {
            b""
        } else {
            b"/"
        };
        self.file([dir, slash, b".wh..wh..opq"].concat(), "")
    }

    /// Adds a sparse file as GNU tar 1.28 and later writes it in pax archives (version 1.0).
    ///
    /// `data` are offsets in the file and the bytes there, sorted.
    #[must_use]
    pub fn sparse(self, path: impl AsRef<[u8]>, size: usize, data: &[(usize, &[u8])]) -> Self {
        self.entry(Entry::sparse(path, size, data))
    }

    /// Adds a sparse file in the pax version 0.1: one record holds the whole map.
    #[must_use]
    pub fn sparse_map_record(
        self,
        path: impl AsRef<[u8]>,
        size: u64,
        data: &[(u64, &[u8])],
    ) -> Self {
        let map: Vec<String> = data
            .iter()
            .map(|(offset, bytes)| format!("{offset},{}", bytes.len()))
            .collect();
        let content: Vec<u8> = data
            .iter()
            .flat_map(|(_, bytes)| bytes.iter().copied())
            .collect();
        let entry = Entry::file("GNUSparseFile.0/sparse", content)
            .pax("GNU.sparse.name", path)
            .pax("GNU.sparse.size", size.to_string())
            .pax("GNU.sparse.numblocks", data.len().to_string())
            .pax("GNU.sparse.map", map.join(","));
        self.entry(entry)
    }

    /// Adds a sparse file in the pax version 0.0: two records for each part.
    #[must_use]
    pub fn sparse_repeated_records(
        self,
        path: impl AsRef<[u8]>,
        size: u64,
        data: &[(u64, &[u8])],
    ) -> Self {
        let content: Vec<u8> = data
            .iter()
            .flat_map(|(_, bytes)| bytes.iter().copied())
            .collect();
        let mut entry = Entry::file(path, content)
            .pax("GNU.sparse.size", size.to_string())
            .pax("GNU.sparse.numblocks", data.len().to_string());
        for (offset, bytes) in data {
            entry = entry
                .pax("GNU.sparse.offset", offset.to_string())
                .pax("GNU.sparse.numbytes", bytes.len().to_string());
        }
        self.entry(entry)
    }

    /// Adds an old GNU sparse file (type `S`), with at most four parts. containerd refuses these.
    #[must_use]
    pub fn sparse_old_gnu(
        mut self,
        path: impl AsRef<[u8]>,
        size: u64,
        data: &[(u64, &[u8])],
    ) -> Self {
        let content: Vec<u8> = data
            .iter()
            .flat_map(|(_, bytes)| bytes.iter().copied())
            .collect();
        let header = TarHeader {
            name: path.as_ref(),
            prefix: b"",
            link_name: b"",
            type_flag: b'S',
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: content.len() as u64,
            mtime: 0,
            device: None,
            magic: Magic::Gnu,
        };
        let mut block = header.encode();
        for (index, (offset, bytes)) in data.iter().take(4).enumerate() {
            let start = 386 + 24 * index;
            put_number(&mut block[start..start + 12], *offset);
            put_number(&mut block[start + 12..start + 24], bytes.len() as u64);
        }
        put_number(&mut block[483..495], size);
        put_checksum(&mut block);
        self.tar.extend_from_slice(&block);
        crate::entry::put_padded(&mut self.tar, &content);
        self
    }

    /// Adds a global pax header.
    #[must_use]
    pub fn global_pax(mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        let body = pax_body(&[(key.as_ref().to_vec(), value.as_ref().to_vec())]);
        put_special(
            &mut self.tar,
            b'g',
            b"pax_global_header",
            &body,
            Magic::Posix,
        );
        self
    }

    /// Adds bytes as they are.
    #[must_use]
    pub fn raw(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.tar.extend_from_slice(bytes.as_ref());
        self
    }

    /// Returns the tar, ended by two zero blocks.
    pub fn build(mut self) -> Vec<u8> {
        self.tar.resize(self.tar.len() + 2 * BLOCK_LEN, 0);
        self.tar
    }

    /// Returns the tar without the two zero blocks that should end it.
    pub fn build_unterminated(self) -> Vec<u8> {
        self.tar
    }
}
