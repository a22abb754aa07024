//! What is fetched when a reader misses: the one place where read-ahead is decided.
//!
//! Pure: no clock, no disk, no network. The engine tells what happened, the answer is a [`Plan`].
//!
//! # The rules
//!
//! 1. **A miss** fetches the chunks that the read touches and goes on behind them to
//!    [`miss length`](Strategy::miss_len), in one request: at least `miss_len_min`, and more when a
//!    round trip costs as much as fetching more would (`round_trips` × round trip × bandwidth). A miss that
//!    continues no stream is taken to be one of many in its neighbourhood (the functions that a library
//!    calls when it begins lie anywhere in it): what is fetched is the aligned block around it, first
//!    the part from the miss on, then the part before it.
//! 2. **A stream** is a place where readers went forward. A miss that lands where a stream's plan ended (or
//!    inside it) continues it and doubles its window; a miss a little beyond continues it with the
//!    window it has; any other miss begins a stream. There are up to `streams_max` for a layer, so
//!    several sequential readers do not disturb each other.
//! 3. **A marker** lies on the first chunk of each piece that was planned ahead. A reader that touches it,
//!    hit or miss, proves the stream: the window doubles up to `window_max` and the next piece
//!    is planned, one window before the reader needs it.
//! 4. **A guess** is the piece behind a stream that nothing has proved yet. Its length follows how often
//!    guesses came true lately: `guess_len_max` × that share, nothing below `guess_share_min`.
//! 5. **An idle line** goes on guessing behind the streams of the latest misses, `idle_piece_len` at a
//!    time and `idle_len_max` for each stream.
//!
//! A plan says *what*; *when* is the engine's: demand at once, proven pieces before guesses, guesses newest
//! first, and both only while so little is outstanding that a new demand would hardly notice.

use std::ops::Range;
use std::time::Duration;

/// What can be set about read-ahead. Lengths are bytes of the tar, not of the wire.
#[derive(Debug, Clone, PartialEq)]
pub struct StrategyOptions {
    /// A miss fetches at least this much.
    pub miss_len_min: u64,
    /// A miss fetches at most this much, whatever the round trip.
    pub miss_len_max: u64,
    /// A miss fetches this many round trips' worth of line.
    pub round_trips: f64,
    /// Longest piece planned ahead for a proven stream.
    pub window_max: u64,
    /// A miss this far beyond the end of a stream still continues it.
    pub gap_max: u64,
    /// Longest guess behind an unproven stream.
    pub guess_len_max: u64,
    /// Guesses rest below this share of guesses that came true.
    pub guess_share_min: f64,
    /// Length of a guess for an idle line.
    pub idle_piece_len: u64,
    /// Most that an idle line guesses behind one miss.
    pub idle_len_max: u64,
    /// Longest single request, so that big windows use several connections.
    pub request_len_max: u64,
    /// Most streams remembered for a layer; the one unused for longest is forgotten.
    pub streams_max: usize,
}

impl Default for StrategyOptions {
    fn default() -> Self {
        Self {
            miss_len_min: 1 << 20,
            miss_len_max: 8 << 20,
            // Twice: the line is idle for the round trip that comes before.
            round_trips: 2.0,
            window_max: 4 << 20,
            gap_max: 256 << 10,
            // Measured: a guess without any proof takes the line from the misses that come meanwhile.
            guess_len_max: 0,
            guess_share_min: 0.1,
            idle_piece_len: 1 << 20,
            idle_len_max: 0,
            request_len_max: 4 << 20,
            streams_max: 32,
        }
    }
}

/// A layer as the strategy sees it.
pub(crate) trait Terrain {
    /// How many chunks it has.
    fn chunk_count(&self) -> u32;
    /// The tar range of a chunk that exists.
    fn tar_range(&self, index: u32) -> Range<u64>;
    /// Whether the chunk is neither there nor on its way.
    fn is_wanted(&self, index: u32) -> bool;
}

/// What was measured about the line to the source.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Line {
    /// From a request to its first byte.
    pub(crate) round_trip: Duration,
    /// Stored bytes that arrive in a second.
    pub(crate) bytes_per_second: f64,
    /// Bytes of tar in a stored byte of this layer.
    pub(crate) expansion: f64,
}

impl Line {
    /// How much tar arrives in `time`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a length estimate; saturates"
    )]
    fn tar_bytes_in(&self, time: Duration) -> u64 {
        (self.bytes_per_second * self.expansion * time.as_secs_f64()) as u64
    }
}

/// How sure it is that a piece will be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Likelihood {
    /// Nobody has read up to it yet.
    Guess,
    /// A reader has gone on through the piece before it.
    Proven,
}

/// What to fetch. Runs are chunk indexes, not empty, and every chunk in them is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Each run is one request, to be sent now.
    pub(crate) demand: Vec<Range<u32>>,
    /// Each run is to be fetched when the line allows.
    pub(crate) ahead: Vec<(Likelihood, Range<u32>)>,
    /// A read that touches this chunk is to be reported to [`Strategy::on_marker`].
    pub(crate) marker: Option<u32>,
}

/// The memory of one layer's readers.
#[derive(Debug)]
pub(crate) struct Strategy {
    options: StrategyOptions,
    streams: Vec<Stream>,
    /// Counts events, to find the stream unused for longest.
    tick: u64,
    /// Share of guesses that came true, as a sliding mean.
    guess_share: f64,
}

/// A place where somebody reads forward.
#[derive(Debug, Clone)]
struct Stream {
    /// First tar offset of the last piece planned.
    start: u64,
    /// Tar offset behind everything planned.
    end: u64,
    /// Length of the next piece.
    window: u64,
    /// First chunk of the last piece planned ahead, until somebody reads it.
    marker: Option<(Likelihood, u32)>,
    /// How often a reader went on where the plan had said.
    proven_steps: u32,
    /// How much was guessed for an idle line.
    idle_len: u64,
    used_tick: u64,
}

/// Weight of the newest guess in the share of those that came true.
const GUESS_WEIGHT: f64 = 0.05;

impl Strategy {
    /// Starts without knowing any reader. Guesses begin with the benefit of the doubt.
    pub(crate) fn new(options: StrategyOptions) -> Self {
        Self {
            options,
            streams: Vec::new(),
            tick: 0,
            guess_share: 0.5,
        }
    }

    /// Plans for a read that touches `needed`, of which at least one chunk is not there.
    ///
    /// Every wanted chunk of `needed` is in `demand`.
    pub(crate) fn on_miss(
        &mut self,
        needed: Range<u32>,
        terrain: &dyn Terrain,
        line: &Line,
    ) -> Plan {
        if needed.is_empty() {
            return Plan::default();
        }
        self.tick += 1;
        let start = terrain.tar_range(needed.start).start;
        let needed_end = terrain.tar_range(needed.end - 1).end;
        let miss_len = self.miss_len(line);
        let mut stream = self
            .take_stream(start)
            .unwrap_or_else(|| Stream::new(start, miss_len));

        let is_new = stream.proven_steps == 0;
        let block_start = if is_new {
            start - start % miss_len
        } else {
            start
        };
        let demand_end = needed_end.max(block_start + miss_len);
        let reach = needed.start..end_of_run(terrain, needed.end, demand_end);
        let demand = self.split(wanted_runs(terrain, reach.clone()), terrain);
        stream.start = start;
        stream.end = terrain.tar_range(reach.end - 1).end;
        let before = chunk_from(terrain, block_start)..needed.start;
        let before = self.split(wanted_runs(terrain, before), terrain);

        let likelihood = stream.likelihood();
        let len = match likelihood {
            Likelihood::Proven => stream.window,
            Likelihood::Guess => self.guess_len(),
        };
        let mut plan = self.plan_ahead(&mut stream, likelihood, len, terrain);
        self.keep(stream);
        plan.demand = demand;
        plan.ahead
            .extend(before.into_iter().map(|run| (Likelihood::Proven, run)));
        plan
    }

    /// Plans for a read that touched the marked chunk.
    pub(crate) fn on_marker(&mut self, chunk: u32, terrain: &dyn Terrain) -> Plan {
        self.tick += 1;
        let marked = |stream: &Stream| stream.marker.is_some_and(|(_, marker)| marker == chunk);
        let Some(position) = self.streams.iter().position(marked) else {
            return Plan::default();
        };
        let mut stream = self.streams.swap_remove(position);
        if matches!(stream.marker, Some((Likelihood::Guess, _))) {
            self.guess_share += GUESS_WEIGHT;
        }
        stream.marker = None;
        stream.idle_len = 0;
        stream.proven_steps += 1;
        stream.window = (stream.window * 2).min(self.options.window_max);
        let window = stream.window;
        let plan = self.plan_ahead(&mut stream, Likelihood::Proven, window, terrain);
        self.keep(stream);
        plan
    }

    /// Guesses for a line that has nothing to do: behind the latest miss that has guesses left.
    pub(crate) fn on_idle(&mut self, terrain: &dyn Terrain) -> Plan {
        let idle_len_max = self.options.idle_len_max;
        let streams = self.streams.iter().enumerate();
        let candidates = streams.filter(|(_, stream)| stream.idle_len < idle_len_max);
        let Some((position, _)) = candidates.max_by_key(|(_, stream)| stream.used_tick) else {
            return Plan::default();
        };
        let mut stream = self.streams.swap_remove(position);
        let len = self.options.idle_piece_len.max(1);
        stream.idle_len += len;
        let plan = self.plan_ahead(&mut stream, Likelihood::Guess, len, terrain);
        self.streams.push(stream);
        plan
    }

    /// Length of the request for a miss.
    fn miss_len(&self, line: &Line) -> u64 {
        let options = &self.options;
        let worth = line.tar_bytes_in(line.round_trip.mul_f64(options.round_trips));
        worth.clamp(
            options.miss_len_min,
            options.miss_len_max.max(options.miss_len_min),
        )
    }

    fn guess_len(&self) -> u64 {
        if self.guess_share < self.options.guess_share_min {
            return 0;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a length estimate; the share is between 0 and 1"
        )]
        let len = (self.options.guess_len_max as f64 * (self.guess_share * 2.0).min(1.0)) as u64;
        len
    }

    /// Plans the next piece behind `stream`, and a marker on its first chunk.
    fn plan_ahead(
        &mut self,
        stream: &mut Stream,
        likelihood: Likelihood,
        len: u64,
        terrain: &dyn Terrain,
    ) -> Plan {
        let first = chunk_from(terrain, stream.end);
        let last = chunk_from(terrain, stream.end.saturating_add(len));
        if first >= last {
            return Plan::default();
        }
        if likelihood == Likelihood::Guess {
            self.guess_share *= 1.0 - GUESS_WEIGHT;
        }
        stream.marker = Some((likelihood, first));
        stream.start = stream.end;
        stream.end = terrain.tar_range(last - 1).end;
        let runs = self.split(wanted_runs(terrain, first..last), terrain);
        Plan {
            demand: Vec::new(),
            ahead: runs.into_iter().map(|run| (likelihood, run)).collect(),
            marker: Some(first),
        }
    }

    /// Takes out the stream that a miss at `start` continues.
    fn take_stream(&mut self, start: u64) -> Option<Stream> {
        let gap_max = self.options.gap_max;
        let continued = |stream: &Stream| start >= stream.start && start <= stream.end + gap_max;
        let candidates = self
            .streams
            .iter()
            .enumerate()
            .filter(|(_, stream)| continued(stream));
        let (position, _) = candidates.max_by_key(|(_, stream)| stream.used_tick)?;
        let mut stream = self.streams.swap_remove(position);
        // Chunks are adjacent: the next one begins where the plan ended.
        let is_next = start <= stream.end;
        if is_next {
            stream.proven_steps += 1;
            stream.window = (stream.window * 2).min(self.options.window_max);
        }
        stream.idle_len = 0;
        Some(stream)
    }

    fn keep(&mut self, mut stream: Stream) {
        stream.used_tick = self.tick;
        if self.streams.len() >= self.options.streams_max.max(1) {
            let oldest = self
                .streams
                .iter()
                .enumerate()
                .min_by_key(|(_, stream)| stream.used_tick);
            if let Some((position, _)) = oldest {
                self.streams.swap_remove(position);
            }
        }
        self.streams.push(stream);
    }

    /// Cuts runs into requests of at most `request_len_max`, or one chunk.
    fn split(&self, runs: Vec<Range<u32>>, terrain: &dyn Terrain) -> Vec<Range<u32>> {
        let mut pieces = Vec::with_capacity(runs.len());
        for run in runs {
            let mut start = run.start;
            while start < run.end {
                let limit = terrain.tar_range(start).start + self.options.request_len_max;
                let end = end_of_run(terrain, start + 1, limit).min(run.end);
                pieces.push(start..end);
                start = end;
            }
        }
        pieces
    }
}

impl Stream {
    fn new(start: u64, window: u64) -> Self {
        Self {
            start,
            end: start,
            window,
            marker: None,
            proven_steps: 0,
            idle_len: 0,
            used_tick: 0,
        }
    }

    fn likelihood(&self) -> Likelihood {
        if self.proven_steps == 0 {
            Likelihood::Guess
        } else {
            Likelihood::Proven
        }
    }
}

/// The first chunk that begins at or behind `offset`; the count of chunks when none does.
fn chunk_from(terrain: &dyn Terrain, offset: u64) -> u32 {
    let (mut low, mut high) = (0, terrain.chunk_count());
    while low < high {
        let middle = low + (high - low) / 2;
        if terrain.tar_range(middle).start < offset {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// The end of a run that includes the chunks before `from` and goes on up to `limit`.
fn end_of_run(terrain: &dyn Terrain, from: u32, limit: u64) -> u32 {
    let mut end = from;
    while end < terrain.chunk_count() && terrain.tar_range(end).end <= limit {
        end += 1;
    }
    end
}

/// The runs of wanted chunks in `chunks`.
fn wanted_runs(terrain: &dyn Terrain, chunks: Range<u32>) -> Vec<Range<u32>> {
    let mut runs: Vec<Range<u32>> = Vec::new();
    for index in chunks.filter(|index| terrain.is_wanted(*index)) {
        match runs.last_mut() {
            Some(run) if run.end == index => run.end = index + 1,
            _ => runs.push(index..index + 1),
        }
    }
    runs
}

#[cfg(test)]
mod tests;
