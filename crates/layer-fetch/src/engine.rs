//! What all layers of a worker share: the line, the limits, the threads.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use layer_cache::CachedLayer;

use crate::decode_pool::DecodePool;
use crate::lazy_layer::{LazyLayer, LazyLayerInner};
use crate::line_meter::LineMeter;
use crate::options::FetchOptions;
use crate::overflow::Overflow;
use crate::request::Request;
use crate::source::RangeSource;
use crate::stats::{FetchStats, StatsSnapshot};
use crate::strategy::{Likelihood, Line};

/// Layers that an idle line guesses for: those of the latest misses.
const RECENT_LAYERS_MAX: usize = 8;

/// Fetches for any number of layers. Clones are the same engine.
#[derive(Debug, Clone)]
pub struct FetchEngine {
    shared: Arc<EngineShared>,
}

#[derive(Debug)]
pub(crate) struct EngineShared {
    pub(crate) options: FetchOptions,
    pub(crate) stats: FetchStats,
    pub(crate) meter: Mutex<LineMeter>,
    pub(crate) pool: DecodePool,
    pub(crate) overflow: Mutex<Overflow>,
    pub(crate) stop: CancellationToken,
    /// One permit for each demand request that may be on the line.
    pub(crate) demand: Arc<Semaphore>,
    /// One permit for each decoded byte between line and disk.
    pub(crate) decoding: Arc<Semaphore>,
    pub(crate) outstanding: Outstanding,
    runtime: Handle,
    tasks: TaskTracker,
    ahead: Mutex<AheadQueue>,
}

/// Stored bytes that were asked for and have not come.
#[derive(Debug, Default)]
pub(crate) struct Outstanding {
    pub(crate) demand_bytes: AtomicU64,
    pub(crate) ahead_bytes: AtomicU64,
    pub(crate) ahead_requests: AtomicUsize,
}

/// What is to be read ahead when the line allows.
#[derive(Debug, Default)]
struct AheadQueue {
    runs: VecDeque<AheadRun>,
    recent: Vec<Weak<LazyLayerInner>>,
    paused_until: Option<Instant>,
}

#[derive(Debug, Clone)]
struct AheadRun {
    likelihood: Likelihood,
    layer: Weak<LazyLayerInner>,
    chunks: Range<u32>,
}

impl FetchEngine {
    /// Starts the decode threads; requests will run on `runtime`.
    ///
    /// # Errors
    ///
    /// Threads could not be started.
    pub fn start(runtime: Handle, options: FetchOptions) -> Result<Self, StartEngineError> {
        let pool = DecodePool::start(options.decode_threads)
            .map_err(|source| StartEngineError { source })?;
        let decoding_max = usize::try_from(options.decoding_bytes_max).unwrap_or(usize::MAX);
        let shared = EngineShared {
            stats: FetchStats::default(),
            meter: Mutex::new(LineMeter::new()),
            pool,
            overflow: Mutex::new(Overflow::new(options.overflow_bytes_max)),
            stop: CancellationToken::new(),
            demand: Arc::new(Semaphore::new(options.demand_requests_max.max(1))),
            decoding: Arc::new(Semaphore::new(decoding_max)),
            outstanding: Outstanding::default(),
            runtime,
            tasks: TaskTracker::new(),
            ahead: Mutex::default(),
            options,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Makes a cached layer readable everywhere: what is missing comes from `source`.
    pub fn layer(&self, cached: CachedLayer, source: Arc<dyn RangeSource>) -> LazyLayer {
        LazyLayer::new(Arc::clone(&self.shared), cached, source)
    }

    /// What was counted since the start.
    pub fn stats(&self) -> StatsSnapshot {
        self.shared.stats.snapshot()
    }

    /// The measured round trip and stored bytes per second, or first guesses.
    pub fn line(&self) -> (Duration, f64) {
        let meter = self.shared.meter.lock();
        (meter.round_trip(), meter.bytes_per_second())
    }

    /// Ends all requests; readers that wait get [`ReadError::Stopped`](crate::ReadError::Stopped).
    ///
    /// What was admitted stays. May be dropped half-way.
    pub async fn stop(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        self.shared.pool.close();
    }
}

impl EngineShared {
    /// Sends requests. They run to their end on their own.
    pub(crate) fn send(&self, requests: Vec<Request>) {
        for request in requests {
            self.tasks.spawn_on(request.run(), &self.runtime);
        }
    }

    /// The line as `layer` sees it.
    pub(crate) fn line_for(&self, cached: &CachedLayer) -> Line {
        let meter = self.meter.lock();
        let table = cached.table();
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let expansion = table.tar_len() as f64 / table.stored_len().max(1) as f64;
        Line {
            round_trip: meter.round_trip(),
            bytes_per_second: meter.bytes_per_second(),
            expansion,
        }
    }

    /// Queues runs to be read ahead, newest first, and notes that `layer` had a miss.
    pub(crate) fn queue_ahead(
        &self,
        layer: &Arc<LazyLayerInner>,
        runs: Vec<(Likelihood, Range<u32>)>,
    ) {
        let mut ahead = self.ahead.lock();
        let is_same = |other: &Weak<LazyLayerInner>| other.as_ptr() == Arc::as_ptr(layer);
        ahead.recent.retain(|other| !is_same(other));
        ahead.recent.truncate(RECENT_LAYERS_MAX - 1);
        ahead.recent.insert(0, Arc::downgrade(layer));
        // Reversed: within one plan the first run comes first.
        for (likelihood, chunks) in runs.into_iter().rev() {
            ahead.runs.push_front(AheadRun {
                likelihood,
                layer: Arc::downgrade(layer),
                chunks,
            });
        }
        ahead.runs.truncate(self.options.ahead_queue_max);
    }

    /// Starts read-ahead as long as the line has room that no demand needs.
    pub(crate) fn pump(&self) {
        while let Some(room) = self.room_ahead() {
            let Some(mut run) = self.next_ahead() else {
                return;
            };
            let Some(layer) = run.layer.upgrade() else {
                continue;
            };
            let (request, rest) = layer.depart_ahead(run.chunks.clone(), room);
            if !rest.is_empty() {
                run.chunks = rest;
                self.ahead.lock().runs.push_front(run);
            }
            self.send(request.into_iter().collect());
        }
    }

    /// Stops reading ahead for a while: the disk takes nothing.
    pub(crate) fn pause_ahead(&self) {
        let mut ahead = self.ahead.lock();
        ahead.paused_until = Some(Instant::now() + self.options.full_disk_pause);
        ahead.runs.clear();
    }

    /// How many stored bytes may be asked for on a guess now. `None`: nothing.
    fn room_ahead(&self) -> Option<u64> {
        let outstanding = &self.outstanding;
        let demand_bytes = outstanding.demand_bytes.load(Ordering::Relaxed);
        let ahead_bytes = outstanding.ahead_bytes.load(Ordering::Relaxed);
        let requests = outstanding.ahead_requests.load(Ordering::Relaxed);
        let is_crowded = requests >= self.options.ahead_requests_max
            || self.demand.available_permits() == 0
            || self.stop.is_cancelled();
        if is_crowded || self.is_paused() {
            return None;
        }
        let (round_trip, bytes_per_second) = {
            let meter = self.meter.lock();
            (meter.round_trip(), meter.bytes_per_second())
        };
        let in_flight = bytes_in(bytes_per_second, round_trip);
        if demand_bytes > in_flight {
            // Demand fills the line by itself.
            return None;
        }
        let limit = in_flight + bytes_in(bytes_per_second, self.options.line_headroom);
        let options = &self.options;
        let limit = limit
            .min(options.outstanding_bytes_max)
            .max(options.outstanding_bytes_min);
        Some(limit.saturating_sub(demand_bytes + ahead_bytes)).filter(|room| *room > 0)
    }

    fn is_paused(&self) -> bool {
        let mut ahead = self.ahead.lock();
        if ahead
            .paused_until
            .is_some_and(|until| Instant::now() < until)
        {
            return true;
        }
        ahead.paused_until = None;
        false
    }

    /// The next run: proven before guessed, newest first; else a guess for an idle line.
    fn next_ahead(&self) -> Option<AheadRun> {
        let recent = {
            let mut ahead = self.ahead.lock();
            let proven = ahead
                .runs
                .iter()
                .position(|run| run.likelihood == Likelihood::Proven);
            if let Some(run) = ahead.runs.remove(proven.unwrap_or(0)) {
                return Some(run);
            }
            ahead.recent.clone()
        };
        for layer in recent {
            if let Some(chunks) = layer
                .upgrade()
                .and_then(|layer| layer.guess_for_idle_line())
            {
                return Some(AheadRun {
                    likelihood: Likelihood::Guess,
                    layer,
                    chunks,
                });
            }
            let mut ahead = self.ahead.lock();
            ahead.recent.retain(|other| !other.ptr_eq(&layer));
        }
        None
    }
}

/// Why an engine did not start.
#[derive(Debug, Error)]
#[error("decode threads could not be started")]
pub struct StartEngineError {
    /// What the system said.
    pub source: io::Error,
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a length estimate; saturates"
)]
fn bytes_in(bytes_per_second: f64, time: Duration) -> u64 {
    (bytes_per_second * time.as_secs_f64()) as u64
}
