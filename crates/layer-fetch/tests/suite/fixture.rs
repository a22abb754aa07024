//! A layer made by code, a source that does what it is told, and an engine in virtual time.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::oneshot;

use image_format::{ChunkCompressor, ChunkTable, LayerBlobWriter};
use layer_cache::{BootId, CacheOptions, CachedLayer, LayerCache, LayerWrites, WriteStep};
use layer_fetch::{
    FetchEngine, FetchOptions, LazyLayer, RangeSource, SourceError, StoredStream, StrategyOptions,
};
use oci::Digest;

/// Length of each chunk but the last.
pub(crate) const CHUNK_LEN: u64 = 8 << 10;

/// How many chunks the layer has.
pub(crate) const CHUNK_COUNT: u32 = 100;

/// A layer whose chunks differ, stored.
pub(crate) struct Stored {
    pub(crate) tar: Vec<u8>,
    pub(crate) blob: Vec<u8>,
    pub(crate) table: ChunkTable,
}

impl Stored {
    pub(crate) fn new() -> Self {
        let mut tar = Vec::new();
        let mut compressor = ChunkCompressor::new(1).unwrap();
        let mut writer = LayerBlobWriter::new(Vec::new());
        for chunk in 0..CHUNK_COUNT {
            let len = if chunk + 1 == CHUNK_COUNT {
                1000
            } else {
                CHUNK_LEN
            };
            let mut state = u64::from(chunk) + 1;
            let bytes: Vec<u8> = (0..len).map(|_| next_random(&mut state)).collect();
            writer
                .write_chunk(&compressor.compress(&bytes).unwrap())
                .unwrap();
            tar.extend(bytes);
        }
        let (blob, table) = writer.finish(Digest::of(&tar)).unwrap();
        Self { tar, blob, table }
    }

    pub(crate) fn bytes(&self, range: &Range<u64>) -> &[u8] {
        &self.tar[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()]
    }
}

fn next_random(state: &mut u64) -> u8 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    state.to_le_bytes()[7]
}

/// What the source does with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The bytes, in small pieces.
    Good,
    /// The first so many bytes, then the connection ends.
    Cut(usize),
    /// The first so many bytes, then nothing any more.
    Hang(usize),
    /// "Try again later."
    Unavailable,
    /// "Not found."
    Refused,
    /// The bytes, with one bit of the n-th byte flipped.
    Flipped(usize),
}

/// A source with a script. After the script it answers with what stands last.
#[derive(Debug)]
pub(crate) struct ScriptedSource {
    blob: Bytes,
    script: Mutex<VecDeque<Answer>>,
    then: Mutex<Answer>,
    pub(crate) requests: Mutex<Vec<Range<u64>>>,
    running: Arc<AtomicUsize>,
    pub(crate) most_running: AtomicUsize,
    /// When the blob holds wrong bytes for good.
    pub(crate) wrong_at: Mutex<Option<usize>>,
    pub(crate) delay: Duration,
}

impl ScriptedSource {
    pub(crate) fn new(stored: &Stored, script: &[Answer]) -> Self {
        Self {
            blob: stored.blob.clone().into(),
            script: Mutex::new(script.iter().copied().collect()),
            then: Mutex::new(Answer::Good),
            requests: Mutex::default(),
            running: Arc::default(),
            most_running: AtomicUsize::new(0),
            wrong_at: Mutex::new(None),
            delay: Duration::ZERO,
        }
    }

    pub(crate) fn then(self, answer: Answer) -> Self {
        *self.then.lock() = answer;
        self
    }

    pub(crate) fn answer_from_now(&self, answer: Answer) {
        *self.then.lock() = answer;
    }
}

#[derive(Debug)]
struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl RangeSource for ScriptedSource {
    fn name(&self) -> &'static str {
        "script"
    }

    async fn fetch(&self, stored_range: Range<u64>) -> Result<StoredStream, SourceError> {
        self.requests.lock().push(stored_range.clone());
        let running = Running(Arc::clone(&self.running));
        let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_running.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(self.delay).await;
        let answer = self.script.lock().pop_front().unwrap_or(*self.then.lock());
        let start = usize::try_from(stored_range.start).unwrap();
        let end = usize::try_from(stored_range.end).unwrap();
        let mut bytes = self.blob.slice(start..end).to_vec();
        if let Some(wrong) = self
            .wrong_at
            .lock()
            .filter(|wrong| (start..end).contains(wrong))
        {
            bytes[wrong - start] ^= 1;
        }
        let mut hangs = false;
        match answer {
            Answer::Good => {}
            Answer::Cut(len) => bytes.truncate(len),
            Answer::Hang(len) => {
                bytes.truncate(len);
                hangs = true;
            }
            Answer::Unavailable => {
                return Err(SourceError::Unavailable {
                    source: "503".into(),
                });
            }
            Answer::Refused => {
                return Err(SourceError::Refused {
                    source: "404".into(),
                });
            }
            Answer::Flipped(byte) => bytes[byte] ^= 1,
        }
        let pieces: Vec<_> = bytes
            .chunks(3000)
            .map(Bytes::copy_from_slice)
            .map(Ok)
            .collect();
        let rest = if hangs {
            stream::pending().left_stream()
        } else {
            stream::empty().right_stream()
        };
        let body = stream::iter(pieces).chain(rest);
        Ok(body.map(move |piece| (&running, piece).1).boxed())
    }
}

/// A disk that takes no data as long as it is told so.
#[derive(Debug, Default)]
pub(crate) struct FullDisk {
    pub(crate) is_full: AtomicBool,
}

impl LayerWrites for FullDisk {
    fn write_all_at(
        &self,
        step: WriteStep,
        file: &File,
        bytes: &[u8],
        offset: u64,
    ) -> io::Result<()> {
        if step == WriteStep::Data && self.is_full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
    }
}

/// How time passes for the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Jumps over every wait. Deadlines of tasks pass while decode threads work.
    Virtual,
    /// As everywhere.
    Real,
}

/// A runtime in a thread of its own.
pub(crate) struct RuntimeThread {
    pub(crate) handle: tokio::runtime::Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl RuntimeThread {
    pub(crate) fn start(pace: Pace) -> Self {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let is_paused = pace == Pace::Virtual;
        let runtime = builder
            .enable_time()
            .start_paused(is_paused)
            .build()
            .unwrap();
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            drop(runtime.block_on(stopped));
        });
        Self {
            handle,
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for RuntimeThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// All of it together.
pub(crate) struct Fixture {
    pub(crate) stored: Stored,
    pub(crate) source: Arc<ScriptedSource>,
    pub(crate) engine: FetchEngine,
    pub(crate) layer: LazyLayer,
    pub(crate) disk: Arc<FullDisk>,
    pub(crate) directory: TempDir,
    pub(crate) time: RuntimeThread,
}

impl Fixture {
    pub(crate) fn new(script: &[Answer]) -> Self {
        Self::with(script, |source| source)
    }

    pub(crate) fn with(
        script: &[Answer],
        change: impl FnOnce(ScriptedSource) -> ScriptedSource,
    ) -> Self {
        Self::with_options(options(), script, change)
    }

    pub(crate) fn with_options(
        options: FetchOptions,
        script: &[Answer],
        change: impl FnOnce(ScriptedSource) -> ScriptedSource,
    ) -> Self {
        Self::at(Pace::Virtual, options, script, change)
    }

    pub(crate) fn at(
        pace: Pace,
        options: FetchOptions,
        script: &[Answer],
        change: impl FnOnce(ScriptedSource) -> ScriptedSource,
    ) -> Self {
        let stored = Stored::new();
        let time = RuntimeThread::start(pace);
        let source = Arc::new(change(ScriptedSource::new(&stored, script)));
        let directory = tempfile::tempdir().unwrap();
        let disk = Arc::new(FullDisk::default());
        let engine = FetchEngine::start(time.handle.clone(), options).unwrap();
        let cached = open(&directory, &stored, &disk);
        let layer = engine.layer(cached, Arc::clone(&source) as Arc<dyn RangeSource>);
        Self {
            stored,
            source,
            engine,
            layer,
            disk,
            directory,
            time,
        }
    }

    /// The same cache and source in what might be another process: nothing is trusted yet.
    pub(crate) fn into_next_process(self) -> Self {
        let cached = open(&self.directory, &self.stored, &self.disk);
        let engine = FetchEngine::start(self.time.handle.clone(), demand_only()).unwrap();
        let layer = engine.layer(cached, Arc::clone(&self.source) as Arc<dyn RangeSource>);
        Self {
            engine,
            layer,
            ..self
        }
    }

    pub(crate) fn read_error(&self, range: Range<u64>) -> layer_fetch::ReadError {
        self.read(range).unwrap_err()
    }

    /// Reads and compares; the error if there was one.
    pub(crate) fn read(&self, range: Range<u64>) -> Result<(), layer_fetch::ReadError> {
        let mut buffer = vec![0; usize::try_from(range.end - range.start).unwrap()];
        self.layer.read_into(&mut buffer, range.start, soon())?;
        assert!(
            buffer == self.stored.bytes(&range),
            "wrong bytes in {range:?}"
        );
        Ok(())
    }
}

fn open(directory: &TempDir, stored: &Stored, disk: &Arc<FullDisk>) -> CachedLayer {
    let writes = Arc::clone(disk) as Arc<dyn LayerWrites>;
    let options = CacheOptions {
        boot_id: BootId::new("one"),
        writes,
    };
    let cache = LayerCache::open_with(directory.path(), options).unwrap();
    let encoded = stored.table.encode();
    cache.open_lazy(&Digest::of(&encoded), &encoded).unwrap()
}

/// The defaults, in the small.
pub(crate) fn options() -> FetchOptions {
    FetchOptions {
        strategy: StrategyOptions {
            miss_len_min: 4 * CHUNK_LEN,
            miss_len_max: 16 * CHUNK_LEN,
            window_max: 16 * CHUNK_LEN,
            gap_max: 2 * CHUNK_LEN,
            guess_len_max: 4 * CHUNK_LEN,
            idle_piece_len: 2 * CHUNK_LEN,
            idle_len_max: 4 * CHUNK_LEN,
            request_len_max: 8 * CHUNK_LEN,
            ..StrategyOptions::default()
        },
        ..FetchOptions::default()
    }
}

/// The defaults in the small, without any speculation.
pub(crate) fn demand_only() -> FetchOptions {
    let mut options = options();
    options.strategy.miss_len_min = 1;
    options.strategy.miss_len_max = 1;
    options.strategy.guess_len_max = 0;
    options.strategy.idle_len_max = 0;
    options.strategy.window_max = 0;
    options
}

/// A deadline that no test reaches unless it fails.
pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}
