//! The node beside `slipway up`: a process of its own, so that its memory and its crashes are its own.
//!
//! Killing `slipway up` does not end the node: containers go on reading. The next `slipway up`
//! finds that node and takes it over.

use std::{
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use node::{
    FileLock, NodeDirectories,
    control::{Reply, Request, Status, ask},
};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::process::{Child, Command};

use crate::{cli::NodeArgs, failure::Failure};

/// How long the node may take to answer after its start, and to end after SIGTERM.
const NODE_TIMEOUT: Duration = Duration::from_secs(20);

/// Pause between two looks whether the node is there, or gone.
const NODE_PAUSE: Duration = Duration::from_millis(10);

/// Pause between two looks at a node that is not our child.
const FOUND_NODE_PAUSE: Duration = Duration::from_millis(500);

/// The node that belongs to our data directory.
#[derive(Debug)]
pub(crate) enum NodeProcess {
    /// We started it.
    Started(Child),
    /// It ran already: the number of its keeper.
    Found(Pid),
}

impl NodeProcess {
    /// Takes over the node that runs with its data in `data`, or starts one.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub(crate) async fn find_or_start(data: &Path, args: &NodeArgs) -> Result<Self, Failure> {
        if has_keeper(data)
            && let Some(status) = status_of(data).await
            && let Some(keeper) = Pid::from_raw(status.keeper_pid.cast_signed())
        {
            return Ok(Self::Found(keeper));
        }
        let failed = |error: std::io::Error| {
            Failure::while_doing(&error, "the node process could not be started")
        };
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        command
            .arg("node")
            .arg("--data")
            .arg(data)
            .args(crate::node_process::forwarded(args));
        // Ctrl-C reaches the whole group: the node must not end beside us, we stop it in order.
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0);
        command.spawn().map(Self::Started).map_err(failed)
    }

    /// Waits until it answers.
    ///
    /// # Errors
    ///
    /// If it ended, or does not answer in time.
    pub(crate) async fn wait_until_ready(&mut self, data: &Path) -> Result<(), Failure> {
        let answers = async {
            while status_of(data).await.is_none() {
                tokio::time::sleep(NODE_PAUSE).await;
            }
        };
        tokio::select! {
            () = answers => Ok(()),
            failure = self.ended() => Err(failure),
            () = tokio::time::sleep(NODE_TIMEOUT) => {
                let seconds = NODE_TIMEOUT.as_secs();
                Err(Failure::message(format!("the node did not answer within {seconds} s")))
            }
        }
    }

    /// Waits until it ends by itself, and says how.
    pub(crate) async fn ended(&mut self) -> Failure {
        let how = match self {
            Self::Started(child) => child
                .wait()
                .await
                .map_or_else(|error| error.to_string(), describe),
            Self::Found(pid) => {
                while test_kill_process(*pid).is_ok() {
                    tokio::time::sleep(FOUND_NODE_PAUSE).await;
                }
                "it was not started by this process".to_owned()
            }
        };
        Failure::message(format!("the node ended by itself: {how}"))
            .hint("its own error is printed above")
    }

    /// Stops it and waits for its end.
    ///
    /// # Errors
    ///
    /// If its end was not seen.
    pub(crate) async fn stop(self, data: &Path) -> Result<(), Failure> {
        match self {
            Self::Started(mut child) => {
                let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
                terminate(pid);
                let ended = child.wait().await.map(drop);
                ended.map_err(|error| Failure::while_doing(&error, "the node's end was not seen"))
            }
            Self::Found(pid) => {
                terminate(Some(pid));
                let gone = async {
                    while test_kill_process(pid).is_ok() {
                        tokio::time::sleep(NODE_PAUSE).await;
                    }
                };
                let socket = NodeDirectories::of_data(data).control_socket();
                tokio::time::timeout(NODE_TIMEOUT, gone)
                    .await
                    .map_err(|_elapsed| {
                        Failure::message(format!("the node at {} does not end", socket.display()))
                    })
            }
        }
    }
}

/// Whether a keeper runs. A worker without one answers as well, but its parent is somebody else then, who must not be
/// taken for the keeper; a new keeper takes it over.
fn has_keeper(data: &Path) -> bool {
    let lock = NodeDirectories::of_data(data).root().join("lock");
    lock.exists() && FileLock::try_take(&lock).is_ok_and(|taken| taken.is_none())
}

fn terminate(pid: Option<Pid>) {
    if let Some(pid) = pid {
        // It may have ended in this moment; the wait tells.
        kill_process(pid, Signal::TERM).ok();
    }
}

fn describe(status: ExitStatus) -> String {
    status.to_string()
}

async fn status_of(data: &Path) -> Option<Status> {
    let socket = NodeDirectories::of_data(data).control_socket();
    let asked =
        tokio::task::spawn_blocking(move || ask(&socket, &Request::Status, &mut |_| {})).await;
    match asked {
        Ok(Ok(Reply::Status(status))) => Some(status),
        _ => None,
    }
}
