//! What a start will read, as far as the programs themselves tell.
//!
//! Nine reads in ten of a large start are those of shared libraries, and what the dynamic linker does
//! with a library is written in the library: it reads the tables that the dynamic section names, writes
//! to every place that a relocation names, calls the functions of the initialiser array, and does the
//! same with the libraries that this one needs. So the first read of a library's header foretells
//! most of the rest, and the line need not wait for the next miss:
//!
//! ```text
//! header read ─► dynamic section ─► tables, relocations ─► pages that are relocated
//!                       │                    └───────────► initialisers
//!                       └─► needed libraries: the same for each
//! ```
//!
//! # Invariants
//!
//! 1. All of this is guessing about foreign bytes: nothing it finds can fail a read, and every length in it
//!    has a limit.
//! 2. A library is looked at once for each image.
//!
//! # What is not here
//!
//! When a guess is fetched (`layer-fetch`), and what the bytes of a library mean (`elf`).

mod elf;
mod libraries;

use std::{
    collections::{BTreeSet, HashMap},
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use image_format::erofs::ErofsTree;
use layer_fetch::{ForesightRank, LazyLayer};
use oci::ContainerConfig;
use tokio::{runtime::Handle, task::spawn_blocking};
use tracing::debug;

use self::{elf::Elf, libraries::Libraries};

/// How long a part that is foreseen is waited for before the library is left to demand.
const PART_TIMEOUT: Duration = Duration::from_secs(20);

/// Bytes of a library's beginning that hold its headers.
const HEADER_LEN: u64 = 4096;

/// Foreseen places are gathered in pieces of this length: what the kernel reads around a page fault is
/// as long or longer.
const PLACE_LEN: u64 = 64 << 10;

/// The foresight of one image.
#[derive(Debug)]
pub(crate) struct Foresight {
    libraries: Libraries,
    /// The layers that are loaded as they are read; others need no foresight.
    layers: Vec<Option<Arc<LazyLayer>>>,
    seen: Vec<AtomicBool>,
    runtime: Handle,
}

impl Foresight {
    /// Finds the programs and libraries of an image. `layers` are those of the tree, lowest first.
    pub(crate) fn new(
        tree: &ErofsTree<Vec<u8>>,
        layers: Vec<Option<Arc<LazyLayer>>>,
        runtime: Handle,
    ) -> Arc<Self> {
        let libraries = Libraries::find(tree);
        let seen = (0..libraries.len())
            .map(|_| AtomicBool::new(false))
            .collect();
        Arc::new(Self {
            libraries,
            layers,
            seen,
            runtime,
        })
    }

    /// Tells that a range of a layer was read. Cheap: a search in a sorted list.
    pub(crate) fn notice(self: &Arc<Self>, layer_index: usize, range: &Range<u64>) {
        for library in self.libraries.beginning_in(layer_index, range) {
            self.look_at(library);
        }
    }

    /// Tells which command a container of the image will run.
    pub(crate) fn notice_command(self: &Arc<Self>, config: &ContainerConfig) {
        let program = config.entrypoint.first().or_else(|| config.cmd.first());
        if let Some(library) = program.and_then(|name| self.libraries.command(name, &config.env)) {
            self.look_at(library);
        }
    }

    fn look_at(self: &Arc<Self>, library: usize) {
        if self.seen[library].swap(true, Ordering::Relaxed) {
            return;
        }
        let foresight = Arc::clone(self);
        self.runtime.spawn(async move {
            if foresight.follow(library).await.is_none() {
                debug!(
                    library = foresight.libraries.name(library),
                    "not a library that can be foreseen"
                );
            }
        });
    }

    /// The whole way of one library. `None`: it is not what it should be, or did not come in time.
    async fn follow(self: &Arc<Self>, library: usize) -> Option<()> {
        let header = self
            .read(library, 0..HEADER_LEN, ForesightRank::Tables)
            .await?;
        let mut elf = Elf::parse(&header)?;
        let dynamic = self
            .read(library, elf.dynamic()?, ForesightRank::Tables)
            .await?;
        elf.parse_dynamic(&dynamic)?;
        self.foresee(library, elf.tables(), ForesightRank::Tables);
        let names = self
            .read(library, elf.strings()?, ForesightRank::Tables)
            .await?;
        for name in elf.needed(&names) {
            self.libraries
                .named(name)
                .for_each(|needed| self.look_at(needed));
        }
        let mut places = Places::default();
        for table in elf.relocations() {
            let entries = self.read(library, table, ForesightRank::Tables).await?;
            let known = elf.clone();
            places = spawn_blocking(move || {
                known.visit_relocations(&entries, &mut |place| places.add(place));
                places
            })
            .await
            .ok()?;
        }
        self.foresee(library, places.of_data(), ForesightRank::Link);
        self.foresee(library, places.of_code(), ForesightRank::Begin);
        Some(())
    }

    /// Reads a part of a library once it is here.
    async fn read(&self, library: usize, part: Range<u64>, rank: ForesightRank) -> Option<Vec<u8>> {
        let (layer, range) = self.tar_range(library, &part)?;
        let deadline = Instant::now() + PART_TIMEOUT;
        layer.foresee([range.clone()], rank);
        if !layer.wait_foreseen(range.clone(), deadline).await {
            return None;
        }
        let layer = Arc::clone(layer);
        let read = move || {
            let mut bytes = vec![0; usize::try_from(range.end - range.start).ok()?];
            layer.read_into(&mut bytes, range.start, deadline).ok()?;
            Some(bytes)
        };
        spawn_blocking(read).await.ok()?
    }

    fn foresee(
        &self,
        library: usize,
        parts: impl IntoIterator<Item = Range<u64>>,
        rank: ForesightRank,
    ) {
        let ranges: Vec<_> = parts
            .into_iter()
            .filter_map(|part| self.tar_range(library, &part))
            .collect();
        if let Some((layer, _)) = ranges.first() {
            let layer = Arc::clone(layer);
            layer.foresee(ranges.into_iter().map(|(_, range)| range), rank);
        }
    }

    /// Where a part of a library's file is; the part is cut at the end of the file.
    fn tar_range(
        &self,
        library: usize,
        part: &Range<u64>,
    ) -> Option<(&Arc<LazyLayer>, Range<u64>)> {
        let file = self.libraries.file(library);
        let layer = self.layers.get(file.layer_index)?.as_ref()?;
        let len = file.tar_range.end - file.tar_range.start;
        let part = part.start.min(len)..part.end.min(len);
        let range = file.tar_range.start + part.start..file.tar_range.start + part.end;
        (!range.is_empty()).then_some((layer, range))
    }
}

/// Places of a file that will be read, gathered in pieces.
#[derive(Debug, Default)]
struct Places {
    data: BTreeSet<u64>,
    code: BTreeSet<u64>,
}

impl Places {
    fn add(&mut self, place: elf::Place) {
        match place {
            elf::Place::Relocated(offset) => self.data.insert(offset / PLACE_LEN),
            elf::Place::Initialiser(offset) => self.code.insert(offset / PLACE_LEN),
        };
    }

    fn of_data(&self) -> impl Iterator<Item = Range<u64>> + use<'_> {
        self.data
            .iter()
            .map(|piece| piece * PLACE_LEN..(piece + 1) * PLACE_LEN)
    }

    fn of_code(&self) -> impl Iterator<Item = Range<u64>> + use<'_> {
        self.code
            .iter()
            .map(|piece| piece * PLACE_LEN..(piece + 1) * PLACE_LEN)
    }
}

/// The foresight of all prepared images, by layer.
#[derive(Debug, Default)]
pub(crate) struct ForesightTable {
    by_node: HashMap<u64, Vec<(usize, Arc<Foresight>)>>,
}

impl ForesightTable {
    /// Adds an image; `node_of` gives the file number of each of its layers.
    pub(crate) fn add(&mut self, foresight: &Arc<Foresight>, node_of: impl Fn(&LazyLayer) -> u64) {
        for (index, layer) in foresight.layers.iter().enumerate() {
            if let Some(layer) = layer {
                let images = self.by_node.entry(node_of(layer)).or_default();
                images.push((index, Arc::clone(foresight)));
            }
        }
    }

    /// Takes an image out.
    pub(crate) fn remove(&mut self, foresight: &Arc<Foresight>) {
        for images in self.by_node.values_mut() {
            images.retain(|(_, other)| !Arc::ptr_eq(other, foresight));
        }
        self.by_node.retain(|_, images| !images.is_empty());
    }

    /// Tells every image that has this layer that a range of it was read.
    pub(crate) fn notice(&self, node: u64, range: &Range<u64>) {
        for (index, foresight) in self.by_node.get(&node).into_iter().flatten() {
            foresight.notice(*index, range);
        }
    }
}
