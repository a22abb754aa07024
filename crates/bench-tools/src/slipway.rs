//! The side that is measured: a node, its command line, and a conversion on its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{scope, sleep};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::image::{Image, layer_sizes_of_layout};
use crate::machine::{memory_peak, reset_memory_peaks};
use crate::namespace::Namespace;
use crate::process::{Server, bounded, run, warm};
use crate::registry::measured;
use crate::report::{Conversion, Start};

/// A running node and the program that talks to it.
#[derive(Debug)]
pub struct Node {
    server: Server,
    slipway: PathBuf,
    data: PathBuf,
}

impl Node {
    /// Starts a node in `namespace` with its data in `work`/node.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub fn start(slipway: &Path, namespace: &Namespace, work: &Path) -> Result<Self> {
        let data = work.join("node");
        let mut command = namespace.server_command(slipway);
        command.args(["node", "--data"]).arg(&data);
        let mut server = Server::start("node", command, work)?;
        // It says nothing when it is ready; it answers.
        server.wait_until(|| {
            let mut list = Command::new(slipway);
            run(list.arg("--data").arg(&data).args(["cache", "list"])).is_ok()
        })?;
        Ok(Self {
            server,
            slipway: slipway.to_path_buf(),
            data,
        })
    }

    /// Removes every layer of every image from the node's cache.
    ///
    /// # Errors
    ///
    /// The command fails.
    pub fn wipe(&self) -> Result<()> {
        let mut command = bounded(&self.slipway);
        run(command
            .arg("--data")
            .arg(&self.data)
            .args(["cache", "prune", "--all"]))?;
        Ok(())
    }

    /// Reads the programs into the page cache: images are started cold, tools are not.
    pub fn warm_tools(&self) {
        warm(&self.slipway);
        warm(Path::new("/usr/sbin/runc"));
    }

    /// Starts a container of `reference` and waits until it has ended.
    ///
    /// # Errors
    ///
    /// The command or the container fails.
    pub fn run(&self, namespace: &Namespace, reference: &str, image: &Image) -> Result<Start> {
        reset_memory_peaks(self.server.id(), &self.slipway);
        let mut command = measured(namespace, &self.slipway);
        command.arg("--data").arg(&self.data);
        command.args([
            "run",
            "--rm",
            "--network",
            "host",
            "--timeline=json",
            reference,
        ]);
        let finished = run(command.args(image.command()))?;
        let total_ms = milliseconds(finished.wall);
        let timeline = timeline(&finished.stderr)?;
        let pull_ms = prepared_ms(&timeline).context("the timeline lacks a step")?;
        Ok(Start {
            pull_ms,
            run_ms: total_ms - pull_ms,
            total_ms,
            bytes: 0,
            memory_bytes: memory_peak(self.server.id(), &self.slipway),
            timeline: Some(timeline),
        })
    }
}

/// Converts an image from layout to layout, alone, and takes time, size and memory.
///
/// # Errors
///
/// The conversion fails.
pub fn convert(slipway: &Path, image: &Image, work: &Path) -> Result<Conversion> {
    let target = work.join("converted");
    let _absent = fs::remove_dir_all(&target);
    let files = run(Command::new("find").arg(&image.layout).args(["-type", "f"]))?.stdout;
    files.lines().for_each(|path| warm(Path::new(path)));
    let mut command = Command::new(slipway);
    command.args(["image", "convert", "--output", "json"]);
    command.arg(format!("oci:{}:latest", image.layout.display()));
    command.arg(format!("oci:{}:latest", target.display()));
    let (ended, peak) = (AtomicBool::new(false), AtomicU64::new(0));
    let finished = scope(|threads| {
        threads.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                let now = memory_peak(std::process::id(), slipway).unwrap_or_default();
                peak.fetch_max(now, Ordering::Relaxed);
                sleep(Duration::from_millis(20));
            }
        });
        let finished = run(&mut command);
        ended.store(true, Ordering::Relaxed);
        finished
    })?;
    let stored = layer_sizes_of_layout(&target)?;
    fs::remove_dir_all(&target)?;
    Ok(Conversion {
        seconds: finished.wall.as_secs_f64(),
        source_bytes: image.layers.bytes,
        stored_bytes: stored.bytes,
        memory_bytes: peak.into_inner(),
    })
}

/// Returns a time in milliseconds.
pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Returns the timeline, which is the last line that begins an object.
fn timeline(stderr: &str) -> Result<Value> {
    let line = stderr.lines().rev().find(|line| line.starts_with('{'));
    let line = line.context("slipway run printed no timeline")?;
    serde_json::from_str(line).with_context(|| format!("not a timeline: {line}"))
}

/// Returns how long it took until the root filesystem was there, in milliseconds: what other tools
/// call the pull.
fn prepared_ms(timeline: &Value) -> Option<f64> {
    ["resolve_ms", "index_ms", "mount_ms"]
        .iter()
        .map(|step| timeline[step].as_f64())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeline_is_the_last_object() {
        let steps = r#"{"resolve_ms":2,"index_ms":3.5,"mount_ms":4}"#;
        let value = timeline(&format!("warning: x\n{{}}\n{steps}\nbye\n")).unwrap();
        assert_eq!(prepared_ms(&value), Some(9.5));
        assert_eq!(prepared_ms(&serde_json::json!({"mount_ms": 1})), None);
        assert!(timeline("nothing\n").is_err());
    }
}
