//! A fixed number of bits that many threads set, clear and ask for ranges of.
//!
//! Setting releases and asking acquires: whoever sees a bit sees what was written before it was set.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bits in a word.
const WORD_BITS: u64 = 64;

/// The bits. Bit `i` is bit `i % 8` of byte `i / 8` when written to a file.
#[derive(Debug)]
pub(crate) struct AtomicBitmap {
    words: Box<[AtomicU64]>,
    len: u64,
}

impl AtomicBitmap {
    /// Makes `len` clear bits.
    pub(crate) fn new(len: u64) -> Self {
        let words = (0..len.div_ceil(WORD_BITS))
            .map(|_| AtomicU64::new(0))
            .collect();
        Self { words, len }
    }

    /// Reads bits written by [`AtomicBitmap::to_bytes`]; bits beyond `len` are ignored, missing bytes are zeros.
    pub(crate) fn from_bytes(bytes: &[u8], len: u64) -> Self {
        let map = Self::new(len);
        for (word, chunk) in map.words.iter().zip(bytes.chunks(8)) {
            let mut raw = [0; 8];
            for (target, source) in raw.iter_mut().zip(chunk) {
                *target = *source;
            }
            word.store(u64::from_le_bytes(raw), Ordering::Relaxed);
        }
        if let (Some(last), used @ 1..) = (map.words.last(), len % WORD_BITS) {
            last.fetch_and((1 << used) - 1, Ordering::Relaxed);
        }
        map
    }

    /// How many bytes the bits take in a file.
    pub(crate) fn byte_len(&self) -> u64 {
        self.len.div_ceil(8)
    }

    /// Whether all bits of `range` are set. A range beyond the end is not.
    pub(crate) fn covers(&self, range: Range<u64>) -> bool {
        range.end <= self.len
            && words_of(range)
                .all(|(index, mask)| self.words[index].load(Ordering::Acquire) & mask == mask)
    }

    /// Sets all bits of `range` and returns how many were clear.
    pub(crate) fn set(&self, range: Range<u64>) -> u64 {
        words_of(range)
            .map(|(index, mask)| {
                let before = self.words[index].fetch_or(mask, Ordering::AcqRel);
                u64::from((mask & !before).count_ones())
            })
            .sum()
    }

    /// Clears all bits of `range` and returns how many were set.
    pub(crate) fn clear(&self, range: Range<u64>) -> u64 {
        words_of(range)
            .map(|(index, mask)| {
                let before = self.words[index].fetch_and(!mask, Ordering::AcqRel);
                u64::from((mask & before).count_ones())
            })
            .sum()
    }

    /// The runs of clear bits in `range`, in order.
    pub(crate) fn clear_runs(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for bit in range.start..range.end.min(self.len) {
            if self.covers(bit..bit + 1) {
                continue;
            }
            match runs.last_mut() {
                Some(run) if run.end == bit => run.end = bit + 1,
                _ => runs.push(bit..bit + 1),
            }
        }
        runs
    }

    /// How many bits are set.
    pub(crate) fn count_ones(&self) -> u64 {
        self.words
            .iter()
            .map(|word| u64::from(word.load(Ordering::Relaxed).count_ones()))
            .sum()
    }

    /// The bytes of the file that hold `range`, and where they begin in it.
    pub(crate) fn bytes_of(&self, range: Range<u64>) -> (u64, Vec<u8>) {
        let bytes = range.start / 8..range.end.div_ceil(8).min(self.byte_len());
        let start = bytes.start;
        (start, bytes.map(|index| self.byte(index)).collect())
    }

    /// All bits, as a file holds them.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.bytes_of(0..self.len).1
    }

    fn byte(&self, index: u64) -> u8 {
        let word = self.words[usize_of(index / 8)].load(Ordering::Acquire);
        word.to_le_bytes()[usize_of(index % 8)]
    }
}

/// The words that hold `range`, each with the mask of its bits.
fn words_of(range: Range<u64>) -> impl Iterator<Item = (usize, u64)> {
    let words = if range.is_empty() {
        0..0
    } else {
        range.start / WORD_BITS..range.end.div_ceil(WORD_BITS)
    };
    words.map(move |word| {
        let first = range.start.saturating_sub(word * WORD_BITS);
        let last = (range.end - word * WORD_BITS).min(WORD_BITS);
        let ones = last - first;
        let mask = if ones == WORD_BITS {
            u64::MAX
        } else {
            ((1 << ones) - 1) << first
        };
        (usize_of(word), mask)
    })
}

/// An index into something that lies in memory, so it fits.
fn usize_of(index: u64) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The map answers as a list of booleans does, whatever was set and cleared.
        #[test]
        fn the_map_equals_a_list_of_booleans(
            len in 1_u64..300,
            steps in prop::collection::vec((any::<bool>(), 0_u64..300, 0_u64..300), 0..20),
            ask in (0_u64..300, 0_u64..300),
        ) {
            let map = AtomicBitmap::new(len);
            let mut model = vec![false; usize::try_from(len).unwrap()];
            for (value, a, b) in steps {
                let range = a.min(b).min(len)..a.max(b).min(len);
                let slots =
                    &mut model[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()];
                let changed = slots.iter().filter(|slot| **slot != value).count() as u64;
                slots.fill(value);
                prop_assert_eq!(if value { map.set(range) } else { map.clear(range) }, changed);
            }
            let range = ask.0.min(ask.1).min(len)..ask.0.max(ask.1).min(len);
            let slots = &model[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()];
            prop_assert_eq!(map.covers(range.clone()), slots.iter().all(|slot| *slot));
            let clear: Vec<u64> = map.clear_runs(range.clone()).into_iter().flatten().collect();
            let expected: Vec<u64> = range.clone().filter(|bit| !model[usize::try_from(*bit).unwrap()]).collect();
            prop_assert_eq!(clear, expected);
            prop_assert_eq!(map.count_ones(), model.iter().filter(|slot| **slot).count() as u64);
            let again = AtomicBitmap::from_bytes(&map.to_bytes(), len);
            prop_assert_eq!(again.to_bytes(), map.to_bytes());
            let (start, bytes) = map.bytes_of(range);
            let start = usize::try_from(start).unwrap();
            prop_assert_eq!(&bytes[..], &map.to_bytes()[start..start + bytes.len()]);
        }
    }

    #[test]
    fn bits_beyond_the_end_are_not_read_from_a_file() {
        let map = AtomicBitmap::from_bytes(&[0xff; 64], 70);
        assert_eq!(map.count_ones(), 70);
        assert!(!map.covers(60..71));
    }
}
