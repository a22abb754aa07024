//! Buffers for the bytes of reads, used again and again by whichever thread needs one.

use parking_lot::Mutex;

/// Most buffers that are kept while nobody uses them. Each has at most the length of the longest read,
/// 1 MiB, so idle memory stays under 16 MiB whatever the number of threads.
const IDLE_MAX: usize = 16;

/// A stack of buffers: the one used last is the one in the processor's cache.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    idle: Mutex<Vec<Vec<u8>>>,
}

impl BufferPool {
    /// Takes a buffer of any length, with any content.
    pub(crate) fn take(&self) -> Vec<u8> {
        self.idle.lock().pop().unwrap_or_default()
    }

    /// Gives a buffer back. It is dropped if enough of them are idle.
    pub(crate) fn give_back(&self, buffer: Vec<u8>) {
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_MAX {
            idle.push(buffer);
        }
    }
}
