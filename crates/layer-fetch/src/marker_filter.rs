//! A rough map of where markers lie, cheap enough for every hit.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Length that one bit of the marker filter stands for; a power of two.
const MARKER_GRAIN: u64 = 64 << 10;

/// Which parts of a tar hold a marked chunk, roughly: the hit path asks it with a few loads.
#[derive(Debug)]
pub(crate) struct MarkerFilter {
    words: Box<[AtomicU64]>,
}

impl MarkerFilter {
    /// Nothing is marked.
    pub(crate) fn new(tar_len: u64) -> Self {
        let words = tar_len.div_ceil(MARKER_GRAIN).div_ceil(64);
        Self {
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Whether something near `range` is marked.
    pub(crate) fn touches(&self, range: &Range<u64>) -> bool {
        Self::bits(range).any(|(word, bit)| {
            self.words
                .get(word)
                .is_some_and(|word| word.load(Ordering::Relaxed) & bit != 0)
        })
    }

    /// Marks `range`.
    pub(crate) fn set(&self, range: &Range<u64>) {
        for (word, bit) in Self::bits(range) {
            if let Some(word) = self.words.get(word) {
                word.fetch_or(bit, Ordering::Relaxed);
            }
        }
    }

    /// Unmarks `range`, and what shares a grain with it: a lost hint.
    pub(crate) fn clear(&self, range: &Range<u64>) {
        for (word, bit) in Self::bits(range) {
            if let Some(word) = self.words.get(word) {
                word.fetch_and(!bit, Ordering::Relaxed);
            }
        }
    }

    fn bits(range: &Range<u64>) -> impl Iterator<Item = (usize, u64)> {
        let grains = range.start / MARKER_GRAIN..range.end.div_ceil(MARKER_GRAIN);
        grains.map(|grain| {
            (
                usize::try_from(grain / 64).unwrap_or(usize::MAX),
                1 << (grain % 64),
            )
        })
    }
}
