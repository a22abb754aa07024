//! Third step: the tar's entries are noted, and its bytes are cut at content-defined borders.

use bytes::Bytes;
use crossbeam_channel::{Sender, bounded};
use image_format::tar::{LayerScan, TarScanner};
use image_format::{ChunkSizes, Chunker};

use super::compress_step::{ChunkPlace, CompressJob};
use super::handover::{Giver, Taker};
use super::{LayerError, StepEnd};

/// Where chunks go: to the compressors in any order, and to the writer in their own order.
#[derive(Debug)]
pub(super) struct ChunkOutlet {
    /// Work for whoever is free.
    pub(super) jobs: Sender<CompressJob>,
    /// A place for each result, in the order of the tar. Its length bounds the chunks in flight.
    pub(super) order: Giver<ChunkPlace>,
}

impl ChunkOutlet {
    /// Hands a chunk on; waits while too many are in flight.
    fn send(&self, chunk: Bytes) -> Result<(), StepEnd> {
        let (result, place) = bounded(1);
        // The place first: the writer then waits for it while the job waits for a compressor, and no
        // compressor ever waits to deliver.
        self.order.give(place)?;
        let job = CompressJob { chunk, result };
        self.jobs.send(job).map_err(|_gone| StepEnd::Stopped)
    }
}

/// Scans and cuts the tar.
///
/// # Errors
///
/// [`LayerError::Scan`], if the tar is not one that can be unpacked.
pub(super) fn scan_and_cut(
    sizes: ChunkSizes,
    blocks: &Taker<Bytes>,
    outlet: ChunkOutlet,
) -> Result<LayerScan, StepEnd> {
    let mut scanner = TarScanner::new();
    let mut chunker = Chunker::new(sizes);
    let mut sent = Ok(());
    let mut hand_on = |chunk| {
        if sent.is_ok() {
            sent = outlet.send(chunk);
        }
    };
    while let Some(block) = blocks.take()? {
        scanner.feed(&block).map_err(LayerError::Scan)?;
        chunker.feed(&block, &mut hand_on);
    }
    let scan = scanner.finish().map_err(LayerError::Scan)?;
    chunker.finish(&mut hand_on);
    sent?;
    outlet.order.finish()?;
    Ok(scan)
}
