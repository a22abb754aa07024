//! The writer: a merged tree in, an EROFS image out.
//!
//! Two passes over the inodes: the first one gives each its place, the second one writes it there.

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64};

use super::chunks::{ChunkPlan, ChunkProblem};
use super::directory::{NamedInode, directory_len, encode_directory};
use super::format::{
    BLOCK_BITS, BLOCK_LEN, CHUNK_BASED, CHUNK_INDEX_LEN, CHUNK_INDEXES, ChunkIndex,
    DEVICE_SLOTS_AT, DeviceSlot, DiskInode, EXTENDED, FEATURES, FLAT_INLINE, FLAT_PLAIN, FileType,
    HOLE, INODE_LEN, INODE_SLOT_LEN, MAGIC, SUPERBLOCK_OFFSET, Superblock, encode_device,
};
use super::xattr::encode_xattrs;
use super::{EROFS_BLOCK_LEN, TREE_LEN_MAX, WriteTreeError};
use crate::tar::{DataMap, EntryName};
use crate::tree::{Inode, InodeId, InodeKind, LAYERS_MAX, RootTree};

/// Writes `tree` as an EROFS image that holds its metadata; `layer_tar_lens` are the lengths of the layers'
/// tars, lowest first.
///
/// # Errors
///
/// [`WriteTreeError`] with the name of what cannot be written.
pub fn write_erofs(tree: &RootTree, layer_tar_lens: &[u64]) -> Result<Vec<u8>, WriteTreeError> {
    let slots = device_slots(layer_tar_lens)?;
    let layout = Layout::new(tree, layer_tar_lens)?;
    let mut image = vec![0; layout.image_len];
    let superblock = superblock(tree, &layout, layer_tar_lens.len());
    put(&mut image, SUPERBLOCK_OFFSET, superblock.as_bytes());
    put(
        &mut image,
        SUPERBLOCK_OFFSET + size_of::<Superblock>(),
        slots.as_bytes(),
    );
    for ((id, _), place) in tree.inodes().zip(&layout.places) {
        put_inode(&mut image, tree, &layout, id, place);
    }
    Ok(image)
}

/// Where everything goes.
#[derive(Debug)]
struct Layout {
    places: Vec<Place>,
    image_len: usize,
}

/// Where one inode goes.
#[derive(Debug, Clone, Copy)]
struct Place {
    offset: usize,
    xattrs_len: usize,
    data: DataPlace,
}

/// Where an inode's data goes.
#[derive(Debug, Clone, Copy)]
enum DataPlace {
    /// There is none in the image.
    None,
    /// Whole blocks from `block` on (counted from the first one after the inodes, until all inodes
    /// have a place), and `tail_len` bytes behind the inode.
    Flat {
        block: usize,
        whole_len: usize,
        tail_len: usize,
    },
    /// Indexes behind the inode.
    Chunks(ChunkPlan),
}

impl Layout {
    fn new(tree: &RootTree, layer_tar_lens: &[u64]) -> Result<Self, WriteTreeError> {
        let slots_len = size_of::<DeviceSlot>() * layer_tar_lens.len();
        let mut end = SUPERBLOCK_OFFSET + size_of::<Superblock>() + slots_len;
        let mut whole_blocks = 0;
        let mut places = Vec::with_capacity(tree.inode_count());
        for (id, inode) in tree.inodes() {
            let xattrs_len = encode_xattrs(&inode.attributes.xattrs).len();
            let mut data = data_place(tree, id, inode, layer_tar_lens)?;
            if let DataPlace::Flat {
                block,
                whole_len,
                tail_len,
            } = &mut data
            {
                if (INODE_LEN + xattrs_len) % BLOCK_LEN + *tail_len > BLOCK_LEN {
                    *whole_len += std::mem::take(tail_len).next_multiple_of(BLOCK_LEN);
                }
                *block = whole_blocks;
                whole_blocks += *whole_len / BLOCK_LEN;
            }
            let place = Place {
                offset: inode_offset(end, INODE_LEN + xattrs_len, data),
                xattrs_len,
                data,
            };
            end = place.end();
            check_tree_len(end + whole_blocks * BLOCK_LEN)?;
            places.push(place);
        }
        let first_block = end.div_ceil(BLOCK_LEN);
        for place in &mut places {
            if let DataPlace::Flat {
                block, whole_len, ..
            } = &mut place.data
            {
                *block = if *whole_len == 0 {
                    0
                } else {
                    *block + first_block
                };
            }
        }
        let image_len = (first_block + whole_blocks) * BLOCK_LEN;
        check_tree_len(image_len)?;
        Ok(Self { places, image_len })
    }

    fn nid(&self, id: InodeId) -> u64 {
        (self.places[id.index()].offset / INODE_SLOT_LEN) as u64
    }
}

impl Place {
    fn body_offset(&self) -> usize {
        self.offset + INODE_LEN + self.xattrs_len
    }

    fn end(&self) -> usize {
        match self.data {
            DataPlace::None => self.body_offset(),
            DataPlace::Flat { tail_len, .. } => self.body_offset() + tail_len,
            DataPlace::Chunks(plan) => self.indexes_offset() + indexes_len(plan),
        }
    }

    fn indexes_offset(&self) -> usize {
        self.body_offset().next_multiple_of(CHUNK_INDEX_LEN)
    }
}

/// Finds the first place at or after `end` where neither the inode nor its tail crosses a block.
fn inode_offset(end: usize, head_len: usize, data: DataPlace) -> usize {
    let tail_len = match data {
        DataPlace::Flat { tail_len, .. } => tail_len,
        DataPlace::None | DataPlace::Chunks(_) => 0,
    };
    let mut offset = end.next_multiple_of(INODE_SLOT_LEN);
    // The beginning of a block always fits, so this ends within one block.
    while offset % BLOCK_LEN + INODE_LEN > BLOCK_LEN
        || (offset + head_len) % BLOCK_LEN + tail_len > BLOCK_LEN
    {
        offset += INODE_SLOT_LEN;
    }
    offset
}

fn data_place(
    tree: &RootTree,
    id: InodeId,
    inode: &Inode,
    layer_tar_lens: &[u64],
) -> Result<DataPlace, WriteTreeError> {
    let path = || EntryName(tree.path_of(id));
    match &inode.kind {
        InodeKind::File { data, .. } if data.size == 0 => Ok(DataPlace::None),
        InodeKind::File { layer_index, data } => {
            let tar_len = layer_tar_lens.get(*layer_index as usize);
            if !tar_len.is_some_and(|tar_len| lies_within(data, *tar_len)) {
                return Err(WriteTreeError::DataOutsideLayer {
                    path: path(),
                    layer_index: *layer_index,
                });
            }
            let plan = ChunkPlan::new(data).map_err(|problem| match problem {
                ChunkProblem::Unaligned => WriteTreeError::UnalignedSparse {
                    path: path(),
                    layer_index: *layer_index,
                },
                ChunkProblem::TooMany(count) => WriteTreeError::TooManyChunks {
                    path: path(),
                    layer_index: *layer_index,
                    count,
                },
            })?;
            Ok(DataPlace::Chunks(plan))
        }
        InodeKind::Directory { children } => {
            let mut lens: Vec<(&[u8], usize)> = vec![(b".", 1), (b"..", 2)];
            lens.extend(children.keys().map(|name| (name.as_slice(), name.len())));
            // The dots have their place among the names: "!" comes before them.
            lens.sort_unstable();
            Ok(flat(directory_len(lens.into_iter().map(|(_, len)| len))))
        }
        InodeKind::Symlink { target } => Ok(flat(target.len())),
        InodeKind::CharDevice { device } | InodeKind::BlockDevice { device } => {
            if encode_device(*device).is_none() {
                return Err(WriteTreeError::DeviceNumber {
                    path: path(),
                    major: device.major,
                    minor: device.minor,
                });
            }
            Ok(DataPlace::None)
        }
        InodeKind::Fifo => Ok(DataPlace::None),
    }
}

fn flat(len: usize) -> DataPlace {
    let tail_len = len % BLOCK_LEN;
    DataPlace::Flat {
        block: 0,
        whole_len: len - tail_len,
        tail_len,
    }
}

fn lies_within(data: &DataMap, tar_len: u64) -> bool {
    data.segments
        .iter()
        .all(|segment| segment.tar_offset + segment.len <= tar_len)
}

fn put_inode(image: &mut [u8], tree: &RootTree, layout: &Layout, id: InodeId, place: &Place) {
    let inode = tree.inode(id);
    let xattrs = encode_xattrs(&inode.attributes.xattrs);
    let body = match (&inode.kind, place.data) {
        (InodeKind::Directory { .. }, _) => directory_bytes(tree, layout, id),
        (InodeKind::Symlink { target }, _) => target.clone(),
        (_, DataPlace::None | DataPlace::Flat { .. } | DataPlace::Chunks(_)) => Vec::new(),
    };
    let disk_inode = disk_inode(inode, id, place, body.len());
    put(image, place.offset, disk_inode.as_bytes());
    put(image, place.offset + INODE_LEN, &xattrs);
    match (&inode.kind, place.data) {
        (InodeKind::File { layer_index, data }, DataPlace::Chunks(plan)) => {
            let indexes = chunk_indexes(*layer_index, data, plan);
            put(image, place.indexes_offset(), indexes.as_bytes());
        }
        (
            _,
            DataPlace::Flat {
                block, whole_len, ..
            },
        ) => {
            let (whole, tail) = body.split_at(whole_len.min(body.len()));
            put(image, block * BLOCK_LEN, whole);
            put(image, place.body_offset(), tail);
        }
        (_, DataPlace::None | DataPlace::Chunks(_)) => {}
    }
}

fn disk_inode(inode: &Inode, id: InodeId, place: &Place, body_len: usize) -> DiskInode {
    let (layout, detail) = match place.data {
        DataPlace::None => (FLAT_PLAIN, device_detail(&inode.kind)),
        DataPlace::Flat {
            block, tail_len: 0, ..
        } => (FLAT_PLAIN, small(block)),
        DataPlace::Flat { block, .. } => (FLAT_INLINE, small(block)),
        DataPlace::Chunks(plan) => (CHUNK_BASED, CHUNK_INDEXES | plan.bits),
    };
    let size = match &inode.kind {
        InodeKind::File { data, .. } => data.size,
        InodeKind::Directory { .. }
        | InodeKind::Symlink { .. }
        | InodeKind::CharDevice { .. }
        | InodeKind::BlockDevice { .. }
        | InodeKind::Fifo => body_len as u64,
    };
    let attributes = &inode.attributes;
    let mode = file_type(&inode.kind).as_mode() | attributes.mode & 0o7777;
    DiskInode {
        format: U16::new(EXTENDED | layout << 1),
        xattr_count: U16::new(xattr_count(place.xattrs_len)),
        mode: U16::new(u16::try_from(mode).unwrap_or_default()),
        reserved: U16::ZERO,
        size: U64::new(size),
        detail: U32::new(detail),
        number: U32::new(small(id.index() + 1)),
        uid: U32::new(attributes.uid),
        gid: U32::new(attributes.gid),
        mtime: U64::new(u64::try_from(attributes.mtime.seconds).unwrap_or_default()),
        mtime_nanos: U32::new(attributes.mtime.nanos),
        link_count: U32::new(inode.link_count),
        rest: [0; 16],
    }
}

fn device_detail(kind: &InodeKind) -> u32 {
    match kind {
        InodeKind::CharDevice { device } | InodeKind::BlockDevice { device } => {
            encode_device(*device).unwrap_or_default()
        }
        InodeKind::File { .. }
        | InodeKind::Directory { .. }
        | InodeKind::Symlink { .. }
        | InodeKind::Fifo => 0,
    }
}

/// 0 for none, else 1 for the header and 1 for each 4 bytes of entries.
fn xattr_count(xattrs_len: usize) -> u16 {
    let units = xattrs_len
        .checked_sub(super::format::XATTR_HEADER_LEN)
        .map(|len| len / 4 + 1);
    u16::try_from(units.unwrap_or(0)).unwrap_or(u16::MAX)
}

fn directory_bytes(tree: &RootTree, layout: &Layout, id: InodeId) -> Vec<u8> {
    let dots = [(&b"."[..], id), (b"..", tree.parent(id))].map(|(name, id)| NamedInode {
        name,
        nid: layout.nid(id),
        file_type: FileType::Directory,
    });
    let mut names: Vec<NamedInode<'_>> = dots.to_vec();
    names.extend(tree.children(id).map(|(name, child)| NamedInode {
        name,
        nid: layout.nid(child),
        file_type: file_type(&tree.inode(child).kind),
    }));
    names.sort_unstable_by_key(|name| name.name);
    encode_directory(&names)
}

fn chunk_indexes(layer_index: u32, data: &DataMap, plan: ChunkPlan) -> Vec<ChunkIndex> {
    let index_of = |tar_offset: Option<u64>| ChunkIndex {
        start_block_high: U16::ZERO,
        device_id: U16::new(match tar_offset {
            Some(_) => u16::try_from(layer_index + 1).unwrap_or_default(),
            None => 0,
        }),
        start_block: U32::new(match tar_offset {
            Some(offset) => u32::try_from(offset / EROFS_BLOCK_LEN).unwrap_or(HOLE),
            None => HOLE,
        }),
    };
    plan.tar_offsets(data).map(index_of).collect()
}

fn indexes_len(plan: ChunkPlan) -> usize {
    // At most `FILE_CHUNKS_MAX` of them.
    usize::try_from(plan.count).unwrap_or(usize::MAX) * CHUNK_INDEX_LEN
}

fn superblock(tree: &RootTree, layout: &Layout, layer_count: usize) -> Superblock {
    Superblock {
        magic: U32::new(MAGIC),
        checksum: U32::ZERO,
        feature_compat: U32::ZERO,
        block_bits: BLOCK_BITS,
        extension_slots: 0,
        root_nid: U16::new(u16::try_from(layout.nid(RootTree::ROOT)).unwrap_or_default()),
        inode_count: U64::new(tree.inode_count() as u64),
        build_time: U64::ZERO,
        build_time_nanos: U32::ZERO,
        blocks: U32::new(small(layout.image_len / BLOCK_LEN)),
        meta_block: U32::ZERO,
        xattr_block: U32::ZERO,
        uuid: [0; 16],
        volume_name: [0; 16],
        feature_incompat: U32::new(FEATURES),
        compression: U16::ZERO,
        device_count: U16::new(u16::try_from(layer_count).unwrap_or_default()),
        device_slots_at: U16::new(DEVICE_SLOTS_AT),
        directory_block_bits: 0,
        rest: [0; 37],
    }
}

fn device_slots(layer_tar_lens: &[u64]) -> Result<Vec<DeviceSlot>, WriteTreeError> {
    if layer_tar_lens.len() > LAYERS_MAX {
        return Err(WriteTreeError::TooManyLayers(layer_tar_lens.len()));
    }
    let slots = layer_tar_lens
        .iter()
        .enumerate()
        .map(|(layer_index, tar_len)| {
            device_slot(layer_index, *tar_len).ok_or(WriteTreeError::LayerTooLong {
                layer_index,
                tar_len: *tar_len,
            })
        });
    slots.collect()
}

/// The slot of a layer, `None` if its tar is too long for one. Its tag is the layer's index.
pub(super) fn device_slot(layer_index: usize, tar_len: u64) -> Option<DeviceSlot> {
    let blocks = u32::try_from(tar_len.div_ceil(EROFS_BLOCK_LEN))
        .ok()
        .filter(|count| *count < HOLE)?;
    let mut tag = [0; 64];
    let text = layer_index.to_string();
    tag[..text.len()].copy_from_slice(text.as_bytes());
    Some(DeviceSlot {
        tag,
        blocks: U32::new(blocks),
        mapped_block: U32::ZERO,
        reserved: [0; 56],
    })
}

pub(super) fn file_type(kind: &InodeKind) -> FileType {
    match kind {
        InodeKind::File { .. } => FileType::File,
        InodeKind::Directory { .. } => FileType::Directory,
        InodeKind::Symlink { .. } => FileType::Symlink,
        InodeKind::CharDevice { .. } => FileType::CharDevice,
        InodeKind::BlockDevice { .. } => FileType::BlockDevice,
        InodeKind::Fifo => FileType::Fifo,
    }
}

fn check_tree_len(len: usize) -> Result<(), WriteTreeError> {
    if len as u64 > TREE_LEN_MAX {
        return Err(WriteTreeError::TooLong(len as u64));
    }
    Ok(())
}

/// A number that the limit of the tree's length keeps below 32 bits.
fn small(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn put(image: &mut [u8], offset: usize, bytes: &[u8]) {
    image[offset..offset + bytes.len()].copy_from_slice(bytes);
}
