//! The gate in front of the kernel: is this a root tree that our writer could have written?
//!
//! Every inode that the root leads to is looked at once. What each of them takes up in the image is
//! *claimed*; all claims together are never longer than the image, and no two overlap. That is
//! what bounds the work, whatever the bytes say.

use std::collections::HashMap;

use zerocopy::IntoBytes;

use super::directory::BlockEntries;
use super::format::{
    BLOCK_BITS, CHUNK_BASED, CHUNK_BITS_MASK, CHUNK_INDEX_LEN, CHUNK_INDEXES, DEVICE_SLOTS_AT,
    DeviceSlot, EXTENDED, FEATURES, FLAT_INLINE, FLAT_PLAIN, FileType, HOLE, INODE_LEN, MAGIC,
    SUPERBLOCK_OFFSET, Superblock,
};
use super::reader::{Image, Nid, RawInode};
use super::writer::device_slot;
use super::xattr::decode_xattrs;
use super::{EROFS_BLOCK_LEN, FILE_CHUNKS_MAX, TREE_LEN_MAX, TreeError};
use crate::tree::{LAYERS_MAX, NAME_LEN_MAX, TARGET_LEN_MAX};

/// Checks a whole image; returns its root and all of its inodes, sorted.
pub(super) fn validate(
    image: Image<'_>,
    layer_tar_lens: &[u64],
) -> Result<(Nid, Vec<Nid>), TreeError> {
    let superblock = check_superblock(image, layer_tar_lens.len())?;
    check_device_slots(image, layer_tar_lens)?;
    let head_len = SUPERBLOCK_OFFSET + size_of::<Superblock>();
    let head_len = head_len + size_of::<DeviceSlot>() * layer_tar_lens.len();
    let mut walk = Walk {
        image,
        layer_tar_lens,
        claims: Vec::new(),
        claimed_len: 0,
        seen: HashMap::new(),
        directories: Vec::new(),
    };
    walk.claim(0, head_len as u64)?;
    let root = u64::from(superblock.root_nid.get());
    walk.enter_directory(root, root)?;
    while let Some((directory, parent)) = walk.directories.pop() {
        walk.check_directory(directory, parent)?;
    }
    walk.finish(superblock.inode_count.get())
}

fn check_superblock(image: Image<'_>, layer_count: usize) -> Result<Superblock, TreeError> {
    let len = image.0.len() as u64;
    let superblock = image.superblock().ok_or(TreeError::Length(len))?;
    if !len.is_multiple_of(EROFS_BLOCK_LEN) || len > TREE_LEN_MAX {
        return Err(TreeError::Length(len));
    }
    let wanted = [
        ("magic", superblock.magic.get() == MAGIC),
        ("checksum", superblock.checksum.get() == 0),
        ("feature_compat", superblock.feature_compat.get() == 0),
        ("blkszbits", superblock.block_bits == BLOCK_BITS),
        ("sb_extslots", superblock.extension_slots == 0),
        ("build_time", superblock.build_time.get() == 0),
        ("build_time_nsec", superblock.build_time_nanos.get() == 0),
        (
            "blocks",
            u64::from(superblock.blocks.get()) * EROFS_BLOCK_LEN == len,
        ),
        ("meta_blkaddr", superblock.meta_block.get() == 0),
        ("xattr_blkaddr", superblock.xattr_block.get() == 0),
        ("uuid", superblock.uuid == [0; 16]),
        ("volume_name", superblock.volume_name == [0; 16]),
        (
            "feature_incompat",
            superblock.feature_incompat.get() == FEATURES,
        ),
        ("available_compr_algs", superblock.compression.get() == 0),
        (
            "extra_devices",
            usize::from(superblock.device_count.get()) == layer_count,
        ),
        (
            "devt_slotoff",
            superblock.device_slots_at.get() == DEVICE_SLOTS_AT,
        ),
        ("dirblkbits", superblock.directory_block_bits == 0),
        ("reserved", superblock.rest == [0; 37]),
    ];
    match wanted.into_iter().find(|(_, is_right)| !is_right) {
        Some((field, _)) => Err(TreeError::Superblock(field)),
        None => Ok(superblock),
    }
}

fn check_device_slots(image: Image<'_>, layer_tar_lens: &[u64]) -> Result<(), TreeError> {
    if layer_tar_lens.len() > LAYERS_MAX {
        return Err(TreeError::Superblock("extra_devices"));
    }
    for (layer_index, tar_len) in layer_tar_lens.iter().enumerate() {
        let offset = (usize::from(DEVICE_SLOTS_AT) + layer_index) * size_of::<DeviceSlot>();
        let actual = image.slice(offset as u64, size_of::<DeviceSlot>() as u64);
        let wanted = device_slot(layer_index, *tar_len);
        if wanted.is_none() || actual != wanted.as_ref().map(IntoBytes::as_bytes) {
            return Err(TreeError::Device { layer_index });
        }
    }
    Ok(())
}

/// One pass over everything that the root leads to.
#[derive(Debug)]
struct Walk<'a> {
    image: Image<'a>,
    layer_tar_lens: &'a [u64],
    /// Offset and length of everything that was seen.
    claims: Vec<(u64, u64)>,
    claimed_len: u64,
    seen: HashMap<u64, Seen>,
    /// Directories to look into, each with its parent.
    directories: Vec<(u64, u64)>,
}

/// An inode that was checked.
#[derive(Debug, Clone, Copy)]
struct Seen {
    file_type: FileType,
    /// How many names it says that it has.
    link_count: u32,
    /// How many were found so far.
    found: u32,
}

impl<'a> Walk<'a> {
    fn enter_directory(&mut self, nid: u64, parent: u64) -> Result<(), TreeError> {
        let raw = self.check_inode(nid)?;
        if raw.file_type() != Some(FileType::Directory) {
            return Err(problem(nid, "it is not a directory"));
        }
        self.directories.push((nid, parent));
        Ok(())
    }

    fn check_directory(&mut self, nid: u64, parent: u64) -> Result<(), TreeError> {
        let raw = self
            .image
            .inode(nid)
            .ok_or(problem(nid, "it is out of bounds"))?;
        let mut previous: &[u8] = b"";
        let (mut dots, mut subdirectories) = (0, 0_u32);
        for index in 0..raw.block_count() {
            let block = raw
                .flat_block(index)
                .ok_or(problem(nid, "its data is out of bounds"))?;
            let entries = BlockEntries::new(block);
            if !entries.is_well_formed() {
                return Err(problem(nid, "a block of the directory is malformed"));
            }
            for entry in entries {
                if entry.name <= previous {
                    return Err(problem(nid, "its names are not sorted"));
                }
                previous = entry.name;
                let is_directory = entry.file_type == FileType::Directory;
                match entry.name {
                    b"." if is_directory && entry.nid == nid => dots += 1,
                    b".." if is_directory && entry.nid == parent => dots += 1,
                    b"." | b".." => return Err(problem(nid, "its dots lead elsewhere")),
                    name if !is_usable_name(name) => {
                        return Err(problem(nid, "it has a name that cannot be"));
                    }
                    _ if is_directory => {
                        subdirectories += 1;
                        self.enter_directory(entry.nid, nid)?;
                    }
                    _ => self.enter_leaf(nid, entry.nid, entry.file_type)?,
                }
            }
        }
        let wanted = raw.disk.link_count.get();
        if dots != 2 || subdirectories.checked_add(2) != Some(wanted) {
            return Err(problem(nid, "the directory's link count is wrong"));
        }
        Ok(())
    }

    fn enter_leaf(
        &mut self,
        directory: u64,
        nid: u64,
        file_type: FileType,
    ) -> Result<(), TreeError> {
        if !self.seen.contains_key(&nid) {
            self.check_inode(nid)?;
        }
        let seen = self
            .seen
            .get_mut(&nid)
            .filter(|seen| seen.file_type == file_type);
        let seen = seen.ok_or(problem(
            directory,
            "an entry says another type than its inode",
        ))?;
        seen.found = seen.found.saturating_add(1);
        Ok(())
    }

    /// Checks an inode that was not seen before, all but what is in it if it is a directory.
    fn check_inode(&mut self, nid: u64) -> Result<RawInode<'a>, TreeError> {
        let fail = |text| problem(nid, text);
        let raw = self.image.inode(nid).ok_or(fail("it is out of bounds"))?;
        let file_type = raw.file_type().ok_or(fail("its mode has no known type"))?;
        let disk = &raw.disk;
        if disk.format.get() & EXTENDED == 0 || disk.reserved.get() != 0 || disk.rest != [0; 16] {
            return Err(fail("it has parts that are not in use"));
        }
        if raw.offset % EROFS_BLOCK_LEN + INODE_LEN as u64 > EROFS_BLOCK_LEN {
            return Err(fail("it crosses a block"));
        }
        if i64::try_from(disk.mtime.get()).is_err() || disk.mtime_nanos.get() >= 1_000_000_000 {
            return Err(fail("its time cannot be"));
        }
        let xattrs = raw
            .xattr_bytes()
            .ok_or(fail("its attributes are out of bounds"))?;
        let seen = Seen {
            file_type,
            link_count: disk.link_count.get(),
            found: 0,
        };
        if self.seen.insert(nid, seen).is_some() {
            return Err(fail("the directory is reached twice"));
        }
        // Claimed before it is looked at: overlapping attributes cost nothing.
        self.claim(raw.offset, INODE_LEN as u64 + raw.xattrs_len())?;
        if decode_xattrs(xattrs).is_none() {
            return Err(fail("its attributes are malformed"));
        }
        match file_type {
            FileType::File => self.check_file(nid, &raw)?,
            FileType::Directory | FileType::Symlink => self.check_flat(nid, &raw, file_type)?,
            FileType::CharDevice if raw.detail() == 0 => {
                // overlayfs takes a character device 0:0 for a whiteout; merging made it one.
                return Err(fail("it is a device without a number"));
            }
            FileType::Fifo if raw.detail() != 0 => return Err(fail("a pipe has no number")),
            FileType::CharDevice | FileType::BlockDevice | FileType::Fifo => {
                check_empty(nid, &raw)?;
            }
        }
        Ok(raw)
    }

    fn check_file(&mut self, nid: u64, raw: &RawInode<'_>) -> Result<(), TreeError> {
        if raw.size() == 0 && raw.detail() == 0 {
            return check_empty(nid, raw);
        }
        let fail = |text| problem(nid, text);
        let is_known_form = raw.detail() & !CHUNK_BITS_MASK == CHUNK_INDEXES;
        if raw.layout() != CHUNK_BASED || !is_known_form || raw.size() == 0 {
            return Err(fail("a file's data is not in the form of indexes"));
        }
        let count = raw.chunk_count();
        if i64::try_from(raw.size()).is_err() || count > FILE_CHUNKS_MAX {
            return Err(fail("the file is too long"));
        }
        self.claim(raw.body_offset(), raw.indexes_offset() - raw.body_offset())?;
        self.claim(raw.indexes_offset(), count * CHUNK_INDEX_LEN as u64)?;
        for index in 0..count {
            let start = index * raw.chunk_len();
            let len = raw.chunk_len().min(raw.size() - start);
            if !self.is_within_a_layer(raw, index, len) {
                return Err(fail("its data is not within a layer"));
            }
        }
        Ok(())
    }

    /// Whether an EROFS chunk with `len` bytes of a file is a hole or lies within its layer's tar.
    fn is_within_a_layer(&self, raw: &RawInode<'_>, index: u64, len: u64) -> bool {
        let Some(chunk) = raw.chunk_index(index) else {
            return false;
        };
        let (device_id, block) = (chunk.device_id.get(), chunk.start_block.get());
        if chunk.start_block_high.get() != 0 {
            return false;
        }
        if block == HOLE {
            return device_id == 0;
        }
        let layer = usize::from(device_id).checked_sub(1);
        let tar_len = layer.and_then(|layer| self.layer_tar_lens.get(layer));
        tar_len.is_some_and(|tar_len| u64::from(block) * EROFS_BLOCK_LEN + len <= *tar_len)
    }

    fn check_flat(
        &mut self,
        nid: u64,
        raw: &RawInode<'_>,
        file_type: FileType,
    ) -> Result<(), TreeError> {
        let fail = |text| problem(nid, text);
        let tail_len = raw.tail_len();
        let is_known_form = match raw.layout() {
            FLAT_PLAIN => true,
            FLAT_INLINE => tail_len > 0,
            _ => false,
        };
        if !is_known_form || raw.size() == 0 {
            return Err(fail("its data is in another form than ours"));
        }
        if raw.body_offset() % EROFS_BLOCK_LEN + tail_len > EROFS_BLOCK_LEN {
            return Err(fail("the end of its data crosses a block"));
        }
        let whole_blocks = (raw.size() - tail_len).div_ceil(EROFS_BLOCK_LEN);
        let start = u64::from(raw.detail()) * EROFS_BLOCK_LEN;
        self.claim(raw.body_offset(), tail_len)?;
        let whole_len = whole_blocks.checked_mul(EROFS_BLOCK_LEN);
        self.claim(start, whole_len.ok_or(fail("its data is out of bounds"))?)?;
        if whole_blocks == 0 && start != 0 {
            return Err(fail("it has parts that are not in use"));
        }
        if file_type == FileType::Symlink {
            return check_target(nid, raw);
        }
        Ok(())
    }

    /// Notes that bytes of the image are taken.
    fn claim(&mut self, offset: u64, len: u64) -> Result<(), TreeError> {
        if len == 0 {
            return Ok(());
        }
        self.claimed_len = self.claimed_len.saturating_add(len);
        if self.image.slice(offset, len).is_none() || self.claimed_len > self.image.0.len() as u64 {
            return Err(TreeError::Overlap(offset));
        }
        self.claims.push((offset, len));
        Ok(())
    }

    fn finish(mut self, inode_count: u64) -> Result<(Nid, Vec<Nid>), TreeError> {
        for (nid, seen) in &self.seen {
            if seen.file_type != FileType::Directory && seen.found != seen.link_count {
                return Err(problem(*nid, "its link count is wrong"));
            }
        }
        if self.seen.len() as u64 != inode_count {
            return Err(TreeError::Superblock("inos"));
        }
        self.claims.sort_unstable();
        for pair in self.claims.windows(2) {
            if pair[0].0 + pair[0].1 > pair[1].0 {
                return Err(TreeError::Overlap(pair[1].0));
            }
        }
        let root = self
            .image
            .superblock()
            .map_or(0, |superblock| superblock.root_nid.get());
        let mut nids: Vec<Nid> = self.seen.into_keys().map(Nid).collect();
        nids.sort_unstable();
        Ok((Nid(root.into()), nids))
    }
}

fn check_empty(nid: u64, raw: &RawInode<'_>) -> Result<(), TreeError> {
    if raw.layout() != FLAT_PLAIN || raw.size() != 0 {
        return Err(problem(nid, "it has data, which its type cannot have"));
    }
    Ok(())
}

fn check_target(nid: u64, raw: &RawInode<'_>) -> Result<(), TreeError> {
    if raw.size() > TARGET_LEN_MAX as u64 {
        return Err(problem(nid, "its target is too long"));
    }
    let mut blocks = (0..raw.block_count()).map(|index| raw.flat_block(index));
    if blocks.any(|block| block.is_none_or(|block| block.contains(&0))) {
        return Err(problem(nid, "its target has a zero byte in it"));
    }
    Ok(())
}

fn is_usable_name(name: &[u8]) -> bool {
    name.len() <= NAME_LEN_MAX && !name.iter().any(|byte| matches!(byte, 0 | b'/'))
}

fn problem(nid: u64, problem: &'static str) -> TreeError {
    TreeError::Inode { nid, problem }
}
