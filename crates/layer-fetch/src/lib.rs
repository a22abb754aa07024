//! Chunk by chunk from the registry: one flight for each chunk, read-ahead, verified before use.
//!
//! ```text
//! reader thread                       runtime                              decode threads
//!   LazyLayer::read_into
//!     present? ── yes ─► pread
//!     │ no
//!     Strategy::on_miss ─ demand ───► request: one HTTP range,
//!     │                 └ ahead ─┐    cut at chunk borders ──────────────► decode, verify, admit
//!     wait for own chunks        └──► queue, started while the line        wake whoever waits
//!     ◄──────────────────────────      is not full and no demand waits ◄── for this chunk
//! ```
//!
//! # Invariants
//!
//! 1. Bytes reach a reader or the cache only through the gate (`image_format::UntrustedChunk`).
//! 2. A chunk has at most one flight. Whoever needs it meanwhile waits for that one.
//! 3. A reader waits for its own chunks only, never for read-ahead behind them.
//! 4. A reader that gives up ends its own wait; what others wait for flies on.
//! 5. A failed guess never fails a reader: a reader that waits for it makes it a demand.
//! 6. A full disk costs speed, not reads: verified bytes are answered from memory.
//! 7. Retries happen here and nowhere else, as long as somebody waits.
//!
//! # What is not here
//!
//! Where bytes are kept (`layer-cache`), and who reads them (`lazy-mount`, `node`).

mod decode_pool;
mod engine;
mod flight;
mod lazy_layer;
mod line_meter;
mod marker_filter;
mod options;
mod overflow;
mod read_error;
mod request;
mod source;
mod stats;
mod strategy;

pub use engine::{FetchEngine, StartEngineError};
pub use lazy_layer::LazyLayer;
pub use options::FetchOptions;
pub use read_error::ReadError;
pub use source::{RangeSource, RegistrySource, SourceError, StoredStream};
pub use stats::{FetchStats, StatsSnapshot};
pub use strategy::StrategyOptions;
