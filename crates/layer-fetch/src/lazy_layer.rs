//! A layer that can be read everywhere, whatever of it is there.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use image_format::{ChunkDescriptor, ChunkTable, VerifiedChunk};
use layer_cache::{CachedLayer, LayerKey, Recheck};

use crate::engine::EngineShared;
use crate::flight::{Flight, Landing, Watch};
use crate::marker_filter::MarkerFilter;
use crate::read_error::ReadError;
use crate::request::{Purpose, Request, Try};
use crate::source::RangeSource;
use crate::stats::count;
use crate::strategy::{Plan, Strategy, Terrain};

/// How often a read begins anew because a flight was given up just before it came.
///
/// That is a rare race; more often than this means that flights cannot fly at all any more.
const ROUNDS_MAX: usize = 16;

/// A layer of the cache together with the source of what it lacks. Clones are the same layer.
#[derive(Debug, Clone)]
pub struct LazyLayer {
    inner: Arc<LazyLayerInner>,
}

#[derive(Debug)]
pub(crate) struct LazyLayerInner {
    pub(crate) engine: Arc<EngineShared>,
    pub(crate) cached: CachedLayer,
    pub(crate) source: Arc<dyn RangeSource>,
    state: Mutex<LayerState>,
    markers: MarkerFilter,
}

#[derive(Debug)]
struct LayerState {
    /// Chunks on their way. A flight leaves only after its chunk can be read, or by failing.
    flights: HashMap<u32, Arc<Flight>>,
    strategy: Strategy,
    marked: HashSet<u32>,
}

/// A chunk that a read needs, when it is not on the disk.
#[derive(Debug)]
enum Needed {
    Awaited(u32, Watch),
    InMemory(u32, VerifiedChunk),
}

impl LazyLayer {
    pub(crate) fn new(
        engine: Arc<EngineShared>,
        cached: CachedLayer,
        source: Arc<dyn RangeSource>,
    ) -> Self {
        let state = LayerState {
            flights: HashMap::new(),
            strategy: Strategy::new(engine.options.strategy.clone()),
            marked: HashSet::new(),
        };
        let markers = MarkerFilter::new(cached.tar_len());
        let inner = LazyLayerInner {
            engine,
            cached,
            source,
            state: Mutex::new(state),
            markers,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The layer in the cache.
    pub fn cached(&self) -> &CachedLayer {
        &self.inner.cached
    }

    /// Length of the layer's tar, in bytes.
    pub fn tar_len(&self) -> u64 {
        self.inner.cached.tar_len()
    }

    /// Fills `buffer` with the tar's bytes at `offset`, waiting for what is missing.
    ///
    /// Blocks: for threads that are not the runtime's. A hit costs a look at the presence map and a
    /// `pread`. The range must lie inside the tar.
    ///
    /// # Errors
    ///
    /// Never wrong bytes: [`ReadError`] says why there are none.
    pub fn read_into(
        &self,
        buffer: &mut [u8],
        offset: u64,
        deadline: Instant,
    ) -> Result<(), ReadError> {
        let inner = &self.inner;
        let range = inner.range_of(offset, buffer.len())?;
        count(&inner.engine.stats.reads, 1);
        if inner.cached.is_present(range.clone()) {
            inner.read_disk(buffer, offset)?;
            if inner.markers.touches(&range) {
                inner.pass_markers(&range);
            }
            return Ok(());
        }
        let _timer = WaitTimer::start(&inner.engine);
        let read = inner
            .wait(&range, deadline)
            .and_then(|memory| inner.copy(buffer, &range, &memory));
        count(&inner.engine.stats.failed_reads, u64::from(read.is_err()));
        read
    }

    /// Waits until all of `range` can be read without waiting.
    ///
    /// Blocks, as [`LazyLayer::read_into`]. While the disk is full there is nothing to be made present.
    ///
    /// # Errors
    ///
    /// As [`LazyLayer::read_into`].
    pub fn read_blocking(&self, range: Range<u64>, deadline: Instant) -> Result<(), ReadError> {
        let len = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        let range = self.inner.range_of(range.start, len)?;
        if self.inner.cached.is_present(range.clone()) {
            return Ok(());
        }
        self.inner.wait(&range, deadline).map(drop)
    }

    /// The twin of [`LazyLayer::read_blocking`] for tasks. May be dropped half-way; flights fly on.
    ///
    /// # Errors
    ///
    /// As [`LazyLayer::read_into`].
    pub async fn ensure(&self, range: Range<u64>, deadline: Instant) -> Result<(), ReadError> {
        let len = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        let range = self.inner.range_of(range.start, len)?;
        for _ in 0..ROUNDS_MAX {
            if self.inner.cached.is_present(range.clone()) {
                return Ok(());
            }
            let chunks = self.inner.cached.table().chunks_in(range.clone());
            let inner = Arc::clone(&self.inner);
            let looked = tokio::task::spawn_blocking(move || {
                inner.recheck(chunks.clone());
                inner.depart(chunks)
            });
            let needed = looked.await.map_err(|_| ReadError::Stopped)?;
            let mut landings = Vec::with_capacity(needed.len());
            for needed in needed {
                landings.push(match needed {
                    Needed::InMemory(index, chunk) => (index, Landing::InMemory(chunk)),
                    Needed::Awaited(index, watch) => {
                        let landing = watch.wait_async(deadline).await;
                        let late = || self.inner.late(&range, &watch);
                        (index, landing.ok_or_else(late)?)
                    }
                });
            }
            let memory = memory_of(self.inner.cached.key(), landings)?;
            if self.inner.is_ready(&range, &memory) {
                return Ok(());
            }
        }
        Err(ReadError::Stopped)
    }
}

impl LazyLayerInner {
    /// Waits until each chunk of `range` is on the disk or returned.
    fn wait(
        self: &Arc<Self>,
        range: &Range<u64>,
        deadline: Instant,
    ) -> Result<Vec<(u32, VerifiedChunk)>, ReadError> {
        let chunks = self.cached.table().chunks_in(range.clone());
        if self.markers.touches(range) {
            self.pass_markers(range);
        }
        for _ in 0..ROUNDS_MAX {
            self.recheck(chunks.clone());
            let mut landings = Vec::new();
            for needed in self.depart(chunks.clone()) {
                landings.push(match needed {
                    Needed::InMemory(index, chunk) => (index, Landing::InMemory(chunk)),
                    Needed::Awaited(index, watch) => {
                        let late = || self.late(range, &watch);
                        (index, watch.wait(deadline).ok_or_else(late)?)
                    }
                });
            }
            let memory = memory_of(self.cached.key(), landings)?;
            if self.is_ready(range, &memory) {
                return Ok(memory);
            }
        }
        Err(ReadError::Stopped)
    }

    /// Whether each chunk of `range` may be read from the disk or is in `memory`.
    fn is_ready(&self, range: &Range<u64>, memory: &[(u32, VerifiedChunk)]) -> bool {
        let mut chunks = self.cached.table().chunks_in(range.clone());
        let in_memory = |index| memory.iter().any(|(kept, _)| *kept == index);
        chunks.all(|index| self.is_trusted(index) || in_memory(index))
    }

    /// Hashes what an earlier process left on the disk, before it is used or fetched again.
    fn recheck(&self, chunks: Range<u32>) {
        for index in chunks {
            if self.cached.recheck(index) == Recheck::Wrong {
                count(&self.engine.stats.rechecked_wrong, 1);
            }
        }
    }

    /// Sends what is needed and joins what flies already.
    fn depart(self: &Arc<Self>, chunks: Range<u32>) -> Vec<Needed> {
        let key = self.cached.key();
        let mut needed = Vec::new();
        let mut missing = Vec::new();
        let line = self.engine.line_for(&self.cached);
        let mut guard = self.state.lock();
        let state = &mut *guard;
        for index in chunks.clone().filter(|index| !self.is_trusted(*index)) {
            let kept = self.engine.overflow.lock().find(key, index);
            match kept {
                Some(chunk) => needed.push(Needed::InMemory(index, chunk)),
                None => missing.push(index),
            }
        }
        let must_fetch = missing
            .iter()
            .any(|index| !state.flights.contains_key(index));
        let (requests, ahead) = if must_fetch {
            let plan = state
                .strategy
                .on_miss(chunks, &self.view(&state.flights), &line);
            self.take_off(state, plan)
        } else {
            (Vec::new(), Vec::new())
        };
        let watch = |index: u32| {
            // None only if the chunk was there a moment ago; the caller looks again.
            let flight = state.flights.get(&index)?;
            Some(Needed::Awaited(index, Watch::new(flight)))
        };
        needed.extend(missing.into_iter().filter_map(watch));
        drop(guard);
        self.engine.send(requests);
        if must_fetch {
            self.engine.queue_ahead(self, ahead);
            self.engine.pump();
        }
        needed
    }

    /// Tells the strategy that a reader came to a marker, and queues what it plans.
    fn pass_markers(self: &Arc<Self>, range: &Range<u64>) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let chunks = self.cached.table().chunks_in(range.clone());
        let passed: Vec<u32> = chunks
            .filter(|index| state.marked.contains(index))
            .collect();
        let mut ahead = Vec::new();
        for index in passed {
            state.marked.remove(&index);
            self.markers.clear(&tar_range(self.cached.table(), index));
            let plan = state.strategy.on_marker(index, &self.view(&state.flights));
            // A marker's plan has no demand.
            ahead.extend(self.take_off(state, plan).1);
        }
        drop(guard);
        if !ahead.is_empty() {
            self.engine.queue_ahead(self, ahead);
            self.engine.pump();
        }
    }

    /// The first wanted part of a queued run as a request of about `room` stored bytes, and the rest.
    pub(crate) fn depart_ahead(
        self: &Arc<Self>,
        chunks: Range<u32>,
        room: u64,
    ) -> (Option<Request>, Range<u32>) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let table = self.cached.table();
        let view = self.view(&state.flights);
        let is_wanted = |index: u32| view.is_wanted(index);
        let Some(start) = chunks.clone().find(|index| is_wanted(*index)) else {
            return (None, 0..0);
        };
        let mut end = start;
        let mut stored_len = 0;
        while end < chunks.end && is_wanted(end) && (end == start || stored_len < room) {
            stored_len += table.chunk(end).map_or(0, |chunk| chunk.stored_len());
            end += 1;
        }
        let request = self.request(state, start..end, Purpose::Ahead);
        (Some(request), end..chunks.end)
    }

    /// What to fetch for this layer while the line has nothing to do.
    pub(crate) fn guess_for_idle_line(&self) -> Option<Range<u32>> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let plan = state.strategy.on_idle(&self.view(&state.flights));
        self.set_marker(state, &plan);
        let first = plan.ahead.first()?.1.start;
        Some(first..plan.ahead.last()?.1.end)
    }

    /// Ends a flight: first it leaves the map, then its waiters wake.
    pub(crate) fn land(&self, index: u32, flight: &Arc<Flight>, landing: Landing) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if state
            .flights
            .get(&index)
            .is_some_and(|known| Arc::ptr_eq(known, flight))
        {
            state.flights.remove(&index);
        }
        drop(guard);
        flight.land(landing);
    }

    /// Ends a flight if nobody waits for it. Readers join under the same lock.
    pub(crate) fn abandon(&self, index: u32, flight: &Arc<Flight>) -> bool {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if flight.is_watched() {
            return false;
        }
        if state
            .flights
            .get(&index)
            .is_some_and(|known| Arc::ptr_eq(known, flight))
        {
            state.flights.remove(&index);
        }
        drop(guard);
        flight.land(Landing::Abandoned);
        true
    }

    /// Makes flights and requests of a plan.
    fn take_off(self: &Arc<Self>, state: &mut LayerState, plan: Plan) -> TakeOff {
        self.set_marker(state, &plan);
        let runs = plan.demand.into_iter();
        let requests = runs
            .map(|run| self.request(state, run, Purpose::Demand))
            .collect();
        (requests, plan.ahead)
    }

    fn set_marker(&self, state: &mut LayerState, plan: &Plan) {
        if let Some(index) = plan.marker {
            state.marked.insert(index);
            self.markers.set(&tar_range(self.cached.table(), index));
        }
    }

    fn request(
        self: &Arc<Self>,
        state: &mut LayerState,
        run: Range<u32>,
        purpose: Purpose,
    ) -> Request {
        let chunks = run.filter_map(|index| self.cached.table().chunk(index));
        let flights: VecDeque<(ChunkDescriptor, Arc<Flight>)> = chunks
            .map(|chunk| (chunk, Arc::new(Flight::default())))
            .collect();
        for (chunk, flight) in &flights {
            state.flights.insert(chunk.index, Arc::clone(flight));
        }
        Request::new(Arc::clone(self), purpose, Try::First, flights)
    }

    /// Fills `buffer` from the disk and from chunks that are in memory.
    fn copy(
        &self,
        buffer: &mut [u8],
        range: &Range<u64>,
        memory: &[(u32, VerifiedChunk)],
    ) -> Result<(), ReadError> {
        if memory.is_empty() {
            return self.read_disk(buffer, range.start);
        }
        for index in self.cached.table().chunks_in(range.clone()) {
            let chunk = tar_range(self.cached.table(), index);
            let part = chunk.start.max(range.start)..chunk.end.min(range.end);
            let target = &mut buffer[slice(&part, range.start)];
            match memory.iter().find(|(kept, _)| *kept == index) {
                Some((_, bytes)) => {
                    target.copy_from_slice(&bytes.bytes()[slice(&part, chunk.start)]);
                }
                None => self.read_disk(target, part.start)?,
            }
        }
        Ok(())
    }

    fn read_disk(&self, buffer: &mut [u8], offset: u64) -> Result<(), ReadError> {
        let disk = |source| ReadError::Disk {
            key: self.cached.key(),
            source: Arc::new(source),
        };
        self.cached.read_at(buffer, offset).map_err(disk)
    }

    fn view<'a>(&'a self, flights: &'a HashMap<u32, Arc<Flight>>) -> View<'a> {
        let in_memory = self.engine.overflow.lock().indexes_of(self.cached.key());
        View {
            cached: &self.cached,
            flights,
            in_memory,
        }
    }

    fn is_trusted(&self, index: u32) -> bool {
        self.cached
            .is_present(tar_range(self.cached.table(), index))
    }

    fn range_of(&self, offset: u64, len: usize) -> Result<Range<u64>, ReadError> {
        let tar_len = self.cached.tar_len();
        let end = offset.checked_add(len as u64).filter(|end| *end <= tar_len);
        let beyond = ReadError::BeyondEnd {
            key: self.cached.key(),
            offset,
            len,
            tar_len,
        };
        end.map(|end| offset..end).ok_or(beyond)
    }

    fn late(&self, range: &Range<u64>, watch: &Watch) -> ReadError {
        let (key, offset) = (self.cached.key(), range.start);
        ReadError::Deadline {
            key,
            offset,
            source: watch.last_error(),
        }
    }
}

/// Requests to send, and what to read ahead.
type TakeOff = (Vec<Request>, Vec<(crate::strategy::Likelihood, Range<u32>)>);

/// A layer as the strategy sees it.
struct View<'a> {
    cached: &'a CachedLayer,
    flights: &'a HashMap<u32, Arc<Flight>>,
    /// Chunks that are in memory because the disk is full.
    in_memory: Vec<u32>,
}

impl Terrain for View<'_> {
    fn chunk_count(&self) -> u32 {
        self.cached.table().len()
    }

    fn tar_range(&self, index: u32) -> Range<u64> {
        tar_range(self.cached.table(), index)
    }

    fn is_wanted(&self, index: u32) -> bool {
        !self.flights.contains_key(&index)
            && !self.cached.is_claimed(index)
            && !self.in_memory.contains(&index)
    }
}

/// Counts a wait and how long it took.
struct WaitTimer<'a> {
    engine: &'a EngineShared,
    started: Instant,
}

impl<'a> WaitTimer<'a> {
    fn start(engine: &'a EngineShared) -> Self {
        Self {
            engine,
            started: Instant::now(),
        }
    }
}

impl Drop for WaitTimer<'_> {
    fn drop(&mut self) {
        let nanos = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        count(&self.engine.stats.waits, 1);
        count(&self.engine.stats.wait_nanos, nanos);
    }
}

/// The chunks that did not reach the disk, or why the read fails.
fn memory_of(
    key: LayerKey,
    landings: Vec<(u32, Landing)>,
) -> Result<Vec<(u32, VerifiedChunk)>, ReadError> {
    let mut memory = Vec::new();
    for (chunk, landing) in landings {
        match landing {
            Landing::OnDisk | Landing::Abandoned => {}
            Landing::InMemory(bytes) => memory.push((chunk, bytes)),
            Landing::Mismatch => return Err(ReadError::Mismatch { key, chunk }),
            Landing::Refused(source) => return Err(ReadError::Refused { key, source }),
            Landing::Stopped => return Err(ReadError::Stopped),
        }
    }
    Ok(memory)
}

/// The tar range of a chunk; empty if there is none.
fn tar_range(table: &ChunkTable, index: u32) -> Range<u64> {
    table.chunk(index).map_or(0..0, |chunk| chunk.tar_range)
}

/// `part` as an index range into bytes that begin at `base`.
fn slice(part: &Range<u64>, base: u64) -> Range<usize> {
    let index = |offset: u64| usize::try_from(offset - base).unwrap_or(usize::MAX);
    index(part.start)..index(part.end)
}
