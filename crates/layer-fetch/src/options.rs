//! Every limit of the engine, with its reason.

use std::time::Duration;

use crate::strategy::StrategyOptions;

/// What can be set about fetching. The defaults are for a node with a few cores and one registry.
#[derive(Debug, Clone, PartialEq)]
pub struct FetchOptions {
    /// What is fetched beyond what was asked for.
    pub strategy: StrategyOptions,
    /// Most demand requests at once; the next ones wait. Each is one connection.
    pub demand_requests_max: usize,
    /// Most read-ahead requests at once.
    pub ahead_requests_max: usize,
    /// Most runs that wait to be read ahead; the oldest guess is dropped beyond.
    pub ahead_queue_max: usize,
    /// Read-ahead keeps at most this much line time outstanding beyond a round trip, so that a demand
    /// which comes now waits no longer than this for the line.
    pub line_headroom: Duration,
    /// Least stored bytes outstanding below which read-ahead may start, whatever was measured.
    pub outstanding_bytes_min: u64,
    /// Most stored bytes outstanding above which no read-ahead starts, whatever was measured.
    pub outstanding_bytes_max: u64,
    /// Most decoded bytes of all chunks that are between the line and the disk.
    pub decoding_bytes_max: u32,
    /// Threads that decompress, hash and write. More than cores does not help.
    pub decode_threads: usize,
    /// Verified bytes kept in memory while the disk takes none. The oldest go first.
    pub overflow_bytes_max: usize,
    /// How long read-ahead rests after the disk was full.
    pub full_disk_pause: Duration,
    /// A request that brings no byte for this long is given up and tried again.
    pub stall_timeout: Duration,
    /// Wait before the first retry; doubled for each further one.
    pub retry_delay_min: Duration,
    /// Longest wait before a retry.
    pub retry_delay_max: Duration,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            strategy: StrategyOptions::default(),
            // As many as a browser opens to one host; a FUSE connection has up to 64 readers.
            demand_requests_max: 8,
            ahead_requests_max: 4,
            ahead_queue_max: 64,
            line_headroom: Duration::from_millis(5),
            // About one average chunk, compressed.
            outstanding_bytes_min: 192 << 10,
            outstanding_bytes_max: 8 << 20,
            decoding_bytes_max: 16 << 20,
            decode_threads: 2,
            overflow_bytes_max: 8 << 20,
            full_disk_pause: Duration::from_secs(1),
            stall_timeout: Duration::from_secs(10),
            // A registry that restarts is back within a second or so.
            retry_delay_min: Duration::from_millis(50),
            retry_delay_max: Duration::from_secs(1),
        }
    }
}
