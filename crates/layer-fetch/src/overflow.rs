//! Verified chunks that the disk did not take, kept in memory for a while.

use std::collections::VecDeque;

use image_format::VerifiedChunk;
use layer_cache::LayerKey;

/// A first-in-first-out store of a bounded number of bytes.
#[derive(Debug)]
pub(crate) struct Overflow {
    bytes_max: usize,
    bytes: usize,
    chunks: VecDeque<(LayerKey, u32, VerifiedChunk)>,
}

impl Overflow {
    /// Makes an empty one.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            bytes: 0,
            chunks: VecDeque::new(),
        }
    }

    /// Keeps a chunk; the oldest go until it fits. One that never fits is not kept.
    pub(crate) fn keep(&mut self, key: LayerKey, index: u32, chunk: VerifiedChunk) {
        let len = chunk.bytes().len();
        if len > self.bytes_max || self.find(key, index).is_some() {
            return;
        }
        while self.bytes + len > self.bytes_max {
            let Some((_, _, oldest)) = self.chunks.pop_front() else {
                break;
            };
            self.bytes -= oldest.bytes().len();
        }
        self.bytes += len;
        self.chunks.push_back((key, index, chunk));
    }

    /// The chunk, if it is kept.
    pub(crate) fn find(&self, key: LayerKey, index: u32) -> Option<VerifiedChunk> {
        let mut chunks = self.chunks.iter();
        let found = chunks.find(|(kept_key, kept, _)| (*kept_key, *kept) == (key, index));
        found.map(|(_, _, chunk)| chunk.clone())
    }

    /// The kept chunks of one layer; nearly always none.
    pub(crate) fn indexes_of(&self, key: LayerKey) -> Vec<u32> {
        let of_layer = self
            .chunks
            .iter()
            .filter(|(kept_key, _, _)| *kept_key == key);
        of_layer.map(|(_, index, _)| *index).collect()
    }
}
