//! Measures what the length of chunks and the level of compression cost.
//!
//! ```text
//! cargo run --release -p image-format --example chunk_lengths -- TAR [LEVEL…]
//! ```
//!
//! One thread; speeds are by the time that it had a processor, so a busy machine does not
//! change them. The results that decided are in `docs/decisions/0002-chunk-length.md`.

#![expect(clippy::print_stdout, reason = "it prints a table and nothing else")]

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use image_format::{ChunkCompressor, ChunkDecoder, ChunkSizes, ChunkTableBuilder, Chunker};

const AVERAGES_KIB: [u32; 4] = [128, 256, 512, 1024];

/// How the tar is pushed: about what a decompressor gives at a time.
const PUSH_LEN: usize = 128 << 10;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments
        .next()
        .ok_or("usage: chunk_lengths TAR [LEVEL…]")?;
    let mut levels: Vec<i32> = arguments
        .map(|level| level.parse())
        .collect::<Result<_, _>>()?;
    if levels.is_empty() {
        levels = vec![1, 3, 5];
    }
    let tar = std::fs::read(path)?;
    println!(
        "average  chunks  mean KiB  cut MB/s  level    stored MB  compress MB/s  decode+verify MB/s"
    );
    for average in AVERAGES_KIB {
        let started = processor_time()?;
        let chunks = cut(&tar, ChunkSizes::around(average << 10)?);
        let cut_speed = speed(tar.len(), processor_time()?.saturating_sub(started));
        let mean = tar.len() / chunks.len().max(1) / 1024;
        for level in &levels {
            let measured = measure(&chunks, *level)?;
            println!(
                "{average:>4} KiB  {:>6}  {mean:>8}  {cut_speed:>8}  {level:>5}  {:>11.1}  {:>13}  {:>18}",
                chunks.len(),
                u32::try_from(measured.stored_len >> 10).map(f64::from)? / 1000.0 * 1.024,
                speed(tar.len(), measured.compress),
                speed(tar.len(), measured.decode),
            );
        }
    }
    Ok(())
}

struct Measured {
    stored_len: u64,
    compress: Duration,
    decode: Duration,
}

fn cut(tar: &[u8], sizes: ChunkSizes) -> Vec<Bytes> {
    let mut chunks = Vec::new();
    let mut chunker = Chunker::new(sizes);
    for piece in tar.chunks(PUSH_LEN) {
        chunker.feed(piece, &mut |chunk| chunks.push(chunk));
    }
    chunker.finish(&mut |chunk| chunks.push(chunk));
    chunks
}

fn measure(chunks: &[Bytes], level: i32) -> Result<Measured, Box<dyn Error>> {
    let mut compressor = ChunkCompressor::new(level)?;
    let mut builder = ChunkTableBuilder::new();
    let mut frames = Vec::with_capacity(chunks.len());
    let started = processor_time()?;
    for chunk in chunks {
        let stored = compressor.compress(chunk)?;
        builder.add(
            stored.tar_len,
            u32::try_from(stored.frame.len())?,
            stored.digest,
        )?;
        frames.push(stored.frame);
    }
    let compress = processor_time()?.saturating_sub(started);

    let table = builder.finish(oci::Digest::of(b""));
    let mut decoder = ChunkDecoder::new()?;
    let started = processor_time()?;
    for (frame, chunk) in frames.iter().zip(table.iter()) {
        decoder.decode(frame, &chunk)?.verify(&chunk)?;
    }
    Ok(Measured {
        stored_len: table.stored_len(),
        compress,
        decode: processor_time()?.saturating_sub(started),
    })
}

/// Returns how long this thread has run on a processor.
fn processor_time() -> Result<Duration, Box<dyn Error>> {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = statistics.split(' ').next().ok_or("empty schedstat")?;
    Ok(Duration::from_nanos(nanos.parse()?))
}

/// Returns megabytes a second.
fn speed(len: usize, elapsed: Duration) -> u128 {
    len as u128 / elapsed.as_micros().max(1)
}
