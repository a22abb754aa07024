//! Keeper, FUSE directory, EROFS and overlay mounts: how a lazily loaded image becomes a root.
//!
//! ```text
//! keeper process            holds /dev/fuse, the request slots and the control socket; restarts the worker
//!   └── worker process      FuseWorker: answers the kernel out of LayerFiles (one file per layer)
//!         ├── mount_erofs   the root tree, its `device=` files are layers of the FUSE directory or plain files
//!         └── mount_overlay a container's writable root over one EROFS mount
//! ```
//!
//! # Invariants
//!
//! 1. A request that the kernel handed over is answered, by this worker or by a later one.
//! 2. Two generations of workers never use one slot at the same time.
//! 3. A read is answered with all of its bytes or with an error, never with fewer.
//! 4. No request, however malformed, ends the worker.
//!
//! # What is not here
//!
//! Fetching (`layer-fetch`), the cache (`layer-cache`), and who is mounted where (`node`).
#![expect(
    unsafe_code,
    reason = "shared memory, inherited file descriptors, loop ioctls and signalfd have no safe interface"
)]

pub use rustix::io::Errno;

pub use erofs_mount::{ErofsMount, MountErofsError, Road, mount_erofs};
pub use fs_context::FsContextError;
pub use fuse_mount::MountFuseError;
pub use fuse_worker::{FuseWorker, ServeError};
pub use inherited::{InheritError, Inherited, InheritedFds, ParseInheritedFdsError};
pub use keeper::{
    AdoptError, Keeper, KeeperOptions, OnStop, RunKeeperError, StartKeeperError, WorkerCommand,
};
pub use layer_files::{FileEntry, LayerFiles};
pub use loop_device::AttachLoopError;
pub use mount_table::{
    MountEntry, ReadMountTableError, Unmount, UnmountError, is_mounted, read_mount_table, unmount,
};
pub use notifier::{Notifier, NotifyError};
pub use overlay_mount::{MountOverlayError, OverlayLayout, mount_overlay};
pub use read_ahead::{ReadAhead, SetReadAheadError};
pub use road_probe::{ProbeRoadError, RoadReport, probe_roads};
pub use slots::SlotTableError;

pub mod protocol;

mod buffer_pool;
mod erofs_mount;
mod fs_context;
mod fuse_directory;
mod fuse_mount;
mod fuse_worker;
mod inherited;
mod keeper;
mod layer_files;
mod loop_device;
mod mount_table;
mod notifier;
mod overlay_mount;
mod read_ahead;
mod road_probe;
mod slots;
