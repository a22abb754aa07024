//! The side to compare with: containerd with its overlayfs snapshotter, in a place of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::image::Image;
use crate::namespace::Namespace;
use crate::process::{Server, run, warm};
use crate::registry::measured;
use crate::report::Start;
use crate::slipway::milliseconds;

/// containerd's own namespace for what the bench does.
const NAMESPACE: &str = "bench";

/// A running containerd.
#[derive(Debug)]
pub struct Containerd {
    _server: Server,
    socket: PathBuf,
}

impl Containerd {
    /// Starts containerd in `namespace` with everything it keeps in `work`/containerd.
    ///
    /// # Errors
    ///
    /// It is not installed or does not start.
    pub fn start(namespace: &Namespace, work: &Path) -> Result<Self> {
        let directory = work.join("containerd");
        let _absent = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory)?;
        // A socket's path is short by law; a work directory may not be.
        let socket = PathBuf::from(format!("/run/slipway-bench-{}.sock", std::process::id()));
        let config = directory.join("config.toml");
        fs::write(&config, configuration(&directory, &socket))?;
        let mut command = namespace.server_command(Path::new("containerd"));
        command.arg("--config").arg(&config);
        let mut server = Server::start("containerd", command, work)?;
        server.wait_until(|| socket.exists())?;
        let containerd = Self {
            _server: server,
            socket,
        };
        run(containerd.ctr(namespace).arg("version"))?;
        Ok(containerd)
    }

    /// Removes an image with its content and its snapshots.
    ///
    /// # Errors
    ///
    /// The command fails.
    pub fn wipe(&self, namespace: &Namespace, reference: &str) -> Result<()> {
        run(self
            .ctr(namespace)
            .args(["images", "rm", "--sync", reference]))?;
        Ok(())
    }

    /// Reads the programs into the page cache: images are started cold, tools are not.
    pub fn warm_tools() {
        let tools = [
            "/usr/bin/ctr",
            "/usr/bin/containerd-shim-runc-v2",
            "/usr/sbin/runc",
        ];
        for path in tools {
            warm(Path::new(path));
        }
    }

    /// Pulls an image and returns how long that took, in milliseconds.
    ///
    /// # Errors
    ///
    /// The command fails.
    pub fn pull(&self, namespace: &Namespace, reference: &str) -> Result<f64> {
        let pull = ["images", "pull", "--plain-http", reference];
        Ok(milliseconds(run(self.ctr(namespace).args(pull))?.wall))
    }

    /// Runs a container of an image that was pulled.
    ///
    /// # Errors
    ///
    /// The command or the container fails.
    pub fn run(
        &self,
        namespace: &Namespace,
        reference: &str,
        image: &Image,
        pull_ms: f64,
    ) -> Result<Start> {
        let mut command = self.ctr(namespace);
        command.args(["run", "--rm", "--net-host", reference, "slipway-bench"]);
        let run_ms = milliseconds(run(command.args(image.command()))?.wall);
        Ok(Start {
            pull_ms,
            run_ms,
            total_ms: pull_ms + run_ms,
            bytes: 0,
            memory_bytes: None,
            timeline: None,
        })
    }

    fn ctr(&self, namespace: &Namespace) -> Command {
        let mut command = measured(namespace, Path::new("ctr"));
        command
            .arg("--address")
            .arg(&self.socket)
            .args(["--namespace", NAMESPACE]);
        command
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        for end in ["", ".ttrpc"] {
            // containerd removes them itself when it is let.
            let _removed = fs::remove_file(format!("{}{end}", self.socket.display()));
        }
    }
}

fn configuration(directory: &Path, socket: &Path) -> String {
    let (directory, socket) = (directory.display(), socket.display());
    format!(
        r#"version = 2
root = "{directory}/root"
state = "{directory}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{directory}/opt"
"#
    )
}
