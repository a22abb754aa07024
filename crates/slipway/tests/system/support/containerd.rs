//! A containerd with everything in a directory of its own.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::mount::UnmountFlags;
use tempfile::TempDir;

use super::patience::wait_for;
use super::program::{Outcome, run};
use super::server::mounts_below;

/// A running containerd.
#[derive(Debug)]
pub(crate) struct Containerd {
    directory: TempDir,
    process: Child,
    socket: String,
}

impl Containerd {
    /// Starts one.
    pub(crate) fn start() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("slipway-containerd-")
            .tempdir_in("/var/tmp")
            .unwrap();
        let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let socket = at("containerd.sock");
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ntemp = {:?}\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = {socket:?}\n\
             [plugins.\"io.containerd.internal.v1.opt\"]\npath = {:?}\n",
            at("root"),
            at("state"),
            at("temp"),
            at("opt"),
        );
        fs::write(at("config.toml"), config).unwrap();
        let process = Command::new("containerd")
            .args(["--config", &at("config.toml")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let containerd = Self {
            directory,
            process,
            socket,
        };
        wait_for("containerd", || {
            UnixStream::connect(&containerd.socket).ok()
        });
        containerd
    }

    /// Its directory.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Runs its client.
    pub(crate) fn ctr(&self, arguments: &[&str]) -> Outcome {
        run("ctr", &[&["-a", &self.socket], arguments].concat())
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
        for target in mounts_below(self.directory.path()) {
            rustix::mount::unmount(&target, UnmountFlags::DETACH).ok();
        }
    }
}
