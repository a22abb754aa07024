//! The cache's directory: opening it, and the layers in it.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tracing::{info, warn};

use image_format::ChunkTable;
use oci::{Digest, DigestHasher};

use crate::boot_id::BootId;
use crate::cached_layer::{CachedLayer, CachedLayerInner, Checkpoint, hash_file, tar_path};
use crate::files::{
    DirectWrites, Durability, LayerWrites, lock_exclusive, lock_shared, read_if_there, replace_file,
};
use crate::layer_key::LayerKey;
use crate::open_error::{OpenCacheError, OpenLayerError};
use crate::presence::PresenceMap;
use crate::record::{LayerRecord, Proof};
use crate::usage::{LayerUsage, PruneReport, RemoveError, Removed};
use crate::whole_layer::{WholeLayer, WholeLayerInner, WholeLayerWriter};

/// What `FORMAT` says. A change of the layout changes the number.
pub(crate) const FORMAT: &str = "slipway layer cache 1\n";

/// How often opening starts again because somebody removed the layer meanwhile.
const OPEN_ATTEMPTS_MAX: usize = 3;

/// The layers under one directory. Clones are the same cache.
#[derive(Debug, Clone)]
pub struct LayerCache {
    inner: Arc<LayerCacheInner>,
}

#[derive(Debug)]
struct LayerCacheInner {
    directory: PathBuf,
    options: CacheOptions,
    /// The partly filled layers that are open, so that two openers share one presence map.
    open: Mutex<HashMap<LayerKey, Weak<CachedLayerInner>>>,
    /// Makes names in `incoming/` and `removed/` distinct within this process.
    next_name: AtomicU64,
}

/// What the cache takes from its surroundings.
#[derive(Debug, Clone)]
pub struct CacheOptions {
    /// The boot that unsynced state must be of to count.
    pub boot_id: BootId,
    /// How bytes are written.
    pub writes: Arc<dyn LayerWrites>,
}

impl LayerCache {
    /// Opens the cache in `directory`, and makes it if the directory is absent or empty.
    ///
    /// # Errors
    ///
    /// The directory holds something else, or another version of the layout, or cannot be used.
    pub fn open(directory: &Path) -> Result<Self, OpenCacheError> {
        let boot_id = BootId::read_current().map_err(|source| OpenCacheError::BootId { source })?;
        Self::open_with(
            directory,
            CacheOptions {
                boot_id,
                writes: Arc::new(DirectWrites),
            },
        )
    }

    /// Opens the cache as if in another boot or on another disk.
    ///
    /// # Errors
    ///
    /// As [`LayerCache::open`].
    pub fn open_with(directory: &Path, options: CacheOptions) -> Result<Self, OpenCacheError> {
        let fail = |source| OpenCacheError::Io {
            path: directory.to_owned(),
            source,
        };
        std::fs::create_dir_all(directory).map_err(fail)?;
        check_format(directory, options.writes.as_ref())?;
        for name in ["layers", "incoming", "removed"] {
            std::fs::create_dir_all(directory.join(name)).map_err(fail)?;
        }
        let cache = Self {
            inner: Arc::new(LayerCacheInner {
                directory: directory.to_owned(),
                options,
                open: Mutex::default(),
                next_name: AtomicU64::new(0),
            }),
        };
        cache.sweep("incoming").map_err(fail)?;
        cache.sweep("removed").map_err(fail)?;
        Ok(cache)
    }

    /// Opens the layer of an encoded chunk table, and makes it if it is not there.
    ///
    /// `table_digest` is what the image's manifest says that the table's SHA-256 is.
    ///
    /// # Errors
    ///
    /// The table is not the one that was named, or not valid; or the layer's files cannot be used.
    pub fn open_lazy(
        &self,
        table_digest: &Digest,
        table: &[u8],
    ) -> Result<CachedLayer, OpenLayerError> {
        let actual = Digest::of(table);
        if actual != *table_digest {
            return Err(OpenLayerError::OtherTable {
                expected: *table_digest,
                actual,
            });
        }
        let key = LayerKey::ChunkTable(*table_digest);
        let decoded = ChunkTable::decode(table).map_err(|source| OpenLayerError::Table {
            digest: actual,
            source,
        })?;
        let mut open = self.inner.open.lock();
        if let Some(inner) = open.get(&key).and_then(Weak::upgrade) {
            return Ok(CachedLayer { inner });
        }
        let inner = Arc::new(self.open_parts(key, table, Arc::new(decoded))?);
        open.retain(|_, layer| layer.strong_count() > 0);
        open.insert(key, Arc::downgrade(&inner));
        Ok(CachedLayer { inner })
    }

    /// The kept encoded chunk table of this digest; `None` when it is not there or not whole.
    ///
    /// # Errors
    ///
    /// The disk failed.
    pub fn read_table(&self, table_digest: &Digest) -> io::Result<Option<Vec<u8>>> {
        let directory = self.directory_of(&LayerKey::ChunkTable(*table_digest));
        let table = read_if_there(&directory.join("table"))?;
        Ok(table.filter(|table| Digest::of(table) == *table_digest))
    }

    /// A layer of which all bytes are there and proven: imported whole, or completed chunk by chunk.
    ///
    /// After a reboot a layer that was never synced is hashed first, which takes its time.
    ///
    /// # Errors
    ///
    /// The disk failed.
    pub fn whole(&self, diff_id: &Digest) -> io::Result<Option<WholeLayer>> {
        let imported = LayerKey::DiffId(*diff_id);
        if let Some(layer) = self.open_whole(imported, *diff_id)? {
            return Ok(Some(layer));
        }
        for key in self.keys()?.into_iter().filter(|key| *key != imported) {
            if let Some(layer) = self.open_whole(key, *diff_id)? {
                return Ok(Some(layer));
            }
        }
        Ok(None)
    }

    /// Begins to take in a whole layer.
    ///
    /// # Errors
    ///
    /// The disk failed.
    pub fn import_whole(&self, diff_id: &Digest) -> io::Result<WholeLayerWriter> {
        let directory = self.fresh_path("incoming", &LayerKey::DiffId(*diff_id));
        // As for a layer: another process may sweep it away before it is locked.
        let tar = Self::lock_tar(&directory)?;
        Ok(WholeLayerWriter {
            cache: self.clone(),
            diff_id: *diff_id,
            directory,
            tar,
            hasher: DigestHasher::new(),
            written_len: 0,
        })
    }

    /// What each layer takes, in the order of their names.
    ///
    /// # Errors
    ///
    /// The disk failed. A layer that vanishes meanwhile is left out.
    pub fn usage(&self) -> Result<Vec<LayerUsage>, RemoveError> {
        let keys = self.keys().map_err(|source| self.remove_error(source))?;
        let mut layers = Vec::with_capacity(keys.len());
        for key in keys {
            match self.usage_of(key) {
                Ok(usage) => layers.push(usage),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(self.remove_error(source)),
            }
        }
        Ok(layers)
    }

    /// Removes a layer unless some process has it open.
    ///
    /// # Errors
    ///
    /// The disk failed.
    pub fn remove(&self, key: &LayerKey) -> Result<Removed, RemoveError> {
        self.try_remove(key)
            .map_err(|source| self.remove_error(source))
    }

    /// Removes all layers but those in `keep` and those that some process has open.
    ///
    /// # Errors
    ///
    /// The disk failed.
    pub fn prune(&self, keep: &HashSet<LayerKey>) -> Result<PruneReport, RemoveError> {
        let mut report = PruneReport::default();
        for usage in self
            .usage()?
            .into_iter()
            .filter(|usage| !keep.contains(&usage.key))
        {
            match self.remove(&usage.key)? {
                Removed::Gone => {
                    report.removed.push(usage.key);
                    report.freed_bytes += usage.disk_bytes;
                }
                Removed::InUse => report.in_use.push(usage.key),
                Removed::Absent => {}
            }
        }
        Ok(report)
    }

    pub(crate) fn boot_id(&self) -> &BootId {
        &self.inner.options.boot_id
    }

    pub(crate) fn writes(&self) -> Arc<dyn LayerWrites> {
        Arc::clone(&self.inner.options.writes)
    }

    /// Renames a finished import into place. Who comes second finds the first one's layer.
    pub(crate) fn place_whole(&self, diff_id: Digest, from: &Path) -> io::Result<WholeLayer> {
        let key = LayerKey::DiffId(diff_id);
        for _ in 0..OPEN_ATTEMPTS_MAX {
            let renamed = std::fs::rename(from, self.directory_of(&key));
            if let Some(layer) = self.open_whole(key, diff_id)? {
                return Ok(layer);
            }
            if renamed.is_err() {
                // Something unproven is in the way.
                self.try_remove(&key)?;
            }
        }
        Err(io::Error::other("an unproven layer of this name is in use"))
    }

    fn directory_of(&self, key: &LayerKey) -> PathBuf {
        self.inner.directory.join("layers").join(key.to_string())
    }

    fn fresh_path(&self, parent: &str, key: &LayerKey) -> PathBuf {
        let number = self.inner.next_name.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        self.inner
            .directory
            .join(parent)
            .join(format!("{key}.{process}.{number}"))
    }

    fn keys(&self) -> io::Result<Vec<LayerKey>> {
        let mut keys = Vec::new();
        for entry in std::fs::read_dir(self.inner.directory.join("layers"))? {
            // Foreign names are somebody else's.
            keys.extend(
                entry?
                    .file_name()
                    .to_str()
                    .and_then(|name| name.parse::<LayerKey>().ok()),
            );
        }
        keys.sort_unstable();
        Ok(keys)
    }

    fn open_parts(
        &self,
        key: LayerKey,
        encoded: &[u8],
        table: Arc<ChunkTable>,
    ) -> Result<CachedLayerInner, OpenLayerError> {
        let directory = self.directory_of(&key);
        let fail = |source| OpenLayerError::Io {
            path: directory.clone(),
            source,
        };
        let tar = Self::lock_tar(&directory).map_err(fail)?;
        let actual_len = tar.metadata().map_err(fail)?.len();
        if actual_len > table.tar_len() {
            let path = tar_path(&directory);
            return Err(OpenLayerError::TarLen {
                path,
                actual_len,
                expected_len: table.tar_len(),
            });
        }
        if actual_len < table.tar_len() {
            // A new layer, or one whose length a power failure took back: grow it, never cut it.
            tar.set_len(table.tar_len()).map_err(fail)?;
        }
        let record = LayerRecord {
            key,
            diff_id: table.diff_id(),
            tar_len: table.tar_len(),
            boot_id: self.boot_id().clone(),
        };
        let presence = self.open_presence(&directory, &record).map_err(fail)?;
        self.keep_table(&directory, encoded).map_err(fail)?;
        LayerRecord::touch(&directory).map_err(fail)?;
        Ok(CachedLayerInner {
            key,
            directory,
            table,
            tar,
            presence,
            writes: self.writes(),
            checkpoint: Checkpoint::default(),
        })
    }

    /// Opens the tar and locks it, so that nobody removes the layer.
    fn lock_tar(directory: &Path) -> io::Result<File> {
        for _ in 0..OPEN_ATTEMPTS_MAX {
            std::fs::create_dir_all(directory)?;
            let tar = open_tar(directory)?;
            if lock_shared(&tar)? && is_same_file(&tar, &tar_path(directory)) {
                return Ok(tar);
            }
        }
        Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "the layer is being removed",
        ))
    }

    /// Finds out which bits count, and makes `present` and `layer.json` say so.
    fn open_presence(&self, directory: &Path, record: &LayerRecord) -> io::Result<PresenceMap> {
        let path = directory.join("present");
        let known = LayerRecord::read(directory)?;
        let source = match &known {
            Some(known) if known == record => "present",
            Some(_) | None => "present.synced",
        };
        let bits_len = PresenceMap::file_len(record.tar_len);
        let bits = read_if_there(&directory.join(source))?;
        // A map of another length is no map of this tar: everything counts as missing.
        let bits = bits.filter(|bits| bits.len() as u64 == bits_len);
        if bits.is_none() || source != "present" {
            if known.is_some() {
                info!(layer = %record.key, "presence bits are taken from the last checkpoint");
            }
            let empty = vec![0; usize::try_from(bits_len).unwrap_or(0)];
            let bits = bits.as_ref().unwrap_or(&empty);
            let writes = self.writes();
            // The bits first: `layer.json` is what says that they are of this boot.
            replace_file(writes.as_ref(), &path, bits, Durability::PageCache)?;
            record.write(writes.as_ref(), directory)?;
        }
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        Ok(PresenceMap::new(
            record.tar_len,
            bits.as_deref().unwrap_or_default(),
            file,
        ))
    }

    fn keep_table(&self, directory: &Path, encoded: &[u8]) -> io::Result<()> {
        let path = directory.join("table");
        if read_if_there(&path)?.as_deref() == Some(encoded) {
            return Ok(());
        }
        replace_file(
            self.writes().as_ref(),
            &path,
            encoded,
            Durability::PageCache,
        )
    }

    /// Opens `key` if it is a proven tar of `diff_id`.
    fn open_whole(&self, key: LayerKey, diff_id: Digest) -> io::Result<Option<WholeLayer>> {
        let directory = self.directory_of(&key);
        let Some(record) = LayerRecord::read(&directory)? else {
            return Ok(None);
        };
        let Some(proof) = Proof::read(&directory)? else {
            return Ok(None);
        };
        if record.diff_id != diff_id || record.key != key {
            return Ok(None);
        }
        let tar = match OpenOptions::new()
            .read(true)
            .write(true)
            .open(tar_path(&directory))
        {
            Ok(tar) => tar,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let is_ours = lock_shared(&tar)? && is_same_file(&tar, &tar_path(&directory));
        if !is_ours || tar.metadata()?.len() != record.tar_len {
            return Ok(None);
        }
        if !proof.holds_in(self.boot_id()) {
            if hash_file(&tar, record.tar_len)? != diff_id {
                warn!(layer = %key, "layer was lost in a power failure");
                return Ok(None);
            }
            Proof::Boot(self.boot_id().clone()).write(self.writes().as_ref(), &directory)?;
        }
        LayerRecord::touch(&directory)?;
        let tar_len = record.tar_len;
        let writes = self.writes();
        let inner = WholeLayerInner {
            key,
            diff_id,
            directory,
            tar,
            tar_len,
            writes,
        };
        Ok(Some(WholeLayer {
            inner: Arc::new(inner),
        }))
    }

    fn usage_of(&self, key: LayerKey) -> io::Result<LayerUsage> {
        let directory = self.directory_of(&key);
        let tar = std::fs::metadata(tar_path(&directory))?;
        let bits = read_if_there(&directory.join("present"))?;
        let present_bytes = match (key, bits) {
            (LayerKey::ChunkTable(_), Some(bits)) => {
                let ones: u64 = bits.iter().map(|byte| u64::from(byte.count_ones())).sum();
                (ones * crate::presence::BLOCK_LEN).min(tar.len())
            }
            (LayerKey::ChunkTable(_), None) => 0,
            (LayerKey::DiffId(_), _) => tar.len(),
        };
        let mut disk_bytes = 0;
        for entry in std::fs::read_dir(&directory)? {
            disk_bytes += entry?.metadata()?.blocks() * 512;
        }
        Ok(LayerUsage {
            key,
            tar_len: tar.len(),
            present_bytes,
            disk_bytes,
            last_used: LayerRecord::last_used(&directory).or_else(|_| tar.modified())?,
        })
    }

    fn try_remove(&self, key: &LayerKey) -> io::Result<Removed> {
        let directory = self.directory_of(key);
        let lock = match File::open(tar_path(&directory)) {
            Ok(tar) => tar,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // A layer without a tar cannot be open; take_out finds out whether there is one.
                return self.take_out(key, &directory);
            }
            Err(error) => return Err(error),
        };
        if !lock_exclusive(&lock)? {
            return Ok(Removed::InUse);
        }
        self.take_out(key, &directory)
    }

    fn take_out(&self, key: &LayerKey, directory: &Path) -> io::Result<Removed> {
        let grave = self.fresh_path("removed", key);
        match std::fs::rename(directory, &grave) {
            Ok(()) => std::fs::remove_dir_all(&grave).map(|()| Removed::Gone),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Removed::Absent),
            Err(error) => Err(error),
        }
    }

    /// Removes what earlier processes left half-done. What a living one works on is locked.
    fn sweep(&self, name: &str) -> io::Result<()> {
        for entry in std::fs::read_dir(self.inner.directory.join(name))? {
            let path = entry?.path();
            let is_free = match File::open(tar_path(&path)) {
                Ok(tar) => lock_exclusive(&tar)?,
                Err(_) => true,
            };
            if is_free {
                match std::fs::remove_dir_all(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    Ok(()) | Err(_) => {}
                }
            }
        }
        Ok(())
    }

    fn remove_error(&self, source: io::Error) -> RemoveError {
        RemoveError {
            path: self.inner.directory.clone(),
            source,
        }
    }
}

/// Checks `FORMAT`, and writes it into an empty directory.
fn check_format(directory: &Path, writes: &dyn LayerWrites) -> Result<(), OpenCacheError> {
    let path = directory.join("FORMAT");
    let fail = |source| OpenCacheError::Io {
        path: path.clone(),
        source,
    };
    match read_if_there(&path).map_err(fail)? {
        Some(found) if found == FORMAT.as_bytes() => Ok(()),
        Some(found) => {
            let start = &found[..found.len().min(FORMAT.len())];
            let found = String::from_utf8_lossy(start).trim_end().to_owned();
            Err(OpenCacheError::Format { path, found })
        }
        None if is_unused(directory).map_err(fail)? => {
            replace_file(writes, &path, FORMAT.as_bytes(), Durability::Disk).map_err(fail)
        }
        None => Err(OpenCacheError::Foreign {
            path: directory.to_owned(),
        }),
    }
}

/// Whether nothing is in the directory but a `FORMAT` that was not finished.
fn is_unused(directory: &Path) -> io::Result<bool> {
    for entry in std::fs::read_dir(directory)? {
        if entry?.file_name() != "FORMAT.new" {
            return Ok(false);
        }
    }
    Ok(true)
}

fn open_tar(directory: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.open(tar_path(directory))
}

/// Whether the open file is still the one at `path`: a remover may have renamed it away.
fn is_same_file(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        (Ok(_) | Err(_), _) => false,
    }
}
