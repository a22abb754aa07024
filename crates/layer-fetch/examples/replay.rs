//! Replays a recorded trace of reads against a simulated line, to tune the read-ahead.
//!
//! ```text
//! cargo run --release -p layer-fetch --example replay -- TRACE [OPTION=VALUE…]
//! ```
//!
//! A line of the trace is `layer offset len [think-µs]`: which layer, a tar range, and how long the reader
//! computes before it. Without `image=` a layer may be any word and its content is made up; with it a
//! layer is its 0-based number in the manifest, or the beginning of its diff ID's hex digits.
//!
//! | option | default | |
//! | --- | --- | --- |
//! | `image=DIR:TAG` | | OCI layout with the accelerated image |
//! | `rtt-ms`, `mbit` | 0.3, 1000 | the line |
//! | `threads`, `think-us` | 1, 0 | readers that share the trace; computing before each read without one of its own |
//! | `chunk-kib`, `cost` | 256, 0.4 | made-up layers: chunk length; stored bytes for a byte of tar, about |
//! | `miss-kib`, `miss-max-kib`, `round-trips`, `window-kib`, `gap-kib`, `guess-kib`, `idle-kib`, `idle-piece-kib` | | `StrategyOptions` |
//! | `headroom-ms`, `demand`, `ahead`, `decode-threads` | | `FetchOptions` |
#![expect(clippy::print_stdout, reason = "this is what it is for")]

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use parking_lot::Mutex;

use image_format::{CHUNK_TABLE_LEN_MAX, ChunkCompressor, ChunkTable, ChunkTableBuilder};
use layer_cache::LayerCache;
use layer_fetch::{FetchEngine, FetchOptions, LazyLayer, RangeSource, SourceError, StoredStream};
use oci::layout::OciLayout;
use oci::{Digest, Manifest};

/// The line hands out this much at a time, so that requests share it.
const PIECE_LEN: u64 = 16 << 10;

/// A read of the trace.
#[derive(Debug, Clone)]
struct Read {
    layer: String,
    range: Range<u64>,
    think: Duration,
}

/// A layer's table, encoded, and its stored bytes.
#[derive(Debug)]
struct StoredLayer {
    table: Vec<u8>,
    stored: Stored,
}

/// Where stored bytes are.
#[derive(Debug)]
enum Stored {
    /// In the layout.
    File(File),
    /// One frame, over and over.
    Frame(Vec<u8>),
}

/// The line that all layers share.
#[derive(Debug)]
struct Line {
    round_trip: Duration,
    bytes_per_second: f64,
    free_at: Mutex<Instant>,
}

/// A layer behind the line.
#[derive(Debug)]
struct Simulated {
    line: Arc<Line>,
    stored: Arc<Stored>,
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().context("which trace?")?;
    let mut options = Options::parse(arguments)?;
    let reads = parse_trace(&path, Duration::from_micros(options.take("think-us", 0)?))?;
    let fetch_options = fetch_options(&mut options)?;
    let line = Arc::new(Line {
        round_trip: Duration::from_secs_f64(options.take("rtt-ms", 0.3)? / 1000.0),
        bytes_per_second: options.take("mbit", 1000.0)? * 125_000.0,
        free_at: Mutex::new(Instant::now()),
    });
    let threads: usize = options.take("threads", 1)?;
    let stored = stored_layers(&reads, &mut options)?;
    options.finish()?;

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()?;
    let engine = FetchEngine::start(runtime.handle().clone(), fetch_options)?;
    let directory = tempfile::tempdir()?;
    let cache = LayerCache::open(directory.path())?;
    let layers = open_layers(&cache, &engine, &line, stored)?;

    let started = Instant::now();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| replay(&reads, &next, &layers)))
            .collect();
        readers
            .into_iter()
            .try_for_each(|reader| match reader.join() {
                Ok(result) => result,
                Err(_) => bail!("a reader panicked"),
            })
    })?;
    report(&engine, started.elapsed(), &reads);
    runtime.block_on(engine.stop());
    Ok(())
}

fn replay(reads: &[Read], next: &AtomicUsize, layers: &HashMap<String, LazyLayer>) -> Result<()> {
    let mut buffer = Vec::new();
    while let Some(read) = reads.get(next.fetch_add(1, Ordering::Relaxed)) {
        spin_for(read.think);
        let layer = layers
            .get(&read.layer)
            .context("layer is not in the image")?;
        let end = read.range.end.min(layer.tar_len());
        buffer.resize(usize::try_from(end.saturating_sub(read.range.start))?, 0);
        let deadline = Instant::now() + Duration::from_mins(1);
        layer.read_into(&mut buffer, read.range.start, deadline)?;
    }
    Ok(())
}

/// Computes, as a program does between reads.
fn spin_for(time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn report(engine: &FetchEngine, elapsed: Duration, reads: &[Read]) {
    let stats = engine.stats();
    let (round_trip, bytes_per_second) = engine.line();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let asked = mib(reads
        .iter()
        .map(|read| read.range.end - read.range.start)
        .sum());
    println!("elapsed    {:8.3} s", elapsed.as_secs_f64());
    println!(
        "waited     {:8.3} s  in {} of {} reads",
        stats.wait_time.as_secs_f64(),
        stats.waits,
        stats.reads
    );
    println!(
        "fetched    {:8.1} MiB stored, for {asked:.1} MiB of tar read",
        mib(stats.network_bytes)
    );
    println!(
        "requests   {:8} demand ({} chunks), {} ahead ({} chunks)",
        stats.demand_requests, stats.demand_chunks, stats.ahead_requests, stats.ahead_chunks
    );
    println!(
        "measured   {:8.2} ms round trip, {:.1} MB/s",
        round_trip.as_secs_f64() * 1000.0,
        bytes_per_second / 1e6
    );
}

fn parse_trace(path: &str, think: Duration) -> Result<Vec<Read>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("trace {path}"))?;
    let mut reads = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [layer, offset, len, rest @ ..] = &words[..] else {
            bail!(
                "line {}: `layer offset len [think-µs]` expected",
                number + 1
            );
        };
        let offset: u64 = offset.parse()?;
        let think = match rest.first() {
            Some(micros) => Duration::from_micros(micros.parse()?),
            None => think,
        };
        reads.push(Read {
            layer: (*layer).to_owned(),
            range: offset..offset + len.parse::<u64>()?,
            think,
        });
    }
    Ok(reads)
}

fn fetch_options(options: &mut Options) -> Result<FetchOptions> {
    let mut fetch = FetchOptions::default();
    let strategy = &mut fetch.strategy;
    for (name, field) in [
        ("miss-kib", &mut strategy.miss_len_min),
        ("miss-max-kib", &mut strategy.miss_len_max),
        ("window-kib", &mut strategy.window_max),
        ("gap-kib", &mut strategy.gap_max),
        ("guess-kib", &mut strategy.guess_len_max),
        ("idle-kib", &mut strategy.idle_len_max),
        ("idle-piece-kib", &mut strategy.idle_piece_len),
    ] {
        *field = options.take(name, *field >> 10)? << 10;
    }
    strategy.round_trips = options.take("round-trips", strategy.round_trips)?;
    let headroom = options.take("headroom-ms", fetch.line_headroom.as_secs_f64() * 1000.0)?;
    fetch.line_headroom = Duration::from_secs_f64(headroom / 1000.0);
    fetch.demand_requests_max = options.take("demand", fetch.demand_requests_max)?;
    fetch.ahead_requests_max = options.take("ahead", fetch.ahead_requests_max)?;
    fetch.decode_threads = options.take("decode-threads", fetch.decode_threads)?;
    Ok(fetch)
}

fn stored_layers(reads: &[Read], options: &mut Options) -> Result<BTreeMap<String, StoredLayer>> {
    let chunk_len = options.take("chunk-kib", 256_u32)? << 10;
    let cost: f64 = options.take("cost", 0.4)?;
    let image: String = options.take("image", String::new())?;
    let mut lengths: BTreeMap<String, u64> = BTreeMap::new();
    for read in reads {
        let length = lengths.entry(read.layer.clone()).or_default();
        *length = read.range.end.max(*length);
    }
    let names = lengths.into_iter();
    if image.is_empty() {
        return names
            .map(|(name, tar_len)| Ok((name, made_up_layer(tar_len, chunk_len, cost)?)))
            .collect();
    }
    let (directory, tag) = image
        .rsplit_once(':')
        .context("image=DIRECTORY:TAG expected")?;
    let layout = OciLayout::open(directory)?;
    let tagged = layout.find_tag(tag)?.context("no such tag")?;
    let body = layout.read_blob(&tagged, 8 << 20)?;
    let Manifest::Image(manifest) = Manifest::parse(Some(&tagged.media_type), &body)? else {
        bail!("tag names an index: tag a manifest");
    };
    let mut tables = Vec::new();
    for layer in &manifest.layers {
        let digest = layer.annotations.get("dev.slipway.chunk-table.digest");
        let digest: Digest = digest.context("layer has no chunk table")?.parse()?;
        let table = std::fs::read(layout.blob_path(&digest))?;
        ensure!(
            table.len() as u64 <= CHUNK_TABLE_LEN_MAX,
            "chunk table is too long"
        );
        tables.push((table, layout.blob_path(&layer.digest)));
    }
    let mut layers = BTreeMap::new();
    for (name, _) in names {
        let position = position_of(&name, &tables).with_context(|| format!("layer {name}"))?;
        let (table, blob) = &tables[position];
        let stored = Stored::File(File::open(blob)?);
        layers.insert(
            name,
            StoredLayer {
                table: table.clone(),
                stored,
            },
        );
    }
    Ok(layers)
}

fn position_of<Path>(name: &str, tables: &[(Vec<u8>, Path)]) -> Result<usize> {
    if let Ok(number) = name.parse::<usize>()
        && number < tables.len()
    {
        return Ok(number);
    }
    for (position, (table, _)) in tables.iter().enumerate() {
        if ChunkTable::decode(table)?
            .diff_id()
            .to_hex()
            .starts_with(name)
        {
            return Ok(position);
        }
    }
    bail!("neither a number nor the beginning of a diff ID");
}

/// A layer of equal chunks: words and noise, so that decoding costs what it does in life.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a chunk's length"
)]
fn made_up_layer(tar_len: u64, chunk_len: u32, cost: f64) -> Result<StoredLayer> {
    let mut state = 1_u64;
    let mut bytes = Vec::new();
    let noise_len = (f64::from(chunk_len) * cost) as usize;
    while bytes.len() < chunk_len as usize {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        if bytes.len() % (1 << 12) < noise_len * (1 << 12) / chunk_len as usize {
            bytes.push(state.to_le_bytes()[7]);
        } else {
            bytes.extend_from_slice(b"def __init__(self, *args):\n");
        }
    }
    bytes.truncate(chunk_len as usize);
    let chunk = ChunkCompressor::new(3)?.compress(&bytes)?;
    let mut table = ChunkTableBuilder::new();
    for _ in 0..tar_len.div_ceil(u64::from(chunk_len)) {
        table.add(chunk_len, u32::try_from(chunk.frame.len())?, chunk.digest)?;
    }
    let table = table.finish(Digest::of(b"made up")).encode();
    Ok(StoredLayer {
        table,
        stored: Stored::Frame(chunk.frame),
    })
}

fn open_layers(
    cache: &LayerCache,
    engine: &FetchEngine,
    line: &Arc<Line>,
    stored: BTreeMap<String, StoredLayer>,
) -> Result<HashMap<String, LazyLayer>> {
    let mut layers = HashMap::new();
    for (name, layer) in stored {
        let cached = cache.open_lazy(&Digest::of(&layer.table), &layer.table)?;
        let source = Simulated {
            line: Arc::clone(line),
            stored: Arc::new(layer.stored),
        };
        layers.insert(name, engine.layer(cached, Arc::new(source)));
    }
    Ok(layers)
}

impl Stored {
    fn read(&self, range: Range<u64>) -> std::io::Result<Bytes> {
        let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap_or(0)];
        match self {
            Self::File(file) => file.read_exact_at(&mut bytes, range.start)?,
            Self::Frame(frame) => {
                let mut at = usize::try_from(range.start % frame.len() as u64).unwrap_or(0);
                let mut rest = &mut bytes[..];
                while !rest.is_empty() {
                    let len = rest.len().min(frame.len() - at);
                    rest[..len].copy_from_slice(&frame[at..at + len]);
                    rest = &mut rest[len..];
                    at = 0;
                }
            }
        }
        Ok(bytes.into())
    }
}

impl Line {
    /// Waits until `len` more bytes have come through.
    async fn carry(&self, len: u64) {
        #[expect(clippy::cast_precision_loss, reason = "a few KiB")]
        let time = Duration::from_secs_f64(len as f64 / self.bytes_per_second);
        let until = {
            let mut free_at = self.free_at.lock();
            *free_at = (*free_at).max(Instant::now()) + time;
            *free_at
        };
        // The timer knows milliseconds. What is less may come early: the next piece waits for it.
        if until > Instant::now() + Duration::from_millis(1) {
            tokio::time::sleep_until(until.into()).await;
        }
    }
}

#[async_trait]
impl RangeSource for Simulated {
    fn name(&self) -> &'static str {
        "simulated"
    }

    async fn fetch(&self, stored_range: Range<u64>) -> Result<StoredStream, SourceError> {
        let until = Instant::now() + self.line.round_trip;
        // The timer knows milliseconds and wakes late: the last two are waited for actively.
        let coarse = self
            .line
            .round_trip
            .saturating_sub(Duration::from_millis(2));
        if !coarse.is_zero() {
            tokio::time::sleep(coarse).await;
        }
        while Instant::now() < until {
            tokio::task::yield_now().await;
        }
        let (line, stored) = (Arc::clone(&self.line), Arc::clone(&self.stored));
        let body = stream::unfold(stored_range, move |left| {
            let (line, stored) = (Arc::clone(&line), Arc::clone(&stored));
            async move {
                if left.is_empty() {
                    return None;
                }
                let piece = left.start..left.end.min(left.start + PIECE_LEN);
                line.carry(piece.end - piece.start).await;
                let rest = piece.end..left.end;
                let fail = |error| SourceError::Refused {
                    source: Box::new(error),
                };
                Some((stored.read(piece).map_err(fail), rest))
            }
        });
        Ok(body.boxed())
    }
}

/// `NAME=VALUE` arguments.
struct Options(HashMap<String, String>);

impl Options {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Self> {
        let pair = |argument: String| {
            let (name, value) = argument.split_once('=').context("NAME=VALUE expected")?;
            Ok((name.to_owned(), value.to_owned()))
        };
        Ok(Self(arguments.map(pair).collect::<Result<_>>()?))
    }

    fn take<Value>(&mut self, name: &str, default: Value) -> Result<Value>
    where
        Value: FromStr<Err: std::error::Error + Send + Sync + 'static>,
    {
        self.0.remove(name).map_or(Ok(default), |text| {
            text.parse().with_context(|| format!("option {name}"))
        })
    }

    fn finish(self) -> Result<()> {
        ensure!(self.0.is_empty(), "unknown options: {:?}", self.0.keys());
        Ok(())
    }
}
