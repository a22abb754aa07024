//! The steps of a layer, wired: which thread gives what to which.

use std::sync::Arc;
use std::thread::{Builder, Scope, ScopedJoinHandle, scope};

use crossbeam_channel::bounded;
use image_format::tar::LayerScan;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::blob_check::{BlobReader, check_blob};
use super::chunk_step::{ChunkOutlet, scan_and_cut};
use super::compress_step::{CompressJob, compress};
use super::handover::handover;
use super::inflate_step::{check_diff_id, inflate};
use super::proof_step::prove;
use super::store_step::{LayerFile, WrittenLayer, store};
use super::{FinishedLayer, LayerError, LayerJob, LayerSettings, Piece, StepEnd, StoredLayer};

/// Pieces of the blob between its check and the decompression.
const PIECES_IN_FLIGHT_MAX: usize = 4;

/// Blocks of the tar (256 KiB) that wait for each of its two readers. They even out that one of them is
/// slow for a while: 8 of them are 4 ms of work.
const BLOCKS_IN_FLIGHT_MAX: usize = 8;

/// Chunks between cutting and writing for each compressor: one it works on, and three that wait, so that
/// one slow chunk (1 MiB, four times the average) does not leave the other compressors idle. With two compressors this
/// is at most 16 MiB, chunks and frames together, and mostly 3 MiB.
const CHUNKS_IN_FLIGHT_PER_COMPRESSOR: usize = 4;

/// Written chunks that wait for their proof; they hold no bytes, the proof reads the file.
const PROOFS_WAITING_MAX: usize = 64;

/// What the pipeline of one layer needs.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) job: LayerJob,
    pub(super) settings: LayerSettings,
    pub(super) pieces: mpsc::Receiver<Piece>,
    pub(super) stop: CancellationToken,
}

/// Runs the whole pipeline. Blocks until all of its threads have ended.
///
/// # Errors
///
/// That of the first step, in the order of the data, that failed by itself.
pub(super) fn run(input: Input) -> Result<FinishedLayer, LayerError> {
    let work_dir = Arc::clone(&input.settings.work_dir);
    let file = LayerFile::new_in(&work_dir)?;
    let (scan, written) = scope(|scope| Steps::start(scope, input, &file)?.join())?;
    let stored = StoredLayer {
        file: file.into_path(),
        digest: written.digest,
        len: written.len,
        table: written.table,
        _work_dir: work_dir,
    };
    Ok(FinishedLayer { stored, scan })
}

type Step<'scope, T> = ScopedJoinHandle<'scope, Result<T, StepEnd>>;

/// The running threads.
struct Steps<'scope> {
    check: Step<'scope, ()>,
    inflate: Step<'scope, ()>,
    diff_id: Step<'scope, ()>,
    chunk: Step<'scope, LayerScan>,
    compress: Vec<Step<'scope, ()>>,
    store: Step<'scope, WrittenLayer>,
    prove: Step<'scope, ()>,
}

impl<'scope> Steps<'scope> {
    fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        input: Input,
        file: &'env LayerFile,
    ) -> Result<Self, LayerError> {
        let Input {
            job,
            settings,
            pieces,
            stop,
        } = input;
        let LayerJob { blob, diff_id } = job;
        let blob_digest = blob.digest;
        let compressor_count = settings.compressor_count;
        let chunks_in_flight_max = compressor_count * CHUNKS_IN_FLIGHT_PER_COMPRESSOR;
        let (checked, to_inflate) = handover(PIECES_IN_FLIGHT_MAX);
        let (to_hash, hashed) = handover(BLOCKS_IN_FLIGHT_MAX);
        let (to_cut, cut) = handover(BLOCKS_IN_FLIGHT_MAX);
        let (jobs, jobs_taken) = bounded::<CompressJob>(compressor_count);
        let (order, places) = handover(chunks_in_flight_max);
        let (to_prove, proved) = handover(PROOFS_WAITING_MAX);

        let stopped = stop.clone();
        Ok(Self {
            check: spawn(scope, "check", move || {
                check_blob(&blob, pieces, checked, &stopped)
            })?,
            inflate: spawn(scope, "inflate", move || {
                inflate(blob_digest, BlobReader::new(to_inflate), [to_hash, to_cut])
            })?,
            diff_id: spawn(scope, "diff-id", move || check_diff_id(diff_id, &hashed))?,
            chunk: spawn(scope, "chunk", move || {
                scan_and_cut(settings.chunk_sizes, &cut, ChunkOutlet { jobs, order })
            })?,
            compress: (0..compressor_count)
                .map(|_| {
                    let jobs = jobs_taken.clone();
                    spawn(scope, "compress", move || {
                        compress(settings.zstd_level, &jobs)
                    })
                })
                .collect::<Result<_, _>>()?,
            store: spawn(scope, "store", move || {
                store(file, diff_id, &places, to_prove, &stop)
            })?,
            prove: spawn(scope, "prove", move || prove(diff_id, file, &proved))?,
        })
    }

    /// Waits for all threads. Of several failures that of the earliest step counts: it explains the others.
    fn join(self) -> Result<(LayerScan, WrittenLayer), LayerError> {
        let mut failures = Vec::new();
        let check = join(self.check, &mut failures);
        let inflate = join(self.inflate, &mut failures);
        let diff_id = join(self.diff_id, &mut failures);
        let scan = join(self.chunk, &mut failures);
        for step in self.compress {
            join(step, &mut failures);
        }
        let written = join(self.store, &mut failures);
        let prove = join(self.prove, &mut failures);
        match (check, inflate, diff_id, scan, written, prove) {
            (Some(()), Some(()), Some(()), Some(scan), Some(written), Some(())) => {
                Ok((scan, written))
            }
            _ => Err(failures.into_iter().next().unwrap_or(LayerError::Stopped)),
        }
    }
}

/// Waits for one thread; `None` if it did not finish its work. Its panic is passed on.
fn join<T>(step: Step<'_, T>, failures: &mut Vec<LayerError>) -> Option<T> {
    match step.join() {
        Ok(Ok(value)) => Some(value),
        Ok(Err(StepEnd::Stopped)) => None,
        Ok(Err(StepEnd::Failed(error))) => {
            failures.push(error);
            None
        }
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    step: impl FnOnce() -> Result<T, StepEnd> + Send + 'scope,
) -> Result<Step<'scope, T>, LayerError> {
    // A thread's name has at most 15 bytes.
    Builder::new()
        .name(format!("cv-{name}"))
        .spawn_scoped(scope, step)
        .map_err(LayerError::Threads)
}
