//! What is said on the node's control socket, and a client for it.
//!
//! One connection, one question. The question is one line of JSON; the answer is any number of
//! [`Reply::Progress`] lines and then one other line.

use std::{
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

use oci::Digest;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{directories::short_socket_path, image_record::ImageKind};

/// Longest line on the socket, in bytes: an image configuration fits, a runaway does not.
pub(crate) const LINE_LEN_MAX: u64 = 16 << 20;

/// A question to the node.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// Make this image ready to run: fetch its index (or, if it is an ordinary one, its layers) and mount it.
    Prepare {
        /// `host[:port]/repository[:tag][@digest]`.
        image: String,
    },
    /// Counters of the node since its worker started.
    Usage,
    /// What the cache holds.
    CacheList,
    /// Forget the images that no container uses, and the layers that no image uses.
    CachePrune,
    /// Who is there.
    Status,
}

/// An answer of the node.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Reply {
    /// A step on the way.
    Progress(Progress),
    /// The image is mounted.
    Prepared(Prepared),
    /// Counters of the node.
    Usage(Usage),
    /// What the cache holds.
    Cache(CacheContents),
    /// What was removed.
    Pruned(Pruned),
    /// Who is there.
    Status(Status),
    /// It could not be done.
    Failed(Failed),
}

/// Bytes done of a long step.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Progress {
    /// What is going on, for a person.
    pub step: String,
    /// Bytes done.
    pub done_bytes: u64,
    /// Bytes in all, 0 if not known.
    pub total_bytes: u64,
}

/// An image that can be run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Prepared {
    /// Digest of its manifest.
    pub manifest: Digest,
    /// Accelerated or plain.
    pub kind: ImageKind,
    /// The mounted root tree: the lower directory of every container.
    pub root: PathBuf,
    /// The image's configuration blob on disk.
    pub config: PathBuf,
    /// Which road the data takes: `erofs-file` or `erofs-loop`.
    pub road: String,
    /// Time to find the manifest, in milliseconds.
    pub resolve_ms: f64,
    /// Time to fetch the index, or the layers of a plain image, in milliseconds.
    pub index_ms: f64,
    /// Time to mount, in milliseconds. 0 if it was mounted already.
    pub mount_ms: f64,
    /// Bytes fetched for this preparation.
    pub fetched_bytes: u64,
}

/// Counters of the node since its worker started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes of layers fetched from registries.
    pub fetched_bytes: u64,
    /// Requests for them.
    pub requests: u64,
    /// Reads that had to wait for data.
    pub waits: u64,
    /// Time that readers waited, all together, in microseconds. Readers wait side by side, so it may exceed the wall clock.
    pub waited_micros: u64,
    /// Reads that failed.
    pub failed_reads: u64,
}

/// One layer in the cache.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CachedLayerEntry {
    /// Name of the layer in the cache.
    pub layer: String,
    /// Length of its tar in bytes.
    pub tar_bytes: u64,
    /// Bytes of it that are here.
    pub present_bytes: u64,
    /// Bytes that it takes on disk.
    pub disk_bytes: u64,
    /// How many prepared images use it.
    pub images: usize,
}

/// One prepared image.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CachedImageEntry {
    /// What it was asked for by, last.
    pub reference: String,
    /// Digest of its manifest.
    pub manifest: Digest,
    /// Accelerated or plain.
    pub kind: ImageKind,
    /// Length of its layers' tars in bytes.
    pub tar_bytes: u64,
    /// Bytes of them that are here.
    pub present_bytes: u64,
    /// Containers that use it now.
    pub containers: usize,
}

/// What the cache holds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CacheContents {
    /// The prepared images.
    pub images: Vec<CachedImageEntry>,
    /// The layers.
    pub layers: Vec<CachedLayerEntry>,
}

/// What was removed from the cache.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Pruned {
    /// Images forgotten.
    pub images: usize,
    /// Layers removed.
    pub layers: usize,
    /// Bytes of disk freed.
    pub freed_bytes: u64,
    /// Images kept because a container uses them.
    pub in_use: usize,
}

/// Who is there.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// Process number of the worker.
    pub worker_pid: u32,
    /// Process number of the keeper that started it.
    pub keeper_pid: u32,
    /// Resident memory of the worker in bytes.
    pub resident_bytes: u64,
    /// The road that new mounts take.
    pub road: String,
    /// Images that are prepared.
    pub images: usize,
}

/// Why something could not be done, ready to be shown.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Failed {
    /// What could not be done and to what.
    pub message: String,
    /// The causes, outermost first.
    pub causes: Vec<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Failed {
    /// An error with its chain of causes, without a hint.
    pub fn of(error: &dyn std::error::Error) -> Self {
        let causes = std::iter::successors(error.source(), |cause| cause.source());
        Self {
            message: error.to_string(),
            causes: causes.map(ToString::to_string).collect(),
            hint: None,
        }
    }

    /// The message and its causes in one line.
    pub fn to_line(&self) -> String {
        let mut line = self.message.clone();
        for cause in &self.causes {
            line.push_str(": ");
            line.push_str(cause);
        }
        line
    }
}

/// Why a question to the node got no answer.
#[derive(Debug, Error)]
pub enum AskError {
    /// Nobody listens.
    #[error("the node at {} does not answer", socket.display())]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The connection broke. The worker may have been restarted: ask again.
    #[error("the connection to the node at {} broke", socket.display())]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The node says no.
    #[error("{}", .0.message)]
    Refused(Failed),
}

/// Times that a question is asked again after the connection broke: each break is a restart of the worker.
const ASK_ATTEMPTS_MAX: u32 = 50;

/// Asks the node at `socket` and returns its last word; each progress line goes to `progress`.
///
/// Questions are safe to repeat, so one whose connection broke is asked again.
///
/// # Errors
///
/// [`AskError`].
pub fn ask(
    socket: &Path,
    request: &Request,
    progress: &mut dyn FnMut(Progress),
) -> Result<Reply, AskError> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        match ask_once(socket, request, progress) {
            Err(AskError::Broken { .. }) if attempt < ASK_ATTEMPTS_MAX => {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            outcome => return outcome,
        }
    }
}

fn ask_once(
    socket: &Path,
    request: &Request,
    progress: &mut dyn FnMut(Progress),
) -> Result<Reply, AskError> {
    let broken = |source| AskError::Broken {
        socket: socket.to_owned(),
        source,
    };
    let unreachable = |source| AskError::Unreachable {
        socket: socket.to_owned(),
        source,
    };
    let (path, _directory) = short_socket_path(socket).map_err(unreachable)?;
    let mut stream = UnixStream::connect(path).map_err(unreachable)?;
    let mut line = serde_json::to_vec(request).map_err(|error| broken(error.into()))?;
    line.push(b'\n');
    stream.write_all(&line).map_err(broken)?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        let len = io::Read::take(&mut reader, LINE_LEN_MAX)
            .read_until(b'\n', &mut line)
            .map_err(broken)?;
        if len == 0 {
            return Err(broken(io::ErrorKind::UnexpectedEof.into()));
        }
        match serde_json::from_slice(&line).map_err(|error| broken(error.into()))? {
            Reply::Progress(step) => progress(step),
            Reply::Failed(failed) => return Err(AskError::Refused(failed)),
            reply @ (Reply::Prepared(_)
            | Reply::Usage(_)
            | Reply::Cache(_)
            | Reply::Pruned(_)
            | Reply::Status(_)) => return Ok(reply),
        }
    }
}
