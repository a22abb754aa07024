//! Which blocks of a tar are there, in memory and in the file `present`.
//!
//! Two maps. A block is *claimed* when the file says so: it was written, perhaps by an earlier
//! process. It is *trusted* when this process has checked it. Trusted implies claimed.

use std::fs::File;
use std::io;
use std::ops::Range;

use parking_lot::Mutex;

use crate::bitmap::AtomicBitmap;
use crate::files::{LayerWrites, WriteStep};

/// Length of a block: the unit of the tar format and of the root tree's addresses.
pub(crate) const BLOCK_LEN: u64 = 512;

/// The presence map of one layer. Ranges are bytes of the tar.
#[derive(Debug)]
pub(crate) struct PresenceMap {
    tar_len: u64,
    claimed: AtomicBitmap,
    trusted: AtomicBitmap,
    /// `present`, written under its lock, so that two writers of one byte do not lose a bit.
    file: Mutex<File>,
}

impl PresenceMap {
    /// How many bytes the file of a tar of `tar_len` has.
    pub(crate) fn file_len(tar_len: u64) -> u64 {
        tar_len.div_ceil(BLOCK_LEN).div_ceil(8)
    }

    /// Starts from what the file says: `bits` is its content, or empty when nothing is there.
    pub(crate) fn new(tar_len: u64, bits: &[u8], file: File) -> Self {
        let blocks = tar_len.div_ceil(BLOCK_LEN);
        Self {
            tar_len,
            claimed: AtomicBitmap::from_bytes(bits, blocks),
            trusted: AtomicBitmap::new(blocks),
            file: Mutex::new(file),
        }
    }

    /// Whether this process may answer a read of `range` from the file. Beyond the end is not.
    pub(crate) fn is_trusted(&self, range: &Range<u64>) -> bool {
        range.end <= self.tar_len && self.trusted.covers(blocks_touched(range))
    }

    /// Whether the file says that all of `range` is there.
    pub(crate) fn is_claimed(&self, range: &Range<u64>) -> bool {
        range.end <= self.tar_len && self.claimed.covers(blocks_touched(range))
    }

    /// Marks what was just written and had passed the gate. The bytes are in the file already.
    ///
    /// Readers may use it even if the file of bits could not be written: it is there.
    pub(crate) fn admit(&self, writes: &dyn LayerWrites, range: &Range<u64>) -> io::Result<()> {
        let blocks = blocks_touched(range);
        let file = self.file.lock();
        let new = self.claimed.set(blocks.clone());
        self.trusted.set(blocks.clone());
        if new == 0 {
            return Ok(());
        }
        self.write_bits(writes, &file, blocks)
    }

    /// Marks claimed bytes that were read back and checked.
    pub(crate) fn trust(&self, range: &Range<u64>) {
        self.trusted.set(blocks_touched(range));
    }

    /// Makes readers check again.
    pub(crate) fn distrust(&self, range: &Range<u64>) {
        self.trusted.clear(blocks_touched(range));
    }

    /// Forgets bytes that turned out wrong.
    pub(crate) fn forget(&self, writes: &dyn LayerWrites, range: &Range<u64>) -> io::Result<()> {
        let blocks = blocks_touched(range);
        let file = self.file.lock();
        self.trusted.clear(blocks.clone());
        self.claimed.clear(blocks.clone());
        self.write_bits(writes, &file, blocks)
    }

    /// The runs of `range` that the file does not claim, widened to blocks, cut at the tar's end.
    pub(crate) fn missing_in(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let runs = self.claimed.clear_runs(blocks_touched(range));
        runs.into_iter()
            .map(|run| run.start * BLOCK_LEN..(run.end * BLOCK_LEN).min(self.tar_len))
            .collect()
    }

    /// Whether the whole tar is claimed.
    pub(crate) fn is_full(&self) -> bool {
        self.is_claimed(&(0..self.tar_len))
    }

    /// How many bytes are claimed, in whole blocks.
    pub(crate) fn present_bytes(&self) -> u64 {
        (self.claimed.count_ones() * BLOCK_LEN).min(self.tar_len)
    }

    /// The bits as `present.synced` keeps them.
    pub(crate) fn snapshot(&self) -> Vec<u8> {
        self.claimed.to_bytes()
    }

    fn write_bits(
        &self,
        writes: &dyn LayerWrites,
        file: &File,
        blocks: Range<u64>,
    ) -> io::Result<()> {
        let (offset, bytes) = self.claimed.bytes_of(blocks);
        writes.write_all_at(WriteStep::PresentBits, file, &bytes, offset)
    }
}

/// The blocks that hold at least one byte of `range`.
fn blocks_touched(range: &Range<u64>) -> Range<u64> {
    if range.is_empty() {
        return 0..0;
    }
    range.start / BLOCK_LEN..range.end.div_ceil(BLOCK_LEN)
}
