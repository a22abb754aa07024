//! The control socket's side of the worker.

use std::{io, sync::Arc, time::Duration};

use serde::Serialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream, unix::OwnedWriteHalf},
    sync::mpsc,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use crate::{
    Node,
    control::{LINE_LEN_MAX, Progress, Reply, Request},
    node::ProgressSink,
};

/// Progress lines that may wait for a slow reader; further ones are dropped.
const PROGRESS_QUEUE_LEN: usize = 64;

/// Pause after a connection could not be accepted, so that a lack of descriptors is no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Answers questions on `listener` until `stop`, then lets the running ones end.
pub async fn serve_control(node: Arc<Node>, listener: UnixListener, stop: CancellationToken) {
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let node = Arc::clone(&node);
                tasks.spawn(async move {
                    if let Err(error) = answer(&node, stream).await {
                        debug!(%error, "control connection ended early");
                    }
                });
            }
            Err(error) => {
                warn!(%error, "control connection not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    tasks.close();
    tasks.wait().await;
}

async fn answer(node: &Arc<Node>, stream: UnixStream) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut reader = BufReader::new(read.take(LINE_LEN_MAX));
    let mut line = String::new();
    reader.read_line(&mut line).await?;
    let request: Request = serde_json::from_str(&line)?;
    let (sender, mut progress) = mpsc::channel::<Progress>(PROGRESS_QUEUE_LEN);
    let mut done = std::pin::pin!(reply_to(node, request, ProgressSink::new(sender)));
    let mut gone = [0];
    let mut peer = reader.into_inner().into_inner();
    loop {
        tokio::select! {
            reply = &mut done => return write_line(&mut write, &reply).await,
            Some(step) = progress.recv() => write_line(&mut write, &Reply::Progress(step)).await?,
            // Whoever asked has gone: the work is dropped, what was fetched stays in the cache.
            read = peer.read(&mut gone) => if read? == 0 { return Ok(()); },
        }
    }
}

async fn reply_to(node: &Arc<Node>, request: Request, progress: ProgressSink) -> Reply {
    let outcome = match request {
        Request::Prepare { image } => node.prepare(&image, &progress).await.map(Reply::Prepared),
        Request::Usage => Ok(Reply::Usage(node.usage())),
        Request::CacheList => node.cache_contents().map(Reply::Cache),
        Request::CachePrune => node.prune().await.map(Reply::Pruned),
        Request::Status => Ok(Reply::Status(node.status())),
    };
    outcome.unwrap_or_else(|error| Reply::Failed(error.to_failed()))
}

async fn write_line(write: &mut OwnedWriteHalf, reply: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    write.write_all(&line).await
}
