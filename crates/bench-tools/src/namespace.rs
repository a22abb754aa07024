//! Network namespaces: a loopback with a rate, a way in that has none, and a count of bytes.
//!
//! Programs enter with `nsenter --net=`, not with `ip netns exec`: the latter also replaces the
//! mounts, and then neither cgroups nor FUSE mounts are where containers look for them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::run;

/// First part of the name of every namespace of a bench; the process's number follows.
const PREFIX: &str = "slipway-bench-";

/// A network namespace that exists until it is dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Creates a namespace of this process whose loopback is up.
    ///
    /// # Errors
    ///
    /// `ip` is missing or refuses.
    pub fn create(part: &str) -> Result<Self> {
        let name = format!("{PREFIX}{}-{part}", std::process::id());
        run(Command::new("ip").args(["netns", "add", &name]))?;
        let namespace = Self { name };
        run(namespace
            .command(Path::new("ip"))
            .args(["link", "set", "lo", "up"]))?;
        Ok(namespace)
    }

    /// Removes what benches left that were killed.
    ///
    /// # Errors
    ///
    /// `ip` is missing or refuses.
    pub fn remove_leftovers() -> Result<()> {
        let list = run(Command::new("ip").args(["netns", "list"]))?.stdout;
        for name in list
            .lines()
            .filter_map(|line| line.split_whitespace().next())
        {
            let owner = name
                .strip_prefix(PREFIX)
                .and_then(|rest| rest.split('-').next());
            if owner.is_some_and(|id| !Path::new("/proc").join(id).exists()) {
                run(Command::new("ip").args(["netns", "delete", name]))?;
            }
        }
        Ok(())
    }

    /// Returns the file that stands for the namespace.
    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// Returns a command that runs `program` here.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path().display()))
            .arg(program);
        command
    }

    /// Returns a command that runs a server here, which ends when the bench does.
    pub fn server_command(&self, program: &Path) -> Command {
        let mut command = self.command(Path::new("setpriv"));
        command.args(["--pdeathsig", "TERM", "--"]).arg(program);
        command
    }

    /// Limits the loopback to `rate`, or lifts the limit.
    ///
    /// # Errors
    ///
    /// `tc` is missing or does not know the rate.
    pub fn shape(&self, rate: Option<&str>) -> Result<()> {
        let tc = || {
            let mut tc = self.command(Path::new("tc"));
            tc.arg("qdisc");
            tc
        };
        // There is nothing to delete the first time.
        let _absent = run(tc().args(["del", "dev", "lo", "root"]));
        if let Some(rate) = rate {
            let rest = ["burst", "256kb", "latency", "50ms"];
            run(tc()
                .args(["add", "dev", "lo", "root", "tbf", "rate", rate])
                .args(rest))?;
        }
        Ok(())
    }

    /// Joins two namespaces by a pair of devices without a rate, with one address each.
    ///
    /// # Errors
    ///
    /// `ip` is missing or refuses.
    pub fn join(&self, address: &str, other: &Self, other_address: &str) -> Result<()> {
        let ip = || self.command(Path::new("ip"));
        let peer = ["peer", "name", "veth0", "netns", &other.name];
        run(ip()
            .args(["link", "add", "veth0", "type", "veth"])
            .args(peer))?;
        for (namespace, address) in [(self, address), (other, other_address)] {
            let ip = || namespace.command(Path::new("ip"));
            run(ip().args(["address", "add", address, "dev", "veth0"]))?;
            run(ip().args(["link", "set", "veth0", "up"]))?;
        }
        Ok(())
    }

    /// Returns how many bytes the loopback has carried.
    ///
    /// # Errors
    ///
    /// The counters cannot be read.
    pub fn loopback_bytes(&self) -> Result<u64> {
        let table = run(self.command(Path::new("cat")).arg("/proc/self/net/dev"))?.stdout;
        received_bytes(&table, "lo").context("/proc/net/dev has no line for lo")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // What stays is removed by the next bench.
        let _left = run(Command::new("ip").args(["netns", "delete", &self.name]));
    }
}

/// Returns the first counter of a device in the text of `/proc/net/dev`.
fn received_bytes(table: &str, device: &str) -> Option<u64> {
    table.lines().find_map(|line| {
        let counters = line.trim_start().strip_prefix(device)?.strip_prefix(':')?;
        counters.split_whitespace().next()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_counter_of_the_device_is_taken() {
        let table = "Inter-| Receive\n face |bytes packets\n    lo: 1234 5 0\n  eth0:99 1\n";
        assert_eq!(received_bytes(table, "lo"), Some(1234));
        assert_eq!(received_bytes(table, "eth0"), Some(99));
        assert_eq!(received_bytes(table, "eth1"), None);
    }
}
