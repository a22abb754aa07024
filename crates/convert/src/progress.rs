//! What a conversion tells while it runs.

/// Someone who watches a conversion. Calls come from any thread and must return at once.
///
/// Layers are numbered over the whole image, all platforms together, each distinct layer once.
pub trait Progress: Send + Sync {
    /// The conversion enters `phase`.
    fn phase(&self, phase: Phase);

    /// Layer `index` of `count` is started; its source blob has `total_bytes`.
    fn layer_started(&self, index: usize, count: usize, total_bytes: u64);

    /// Another `bytes` of the source blob of layer `index` were read.
    fn layer_bytes(&self, index: usize, bytes: u64);

    /// Layer `index` was converted and proven.
    fn layer_finished(&self, index: usize);
}

/// The parts of a conversion, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Manifests and configs are read.
    Resolve,
    /// Layers are converted and proven.
    Layers {
        /// Distinct layers of the image, all platforms together.
        count: usize,
        /// Length of their source blobs together.
        total_bytes: u64,
    },
    /// Blobs are put into the target.
    Store {
        /// How many blobs are put, those that are there already included.
        blob_count: usize,
    },
    /// Manifests and the tag are put.
    Publish,
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn phase(&self, _phase: Phase) {}
    fn layer_started(&self, _index: usize, _count: usize, _total_bytes: u64) {}
    fn layer_bytes(&self, _index: usize, _bytes: u64) {}
    fn layer_finished(&self, _index: usize) {}
}
