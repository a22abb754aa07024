//! What the engine counts, for the timeline and for metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counters since the engine started. Each only grows.
#[derive(Debug, Default)]
pub struct FetchStats {
    pub(crate) network_bytes: AtomicU64,
    pub(crate) demand_requests: AtomicU64,
    pub(crate) ahead_requests: AtomicU64,
    pub(crate) demand_chunks: AtomicU64,
    pub(crate) ahead_chunks: AtomicU64,
    pub(crate) reads: AtomicU64,
    pub(crate) waits: AtomicU64,
    pub(crate) wait_nanos: AtomicU64,
    pub(crate) source_errors: AtomicU64,
    pub(crate) mismatches: AtomicU64,
    pub(crate) rechecked_wrong: AtomicU64,
    pub(crate) admit_errors: AtomicU64,
    pub(crate) failed_reads: AtomicU64,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StatsSnapshot {
    /// Stored bytes that arrived, useful or not.
    pub network_bytes: u64,
    /// Requests sent because a reader waits, retries included.
    pub demand_requests: u64,
    /// Requests sent on a guess, retries included.
    pub ahead_requests: u64,
    /// Chunks asked for by demand requests.
    pub demand_chunks: u64,
    /// Chunks asked for by guesses.
    pub ahead_chunks: u64,
    /// Reads, hits included.
    pub reads: u64,
    /// Reads that found something missing.
    pub waits: u64,
    /// How long those readers waited, all together.
    pub wait_time: Duration,
    /// Requests that failed: no answer, a bad one, a short body.
    pub source_errors: u64,
    /// Chunks that arrived with other bytes than the table says.
    pub mismatches: u64,
    /// Chunks that the cache file held with other bytes than the table says.
    pub rechecked_wrong: u64,
    /// Chunks that the cache did not take, mostly for a full disk.
    pub admit_errors: u64,
    /// Reads that ended with an error.
    pub failed_reads: u64,
}

impl FetchStats {
    /// Reads all counters; each is right, together they are of nearly one moment.
    pub fn snapshot(&self) -> StatsSnapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StatsSnapshot {
            network_bytes: read(&self.network_bytes),
            demand_requests: read(&self.demand_requests),
            ahead_requests: read(&self.ahead_requests),
            demand_chunks: read(&self.demand_chunks),
            ahead_chunks: read(&self.ahead_chunks),
            reads: read(&self.reads),
            waits: read(&self.waits),
            wait_time: Duration::from_nanos(read(&self.wait_nanos)),
            source_errors: read(&self.source_errors),
            mismatches: read(&self.mismatches),
            rechecked_wrong: read(&self.rechecked_wrong),
            admit_errors: read(&self.admit_errors),
            failed_reads: read(&self.failed_reads),
        }
    }
}

/// Adds to a counter.
pub(crate) fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}
