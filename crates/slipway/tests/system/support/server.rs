//! A running `slipway up`, in a directory of its own.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use node::NodeDirectories;
use node::control::{Reply, Request, Status, Usage, ask};
use rustix::mount::UnmountFlags;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;

use super::patience::{PATIENCE, wait_for};
use super::program::{Outcome, Running, skopeo_push, slipway, start};
use super::sample::Sample;

/// A running `slipway up`.
///
/// Dropping it stops it in order and checks that it leaves no mount and no process.
#[derive(Debug)]
pub(crate) struct Server {
    data: PathBuf,
    log: PathBuf,
    arguments: Vec<String>,
    up: Option<Child>,
    address: String,
    scratch: TempDir,
}

impl Server {
    /// Starts one with a new directory.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts one with a new directory and more arguments.
    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        Self::start_configured("", arguments)
    }

    /// Starts one with a new directory that has this `slipway.toml`.
    pub(crate) fn start_configured(configuration: &str, arguments: &[&str]) -> Self {
        let scratch = scratch();
        let data = scratch.path().join("data");
        fs::create_dir(&data).unwrap();
        fs::write(data.join("slipway.toml"), configuration).unwrap();
        Self::start_at(scratch, data, arguments)
    }

    /// Starts one with its data in `data`.
    pub(crate) fn start_in(data: &Path, arguments: &[&str]) -> Self {
        Self::start_at(scratch(), data.to_owned(), arguments)
    }

    fn start_at(scratch: TempDir, data: PathBuf, arguments: &[&str]) -> Self {
        let mut server = Self {
            log: scratch.path().join("log"),
            data,
            arguments: arguments.iter().map(|text| (*text).to_owned()).collect(),
            up: None,
            address: String::new(),
            scratch,
        };
        server.start_again();
        server
    }

    /// Starts it on the data that is there.
    pub(crate) fn start_again(&mut self) {
        assert!(self.up.is_none(), "it runs");
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .unwrap();
        // A second start keeps the port: containers of the first one go on reading from it.
        let listen = if self.address.is_empty() {
            "127.0.0.1:0"
        } else {
            &self.address
        };
        let mut command = slipway(["up", "--data"]);
        command
            .arg(&self.data)
            .args(["--listen", listen])
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0);
        let mut child = command.spawn().unwrap();
        let lines = lines_of(&mut child);
        self.up = Some(child);
        loop {
            let line = lines
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|_| panic!("it did not get ready: {}", self.log()));
            if let Some(url) = line.strip_prefix("registry") {
                let address = url.trim().strip_prefix("http://").unwrap();
                address.clone_into(&mut self.address);
            }
            if line == "ready" {
                return;
            }
        }
    }

    /// The directory of its data.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// A directory for the test, removed at the end.
    pub(crate) fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// Address and port of its registry.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// What it and its node said on standard error.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Starts a command of the program on this server.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Running {
        start(&mut self.command(arguments))
    }

    /// A command of the program on this server.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = slipway(["--data"]);
        command.arg(&self.data).args(arguments);
        command
    }

    /// Runs a command of the program on this server to its end.
    pub(crate) fn slipway(&self, arguments: &[&str]) -> Outcome {
        self.spawn(arguments).wait()
    }

    /// Pushes a sample as `repository:tag` and returns how it is named.
    pub(crate) fn push(&self, sample: &Sample, name: &str) -> String {
        let layout = tempfile::tempdir_in(self.scratch.path()).unwrap();
        sample.image.write_layout(layout.path(), "latest").unwrap();
        let image = format!("{}/{name}", self.address);
        skopeo_push(layout.path(), "latest", &image).expect_success();
        image
    }

    /// Pushes a sample into a repository with acceleration on, waits for its conversion and returns
    /// how the accelerated image is named.
    pub(crate) fn push_accelerated(&self, sample: &Sample, name: &str) -> String {
        let (repository, _tag) = name.split_once(':').unwrap();
        self.slipway(&["repo", "accelerate", repository, "on"])
            .expect_success();
        let image = self.push(sample, name);
        let tasks = self
            .slipway(&["task", "list", "--watch", "--output", "json"])
            .json();
        let are_done = tasks["tasks"]
            .as_array()
            .unwrap()
            .iter()
            .all(|task| task["state"] == "SUCCEEDED");
        assert!(are_done, "{tasks:#}");
        format!("{image}_accelerated")
    }

    /// The file in which the registry keeps a blob.
    pub(crate) fn blob_file(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        let content = self.data.join("registry/content/blobs/sha256");
        content.join(hex.get(..2).unwrap()).join(hex)
    }

    /// The manifest of an image of this registry.
    pub(crate) fn manifest(&self, name: &str) -> serde_json::Value {
        let image = format!("docker://{}/{name}", self.address);
        super::program::run(
            "skopeo",
            &["inspect", "--raw", "--tls-verify=false", &image],
        )
        .json()
    }

    /// What the node says of itself, if it answers.
    pub(crate) fn node_status(&self) -> Option<Status> {
        let socket = NodeDirectories::of_data(&self.data).control_socket();
        match ask(&socket, &Request::Status, &mut |_| {}) {
            Ok(Reply::Status(status)) => Some(status),
            _ => None,
        }
    }

    /// The keeper's process number.
    pub(crate) fn keeper(&self) -> u32 {
        wait_for("the node", || self.node_status()).keeper_pid
    }

    /// What the node's worker counted since its start.
    pub(crate) fn usage(&self) -> Usage {
        let socket = NodeDirectories::of_data(&self.data).control_socket();
        match ask(&socket, &Request::Usage, &mut |_| {}) {
            Ok(Reply::Usage(usage)) => usage,
            other => panic!("{other:?}"),
        }
    }

    /// Kills the worker of the node and waits for the next one.
    pub(crate) fn replace_worker(&self) {
        let old = wait_for("the node", || self.node_status()).worker_pid;
        kill(old, Signal::KILL);
        wait_for("the next worker", || {
            self.node_status().filter(|status| status.worker_pid != old)
        });
    }

    /// Kills `slipway up`; the node goes on.
    pub(crate) fn kill_up(&mut self) {
        let mut up = self.up.take().unwrap();
        up.kill().unwrap();
        up.wait().unwrap();
    }

    /// Stops it with SIGTERM and waits until it has gone.
    pub(crate) fn stop(&mut self) {
        let mut up = self.up.take().unwrap();
        kill(up.id(), Signal::TERM);
        let status = wait_for("the end of the server", || up.try_wait().unwrap());
        assert!(status.success(), "{status}: {}", self.log());
    }

    /// Removes what a failed test left running or mounted.
    fn clean_up(&mut self) {
        let keeper = self.node_status().map(|status| status.keeper_pid);
        if let Some(mut up) = self.up.take() {
            up.kill().ok();
            up.wait().ok();
        }
        if let Some(keeper) = keeper {
            kill(keeper, Signal::TERM);
            let pid = Pid::from_raw(keeper.cast_signed()).unwrap();
            wait_for("the end of the node", || {
                test_kill_process(pid).is_err().then_some(())
            });
        }
        unmount_all(&self.data);
    }
}

#[expect(
    clippy::print_stdout,
    reason = "the test harness shows it with the panic"
)]
impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            println!("the server said:\n{}", self.log());
            self.clean_up();
            return;
        }
        if self.up.is_some() {
            self.stop();
        }
        let left = mounts_below(&self.data);
        unmount_all(&self.data);
        assert!(left.is_empty(), "left mounted: {left:?}: {}", self.log());
        assert!(self.node_status().is_none(), "the node still answers");
    }
}

/// A directory for one server, on a disk: `/tmp` is often kept in memory.
fn scratch() -> TempDir {
    tempfile::Builder::new()
        .prefix("slipway-system-")
        .tempdir_in("/var/tmp")
        .unwrap()
}

fn lines_of(child: &mut Child) -> mpsc::Receiver<String> {
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Sends a signal to a process of the test. One that has gone already is none.
pub(crate) fn kill(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).ok();
}

/// The worker that a keeper has now, if it has one (proc(5)).
pub(crate) fn worker_of(keeper: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

/// What is mounted at or below a directory, the innermost first (proc(5), `mountinfo`).
pub(crate) fn mounts_below(directory: &Path) -> Vec<PathBuf> {
    let directory = directory.canonicalize().unwrap();
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut found: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .filter(|target| target.starts_with(&directory) && *target != directory)
        .collect();
    found.sort();
    found.reverse();
    found
}

fn unmount_all(directory: &Path) {
    for target in mounts_below(directory) {
        rustix::mount::unmount(&target, UnmountFlags::DETACH).ok();
    }
}
