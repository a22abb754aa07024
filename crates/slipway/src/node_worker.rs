//! `slipway node-worker`: serves the node's files and answers its control socket.

use std::{path::Path, sync::Arc, time::Duration};

use layer_fetch::FetchOptions;
use lazy_mount::{FuseWorker, InheritedFds, Road};
use node::{Node, NodeDirectories, NodeOptions, serve_control};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::{
    cli::{NodeWorkerArgs, RoadChoice},
    config::Config,
    failure::Failure,
    registry_server::stop_signal,
};

/// Threads that answer the kernel. A read that waits for data blocks one of them, so this is how
/// many readers can wait at once; the kernel queues the others.
const FUSE_THREADS: usize = 64;

/// Threads of the event loop: it moves bytes from sockets to the decoders and does nothing else.
const RUNTIME_THREADS: usize = 2;

/// Serves until the keeper says stop.
pub(crate) fn node_worker(data: &Path, args: &NodeWorkerArgs) -> Result<(), Failure> {
    let fds: InheritedFds = args
        .inherited
        .parse()
        .map_err(|error| Failure::misuse(format!("{error}")))?;
    let config =
        Config::read(args.node.config.as_deref(), data).map_err(|error| Failure::of(&error))?;
    let inherited = fds.open().map_err(|error| Failure::of(&error))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(RUNTIME_THREADS)
        .enable_all()
        .build()
        .map_err(|error| {
            Failure::while_doing(&error, "the program could not start its event loop")
        })?;
    let options = NodeOptions {
        directories: NodeDirectories::of_data(data),
        road: road_of(args.node.road),
        read_deadline: Duration::from_secs(config.node.read_deadline_seconds),
        mount_read_ahead_kib: config.node.mount_read_ahead_kib,
        fetch: FetchOptions::default(),
    };
    let node =
        Node::open(runtime.handle().clone(), options).map_err(|error| Failure::of(&error))?;
    serve_files(&node, inherited.worker)?;
    let listener = inherited
        .control
        .ok_or_else(|| Failure::misuse("no control socket was inherited"))?;
    runtime.block_on(serve_until_stopped(node, listener))
}

/// The keeper chose; `auto` cannot come here.
fn road_of(road: Option<RoadChoice>) -> Road {
    match road {
        Some(RoadChoice::ErofsLoop) => Road::Loop,
        Some(RoadChoice::ErofsFile | RoadChoice::Auto) | None => Road::File,
    }
}

/// Answers the kernel from threads of its own. When that ends, so does the process: the keeper
/// starts another one.
fn serve_files(node: &Arc<Node>, worker: FuseWorker) -> Result<(), Failure> {
    let files = node.files();
    let serve = move || {
        if let Err(error) = worker.serve(files, FUSE_THREADS) {
            error!(
                error = &error as &dyn std::error::Error,
                "the files can no longer be served"
            );
            std::process::exit(1);
        }
    };
    std::thread::Builder::new()
        .name("fuse".to_owned())
        .spawn(serve)
        .map(drop)
        .map_err(|error| Failure::while_doing(&error, "the node's files could not be served"))
}

async fn serve_until_stopped(
    node: Arc<Node>,
    listener: std::os::unix::net::UnixListener,
) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::while_doing(&error, "the control socket could not be used")
    };
    listener.set_nonblocking(true).map_err(failed)?;
    let listener = UnixListener::from_std(listener).map_err(failed)?;
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve_control(Arc::clone(&node), listener, stop.clone()));
    let keeping = tokio::spawn(Arc::clone(&node).keep_safe(stop.clone()));
    stop_signal().await?;
    stop.cancel();
    drop(tokio::join!(serving, keeping));
    let unmounted = tokio::task::spawn_blocking(move || node.unmount_unused()).await;
    unmounted.map_err(|error| Failure::of(&error))?;
    // The threads that wait for the kernel have nothing left to do; they end with the process.
    std::process::exit(0);
}
