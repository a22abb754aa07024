//! The node: its cache, its images, and the questions it answers.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use image_format::AcceleratedManifest;
use layer_cache::LayerCache;
use layer_fetch::{FetchEngine, FetchOptions};
use lazy_mount::{ErofsMount, LayerFiles, Road, is_mounted, mount_erofs};
use oci::{ClientOptions, Digest, RegistryClient};
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::mpsc, task::spawn_blocking};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    NodeDirectories, NodeError, OpenNodeError, Stopwatch,
    accelerated::{FetchedIndex, fetch_index, invalid, keep_tree, source_of, table_of},
    control::{Prepared, Progress, Status, Usage},
    image_record::{ImageKind, ImageRecord, LayerRecord},
    images::{ImageLocks, OpenImage, OpenLayer},
    layer_files::LayerTable,
    new_image::{NewImage, remove_half_done},
    plain::{LoadedLayer, load_layers},
    resolve::{ResolvedImage, resolve},
};

mod housekeeping;

/// How often what arrived is made safe against a loss of power. Between two times a crash of the
/// whole machine forgets at most this much; a crash of the worker forgets nothing.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(30);

/// What a node is opened with.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// Where it keeps things.
    pub directories: NodeDirectories,
    /// How new mounts read their data.
    pub road: Road,
    /// How long a read waits for data before it fails.
    pub read_deadline: Duration,
    /// What the kernel reads ahead in a mounted tree, in KiB.
    pub mount_read_ahead_kib: u32,
    /// How data is fetched.
    pub fetch: FetchOptions,
}

/// The node of one machine.
#[derive(Debug)]
pub struct Node {
    options: NodeOptions,
    cache: LayerCache,
    engine: FetchEngine,
    client: RegistryClient,
    layers: Arc<LayerTable>,
    images: Mutex<HashMap<Digest, Arc<OpenImage>>>,
    preparing: ImageLocks,
}

/// Where progress of a long step goes. Lines that nobody reads in time are dropped.
#[derive(Debug, Clone)]
pub(crate) struct ProgressSink {
    sender: mpsc::Sender<Progress>,
}

impl ProgressSink {
    /// A sink into `sender`.
    pub(crate) fn new(sender: mpsc::Sender<Progress>) -> Self {
        Self { sender }
    }

    fn tell(&self, step: &str, done_bytes: u64, total_bytes: u64) {
        drop(self.sender.try_send(Progress {
            step: step.to_owned(),
            done_bytes,
            total_bytes,
        }));
    }
}

impl Node {
    /// Opens the node's cache and every image that was prepared before, without the network.
    ///
    /// Data is fetched on `runtime`. The directories were made before the FUSE directory was mounted:
    /// looking at that one from here would wait for ourselves.
    ///
    /// # Errors
    ///
    /// [`OpenNodeError`]. An image that cannot be opened is logged and left out.
    pub fn open(runtime: Handle, options: NodeOptions) -> Result<Arc<Self>, OpenNodeError> {
        let node = Arc::new(Self {
            cache: LayerCache::open(&options.directories.cache())?,
            engine: FetchEngine::start(runtime, options.fetch.clone())?,
            client: RegistryClient::new(ClientOptions::default())?,
            layers: Arc::new(LayerTable::new(options.read_deadline)),
            images: Mutex::default(),
            preparing: ImageLocks::default(),
            options,
        });
        node.restore();
        Ok(node)
    }

    /// The files that the FUSE directory shows.
    pub fn files(&self) -> Arc<dyn LayerFiles> {
        Arc::clone(&self.layers) as Arc<dyn LayerFiles>
    }

    /// Makes what arrived safe, again and again, until `stop`.
    pub async fn keep_safe(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(CHECKPOINT_INTERVAL) => self.checkpoint().await,
                () = stop.cancelled() => return self.checkpoint().await,
            }
        }
    }

    async fn checkpoint(self: &Arc<Self>) {
        let node = Arc::clone(self);
        let checkpoint = move || {
            for layer in node
                .open_images()
                .iter()
                .flat_map(|image| image.lazy_layers())
            {
                if let Err(error) = layer.cached().checkpoint() {
                    warn!(layer = %layer.cached().key(), %error, "layer not made safe against a loss of power");
                }
            }
        };
        drop(spawn_blocking(checkpoint).await);
    }

    fn restore(&self) {
        let directory = self.options.directories.images();
        let entries = std::fs::read_dir(&directory)
            .into_iter()
            .flatten()
            .flatten();
        for path in entries.map(|entry| entry.path()) {
            match ImageRecord::read(&path) {
                Ok(Some(record)) => self.restore_image(record),
                Ok(None) => remove_half_done(&path),
                Err(error) => warn!(path = %path.display(), %error, "prepared image not restored"),
            }
        }
    }

    fn restore_image(&self, record: ImageRecord) {
        let manifest = record.manifest;
        match self.open_image(record, &[]) {
            Ok(image) => drop(self.images.lock().insert(manifest, Arc::new(image))),
            Err(error) => {
                warn!(image = %manifest, error = &error as &dyn std::error::Error, "prepared image not restored");
            }
        }
    }

    /// Makes an image ready to run.
    pub(crate) async fn prepare(
        self: &Arc<Self>,
        text: &str,
        progress: &ProgressSink,
    ) -> Result<Prepared, NodeError> {
        let watch = Stopwatch::start();
        let resolved = resolve(&self.client, text).await?;
        let manifest = resolved.fetched.digest;
        let resolve_ms = watch.elapsed_ms();
        let lock = self.preparing.of(manifest);
        let _one_at_a_time = lock.lock().await;
        let (image, fetched_bytes) = match self.image(&manifest) {
            Some(image) => (image, 0),
            None => self.fetch(&resolved, progress).await?,
        };
        let index_ms = watch.elapsed_ms() - resolve_ms;
        let node = Arc::clone(self);
        let mounting = Arc::clone(&image);
        let mounted = spawn_blocking(move || node.mount(&mounting)).await;
        let mount_ms = mounted.unwrap_or(Ok(0.0))?;
        let directory = self.options.directories.image(&manifest);
        info!(image = text, %manifest, kind = ?image.record.kind, "image is ready");
        Ok(Prepared {
            manifest,
            kind: image.record.kind,
            root: directory.join("root"),
            config: directory.join("config.json"),
            road: road_name(self.options.road).to_owned(),
            resolve_ms,
            index_ms,
            mount_ms,
            fetched_bytes,
        })
    }

    async fn fetch(
        &self,
        resolved: &ResolvedImage,
        progress: &ProgressSink,
    ) -> Result<(Arc<OpenImage>, u64), NodeError> {
        let directory = self.options.directories.image(&resolved.fetched.digest);
        let new = NewImage::create(&directory).map_err(store_error(&directory))?;
        let accelerated = AcceleratedManifest::from_manifest(&resolved.manifest)
            .map_err(|error| invalid(resolved, "its annotations", error))?;
        let (kind, layers, fetched_bytes) = if let Some(accelerated) = accelerated {
            let FetchedIndex {
                layers,
                fetched_bytes,
            } = fetch_index(resolved, &accelerated, &directory).await?;
            (ImageKind::Accelerated, layers, fetched_bytes)
        } else {
            let (layers, fetched_bytes) = self.load_plain(resolved, &directory, progress).await?;
            (ImageKind::Plain, layers, fetched_bytes)
        };
        let (layers, tables): (Vec<_>, Vec<_>) = layers.into_iter().unzip();
        let record = ImageRecord {
            reference: resolved.reference.to_string(),
            registry: resolved.reference.registry.clone(),
            repository: resolved.reference.repository.clone(),
            manifest: resolved.fetched.digest,
            kind,
            layers,
        };
        let image = Arc::new(self.open_image(record, &tables)?);
        image
            .record
            .write(&directory)
            .map_err(store_error(&directory))?;
        new.keep();
        self.images
            .lock()
            .insert(image.record.manifest, Arc::clone(&image));
        Ok((image, fetched_bytes))
    }

    async fn load_plain(
        &self,
        resolved: &ResolvedImage,
        directory: &Path,
        progress: &ProgressSink,
    ) -> Result<(Vec<(LayerRecord, bytes::Bytes)>, u64), NodeError> {
        let config_fetched = resolved
            .repository
            .fetch_blob_bytes(&resolved.manifest.config, oci::CONFIG_LEN_MAX)
            .await;
        let config = config_fetched.map_err(|source| NodeError::Fetch {
            image: resolved.reference.to_string(),
            source,
        })?;
        let diff_ids = oci::ImageConfig::parse(&config)
            .map_err(|error| invalid(resolved, "its configuration", error))?
            .rootfs
            .diff_ids;
        let blobs = &resolved.manifest.layers;
        if diff_ids.len() != blobs.len() {
            let text = format!("{} layers, but {} diff IDs", blobs.len(), diff_ids.len());
            return Err(invalid(resolved, "its configuration", text));
        }
        let total_bytes = blobs.iter().map(|blob| blob.size).sum();
        let done = Arc::new(AtomicU64::new(0));
        let (counter, sink) = (Arc::clone(&done), progress.clone());
        let fetched = move |len: u64| {
            let done_bytes = counter.fetch_add(len, Ordering::Relaxed) + len;
            sink.tell("loading layers", done_bytes, total_bytes);
        };
        let wanted = blobs.iter().cloned().zip(diff_ids).collect();
        let loaded = load_layers(&self.cache, &resolved.repository, wanted, fetched)
            .await
            .map_err(|(diff_id, error)| invalid(resolved, format!("layer {diff_id}"), error))?;
        progress.tell("building the tree", total_bytes, total_bytes);
        let records = plain_records(blobs, &loaded);
        let tree = spawn_blocking(move || build_tree(loaded)).await;
        let tree = tree
            .unwrap_or_else(|panic| Err(Box::new(panic)))
            .map_err(|error| invalid(resolved, "its layers", error))?;
        keep_tree(directory, &config, &tree)?;
        let records = records
            .into_iter()
            .map(|record| (record, bytes::Bytes::new()))
            .collect();
        Ok((records, done.load(Ordering::Relaxed) + config.len() as u64))
    }

    /// Opens the layers of an image. `tables` may be empty: then they are those on disk.
    fn open_image(
        &self,
        record: ImageRecord,
        tables: &[bytes::Bytes],
    ) -> Result<OpenImage, NodeError> {
        let mut layers = Vec::with_capacity(record.layers.len());
        for (index, layer) in record.layers.iter().enumerate() {
            let table = tables.get(index).map(AsRef::as_ref);
            layers.push(self.open_layer(&record, layer, table)?);
        }
        Ok(OpenImage { record, layers })
    }

    fn open_layer(
        &self,
        record: &ImageRecord,
        layer: &LayerRecord,
        table: Option<&[u8]>,
    ) -> Result<OpenLayer, NodeError> {
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| NodeError::Store {
            what: format!("layer {}", layer.diff_id),
            source: error,
        };
        let whole = || {
            self.cache
                .whole(&layer.diff_id)
                .map_err(|error| failed(error.into()))
        };
        let Some(digest) = table_of(layer) else {
            let found = whole()?.ok_or_else(|| failed("it is not in the cache any more".into()))?;
            return Ok(OpenLayer::Whole(found));
        };
        if let Some(shown) = self.layers.layer(&digest) {
            return Ok(OpenLayer::Lazy(shown));
        }
        let on_disk = match table {
            Some(_) => None,
            None => self
                .cache
                .read_table(&digest)
                .map_err(|error| failed(error.into()))?,
        };
        let table = table
            .or(on_disk.as_deref())
            .ok_or_else(|| failed("its chunk table is not in the cache any more".into()))?;
        let cached = self
            .cache
            .open_lazy(&digest, table)
            .map_err(|error| failed(error.into()))?;
        let repository = self.client.repository(&record.registry, &record.repository);
        let lazy = self.engine.layer(cached, source_of(&repository, layer));
        let shown = self.layers.show(&digest, lazy);
        shown
            .map(OpenLayer::Lazy)
            .ok_or_else(|| failed("another layer has its file number".into()))
    }

    /// Mounts an image unless it is mounted. Returns how long that took, in milliseconds.
    fn mount(&self, image: &OpenImage) -> Result<f64, NodeError> {
        let watch = Stopwatch::start();
        let directory = self.options.directories.image(&image.record.manifest);
        let target = directory.join("root");
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| NodeError::Mount {
            image: image.record.reference.clone(),
            source,
        };
        if is_mounted(&target).map_err(|error| failed(error.into()))? {
            return Ok(0.0);
        }
        let devices: Vec<_> = image
            .layers
            .iter()
            .map(|layer| layer.device(&self.options.directories.files()))
            .collect();
        let mounted = mount_erofs(
            self.options.road,
            &directory.join("tree.erofs"),
            &devices,
            &target,
        )
        .map_err(|error| failed(error.into()))?;
        self.set_read_ahead(&mounted);
        Ok(watch.elapsed_ms())
    }

    fn set_read_ahead(&self, mounted: &ErofsMount) {
        let Some(read_ahead) = &mounted.read_ahead else {
            return;
        };
        if let Err(error) = read_ahead.set_kib(self.options.mount_read_ahead_kib) {
            warn!(%error, "read-ahead of the mount not set, the kernel's own is used");
        }
    }

    /// Counters since the worker started.
    pub(crate) fn usage(&self) -> Usage {
        let stats = self.engine.stats();
        Usage {
            fetched_bytes: stats.network_bytes,
            requests: stats.demand_requests + stats.ahead_requests,
            waits: stats.waits,
            waited_micros: u64::try_from(stats.wait_time.as_micros()).unwrap_or(u64::MAX),
            failed_reads: stats.failed_reads,
        }
    }

    /// Who is there.
    pub(crate) fn status(&self) -> Status {
        Status {
            worker_pid: std::process::id(),
            keeper_pid: std::os::unix::process::parent_id(),
            resident_bytes: resident_bytes(),
            road: road_name(self.options.road).to_owned(),
            images: self.images.lock().len(),
        }
    }

    fn image(&self, manifest: &Digest) -> Option<Arc<OpenImage>> {
        self.images.lock().get(manifest).cloned()
    }

    fn open_images(&self) -> Vec<Arc<OpenImage>> {
        self.images.lock().values().cloned().collect()
    }
}

fn store_error(path: &Path) -> impl Fn(std::io::Error) -> NodeError + use<> {
    let what = path.display().to_string();
    move |error| NodeError::Store {
        what: what.clone(),
        source: error.into(),
    }
}

fn plain_records(blobs: &[oci::Descriptor], loaded: &[LoadedLayer]) -> Vec<LayerRecord> {
    let record = |(blob, loaded): (&oci::Descriptor, &LoadedLayer)| LayerRecord {
        diff_id: loaded.layer.diff_id(),
        tar_len: loaded.layer.tar_len(),
        stored: blob.clone(),
        chunk_table: None,
    };
    blobs.iter().zip(loaded).map(record).collect()
}

fn build_tree(
    loaded: Vec<LoadedLayer>,
) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
    let tar_lens: Vec<u64> = loaded.iter().map(|layer| layer.layer.tar_len()).collect();
    let scans: Vec<_> = loaded.into_iter().map(|layer| layer.scan).collect();
    let tree = image_format::tree::merge_layers(&scans)?;
    drop(scans);
    Ok(image_format::erofs::write_erofs(&tree, &tar_lens)?)
}

/// The word for a road in configuration, logs and timelines.
pub(crate) fn road_name(road: Road) -> &'static str {
    match road {
        Road::File => "erofs-file",
        Road::Loop => "erofs-loop",
    }
}

/// Resident memory of this process, 0 where `/proc` does not tell (proc(5), `VmRSS`, in KiB).
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
