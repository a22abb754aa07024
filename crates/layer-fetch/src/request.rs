//! One request on its way: a run of chunks, cut apart as its bytes stream in.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use image_format::{ChunkDecoder, ChunkDescriptor, VerifiedChunk};

use crate::decode_pool::{DecodeJob, Urgency};
use crate::flight::{Flight, Landing};
use crate::lazy_layer::LazyLayerInner;
use crate::source::{SourceError, StoredStream};
use crate::stats::count;

/// Why a request is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A reader waits.
    Demand,
    /// A reader may come.
    Ahead,
}

/// Whether the chunk came wrong before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Try {
    /// Not yet.
    First,
    /// Once; if it does again the reader gets an error.
    Second,
}

/// A run of chunks to fetch. Dropped before its end, it lands what it has not delivered.
#[derive(Debug)]
pub(crate) struct Request {
    layer: Arc<LazyLayerInner>,
    purpose: Purpose,
    nth_try: Try,
    /// Adjacent chunks that were not handed to the decode threads yet.
    flights: VecDeque<(ChunkDescriptor, Arc<Flight>)>,
}

impl Request {
    /// Takes flights of adjacent chunks.
    pub(crate) fn new(
        layer: Arc<LazyLayerInner>,
        purpose: Purpose,
        nth_try: Try,
        flights: VecDeque<(ChunkDescriptor, Arc<Flight>)>,
    ) -> Self {
        if purpose == Purpose::Ahead {
            let requests = &layer.engine.outstanding.ahead_requests;
            requests.fetch_add(1, Ordering::Relaxed);
        }
        Self {
            layer,
            purpose,
            nth_try,
            flights,
        }
    }

    /// Fetches until everything was delivered, or nobody waits, or the engine stops.
    pub(crate) async fn run(mut self) {
        let layer = Arc::clone(&self.layer);
        tokio::select! {
            () = layer.engine.stop.cancelled() => self.land_rest(&Landing::Stopped),
            () = self.fetch() => {}
        }
        drop(self);
        layer.engine.pump();
    }

    async fn fetch(&mut self) {
        let options = self.layer.engine.options.clone();
        let mut delay = options.retry_delay_min;
        while !self.flights.is_empty() {
            let Err(error) = self.attempt(options.stall_timeout).await else {
                continue;
            };
            count(&self.layer.engine.stats.source_errors, 1);
            let error = Arc::new(error);
            let source = self.layer.source.name();
            debug!(source, layer = %self.layer.cached.key(), %error, "request failed");
            if !error.is_retryable() {
                warn!(source, layer = %self.layer.cached.key(), error = &*error as &dyn std::error::Error, "source refuses a layer");
                self.land_rest(&Landing::Refused(error));
                return;
            }
            self.abandon_unwatched();
            for (_, flight) in &self.flights {
                flight.note_error(&error);
            }
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(options.retry_delay_max);
            // Who gave up meanwhile is not fetched for.
            self.abandon_unwatched();
        }
    }

    /// Sends the request once and hands over chunks as they arrive.
    async fn attempt(&mut self, stall: Duration) -> Result<(), SourceError> {
        let (Some((first, _)), Some((last, _))) = (self.flights.front(), self.flights.back())
        else {
            return Ok(());
        };
        let range = first.stored_range.start..last.stored_range.end;
        let layer = Arc::clone(&self.layer);
        let _permit = match self.purpose {
            Purpose::Demand => Arc::clone(&layer.engine.demand).acquire_owned().await.ok(),
            Purpose::Ahead => None,
        };
        self.count_request();
        let mut awaited = Awaited::new(&layer, self.purpose, &range);
        let sent = Instant::now();
        let stalled = |_| SourceError::Stalled { waited: stall };
        let stream = timeout(stall, layer.source.fetch(range))
            .await
            .map_err(stalled)??;
        self.receive(stream, &mut awaited, sent, stall).await
    }

    async fn receive(
        &mut self,
        mut stream: StoredStream,
        awaited: &mut Awaited,
        sent: Instant,
        stall: Duration,
    ) -> Result<(), SourceError> {
        let mut buffer = BytesMut::new();
        while let Some((chunk, _)) = self.flights.front() {
            let chunk_len = usize::try_from(chunk.stored_len()).unwrap_or(usize::MAX);
            if buffer.len() >= chunk_len {
                let stored = buffer.split_to(chunk_len).freeze();
                self.hand_over(stored).await;
                continue;
            }
            let piece = timeout(stall, stream.next())
                .await
                .map_err(|_| SourceError::Stalled { waited: stall })?
                .ok_or(SourceError::Short {
                    missing_len: awaited.left,
                })??;
            awaited.arrived(piece.len() as u64, sent);
            buffer.reserve(piece.len().max(chunk_len.saturating_sub(buffer.len())));
            buffer.extend_from_slice(&piece);
        }
        Ok(())
    }

    /// Gives the first chunk to the decode threads.
    async fn hand_over(&mut self, stored: Bytes) {
        let Some((chunk, _)) = self.flights.front() else {
            return;
        };
        let engine = &self.layer.engine;
        // A chunk longer than the whole budget takes all of it.
        let decoded_len = u32::try_from(chunk.tar_len()).unwrap_or(u32::MAX);
        let permits = decoded_len.min(engine.options.decoding_bytes_max);
        let permit = Arc::clone(&engine.decoding)
            .acquire_many_owned(permits)
            .await
            .ok();
        let Some((chunk, flight)) = self.flights.pop_front() else {
            return;
        };
        let urgency = if flight.is_watched() {
            Urgency::Watched
        } else {
            Urgency::Unwatched
        };
        let job = Arrival {
            layer: Arc::clone(&self.layer),
            nth_try: self.nth_try,
            chunk,
            flight: Some(flight),
            stored,
            _permit: permit,
        };
        self.layer.engine.pool.push(urgency, Box::new(job));
        if self.purpose == Purpose::Ahead || self.flights.is_empty() {
            self.layer.engine.pump();
        }
    }

    /// Gives up chunks at both ends that nobody waits for; those between are fetched anyway.
    fn abandon_unwatched(&mut self) {
        let layer = Arc::clone(&self.layer);
        while let Some((chunk, flight)) = self.flights.front()
            && layer.abandon(chunk.index, flight)
        {
            self.flights.pop_front();
        }
        while let Some((chunk, flight)) = self.flights.back()
            && layer.abandon(chunk.index, flight)
        {
            self.flights.pop_back();
        }
    }

    fn land_rest(&mut self, landing: &Landing) {
        for (chunk, flight) in self.flights.drain(..) {
            self.layer.land(chunk.index, &flight, landing.clone());
        }
    }

    fn count_request(&self) {
        let stats = &self.layer.engine.stats;
        let (requests, chunks) = match self.purpose {
            Purpose::Demand => (&stats.demand_requests, &stats.demand_chunks),
            Purpose::Ahead => (&stats.ahead_requests, &stats.ahead_chunks),
        };
        count(requests, 1);
        count(chunks, self.flights.len() as u64);
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.land_rest(&Landing::Abandoned);
        if self.purpose == Purpose::Ahead {
            let requests = &self.layer.engine.outstanding.ahead_requests;
            requests.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Bytes of one request that have not come yet, and its body on the meter.
struct Awaited {
    layer: Arc<LazyLayerInner>,
    purpose: Purpose,
    left: u64,
    has_begun: bool,
}

impl Awaited {
    fn new(layer: &Arc<LazyLayerInner>, purpose: Purpose, range: &Range<u64>) -> Self {
        let awaited = Self {
            layer: Arc::clone(layer),
            purpose,
            left: range.end.saturating_sub(range.start),
            has_begun: false,
        };
        awaited.counter().fetch_add(awaited.left, Ordering::Relaxed);
        awaited
    }

    /// Counts bytes that came.
    fn arrived(&mut self, len: u64, sent: Instant) {
        let now = Instant::now();
        count(&self.layer.engine.stats.network_bytes, len);
        let mut meter = self.layer.engine.meter.lock();
        if self.has_begun {
            meter.received(now, len);
        } else {
            // The first bytes lay in a buffer for an unknown time: they only mark the beginning.
            self.has_begun = true;
            meter.body_begins(now, now.saturating_duration_since(sent));
        }
        drop(meter);
        let expected = len.min(self.left);
        self.left -= expected;
        self.counter().fetch_sub(expected, Ordering::Relaxed);
    }

    fn counter(&self) -> &std::sync::atomic::AtomicU64 {
        match self.purpose {
            Purpose::Demand => &self.layer.engine.outstanding.demand_bytes,
            Purpose::Ahead => &self.layer.engine.outstanding.ahead_bytes,
        }
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.counter().fetch_sub(self.left, Ordering::Relaxed);
        if self.has_begun {
            self.layer.engine.meter.lock().body_ends(Instant::now());
        }
    }
}

/// A chunk's stored bytes, for a decode thread. Dropped undone, it lands the flight.
#[derive(Debug)]
struct Arrival {
    layer: Arc<LazyLayerInner>,
    nth_try: Try,
    chunk: ChunkDescriptor,
    /// Until it landed or was handed on.
    flight: Option<Arc<Flight>>,
    stored: Bytes,
    _permit: Option<OwnedSemaphorePermit>,
}

impl DecodeJob for Arrival {
    fn run(mut self: Box<Self>, decoder: &mut ChunkDecoder) {
        let wrong: Box<dyn std::error::Error> = match decoder.decode(&self.stored, &self.chunk) {
            Ok(untrusted) => match untrusted.verify(&self.chunk) {
                Ok(verified) => return self.deliver(verified),
                Err(mismatch) => Box::new(mismatch),
            },
            Err(error) => Box::new(error),
        };
        self.reject(wrong.as_ref());
    }
}

impl Arrival {
    fn deliver(&mut self, verified: VerifiedChunk) {
        let layer = Arc::clone(&self.layer);
        let landing = match layer.cached.admit(&self.chunk, &verified) {
            Ok(()) => Landing::OnDisk,
            Err(error) => {
                if layer
                    .engine
                    .stats
                    .admit_errors
                    .fetch_add(1, Ordering::Relaxed)
                    == 0
                {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "cache takes no more, reads are answered from memory"
                    );
                }
                layer.engine.pause_ahead();
                let key = layer.cached.key();
                layer
                    .engine
                    .overflow
                    .lock()
                    .keep(key, self.chunk.index, verified.clone());
                Landing::InMemory(verified)
            }
        };
        self.land(landing);
    }

    /// Asks the source once more if somebody waits; else, or the second time, gives up.
    fn reject(&mut self, reason: &(dyn std::error::Error + 'static)) {
        let layer = &Arc::clone(&self.layer);
        let index = self.chunk.index;
        count(&layer.engine.stats.mismatches, 1);
        warn!(
            layer = %layer.cached.key(),
            chunk = index,
            source = layer.source.name(),
            error = reason,
            "source sent other bytes than the chunk table says"
        );
        if self.nth_try == Try::Second {
            self.land(Landing::Mismatch);
            return;
        }
        let is_abandoned = self
            .flight
            .as_ref()
            .is_none_or(|flight| layer.abandon(index, flight));
        if let (Some(flight), false) = (self.flight.take(), is_abandoned) {
            let flights = VecDeque::from([(self.chunk.clone(), flight)]);
            let request = Request::new(Arc::clone(layer), Purpose::Demand, Try::Second, flights);
            layer.engine.send(vec![request]);
        }
    }

    fn land(&mut self, landing: Landing) {
        if let Some(flight) = self.flight.take() {
            self.layer.land(self.chunk.index, &flight, landing);
        }
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.land(Landing::Abandoned);
    }
}
